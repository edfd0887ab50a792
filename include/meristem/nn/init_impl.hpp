// Definitions of init.hpp.
#pragma once

#include <cmath>

#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/random.cuh>
#include <meristem/nn/init.hpp>

namespace meristem::nn {

template <Real T>
void initialize(Context& ctx, Init init, std::int64_t fan_in, std::int64_t fan_out, View<T> values) {
  if (init == Init::zeros) {
    kernels::fill(ctx, T(0), values);
    return;
  }
  const std::uint64_t stream = ctx.next_random_stream();
  if (fan_in <= 0) {
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
