// Losses: the mean over the samples of a batch and its gradient at the network's output.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/loss_sums.cuh>
#include <meristem/kernels/sample_loss.cuh>
#include <meristem/nn/batch.hpp>

namespace meristem::nn {

/// A loss, and its gradient at the network's output.
template <Real T>
struct LossValue {
  double mean = 0.0;         ///< over the samples of the batch
  std::int64_t correct = 0;  ///< answers that are right
  std::int64_t judged = 0;   ///< answers that are right or wrong: 0 for losses that know no right and wrong
  Tensor<T> gradient;        ///< of `mean`, in the shape of the output; empty if not asked for
  /// Of a loss that has not been read (Objective::on_device): the sums (1) that `mean` and `correct` follow from; empty
  /// otherwise.
  Tensor<kernels::LossSums> sums = {};
  std::int64_t rows = 0;  ///< what `sums.loss` is divided by
};

namespace detail {

/// The value with room for the gradient.
template <Real T>
[[nodiscard]] LossValue<T> room_for_gradient(Context& ctx, const View<const T>& output, bool with_gradient) {
  LossValue<T> value;
  if (with_gradient) value.gradient = Tensor<T>(ctx, output.shape());
  return value;
}

/// The gradient's view, or none where it was not asked for.
template <Real T>
[[nodiscard]] View<T> gradient_of(LossValue<T>& value, bool with_gradient) {
  return with_gradient ? value.gradient.view() : View<T>();
}

/// Reads a loss that was left on the device. Throws what `bad_row(row)` throws for a label out of range.
template <Real T, class BadRow>
[[nodiscard]] LossValue<T> read(Context& ctx, LossValue<T> value, const BadRow& bad_row) {
  const kernels::LossSums sums = to_host(ctx, value.sums)[0];
  if (sums.bad_row != kernels::LossSums::no_row) bad_row(sums.bad_row);
  value.mean = sums.loss / static_cast<double>(value.rows);
  value.correct = sums.correct;
  value.sums = {};
  return value;
}

/// The same for a loss without labels.
template <Real T>
[[nodiscard]] LossValue<T> read(Context& ctx, LossValue<T> value) {
  return read(ctx, std::move(value), [](std::int64_t) {});
}

}  // namespace detail

/// Softmax and cross-entropy of logits (n, ..., classes), the mean over all rows, against labels (n, ...) in
/// [0, classes) or, where a batch has none, against targets of the logits' shape: probabilities of the classes. With
/// label smoothing ε the target is 1 - ε + ε/classes at the label and ε/classes elsewhere (C. Szegedy et al., 2016).
/// An answer is right if the largest logit is at the label.
struct CrossEntropy final {
  double label_smoothing = 0.0;

  template <Real T>
  [[nodiscard]] LossValue<T> operator()(Context& ctx, View<const T> logits, View<const std::int32_t> labels,
                                        bool with_gradient = true) const;

  template <Real T>
  [[nodiscard]] LossValue<T> operator()(Context& ctx, View<const T> logits,
                                        const std::type_identity_t<BatchView<T>>& batch,
                                        bool with_gradient = true) const;

  /// The same, not read: nothing waits for the device, and no label is checked.
  template <Real T>
  [[nodiscard]] LossValue<T> on_device(Context& ctx, View<const T> logits,
                                       const std::type_identity_t<BatchView<T>>& batch,
                                       bool with_gradient = true) const;

 private:
  template <Real T>
  [[nodiscard]] LossValue<T> of_targets(Context& ctx, View<const T> logits, const BatchView<T>& batch,
                                        bool with_gradient) const;
};

/// Mean over samples of the squared distance Σ (output - target)².
struct SquaredError final {
  template <Real T>
  [[nodiscard]] LossValue<T> operator()(Context& ctx, View<const T> output, View<const std::type_identity_t<T>> target,
                                        bool with_gradient = true) const;

  template <Real T>
  [[nodiscard]] LossValue<T> operator()(Context& ctx, View<const T> output,
                                        const std::type_identity_t<BatchView<T>>& batch,
                                        bool with_gradient = true) const;

  template <Real T>
  [[nodiscard]] LossValue<T> on_device(Context& ctx, View<const T> output,
                                       const std::type_identity_t<BatchView<T>>& batch,
                                       bool with_gradient = true) const;

 private:
  template <Real T>
  [[nodiscard]] LossValue<T> sums_of(Context& ctx, View<const T> output, const View<const T>& target,
                                     bool with_gradient) const;
};

/// Mean over samples of Σ e²/2 where |e| ≤ delta, else Σ delta (|e| - delta/2), e = output - target (P. Huber, 1964).
struct Huber final {
  double delta = 1.0;

  template <Real T>
  [[nodiscard]] LossValue<T> operator()(Context& ctx, View<const T> output,
                                        const std::type_identity_t<BatchView<T>>& batch,
                                        bool with_gradient = true) const;

  template <Real T>
  [[nodiscard]] LossValue<T> on_device(Context& ctx, View<const T> output,
                                       const std::type_identity_t<BatchView<T>>& batch,
                                       bool with_gradient = true) const;
};

/// Mean over samples of Σ -t log p - (1 - t) log(1 - p), p = 1 / (1 + exp(-output)), against targets t in [0, 1] or
/// labels 0 and 1, one for each output. An answer is right if all outputs of the sample lie on the side of 0 on which
/// their targets lie of 1/2.
struct BinaryCrossEntropy final {
  template <Real T>
  [[nodiscard]] LossValue<T> operator()(Context& ctx, View<const T> output,
                                        const std::type_identity_t<BatchView<T>>& batch,
                                        bool with_gradient = true) const;

