// What units that were solved for do before they are inserted: one pass over samples gives their first-order effect
// with either sign, their mean and variance, and the norm of the move they make together.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/grow/insertion.hpp>
#include <meristem/grow/site.hpp>
#include <meristem/kernels/activation.cuh>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/pool.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::inline MERISTEM_BACKEND::grow {

namespace detail {

/// out = a b, elementwise.
template <Real T>
struct Multiply {
  const T* a;
  const T* b;
  T* out;
  MERISTEM_HD void operator()(std::int64_t i) const { out[i] = a[i] * b[i]; }
};

/// out = (h - shift of its column)², elementwise.
template <Real T>
struct SquaredDeviation {
  const T* h;
  const T* shift;
  T* out;
  std::int64_t columns;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t column) const {
    const T deviation = h[row * columns + column] - shift[column];
    out[row * columns + column] = deviation * deviation;
  }
};

}  // namespace detail

/// First-order decreases of the loss that units bring with either sign, D⁺_k = (1/n) Σ u(α_kᵀ[b 1]) ω_kᵀ v and D⁻_k
/// with both signs turned: v is the desired update, u the activation's limit at small amplitudes (a ReLU stays one,
/// others are their slope at 0) and the site's pooling. Without ReLU and maximum the two are equal; D⁺ + D⁻ is what a
/// unit without them would bring. Besides, the mean and variance of α_kᵀ[b 1], and
/// Q(A) = (1/n) ‖Σ_k ω_k ∗ (α_k ∗ [b 1])‖², the squared norm of the move as the statistics see it: without activation,
/// and with means for maxima. Streaming.
template <Real T>
class UnitEffects {
 public:
  /// Throws ShapeError for units that do not fit the site.
  UnitEffects(Context& ctx, const Site<T>& site, const Insertion& insertion)
      : site_(site),
        units_(insertion.units),
        taps_(insertion.taps),
        moments_(site.norm != nullptr),
        positive_(static_cast<std::size_t>(units_)),
        negative_(static_cast<std::size_t>(units_)),
        mean_(static_cast<std::size_t>(units_)),
        squares_(static_cast<std::size_t>(units_)) {
    Insertion plain = insertion;
    plain.mean.assign(static_cast<std::size_t>(units_), 0.0);
    plain.variance.assign(static_cast<std::size_t>(units_), 0.0);
    plain.move.clear();
    detail::require_fit(site, plain);
    const std::int64_t p = insertion.inputs, features = p - (site.producer.has_bias() ? 1 : 0);
    std::vector<T> weights, biases;
    for (std::int64_t k = 0; k < units_; ++k) {
      for (std::int64_t i = 0; i < p; ++i) {
        (i < features ? weights : biases)
            .push_back(static_cast<T>(insertion.fan_in[static_cast<std::size_t>(k * p + i)]));
      }
    }
    fan_in_ = from_host<T>(ctx, site.producer.weight().value.shape().with(0, units_), weights);
    if (site.producer.has_bias()) bias_ = from_host<T>(ctx, {units_}, biases);
    fan_out_ = detail::fan_out_slices(ctx, site, plain, 1.0);
  }

  /// Adds one batch: the producer's input and the desired update at the consumer's output.
  void update(Context& ctx, View<const T> unit_input, View<const T> goal) {
    if (units_ == 0) return;
    const Tensor<T> h = pre_activation(ctx, unit_input);
    if (moments_) add_moments(ctx, h);
    const Tensor<T> z = backward_fan_out(ctx, goal, h.shape());
    const bool one_sided = site_.activation == nn::Activation::relu || site_.pools_maximum();
    add_products(ctx, through(ctx, h, T(1)), z, positive_);
    if (one_sided) {
      add_products(ctx, through(ctx, h, T(-1)), z, negative_);
    } else {
      for (std::size_t k = 0; k < negative_.size(); ++k) negative_[k] = -positive_[k];
    }
    if (taps_ > 1) add_norm(ctx, h);
    samples_ += unit_input.extent(0);
  }

