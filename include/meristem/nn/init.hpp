// Initial values of weights.
#pragma once

#include <cmath>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/random.cuh>

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

/// Fills `values` (overwrites) by drawing from a random stream of its own. A fan-in of 0 gives zeros.
template <Real T>
void initialize(Context& ctx, Init init, std::int64_t fan_in, std::int64_t fan_out, View<T> values) {
  const std::uint64_t stream = ctx.next_random_stream();
  if (init == Init::zeros || fan_in <= 0) {
    kernels::fill(ctx, T(0), values);
    return;
  }
  const double in = static_cast<double>(fan_in);
  const double both = static_cast<double>(fan_in + fan_out);
  const auto uniform = [&](double bound) {
    kernels::fill_uniform(ctx, stream, static_cast<T>(-bound), static_cast<T>(bound), values);
  };
  const auto normal = [&](double stddev) { kernels::fill_normal(ctx, stream, T(0), static_cast<T>(stddev), values); };
  switch (init) {
    case Init::kaiming_uniform:
      return uniform(std::sqrt(6.0 / in));
    case Init::kaiming_normal:
      return normal(std::sqrt(2.0 / in));
    case Init::xavier_uniform:
      return uniform(std::sqrt(6.0 / both));
    case Init::lecun_normal:
      return normal(std::sqrt(1.0 / in));
    case Init::fan_in_uniform:
      return uniform(std::sqrt(1.0 / in));
    case Init::zeros:
      return;
  }
}

}  // namespace meristem::nn
