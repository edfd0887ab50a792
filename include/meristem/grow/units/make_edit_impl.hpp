// Definitions of make_edit.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <meristem/grow/units/make_edit.hpp>
#include <meristem/grow/units/stream_insertion.hpp>

namespace meristem::grow::detail {

/// Factors by which fan-ins are scaled before a BatchNorm, which takes the scale away again: to the mean norm of the
/// weights of today's units, or that of Kaiming's initialisation if there are none.
template <Real T>
[[nodiscard]] std::vector<double> fan_in_scales(Context& ctx, const Site<T>& site, const Insertion& insertion) {
  const std::int64_t width = site.width(),
                     features = site.producer.window().kernel.size() * site.producer.in_features();
  double norm = std::sqrt(2.0);
  if (width > 0 && features > 0) {
    const std::vector<T> weights = to_host(ctx, site.producer.weight().value);
    double sum = 0.0;
    for (std::int64_t unit = 0; unit < width; ++unit) {
      double squares = 0.0;
      for (std::int64_t i = 0; i < features; ++i) {
        const double w = static_cast<double>(weights[static_cast<std::size_t>(unit * features + i)]);
        squares += w * w;
      }
      sum += std::sqrt(squares);
    }
    if (sum > 0.0) norm = sum / static_cast<double>(width);
  }
  std::vector<double> scales;
  for (std::int64_t k = 0; k < insertion.units; ++k) {
    double squares = 0.0;
    for (std::int64_t i = 0; i < features; ++i) {
      const double a = insertion.fan_in[static_cast<std::size_t>(k * insertion.inputs + i)];
      squares += a * a;
    }
    scales.push_back(squares > 0.0 ? norm / std::sqrt(squares) : 1.0);
  }
  return scales;
}

template <Real T>
void require_fit(const Site<T>& site, const Insertion& insertion) {
  const auto size = [](std::int64_t a, std::int64_t b) {
    return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
  };
  if (site.tied()) return require_stream_fit(site, insertion);
  // An empty layer does not tell how many positions a Flatten has.
  const bool any_taps = site.flattened && site.width() == 0;
  const std::int64_t taps = any_taps         ? insertion.taps
                            : site.flattened ? site.consumer.in_features() / site.width()
                                             : site.consumer.window().kernel.size();
  const bool taps_fit = insertion.taps == taps || (insertion.taps == 1 && site.consumer.is_convolution());
  if (insertion.inputs != site.fan_in() || insertion.outputs != site.fan_out() || (insertion.units > 0 && !taps_fit)) {
    throw ShapeError(concat("site ", site.name, ": units with fan-in ", insertion.inputs, " and fan-out ",
                            insertion.outputs, insertion.taps > 1 ? concat(" at ", insertion.taps, " taps") : "",
                            " do not fit a site with fan-in ", site.fan_in(), " and fan-out ", site.fan_out(),
                            taps > 1 ? concat(" at ", taps, " taps") : ""));
  }
  if (!insertion.move.empty() && insertion.consumer_inputs != site.consumer_inputs()) {
    throw ShapeError(concat("site ", site.name, ": a move of ", insertion.consumer_inputs,
                            " weights per output does not fit ", site.consumer.layer()->label(), ", which has ",
                            site.consumer_inputs()));
  }
  const std::size_t units = static_cast<std::size_t>(insertion.units);
  if (insertion.fan_in.size() != size(insertion.units, insertion.inputs) ||
      insertion.fan_out.size() != size(insertion.units, insertion.taps * insertion.outputs) ||
      (!insertion.move.empty() && insertion.move.size() != size(insertion.outputs, insertion.consumer_inputs)) ||
      (site.producer.norm() && (insertion.mean.size() != units || insertion.variance.size() != units))) {
    throw ShapeError(concat("site ", site.name, ": an insertion of ", insertion.units,
                            " units lacks some of their numbers",
                            site.producer.norm() ? ", or their means and variances" : ""));
  }
  const std::size_t width = static_cast<std::size_t>(site.width());
  const auto fits = [](const std::vector<double>& values, std::size_t size) {
    return values.empty() || values.size() == size;
  };
  if (!fits(insertion.norm_weight, units) || insertion.norm_shift.size() != insertion.norm_weight.size() ||
      !fits(insertion.split, units) || !fits(insertion.fan_out_factor, width) ||
      !fits(insertion.fan_in_factor, width)) {
    throw ShapeError(concat("site ", site.name, ": split, norm_weight and norm_shift need one number for each of the ",
                            units, " units, fan_out_factor and fan_in_factor one for each of today's ", width));
  }
  if (insertion.consumer_factor != 1.0 && !site.consumer.norm()) {
    throw ArgumentError(concat("site ", site.name, ": consumer_factor is ", insertion.consumer_factor, ", but ",
                               site.consumer.layer()->label(), " has no BatchNorm behind it that would take it out"));
  }
}

/// Throws ArgumentError unless the amplitude is 0 or more and all numbers are finite, variances 0 or more, splits
/// positive.
template <Real T>
void require_numbers(const Site<T>& site, const Insertion& insertion, double gamma) {
  if (!(gamma >= 0.0 && std::isfinite(gamma))) {
    throw ArgumentError(concat("site ", site.name, ": the amplitude is ", gamma, "; it must be 0 or more, and finite"));
  }
  const auto require = [&](const char* name, const std::vector<double>& numbers, bool may_be_negative = true) {
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (std::isfinite(numbers[i]) && (may_be_negative || numbers[i] >= 0.0)) continue;
      throw ArgumentError(concat("site ", site.name, ": ", name, "[", i, "] of the new units is ", numbers[i],
                                 "; it must be finite", may_be_negative ? "" : " and 0 or more"));
    }
  };
  require("fan_in", insertion.fan_in);
  require("fan_out", insertion.fan_out);
  require("move", insertion.move);
  require("mean", insertion.mean);
  require("variance", insertion.variance, false);
  require("norm_weight", insertion.norm_weight);
  require("norm_shift", insertion.norm_shift);
  require("fan_out_factor", insertion.fan_out_factor);
  require("fan_in_factor", insertion.fan_in_factor);
  require("consumer_factor", {insertion.consumer_factor});
  for (const std::vector<double>& rows : insertion.rider_rows) require("rider_rows", rows);
  for (std::size_t i = 0; i < insertion.split.size(); ++i) {
    if (insertion.split[i] > 0.0 && std::isfinite(insertion.split[i])) continue;
    throw ArgumentError(concat("site ", site.name, ": split[", i, "] of the new units is ", insertion.split[i],
                               "; it must be positive, and finite"));
  }
}

