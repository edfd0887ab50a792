// From a solution of the growth problem to the edit that inserts it.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/grow/edit.hpp>
#include <meristem/grow/site.hpp>
#include <meristem/grow/statistics.hpp>
#include <meristem/kernels/reduce.cuh>

namespace meristem::inline MERISTEM_BACKEND::grow {

/// New units and the move of today's weights that goes with them, on the host, before their amplitude is chosen.
struct Insertion {
  std::int64_t units = 0;
  std::int64_t inputs = 0;           ///< p: numbers per unit in `fan_in`, the bias last if there is one
  std::int64_t outputs = 0;          ///< q: numbers per unit in `fan_out`
  std::int64_t consumer_inputs = 0;  ///< d: numbers per output in `move`, the bias last if there is one
  std::vector<double> fan_in = {};        ///< α: units × inputs
  std::vector<double> fan_out = {};       ///< ω: units × outputs
  std::vector<double> move = {};          ///< δW: outputs × consumer inputs; empty for none
};

/// The edit that inserts the units at amplitude γ: fan-in √γ α, fan-out √γ ω, and the consumer's weights moved by γ δW.
template <Real T>
[[nodiscard]] Edit<T> make_edit(Context& ctx, const Site<T>& site, const Insertion& insertion, double gamma) {
  if (insertion.inputs != site.fan_in() || insertion.outputs != site.fan_out() ||
      (!insertion.move.empty() && insertion.consumer_inputs != site.consumer_inputs())) {
    throw ShapeError(concat("site ", site.name, ": units with fan-in ", insertion.inputs, " and fan-out ",
                            insertion.outputs, " do not fit a site with fan-in ", site.fan_in(), " and fan-out ",
                            site.fan_out()));
  }
  const double root = std::sqrt(gamma);
  const std::int64_t units = insertion.units, q = insertion.outputs;
  const std::int64_t in_features = site.producer->in_features(), d = site.consumer->in_features();
  const auto at = [](const std::vector<double>& values, std::int64_t row, std::int64_t columns, std::int64_t column) {
    return values[static_cast<std::size_t>(row * columns + column)];
  };

  Edit<T> edit;
  if (!insertion.move.empty()) {
    std::vector<T> weights, biases;
    for (std::int64_t o = 0; o < q; ++o) {
      for (std::int64_t i = 0; i < d; ++i) {
        weights.push_back(static_cast<T>(gamma * at(insertion.move, o, insertion.consumer_inputs, i)));
      }
      if (site.consumer->has_bias()) {
        biases.push_back(static_cast<T>(gamma * at(insertion.move, o, insertion.consumer_inputs, d)));
      }
    }
    edit.values.push_back({site.consumer->weight().id, from_host<T>(ctx, {q, d}, weights)});
    if (site.consumer->has_bias()) edit.values.push_back({site.consumer->bias().id, from_host<T>(ctx, {q}, biases)});
  }
  if (units == 0) return edit;

  std::vector<T> rows, biases, columns;
  for (std::int64_t k = 0; k < units; ++k) {
    for (std::int64_t i = 0; i < in_features; ++i) {
      rows.push_back(static_cast<T>(root * at(insertion.fan_in, k, insertion.inputs, i)));
    }
    if (site.producer->has_bias()) {
      biases.push_back(static_cast<T>(root * at(insertion.fan_in, k, insertion.inputs, in_features)));
    }
  }
  for (std::int64_t o = 0; o < q; ++o) {
    for (std::int64_t k = 0; k < units; ++k) columns.push_back(static_cast<T>(root * at(insertion.fan_out, k, q, o)));
  }
  const std::vector<std::int64_t> map = appended(site.width(), units);
  edit.axes.push_back({site.producer->weight().id, 0, map, from_host<T>(ctx, {units, in_features}, rows)});
  if (site.producer->has_bias()) {
    edit.axes.push_back({site.producer->bias().id, 0, map, from_host<T>(ctx, {units}, biases)});
  }
  edit.axes.push_back({site.consumer->weight().id, 1, map, from_host<T>(ctx, {q, units}, columns)});
  return edit;
}

namespace detail {

/// What a rectified unit contributes for either sign: relu(h) z and relu(-h) (-z).
template <Real T>
struct OneSided {
  const T* h;
  const T* z;
  T* positive;
  T* negative;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const T hi = h[i], zi = z[i];
    positive[i] = (hi > T(0) ? hi : T(0)) * zi;
    negative[i] = (hi < T(0) ? hi : T(0)) * zi;
  }
};

}  // namespace detail

