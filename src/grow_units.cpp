// What the headers of grow/units declare, for float and double.
#include <meristem/grow/units/depth_impl.hpp>
#include <meristem/grow/units/depth_places_impl.hpp>
#include <meristem/grow/units/edit_impl.hpp>
#include <meristem/grow/units/find_sites_impl.hpp>
#include <meristem/grow/units/insertion_impl.hpp>
#include <meristem/grow/units/layout_impl.hpp>
#include <meristem/grow/units/make_edit_impl.hpp>
#include <meristem/grow/units/prune_impl.hpp>
#include <meristem/grow/units/recalibration_impl.hpp>
#include <meristem/grow/units/site_impl.hpp>

namespace meristem::grow {

#define MERISTEM_INSTANTIATE(T)                                                                                      \
  template class detail::EmptyBlocks<T>;                                                                             \
  template std::vector<Place<T>> find_places<T>(nn::Layer<T> & network, Widths widths);                              \
  template Removed<T> remove_block<T>(nn::Layer<T> & network, const std::string& name,                               \
                                      optim::Optimizer<T>* optimizer);                                               \
  template std::string insert_clone<T>(Context & ctx, const Place<T>& place, double scale,                           \
                                       optim::Optimizer<T>& optimizer);                                              \
  template std::string insert_zero_norm<T>(Context & ctx, const Place<T>& place, std::int64_t width,                 \
                                           optim::Optimizer<T>& optimizer);                                          \
  template class detail::StagedEdit<T>;                                                                              \
  template void apply<T>(Context & ctx, const Edit<T>& edit, nn::Layer<T>& network, optim::Optimizer<T>* optimizer); \
  template Tensor<double> balanced_split<T>(Context & ctx, const Site<T>& site, const Insertion& insertion,          \
                                            double gamma);                                                           \
  template void follow_inputs<T>(Context & ctx, const Site<T>& site, const std::vector<std::int64_t>& map,           \
                                 Insertion& insertion);                                                              \
  template void follow_outputs<T>(Context & ctx, const Site<T>& site, const nn::Layer<T>* consumer,                  \
                                  std::int64_t added, Insertion& insertion);                                         \
  template Edit<T> make_edit<T>(Context & ctx, const Site<T>& site, const Insertion& insertion, double gamma);       \
  template Removed<T> prune<T>(Context & ctx, const Site<T>& site, const std::vector<std::int64_t>& units,           \
                               nn::Layer<T>& network, optim::Optimizer<T>* optimizer);                               \
  template void put_back<T>(Context & ctx, Removed<T> && removed, nn::Layer<T> & network,                            \
                            optim::Optimizer<T> * optimizer);                                                        \
  template std::vector<double> unit_norms<T>(Context & ctx, const Site<T>& site);                                    \
  template class detail::NormInputs<T>;                                                                              \
  template void follow_growth<T>(Context & ctx, nn::Layer<T> & network, const detail::NormInputs<T>& before,         \
                                 const detail::NormInputs<T>& after, const std::vector<nn::BatchNorm<T>*>& tied,     \
                                 const Edit<T>& edit);                                                               \
  template void take_statistics<T>(Context & ctx, const std::vector<Affine<T>>& riders, std::int64_t units,          \
                                   const detail::NormInputs<T>& batches);                                            \
  template class Affine<T>;                                                                                          \
  template struct Site<T>;                                                                                           \
  template std::vector<Site<T>> find_sites<T>(nn::Layer<T> & network, Widths widths);                                \
  template Site<T> find_site<T>(nn::Layer<T> & network, const std::string& name, Widths widths);

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow

namespace meristem::grow::detail {

#define MERISTEM_INSTANTIATE(T)                                                                                        \
  template void require_units_fit<T>(const Site<T>& site, const Insertion& insertion);                                 \
  template std::vector<ReaderPart> reader_parts<T>(const Site<T>& site, const Insertion& insertion);                   \
  template UnitsAlong units_along<T>(const Reader<T>& reader, std::int64_t width);                                     \
  template UnitsAlong units_along<T>(const Site<T>& site, const nn::BatchNorm<T>& norm);                               \
  template FanOutPlaces fan_out_places<T>(const Reader<T>& reader, std::int64_t taps, std::int64_t units);             \
  template Tensor<double> fan_ins_of<T>(Context & ctx, View<const T> rows, View<const T> biases);                      \
  template Tensor<double> row_lengths<T>(Context & ctx, View<const T> rows);                                           \
  template void add_input_norm<T>(const Reader<T>& reader, std::vector<nn::BatchNorm<T>*>& norms);                     \
  template NumbersOfUnits numbers_of_units<T>(Context & ctx, const Site<T>& site);                                     \
  template std::vector<std::int64_t> reader_map<T>(const Reader<T>& reader, std::int64_t width, std::int64_t places,   \
                                                   std::int64_t units);                                                \
  template Tensor<T> fan_out_slices<T>(Context & ctx, const Site<T>& site, const Insertion& insertion,                 \
                                       std::size_t reader, PerUnit divisor);                                           \
  template Tensor<T> slices<T>(Context & ctx, const Tensor<T>& tensor, int axis, const std::vector<std::int64_t>& at); \
  template class SiteFinder<T>;

MERISTEM_INSTANTIATE(float)
MERISTEM_INSTANTIATE(double)

#undef MERISTEM_INSTANTIATE

}  // namespace meristem::grow::detail