/// (factor - 1) times a parameter whose axis is `width` times `inner` numbers, factors along the width.
template <Real T>
[[nodiscard]] detail::ValueEdit<T> scaled_by(Context& ctx, nn::ParameterId id, const Tensor<T>& value,
                                             const std::vector<double>& factors, std::int64_t inner) {
  std::vector<T> numbers = to_host(ctx, value);
  const std::int64_t width = static_cast<std::int64_t>(factors.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const double factor = factors[static_cast<std::size_t>(static_cast<std::int64_t>(i) / inner % width)];
    // The sum of old and change rounds to the product.
    const T target = static_cast<T>(factor * static_cast<double>(numbers[i]));
    numbers[i] = target - numbers[i];
  }
  return {id, from_host<T>(ctx, value.shape(), numbers)};
}

/// What an insertion does to today's units.
template <Real T>
void add_factors(Context& ctx, const Site<T>& site, const Insertion& insertion, Edit<T>& edit) {
  const auto scale = [&](auto& parameter, const std::vector<double>& factors, std::int64_t inner = 1) {
    edit.values.push_back(scaled_by<T>(ctx, parameter.id, parameter.value, factors, inner));
  };
  if (!insertion.fan_in_factor.empty()) {
    if (site.producer.norm()) {
      scale(site.producer.norm()->weight(), insertion.fan_in_factor);
      scale(site.producer.norm()->bias(), insertion.fan_in_factor);
    } else {
      scale(site.producer.weight(), insertion.fan_in_factor,
            site.producer.weight().value.size() / std::max<std::int64_t>(site.width(), 1));
      if (site.producer.has_bias()) scale(site.producer.bias(), insertion.fan_in_factor);
    }
  }
  if (!insertion.fan_out_factor.empty()) {
    site.for_each_reader([&](const Reader<T>& reader) { scale(reader.consumer.weight(), insertion.fan_out_factor); });
  }
  if (insertion.consumer_factor == 1.0) return;
  const double s = insertion.consumer_factor;
  for (std::size_t i = 0; i < site.readers(); ++i) {
    const Affine<T>& consumer = site.reader(i).consumer;
    nn::BatchNorm<T>& norm = *site.reader(i).consumer.norm();
    scale(consumer.weight(), {s});
    if (consumer.has_bias()) scale(consumer.bias(), {s});
    scale(norm.running_mean(), {s});
    std::vector<double> weights;
    for (const T value : to_host(ctx, norm.running_variance().value)) {
      const double variance = static_cast<double>(value);
      weights.push_back(std::sqrt(s * s * variance + norm.epsilon()) / (s * std::sqrt(variance + norm.epsilon())));
    }
    scale(norm.running_variance(), {s * s});
    scale(norm.weight(), weights);
  }
}

