// Definitions of firefly.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>

#include <meristem/grow/methods/firefly.hpp>

namespace meristem::grow::detail {

MERISTEM_INLINE Firefly::Firefly(const Options& options) : options_(options) {
  if (options.steps < 0 || options.candidates < 1 || !(options.rate > 0.0)) {
    throw ArgumentError(
        concat("firefly: needs 0 or more steps, 1 or more candidates for each unit and a positive "
               "rate; got ",
               options.steps, ", ", options.candidates, " and ", options.rate));
  }
}

MERISTEM_INLINE Choice Firefly::choose(Context& ctx, const SiteMoments& site) const {
  if (site.max_units == 0) return no_units("no unit added: max_units is 0");
  const std::int64_t count = options_.candidates * site.max_units;
  Choice choice;
  choice.insertion.units = count;
  choice.insertion.fan_in = random_rows(random_of(ctx, site, Draw::fan_in), count, features_of(site),
                                        fan_in_norm(site, options_.scale), site.unit_bias);
  choice.insertion.fan_out = random_rows(random_of(ctx, site, Draw::fan_out), count, site.taps * site.outputs,
                                         fan_out_norm(site, options_.scale, site.max_units), false);
  return choice;
}

MERISTEM_INLINE void Firefly::refine(Context&, const SiteMoments& site, const Gradients& gradients, int pass,
                                     Choice& choice) const {
  Insertion& insertion = choice.insertion;
  if (pass < options_.steps) {
    turn(insertion.fan_in, gradients.fan_in, insertion.units);
    turn(insertion.fan_out, gradients.fan_out, insertion.units);
    return;
  }
  std::vector<std::size_t> order(gradients.gain.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return gradients.gain[a] > gradients.gain[b]; });
  const Insertion all = insertion;
  const std::size_t p = all.fan_in.size() / order.size(), m = all.fan_out.size() / order.size();
  insertion.fan_in.clear();
  insertion.fan_out.clear();
  insertion.units = 0;
  choice.lambda.clear();
  for (const std::size_t k : order) {
    choice.lambda.push_back(gradients.gain[k]);
    if (insertion.units == site.max_units || !(gradients.gain[k] > 0.0)) continue;
    ++insertion.units;
    choice.gain += gradients.gain[k];
    const auto take = [k](const std::vector<double>& from, std::size_t each, std::vector<double>& to) {
      const auto begin = from.begin() + static_cast<std::ptrdiff_t>(k * each);
      to.insert(to.end(), begin, begin + static_cast<std::ptrdiff_t>(each));
    };
    take(all.fan_in, p, insertion.fan_in);
    take(all.fan_out, m, insertion.fan_out);
  }
  if (insertion.units == 0) choice.note = "no unit added: no candidate lowers the loss";
}

MERISTEM_INLINE void Firefly::turn(std::vector<double>& rows, const std::vector<double>& gradients,
                                   std::int64_t units) const {
  const std::int64_t columns = static_cast<std::int64_t>(rows.size()) / units;
  for (std::int64_t k = 0; k < units; ++k) {
    double* row = rows.data() + k * columns;
    const double* gradient = gradients.data() + k * columns;
    const double norm = norm_of(row, columns), slope = norm_of(gradient, columns);
    if (!(norm > 0.0 && slope > 0.0)) continue;
    for (std::int64_t i = 0; i < columns; ++i) row[i] += options_.rate * norm / slope * gradient[i];
    const double now = norm_of(row, columns);
    for (std::int64_t i = 0; i < columns; ++i) row[i] *= now > 0.0 ? norm / now : 1.0;
  }
}

}  // namespace meristem::grow::detail
