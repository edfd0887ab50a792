// Definitions of insertion.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include <meristem/grow/units/insertion.hpp>

namespace meristem::grow::detail {

template <Real T>
std::vector<std::int64_t> reader_map(const Reader<T>& reader, std::int64_t width, std::int64_t places,
                                     std::int64_t units) {
  if (!reader.flattened) return appended(width, units);
  std::vector<std::int64_t> map;
  for (std::int64_t position = 0; position < places; ++position) {
    for (std::int64_t c = 0; c < width; ++c) map.push_back(position * width + c);
    map.insert(map.end(), static_cast<std::size_t>(units), -1);
  }
  return map;
}

template <Real T>
Tensor<T> fan_out_slices(Context& ctx, const Reader<T>& reader, const Insertion& insertion) {
  const std::int64_t q = insertion.outputs, units = insertion.units, taps = insertion.taps;
  const Window& window = reader.consumer.window();
  const std::int64_t places = reader.flattened ? taps : window.kernel.size();
  const std::int64_t centre = window.kernel.y / 2 * window.kernel.x + window.kernel.x / 2;
  std::vector<T> values;
  values.reserve(static_cast<std::size_t>(q * places * units));
  for (std::int64_t o = 0; o < q; ++o) {
    for (std::int64_t place = 0; place < places; ++place) {
      const bool read = taps == places || place == centre;
      const std::int64_t tap = taps == places ? place : 0;
      for (std::int64_t k = 0; k < units; ++k) {
        const std::size_t at = static_cast<std::size_t>((k * taps + tap) * q + o);
        const double split = insertion.split.empty() ? 1.0 : insertion.split[static_cast<std::size_t>(k)];
        values.push_back(read ? static_cast<T>(insertion.fan_out[at] / split) : T(0));
      }
    }
  }
  const Shape& shape = reader.consumer.weight().value.shape();
  const int last = shape.rank() - 1;
  return from_host<T>(ctx, shape.with(last, reader.flattened ? places * units : units), values);
}

template <Real T>
double weight_scale(Context& ctx, const nn::BatchNorm<T>& norm) {
  double squares = 0.0, count = 0.0;
  for (const T weight : to_host(ctx, norm.weight().value)) {
    squares += static_cast<double>(weight) * static_cast<double>(weight);
    if (weight != T(0)) count += 1.0;
  }
  return squares > 0.0 ? std::sqrt(squares / count) : 1.0;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
std::vector<double> balanced_split(Context& ctx, const Site<T>& site, const Insertion& insertion, double gamma) {
  if (!site.normed() || !insertion.norm_weight.empty()) return {};
  std::vector<nn::BatchNorm<T>*> norms = site.input_norms();
  if (norms.empty()) norms.push_back(site.producer.norm());
  std::vector<double> today;
  for (const nn::BatchNorm<T>* norm : norms) today.push_back(detail::weight_scale(ctx, *norm));
  std::vector<double> split;
  for (const double variance : insertion.variance) {
    for (const double weight : today) {
      const double factor = weight / std::sqrt(gamma * variance);
      split.push_back(factor > 0.0 && std::isfinite(factor) ? factor : 1.0);
    }
  }
  return split;
}

MERISTEM_INLINE void keep(Insertion& insertion, const std::vector<std::int64_t>& units) {
  for (const std::int64_t unit : units) {
    if (unit < 0 || unit >= insertion.units) {
      throw ArgumentError(concat("keep: there is no unit ", unit, " among ", insertion.units));
    }
  }
  const auto pick = [&](auto& numbers) {
    auto all = std::exchange(numbers, {});
    if (all.empty()) return;
    const auto each = std::ssize(all) / insertion.units;
    for (const std::int64_t unit : units) {
      numbers.insert(numbers.end(), all.begin() + unit * each, all.begin() + (unit + 1) * each);
    }
  };
  pick(insertion.fan_in);
  pick(insertion.fan_out);
  pick(insertion.mean);
  pick(insertion.variance);
  pick(insertion.split);
  pick(insertion.norm_weight);
  pick(insertion.norm_shift);
  pick(insertion.copies);
  for (std::vector<double>& rows : insertion.rider_rows) pick(rows);
  insertion.units = std::ssize(units);
}

template <Real T>
void follow_inputs(const Site<T>& site, const std::vector<std::int64_t>& map, Insertion& insertion) {
  const std::int64_t bias = site.producer.has_bias() ? 1 : 0, taps = site.producer.window().kernel.size();
  const std::int64_t before = insertion.inputs, channels = (before - bias) / taps;
  std::vector<double> rows;
  for (std::int64_t k = 0; k < insertion.units; ++k) {
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      for (const std::int64_t from : map) {
        rows.push_back(from < 0 ? 0.0 : insertion.fan_in[static_cast<std::size_t>(k * before + tap * channels + from)]);
      }
    }
    if (bias) rows.push_back(insertion.fan_in[static_cast<std::size_t>((k + 1) * before - 1)]);
  }
  insertion.fan_in = std::move(rows);
  insertion.inputs = taps * static_cast<std::int64_t>(map.size()) + bias;
}

}  // namespace meristem::grow