/// The move of one reader's weights, which goes with γ.
template <Real T>
void add_move(Context& ctx, const Affine<T>& reader, const Insertion& insertion, Edit<T>& edit) {
  if (insertion.move.empty()) return;
  constexpr double whole = 1.0;
  const std::int64_t q = reader.out_features(), d = insertion.consumer_inputs;
  const std::int64_t old_features = d - (reader.has_bias() ? 1 : 0);
  std::vector<T> weights, biases;
  for (std::int64_t o = 0; o < q; ++o) {
    for (std::int64_t i = 0; i < d; ++i) {
      const double change = insertion.move[static_cast<std::size_t>(o * d + i)];
      (i < old_features ? weights : biases).push_back(static_cast<T>(change));
    }
  }
  nn::Parameter<T>& weight = reader.weight();
  edit.values.push_back({weight.id, from_host<T>(ctx, weight.value.shape(), weights), whole});
  if (reader.has_bias()) edit.values.push_back({reader.bias().id, from_host<T>(ctx, {q}, biases), whole});
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
Edit<T> make_edit(Context& ctx, const Site<T>& site, const Insertion& insertion, double gamma) {
  detail::require_fit(site, insertion);
  detail::require_numbers(site, insertion, gamma);
  const std::int64_t units = insertion.units, p = insertion.inputs;
  const std::int64_t features = p - (site.producer.has_bias() ? 1 : 0);

  // What goes with γ and with √γ; the numbers are those of γ = 1.
  constexpr double root = 0.5;
  Edit<T> edit;
  edit.gamma = gamma;
  std::vector<Insertion> parts;
  for (std::size_t i = 0; i < site.readers() && site.tied(); ++i) parts.push_back(detail::part_of(site, insertion, i));
  const auto part = [&](std::size_t i) -> const Insertion& { return site.tied() ? parts[i] : insertion; };
  for (std::size_t i = 0; i < site.readers(); ++i) detail::add_move(ctx, site.reader(i).consumer, part(i), edit);
  if (units == 0) return edit;
  detail::add_factors(ctx, site, insertion, edit);

  const bool given_norm = !insertion.norm_weight.empty(), copied = !insertion.copies.empty();
  const auto split = [&](std::size_t k) { return insertion.split.empty() ? 1.0 : insertion.split[k]; };
  std::vector<double> scales(static_cast<std::size_t>(units), 1.0);
  if (!site.normed()) {
    for (std::size_t k = 0; k < scales.size(); ++k) scales[k] = split(k);
  } else if (!given_norm && !copied) {
    scales = detail::fan_in_scales(ctx, site, insertion);
  }
  // Norms in front of the readers make the unit of whatever multiple of it arrives, so that no amplitude changes that.
  const bool remade = !site.input_norms().empty();
  const std::vector<double> carried =
      remade ? detail::carried_scales(ctx, site, insertion, scales) : std::vector<double>();
  std::vector<T> rows, biases;
  for (std::int64_t k = 0; k < units; ++k) {
    for (std::int64_t i = 0; i < p; ++i) {
      const double a = scales[static_cast<std::size_t>(k)] * insertion.fan_in[static_cast<std::size_t>(k * p + i)];
      (i < features ? rows : biases).push_back(static_cast<T>(a));
    }
  }
  const std::vector<std::int64_t> map = appended(site.width(), units);
  nn::Parameter<T>& weight = site.producer.weight();
  const std::int64_t width = site.width();
  const double fan_in_power = site.normed() ? 0.0 : root;
  edit.axes.push_back(
      {weight.id, 0, map, from_host<T>(ctx, weight.value.shape().with(0, units), rows), width, fan_in_power});
  if (site.producer.has_bias()) {
    edit.axes.push_back({site.producer.bias().id, 0, map, from_host<T>(ctx, {units}, biases), width, fan_in_power});
  }
  if (site.producer.norm()) {
    std::vector<T> means, variances, weights, shifts;
    for (std::size_t k = 0; k < static_cast<std::size_t>(units); ++k) {
      const double s = scales[k], variance = s * s * insertion.variance[k];
      means.push_back(static_cast<T>(s * insertion.mean[k]));
      variances.push_back(static_cast<T>(variance));
      const double weight = 1.0 / s * std::sqrt(variance + site.producer.norm()->epsilon());
      const double factor = !remade ? split(k) : given_norm ? 1.0 : carried[k];
      weights.push_back(static_cast<T>(factor * (given_norm ? insertion.norm_weight[k] : weight)));
      shifts.push_back(static_cast<T>(factor * (given_norm ? insertion.norm_shift[k] : insertion.mean[k])));
    }
    const double power = given_norm || remade ? 0.0 : root;
    const auto add = [&](nn::ParameterId id, const std::vector<T>& values, double with) {
      edit.axes.push_back({id, 0, map, from_host<T>(ctx, {units}, values), width, with});
    };
    add(site.producer.norm()->weight().id, weights, power);
    add(site.producer.norm()->bias().id, shifts, power);
    add(site.producer.norm()->running_mean().id, means, 0.0);
    add(site.producer.norm()->running_variance().id, variances, 0.0);
  }
  if (remade) detail::add_input_norms(ctx, site, insertion, carried, edit);
  for (std::size_t i = 0; i < site.readers(); ++i) {
    // A reader without a norm gets what the stream carries.
    const bool raw = remade && !site.reader(i).input_norm && !given_norm && !copied;
    if (raw) parts[i].split = carried;
    nn::Parameter<T>& consumer = site.reader(i).consumer.weight();
    const int last = consumer.value.rank() - 1;
    edit.axes.push_back({consumer.id, last, detail::reader_map(site.reader(i), width, part(i).taps, units),
                         detail::fan_out_slices(ctx, site.reader(i), part(i)), consumer.value.extent(last),
                         raw ? 2.0 * root : root});
  }
  if (site.tied()) detail::add_riders(ctx, site, insertion, edit);
  return edit;
}

}  // namespace meristem::grow
