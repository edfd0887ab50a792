// The numbers of units, gathered from the tensors of layers and scattered to them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include <meristem/core/for_each.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow::detail {

/// A number for each unit, `stride` apart; 1 where there is none.
struct PerUnit {
  const double* first = nullptr;
  std::int64_t stride = 1;

  MERISTEM_HD double operator()(std::int64_t unit) const { return first == nullptr ? 1.0 : first[unit * stride]; }
};

/// The same of a tensor, which may be empty.
[[nodiscard]] inline PerUnit per_unit(const Tensor<double>& numbers) {
  return {numbers.empty() ? nullptr : numbers.data()};
}

/// to(k, i) = factor(k) from(k, i)
template <class From, class To>
struct ScaledRows {
  View<const From> from;
  PerUnit factor;
  View<To> to;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i) const {
    to(k, i) = static_cast<To>(factor(k) * static_cast<double>(from(k, i)));
  }
};

/// a /= by
void divide(Context& ctx, double by, View<double> a);

/// Rows, each times a number of its own.
template <Real To, Real From>
void scaled_rows(Context& ctx, View<const From> from, PerUnit factor, View<To> to) {
  if (!to.empty()) for_each(ctx, to.extent(0), to.extent(1), ScaledRows<From, To>{from, factor, to});
}

/// How units lie along the last axis of a reader's weight, or the channels of a norm: unit k of a place at
/// place · stride + offset + k.
struct UnitsAlong {
  std::int64_t places = 1, stride = 0, offset = 0, width = 0;

  /// Unit of number i of the tensor, or -1 for what stands beside the units.
  [[nodiscard]] MERISTEM_HD std::int64_t unit_of(std::int64_t i) const {
    const std::int64_t unit = i % stride - offset;
    return unit >= 0 && unit < width ? unit : -1;
  }
  /// For each index of the axis once `units` are added behind those there are, the one it was, or -1.
  [[nodiscard]] std::vector<std::int64_t> widened(std::int64_t units) const;
};

/// Of the axis along which a reader of `width` units reads.
template <Real T>
[[nodiscard]] UnitsAlong units_along(const Reader<T>& reader, std::int64_t width);

/// Of the channels of any norm that they pass.
template <Real T>
[[nodiscard]] UnitsAlong units_along(const Site<T>& site, const nn::BatchNorm<T>& norm);

/// Where element (k, tap outputs + o) of a matrix of fan-outs stands in a consumer's weight (o, place, k). A tap is a
/// place, or the only one is the centre of the kernel. The last axis has `stride` indices, the units begin at `offset`.
struct FanOutPlaces {
  std::int64_t taps = 1, outputs = 0, places = 1, centre = 0, stride = 0, offset = 0;

  [[nodiscard]] MERISTEM_HD std::int64_t in_weight(std::int64_t k, std::int64_t column) const {
    const std::int64_t tap = column / outputs, place = taps == places ? tap : centre;
    return (column % outputs * places + place) * stride + offset + k;
  }
};

/// The shape of `units` fan-outs alone to a reader of which each has `taps` weights for an output.
template <Real T>
[[nodiscard]] FanOutPlaces fan_out_places(const Reader<T>& reader, std::int64_t taps, std::int64_t units);

/// to(k, column) = or += weight(o, place, k)
template <class T>
struct GatherFanOut {
  const T* weight;
  FanOutPlaces places;
  View<double> to;
  bool add;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t column) const {
    const double value = static_cast<double>(weight[places.in_weight(k, column)]);
    to(k, column) = add ? to(k, column) + value : value;
  }
};

/// weight(o, place, k) = from(k, column) / divisor(k); places that no tap has stay.
template <class T>
struct ScatterFanOut {
  View<const double> from;
  FanOutPlaces places;
  PerUnit divisor;
  T* weight;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t column) const {
    weight[places.in_weight(k, column)] = static_cast<T>(from(k, column) / divisor(k));
  }
};

/// Fan-ins (n, features + 1) with the bias last, or (n, features) without one, of rows (n, ...) and biases (n).
template <Real T>
[[nodiscard]] Tensor<double> fan_ins_of(Context& ctx, View<const T> rows, View<const T> biases);

/// Slices of `tensor` along an axis: of index at[i], or zeros where that is -1.
template <Real T>
[[nodiscard]] Tensor<T> slices(Context& ctx, const Tensor<T>& tensor, int axis, const std::vector<std::int64_t>& at);

/// The rows of `a`, then those of `b`; either may be empty.
[[nodiscard]] Tensor<double> stacked(Context& ctx, Tensor<double> a, const Tensor<double>& b);

/// The columns of `a`, then those of `b`, of as many rows.
[[nodiscard]] Tensor<double> beside(Context& ctx, const Tensor<double>& a, const Tensor<double>& b);

/// Norms of rows, in the order of the columns.
template <Real T>
[[nodiscard]] Tensor<double> row_lengths(Context& ctx, View<const T> rows);

/// Numbers of some channels of a BatchNorm.
struct NormChannels {
  Tensor<double> mean = {}, variance = {};  ///< running statistics
  Tensor<double> weight = {}, shift = {};   ///< affine
};

/// Numbers of today's units of a site, in the layout of Insertion, with all taps.
struct NumbersOfUnits {
  Tensor<double> fan_in;   ///< (width, p)
  Tensor<double> fan_out;  ///< (width, taps q), of all readers side by side
  NormChannels norm;       ///< empty without one
};

template <Real T>
[[nodiscard]] NumbersOfUnits numbers_of_units(Context& ctx, const Site<T>& site);

/// Numbers of units that are gathered when they are first asked for.
class LazyNumbers {
 public:
  LazyNumbers() : numbers_(NumbersOfUnits()) {}
  explicit LazyNumbers(std::function<NumbersOfUnits()> gather) : gather_(std::move(gather)) {}

  const NumbersOfUnits* operator->() const {
    if (!numbers_) numbers_ = gather_();
    return &*numbers_;
  }
  const NumbersOfUnits& operator*() const { return *operator->(); }

 private:
  std::function<NumbersOfUnits()> gather_;
  mutable std::optional<NumbersOfUnits> numbers_;
};

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/layout_impl.hpp>
#endif
