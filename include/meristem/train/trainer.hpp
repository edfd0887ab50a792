// One training step, one evaluation.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <type_traits>

#include <meristem/core/tensor.hpp>
#include <meristem/kernels/loss_sums.cuh>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/finite.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/optimizer.hpp>
#include <meristem/train/recorded_steps.hpp>

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
  [[nodiscard]] double r2() const;

  /// Joins the metrics of two sets of samples.
  Metrics& operator+=(const Metrics& other);

  friend std::ostream& operator<<(std::ostream& out, const Metrics& metrics) {
    out << "loss " << metrics.loss;
    if (!std::isnan(metrics.accuracy)) out << ", accuracy " << 100.0 * metrics.accuracy << " %";
    if (metrics.compared > 0) {
      out << ", mean absolute error " << metrics.mean_absolute_error() << ", R² " << metrics.r2();
    }
    return out;
  }
};

/// Forward, backward and one step of the optimiser on a batch. The optimiser is of the network or of a part of it,
/// which alone learns then. Throws ArgumentError if it is of another one, DataError for labels out of range, and
/// NumericError if the loss is not finite; it names the input or parameter that is to blame, if one is. No weight has
/// changed then; running statistics have seen the batch. Gradients are not looked at: weights that they spoil are told
/// by the next step or evaluation and by what saves the network.
template <Real T>
Metrics step(Context& ctx, nn::Layer<T>& network, const std::type_identity_t<nn::BatchView<T>>& batch,
             optim::Optimizer<T>& optimizer, const nn::Objective& loss = {});

namespace detail {
/// What steps that nobody waits for add up to.
struct StepSums {
  double loss;  // Σ mean loss · samples; of a failed step its mean
  std::int64_t correct;
  std::int64_t bad_step;  // the first that failed: its loss is not finite, or a label is out of range
  std::int64_t bad_row;   // of its labels
  std::int32_t held;      // 1 after a step that failed
};
}  // namespace detail

/// Settings of a Trainer.
struct TrainerOptions {
  /// On a GPU, records a step as a CUDA graph and repeats it with one launch: for networks so small that starting their
  /// kernels takes longer than running them. It gives the bits that plain steps give. Of steps with batches of one
  /// shape the first is plain, the next is recorded, those behind it repeat that; so again after the network has grown.
  /// Steps in which something is made to be kept, such as moments, stay plain, too. Graphs keep the memory of a step's
  /// activations to themselves.
  ///
  /// Not for layers, losses and optimisers of your own whose host code computes something else from step to step, or is
  /// told of each: it does not run in steps that are repeated. Whatever waits for the device, reads the host's memory,
  /// draws from `next_random_stream` or keeps memory cannot be recorded, and steps stay plain
  /// (`Trainer::plain_because`).
  bool graphs = false;
};

/// Training steps that the device is not waited for: their losses add up where they are until `metrics` asks.
///
///   Trainer<float> trainer(ctx, net, sgd);
///   for (const auto& batch : train.batches<float>(ctx, 128)) trainer.step(batch);
///   std::cout << trainer.metrics();
///
/// A loss of your own that is no `PerSample` and has no `on_device` is read, and waited for, in every step. The network
/// may be moved, and may grow between two steps.
template <Real T>
class Trainer {
 public:
  /// The Context and the optimiser must outlive it.
  Trainer(Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer, nn::Objective loss = {},
          const TrainerOptions& options = {});

  /// As `train::step`. After a loss that is not finite, or a label out of range, no weight changes any more until
  /// `metrics` has told of it. Throws as `train::step` what is known without waiting.
  void step(const std::type_identity_t<nn::BatchView<T>>& batch);

  /// Mean loss and accuracy over the steps since the last call. Waits for the device. Throws NumericError and DataError
  /// as `train::step`, but names no input batch; the message names the step, and the weights and the number of the
  /// optimiser's steps are those before it; gradients and running statistics are not. The metrics begin anew then, too.
  [[nodiscard]] Metrics metrics();

  /// Why steps are not recorded though `TrainerOptions::graphs` asks for it; empty where they are, or none has been
  /// yet.
  [[nodiscard]] const std::string& plain_because() const noexcept { return plain_because_; }

 private:
  /// Forward, loss, backward and the optimiser's step, which may be ready already.
  struct Step {
    std::int64_t number = 0;
    bool prepared = false;
    const detail::StepNumbers* recorded = nullptr;
  };
  nn::LossValue<T> run(const nn::BatchView<T>& batch, const Step& step);
  void plain_step(const nn::BatchView<T>& batch, bool prepared);
#if MERISTEM_GPU
  void graph_step(const nn::BatchView<T>& batch);
#endif

  Context* ctx_;
  nn::LayerHandle<T> network_;
  optim::Optimizer<T>* optimizer_;
  nn::Objective loss_;
  Tensor<detail::StepSums> sums_;
  std::string plain_because_;
#if MERISTEM_GPU
  std::unique_ptr<detail::RecordedSteps<T>> recorded_;  // null where steps are plain
#endif
  Metrics known_;                          // of steps whose losses were read
  std::int64_t samples_ = 0, judged_ = 0;  // of the others
};

template <class Network, class... Rest>
Trainer(Context&, Network&, Rest&&...) -> Trainer<typename Network::value_type>;

/// Loss, accuracy and errors over a whole set, in evaluation mode. Throws DataError for a set without samples and for
/// labels out of range, and NumericError for a loss that is not finite: it names the batch of inputs or the parameter
/// that is to blame, if one is.
template <Real T>
Metrics evaluate(Context& ctx, nn::Layer<T>& network, const std::type_identity_t<nn::BatchSource<T>>& set,
                 std::int64_t batch_size = 1000, const nn::Objective& loss = {});

}  // namespace meristem::train

#if !defined(MERISTEM_COMPILED)
#include <meristem/train/trainer_impl.hpp>
#endif
