// Measuring sites of a network on samples: the passes that statistics need, for several sites at once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include <meristem/grow/measure/site_measurement.hpp>
#include <meristem/grow/measure/visit_sites.hpp>
#include <meristem/grow/methods/methods.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>

namespace meristem::grow::detail {

/// Measures sites of one network, which may be moved meanwhile, in passes that they share, and remembers the covariance
/// of the network's own inputs, where they make a hidden layer, for as long as the samples are the same.
template <Real T>
class SharedPasses {
 public:
  /// Calls the argument with every batch of the samples.
  using ForEachBatch = std::function<void(const std::function<void(const nn::BatchView<T>&)>&)>;
  /// Most units a site may get, see SiteMeasurement.
  using Limit = std::function<std::int64_t(const Site<T>&, std::int64_t taps, const Choice* found)>;

  SharedPasses(nn::Layer<T>& network, nn::Objective loss) : network_(network), loss_(std::move(loss)) {}

  /// Proposals for some sites, all from the same passes over the samples, in the order of `sites`. Their reports lack
  /// the number of parameters.
  [[nodiscard]] std::vector<Proposal> measure(Context& ctx, const std::vector<Site<T>>& sites,
                                              const MeasurementOptions& options, const ForEachBatch& for_each_batch,
                                              const Limit& limit);

  /// Whether there is a covariance that a measurement would use again.
  [[nodiscard]] bool remembers() const { return !covariances_.empty(); }

  /// To be called when the samples change.
  void forget_samples() { covariances_.clear(); }

  /// Floating-point operations of the passes since the last call, from the network's multiply-adds: a forward and a
  /// backward pass without weight gradients.
  [[nodiscard]] double take_operations() { return std::exchange(operations_, 0.0); }

 private:
  void count(const Shape& inputs);

  nn::LayerHandle<T> network_;
  nn::Objective loss_;
  double operations_ = 0.0;
  std::map<nn::ParameterId, Tensor<double>> covariances_;
};

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/shared_passes_impl.hpp>
#endif
