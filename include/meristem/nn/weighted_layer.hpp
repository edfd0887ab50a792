// What layers with a weight and a bias share.
#pragma once

#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/layer.hpp>

namespace meristem::nn {

/// A layer with a weight, whose first axis the output features index, and maybe a bias of one number each.
template <Real T>
class WeightedLayer : public Layer<T> {
 public:
  [[nodiscard]] bool has_bias() const noexcept { return has_bias_; }
  [[nodiscard]] Parameter<T>& weight() noexcept { return weight_; }
  [[nodiscard]] const Parameter<T>& weight() const noexcept { return weight_; }
  /// Only if `has_bias()`.
  [[nodiscard]] Parameter<T>& bias() noexcept { return bias_; }
  [[nodiscard]] const Parameter<T>& bias() const noexcept { return bias_; }

 protected:
  /// The weight is not initialised, the bias starts at 0 and does not decay.
  WeightedLayer(Context& ctx, const Shape& weight, bool weight_decays, bool bias);

  [[nodiscard]] Parameter<T>* bias_or_null() noexcept { return has_bias_ ? &bias_ : nullptr; }

  /// What a pass asks the kernels to do with the gradients of parameters, if anything.
  [[nodiscard]] static kernels::Accumulate accumulation(const Pass<T>& pass);

  Parameter<T> weight_;
  Parameter<T> bias_;

 private:
  bool has_bias_;
};

/// A normalisation that ends in · weight + bias, channel by channel on the last axis.
template <Real T>
class NormLayer : public WeightedLayer<T> {
 public:
  [[nodiscard]] std::int64_t channels() const { return this->weight_.value.extent(0); }

  [[nodiscard]] Shape output_shape(const Shape& input) const override;

  /// One for each element.
  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override {
    return input.rank() == 0 || input[0] == 0 ? 0 : input.size() / input[0];
  }

 protected:
  /// Weight 1, bias 0.
  NormLayer(Context& ctx, const Shape& channels);
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/weighted_layer_impl.hpp>
#endif
