// What the headers of grow/policy and the Grower declare, for float and double.
#include <meristem/grow/grower_impl.hpp>
#include <meristem/grow/history_impl.hpp>
#include <meristem/grow/options_impl.hpp>
#include <meristem/grow/policy/amplitude_impl.hpp>
#include <meristem/grow/policy/budget_impl.hpp>
#include <meristem/grow/policy/how_many_impl.hpp>
#include <meristem/grow/policy/normalize_impl.hpp>
#include <meristem/grow/policy/replay_impl.hpp>
#include <meristem/grow/policy/samples_impl.hpp>
#include <meristem/grow/policy/search_impl.hpp>
#include <meristem/grow/policy/streams_impl.hpp>
#include <meristem/grow/policy/until_impl.hpp>
#include <meristem/grow/policy/when_impl.hpp>
#include <meristem/grow/report_impl.hpp>

namespace meristem::grow {

#define MERISTEM_INSTANTIATE(T)                                                                                    \
  template class Grower<T>;                                                                                        \
  template class detail::InputShapes<T>;                                                                           \
  template std::int64_t least_unit_parameters<T>(const Site<T>& site);                                             \
  template detail::UnitCost unit_cost<T>(const Site<T>& site, const detail::InputShapes<T>& shapes);               \
  template detail::ReplayPlan plan_replay<T>(const History& history, std::size_t index, const std::string& method, \
                                             const std::vector<Site<T>>& sites);                                   \
  template std::vector<std::vector<double>> draw_rider_rows<T>(Context & ctx, const Site<T>& site,                 \
                                                               std::int64_t units);                                \
  template std::vector<std::vector<std::size_t>> turns_of<T>(const std::vector<Site<T>>& sites);                   \
  template void share_out<T>(const std::vector<Site<T>>& sites, const std::vector<std::size_t>& which,             \
                             const std::function<double(const Site<T>&, const Proposal&)>& worth,                  \
                             std::vector<Proposal>& proposals);                                                    \
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
  template std::vector<double> mean_squares<T>(Context & ctx, View<const T> a);                    \
  template class SiteOutputs<T>;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow::detail
