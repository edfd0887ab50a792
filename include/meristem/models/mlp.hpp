// Multi-layer perceptron.
#pragma once

#include <cstdint>
#include <vector>

#include <meristem/nn/activation.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/sequential.hpp>

namespace meristem::models {

struct MlpOptions {
  std::int64_t inputs = 0;           ///< features of one sample, all axes merged
  std::vector<std::int64_t> hidden;  ///< widths of the hidden layers; none makes a linear classifier
  std::int64_t classes = 0;          ///< width of the output
  nn::Activation activation = nn::Activation::relu;
  bool bias = true;
};

/// flatten, then `layer1`, `activation1`, ..., the last layer without activation. Throws ArgumentError for a width
/// below 1; to start from an empty hidden layer, put Linear layers into a Sequential.
template <Real T>
[[nodiscard]] nn::Sequential<T> mlp(Context& ctx, const MlpOptions& options);

}  // namespace meristem::models

#if !defined(MERISTEM_COMPILED)
#include <meristem/models/mlp_impl.hpp>
#endif
