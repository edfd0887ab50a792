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

#include <meristem/core/arrival.hpp>
#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/lapack.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/philox.hpp>
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

/// Orders the `count` candidates of each matrix by their λ, the largest first, equal ones as they come, and says by
/// what the first `kept` of them are to be multiplied: a side of unit length by √λ, an image of length λ by 1 / √λ,
/// what is next to nothing by 0.
struct RankTriplets {
  const double* lengths;  ///< (matrices, count)
  std::int64_t count, kept;
  double* lambdas;  ///< (count) of each, descending
  std::int64_t lambdas_apart;
  std::int64_t* index;  ///< (matrices, kept)
  double* of_unit;
  double* of_image;
  MERISTEM_HD void operator()(std::int64_t candidate) const {
    const std::int64_t matrix = candidate / count, i = candidate % count;
    const double* const length = lengths + matrix * count;
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
    lambdas[matrix * lambdas_apart + rank] = length[i];
    if (rank >= kept) return;
    const bool used = mine > smallest_share_in_use * largest;
    index[matrix * kept + rank] = i;
    of_unit[matrix * kept + rank] = used ? std::sqrt(mine) : 0.0;
    of_image[matrix * kept + rank] = used ? 1.0 / std::sqrt(mine) : 0.0;
  }
};

/// to(matrix, k, j) = factor[matrix][k] from(matrix, index[matrix][k], j)
template <class U>
struct TakeRanked {
  View<const U> from;
  const std::int64_t* index;
  const double* factor;
  View<double> to;
  MERISTEM_HD void operator()(std::int64_t matrix, std::int64_t k, std::int64_t j) const {
    const std::int64_t at = matrix * to.extent(1) + k;
    to(matrix, k, j) = factor[at] * static_cast<double>(from(matrix, index[at], j));
  }
};

/// The lengths of the rows of several matrices, blockIdx.y each, and then, by the block that is last, their ranks.
template <class U>
__global__ void rank_rows(RowLengths<U> lengths, RankTriplets rank, unsigned* arrivals) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * rank.count;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < rank.count; i += step) {
    lengths(first + i);
  }
  if (!last_to_arrive(arrivals + blockIdx.y, gridDim.x)) return;
  for (std::int64_t i = threadIdx.x; i < rank.count; i += blockDim.x) rank(first + i);
}

/// Sorts triplets by λ and takes the first `kept`: `left` (matrices, k, r) holds λ u, `right` (matrices, k, m) v if
/// `left_is_image`, else u and λ v. λ go to the end of each report.
template <Real U>
void rank_triplets(Context& ctx, View<const U> left, View<const U> right, bool left_is_image, std::int64_t kept,
                   RankedTriplets& ranked) {
  const View<const U> image = left_is_image ? left : right;
  const std::int64_t matrices = image.extent(0), count = image.extent(1);
  kept = std::min(kept, count);
  Tensor<double> length(ctx, {matrices, count}), factors(ctx, {2, matrices, kept});
  Tensor<std::int64_t> index(ctx, {matrices, kept});
  double* const of_unit = factors.data();
  double* const of_image = of_unit + matrices * kept;
  const unsigned threads = block_threads(ctx, 64);
  const dim3 grid(blocks_for(count, 64), static_cast<unsigned>(matrices));
  launch<rank_rows<U>>(ctx, grid, threads, 0, RowLengths<U>{image.as_matrix(), length.data()},
                       RankTriplets{length.data(), count, kept, ranked.report.data() + ranked.order + 1,
                                    ranked.report.extent(1), index.data(), of_unit, of_image},
                       ctx.arrivals(matrices));
  const auto take = [&](View<const U> from, const double* factor, Tensor<double>& to) {
    to = Tensor<double>(ctx, {matrices, kept, from.extent(2)});
    return part(matrices, kept, from.extent(2), TakeRanked<U>{from, index.data(), factor, to.view()});
  };
  for_each_of(ctx, take(left, left_is_image ? of_image : of_unit, ranked.left),
              take(right, left_is_image ? of_unit : of_image, ranked.right));
}

