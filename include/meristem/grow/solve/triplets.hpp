// The leading singular triplets of a whitened cross moment.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/solver.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/whitening.hpp>

namespace meristem::grow::detail {

/// Singular triplets in use: rows of left and right are u_k √λ_k and v_k √λ_k.
struct Triplets {
  Tensor<double> left;   ///< (K, r)
  Tensor<double> right;  ///< (K, m)
  std::vector<double> lambda;
  std::int64_t units = 0;
  bool partial = false;   ///< lambda holds the largest singular values only
  bool gave_way = false;  ///< the Krylov space did not converge, and all eigenvectors were taken
};

/// X (r, m) by its products with rows: a cross moment Y (p, m), whitened by W (r, p) if there is one, X = W Y. The
/// product is not formed: its p² m operations are more than a few hundred rows take.
template <Real U>
class WhitenedCross {
 public:
  explicit WhitenedCross(View<const U> y, const detail::Whitening<U>* whitening = nullptr)
      : y_(y), whitening_(whitening) {}

  [[nodiscard]] std::int64_t rows() const { return whitening_ ? whitening_->rank() : y_.extent(0); }
  [[nodiscard]] std::int64_t columns() const { return y_.extent(1); }

  /// v Xᵀ, (k, r), for v (k, m).
  [[nodiscard]] Tensor<U> images(Context& ctx, View<const U> v) const {
    Tensor<U> result(ctx, {v.extent(0), y_.extent(0)});
    gemm(ctx, Transpose::no, Transpose::yes, 1, v, y_, 0, result.view());
    return whitening_ ? whitening_->times_transposed(ctx, result.view()) : std::move(result);
  }

  /// u X, (k, m), for u (k, r).
  [[nodiscard]] Tensor<U> preimages(Context& ctx, View<const U> u) const {
    Tensor<U> result(ctx, {u.extent(0), columns()});
    if (whitening_) {
      gemm(ctx, Transpose::no, Transpose::no, 1, whitening_->times(ctx, u).view(), y_, 0, result.view());
    } else {
      gemm(ctx, Transpose::no, Transpose::no, 1, u, y_, 0, result.view());
    }
    return result;
  }

  /// Xᵀ, (m, r).
  [[nodiscard]] Tensor<U> transposed(Context& ctx) const {
    Tensor<U> yt = converted_transposed<U, U>(ctx, y_);
    return whitening_ ? whitening_->times_transposed(ctx, yt.view()) : std::move(yt);
  }

 private:
  View<const U> y_;
  const detail::Whitening<U>* whitening_;
};

/// Rows in a block of the Krylov space. Smaller blocks find as much with fewer rows, larger ones are quicker by the
/// row, and values that are equal in more directions than a block has rows take more blocks.
[[nodiscard]] inline std::int64_t krylov_block(std::int64_t max_units) {
  return std::max<std::int64_t>(16, (max_units + 8) / 3);
}

/// Whether a block Krylov space takes less time than all eigenvectors of order `count`: it ends with about 4 rows for
/// each unit, most of the time.
[[nodiscard]] inline bool is_worth_krylov(std::int64_t count, std::int64_t max_units) {
  return count > 256 && max_units > 0 && max_units < count && 6 * (max_units + 8) <= count;
}

/// Replaces the rows of w (k, m) by orthonormal ones that span the same space, orthogonal to the rows of basis (s, m);
/// directions that are lost in rounding are left out. Twice is enough (L. Giraud et al., 2005).
template <Real U>
[[nodiscard]] Tensor<U> orthonormal(Context& ctx, std::type_identity_t<View<const U>> basis, Tensor<U> w) {
  for (int pass = 0; pass < 2 && w.extent(0) > 0; ++pass) {
    if (basis.extent(0) > 0) {
      Tensor<U> components(ctx, {w.extent(0), basis.extent(0)});
      gemm(ctx, Transpose::no, Transpose::yes, 1, w.view(), basis, 0, components.view());
      gemm(ctx, Transpose::no, Transpose::no, -1, components.view(), basis, 1, w.view());
    }
    const std::int64_t k = w.extent(0);
    Tensor<U> vectors(ctx, {k, k}), values_there(ctx, {k});
    syrk(ctx, Triangle::lower, Transpose::no, 1, w.view(), 0, vectors.view());
    syevd(ctx, vectors.view(), values_there.view());
    const std::vector<U> values = to_host(ctx, values_there);
    std::vector<std::int64_t> kept;
    std::vector<double> factor;
    for (std::int64_t i = k; i-- > 0;) {
      const double value = values[static_cast<std::size_t>(i)];
      if (!(value > 64 * epsilon_of<U> * values.back())) break;
      kept.push_back(i);
      factor.push_back(1.0 / std::sqrt(value));
    }
    const Tensor<U> rotation = gathered<U, U>(ctx, vectors.view(), kept, factor);
    Tensor<U> result(ctx, {rotation.extent(0), w.extent(1)});
    if (!result.empty()) gemm(ctx, Transpose::no, Transpose::no, 1, rotation.view(), w.view(), 0, result.view());
    w = std::move(result);
  }
  return w;
}

/// Follows a sum from block to block until it lacks less than `tolerance` of itself. The changes shrink about
/// geometrically; a rate below a quarter is not relied on, as the first blocks find at once what stands out.
class Convergence {
 public:
  explicit Convergence(double tolerance) : tolerance_(tolerance) {}

