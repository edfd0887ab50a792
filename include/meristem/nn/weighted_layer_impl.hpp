// Definitions of weighted_layer.hpp.
#pragma once

#include <meristem/nn/weighted_layer.hpp>

namespace meristem::nn {

template <Real T>
WeightedLayer<T>::WeightedLayer(Context& ctx, const Shape& weight, bool weight_decays, bool bias)
    : weight_(ctx, "weight", weight, weight_decays), has_bias_(bias) {
  if (!has_bias_) return;
  bias_ = Parameter<T>(ctx, "bias", {weight[0]}, false);
  kernels::fill(ctx, T(0), bias_.value.view());
}

template <Real T>
kernels::Accumulate WeightedLayer<T>::accumulation(const Pass<T>& pass) {
  return pass.gradients == GradientMode::accumulate ? kernels::Accumulate::accumulate : kernels::Accumulate::overwrite;
}

template <Real T>
Shape NormLayer<T>::output_shape(const Shape& input) const {
  const int last = input.rank() - 1;
  if (last < 1) {
    throw ShapeError(concat(this->label(), ": input of shape ", input, " lacks a batch axis; give it one"));
  }
  if (input[last] != channels()) {
    throw ShapeError(
        concat(this->label(), ": input has ", input[last], " channels, weight expects ", channels(), "; got ", input));
  }
  return input;
}

template <Real T>
NormLayer<T>::NormLayer(Context& ctx, const Shape& channels) : WeightedLayer<T>(ctx, channels, false, true) {
  kernels::fill(ctx, T(1), this->weight_.value.view());
}

}  // namespace meristem::nn