  [[nodiscard]] double positive(std::int64_t unit) const { return of(positive_, unit) / count(); }
  [[nodiscard]] double negative(std::int64_t unit) const { return -of(negative_, unit) / count(); }
  /// Of the pre-activation over samples and positions; only for sites with a BatchNorm.
  [[nodiscard]] double mean(std::int64_t unit) const { return of(mean_, unit); }
  [[nodiscard]] double variance(std::int64_t unit) const {
    return rows_ > 0 ? of(squares_, unit) / static_cast<double>(rows_) : 0.0;
  }
  /// Q(A); only if the fan-out has more than one tap.
  [[nodiscard]] double move_norm2() const { return move_squares_ / count(); }

 private:
  static double of(const std::vector<double>& values, std::int64_t unit) {
    return values[static_cast<std::size_t>(unit)];
  }
  [[nodiscard]] double count() const { return static_cast<double>(samples_); }

  /// α ∗ [b 1], the batch's shape with the units as channels.
  [[nodiscard]] Tensor<T> pre_activation(Context& ctx, View<const T> input) const {
    if (site_.producer.is_convolution()) {
      const Extent2 hidden = site_.producer.window().output({input.extent(1), input.extent(2)});
      Tensor<T> h(ctx, {input.extent(0), hidden.y, hidden.x, units_});
      kernels::conv2d_forward<T>(ctx, input, fan_in_, bias_.empty() ? View<const T>() : bias_.view(),
                                 site_.producer.window(), h);
      return h;
    }
    Tensor<T> h(ctx, input.shape().with(input.rank() - 1, units_));
    gemm(ctx, Transpose::no, Transpose::yes, T(1), input.as_matrix(), fan_in_.view(), T(0), h.view().as_matrix());
    if (!bias_.empty()) kernels::add_bias<T>(ctx, bias_, h.view().as_matrix());
    return h;
  }

  /// ωᵀ v at every place from which the consumer reads a unit.
  [[nodiscard]] Tensor<T> backward_fan_out(Context& ctx, View<const T> goal, const Shape& hidden) const {
    const Shape read = site_.pool ? site_.pool->output_shape(hidden) : hidden;
    Tensor<T> z(ctx, read);
    if (site_.consumer.is_convolution()) {
      kernels::conv2d_backward_data<T>(ctx, goal, fan_out_, site_.consumer.window(), z);
    } else {
      const View<const T> v = goal.as_matrix();
      gemm(ctx, Transpose::no, Transpose::no, T(1), v, fan_out_.view(), T(0),
           z.view().reshape({v.extent(0), fan_out_.extent(1)}));
    }
    return z;
  }

  [[nodiscard]] Tensor<T> pooled(Context& ctx, Tensor<T> maps) const {
    if (!site_.pool) return maps;
    const nn::Pass<T> pass{.measuring = true};
    return std::move(site_.pool->forward(ctx, maps, pass).storage);
  }

  /// Activation and pooling of sign · h, as far as they are not linear at 0.
  [[nodiscard]] Tensor<T> through(Context& ctx, const Tensor<T>& h, T sign) const {
    Tensor<T> u = clone(ctx, h);
    kernels::scale<T>(ctx, sign, u.view());
    if (site_.pool_first) u = pooled(ctx, std::move(u));
    if (site_.activation == nn::Activation::relu) {
      kernels::activation_forward<T>(ctx, site_.activation, u, u);
    } else {
      kernels::scale<T>(ctx, static_cast<T>(kernels::slope_at_zero(site_.activation)), u.view());
    }
    if (!site_.pool_first) u = pooled(ctx, std::move(u));
    return u;
  }

  void add_products(Context& ctx, Tensor<T> u, const Tensor<T>& z, std::vector<double>& sums) const {
    for_each(ctx, u.size(), detail::Multiply<T>{u.data(), z.data(), u.data()});
    add_columns(ctx, u, sums);
  }

  void add_columns(Context& ctx, const Tensor<T>& terms, std::vector<double>& sums) const {
    Tensor<T> columns(ctx, {units_});
    kernels::column_sums<T>(ctx, terms.view().as_matrix(), columns, kernels::Accumulate::overwrite);
    const std::vector<T> values = to_host(ctx, columns);
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += static_cast<double>(values[k]);
  }

