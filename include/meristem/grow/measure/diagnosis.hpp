// How units fare that joined at different times: the scales of their weights, how fast training moves them, and how
// many of them are dead.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/measure/unit_effects.hpp>
#include <meristem/grow/units/layout.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::grow {

/// The units of a site that joined before the same step of the optimiser; of a stream what its source and the first
/// reader behind it tell. Means are over these units, biases left out.
struct Diagnosis {
  std::string site;
  std::int64_t first_step = 0;  ///< of the optimiser that they took part in; 0 before the first
  std::int64_t units = 0;
  double fan_in_norm = 0.0;   ///< mean ‖w‖ of the weights that make a unit
  double fan_out_norm = 0.0;  ///< mean ‖w‖ of the weights that read it
  double norm_weight = 0.0;   ///< root mean square of the weights of the BatchNorm behind them; 1 without one
  /// ‖g‖ / ‖w‖ of all their fan-ins: times the learning rate, the angle by which a step of plain gradient descent turns
  /// weights in front of a normalisation.
  double relative_gradient = 0.0;
  double fan_out_gradient = 0.0;  ///< the same of their fan-outs
  double dead = 0.0;              ///< share of them that are zero on every sample, at every position
};

namespace detail {

/// Sums of squares of what the consumers of sites read, number by number of a sample's last axis.
template <Real T>
class ConsumerInputs final : public nn::Taps<T> {
 public:
  explicit ConsumerInputs(const std::vector<Site<T>>& sites) : sites_(&sites), squares(sites.size()) {}

  void on_forward(Context& ctx, const nn::Layer<T>& layer, View<const T> input) override;
  void on_backward(Context&, const nn::Layer<T>&, View<const T>, View<const T>) override {}

 private:
  const std::vector<Site<T>>* sites_;

 public:
  std::vector<std::vector<double>> squares;
};

}  // namespace detail

/// Looks at the units of some sites, with the gradients of one batch in training mode: site by site, in the order they
/// joined. The gradients in the network's
/// parameters are overwritten; nothing else changes.
template <Real T>
[[nodiscard]] std::vector<Diagnosis> diagnose(Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer,
                                              const std::vector<Site<T>>& sites,
                                              const std::type_identity_t<nn::BatchView<T>>& batch,
                                              const nn::Objective& loss = {});

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/diagnosis_impl.hpp>
#endif
