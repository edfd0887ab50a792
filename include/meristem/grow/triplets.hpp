// The leading singular triplets of a whitened cross moment.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/solver.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/grow/matrix_ops.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow::detail {

/// Singular triplets in use: rows of left and right are u_k √λ_k and v_k √λ_k.
struct Triplets {
  Tensor<double> left;   ///< (K, r)
  Tensor<double> right;  ///< (K, m)
  std::vector<double> lambda;
  std::int64_t units = 0;
  bool partial = false;   ///< lambda holds the largest singular values only
  bool gave_way = false;  ///< the Krylov space did not converge, and all eigenvectors were taken
};

/// Rows more than units in a block of the Krylov space, so that clusters of singular values converge together.
inline constexpr std::int64_t krylov_surplus = 8;

/// Whether a block Krylov space takes fewer operations than all eigenvectors of order `count`: the eigensolver needs
/// about 9 count³ at a low rate, a block 4 count² per row.
[[nodiscard]] inline bool is_worth_krylov(std::int64_t count, std::int64_t max_units) {
  return count > 512 && max_units > 0 && max_units < count && 12 * (max_units + krylov_surplus) <= count;
}

/// Replaces the rows of w (k, m) by orthonormal ones that span the same space, orthogonal to the rows of basis (s, m);
/// directions that are lost in rounding are left out. Twice is enough (L. Giraud et al., 2005).
[[nodiscard]] inline Tensor<double> orthonormal(Context& ctx, View<const double> basis, Tensor<double> w) {
  for (int pass = 0; pass < 2 && w.extent(0) > 0; ++pass) {
    if (basis.extent(0) > 0) {
      Tensor<double> components(ctx, {w.extent(0), basis.extent(0)});
      gemm(ctx, Transpose::no, Transpose::yes, 1, w.view(), basis, 0, components.view());
      gemm(ctx, Transpose::no, Transpose::no, -1, components.view(), basis, 1, w.view());
    }
    const std::int64_t k = w.extent(0);
    Tensor<double> vectors(ctx, {k, k}), values_there(ctx, {k});
    syrk(ctx, Triangle::lower, Transpose::no, 1, w.view(), 0, vectors.view());
    syevd(ctx, vectors.view(), values_there.view());
    const std::vector<double> values = to_host(ctx, values_there);
    std::vector<std::int64_t> kept;
    std::vector<double> factor;
    for (std::int64_t i = k; i-- > 0;) {
      const double value = values[static_cast<std::size_t>(i)];
      if (!(value > 1e-13 * values.back())) break;
      kept.push_back(i);
      factor.push_back(1.0 / std::sqrt(value));
    }
    const Tensor<double> rotation = gathered<double, double>(ctx, vectors.view(), kept, factor);
    Tensor<double> result(ctx, {rotation.extent(0), w.extent(1)});
    if (!result.empty()) gemm(ctx, Transpose::no, Transpose::no, 1, rotation.view(), w.view(), 0, result.view());
    w = std::move(result);
  }
  return w;
}

/// The `max_units` leading singular triplets of X (r, m), given as its transpose A, from the space spanned by G, A Aᵀ
/// G, (A Aᵀ)² G, ... with G a fixed random block (C. Musco, C. Musco, "Randomized block Krylov methods", 2015). Blocks
/// are added until Σ λ² of the units moves by less than 1e-6 of itself. Nothing if `max_blocks` are not enough.
[[nodiscard]] inline std::optional<Triplets> krylov_triplets(Context& ctx, View<const double> a, double threshold,
                                                             std::int64_t max_units, std::int64_t max_blocks) {
  const std::int64_t m = a.extent(0), r = a.extent(1), block = max_units + krylov_surplus;
  const std::int64_t most = std::min(max_blocks * block, std::min(m, r));
  Tensor<double> basis(ctx, {most, m}), images(ctx, {most, r});  // images = basis A
  const Philox random(0x6b72796c6f76, 0);
  std::vector<double> start(static_cast<std::size_t>(block * m));
  for (std::size_t i = 0; i < start.size(); ++i) start[i] = random.normal(i);
  Tensor<double> next = from_host<double>(ctx, {block, m}, start);
  std::int64_t size = 0;
  double gain = 0.0;
  for (;;) {
    next = orthonormal(ctx, basis.view().slice(0, 0, size), std::move(next));
    const std::int64_t added = next.extent(0);
    const bool exhausted = added == 0;
    if (size + added > most) return std::nullopt;
    if (!exhausted) {
      copy<double>(ctx, next, basis.view().slice(0, size, size + added));
      gemm(ctx, Transpose::no, Transpose::no, 1, next.view(), a, 0, images.view().slice(0, size, size + added));
    }
    const View<const double> last = images.view().slice(0, size, size + added);
    size += added;
    if (size == 0) return std::nullopt;

    const View<const double> all = images.view().slice(0, 0, size);
    Tensor<double> vectors(ctx, {size, size}), values_there(ctx, {size});
    syrk(ctx, Triangle::lower, Transpose::no, 1, all, 0, vectors.view());
    syevd(ctx, vectors.view(), values_there.view());
    const std::vector<double> values = to_host(ctx, values_there);
    const std::int64_t kept = std::min(max_units, size);
    double sum = 0.0;
    for (std::int64_t k = 0; k < kept; ++k) sum += std::max(values[static_cast<std::size_t>(size - 1 - k)], 0.0);
    if (!exhausted && !(std::abs(sum - gain) <= 1e-6 * sum)) {
      gain = sum;
      next = Tensor<double>(ctx, {added, m});
      gemm(ctx, Transpose::no, Transpose::yes, 1, last, a, 0, next.view());
      continue;
    }

    Triplets result;
    result.partial = true;
    std::vector<std::int64_t> order;
    std::vector<double> ones(static_cast<std::size_t>(kept), 1.0), of_left, of_right;
    for (std::int64_t k = 0; k < kept; ++k) order.push_back(size - 1 - k);
    const Tensor<double> rotation = gathered<double, double>(ctx, vectors.view(), order, ones);
    Tensor<double> left(ctx, {kept, r}), right(ctx, {kept, m});
    gemm(ctx, Transpose::no, Transpose::no, 1, rotation.view(), all, 0, left.view());
    gemm(ctx, Transpose::no, Transpose::no, 1, rotation.view(), basis.view().slice(0, 0, size), 0, right.view());
    for (const double squares : row_dots<double, double>(ctx, left.view(), left.view())) {
      result.lambda.push_back(std::sqrt(squares));
    }
    std::sort(result.lambda.begin(), result.lambda.end(), std::greater<>());
    const double least = std::max(threshold, 1e-7 * result.lambda.front());
    while (result.units < kept && result.lambda[static_cast<std::size_t>(result.units)] > least) ++result.units;
    std::vector<std::int64_t> rows;
    for (std::int64_t k = 0; k < result.units; ++k) {
      const double root = std::sqrt(result.lambda[static_cast<std::size_t>(k)]);
      rows.push_back(k);
      of_left.push_back(1.0 / root);
      of_right.push_back(root);
    }
    result.left = gathered<double, double>(ctx, left.view(), rows, of_left);
    result.right = gathered<double, double>(ctx, right.view(), rows, of_right);
    return result;
  }
}

