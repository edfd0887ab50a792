// Measuring sites of a network on samples: the passes that statistics need, for several sites at once.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include <meristem/grow/measure/measurement.hpp>
#include <meristem/grow/measure/visit_sites.hpp>
#include <meristem/grow/methods/methods.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>

namespace meristem::grow {

/// Measures sites of one network, which must outlive it, and remembers the covariance of the network's own inputs for
/// as long as the samples are the same.
template <Real T>
class Measurer {
 public:
  /// Calls the argument with every batch of the samples.
  using ForEachBatch = std::function<void(const std::function<void(const nn::BatchView<T>&)>&)>;
  /// Most units a site may get; the second argument is the number of weights by which an output of the consumer reads
  /// one unit.
  using MaxUnits = std::function<std::int64_t(const Site<T>&, std::int64_t taps)>;

  Measurer(nn::Layer<T>& network, nn::Objective loss) : network_(&network), loss_(std::move(loss)) {}

  /// Proposals for some sites, all from the same passes over the samples, in the order of `sites`. Their reports lack
  /// the number of parameters.
  [[nodiscard]] std::vector<Proposal> measure(Context& ctx, const std::vector<Site<T>>& sites,
                                              const MeasurementOptions& options, const ForEachBatch& for_each_batch,
                                              const MaxUnits& max_units) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::pair<nn::ParameterId, Tensor<double>>> kept;
    using One = Measurement<T>;
    std::vector<One> measurements;
    measurements.reserve(sites.size());
    std::vector<bool> reads_network_input(sites.size(), true);
    for (const Site<T>& site : sites) {
      const auto known = covariances_.find(site.producer.weight().id);
      measurements.emplace_back(
          ctx, site, options, [&max_units, &site](std::int64_t taps) { return max_units(site, taps); },
          known == covariances_.end() ? nullptr : &known->second);
    }
    // All sites that want the same batches share a pass.
    const auto run = [&](typename One::Batches wanted) {
      std::vector<Site<T>> some;
      std::vector<std::size_t> indices;
      for (std::size_t i = 0; i < sites.size(); ++i) {
        if (measurements[i].wants() != wanted) continue;
        some.push_back(sites[i]);
        indices.push_back(i);
      }
      if (some.empty()) return false;
      std::int64_t batches = 0;
      for_each_batch([&](const nn::BatchView<T>& batch) {
        if (batches++ > 0 && wanted == One::Batches::one) return;
        count(batch.inputs.shape());
        visit_sites<T>(ctx, *network_, some, batch, loss_,
                       [&](Context&, std::size_t i, View<const T> unit, View<const T> consumer, View<const T> goal) {
                         if (unit.data_handle() != batch.inputs.data_handle()) reads_network_input[indices[i]] = false;
                         measurements[indices[i]].update(ctx, unit, consumer, goal);
                       });
      });
      for (const std::size_t i : indices) {
        const nn::ParameterId id = sites[i].producer.weight().id;
        Tensor<double> covariance;
        // No weight changes what enters the network: on the same samples its covariance stays what it is.
        const bool keep = reads_network_input[i] && covariances_.find(id) == covariances_.end();
        measurements[i].finish_pass(ctx, keep ? &covariance : nullptr);
        if (keep && !covariance.empty()) kept.emplace_back(id, std::move(covariance));
      }
      return true;
    };
    while (run(One::Batches::all) || run(One::Batches::one)) continue;
    for (auto& [id, covariance] : kept) covariances_[id] = std::move(covariance);

    std::vector<Proposal> proposals;
    double solving = 0.0;
    for (One& m : measurements) {
      proposals.push_back(m.propose());
      solving += proposals.back().report.seconds;
    }
    // What the sites share is split evenly.
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double share = (seconds - solving) / static_cast<double>(proposals.size());
    for (Proposal& proposal : proposals) proposal.report.seconds += share;
    return proposals;
  }

  /// To be called when the samples change.
  void forget_samples() { covariances_.clear(); }

  /// Floating-point operations of the passes since the last call, from the network's multiply-adds: a forward and a
  /// backward pass without weight gradients.
  [[nodiscard]] double take_operations() { return std::exchange(operations_, 0.0); }

 private:
  void count(const Shape& inputs) {
    operations_ +=
        4.0 * static_cast<double>(network_->multiply_adds(inputs.with(0, 1))) * static_cast<double>(inputs[0]);
  }

  nn::Layer<T>* network_;
  nn::Objective loss_;
  double operations_ = 0.0;
  std::map<nn::ParameterId, Tensor<double>> covariances_;
};

}  // namespace meristem::grow
