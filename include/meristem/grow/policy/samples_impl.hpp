// Definitions of samples.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include <meristem/grow/policy/samples.hpp>

namespace meristem::grow {

MERISTEM_INLINE detail::ChosenSamples draw_samples(std::uint64_t seed, std::int64_t size, std::int64_t search_samples,
                                                   std::int64_t statistics_samples) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  const Philox random(seed, std::uint64_t{0x67726f77} << 32);
  for (std::size_t i = order.size() - 1; i > 0; --i) {
    std::swap(order[i], order[static_cast<std::size_t>(random.below(i, i + 1))]);
  }
  const std::int64_t search = std::min(search_samples, std::max<std::int64_t>(size / 5, 1));
  const std::int64_t rest = std::max<std::int64_t>(size - search, 1);
  return {.search = {order.begin(), order.begin() + search},
          .statistics = {order.end() - std::min(statistics_samples, rest), order.end()}};
}

MERISTEM_INLINE double samples_to_see(double share, double c, std::int64_t p, std::int64_t q) {
  if (!(share > 0.0 && share <= 1.0)) {
    throw ArgumentError(concat("samples_to_see: the share of the bottleneck is ", share, "; it must lie in (0, 1]"));
  }
  if (q <= 0) return 0.0;
  const double edge = std::sqrt(static_cast<double>(p)) + std::sqrt(static_cast<double>(q));
  return c * c * edge * edge / (share * static_cast<double>(q));
}

MERISTEM_INLINE detail::Evidence detail::judge(double lambda, double edge, double c, std::int64_t n,
                                               std::int64_t most) {
  if (lambda - edge > c * edge) return Evidence::above;
  const double upper = std::sqrt(std::max(lambda * lambda - 0.81 * edge * edge, 0.0));
  const double last = c * edge * std::sqrt(static_cast<double>(n) / static_cast<double>(most));
  return lambda <= c * edge && upper < last ? Evidence::below : Evidence::open;
}

}  // namespace meristem::grow
