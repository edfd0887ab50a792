// What the headers of grow/statistics declare, for float and double.
#include <meristem/grow/statistics/accumulator_impl.hpp>
#include <meristem/grow/statistics/offset_sums_impl.hpp>
#include <meristem/grow/statistics/patch_covariance_impl.hpp>
#include <meristem/grow/statistics/patch_cross_covariance_impl.hpp>
#include <meristem/grow/statistics/patch_geometry_impl.hpp>

namespace meristem::grow {

#define MERISTEM_INSTANTIATE(T)      \
  template class Covariance<T>;      \
  template class CrossCovariance<T>; \
  template class PatchCovariance<T>; \
  template class PatchCrossCovariance<T>;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow

namespace meristem::grow::detail {

#define MERISTEM_INSTANTIATE(T)                                                                                   \
  template struct MoveInto<T>;                                                                                    \
  template struct SettleSlabs<T>;                                                                                 \
  template class TwoPartSum<T>;                                                                                   \
  template PatchPath cheaper_path<T>(const OffsetPlan& plan, std::int64_t map_numbers, const PatchWork& patches); \
  template class OffsetSums<T>;                                                                                   \
  template PatchPositions<T> positions_with<T>(Context & ctx, const std::vector<double>& weight_y,                \
                                               const std::vector<double>& weight_x);                              \
  template void gather_patches<T>(Context & ctx, View<const T> x, const Window& window,                           \
                                  const PatchPositions<T>& positions, std::int64_t first, View<T> out);           \
  template class MapSum<T>;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow::detail