  template <Real T>
  [[nodiscard]] LossValue<T> on_device(Context& ctx, View<const T> output,
                                       const std::type_identity_t<BatchView<T>>& batch,
                                       bool with_gradient = true) const;
};

/// The mean over samples of a function of your own, which runs on the device, a thread for each sample:
///
///   struct Pinball {
///     double tau;
///     template <class T>
///     MERISTEM_HD T operator()(const T* output, const T* target, std::int64_t outputs, T* gradient) const;
///   };
///   Objective loss = PerSample{Pinball{0.9}};
///
/// It returns the sample's loss and writes the gradient at its `outputs` outputs, unless `gradient` is null. `target`
/// points at the sample's targets, and is null for a batch without.
template <class F>
struct PerSample {
  F function;

  template <Real T>
  [[nodiscard]] LossValue<T> operator()(Context& ctx, View<const T> output,
                                        const std::type_identity_t<BatchView<T>>& batch,
                                        bool with_gradient = true) const {
    return detail::read(ctx, on_device(ctx, output, batch, with_gradient));
  }

  template <Real T>
  [[nodiscard]] LossValue<T> on_device(Context& ctx, View<const T> output,
                                       const std::type_identity_t<BatchView<T>>& batch,
                                       bool with_gradient = true) const {
    LossValue<T> value = detail::room_for_gradient(ctx, output, with_gradient);
    value.sums =
        kernels::sample_loss_sums<F, T>(ctx, function, output, batch.has_targets() ? batch.targets : View<const T>(),
                                        detail::gradient_of(value, with_gradient));
    value.rows = output.extent(0);
    return value;
  }
};

/// Whether `loss(ctx, View<const T> output, const BatchView<T>& batch, bool with_gradient)` is a LossValue<T>.
template <class Loss, class T>
concept LossOf = requires(const Loss& loss, Context& ctx, View<const T> output, const BatchView<T>& batch) {
  { loss(ctx, output, batch, true) } -> std::convertible_to<LossValue<T>>;
};

/// What training makes small: any loss of float networks, double ones, or both. By default the cross-entropy.
class Objective {
 public:
  Objective() : Objective(CrossEntropy{}) {}

  template <class Loss>
  requires(!std::is_same_v<std::remove_cvref_t<Loss>, Objective> && (LossOf<Loss, float> || LossOf<Loss, double>))
      Objective(const Loss& loss) {
    set<float>(of_float_, loss);
    set<double>(of_double_, loss);
  }

  /// Throws ArgumentError for a loss that does not serve T, ShapeError for a gradient of another shape than the output,
  /// and what the loss throws.
  template <Real T>
  [[nodiscard]] LossValue<T> operator()(Context& ctx, View<const T> output,
                                        const std::type_identity_t<BatchView<T>>& batch,
                                        bool with_gradient = true) const {
    return call(of<T>().now, ctx, output, batch, with_gradient);
  }

  /// The same, not read if the loss can be left on the device: see LossValue::sums. The library's can, and one that has
  /// an `on_device` of its own. Throws ArgumentError for sums over no rows.
  template <Real T>
  [[nodiscard]] LossValue<T> on_device(Context& ctx, View<const T> output,
                                       const std::type_identity_t<BatchView<T>>& batch,
                                       bool with_gradient = true) const {
    return call(of<T>().on_device, ctx, output, batch, with_gradient);
  }

 private:
  template <class T>
  using Function = std::function<LossValue<T>(Context&, View<const T>, const BatchView<T>&, bool)>;
  template <class T>
  struct Functions {
    Function<T> now, on_device;
  };

  template <class T, class Loss>
  static void set(Functions<T>& functions, const Loss& loss) {
    if constexpr (LossOf<Loss, T>) {
      functions = {loss, loss};
      if constexpr (requires(Context & ctx, View<const T> output, const BatchView<T>& batch) {
                      loss.on_device(ctx, output, batch, true);
                    }) {
        functions.on_device = [loss](Context& ctx, View<const T> output, const BatchView<T>& batch,
                                     bool with_gradient) { return loss.on_device(ctx, output, batch, with_gradient); };
      }
    }
  }

  template <Real T>
  static LossValue<T> call(const Function<T>& loss, Context& ctx, View<const T> output, const BatchView<T>& batch,
                           bool with_gradient) {
    if (!loss) throw ArgumentError(concat("objective: the loss is not made for networks of ", dtype_name<T>));
    LossValue<T> value = loss(ctx, output, batch, with_gradient);
    if (!value.sums.empty() && value.rows < 1) {
      throw ArgumentError(concat("objective: the loss is left on the device as a sum over ", value.rows,
                                 " rows; set LossValue::rows to what the sum is divided by"));
    }
    if (with_gradient && value.gradient.shape() != output.shape()) {
      throw ShapeError(concat("objective: the gradient has shape ", value.gradient.shape(), " for outputs of shape ",
                              output.shape(), "; they must be equal"));
    }
    return value;
  }

  template <Real T>
  [[nodiscard]] const Functions<T>& of() const {
    if constexpr (std::is_same_v<T, float>) {
      return of_float_;
    } else {
      return of_double_;
    }
  }

  Functions<float> of_float_;
  Functions<double> of_double_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/loss_impl.hpp>
#endif
