// What the headers of grow/measure declare, for float and double.
#include <meristem/grow/measure/candidate_gradients_impl.hpp>
#include <meristem/grow/measure/consumer_products_impl.hpp>
#include <meristem/grow/measure/diagnosis_impl.hpp>
#include <meristem/grow/measure/goal_means_impl.hpp>
#include <meristem/grow/measure/map_statistics_impl.hpp>
#include <meristem/grow/measure/row_statistics_impl.hpp>
#include <meristem/grow/measure/shared_passes_impl.hpp>
#include <meristem/grow/measure/side_by_side_impl.hpp>
#include <meristem/grow/measure/site_measurement_impl.hpp>
#include <meristem/grow/measure/site_statistics_impl.hpp>
#include <meristem/grow/measure/unit_effects_impl.hpp>
#include <meristem/grow/measure/unit_path_impl.hpp>
#include <meristem/grow/measure/visit_sites_impl.hpp>

namespace meristem::grow {

#define MERISTEM_INSTANTIATE(T)                                                                                   \
  template class detail::CandidatePass<T>;                                                                        \
  template void add_consumer_products<T>(Context & ctx, const SiteShape& site, View<const T> consumer_input,      \
                                         View<const std::type_identity_t<T>> v, Tensor<double>& total);           \
  template std::vector<Diagnosis> diagnose<T>(                                                                    \
      Context & ctx, nn::Layer<T> & network, optim::Optimizer<T> & optimizer, const std::vector<Site<T>>& sites,  \
      const std::type_identity_t<nn::BatchView<T>>& batch, const nn::Objective& loss);                            \
  template class detail::GoalMeans<T>;                                                                            \
  template class detail::MapStatistics<T>;                                                                        \
  template class detail::SiteMeasurement<T>;                                                                      \
  template class detail::SharedPasses<T>;                                                                         \
  template class detail::RowStatistics<T>;                                                                        \
  template class SiteStatistics<T>;                                                                               \
  template class detail::UnitEffects<T>;                                                                          \
  template std::vector<double> choose_signs<T>(Context & ctx, const std::vector<detail::UnitEffects<T>>& effects, \
                                               Insertion& insertion);                                             \
  template class detail::UnitPath<T>;                                                                             \
  template class detail::SiteTaps<T>;                                                                             \
  template double visit_sites<T>(Context & ctx, nn::Layer<T> & network, const std::vector<Site<T>>& sites,        \
                                 const std::type_identity_t<nn::BatchView<T>>& batch, const nn::Objective& loss,  \
                                 typename detail::SiteTaps<T>::Visit visit);

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow

namespace meristem::grow::detail {

#define MERISTEM_INSTANTIATE(T)        \
  template struct AddRows<T>;          \
  template class ConsumerInputs<T>;    \
  template struct PooledPatches<T>;    \
  template struct SquaredDeviation<T>; \
  template void require_served<T>(const Site<T>& site, const Method& method);

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow::detail