MERISTEM_INLINE std::vector<std::vector<double>> lambdas_of(Context& ctx, const RankedTriplets& ranked) {
  const std::vector<double> reports = to_host(ctx, ranked.report);
  std::vector<std::vector<double>> result;
  for (auto each = reports.begin(); each != reports.end(); each += ranked.report.extent(1)) {
    meristem::detail::require_eigen_success(*each, ranked.order, SourceLocation::current());
    result.emplace_back(each + 1 + ranked.order, each + ranked.report.extent(1));
  }
  return result;
}

MERISTEM_INLINE Triplets taken(Context& ctx, const RankedTriplets& ranked, std::int64_t matrix,
                               std::vector<double> lambda, double threshold) {
  Triplets result;
  result.lambda = std::move(lambda);
  const double least = std::max(threshold, smallest_share_in_use * result.lambda.front());
  while (result.units < ranked.left.extent(1) && result.lambda[static_cast<std::size_t>(result.units)] > least) {
    ++result.units;
  }
  const auto first = [&](const Tensor<double>& rows) {
    Tensor<double> some(ctx, {result.units, rows.extent(2)});
    if (some.empty()) return some;
    copy<double>(ctx, meristem::detail::matrix_of(rows.view(), matrix).slice(0, 0, result.units), some.view());
    return some;
  };
  result.left = first(ranked.left);
  result.right = first(ranked.right);
  return result;
}

MERISTEM_INLINE RankedTriplets all_triplets(Context& ctx, View<const double> transposed, std::int64_t max_units,
                                            meristem::detail::Decompositions& calls) {
  using meristem::detail::matrix_of;
  const std::int64_t matrices = transposed.extent(0), m = transposed.extent(1), r = transposed.extent(2);
  const std::int64_t count = std::min(m, r);
  const Transpose other_side = m <= r ? Transpose::no : Transpose::yes;
  RankedTriplets ranked;
  ranked.order = count;
  ranked.report = Tensor<double>(ctx, {matrices, 1 + 2 * count});
  Tensor<double> vectors(ctx, {matrices, count, count}), eigenvalues(ctx, {matrices, count});
  for (std::int64_t i = 0; i < matrices; ++i) {
    syrk(ctx, Triangle::lower, other_side, 1, matrix_of(transposed, i), 0, matrix_of(vectors.view(), i));
  }
  calls.eigen_each(ctx, vectors.view(), eigenvalues.data(), EigenJob::vectors, ranked.report.data(),
                   ranked.report.extent(1));
  Tensor<double> images(ctx, {matrices, count, std::max(m, r)});
  for (std::int64_t i = 0; i < matrices; ++i) {
    gemm(ctx, Transpose::no, other_side, 1, matrix_of(vectors.view(), i), matrix_of(transposed, i), 0,
         matrix_of(images.view(), i));
  }
  if (m <= r) {
    rank_triplets<double>(ctx, images.view(), vectors.view(), true, max_units, ranked);
  } else {
    rank_triplets<double>(ctx, vectors.view(), images.view(), false, max_units, ranked);
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
  // So many rounds fill the basis, unless blocks lose rows that others span.
  for (std::int64_t round = 0; round < max_blocks; ++round) {
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
    ranked.report = Tensor<double>(ctx, {1, 1 + size + kept});
    calls.eigen(ctx, vectors.view(), values.data(), EigenJob::vectors, ranked.report.data());
    Tensor<U> left(ctx, {1, kept, r}), right(ctx, {1, kept, m});
    const Tensor<U> rotation = converted<U, double>(ctx, vectors.view().slice(0, size - kept, size));  // ascending
    gemm(ctx, Transpose::no, Transpose::no, 1, rotation.view(), all, 0, left.view().as_matrix());
    gemm(ctx, Transpose::no, Transpose::no, 1, rotation.view(), basis.view().slice(0, 0, size), 0,
         right.view().as_matrix());
    rank_triplets<U>(ctx, left.view(), right.view(), true, kept, ranked);
    Triplets result = taken(ctx, ranked, 0, lambdas_of(ctx, ranked).front(), threshold);
    result.partial = true;
    return result;
  }
  return std::nullopt;
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
  const RankedTriplets ranked = all_triplets(ctx, transposed.view().reshape({1, m, r}), max_units, calls);
  Triplets all = taken(ctx, ranked, 0, lambdas_of(ctx, ranked).front(), threshold);
  all.gave_way = result.gave_way;
  return all;
}

}  // namespace meristem::grow::detail
