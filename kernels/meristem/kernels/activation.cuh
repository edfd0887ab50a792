// Activation functions, forward and backward.
//
//   forward    y  = sigma(x)
//   backward   dx = sigma'(x) dy      x is the pre-activation: what forward was given, not what it returned
//
// Tensors are contiguous and of any shape; outputs are overwritten and may be one of the inputs.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/packs.cuh>
#include <meristem/kernels/require.hpp>
#include <meristem/kernels/vector_math.hpp>

namespace meristem::kernels {

/// The activation functions.
enum class Activation {
  identity,  ///< x
  relu,      ///< max(0, x)
  gelu,      ///< x Phi(x) with Phi the normal distribution function, in its exact (erf) form
  silu,      ///< x / (1 + exp(-x))
  tanh,      ///< tanh(x)
  selu,      ///< scale x for x > 0, scale alpha (exp(x) - 1) otherwise
};

inline constexpr std::array<Activation, 6> all_activations = {Activation::identity, Activation::relu, Activation::gelu,
                                                              Activation::silu,     Activation::tanh, Activation::selu};

/// scale and alpha of G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-normalizing neural networks" (2017).
inline constexpr double selu_scale = 1.0507009873554804934193349852946;
inline constexpr double selu_alpha = 1.6732632423543772848170429916717;

/// Name as options and files spell it, for example `relu`.
[[nodiscard]] constexpr std::string_view activation_name(Activation activation) {
  switch (activation) {
    case Activation::identity:
      return "identity";
    case Activation::relu:
      return "relu";
    case Activation::gelu:
      return "gelu";
    case Activation::silu:
      return "silu";
    case Activation::tanh:
      return "tanh";
    case Activation::selu:
      return "selu";
  }
  return "unknown";
}

inline std::ostream& operator<<(std::ostream& out, Activation activation) { return out << activation_name(activation); }

/// The activation of that name. Throws ArgumentError, which lists the names, for any other text.
[[nodiscard]] inline Activation parse_activation(std::string_view name) {
  std::string choices;
  for (const Activation activation : all_activations) {
    if (activation_name(activation) == name) return activation;
    choices += choices.empty() ? "" : ", ";
    choices += activation_name(activation);
  }
  throw ArgumentError(concat("there is no activation '", name, "'; choose one of ", choices));
}

/// sigma(0): 0 for every activation here, so that a unit of zero weights adds nothing.
[[nodiscard]] constexpr double value_at_zero(Activation) { return 0.0; }

/// sigma'(0), the slope that the first-order effect of a small new unit is proportional to. Where the two sides differ
/// it is the right-hand one: 1 for relu (0 on the left), selu_scale for selu (selu_scale selu_alpha on the left).
[[nodiscard]] constexpr double slope_at_zero(Activation activation) {
  switch (activation) {
    case Activation::gelu:
    case Activation::silu:
      return 0.5;
    case Activation::selu:
      return selu_scale;
    case Activation::identity:
    case Activation::relu:
    case Activation::tanh:
      break;
  }
  return 1.0;
}

namespace detail {

// Each activation is a type with the function, `value`, and its slope times the upstream gradient, `backward`. At a
// kink the slope is the left-hand one, as is usual in backward passes. Arguments are loaded before anything is
// selected, which vectorises; NaN passes through `value`.

struct Identity {
  template <class T>
  MERISTEM_HD static T value(T x) {
    return x;
  }
  template <class T>
  MERISTEM_HD static T backward(T, T dy) {
    return dy;
  }
};

struct Relu {
  template <class T>
  MERISTEM_HD static T value(T x) {
    return x < T(0) ? T(0) : x;
  }
  template <class T>
  MERISTEM_HD static T backward(T x, T dy) {
    return x > T(0) ? dy : T(0);
  }
};

#if MERISTEM_GPU
#define MERISTEM_ALWAYS_INLINE __host__ __device__
#else
#define MERISTEM_ALWAYS_INLINE [[gnu::always_inline]]
#endif

// The library's exponentials, and for float on the CPU those of vector_math.hpp, which vectorise.

/// a if `condition`, else b; both are computed.
template <class T>
MERISTEM_ALWAYS_INLINE inline T choose(bool condition, T a, T b) {
#if !MERISTEM_GPU
  if constexpr (std::is_same_v<T, float>) return vector_math::choose(condition, a, b);
#endif
  return condition ? a : b;
}

template <class T>
MERISTEM_ALWAYS_INLINE inline T exponential(T x) {
#if !MERISTEM_GPU
  if constexpr (std::is_same_v<T, float>) return vector_math::exponential(x);
#endif
  return std::exp(x);
}

/// e^x - 1 for x at most 0; of greater x the value is not used.
template <class T>
MERISTEM_ALWAYS_INLINE inline T exponential_minus_1(T x) {
#if !MERISTEM_GPU
  if constexpr (std::is_same_v<T, float>) return vector_math::exponential_minus_1(x);
#endif
  return std::expm1(x);
}

template <class T>
MERISTEM_ALWAYS_INLINE inline T hyperbolic_tangent(T x) {
#if !MERISTEM_GPU
  if constexpr (std::is_same_v<T, float>) {
    const float e = vector_math::exponential_minus_1(-2.0f * __builtin_fabsf(x));
    return __builtin_copysignf(e / (e + 2.0f), x);
  }
#endif
  return std::tanh(x);
}

struct Gelu {
  /// Φ(x), given e^{-x²/2}. The tail on the left keeps its relative accuracy, which 1 + erf would cancel.
  template <class T>
  MERISTEM_ALWAYS_INLINE static inline T distribution(T x, [[maybe_unused]] T bell) {
#if !MERISTEM_GPU
    if constexpr (std::is_same_v<T, float>) {
      const float tail = bell * vector_math::scaled_tail(__builtin_fabsf(x));
      return vector_math::choose(x < 0.0f, tail, 1.0f - tail);
    }
#endif
    return T(0.5) * std::erfc(x * T(-0.70710678118654752440));
  }
  template <class T>
  MERISTEM_ALWAYS_INLINE static inline T value(T x) {
    // The double erfc needs no bell: the compiler drops it.
    return x * distribution(x, exponential(T(-0.5) * x * x));
  }
  template <class T>
  MERISTEM_ALWAYS_INLINE static inline T backward(T x, T dy) {
    const T bell = exponential(T(-0.5) * x * x);
    return (distribution(x, bell) + x * (T(0.39894228040143267794) * bell)) * dy;
  }
};

struct Silu {
  template <class T>
  MERISTEM_ALWAYS_INLINE static inline T value(T x) {
    return x / (T(1) + exponential(-x));
  }
  template <class T>
  MERISTEM_ALWAYS_INLINE static inline T backward(T x, T dy) {
    const T sigmoid = T(1) / (T(1) + exponential(-x));
    return sigmoid * (T(1) + x * (T(1) - sigmoid)) * dy;
  }
};

struct Tanh {
  template <class T>
  MERISTEM_ALWAYS_INLINE static inline T value(T x) {
    return hyperbolic_tangent(x);
  }
  template <class T>
  MERISTEM_ALWAYS_INLINE static inline T backward(T x, T dy) {
    const T y = hyperbolic_tangent(x);
    return (T(1) - y) * (T(1) + y) * dy;
  }
};

struct Selu {
  template <class T>
  MERISTEM_ALWAYS_INLINE static inline T value(T x) {
    const T below = T(selu_scale * selu_alpha) * exponential_minus_1(x);
    return choose(x > T(0), T(selu_scale) * x, below);
  }
  template <class T>
  MERISTEM_ALWAYS_INLINE static inline T backward(T x, T dy) {
    const T below = T(selu_scale * selu_alpha) * exponential(x);
    return choose(x > T(0), T(selu_scale), below) * dy;
  }
};

template <class Function>
struct ActivationForward {
  template <class T>
  MERISTEM_ALWAYS_INLINE T operator()(T x) const {
    return Function::value(x);
  }
};

template <class Function>
struct ActivationBackward {
  template <class T>
  MERISTEM_ALWAYS_INLINE T operator()(T x, T dy) const {
    return Function::backward(x, dy);
  }
};

#undef MERISTEM_ALWAYS_INLINE

/// Calls `run` with an object of the activation's type.
template <class Run>
void dispatch(Activation activation, Run&& run) {
  switch (activation) {
    case Activation::identity:
      return run(Identity{});
    case Activation::relu:
      return run(Relu{});
    case Activation::gelu:
      return run(Gelu{});
    case Activation::silu:
      return run(Silu{});
    case Activation::tanh:
      return run(Tanh{});
    case Activation::selu:
      return run(Selu{});
  }
  throw ArgumentError(concat("activation ", static_cast<int>(activation), " does not exist"));
}

}  // namespace detail

/// y = sigma(x), any shape; y may be x. Throws ShapeError unless both are contiguous and of equal shape.
template <class T>
void activation_forward(Context& ctx, Activation activation, View<const std::type_identity_t<T>> x, View<T> y) {
  detail::require_same_shape("activation_forward", "x", x, "y", y);
  detail::dispatch(activation, [&](auto function) {
    detail::map_elements(ctx, y.size(), detail::ActivationForward<decltype(function)>(), y.data_handle(),
                         x.data_handle());
  });
}

/// dx = sigma'(x) dy, any shape, with x the pre-activation; dx may be dy or x. At a kink (relu, selu at 0) the slope is
/// the left-hand one. Throws ShapeError unless all are contiguous and of equal shape.
template <class T>
void activation_backward(Context& ctx, Activation activation, View<const std::type_identity_t<T>> x,
                         View<const std::type_identity_t<T>> dy, View<T> dx) {
  detail::require_same_shape("activation_backward", "x", x, "dx", dx);
  detail::require_same_shape("activation_backward", "dy", dy, "dx", dx);
  detail::dispatch(activation, [&](auto function) {
    detail::map_elements(ctx, dx.size(), detail::ActivationBackward<decltype(function)>(), dx.data_handle(),
                         x.data_handle(), dy.data_handle());
  });
}

}  // namespace meristem::kernels
