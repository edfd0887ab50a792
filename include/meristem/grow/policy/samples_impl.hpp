// Definitions of samples.hpp.
#pragma once

#include <algorithm>
#include <bit>
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

template <Real T>
std::uint64_t detail::fingerprint(Context& ctx, const nn::BatchSource<T>& set, std::span<const std::int64_t> indices) {
  constexpr std::size_t most = 16;
  // FNV-1a (G. Fowler, L. Noll, K. Vo) on words of eight bytes; the shift carries a change of the upper bits down.
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&](std::uint64_t word) {
    hash = (hash ^ word) * 0x100000001b3;
    hash ^= hash >> 32;
  };
  std::vector<std::int64_t> some;
  for (const std::int64_t index : indices) mix(static_cast<std::uint64_t>(index));
  for (std::size_t k = 0; k < std::min(most, indices.size()); ++k) {
    some.push_back(indices[k * indices.size() / std::min(most, indices.size())]);
  }
  for (const T value : to_host(ctx, set.batch(ctx, some).inputs)) mix(std::bit_cast<std::uint64_t>(double{value}));
  return hash;
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
