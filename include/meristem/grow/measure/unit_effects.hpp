// What units that were solved for do before they are inserted: one pass over samples gives their first-order effect
// with either sign, their mean and variance, and the norm of the move they make together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/measure/consumer_products.hpp>
#include <meristem/grow/measure/unit_path.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

namespace detail {

/// out = a b, elementwise.
template <Real T>
struct Multiply {
  const T* a;
  const T* b;
  T* out;
  MERISTEM_HD void operator()(std::int64_t i) const { out[i] = a[i] * b[i]; }
};

/// out = (h - mean of its column)², elementwise, for the sums of the columns of h.
template <Real T>
struct SquaredDeviation {
  const T* h;
  const T* sums;
  T* out;
  std::int64_t rows, columns;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t column) const;
};

/// First-order decreases of the loss that units bring with either sign, D⁺_k = (1/n) Σ u(α_kᵀ[b 1]) ω_kᵀ v and D⁻_k
/// with both signs turned: v is the desired update, u the activation's limit at small amplitudes (a ReLU stays one,
/// others are their slope at 0) and the site's pooling. Without ReLU and maximum the two are equal; D⁺ + D⁻ is what a
/// unit without them would bring. Besides, the mean and variance of α_kᵀ[b 1], and
/// Q(A) = (1/n) ‖Σ_k ω_k ∗ (α_k ∗ [b 1])‖², the squared norm of the move as the statistics see it: without activation,
/// and with means for maxima; with a metric E of the outputs, the sum of mᵀ E m over the move's places m. Streaming.
template <Real T>
class UnitEffects {
 public:
  /// What to gather beside the first-order decreases.
  struct Options {
    bool norm2 = false;              ///< Q(A)
    bool companion = false;          ///< G, see `consumer_cross`
    View<const double> metric = {};  ///< E (q, q), symmetric; of rank 0 for the plain norm
    std::size_t reader = 0;          ///< of a stream: to which the units' effects are measured
  };

  /// Q(A) is gathered where the fan-out has several taps. Throws ShapeError for units that do not fit the site.
  UnitEffects(Context& ctx, const Site<T>& site, const Insertion& insertion);

  UnitEffects(Context& ctx, const Site<T>& site, const Insertion& insertion, const Options& options);

  /// Adds one batch: the producer's input and the desired update at the consumer's output; for the companion also what
  /// the consumer reads.
  void update(Context& ctx, View<const T> unit_input, View<const T> goal, View<const T> consumer_input = {});

  // The first of these waits for the device.
  [[nodiscard]] double positive(std::int64_t unit) const { return of(positive_, unit) / count(); }
  [[nodiscard]] double negative(std::int64_t unit) const { return -of(negative_, unit) / count(); }
  /// Of the pre-activation over samples and positions; only with a BatchNorm between the units and the consumer.
  [[nodiscard]] double mean(std::int64_t unit) const { return of(mean_, unit); }
  [[nodiscard]] double variance(std::int64_t unit) const {
    const double squares = of(squares_, unit);
    return rows_ > 0 ? squares / static_cast<double>(rows_) : 0.0;
  }
  /// Q(A), if it was asked for.
  [[nodiscard]] double move_norm2() const {
    read();
    return move_squares_here_ / count();
  }
  /// G = (1/n) Σ (Σ_k ω_k ∗ (α_k ∗ [b 1])) B1ᵀ (q, d), if it was asked for: what the units do within the span of
  /// today's weights.
  [[nodiscard]] Tensor<double> consumer_cross(Context& ctx) const;

 private:
  /// Sums over the rows of one batch that have not been read.
  struct Unread {
    enum { pre_activation, squared_deviation, plus, minus, count };
    Tensor<T> sums;  // (count, units)
    std::int64_t rows = 0;
  };

  [[nodiscard]] double of(const std::vector<double>& values, std::int64_t unit) const {
    read();
    return values[static_cast<std::size_t>(unit)];
  }
  [[nodiscard]] double count() const { return static_cast<double>(samples_); }

  void add_squares(Context& ctx, const Tensor<T>& move);

  static void add_products(Context& ctx, Tensor<T> u, const Tensor<T>& z, View<T> sums);

  static void add_moments(Context& ctx, const Tensor<T>& h, Unread& batch);

  void read() const;

  /// Joins a batch's means and sums of squared deviations with those before (T. Chan et al., 1983).
  void join_moments(const T* sums, const T* squared_deviations, std::int64_t rows) const;

  UnitPath<T> path_;
  Options options_;
  bool moments_;
  Context* ctx_;
  mutable std::vector<Unread> unread_;
  mutable std::vector<double> positive_, negative_;  // Σ u(h) z and Σ u(-h) z
  mutable std::vector<double> mean_, squares_;
  mutable std::int64_t rows_ = 0;  // of the moments
  Tensor<double> consumer_cross_;
  Tensor<T> metric_;
  Tensor<double> move_squares_;             // (1)
  mutable double move_squares_here_ = 0.0;  // as of the last reading
  std::int64_t samples_ = 0;
};

}  // namespace detail

/// Turns each unit to the sign that brings more. Returns max(D⁺_k, D⁻_k) of each; they add up to the exact one-sided
/// slope of the loss.
template <Real T>
std::vector<double> choose_signs(Context& ctx, const std::vector<detail::UnitEffects<T>>& effects,
                                 Insertion& insertion);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/measure/unit_effects_impl.hpp>
#endif
