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

/// out(row) = [v(row) | sign · v(row)], where `rows` rows of `q` numbers belong to a sample. Unless `more` is null,
/// v + more takes the place of v, and goes to `sum`.
template <Real T>
struct BesideFlipped {
  const T* v;
  const T* more;
  T* sum;
  const T* sign;
  T* out;
  std::int64_t rows, q;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t m) const {
    T value = v[row * q + m];
    if (more != nullptr) sum[row * q + m] = value = value + more[row * q + m];
    out[row * 2 * q + m] = value;
    out[(row * 2 + 1) * q + m] = sign[row / rows] * value;
  }
};

/// 1 or -1 with probability one half for samples `first` to `first + n - 1`, by the context's seed and the number of
/// the sample alone.
template <Real T>
[[nodiscard]] Tensor<T> random_signs(Context& ctx, std::int64_t first, std::int64_t n) {
  const Philox random(ctx.seed(), std::uint64_t{0x7369676e} << 32);
  std::vector<T> signs;
  for (std::int64_t i = 0; i < n; ++i) {
    signs.push_back(random.below(static_cast<std::uint64_t>(first + i), 2) == 0 ? T(1) : T(-1));
  }
  return from_host<T>(ctx, {n}, signs);
}

template <Real T>
[[nodiscard]] Tensor<T> beside_flipped(Context& ctx, View<const T> v, View<const T> more, View<T> sum,
                                       std::int64_t first) {
  const std::int64_t n = v.extent(0), q = v.extent(v.rank() - 1);
  Tensor<T> result(ctx, v.shape().with(v.rank() - 1, 2 * q));
  if (v.empty()) return result;
  const std::int64_t rows = v.size() / q;
  const Tensor<T> signs = random_signs<T>(ctx, first, n);
  for_each(ctx, rows, q,
           BesideFlipped<T>{v.data_handle(), more.data_handle(), sum.data_handle(), signs.data(), result.data(),
                            rows / n, q});
  return result;
}

}  // namespace detail

/// v (n, ...) with the signs of samples `first` to `first + n - 1` turned at random.
template <Real T>
[[nodiscard]] Tensor<T> with_random_signs(Context& ctx, View<const T> v, std::int64_t first) {
  Tensor<T> result(ctx, v.shape());
  if (v.empty()) return result;
  const std::int64_t n = v.extent(0), each = v.size() / n;
  const Tensor<T> signs = detail::random_signs<T>(ctx, first, n);
  for_each(ctx, n, each, detail::FlipSamples<T>{v.data_handle(), signs.data(), result.data(), each});
  return result;
}

/// v (n, ..., q) and, beside it, v with the signs of samples `first` to `first + n - 1` turned at random: (n, ..., 2
/// q).
template <Real T>
[[nodiscard]] Tensor<T> beside_random_signs(Context& ctx, View<const T> v, std::int64_t first) {
  return detail::beside_flipped<T>(ctx, v, {}, {}, first);
}
/// The same of v += more.
template <Real T>
[[nodiscard]] Tensor<T> add_beside_random_signs(Context& ctx, View<const T> more, View<T> v, std::int64_t first) {
  return detail::beside_flipped<T>(ctx, v, more, v, first);
}
}  // namespace meristem::grow
