// Initial values of weights.
#pragma once

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/tensor.hpp>

namespace meristem::nn {

/// Distributions of initial weights. Fan-in and fan-out count the connections of one unit.
enum class Init {
  kaiming_uniform,  ///< K. He et al., "Delving deep into rectifiers" (2015): variance 2 / fan_in, for ReLU
  kaiming_normal,   ///< the same variance, normally distributed
  xavier_uniform,   ///< X. Glorot, Y. Bengio (2010): variance 2 / (fan_in + fan_out)
  lecun_normal,     ///< Y. LeCun et al., "Efficient backprop" (1998): variance 1 / fan_in, for SELU
  fan_in_uniform,   ///< uniform in ±1/√fan_in, what PyTorch's Linear and Conv2d start with
  zeros,
};

/// Fills `values` (overwrites) by drawing from a random stream of its own; Init::zeros takes none. A fan-in of 0 gives
/// zeros.
template <Real T>
void initialize(Context& ctx, Init init, std::int64_t fan_in, std::int64_t fan_out, View<T> values);

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/init_impl.hpp>
#endif
