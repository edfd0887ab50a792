// Definitions of triplets.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/for_each.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/solver.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/triplets.hpp>
#include <meristem/grow/solve/whitening.hpp>

namespace meristem::grow::detail {

/// As `syevd` of a (n, n), n > 0, that is known to be finite, with the eigenvalues on the host.
template <Real U>
[[nodiscard]] std::vector<double> eigenvalues(Context& ctx, View<U> a, EigenJob job) {
  const std::int64_t n = a.extent(0);
  Tensor<U> there(ctx, {n});
  Tensor<double> outcome(ctx, {1 + n});
  meristem::detail::Decompositions calls;
  calls.eigen(ctx, a, there.data(), job, outcome.data());
  std::vector<double> values = to_host(ctx, outcome);
  meristem::detail::require_eigen_success(values.front(), n, SourceLocation::current());
  values.erase(values.begin());
  return values;
}

/// w -= its components along the rows of basis (s, m), which are orthonormal.
template <Real U>
void remove_components(Context& ctx, View<const U> basis, View<U> w) {
  if (basis.extent(0) == 0) return;
  Tensor<U> components(ctx, {w.extent(0), basis.extent(0)});
  gemm(ctx, Transpose::no, Transpose::yes, 1, w, basis, 0, components.view());
  gemm(ctx, Transpose::no, Transpose::no, -1, components.view(), basis, 1, w);
}

/// Replaces the rows of w (k, m), k > 0, by orthonormal ones that span the same space, orthogonal to the rows of basis
/// (s, m), by Cholesky factors of their Gram matrix. Twice is enough where the first time was good enough (Y. Yamamoto
/// et al., "Roundoff error analysis of the CholeskyQR2 algorithm", 2015): then the second factor is about the identity.
/// Returns whether it was; w is of no use otherwise.
template <Real U>
[[nodiscard]] bool try_orthonormalize(Context& ctx, std::type_identity_t<View<const U>> basis, View<U> w) {
  const std::int64_t k = w.extent(0);
  Tensor<double> outcomes(ctx, {2, 1 + k});
  meristem::detail::Decompositions calls;
  for (int pass = 0; pass < 2; ++pass) {
    remove_components<U>(ctx, basis, w);
    Tensor<U> gram(ctx, {k, k});
    syrk(ctx, Triangle::lower, Transpose::no, 1, w, 0, gram.view());
    calls.factorize(ctx, Triangle::lower, gram.view(), outcomes.data() + pass * (1 + k));
    trsm(ctx, Side::left, Triangle::lower, Transpose::no, 1, gram.view(), w);
  }
  const std::vector<double> there = to_host(ctx, outcomes);
  const auto second = there.begin() + 1 + k;
  return there[0] == 0.0 && *second == 0.0 &&
         std::all_of(second + 1, there.end(), [](double pivot) { return pivot > 0.8 && pivot < 1.2; });
}

template <Real U>
Tensor<U> orthonormal(Context& ctx, std::type_identity_t<View<const U>> basis, Tensor<U> w) {
  for (int pass = 0; pass < 2 && w.extent(0) > 0; ++pass) {
    remove_components<U>(ctx, basis, w.view());
    const std::int64_t k = w.extent(0);
    Tensor<U> vectors(ctx, {k, k});
    syrk(ctx, Triangle::lower, Transpose::no, 1, w.view(), 0, vectors.view());
    const std::vector<double> values = eigenvalues<U>(ctx, vectors.view(), EigenJob::vectors);
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

/// Orders `count` candidates by their λ, the largest first, equal ones as they come, and says by what the first `kept`
/// of them are to be multiplied: a side of unit length by √λ, an image of length λ by 1 / √λ, what is not in use by 0.
struct RankTriplets {
  static constexpr std::int64_t elements = 64;  // about as many comparisons as this cost what an element does elsewhere
  const double* length;
  std::int64_t count, kept;
  double threshold;
  double* lambda;  ///< (count), descending
  std::int64_t* index;
  double* of_unit;
  double* of_image;
  MERISTEM_HD void operator()(std::int64_t i) const {
    // What is not a number comes last.
    const auto key = [&](std::int64_t j) { return length[j] >= 0.0 ? length[j] : -1.0; };
    const double mine = key(i);
    double largest = 0.0;
    std::int64_t rank = 0;
    for (std::int64_t j = 0; j < count; ++j) {
      const double other = key(j);
      largest = other > largest ? other : largest;
      rank += other > mine || (other == mine && j < i) ? 1 : 0;
    }
    lambda[rank] = length[i];
    if (rank >= kept) return;
    const bool used = mine > threshold && mine > smallest_share_in_use * largest;
    index[rank] = i;
    of_unit[rank] = used ? std::sqrt(mine) : 0.0;
    of_image[rank] = used ? 1.0 / std::sqrt(mine) : 0.0;
  }
};

/// Sorts triplets by λ and takes the first `kept` that are in use: `left` (k, r) holds λ u, `right` (k, m) v if
/// `left_is_image`, else u and λ v. λ go to the end of `ranked.report`.
template <Real U>
void rank_triplets(Context& ctx, View<const U> left, View<const U> right, bool left_is_image, double threshold,
                   std::int64_t kept, RankedTriplets& ranked) {
  const View<const U> image = left_is_image ? left : right;
  const std::int64_t count = image.extent(0);
  kept = std::min(kept, count);
  Tensor<double> length(ctx, {count}), factors(ctx, {2, kept});
  Tensor<std::int64_t> index(ctx, {kept});
  for_each(ctx, count, RowLengths<U>{image, length.data()});
  for_each(ctx, count,
           RankTriplets{length.data(), count, kept, threshold, ranked.report.data() + ranked.order + 1, index.data(),
                        factors.data(), factors.data() + kept});
  const double* const of_unit = factors.data();
  const double* const of_image = factors.data() + kept;
  ranked.left = gathered<double, U>(ctx, left, index, left_is_image ? of_image : of_unit);
  ranked.right = gathered<double, U>(ctx, right, index, left_is_image ? of_unit : of_image);
}

MERISTEM_INLINE Triplets taken(Context& ctx, RankedTriplets ranked, double threshold) {
  const std::vector<double> report = to_host(ctx, ranked.report);
  meristem::detail::require_eigen_success(report[0], ranked.order, SourceLocation::current());
  Triplets result;
  result.lambda.assign(report.begin() + 1 + ranked.order, report.end());
  const double least = std::max(threshold, smallest_share_in_use * result.lambda.front());
  while (result.units < ranked.left.extent(0) && result.lambda[static_cast<std::size_t>(result.units)] > least) {
    ++result.units;
  }
  const auto first = [&](Tensor<double>& rows) {
    if (rows.extent(0) == result.units) return std::move(rows);
    Tensor<double> some(ctx, {result.units, rows.extent(1)});
    if (!some.empty()) copy<double>(ctx, rows.view().slice(0, 0, result.units), some.view());
    return some;
  };
  result.left = first(ranked.left);
  result.right = first(ranked.right);
  return result;
}

MERISTEM_INLINE RankedTriplets all_triplets(Context& ctx, View<const double> transposed, double threshold,
                                            std::int64_t max_units, meristem::detail::Decompositions& calls) {
  const std::int64_t m = transposed.extent(0), r = transposed.extent(1), count = std::min(m, r);
  const Transpose other_side = m <= r ? Transpose::no : Transpose::yes;
  RankedTriplets ranked;
  ranked.order = count;
  ranked.report = Tensor<double>(ctx, {1 + 2 * count});
  Tensor<double> vectors(ctx, {count, count}), eigenvalues(ctx, {count});
  syrk(ctx, Triangle::lower, other_side, 1, transposed, 0, vectors.view());
  calls.eigen(ctx, vectors.view(), eigenvalues.data(), EigenJob::vectors, ranked.report.data());
  Tensor<double> images(ctx, {count, std::max(m, r)});
  gemm(ctx, Transpose::no, other_side, 1, vectors.view(), transposed, 0, images.view());
  if (m <= r) {
    rank_triplets<double>(ctx, images.view(), vectors.view(), true, threshold, max_units, ranked);
  } else {
    rank_triplets<double>(ctx, vectors.view(), images.view(), false, threshold, max_units, ranked);
  }
  return ranked;
}

template <Real U>
std::optional<Triplets> krylov_triplets(Context& ctx, const WhitenedCross<U>& x, double threshold,
                                        std::int64_t max_units, std::int64_t max_blocks) {
  const std::int64_t m = x.columns(), r = x.rows(), block = krylov_block(max_units);
  const std::int64_t most = std::min(max_blocks * block, std::min(m, r));
  Tensor<U> basis(ctx, {most, m}), images(ctx, {most, r});  // images = basis Xᵀ
  Tensor<double> exact(ctx, {most, r});                     // images, in double
  // Products of images, in double; rows come block by block, and what lies right of a block stays zero.
  Tensor<double> gram = zeros<double>(ctx, {most, most});
  std::int64_t size = 0;
  const auto append = [&](Tensor<U> rows) {
    const View<const U> before = basis.view().slice(0, 0, size);
    std::int64_t end = size + rows.extent(0);
    const View<U> place = basis.view().slice(0, size, end);
    copy<U>(ctx, rows, place);
    if (!try_orthonormalize<U>(ctx, before, place)) {
      rows = orthonormal<U>(ctx, before, std::move(rows));
      end = size + rows.extent(0);
      if (end > size) copy<U>(ctx, rows, basis.view().slice(0, size, end));
    }
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
      const std::vector<double> values = eigenvalues<double>(ctx, gram_of(size).view(), EigenJob::values);
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

    Tensor<double> vectors = gram_of(size), values(ctx, {size});
    meristem::detail::Decompositions calls;
    RankedTriplets ranked;
    ranked.order = size;
    ranked.report = Tensor<double>(ctx, {1 + size + kept});
    calls.eigen(ctx, vectors.view(), values.data(), EigenJob::vectors, ranked.report.data());
    Tensor<U> left(ctx, {kept, r}), right(ctx, {kept, m});
    const Tensor<U> rotation = converted<U, double>(ctx, vectors.view().slice(0, size - kept, size));  // ascending
    gemm(ctx, Transpose::no, Transpose::no, 1, rotation.view(), all, 0, left.view());
    gemm(ctx, Transpose::no, Transpose::no, 1, rotation.view(), basis.view().slice(0, 0, size), 0, right.view());
    rank_triplets<U>(ctx, left.view(), right.view(), true, threshold, kept, ranked);
    Triplets result = taken(ctx, std::move(ranked), threshold);
    result.partial = true;
    return result;
  }
}

template <Real U>
Triplets leading_triplets(Context& ctx, const WhitenedCross<U>& x, double threshold, std::int64_t max_units,
                          std::int64_t max_krylov_blocks) {
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
  meristem::detail::Decompositions calls;
  Triplets all = taken(ctx, all_triplets(ctx, transposed.view(), threshold, max_units, calls), threshold);
  all.gave_way = result.gave_way;
  return all;
}

}  // namespace meristem::grow::detail
