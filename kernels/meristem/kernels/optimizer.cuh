// One step of SGD or AdamW on one parameter.
//
// SGD (PyTorch's torch.optim.SGD; v is the momentum buffer):
//   g = gradient + weight_decay · w
//   v = momentum · v + (1 − dampening) · g          (only if momentum ≠ 0; PyTorch's first step is v = g)
//   w = w − learning_rate · (nesterov ? g + momentum · v : v)
// AdamW (Loshchilov and Hutter 2019, as torch.optim.AdamW; m, v: moments, t: step, starting at 1):
//   w = w − learning_rate · weight_decay · w
//   m = m + (1 − beta1)(g − m),  v = beta2 · v + (1 − beta2) g²
//   w = w − learning_rate / (1 − beta1ᵗ) · m / (√v / √(1 − beta2ᵗ) + epsilon)
//
// parameter and buffers are updated in place; the gradient is only read. All have the parameter's shape. Elements that
// joined by growth may take a step of their own: of several steps, element i takes steps[stage(i)].
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::kernels {

/// Hyper-parameters of one SGD step, named and bounded as in PyTorch.
struct SgdStep {
  double learning_rate = 0.1;
  double momentum = 0.0;
  double dampening = 0.0;
  double weight_decay = 0.0;
  /// Needs momentum > 0 and dampening 0.
  bool nesterov = false;
};

/// Hyper-parameters of one AdamW step, named and bounded as in PyTorch.
struct AdamWStep {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 1e-2;
  /// Number of this step since the moments were zero, 1 for the first.
  std::int64_t step = 1;
};

namespace optimizer_detail {

// Each functor keeps what differs between growth stages in `numbers`.

template <class T>
struct PlainSgd {
  struct Numbers {
    T learning_rate;
    T weight_decay;
  };
  const T* gradient;
  T* parameter;
  Numbers numbers;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const T w = parameter[i];
    parameter[i] = w - numbers.learning_rate * (gradient[i] + numbers.weight_decay * w);
  }
};

template <class T>
struct MomentumSgd {
  struct Numbers {
    T learning_rate;
    T momentum;
    T gradient_share;
    T weight_decay;
    /// The update is update_gradient · g + update_buffer · v: (0, 1), or (1, momentum) with Nesterov.
    T update_gradient;
    T update_buffer;
  };
  const T* gradient;
  T* buffer;
  T* parameter;
  Numbers numbers;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const T w = parameter[i];
    const T g = gradient[i] + numbers.weight_decay * w;
    const T v = numbers.momentum * buffer[i] + numbers.gradient_share * g;
    buffer[i] = v;
    parameter[i] = w - numbers.learning_rate * (numbers.update_gradient * g + numbers.update_buffer * v);
  }
};

template <class T>
struct AdamW {
  struct Numbers {
    T keep;  ///< 1 − learning_rate · weight_decay
    T one_minus_beta1;
    T beta2;
    T one_minus_beta2;
    T step_size;   ///< learning_rate / (1 − beta1ᵗ)
    T correction;  ///< √(1 − beta2ᵗ)
    T epsilon;
  };
  const T* gradient;
  T* first_moment;
  T* second_moment;
  T* parameter;
  Numbers numbers;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const T g = gradient[i];
    const T m = first_moment[i] + numbers.one_minus_beta1 * (g - first_moment[i]);
    const T v = numbers.beta2 * second_moment[i] + numbers.one_minus_beta2 * g * g;
    first_moment[i] = m;
    second_moment[i] = v;
    parameter[i] = numbers.keep * parameter[i] -
                   numbers.step_size * m / (detail::square_root(v) / numbers.correction + numbers.epsilon);
  }
};

/// The same step with the numbers of each element's growth stage.
template <class Step>
struct ByStage {
  Step step;
  const typename Step::Numbers* table;
  const std::int32_t* stage;
  MERISTEM_HD void operator()(std::int64_t i) const {
    Step own = step;
    own.numbers = table[stage[i]];
    own(i);
  }
};

/// Runs `step`, whose numbers are those of the first stage. Stages whose numbers are all the same are one stage.
template <class Step>
void run(Context& ctx, std::int64_t size, const Step& step, const std::vector<typename Step::Numbers>& table,
         View<const std::int32_t> stage) {
  using Numbers = typename Step::Numbers;
  bool same = true;
  for (const Numbers& numbers : table) same = same && std::memcmp(&numbers, &step.numbers, sizeof(Numbers)) == 0;
  if (same) {
    for_each(ctx, size, step);
    return;
  }
  Tensor<Numbers> on_device(ctx, {static_cast<std::int64_t>(table.size())});
  // Memory that is not pinned may go away once the copy was started.
  meristem::detail::copy_bytes(ctx, on_device.data(), table.data(), table.size() * sizeof(Numbers));
  for_each(ctx, size, ByStage<Step>{step, on_device.data(), stage.data_handle()});
}

