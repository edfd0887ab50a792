// One step of SGD or AdamW on one parameter.
//
// SGD (PyTorch's torch.optim.SGD; v is the momentum buffer):
//   g = gradient + weight_decay · w
//   v = momentum · v + (1 − dampening) · g          (only if momentum ≠ 0)
//   w = w − learning_rate · (nesterov ? g + momentum · v : v)
// AdamW (Loshchilov and Hutter 2019, as torch.optim.AdamW; m, v: moments, t: step, starting at 1):
//   w = w − learning_rate · weight_decay · w
//   m = m + (1 − beta1)(g − m),  v = beta2 · v + (1 − beta2) g²
//   w = w − learning_rate / (1 − beta1ᵗ) · m / (√v / √(1 − beta2ᵗ) + epsilon)
//
// parameter and buffers are updated in place; the gradient is only read. All have the parameter's shape.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::inline MERISTEM_BACKEND::kernels {

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
  /// Number of this step, 1 for the first. It counts the optimiser's steps, also for slices of a parameter that were
  /// added later: those start with zero moments, so their first updates are smaller than a fresh parameter's would be.
  std::int64_t step = 1;
};

namespace optimizer_detail {

template <class T>
struct PlainSgd {
  const T* gradient;
  T* parameter;
  T learning_rate;
  T weight_decay;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const T w = parameter[i];
    parameter[i] = w - learning_rate * (gradient[i] + weight_decay * w);
  }
};

template <class T>
struct MomentumSgd {
  const T* gradient;
  T* buffer;
  T* parameter;
  T learning_rate;
  T momentum;
  T gradient_share;
  T weight_decay;
  /// The update is update_gradient · g + update_buffer · v: (0, 1), or (1, momentum) with Nesterov.
  T update_gradient;
  T update_buffer;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const T w = parameter[i];
    const T g = gradient[i] + weight_decay * w;
    const T v = momentum * buffer[i] + gradient_share * g;
    buffer[i] = v;
    parameter[i] = w - learning_rate * (update_gradient * g + update_buffer * v);
  }
};

template <class T>
struct AdamW {
  const T* gradient;
  T* first_moment;
  T* second_moment;
  T* parameter;
  T keep;  ///< 1 − learning_rate · weight_decay
  T one_minus_beta1;
  T beta2;
  T one_minus_beta2;
  T step_size;   ///< learning_rate / (1 − beta1ᵗ)
  T correction;  ///< √(1 − beta2ᵗ)
  T epsilon;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const T g = gradient[i];
    const T m = first_moment[i] + one_minus_beta1 * (g - first_moment[i]);
    const T v = beta2 * second_moment[i] + one_minus_beta2 * g * g;
    first_moment[i] = m;
    second_moment[i] = v;
    parameter[i] = keep * parameter[i] - step_size * m / (detail::square_root(v) / correction + epsilon);
  }
};

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

}  // namespace optimizer_detail

/// One SGD step; equation at the top of this file.
///
/// Where PyTorch creates the momentum buffer as v = g in the first step, here the caller starts with zeros. With
/// dampening 0 this is the same; otherwise PyTorch's first update is undamped and this one is not.
/// @param momentum_buffer  overwritten with the new v; not touched, and may be a default View, if momentum is 0.
/// Throws ShapeError for shapes that differ or strided views, ArgumentError for hyper-parameters out of range.
template <class T>
void sgd_step(Context& ctx, const SgdStep& step, View<const std::type_identity_t<T>> gradient,
              View<std::type_identity_t<T>> momentum_buffer, View<T> parameter) {
  constexpr std::string_view name = "sgd_step";
  optimizer_detail::check_not_negative(name, "learning_rate", step.learning_rate);
  optimizer_detail::check_not_negative(name, "momentum", step.momentum);
  optimizer_detail::check_not_negative(name, "weight_decay", step.weight_decay);
  if (!std::isfinite(step.dampening)) {
    throw ArgumentError(concat(name, ": dampening is ", step.dampening, "; it must be finite"));
  }
  if (step.nesterov && (step.momentum == 0.0 || step.dampening != 0.0)) {
    throw ArgumentError(concat(name, ": nesterov needs momentum > 0 and dampening 0; got momentum ", step.momentum,
                               " and dampening ", step.dampening));
  }
  optimizer_detail::check_same(name, "the parameter", parameter, parameter);
  optimizer_detail::check_same(name, "gradient", gradient, parameter);
  const T learning_rate = static_cast<T>(step.learning_rate);
  const T weight_decay = static_cast<T>(step.weight_decay);
  if (step.momentum == 0.0) {
    for_each(
        ctx, parameter.size(),
        optimizer_detail::PlainSgd<T>{gradient.data_handle(), parameter.data_handle(), learning_rate, weight_decay});
    return;
  }
  if (momentum_buffer.data_handle() == nullptr && !parameter.empty()) {
    throw ShapeError(concat(name, ": momentum is ", step.momentum, ", so a momentum_buffer of shape ",
                            parameter.shape(), ", zero at the start, is needed; got an empty view"));
  }
  optimizer_detail::check_same(name, "momentum_buffer", momentum_buffer, parameter);
  for_each(ctx, parameter.size(),
           optimizer_detail::MomentumSgd<T>{
               gradient.data_handle(), momentum_buffer.data_handle(), parameter.data_handle(), learning_rate,
               static_cast<T>(step.momentum), static_cast<T>(1.0 - step.dampening), weight_decay,
               static_cast<T>(step.nesterov ? 1.0 : 0.0), static_cast<T>(step.nesterov ? step.momentum : 1.0)});
}

/// One AdamW step; equation at the top of this file. Both moments start at zero.
///
/// Throws ShapeError for shapes that differ or strided views, ArgumentError for hyper-parameters out of range.
template <class T>
void adamw_step(Context& ctx, const AdamWStep& step, View<const std::type_identity_t<T>> gradient,
                View<std::type_identity_t<T>> first_moment, View<std::type_identity_t<T>> second_moment,
                View<T> parameter) {
  constexpr std::string_view name = "adamw_step";
  optimizer_detail::check_not_negative(name, "learning_rate", step.learning_rate);
  optimizer_detail::check_fraction(name, "beta1", step.beta1);
  optimizer_detail::check_fraction(name, "beta2", step.beta2);
  optimizer_detail::check_not_negative(name, "epsilon", step.epsilon);
  optimizer_detail::check_not_negative(name, "weight_decay", step.weight_decay);
  if (step.step < 1) {
    throw ArgumentError(concat(name, ": step is ", step.step, "; steps are counted from 1"));
  }
  optimizer_detail::check_same(name, "the parameter", parameter, parameter);
  optimizer_detail::check_same(name, "gradient", gradient, parameter);
  optimizer_detail::check_same(name, "first_moment", first_moment, parameter);
  optimizer_detail::check_same(name, "second_moment", second_moment, parameter);
  const double t = static_cast<double>(step.step);
  for_each(ctx, parameter.size(),
           optimizer_detail::AdamW<T>{
               gradient.data_handle(), first_moment.data_handle(), second_moment.data_handle(), parameter.data_handle(),
               static_cast<T>(1.0 - step.learning_rate * step.weight_decay), static_cast<T>(1.0 - step.beta1),
               static_cast<T>(step.beta2), static_cast<T>(1.0 - step.beta2),
               static_cast<T>(step.learning_rate / (1.0 - std::pow(step.beta1, t))),
               static_cast<T>(std::sqrt(1.0 - std::pow(step.beta2, t))), static_cast<T>(step.epsilon)});
}

}  // namespace meristem::inline MERISTEM_BACKEND::kernels
