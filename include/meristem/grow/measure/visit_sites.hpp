// One batch forward and backward, shown to growth sites.
#pragma once

#include <cstddef>
#include <functional>
#include <type_traits>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>

namespace meristem::grow {

namespace detail {

/// Thrown through a network's backward when there is nothing more to see in it.
struct AllSitesSeen {};

/// Hands the inputs of producers and consumers and the desired update to `visit` while a batch flows back through the
/// network, and throws AllSitesSeen after the last of them. Connect it to a Pass as its taps.
template <Real T>
class SiteTaps final : public nn::Taps<T> {
 public:
  /// site index, input of the producer, input of the consumer, desired update (all valid during the call)
  using Visit = std::function<void(Context&, std::size_t, View<const T>, View<const T>, View<const T>)>;

  SiteTaps(const std::vector<Site<T>>& sites, Visit visit);

  void on_forward(Context&, const nn::Layer<T>& layer, View<const T> input) override;

  void on_backward(Context& ctx, const nn::Layer<T>& layer, View<const T> input,
                   View<const T> output_gradient) override;

 private:
  const std::vector<Site<T>>* sites_;
  Visit visit_;
  std::vector<View<const T>> unit_inputs_;
  std::size_t unseen_ = 0;  // runs of consumers that backward has not come to
};

}  // namespace detail

/// Runs one batch forward and backward without touching parameters, gradients or running statistics, and shows every
/// site to `visit`. Returns the mean loss of the batch.
template <Real T>
double visit_sites(Context& ctx, nn::Layer<T>& network, const std::vector<Site<T>>& sites,
                   const std::type_identity_t<nn::BatchView<T>>& batch, const nn::Objective& loss,
                   typename detail::SiteTaps<T>::Visit visit);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/visit_sites_impl.hpp>
#endif