  [[nodiscard]] bool is_reached(double sum) {
    const double change = std::abs(sum - sum_), rate = std::max(change / change_, 0.25);
    sum_ = sum;
    change_ = change;
    return change == 0.0 || (rate < 1.0 && change * rate / (1.0 - rate) <= tolerance_ * sum);
  }

 private:
  double tolerance_;
  double sum_ = 0.0, change_ = std::numeric_limits<double>::infinity();
};

/// Sorts triplets by λ and takes those in use: `left` (k, r) holds λ u, `right` (k, m) v if `left_is_image`, else u and
/// λ v.
template <Real U>
void take_units(Context& ctx, View<const U> left, View<const U> right, bool left_is_image, double threshold,
                std::int64_t max_units, Triplets& result) {
  const View<const U> image = left_is_image ? left : right;
  std::vector<double> length = row_dots<U, U>(ctx, image, image);
  for (double& value : length) value = std::sqrt(value);
  std::vector<std::int64_t> order(length.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return length[static_cast<std::size_t>(a)] > length[static_cast<std::size_t>(b)];
  });
  for (const std::int64_t i : order) result.lambda.push_back(length[static_cast<std::size_t>(i)]);

  const auto count = static_cast<std::int64_t>(order.size());
  const double least = std::max(threshold, 1e-7 * result.lambda.front());
  while (result.units < std::min(count, max_units) && result.lambda[static_cast<std::size_t>(result.units)] > least) {
    ++result.units;
  }
  order.resize(static_cast<std::size_t>(result.units));
  std::vector<double> of_unit, of_image;
  for (std::int64_t k = 0; k < result.units; ++k) {
    const double root = std::sqrt(result.lambda[static_cast<std::size_t>(k)]);
    of_unit.push_back(root);
    of_image.push_back(1.0 / root);
  }
  result.left = gathered<double, U>(ctx, left, order, left_is_image ? of_image : of_unit);
  result.right = gathered<double, U>(ctx, right, order, left_is_image ? of_unit : of_image);
}

