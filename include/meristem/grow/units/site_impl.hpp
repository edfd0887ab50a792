// Definitions of site.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include <meristem/grow/units/site.hpp>

namespace meristem::grow::detail {

template <Real T>
bool has_riders(const nn::Description<T>& description) {
  const auto rides = [](const auto& entry) {
    return entry.axis_of(nn::Axis::in) >= 0 || entry.axis_of(nn::Axis::out) >= 0 ||
           entry.axis_of(nn::Axis::channel) >= 0;
  };
  const bool affine = description.op == nn::Operator::affine;
  for (const auto& entry : description.parameters) {
    if (affine && (entry.tensor == description.weight || entry.tensor == description.bias)) continue;
    if (rides(entry)) return true;
  }
  return std::any_of(description.buffers.begin(), description.buffers.end(), rides);
}

template <Real T>
void add_input_norm(const Reader<T>& reader, std::vector<nn::BatchNorm<T>*>& norms) {
  if (!reader.input_norm || std::find(norms.begin(), norms.end(), reader.input_norm) != norms.end()) return;
  norms.push_back(reader.input_norm);
}

/// Means of means: one window, where the first ones do not overlap.
[[nodiscard]] MERISTEM_INLINE Window one_after_the_other(const Window& a, const Window& b) {
  const auto kernel = [](std::int64_t first, std::int64_t stride, std::int64_t second) {
    return (second - 1) * stride + first;
  };
  return {.kernel = {kernel(a.kernel.y, a.stride.y, b.kernel.y), kernel(a.kernel.x, a.stride.x, b.kernel.x)},
          .stride = {a.stride.y * b.stride.y, a.stride.x * b.stride.x}};
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
Affine<T>::Affine(nn::Layer<T>& layer, const nn::Description<T>& description) {
  if (description.op != nn::Operator::affine || detail::has_riders(description)) return;
  layer_ = &layer;
  weight_ = description.weight;
  bias_ = description.bias;
  window_ = description.window;
  is_convolution_ = weight_->value.rank() == 4;
}

template <Real T>
Site<T> Site<T>::read_by(std::size_t index) const {
  Site result;
  static_cast<Reader<T>&>(result) = reader(index);
  result.name = name;
  result.producer = producer;
  return result;
}

template <Real T>
bool Site<T>::is_source(const nn::Layer<T>* layer) const {
  if (producer.layer() == layer) return true;
  return std::any_of(riders.begin(), riders.end(), [&](const Affine<T>& rider) { return rider.layer() == layer; });
}

template <Real T>
std::vector<nn::BatchNorm<T>*> Site<T>::input_norms() const {
  std::vector<nn::BatchNorm<T>*> norms;
  for (std::size_t i = 0; i < readers(); ++i) detail::add_input_norm(reader(i), norms);
  return norms;
}

template <Real T>
std::vector<nn::BatchNorm<T>*> Site<T>::tied_norms() const {
  std::vector<nn::BatchNorm<T>*> norms;
  for (const Affine<T>& rider : riders) {
    if (rider.norm()) norms.push_back(rider.norm());
  }
  for_each_reader([&](const Reader<T>& reader) { detail::add_input_norm(reader, norms); });
  return norms;
}

template <Real T>
std::int64_t Site<T>::offset_in(const nn::BatchNorm<T>& norm) const {
  std::int64_t result = 0;
  for_each_reader([&](const Reader<T>& reader) { result = reader.input_norm == &norm ? reader.offset() : result; });
  return result;
}

template <Real T>
std::int64_t Site<T>::fan_out() const {
  std::int64_t outputs = 0;
  for (std::size_t i = 0; i < readers(); ++i) outputs += reader(i).consumer.out_features();
  return outputs;
}

template <Real T>
std::int64_t Site<T>::parameters_per_unit(std::int64_t taps) const {
  if (!tied()) return fan_in() + taps * fan_out() + (producer.norm() ? 2 : 0);
  std::int64_t count = fan_in() + 2 * (std::ssize(tied_norms()) + (producer.norm() ? 1 : 0));
  for (const Affine<T>& rider : riders) count += rider.inputs();
  for_each_reader([&](const Reader<T>& to) { count += to.places(width()) * to.consumer.out_features(); });
  return count;
}

template <Real T>
SiteShape Site<T>::shape(const Shape& input) const {
  if (readers() > 1) {
    throw ShapeError(concat("site ", name, ": a stream with ", readers(),
                            " readers has a shape for each; ask for that of read_by(index)"));
  }
  const auto shape_of = [](const Affine<T>& layer) {
    return detail::AffineShape{layer.in_features(), layer.out_features(), layer.has_bias(), layer.is_convolution(),
                               layer.window()};
  };
  SiteShape result;
  result.name = name;
  result.producer = shape_of(producer);
  result.consumer = shape_of(consumer);
  result.before = this->offset();
  result.after = this->features(width()) - result.before - width();
  result.consumer_label = consumer.layer()->label();
  if (!spatial()) return result;
  if (input.rank() != 4) {
    throw ShapeError(concat("site ", name, ": ", producer.layer()->label(), " reads shape ", input,
                            "; a site with a convolution reads maps (n, height, width, channels)"));
  }
  result.map = {input[1], input[2]};
  if (this->pool) result.pool = this->pool->description().window_on(result.hidden());
  if (this->last_pool) {
    result.pool = detail::one_after_the_other(*result.pool, this->last_pool->description().window_on(result.pooled()));
  }
  result.flattened = this->flattened;
  return result;
}

}  // namespace meristem::grow
