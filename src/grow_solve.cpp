// What the headers of grow/solve declare, for float and double.
#include <meristem/grow/solve/matrix_ops_impl.hpp>
#include <meristem/grow/solve/moments_impl.hpp>
#include <meristem/grow/solve/shrinkage_impl.hpp>
#include <meristem/grow/solve/solve_impl.hpp>
#include <meristem/grow/solve/triplets_impl.hpp>
#include <meristem/grow/solve/units_impl.hpp>
#include <meristem/grow/solve/whitening_impl.hpp>

namespace meristem::grow {

#define MERISTEM_INSTANTIATE(T)                                                                              \
  template void damp<T>(Context & ctx, double share, Tensor<T>& a);                                          \
  template Solution<T> solve<T>(Context & ctx, const Moments<T>& moments, const SolveOptions& options);      \
  template BestMove<T> best_move<T>(Context & ctx, View<const std::type_identity_t<T>> s1, View<const T> m1, \
                                    const SolveOptions& options, double resolution);                         \
  template Tensor<T> residual_cross<T>(Context & ctx, View<const std::type_identity_t<T>> m,                 \
                                       View<const std::type_identity_t<T>> cross, View<const T> move);       \
  template Units<T> new_units<T>(Context & ctx, View<const std::type_identity_t<T>> s, View<const T> n,      \
                                 const SolveOptions& options, double threshold,                              \
                                 View<const std::type_identity_t<T>> fisher, double resolution,              \
                                 std::vector<double> variances, double parts);                               \
  template class detail::Whitening<T>;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow

namespace meristem::grow::detail {

#define MERISTEM_INSTANTIATE(T)                                                                                   \
  template Tensor<T> orthonormal<T>(Context & ctx, std::type_identity_t<View<const T>> basis, Tensor<T> w);       \
  template std::optional<Triplets> krylov_triplets<T>(Context & ctx, const WhitenedCross<T>& x, double threshold, \
                                                      std::int64_t max_units, std::int64_t max_blocks);           \
  template Triplets leading_triplets<T>(Context & ctx, const WhitenedCross<T>& x, double threshold,               \
                                        std::int64_t max_units, std::int64_t max_krylov_blocks);                  \
  template class WhitenedInputs<T>;                                                                               \
  template void damp_known<T>(Context & ctx, double share, Tensor<T>& a, std::vector<double>& variances);         \
  template std::vector<double> diagonal<T>(Context & ctx, View<const T> a);                                       \
  template void require_finite<T>(Context & ctx, const std::vector<Named<T>>& matrices);                          \
  template Extents require_moments<T>(Context & ctx, const Moments<T>& moments, bool with_fisher);

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow::detail