  /// Joins the batch's means and sums of squared deviations with those before (T. Chan et al., 1983).
  void add_moments(Context& ctx, const Tensor<T>& h) {
    const std::int64_t rows = h.size() / units_;
    if (rows == 0) return;
    const std::size_t units = static_cast<std::size_t>(units_);
    std::vector<double> sums(units, 0.0), deviations(units, 0.0), offsets(units, 0.0);
    add_columns(ctx, h, sums);
    std::vector<T> centre;
    for (const double sum : sums) centre.push_back(static_cast<T>(sum / static_cast<double>(rows)));
    const Tensor<T> shift = from_host<T>(ctx, {units_}, centre);
    Tensor<T> squares(ctx, h.shape());
    for_each(ctx, rows, units_, detail::SquaredDeviation<T>{h.data(), shift.data(), squares.data(), units_});
    add_columns(ctx, squares, deviations);
    const double mine = static_cast<double>(rows_), theirs = static_cast<double>(rows), total = mine + theirs;
    for (std::size_t k = 0; k < units; ++k) {
      const double batch_mean = sums[k] / theirs, difference = batch_mean - mean_[k];
      // The deviations were taken from the rounded mean.
      const double rounding = batch_mean - static_cast<double>(centre[k]);
      squares_[k] += deviations[k] - theirs * rounding * rounding + difference * difference * mine * theirs / total;
      mean_[k] += difference * theirs / total;
    }
    rows_ += rows;
  }

  /// Pooling as the statistics take it, which turning a unit's sign turns along.
  [[nodiscard]] Tensor<T> averaged(Context& ctx, const Tensor<T>& maps) const {
    const auto* maximum = dynamic_cast<const nn::MaxPool2d<T>*>(site_.pool);
    if (!maximum) return pooled(ctx, clone(ctx, maps));
    Tensor<T> means(ctx, maximum->output_shape(maps.shape()));
    kernels::average_pool_forward<T>(ctx, maps, maximum->window(), means);
    return means;
  }

  void add_norm(Context& ctx, const Tensor<T>& h) {
    const Tensor<T> u = averaged(ctx, h);
    if (site_.consumer.is_convolution()) {
      const Window& window = site_.consumer.window();
      const Extent2 outputs = window.output({u.extent(1), u.extent(2)});
      Tensor<T> move(ctx, {u.extent(0), outputs.y, outputs.x, site_.fan_out()});
      kernels::conv2d_forward<T>(ctx, u, fan_out_, View<const T>(), window, move);
      move_squares_ += kernels::sum_squares<T>(ctx, move.view());
    } else {
      const std::int64_t rows = u.size() / fan_out_.extent(1);
      Tensor<T> move(ctx, {rows, site_.fan_out()});
      gemm(ctx, Transpose::no, Transpose::yes, T(1), u.view().reshape({rows, fan_out_.extent(1)}), fan_out_.view(),
           T(0), move.view());
      move_squares_ += kernels::sum_squares<T>(ctx, move.view());
    }
  }

  Site<T> site_;
  std::int64_t units_;
  std::int64_t taps_;
  bool moments_;
  Tensor<T> fan_in_, bias_, fan_out_;
  std::vector<double> positive_, negative_;  // Σ u(h) z and Σ u(-h) z
  std::vector<double> mean_, squares_;
  double move_squares_ = 0.0;
  std::int64_t rows_ = 0;
  std::int64_t samples_ = 0;
};

/// Turns each unit to the sign that brings more. Returns Σ_k max(D⁺_k, D⁻_k), the exact one-sided slope of the loss.
template <Real T>
double choose_signs(const UnitEffects<T>& effects, Insertion& insertion) {
  double total = 0.0;
  for (std::int64_t k = 0; k < insertion.units; ++k) {
    total += std::max(effects.positive(k), effects.negative(k));
    if (effects.negative(k) <= effects.positive(k)) continue;
    const auto turn = [k](std::vector<double>& values, std::int64_t each) {
      for (std::int64_t i = 0; i < each; ++i) values[static_cast<std::size_t>(k * each + i)] *= -1.0;
    };
    turn(insertion.fan_in, insertion.inputs);
    turn(insertion.fan_out, insertion.taps * insertion.outputs);
    if (!insertion.mean.empty()) insertion.mean[static_cast<std::size_t>(k)] *= -1.0;
  }
  return total;
}

}  // namespace meristem::inline MERISTEM_BACKEND::grow
