// Definitions of trainer.hpp.
#pragma once

#include <limits>
#include <string>
#include <utility>

#include <meristem/train/trainer.hpp>

namespace meristem::train {

MERISTEM_INLINE double Metrics::r2() const {
  const double spread = errors.target_squares - errors.targets * errors.targets / static_cast<double>(compared);
  return spread > 0.0 ? 1.0 - errors.squares / spread : std::numeric_limits<double>::quiet_NaN();
}

MERISTEM_INLINE Metrics& Metrics::operator+=(const Metrics& other) {
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

}  // namespace meristem::train

namespace meristem::train::detail {

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

}  // namespace meristem::train::detail

namespace meristem::train {

template <Real T>
Metrics step(Context& ctx, nn::Layer<T>& network, const std::type_identity_t<nn::BatchView<T>>& batch,
             optim::Optimizer<T>& optimizer, const nn::Objective& loss) {
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

template <Real T>
Metrics evaluate(Context& ctx, nn::Layer<T>& network, const std::type_identity_t<nn::BatchSource<T>>& set,
                 std::int64_t batch_size, const nn::Objective& loss) {
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
