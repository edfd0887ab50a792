// Finite differences along one random direction for each tensor: gradients of networks too large for one difference a
// scalar.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/nn/layer.hpp>
#include <support/check.hpp>

namespace support {

/// Checks the gradient at the input and at every parameter of `layer`, projected on a random unit direction, against
/// central differences of f = Σ weights · output. With step h = 1e-6 the truncation error h² f''' / 6 is far below the
/// rounding error ~ 100 eps |f| / h ~ 2e-8 |f|; `tolerance` is relative to the gradient's norm, at least 1. A
/// difference that straddles a kink of a relu is off by far more than that: choose a seed where none does. Wrong
/// gradients fail for every seed.
inline void check_directions(ms::Context& ctx, ms::nn::Layer<double>& layer, const ms::Shape& input_shape,
                             std::uint64_t seed, ms::nn::Pass<double> pass = {}, double tolerance = 1e-6) {
  pass.input_gradient = true;
  const std::vector<double> x = normal_values<double>(input_shape.size(), seed);
  const ms::Shape output_shape = layer.output_shape(input_shape);
  const std::vector<double> weights = normal_values<double>(output_shape.size(), seed + 1);

  const auto value = [&](const std::vector<double>& at) {
    const auto input = ms::from_host<double>(ctx, input_shape, at);
    const auto trace = layer.forward(ctx, input, pass);
    const std::vector<double> output = ms::to_host(ctx, trace.output);
    double total = 0.0;
    for (std::size_t i = 0; i < output.size(); ++i) total += weights[i] * output[i];
    return total;
  };
  const auto input = ms::from_host<double>(ctx, input_shape, x);
  const auto trace = layer.forward(ctx, input, pass);
  REQUIRE(trace.output.shape() == output_shape);
  const ms::Tensor<double> input_gradient =
      layer.backward(ctx, input, trace, ms::from_host<double>(ctx, output_shape, weights), pass);

  constexpr double h = 1e-6;
  std::uint64_t direction_seed = 1000 * seed;
  // `set` puts numbers in place and gives f there.
  const auto compare = [&](const std::string& what, const std::vector<double>& at, const std::vector<double>& gradient,
                           auto&& set) {
    REQUIRE(at.size() == gradient.size());
    std::vector<double> direction = normal_values<double>(static_cast<std::int64_t>(at.size()), ++direction_seed);
    double norm = 0.0;
    for (const double d : direction) norm += d * d;
    double projected = 0.0, size = 0.0;
    std::vector<double> above = at, below = at;
    for (std::size_t i = 0; i < at.size(); ++i) {
      direction[i] /= std::sqrt(norm);
      projected += direction[i] * gradient[i];
      size += gradient[i] * gradient[i];
      above[i] += h * direction[i];
      below[i] -= h * direction[i];
    }
    const double up = set(above);
    const double numeric = (up - set(below)) / (2 * h);
    INFO(what, ": gradient along the direction ", projected, ", by differences ", numeric, ", norm of the gradient ",
         std::sqrt(size));
    CHECK(std::abs(projected - numeric) <= tolerance * std::max(1.0, std::sqrt(size)));
  };
  compare("input", x, ms::to_host(ctx, input_gradient), value);
  layer.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
    const std::vector<double> original = ms::to_host(ctx, parameter.value);
    const auto put = [&](const std::vector<double>& numbers) {
      ms::copy<double>(ctx, ms::from_host<double>(ctx, parameter.value.shape(), numbers), parameter.value);
    };
    compare(parameter.name, original, ms::to_host(ctx, parameter.gradient), [&](const std::vector<double>& numbers) {
      put(numbers);
      return value(x);
    });
    put(original);
  });
}

}  // namespace support
