// A data set of one's own: points in the plane.
#pragma once

#include <cmath>
#include <cstdint>

#include <meristem/core/philox.hpp>
#include <meristem/data/sample_set.hpp>

namespace own_kernel {

/// `count` points (2), noisy, in random order, and which of two spirals each is on.
[[nodiscard]] inline meristem::data::SampleSet<double> spirals(std::int64_t count, std::uint64_t seed) {
  const meristem::Philox random(seed, 0);
  meristem::data::SampleSet<double> set{.inputs = {}, .input = {2}, .source = "the spirals"};
  for (std::int64_t i = 0; i < count; ++i) {
    const auto draw = static_cast<std::uint64_t>(4 * i);
    const auto label = static_cast<std::int32_t>(random.below(draw, 2));
    const double along = std::sqrt(random.uniform(draw + 1)), angle = 9.0 * along + 3.14159265358979 * label;
    set.inputs.push_back(2 * along * std::cos(angle) + 0.05 * random.normal(draw + 2));
    set.inputs.push_back(2 * along * std::sin(angle) + 0.05 * random.normal(draw + 3));
    set.labels.push_back(label);
  }
  return set;
}

}  // namespace own_kernel