template <class T, class P>
void check_same(std::string_view function, std::string_view name, View<T> view, View<P> parameter) {
  if (view.shape() != parameter.shape()) {
    throw ShapeError(
        concat(function, ": ", name, " has shape ", view.shape(), ", but the parameter has ", parameter.shape()));
  }
  if (!view.is_contiguous()) {
    throw ShapeError(concat(function, ": ", name, " of shape ", view.shape(), " is strided; it must be contiguous"));
  }
}

// Written so that NaN is refused too.
inline void check_not_negative(std::string_view function, std::string_view name, double value) {
  if (!(value >= 0.0 && std::isfinite(value))) {
    throw ArgumentError(concat(function, ": ", name, " is ", value, "; it must be 0 or more, and finite"));
  }
}

inline void check_fraction(std::string_view function, std::string_view name, double value) {
  if (!(value >= 0.0 && value < 1.0)) {
    throw ArgumentError(concat(function, ": ", name, " is ", value, "; it must lie in [0, 1)"));
  }
}

/// Squares of the elements of one growth stage.
template <class T>
struct StageSquares : detail::SumOp {
  const T* x;
  const std::int32_t* stage_of;
  std::int32_t stage;
  StageSquares(const T* values, const std::int32_t* stages, std::int32_t number)
      : x(values), stage_of(stages), stage(number) {}
  MERISTEM_HD double term(std::int64_t i) const {
    const double value = static_cast<double>(x[i]);
    return stage_of[i] == stage ? value * value : 0.0;
  }
};

/// Throws unless there is a step for every element.
template <class Step, class P>
void check_stages(std::string_view function, std::span<const Step> steps, View<const std::int32_t> stage,
                  View<P> parameter) {
  if (steps.empty()) throw ArgumentError(concat(function, ": there are no steps; give one for each growth stage"));
  if (steps.size() > 1) check_same(function, "stage", stage, parameter);
}

inline void check_step(std::string_view function, const SgdStep& step) {
  check_not_negative(function, "learning_rate", step.learning_rate);
  check_not_negative(function, "momentum", step.momentum);
  check_not_negative(function, "weight_decay", step.weight_decay);
  if (!std::isfinite(step.dampening)) {
    throw ArgumentError(concat(function, ": dampening is ", step.dampening, "; it must be finite"));
  }
  if (step.nesterov && (step.momentum == 0.0 || step.dampening != 0.0)) {
    throw ArgumentError(concat(function, ": nesterov needs momentum > 0 and dampening 0; got momentum ", step.momentum,
                               " and dampening ", step.dampening));
  }
}

inline void check_step(std::string_view function, const AdamWStep& step) {
  check_not_negative(function, "learning_rate", step.learning_rate);
  check_fraction(function, "beta1", step.beta1);
  check_fraction(function, "beta2", step.beta2);
  check_not_negative(function, "epsilon", step.epsilon);
  check_not_negative(function, "weight_decay", step.weight_decay);
  if (step.step < 1) {
    throw ArgumentError(concat(function, ": step is ", step.step, "; steps are counted from 1"));
  }
}

}  // namespace optimizer_detail

/// Sum of the squares of the elements whose growth stage is `number`, squared and summed in double. Waits for the
/// device. Throws ShapeError unless both are contiguous and of equal shape.
template <class T>
[[nodiscard]] double stage_sum_squares(Context& ctx, View<T> x, View<const std::int32_t> stage, std::int32_t number) {
  optimizer_detail::check_same("stage_sum_squares", "x", x, x);
  optimizer_detail::check_same("stage_sum_squares", "stage", stage, x);
  return detail::reduce(
      ctx, optimizer_detail::StageSquares<std::remove_const_t<T>>(x.data_handle(), stage.data_handle(), number),
      x.size());
}

