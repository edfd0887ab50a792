// What the headers of grow/policy and the Grower declare, for float and double.
#include <meristem/grow/grower_impl.hpp>
#include <meristem/grow/growth_step_impl.hpp>
#include <meristem/grow/history_impl.hpp>
#include <meristem/grow/options_impl.hpp>
#include <meristem/grow/policy/amplitude_impl.hpp>
#include <meristem/grow/policy/budget_impl.hpp>
#include <meristem/grow/policy/deciders_impl.hpp>
#include <meristem/grow/policy/how_many_impl.hpp>
#include <meristem/grow/policy/normalize_impl.hpp>
#include <meristem/grow/policy/samples_impl.hpp>
#include <meristem/grow/policy/search_impl.hpp>
#include <meristem/grow/policy/streams_impl.hpp>
#include <meristem/grow/policy/when_impl.hpp>
#include <meristem/grow/report_impl.hpp>

namespace meristem::grow {

#define MERISTEM_INSTANTIATE(T)                                                                                    \
  template class Grower<T>;                                                                                        \
  template class detail::InputShapes<T>;                                                                           \
  template std::int64_t least_unit_parameters<T>(const Site<T>& site);                                             \
  template Candidate::Cost unit_cost<T>(const Site<T>& site, const detail::InputShapes<T>& shapes);                \
  template std::vector<Tensor<double>> draw_rider_rows<T>(Context & ctx, const Site<T>& site, std::int64_t units); \
  template std::vector<std::vector<std::size_t>> turns_of<T>(const std::vector<Site<T>>& sites);                   \
  template double measure_latency<T>(Context & ctx, nn::Layer<T> & network,                                        \
                                     View<const std::type_identity_t<T>> inputs, int repeats);                     \
  template class detail::SearchPass<T>;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow

namespace meristem::grow::detail {

#define MERISTEM_INSTANTIATE(T)                                                                    \
  template std::vector<Site<T>> sites_of<T>(nn::Layer<T> & network, const GrowerOptions& options); \
  template std::uint64_t fingerprint<T>(Context & ctx, const nn::BatchSource<T>& set,              \
                                        std::span<const std::int64_t> indices);                    \
  template std::vector<double> mean_squares<T>(Context & ctx, View<const T> a);                    \
  template class SiteOutputs<T>;                                                                   \
  template class GrowthStep<T>;                                                                    \
  template void Replay::require_sites<T>(const std::vector<Site<T>>& sites) const;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow::detail
