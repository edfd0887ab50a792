// One training step, one evaluation.
#pragma once

#include <cmath>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>

#include <meristem/core/tensor.hpp>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/finite.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::inline MERISTEM_BACKEND::train {

/// Mean loss and share of correct answers over some samples.
struct Metrics {
  double loss = 0.0;
  double accuracy = 0.0;  ///< in [0, 1]
  std::int64_t samples = 0;

  /// Joins the metrics of two sets of samples.
  Metrics& operator+=(const Metrics& other) {
    const double total = static_cast<double>(samples + other.samples);
    if (total > 0.0) {
      const double mine = static_cast<double>(samples) / total, theirs = static_cast<double>(other.samples) / total;
      loss = mine * loss + theirs * other.loss;
      accuracy = mine * accuracy + theirs * other.accuracy;
    }
    samples += other.samples;
    return *this;
  }

  friend std::ostream& operator<<(std::ostream& out, const Metrics& metrics) {
    return out << "loss " << metrics.loss << ", accuracy " << 100.0 * metrics.accuracy << " %";
  }
};

namespace detail {
/// The loss of a batch. Throws DataError for labels out of range and NumericError for a mean that is not finite, which
/// names the input or the parameter that is to blame, if one is. Messages start with `where()`.
template <Real T, class Where>
[[nodiscard]] nn::LossValue<T> checked_loss(Context& ctx, nn::Layer<T>& network, View<const T> inputs,
                                            View<const T> output, View<const std::int32_t> labels,
                                            const nn::CrossEntropy& loss, bool with_gradient, const Where& where,
                                            double learning_rate = 0.0) {
  nn::LossValue<T> value;
  try {
    value = loss.template operator()<T>(ctx, output, labels, with_gradient);
  } catch (const DataError& error) {
    throw DataError(concat(where(), ": ", error.message()));
  }
  if (std::isfinite(value.mean)) return value;
  kernels::check_finite(ctx, inputs, where() + ": the input batch");
  nn::check_finite(ctx, network, where());
  throw NumericError(
      concat(where(), ": the loss is ", std::isnan(value.mean) ? "nan" : "infinite", "; lower the learning rate",
             learning_rate > 0.0 ? concat(" (", learning_rate, ")") : std::string(), " or look at the data"));
}
}  // namespace detail

/// Forward, backward and one step of the optimiser on a batch with images and labels. The optimiser is of the network
/// or of a part of it, which alone learns then. Throws ArgumentError if it is of another one, DataError for labels out
/// of range, and NumericError if the loss is not finite; it names the input or parameter that is to blame, if one is.
/// No weight has changed then; running statistics have seen the batch. Gradients are not looked at: weights that they
/// spoil are told by the next step or evaluation and by what saves the network.
template <Real T, class Batch>
Metrics step(Context& ctx, nn::Layer<T>& network, const Batch& batch, optim::Optimizer<T>& optimizer,
             const nn::CrossEntropy& loss = {}) {
  if (!nn::contains(network, optimizer.network())) {
    throw ArgumentError("training: the optimiser is of another network; give the one that was made for this network");
  }
  const nn::Pass<T> pass{};
  const View<const T> inputs = batch.images;
  const nn::Trace<T> trace = network.forward(ctx, inputs, pass);
  const auto where = [&] { return concat("training: step ", optimizer.steps() + 1); };
  nn::LossValue<T> value = detail::checked_loss<T>(ctx, network, inputs, trace.output, batch.labels, loss, true, where,
                                                   optimizer.learning_rate());
  const std::int64_t samples = inputs.extent(0);
  (void)network.backward(ctx, inputs, trace, std::move(value.gradient), pass);
  optimizer.step(ctx);
  return {value.mean, static_cast<double>(value.correct) / static_cast<double>(samples), samples};
}

/// Loss and accuracy over a whole set, in evaluation mode. Throws DataError for a set without samples and for labels
/// out of range, and NumericError for a loss that is not finite: it names the batch of inputs or the parameter that is
/// to blame, if one is.
template <Real T, class Set>
Metrics evaluate(Context& ctx, nn::Layer<T>& network, const Set& set, std::int64_t batch_size = 1000,
                 const nn::CrossEntropy& loss = {}) {
  const nn::Pass<T> pass{.mode = nn::Mode::evaluation};
  Metrics total;
  for (const auto& batch : set.template batches<T>(ctx, batch_size)) {
    const View<const T> inputs = batch.images;
    const nn::Trace<T> trace = network.forward(ctx, inputs, pass);
    const std::int64_t samples = inputs.extent(0);
    const auto where = [&] {
      return concat("evaluation: samples ", total.samples, " to ", total.samples + samples - 1);
    };
    const nn::LossValue<T> value =
        detail::checked_loss<T>(ctx, network, inputs, trace.output, batch.labels, loss, false, where);
    total += {value.mean, static_cast<double>(value.correct) / static_cast<double>(samples), samples};
  }
  if (total.samples == 0) throw DataError("evaluation: the data set is empty; it needs at least one sample");
  return total;
}

}  // namespace meristem::inline MERISTEM_BACKEND::train
