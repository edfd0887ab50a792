// The leading singular triplets of a whitened cross moment.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/lapack.hpp>
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
    return whitening_ ? whitening_->times_cross(ctx, y_) : converted_transposed<U, U>(ctx, y_);
  }

 private:
  View<const U> y_;
  const detail::Whitening<U>* whitening_;
};

/// λ below this share of the largest are never used.
inline constexpr double smallest_share_in_use = 1e-7;

/// Rows in a block of the Krylov space. Smaller blocks find as much with fewer rows, larger ones are quicker by the
/// row, and values that are equal in more directions than a block has rows take more blocks.
[[nodiscard]] inline std::int64_t krylov_block(std::int64_t max_units) {
  return std::max<std::int64_t>(16, (max_units + 8) / 3);
}

/// Whether a block Krylov space takes less time than all eigenvectors of order `count`: it ends with about 4 rows for
/// each unit, most of the time. On a GPU its many small steps, each of which is waited for, take longer by comparison.
[[nodiscard]] inline bool is_worth_krylov(std::int64_t count, std::int64_t max_units) {
  constexpr std::int64_t most_eigenvectors = MERISTEM_GPU ? 512 : 256;
  return count > most_eigenvectors && max_units > 0 && max_units < count && 6 * (max_units + 8) <= count;
}

/// Orthonormal rows that span what the rows of w (k, m) do, orthogonal to those of basis (s, m), by eigenvectors of
/// their Gram matrix; directions that are lost in rounding are left out. Twice is enough (L. Giraud et al., 2005).
template <Real U>
[[nodiscard]] Tensor<U> orthonormal(Context& ctx, std::type_identity_t<View<const U>> basis, Tensor<U> w);

/// Triplets of one or more matrices alike in the context's memory, of which it is not known yet how many are in use.
struct RankedTriplets {
  Tensor<double> left;     ///< (matrices, kept, r), zero where λ is next to nothing
  Tensor<double> right;    ///< (matrices, kept, m)
  Tensor<double> report;   ///< of each the outcome of the decomposition (1 + n), and all λ
  std::int64_t order = 0;  ///< n
};

/// Waits for the triplets: the λ of each matrix, descending. Throws SolverError.
[[nodiscard]] std::vector<std::vector<double>> lambdas_of(Context& ctx, const RankedTriplets& ranked);

/// Of one matrix those above `threshold`, once `lambda` was waited for.
[[nodiscard]] Triplets taken(Context& ctx, const RankedTriplets& ranked, std::int64_t matrix,
                             std::vector<double> lambda, double threshold);

/// The triplets of matrices X (r, m) from the eigenvectors of the smaller of X Xᵀ and Xᵀ X, in double precision, for
/// their Xᵀ (matrices, m, r), none of whose extents is 0; waits for nothing. The singular values are the lengths of X
/// v, whose error is eps λ_1, not the square roots of the eigenvalues, whose error reaches √eps λ_1; vectors below 1e-7
/// λ_1 are mixtures and never used.
[[nodiscard]] RankedTriplets all_triplets(Context& ctx, View<const double> transposed, std::int64_t max_units,
                                          meristem::detail::Decompositions& calls);

/// The `max_units` leading singular triplets of X (r, m) from the space spanned by G, G Xᵀ X, G (Xᵀ X)², ... with G a
/// fixed random block (C. Musco, C. Musco, "Randomized block Krylov methods", 2015; for blocks of fewer rows than
/// units, R. Meyer, C. Musco, C. Musco, "On the unreasonable effectiveness of single vector Krylov methods", 2024).
/// Products with X are in precision U, the small eigenproblems in double. The space is large enough when Σ λ² of the
/// units, the gain, lacks less than 2e-5 of itself, and Σ λ less than 3e-4, so that a λ_1 far above the others does not
/// hide them. Nothing if `max_blocks` are not enough.
template <Real U>
[[nodiscard]] std::optional<Triplets> krylov_triplets(Context& ctx, const WhitenedCross<U>& x, double threshold,
                                                      std::int64_t max_units, std::int64_t max_blocks);

/// Singular triplets of X with singular values above `threshold`, at most `max_units`.
///
/// A few of many come from a block Krylov space, else from `all_triplets`.
template <Real U>
[[nodiscard]] Triplets leading_triplets(Context& ctx, const WhitenedCross<U>& x, double threshold,
                                        std::int64_t max_units, std::int64_t max_krylov_blocks = 48);

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/solve/triplets_impl.hpp>
#endif
