// Definitions of trainer.hpp.
#pragma once

#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/for_each.hpp>
#include <meristem/kernels/element_loss.cuh>
#include <meristem/kernels/reduce.cuh>
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

/// That a mean loss is not finite.
[[nodiscard]] MERISTEM_INLINE NumericError not_finite(const std::string& where, double mean, double learning_rate) {
  return NumericError(
      concat(where, ": the loss is ", std::isnan(mean) ? "nan" : "infinite", "; lower the learning rate",
             learning_rate > 0.0 ? concat(" (", learning_rate, ")") : std::string(), " or look at the data"));
}

/// The loss of a batch, `loss()`. Throws DataError for labels out of range and NumericError for a mean that is not
/// finite, which names the input, the targets or the parameter that is to blame, if one is; a loss that was left on the
/// device is not looked at. Messages start with `where()`.
template <Real T, class Loss, class Where>
[[nodiscard]] nn::LossValue<T> checked_loss(Context& ctx, nn::Layer<T>& network, const nn::BatchView<T>& batch,
                                            const Loss& loss, const Where& where, double learning_rate = 0.0) {
  nn::LossValue<T> value;
  try {
    value = loss();
  } catch (const DataError& error) {
    throw DataError(concat(where(), ": ", error.message()));
  }
  if (!value.sums.empty() || std::isfinite(value.mean)) return value;
  kernels::check_finite(ctx, batch.inputs, where() + ": the input batch");
  if (batch.has_targets()) kernels::check_finite(ctx, batch.targets, where() + ": the targets");
  nn::check_finite(ctx, network, where());
  throw not_finite(where(), value.mean, learning_rate);
}

template <Real T>
void require_network_of(nn::Layer<T>& network, const optim::Optimizer<T>& optimizer) {
  if (nn::contains(network, optimizer.network())) return;
  throw ArgumentError("training: the optimiser is of another network; give the one that was made for this network");
}

[[nodiscard]] inline double share(std::int64_t correct, std::int64_t judged) {
  return judged > 0 ? static_cast<double>(correct) / static_cast<double>(judged)
                    : std::numeric_limits<double>::quiet_NaN();
}

/// Adds the loss of a step, unless one before failed.
struct AddStepLoss {
  StepSums* sums;
  const kernels::LossSums* batch;
  double rows, samples;
  std::int64_t step;
  const StepNumbers* recorded;  // where the number of the step is in one that is repeated
  MERISTEM_HD void operator()(std::int64_t) const {
    if (sums->held != 0) return;
    const double mean = batch->loss / rows;
    if (batch->bad_row == kernels::LossSums::no_row && mean - mean == 0.0) {
      sums->loss += mean * samples;
      sums->correct += batch->correct;
      return;
    }
    sums->loss = mean;
    sums->bad_step = recorded != nullptr ? recorded->step : step;
    sums->bad_row = batch->bad_row;
    sums->held = 1;
  }
};

template <Real T>
[[nodiscard]] Metrics metrics_of(const nn::LossValue<T>& value, std::int64_t samples) {
  return {.loss = value.mean, .accuracy = share(value.correct, value.judged), .samples = samples};
}

}  // namespace meristem::train::detail