/// Singular triplets of X (r, m), given as its transpose, with singular values above `threshold`, at most `max_units`.
///
/// A few of many come from a block Krylov space; else from the eigenvectors of the smaller of X Xᵀ and Xᵀ X. The
/// singular values are the lengths of X v, whose error is eps λ_1, not the square roots of the eigenvalues, whose error
/// reaches √eps λ_1; vectors below 1e-7 λ_1 are mixtures and never used.
inline Triplets leading_triplets(Context& ctx, View<const double> transposed, double threshold, std::int64_t max_units,
                                 std::int64_t max_krylov_blocks = 24) {
  const std::int64_t m = transposed.extent(0), r = transposed.extent(1), count = std::min(m, r);
  Triplets result;
  if (count == 0) {
    result.left = Tensor<double>(ctx, {0, r});
    result.right = Tensor<double>(ctx, {0, m});
    return result;
  }
  if (is_worth_krylov(count, max_units)) {
    if (auto few = krylov_triplets(ctx, transposed, threshold, max_units, max_krylov_blocks)) return std::move(*few);
    result.gave_way = true;
  }
  const Transpose other_side = m <= r ? Transpose::no : Transpose::yes;
  Tensor<double> vectors(ctx, {count, count}), eigenvalues(ctx, {count});
  syrk(ctx, Triangle::lower, other_side, 1, transposed, 0, vectors.view());
  syevd(ctx, vectors.view(), eigenvalues.view());
  Tensor<double> images(ctx, {count, std::max(m, r)});
  gemm(ctx, Transpose::no, other_side, 1, vectors.view(), transposed, 0, images.view());

  std::vector<double> length = row_dots<double, double>(ctx, images.view(), images.view());
  for (double& value : length) value = std::sqrt(value);
  std::vector<std::int64_t> order(length.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return length[static_cast<std::size_t>(a)] > length[static_cast<std::size_t>(b)];
  });
  for (const std::int64_t i : order) result.lambda.push_back(length[static_cast<std::size_t>(i)]);

  const double least = std::max(threshold, 1e-7 * result.lambda.front());
  while (result.units < std::min(count, max_units) && result.lambda[static_cast<std::size_t>(result.units)] > least) {
    ++result.units;
  }
  order.resize(static_cast<std::size_t>(result.units));
  std::vector<double> of_vector, of_image;
  for (std::int64_t k = 0; k < result.units; ++k) {
    const double root = std::sqrt(result.lambda[static_cast<std::size_t>(k)]);
    of_vector.push_back(root);
    of_image.push_back(1.0 / root);
  }
  Tensor<double> chosen_vectors = gathered<double, double>(ctx, vectors.view(), order, of_vector);
  Tensor<double> chosen_images = gathered<double, double>(ctx, images.view(), order, of_image);
  result.left = std::move(m <= r ? chosen_images : chosen_vectors);
  result.right = std::move(m <= r ? chosen_vectors : chosen_images);
  return result;
}

}  // namespace meristem::inline MERISTEM_BACKEND::grow::detail
