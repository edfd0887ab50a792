// Tensors of random numbers.
//
// Element i is number i of a Philox stream under the Context's seed: it depends on neither the shape, nor the order in
// which elements are drawn, nor the executor.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

namespace detail {

// The multiply-adds are spelled fma: left to the compiler, one executor would round once and the other twice.
template <class T>
struct FillUniform {
  Philox random;
  double low;
  double width;
  T* x;
  MERISTEM_HD void operator()(std::int64_t i) const {
    x[i] = static_cast<T>(std::fma(random.uniform(static_cast<std::uint64_t>(i)), width, low));
  }
};

template <class T>
struct FillNormal {
  Philox random;
  double mean;
  double stddev;
  T* x;
  MERISTEM_HD void operator()(std::int64_t i) const {
    x[i] = static_cast<T>(std::fma(random.normal(static_cast<std::uint64_t>(i)), stddev, mean));
  }
};

}  // namespace detail

/// x = numbers uniform between low and high, drawn in double and rounded to T, so that either bound may appear.
/// Throws ArgumentError unless low <= high and both are finite, ShapeError if x is strided.
template <Real T>
void fill_uniform(Context& ctx, std::uint64_t stream, std::type_identity_t<T> low, std::type_identity_t<T> high,
                  View<T> x) {
  if (!(low <= high) || !std::isfinite(low) || !std::isfinite(high)) {
    throw ArgumentError(concat("fill_uniform: the range is [", low, ", ", high,
                               "]; low must not exceed high, and both must be finite"));
  }
  detail::require_contiguous("fill_uniform", "x", x);
  const double from = static_cast<double>(low);
  for_each(ctx, x.size(),
           detail::FillUniform<T>{Philox(ctx.seed(), stream), from, static_cast<double>(high) - from, x.data_handle()});
}

/// x = numbers of a normal distribution, drawn in double and rounded to T. Throws ArgumentError unless mean is finite
/// and stddev is finite and 0 or more, ShapeError if x is strided.
template <Real T>
void fill_normal(Context& ctx, std::uint64_t stream, std::type_identity_t<T> mean, std::type_identity_t<T> stddev,
                 View<T> x) {
  if (!std::isfinite(mean) || !std::isfinite(stddev) || stddev < 0) {
    throw ArgumentError(
        concat("fill_normal: mean is ", mean, " and stddev is ", stddev, "; both must be finite and stddev 0 or more"));
  }
  detail::require_contiguous("fill_normal", "x", x);
  for_each(ctx, x.size(),
           detail::FillNormal<T>{Philox(ctx.seed(), stream), static_cast<double>(mean), static_cast<double>(stddev),
                                 x.data_handle()});
}

// The compiled library holds these.
#define MERISTEM_RANDOM_FILL(EXTERN, T)                                                                \
  EXTERN template void fill_uniform<T>(Context & ctx, std::uint64_t stream, T low, T high, View<T> x); \
  EXTERN template void fill_normal<T>(Context & ctx, std::uint64_t stream, T mean, T stddev, View<T> x);

#if defined(MERISTEM_COMPILED)
MERISTEM_RANDOM_FILL(extern, float)
MERISTEM_RANDOM_FILL(extern, double)
#endif

}  // namespace meristem::kernels
