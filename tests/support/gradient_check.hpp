// Finite differences against backward, for any layer in double precision.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <meristem/nn/layer.hpp>
#include <support/check.hpp>

namespace support {

/// Checks every gradient that `layer` returns against central differences of f = Σ weights · output, for one input.
/// Central differences with step h carry a truncation error ~ h² f''' / 6 and a rounding error ~ eps |f| / h; with h =
/// 1e-5 and functions of order 1 both stay below 1e-9, so `tolerance` = 1e-7 times the gradient's scale leaves a
/// margin.
inline void check_gradients(ms::Context& ctx, ms::nn::Layer<double>& layer, const ms::Shape& input_shape,
                            std::uint64_t seed, double tolerance = 1e-7) {
  ms::nn::Pass<double> pass;
  pass.input_gradient = true;
  std::vector<double> x = normal_values<double>(input_shape.size(), seed);
  const ms::Shape output_shape = layer.output_shape(input_shape);
  const std::vector<double> weights = normal_values<double>(output_shape.size(), seed + 1);

  const auto value = [&] {
    const auto input = ms::from_host<double>(ctx, input_shape, x);
    const auto trace = layer.forward(ctx, input, pass);
    const std::vector<double> output = ms::to_host(ctx, trace.output);
    double total = 0.0;
    for (std::size_t i = 0; i < output.size(); ++i) total += weights[i] * output[i];
    return total;
  };

  const auto input = ms::from_host<double>(ctx, input_shape, x);
  const auto trace = layer.forward(ctx, input, pass);
  REQUIRE(trace.output.shape() == output_shape);
  ms::Tensor<double> input_gradient =
      layer.backward(ctx, input, trace, ms::from_host<double>(ctx, output_shape, weights), pass);

  constexpr double h = 1e-5;
  const auto compare = [&](const std::vector<double>& analytic, const std::string& what, auto&& nudge) {
    INFO(what);
    std::vector<double> numeric(analytic.size());
    for (std::size_t i = 0; i < analytic.size(); ++i) {
      nudge(i, h);
      const double above = value();
      nudge(i, -2 * h);
      const double below = value();
      nudge(i, h);
      numeric[i] = (above - below) / (2 * h);
    }
    check_close(analytic, numeric, tolerance * std::max(1.0, scale_of(numeric)), what);
  };
  compare(ms::to_host(ctx, input_gradient), "input gradient", [&](std::size_t i, double by) { x[i] += by; });
  layer.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
    std::vector<double> numbers = ms::to_host(ctx, parameter.value);
    const std::vector<double> original = numbers;
    compare(ms::to_host(ctx, parameter.gradient), parameter.name, [&](std::size_t i, double by) {
      numbers[i] += by;
      ms::copy<double>(ctx, ms::from_host<double>(ctx, parameter.value.shape(), numbers), parameter.value);
    });
    ms::copy<double>(ctx, ms::from_host<double>(ctx, parameter.value.shape(), original), parameter.value);
  });
}

}  // namespace support
