// One training step, one evaluation.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <ostream>
#include <string>
#include <type_traits>
#include <utility>

#include <meristem/core/tensor.hpp>
#include <meristem/kernels/element_loss.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/finite.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::train {

/// Mean loss over some samples, and how far the answers were right.
struct Metrics {
  double loss = 0.0;
  double accuracy = 0.0;  ///< share of right answers, in [0, 1]; NaN for a loss that knows no right and wrong
  std::int64_t samples = 0;
  kernels::ErrorSums errors = {};  ///< of outputs against targets of their shape, if the samples have such
  std::int64_t compared = 0;       ///< numbers that went into `errors`

  /// Mean of |output - target|; NaN without targets.
  [[nodiscard]] double mean_absolute_error() const { return errors.absolute / static_cast<double>(compared); }
  /// Root of the mean of (output - target)²; NaN without targets.
  [[nodiscard]] double root_mean_squared_error() const {
    return std::sqrt(errors.squares / static_cast<double>(compared));
  }
  /// Coefficient of determination R² = 1 - Σ (output - target)² / Σ (target - mean of the targets)², all outputs
  /// together; NaN without targets, and for targets that are all the same.
  [[nodiscard]] double r2() const {
    const double spread = errors.target_squares - errors.targets * errors.targets / static_cast<double>(compared);
    return spread > 0.0 ? 1.0 - errors.squares / spread : std::numeric_limits<double>::quiet_NaN();
  }

  /// Joins the metrics of two sets of samples.
  Metrics& operator+=(const Metrics& other) {
    const double total = static_cast<double>(samples + other.samples);
    if (total > 0.0) {
      const double mine = static_cast<double>(samples) / total, theirs = static_cast<double>(other.samples) / total;
      loss = mine * loss + theirs * other.loss;
      accuracy = mine * accuracy + theirs * other.accuracy;
    }
    samples += other.samples;
    errors = {errors.absolute + other.errors.absolute, errors.squares + other.errors.squares,
              errors.targets + other.errors.targets, errors.target_squares + other.errors.target_squares};
    compared += other.compared;
    return *this;
  }

  friend std::ostream& operator<<(std::ostream& out, const Metrics& metrics) {
    out << "loss " << metrics.loss;
    if (!std::isnan(metrics.accuracy)) out << ", accuracy " << 100.0 * metrics.accuracy << " %";
    if (metrics.compared > 0) {
      out << ", mean absolute error " << metrics.mean_absolute_error() << ", R² " << metrics.r2();
    }
    return out;
  }
};

namespace detail {

/// The loss of a batch. Throws DataError for labels out of range and NumericError for a mean that is not finite, which
/// names the input, the targets or the parameter that is to blame, if one is. Messages start with `where()`.
template <Real T, class Where>
[[nodiscard]] nn::LossValue<T> checked_loss(Context& ctx, nn::Layer<T>& network, const nn::BatchView<T>& batch,
                                            View<const T> output, const nn::Objective& loss, bool with_gradient,
                                            const Where& where, double learning_rate = 0.0) {
  nn::LossValue<T> value;
  try {
    value = loss(ctx, output, batch, with_gradient);
  } catch (const DataError& error) {
    throw DataError(concat(where(), ": ", error.message()));
  }
  if (std::isfinite(value.mean)) return value;
  kernels::check_finite(ctx, batch.inputs, where() + ": the input batch");
  if (batch.has_targets()) kernels::check_finite(ctx, batch.targets, where() + ": the targets");
  nn::check_finite(ctx, network, where());
  throw NumericError(
      concat(where(), ": the loss is ", std::isnan(value.mean) ? "nan" : "infinite", "; lower the learning rate",
             learning_rate > 0.0 ? concat(" (", learning_rate, ")") : std::string(), " or look at the data"));
}

template <Real T>
[[nodiscard]] Metrics metrics_of(const nn::LossValue<T>& value, std::int64_t samples) {
  const double accuracy = value.judged > 0 ? static_cast<double>(value.correct) / static_cast<double>(value.judged)
                                           : std::numeric_limits<double>::quiet_NaN();
  return {.loss = value.mean, .accuracy = accuracy, .samples = samples};
}

}  // namespace detail

/// Forward, backward and one step of the optimiser on a batch. The optimiser is of the network or of a part of it,
/// which alone learns then. Throws ArgumentError if it is of another one, DataError for labels out of range, and
/// NumericError if the loss is not finite; it names the input or parameter that is to blame, if one is. No weight has
/// changed then; running statistics have seen the batch. Gradients are not looked at: weights that they spoil are told
/// by the next step or evaluation and by what saves the network.
template <Real T>
Metrics step(Context& ctx, nn::Layer<T>& network, const std::type_identity_t<nn::BatchView<T>>& batch,
             optim::Optimizer<T>& optimizer, const nn::Objective& loss = {}) {
  if (!nn::contains(network, optimizer.network())) {
    throw ArgumentError("training: the optimiser is of another network; give the one that was made for this network");
  }
  const nn::Pass<T> pass{};
  const nn::Trace<T> trace = network.forward(ctx, batch.inputs, pass);
  const auto where = [&] { return concat("training: step ", optimizer.steps() + 1); };
  nn::LossValue<T> value =
      detail::checked_loss<T>(ctx, network, batch, trace.output, loss, true, where, optimizer.learning_rate());
  (void)network.backward(ctx, batch.inputs, trace, std::move(value.gradient), pass);
  optimizer.step(ctx);
  return detail::metrics_of(value, batch.size());
}

/// Loss, accuracy and errors over a whole set, in evaluation mode. Throws DataError for a set without samples and for
/// labels out of range, and NumericError for a loss that is not finite: it names the batch of inputs or the parameter
/// that is to blame, if one is.
template <Real T>
Metrics evaluate(Context& ctx, nn::Layer<T>& network, const std::type_identity_t<nn::BatchSource<T>>& set,
                 std::int64_t batch_size = 1000, const nn::Objective& loss = {}) {
  const nn::Pass<T> pass{.mode = nn::Mode::evaluation, .forward_only = true};
  Metrics total;
  set.for_each_batch(ctx, batch_size, [&](const nn::BatchView<T>& batch) {
    const nn::Trace<T> trace = network.forward(ctx, batch.inputs, pass);
    const std::int64_t samples = batch.size();
    const auto where = [&] {
      return concat("evaluation: samples ", total.samples, " to ", total.samples + samples - 1);
    };
    Metrics metrics =
        detail::metrics_of(detail::checked_loss<T>(ctx, network, batch, trace.output, loss, false, where), samples);
    if (batch.has_targets() && batch.targets.shape() == trace.output.shape()) {
      metrics.errors = kernels::error_sums<T>(ctx, trace.output, batch.targets);
      metrics.compared = batch.targets.size();
    }
    total += metrics;
  });
  if (total.samples == 0) throw DataError("evaluation: the data set is empty; it needs at least one sample");
  return total;
}

}  // namespace meristem::train
