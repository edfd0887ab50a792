// Learned tensors, known by an id and a path name that both survive growth.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/tensor.hpp>

namespace meristem::nn {

/// Identifies a parameter for as long as its network lives, whatever its shape becomes.
using ParameterId = std::uint64_t;

/// A learned tensor, its gradient and its names.
template <Real T>
struct Parameter {
  ParameterId id = 0;
  std::string name;    ///< path name, such as `layer2.weight`
  Tensor<T> value;     ///< the numbers
  Tensor<T> gradient;  ///< of the mean loss; the same shape as `value`
  bool decays = true;  ///< whether weight decay applies

  Parameter() = default;
  /// Value uninitialised, gradient zero.
  Parameter(Context& ctx, std::string name_, const Shape& shape, bool decays_)
      : id(ctx.next_id()), name(std::move(name_)), value(ctx, shape), gradient(zeros<T>(ctx, shape)), decays(decays_) {}
};

/// A tensor that belongs to a layer and is saved with it, but is not learned by gradients, such as running statistics.
template <Real T>
struct Buffer {
  ParameterId id = 0;
  std::string name;  ///< path name, such as `norm1.running_mean`
  Tensor<T> value;

  Buffer() = default;
  /// Value uninitialised.
  Buffer(Context& ctx, std::string name_, const Shape& shape)
      : id(ctx.next_id()), name(std::move(name_)), value(ctx, shape) {}
};

}  // namespace meristem::nn