/// The `max_units` leading singular triplets of X (r, m) from the space spanned by G, G Xᵀ X, G (Xᵀ X)², ... with G a
/// fixed random block (C. Musco, C. Musco, "Randomized block Krylov methods", 2015; for blocks of fewer rows than
/// units, R. Meyer, C. Musco, C. Musco, "On the unreasonable effectiveness of single vector Krylov methods", 2024).
/// Products with X are in precision U, the small eigenproblems in double. The space is large enough when Σ λ² of the
/// units, the gain, lacks less than 2e-5 of itself, and Σ λ less than 3e-4, so that a λ_1 far above the others does not
/// hide them. Nothing if `max_blocks` are not enough.
template <Real U>
[[nodiscard]] std::optional<Triplets> krylov_triplets(Context& ctx, const WhitenedCross<U>& x, double threshold,
                                                      std::int64_t max_units, std::int64_t max_blocks) {
  const std::int64_t m = x.columns(), r = x.rows(), block = krylov_block(max_units);
  const std::int64_t most = std::min(max_blocks * block, std::min(m, r));
  Tensor<U> basis(ctx, {most, m}), images(ctx, {most, r});  // images = basis Xᵀ
  Tensor<double> exact(ctx, {most, r});                     // images, in double
  // Products of images, in double; rows come block by block, and what lies right of a block stays zero.
  Tensor<double> gram = zeros<double>(ctx, {most, most});
  std::int64_t size = 0;
  const auto append = [&](Tensor<U> rows) {
    rows = orthonormal<U>(ctx, basis.view().slice(0, 0, size), std::move(rows));
    const std::int64_t end = size + rows.extent(0);
    if (end > size) copy<U>(ctx, rows, basis.view().slice(0, size, end));
    size = end;
  };
  const Philox random(0x6b72796c6f76, 0);
  std::uint64_t drawn = 0;
  const auto random_rows = [&](std::int64_t rows) {
    std::vector<U> values(static_cast<std::size_t>(rows * m));
    Philox::Block words{};
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i % 4 == 0) words = random.block(drawn++);
      values[i] = static_cast<U>(words.word[i % 4] * 0x1p-32 - 0.5);
    }
    return from_host<U>(ctx, {rows, m}, values);
  };
  const auto gram_of = [&](std::int64_t rows) {
    return converted<double, double>(ctx, gram.view().slice(0, 0, rows).slice(1, 0, rows));
  };
  Convergence gain(2e-5), sum(3e-4);
  Tensor<U> next = random_rows(block);
  for (;;) {
    const std::int64_t before = size;
    if (before + block > most) return std::nullopt;
    append(std::move(next));
    // What a few large values hide in rounding, and equal values beyond the rows of a block, new random rows find.
    if (size < before + block) append(random_rows(before + block - size));
    copy<U>(ctx, x.images(ctx, basis.view().slice(0, before, size)), images.view().slice(0, before, size));
    const View<const U> all = images.view().slice(0, 0, size), last = images.view().slice(0, before, size);
    copy<double>(ctx, converted<double, U>(ctx, last), exact.view().slice(0, before, size));
    gemm(ctx, Transpose::no, Transpose::yes, 1, exact.view().slice(0, before, size), exact.view().slice(0, 0, size), 0,
         gram.view().slice(0, before, size).slice(1, 0, size));

    const std::int64_t kept = std::min(max_units, size);
    bool enough = false;
    if (size >= 2 * max_units) {
      Tensor<double> values_there(ctx, {size});
      syevd(ctx, gram_of(size).view(), values_there.view(), EigenJob::values);
      const std::vector<double> values = to_host(ctx, values_there);
      double squares = 0.0, lengths = 0.0;
      for (std::int64_t k = 1; k <= kept; ++k) {
        const double value = std::max(values[static_cast<std::size_t>(size - k)], 0.0);
        squares += value;
        lengths += std::sqrt(value);
      }
      const bool gain_is_known = gain.is_reached(squares), sum_is_known = sum.is_reached(lengths);
      enough = gain_is_known && sum_is_known;
    }
    if (!enough) {
      next = x.preimages(ctx, last);
      continue;
    }

    Tensor<double> vectors = gram_of(size), values_there(ctx, {size});
    syevd(ctx, vectors.view(), values_there.view());
    Triplets result;
    result.partial = true;
    Tensor<U> left(ctx, {kept, r}), right(ctx, {kept, m});
    const Tensor<U> rotation = converted<U, double>(ctx, vectors.view().slice(0, size - kept, size));  // ascending
    gemm(ctx, Transpose::no, Transpose::no, 1, rotation.view(), all, 0, left.view());
    gemm(ctx, Transpose::no, Transpose::no, 1, rotation.view(), basis.view().slice(0, 0, size), 0, right.view());
    take_units<U>(ctx, left.view(), right.view(), true, threshold, max_units, result);
    return result;
  }
}

/// Singular triplets of X with singular values above `threshold`, at most `max_units`.
///
/// A few of many come from a block Krylov space; else from the eigenvectors of the smaller of X Xᵀ and Xᵀ X, in double
/// precision. The singular values are the lengths of X v, whose error is eps λ_1, not the square roots of the
/// eigenvalues, whose error reaches √eps λ_1; vectors below 1e-7 λ_1 are mixtures and never used.
template <Real U>
[[nodiscard]] Triplets leading_triplets(Context& ctx, const WhitenedCross<U>& x, double threshold,
                                        std::int64_t max_units, std::int64_t max_krylov_blocks = 48) {
  const std::int64_t m = x.columns(), r = x.rows(), count = std::min(m, r);
  Triplets result;
  if (count == 0) {
    result.left = Tensor<double>(ctx, {0, r});
    result.right = Tensor<double>(ctx, {0, m});
    return result;
  }
  if (is_worth_krylov(count, max_units)) {
    if (auto few = krylov_triplets(ctx, x, threshold, max_units, max_krylov_blocks)) return std::move(*few);
    result.gave_way = true;
  }
  const Tensor<double> transposed = converted<double, U>(ctx, x.transposed(ctx).view());
  const Transpose other_side = m <= r ? Transpose::no : Transpose::yes;
  Tensor<double> vectors(ctx, {count, count}), eigenvalues(ctx, {count});
  syrk(ctx, Triangle::lower, other_side, 1, transposed.view(), 0, vectors.view());
  syevd(ctx, vectors.view(), eigenvalues.view());
  Tensor<double> images(ctx, {count, std::max(m, r)});
  gemm(ctx, Transpose::no, other_side, 1, vectors.view(), transposed.view(), 0, images.view());
  if (m <= r) {
    take_units<double>(ctx, images.view(), vectors.view(), true, threshold, max_units, result);
  } else {
    take_units<double>(ctx, vectors.view(), images.view(), false, threshold, max_units, result);
  }
  return result;
}

}  // namespace meristem::grow::detail
