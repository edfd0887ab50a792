// A growth method of one's own: units that each serve one output of the layer that reads them.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include <meristem/grow/methods/method.hpp>

namespace own_method {

namespace grow = meristem::grow;

/// For the outputs (in maps: output and tap) whose column of N is longest a unit with that column as its fan-in, at the
/// norm of the fan-out, which feeds this output alone: to first order it lowers the loss by the column's squared norm.
class OneOutput final : public grow::GrowthMethod {
 public:
  std::string name() const override { return "one-output"; }

  /// N, the moments of what units read with what today's weights leave of the desired update; and those weights' move.
  grow::Needs needs() const override { return {.residual = true}; }

  grow::Choice choose(meristem::Context& ctx, const grow::SiteMoments& site) const override {
    const auto columns = static_cast<std::size_t>(site.taps * site.outputs);
    const auto p = static_cast<std::size_t>(site.inputs);
    const std::vector<double> n = meristem::to_host(ctx, site.n);  // p × columns
    std::vector<double> squares(columns, 0.0);
    for (std::size_t at = 0; at < n.size(); ++at) squares[at % columns] += n[at] * n[at];
    std::vector<std::size_t> order(columns);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return squares[a] > squares[b]; });
    order.resize(std::min(columns, static_cast<std::size_t>(site.max_units)));

    grow::Choice choice;
    std::vector<double> fan_in, fan_out;  // units × p, units × columns
    for (const std::size_t column : order) {
      if (squares[column] == 0.0) break;
      const double root = std::pow(squares[column], 0.25);  // of the norm: both sides get the same one
      for (std::size_t i = 0; i < p; ++i) fan_in.push_back(n[i * columns + column] / root);
      for (std::size_t j = 0; j < columns; ++j) fan_out.push_back(j == column ? root : 0.0);
      choice.lambda.push_back(std::sqrt(squares[column]));
      choice.gain += squares[column];
      ++choice.insertion.units;
    }
    if (choice.insertion.units == 0) choice.note = "no unit added: nothing is left that an output would ask for";
    const std::int64_t units = choice.insertion.units;
    choice.insertion.fan_in = meristem::from_host<double>(ctx, {units, site.inputs}, fan_in);
    choice.insertion.fan_out = meristem::from_host<double>(ctx, {units, site.taps * site.outputs}, fan_out);
    if (site.move_weights) choice.insertion.move = clone(ctx, site.move.weights);
    choice.move_decrease = site.move.decrease;
    return choice;
  }
};

}  // namespace own_method
