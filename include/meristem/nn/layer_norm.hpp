// Layer normalisation.
#pragma once

#include <meristem/nn/weighted_layer.hpp>

namespace meristem::nn {

struct LayerNormOptions {
  double epsilon = 1e-5;  ///< added to the variance; positive
};

/// y = (x - mean) / √(variance + epsilon) · weight + bias, with mean and biased variance of each row: the last axis of
/// any rank from 2 up, whose channels may be 0. The same in training and evaluation.
template <Real T>
class LayerNorm final : public NormLayer<T> {
 public:
  using Options = LayerNormOptions;

  /// weight 1, bias 0. Throws ArgumentError for a negative number of channels and an epsilon that is not positive.
  LayerNorm(Context& ctx, std::int64_t channels, const Options& options = {});

  [[nodiscard]] std::string_view kind() const override { return "LayerNorm"; }
  [[nodiscard]] double epsilon() const noexcept { return epsilon_; }

 protected:
  void describe(Description<T>& description) override;

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override;

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override;

 private:
  using WeightedLayer<T>::weight_;
  using WeightedLayer<T>::bias_;

  static Shape checked_shape(std::int64_t channels, const Options& options);

  double epsilon_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/layer_norm_impl.hpp>
#endif
