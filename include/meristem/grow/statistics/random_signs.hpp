// A random sign for every sample. What a sum over samples becomes with such signs is its noise and nothing else, with
// all dependences inside a sample kept; and with the sum itself it gives those over two random halves of the samples.
#pragma once

#include <cstdint>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/for_each.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>

namespace meristem::grow {

namespace detail {

/// out[i, j] = sign[i] · v[i, j]
template <Real T>
struct FlipSamples {
  const T* v;
  const T* sign;
  T* out;
  std::int64_t each;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const { out[i * each + j] = sign[i] * v[i * each + j]; }
};

}  // namespace detail

/// v (n, ...) with the sign of samples `first` to `first + n - 1` turned with probability one half, by the context's
/// seed and the number of the sample alone.
template <Real T>
[[nodiscard]] Tensor<T> with_random_signs(Context& ctx, View<const T> v, std::int64_t first) {
  Tensor<T> result(ctx, v.shape());
  if (v.empty()) return result;
  const std::int64_t n = v.extent(0), each = v.size() / n;
  const Philox random(ctx.seed(), std::uint64_t{0x7369676e} << 32);
  std::vector<T> signs;
  for (std::int64_t i = 0; i < n; ++i) {
    signs.push_back(random.below(static_cast<std::uint64_t>(first + i), 2) == 0 ? T(1) : T(-1));
  }
  const Tensor<T> there = from_host<T>(ctx, {n}, signs);
  for_each(ctx, n, each, detail::FlipSamples<T>{v.data_handle(), there.data(), result.data(), each});
  return result;
}

}  // namespace meristem::grow