namespace meristem::train {

template <Real T>
Metrics step(Context& ctx, nn::Layer<T>& network, const std::type_identity_t<nn::BatchView<T>>& batch,
             optim::Optimizer<T>& optimizer, const nn::Objective& loss) {
  detail::require_network_of(network, optimizer);
  const nn::Pass<T> pass{};
  const nn::Trace<T> trace = network.forward(ctx, batch.inputs, pass);
  const auto where = [&] { return concat("training: step ", optimizer.steps() + 1); };
  nn::LossValue<T> value = detail::checked_loss<T>(
      ctx, network, batch, [&] { return loss(ctx, trace.output, batch, true); }, where, optimizer.learning_rate());
  (void)network.backward(ctx, batch.inputs, trace, std::move(value.gradient), pass);
  optimizer.step(ctx);
  return detail::metrics_of(value, batch.size());
}

template <Real T>
Trainer<T>::Trainer(Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer, nn::Objective loss,
                    [[maybe_unused]] const TrainerOptions& options)
    : ctx_(&ctx),
      network_(network),
      optimizer_(&optimizer),
      loss_(std::move(loss)),
      sums_(zeros<detail::StepSums>(ctx, {1})) {
  detail::require_network_of(network, optimizer);
#if MERISTEM_GPU
  if (options.graphs) recorded_ = std::make_unique<detail::RecordedSteps<T>>(ctx);
#endif
}

template <Real T>
nn::LossValue<T> Trainer<T>::run(const nn::BatchView<T>& batch, const Step& step) {
  nn::Layer<T>& network = *network_;
  const nn::Pass<T> pass{};
  const nn::Trace<T> trace = network.forward(*ctx_, batch.inputs, pass);
  nn::LossValue<T> value = detail::checked_loss<T>(
      *ctx_, network, batch, [&] { return loss_.template on_device<T>(*ctx_, trace.output, batch, true); },
      [&] { return concat("training: step ", step.number); }, optimizer_->learning_rate());
  if (!value.sums.empty()) {
    for_each(*ctx_, 1,
             detail::AddStepLoss{sums_.data(), value.sums.data(), static_cast<double>(value.rows),
                                 static_cast<double>(batch.size()), step.number, step.recorded});
  }
  (void)network.backward(*ctx_, batch.inputs, trace, std::move(value.gradient), pass);
  if (!step.prepared) optimizer_->prepare(*ctx_);
  optimizer_->start(*ctx_, &sums_.data()->held);
  return value;
}

template <Real T>
void Trainer<T>::plain_step(const nn::BatchView<T>& batch, bool prepared) {
  const std::int64_t number = optimizer_->steps() + (prepared ? 0 : 1);
  nn::LossValue<T> value;
  try {
    value = run(batch, {.number = number, .prepared = prepared});
  } catch (...) {
    optimizer_->set_steps(number - 1);
    throw;
  }
  if (value.sums.empty()) {
    known_ += detail::metrics_of(value, batch.size());
  } else {
    samples_ += batch.size();
    judged_ += value.judged;
  }
}

#if MERISTEM_GPU
template <Real T>
void Trainer<T>::graph_step(const nn::BatchView<T>& batch) {
  detail::RecordedSteps<T>& recorded = *recorded_;
  recorded.forget_unless(*network_);
  std::vector<Shape> shapes = detail::shapes_of(batch);
  detail::RecordedStep<T>* found = recorded.find(shapes);
  bool prepared = false;
  if (found != nullptr) {
    optimizer_->prepare(*ctx_);
    prepared = true;
    if (optimizer_->launch() != recorded.optimizer) {
      recorded.forget();
      found = nullptr;
    }
  }
  if (found == nullptr) {
    if (recorded.steps.size() == recorded.most_shapes) {
      plain_step(batch, prepared);
      return;
    }
    // The recorded step will find the memory that this one took and gave back.
    const std::int64_t read_before = known_.samples;
    std::size_t kept = 0;
    try {
      kept = recorded.arena.run(true, [&] { plain_step(batch, prepared); });
    } catch (...) {
      recorded.forget();  // it may keep what lies where a graph writes
      throw;
    }
    if (known_.samples != read_before) {
      plain_because_ = "the loss is read in every step";
      recorded_.reset();
    } else if (kept > 0 || (!recorded.steps.empty() && optimizer_->launch() != recorded.optimizer)) {
      // What it made to keep, as a first step makes moments, may lie where a graph writes; or the graphs read a table
      // of the optimiser's that is gone.
      recorded.forget();
    } else {
      recorded.optimizer = optimizer_->launch();
      recorded.steps.push_back({.shapes = std::move(shapes), .graph = {}, .batch = {}});
    }
    return;
  }
  const auto upload = [&](std::uint64_t random_shift) {
    const detail::StepNumbers numbers{optimizer_->steps(), random_shift};
    meristem::detail::copy_bytes(*ctx_, recorded.numbers.data(), &numbers, sizeof numbers);
  };
  if (!found->graph) {
    try {
      found->batch = nn::copy_of(*ctx_, batch);
      const auto* const numbers = recorded.numbers.data();
      found->graph.emplace(*ctx_, recorded.arena, &numbers->random_shift, [&] {
        found->judged = run(found->batch, {.number = 0, .prepared = true, .recorded = numbers}).judged;
      });
    } catch (const std::exception& error) {
      plain_because_ = error.what();
      recorded_.reset();
      plain_step(batch, true);
      return;
    }
  } else {
    detail::copy_batch(*ctx_, batch, found->batch);
  }
  upload(found->graph->random_shift(*ctx_));
  found->graph->launch(*ctx_);
  samples_ += batch.size();
  judged_ += found->judged;
}
#endif

template <Real T>
void Trainer<T>::step(const std::type_identity_t<nn::BatchView<T>>& batch) {
#if MERISTEM_GPU
  if (recorded_ && detail::is_contiguous(batch)) {
    graph_step(batch);
    return;
  }
#endif
  plain_step(batch, false);
}

template <Real T>
Metrics Trainer<T>::metrics() {
  const detail::StepSums sums = to_host(*ctx_, sums_)[0];
  meristem::detail::fill_bytes(*ctx_, sums_.data(), 0, sizeof sums);  // where graphs find it, too
  Metrics result = std::exchange(known_, {});
  const std::int64_t samples = std::exchange(samples_, 0), judged = std::exchange(judged_, 0);
  if (sums.held != 0) {
    optimizer_->set_steps(sums.bad_step - 1);
    const std::string where = concat("training: step ", sums.bad_step);
    if (sums.bad_row != kernels::LossSums::no_row) {
      throw DataError(
          concat(where, ": label ", sums.bad_row,
                 " of the batch is out of range; classes are numbered from 0 to one less than the network has outputs, "
                 "binary labels are 0 and 1; check the labels, or give the last layer more outputs"));
    }
    network_->visit_parameters([&](nn::Parameter<T>& parameter) {
      kernels::check_finite(*ctx_, parameter.value.view(), concat(where, ": ", parameter.name));
    });
    throw detail::not_finite(where, sums.loss, optimizer_->learning_rate());
  }
  if (samples > 0) {
    result += {.loss = sums.loss / static_cast<double>(samples),
               .accuracy = detail::share(sums.correct, judged),
               .samples = samples};
  }
  return result;
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
    const auto loss_of_batch = [&] { return loss(ctx, trace.output, batch, false); };
    Metrics metrics = detail::metrics_of(detail::checked_loss<T>(ctx, network, batch, loss_of_batch, where), samples);
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