/// First-order decreases of the loss that rectified units bring with either sign: D⁺_k = (1/n) Σ relu(α_kᵀ[b 1]) ω_kᵀ v
/// and D⁻_k with both signs turned, v the desired update. A ReLU is not linear at 0, so that the two differ; D⁺ + D⁻ is
/// what a linear unit would bring. Streaming.
template <Real T>
class OneSidedGains {
 public:
  OneSidedGains(Context& ctx, const Site<T>& site, const Insertion& insertion)
      : units_(insertion.units),
        has_bias_(site.producer->has_bias()),
        positive_(static_cast<std::size_t>(units_)),
        negative_(static_cast<std::size_t>(units_)) {
    const std::int64_t in_features = site.producer->in_features();
    std::vector<T> weights, biases;
    for (std::int64_t k = 0; k < units_; ++k) {
      const double* row = insertion.fan_in.data() + k * insertion.inputs;
      for (std::int64_t i = 0; i < in_features; ++i) weights.push_back(static_cast<T>(row[i]));
      if (has_bias_) biases.push_back(static_cast<T>(row[in_features]));
    }
    fan_in_ = from_host<T>(ctx, {units_, in_features}, weights);
    bias_ = from_host<T>(ctx, {has_bias_ ? units_ : 0}, biases);
    fan_out_ = from_host<T>(ctx, {units_, insertion.outputs},
                            std::vector<T>(insertion.fan_out.begin(), insertion.fan_out.end()));
  }

  /// Adds one batch: the producer's input (n, ..., features) and the desired update (n, ..., outputs).
  void update(Context& ctx, View<const T> unit_input, View<const T> goal) {
    const View<const T> x = unit_input.as_matrix(), v = goal.as_matrix();
    const Shape shape{x.extent(0), units_};
    Tensor<T> h(ctx, shape), z(ctx, shape), positive(ctx, shape), negative(ctx, shape);
    gemm(ctx, Transpose::no, Transpose::yes, T(1), x, fan_in_.view(), T(0), h.view());
    if (has_bias_) kernels::add_bias<T>(ctx, bias_, h);
    gemm(ctx, Transpose::no, Transpose::yes, T(1), v, fan_out_.view(), T(0), z.view());
    for_each(ctx, h.size(), detail::OneSided<T>{h.data(), z.data(), positive.data(), negative.data()});
    add_columns(ctx, positive, positive_);
    add_columns(ctx, negative, negative_);
    samples_ += unit_input.extent(0);
  }

  [[nodiscard]] double positive(std::int64_t unit) const { return mean(positive_, unit); }
  [[nodiscard]] double negative(std::int64_t unit) const { return mean(negative_, unit); }

 private:
  void add_columns(Context& ctx, const Tensor<T>& terms, std::vector<double>& sums) {
    Tensor<T> columns(ctx, {units_});
    kernels::column_sums<T>(ctx, terms, columns, kernels::Accumulate::overwrite);
    const std::vector<T> values = to_host(ctx, columns);
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += static_cast<double>(values[k]);
  }
  [[nodiscard]] double mean(const std::vector<double>& sums, std::int64_t unit) const {
    return sums[static_cast<std::size_t>(unit)] / static_cast<double>(samples_);
  }

  std::int64_t units_;
  bool has_bias_;
  Tensor<T> fan_in_, bias_, fan_out_;
  std::vector<double> positive_, negative_;
  std::int64_t samples_ = 0;
};

/// Turns each unit to the sign that brings more. Returns Σ_k max(D⁺_k, D⁻_k), the exact one-sided slope of the loss.
template <Real T>
double choose_signs(const OneSidedGains<T>& gains, Insertion& insertion) {
  double total = 0.0;
  for (std::int64_t k = 0; k < insertion.units; ++k) {
    total += std::max(gains.positive(k), gains.negative(k));
    if (gains.negative(k) <= gains.positive(k)) continue;
    for (std::int64_t i = 0; i < insertion.inputs; ++i) insertion.fan_in[k * insertion.inputs + i] *= -1.0;
    for (std::int64_t o = 0; o < insertion.outputs; ++o) insertion.fan_out[k * insertion.outputs + o] *= -1.0;
  }
  return total;
}

}  // namespace meristem::inline MERISTEM_BACKEND::grow
