// Definitions of layout.hpp.
#pragma once

#include <utility>

#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/units/layout.hpp>
#include <meristem/kernels/columns.cuh>
#include <meristem/kernels/grow_copy.cuh>

namespace meristem::grow::detail {

struct Divide {
  double by;
  double* a;
  MERISTEM_HD void operator()(std::int64_t i) const { a[i] /= by; }
};

MERISTEM_INLINE void divide(Context& ctx, double by, View<double> a) {
  for_each(ctx, a.size(), Divide{by, a.data_handle()});
}

MERISTEM_INLINE std::vector<std::int64_t> UnitsAlong::widened(std::int64_t units) const {
  std::vector<std::int64_t> map;
  for (std::int64_t place = 0; place < places; ++place) {
    const std::int64_t begin = place * stride, end = begin + offset + width;
    for (std::int64_t i = begin; i < end; ++i) map.push_back(i);
    map.insert(map.end(), static_cast<std::size_t>(units), -1);
    for (std::int64_t i = end; i < begin + stride; ++i) map.push_back(i);
  }
  return map;
}

template <Real T>
UnitsAlong units_along(const Reader<T>& reader, std::int64_t width) {
  return {reader.flattened ? reader.places(width) : 1, reader.features(width), reader.offset(), width};
}

template <Real T>
UnitsAlong units_along(const Site<T>& site, const nn::BatchNorm<T>& norm) {
  return {1, norm.channels(), site.offset_in(norm), site.width()};
}

template <Real T>
FanOutPlaces fan_out_places(const Reader<T>& reader, std::int64_t taps, std::int64_t units) {
  const Window& window = reader.consumer.window();
  return {taps, reader.consumer.out_features(), reader.flattened ? taps : window.kernel.size(),
          window.kernel.y / 2 * window.kernel.x + window.kernel.x / 2, units};
}

template <Real T>
Tensor<double> fan_ins_of(Context& ctx, View<const T> rows, View<const T> biases) {
  const std::int64_t n = rows.extent(0), features = rows.shape().with(0, 1).size();
  const bool bias = biases.rank() > 0;
  Tensor<double> result(ctx, {n, features + (bias ? 1 : 0)});
  scaled_rows<double, T>(ctx, rows.reshape({n, features}), {}, result.view().slice(1, 0, features));
  if (bias) scaled_rows<double, T>(ctx, biases.reshape({n, 1}), {}, result.view().slice(1, features, features + 1));
  return result;
}

template <Real T>
Tensor<T> slices(Context& ctx, const Tensor<T>& tensor, int axis, const std::vector<std::int64_t>& at) {
  Tensor<T> result(ctx, tensor.shape().with(axis, std::ssize(at)));
  kernels::grow_copy<T>(ctx, tensor, axis, at, View<const T>(), result);
  return result;
}

MERISTEM_INLINE Tensor<double> stacked(Context& ctx, Tensor<double> a, const Tensor<double>& b) {
  if (b.empty()) return a;
  if (a.empty()) return clone(ctx, b);
  const std::int64_t rows = a.extent(0);
  Tensor<double> result(ctx, {rows + b.extent(0), a.extent(1)});
  copy<double>(ctx, a, result.view().slice(0, 0, rows));
  copy<double>(ctx, b, result.view().slice(0, rows, rows + b.extent(0)));
  return result;
}

MERISTEM_INLINE Tensor<double> beside(Context& ctx, const Tensor<double>& a, const Tensor<double>& b) {
  Tensor<double> result(ctx, {a.extent(0), a.extent(1) + b.extent(1)});
  kernels::copy_columns<double>(ctx, a, 0, result.view(), 0, a.extent(1));
  kernels::copy_columns<double>(ctx, b, 0, result.view(), a.extent(1), b.extent(1));
  return result;
}

template <Real T>
Tensor<double> row_lengths(Context& ctx, View<const T> rows) {
  Tensor<double> result(ctx, {rows.extent(0)});
  if (!result.empty()) for_each(ctx, rows.extent(0), RowLengths<T>{rows, result.data()});
  return result;
}

template <Real T>
NumbersOfUnits numbers_of_units(Context& ctx, const Site<T>& site) {
  const auto view = [](const Tensor<T>& tensor) { return tensor.view(); };
  const auto numbers = [&](const Tensor<T>& tensor) {
    return fan_ins_of<T>(ctx, tensor.view(), {}).reshape(tensor.shape());
  };
  const std::int64_t width = site.width();
  NumbersOfUnits result;
  result.fan_in = fan_ins_of<T>(ctx, view(site.producer.weight().value),
                                site.producer.has_bias() ? view(site.producer.bias().value) : View<const T>());
  const auto columns_of = [&](std::size_t i) {
    return width > 0 ? site.reader(i).places(width) * site.reader(i).consumer.out_features() : 0;
  };
  std::int64_t columns = 0, at = 0;
  for (std::size_t i = 0; i < site.readers(); ++i) columns += columns_of(i);
  result.fan_out = Tensor<double>(ctx, {width, columns});
  for (std::size_t i = 0; i < site.readers(); ++i) {
    const std::int64_t own = columns_of(i), q = site.reader(i).consumer.out_features();
    if (own == 0) continue;
    const UnitsAlong along = units_along(site.reader(i), width);
    for_each(ctx, width, own,
             GatherFanOut<T>{site.reader(i).consumer.weight().value.data(),
                             {own / q, q, own / q, 0, along.stride, along.offset},
                             result.fan_out.view().slice(1, at, at + own),
                             false});
    at += own;
  }
  if (const nn::BatchNorm<T>* const norm = site.producer.norm()) {
    result.norm = {numbers(norm->running_mean().value), numbers(norm->running_variance().value),
                   numbers(norm->weight().value), numbers(norm->bias().value)};
  }
  return result;
}

}  // namespace meristem::grow::detail