/// One SGD step; equation at the top of this file. Of several steps, one for each growth stage, element i takes
/// steps[stage(i)]; all or none have momentum.
///
/// The caller starts with a momentum buffer of zeros and, to have PyTorch's first step v = g, a dampening of 0 in it.
/// @param stage            the stage of every element, not checked; not read, and may be a default View, for one step.
/// @param momentum_buffer  overwritten with the new v; not touched, and may be a default View, if momentum is 0.
/// Throws ShapeError for shapes that differ or strided views, ArgumentError for hyper-parameters out of range.
template <class T>
void sgd_step(Context& ctx, std::span<const SgdStep> steps, View<const std::int32_t> stage,
              View<const std::type_identity_t<T>> gradient, View<std::type_identity_t<T>> momentum_buffer,
              View<T> parameter) {
  namespace impl = optimizer_detail;
  constexpr std::string_view name = "sgd_step";
  for (const SgdStep& step : steps) impl::check_step(name, step);
  impl::check_same(name, "the parameter", parameter, parameter);
  impl::check_same(name, "gradient", gradient, parameter);
  impl::check_stages(name, steps, stage, parameter);
  const bool momentum = steps[0].momentum != 0.0;
  for (const SgdStep& step : steps) {
    if ((step.momentum != 0.0) != momentum) {
      throw ArgumentError(concat(name, ": some steps have momentum and some have none; give all or none of them one"));
    }
  }
  if (!momentum) {
    using Step = impl::PlainSgd<T>;
    std::vector<typename Step::Numbers> table;
    for (const SgdStep& step : steps) {
      table.push_back({static_cast<T>(step.learning_rate), static_cast<T>(step.weight_decay)});
    }
    impl::run(ctx, parameter.size(), Step{gradient.data_handle(), parameter.data_handle(), table[0]}, table, stage);
    return;
  }
  if (momentum_buffer.data_handle() == nullptr && !parameter.empty()) {
    throw ShapeError(concat(name, ": momentum is ", steps[0].momentum, ", so a momentum_buffer of shape ",
                            parameter.shape(), ", zero at the start, is needed; got an empty view"));
  }
  impl::check_same(name, "momentum_buffer", momentum_buffer, parameter);
  using Step = impl::MomentumSgd<T>;
  std::vector<typename Step::Numbers> table;
  for (const SgdStep& step : steps) {
    table.push_back({static_cast<T>(step.learning_rate), static_cast<T>(step.momentum),
                     static_cast<T>(1.0 - step.dampening), static_cast<T>(step.weight_decay),
                     static_cast<T>(step.nesterov ? 1.0 : 0.0), static_cast<T>(step.nesterov ? step.momentum : 1.0)});
  }
  impl::run(ctx, parameter.size(),
            Step{gradient.data_handle(), momentum_buffer.data_handle(), parameter.data_handle(), table[0]}, table,
            stage);
}

/// The same step for every element.
template <class T>
void sgd_step(Context& ctx, const SgdStep& step, View<const std::type_identity_t<T>> gradient,
              View<std::type_identity_t<T>> momentum_buffer, View<T> parameter) {
  sgd_step<T>(ctx, std::span<const SgdStep>(&step, 1), View<const std::int32_t>(), gradient, momentum_buffer,
              parameter);
}

/// One AdamW step; equation at the top of this file. Both moments start at zero. Of several steps, one for each growth
/// stage, element i takes steps[stage(i)].
///
/// @param stage  the stage of every element, not checked; not read, and may be a default View, for one step.
/// Throws ShapeError for shapes that differ or strided views, ArgumentError for hyper-parameters out of range.
template <class T>
void adamw_step(Context& ctx, std::span<const AdamWStep> steps, View<const std::int32_t> stage,
                View<const std::type_identity_t<T>> gradient, View<std::type_identity_t<T>> first_moment,
                View<std::type_identity_t<T>> second_moment, View<T> parameter) {
  namespace impl = optimizer_detail;
  constexpr std::string_view name = "adamw_step";
  for (const AdamWStep& step : steps) impl::check_step(name, step);
  impl::check_same(name, "the parameter", parameter, parameter);
  impl::check_same(name, "gradient", gradient, parameter);
  impl::check_same(name, "first_moment", first_moment, parameter);
  impl::check_same(name, "second_moment", second_moment, parameter);
  impl::check_stages(name, steps, stage, parameter);
  using Step = impl::AdamW<T>;
  std::vector<typename Step::Numbers> table;
  for (const AdamWStep& step : steps) {
    const double t = static_cast<double>(step.step);
    table.push_back({static_cast<T>(1.0 - step.learning_rate * step.weight_decay), static_cast<T>(1.0 - step.beta1),
                     static_cast<T>(step.beta2), static_cast<T>(1.0 - step.beta2),
                     static_cast<T>(step.learning_rate / (1.0 - std::pow(step.beta1, t))),
                     static_cast<T>(std::sqrt(1.0 - std::pow(step.beta2, t))), static_cast<T>(step.epsilon)});
  }
  impl::run(ctx, parameter.size(),
            Step{gradient.data_handle(), first_moment.data_handle(), second_moment.data_handle(),
                 parameter.data_handle(), table[0]},
            table, stage);
}

/// The same step for every element.
template <class T>
void adamw_step(Context& ctx, const AdamWStep& step, View<const std::type_identity_t<T>> gradient,
                View<std::type_identity_t<T>> first_moment, View<std::type_identity_t<T>> second_moment,
                View<T> parameter) {
  adamw_step<T>(ctx, std::span<const AdamWStep>(&step, 1), View<const std::int32_t>(), gradient, first_moment,
                second_moment, parameter);
}

}  // namespace meristem::kernels
