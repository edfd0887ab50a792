// Definitions of budget.hpp.
#pragma once

#include <algorithm>

#include <meristem/grow/policy/budget.hpp>

namespace meristem::grow {

MERISTEM_INLINE std::pair<std::int64_t, std::string> Budget::room(const Candidate& candidate) const {
  const auto fits = [](std::int64_t most, std::int64_t used, std::int64_t fixed, std::int64_t each) {
    return std::max<std::int64_t>(most - fixed - used, 0) / std::max<std::int64_t>(each, 1);
  };
  const std::int64_t by_parameters =
      fits(parameters, candidate.report.parameters, candidate.fixed.parameters, candidate.unit.parameters);
  std::pair<std::int64_t, std::string> result{by_parameters, concat(parameters, " parameters")};
  if (!limits_multiply_adds()) return result;
  const std::int64_t by_work =
      fits(multiply_adds, candidate.report.multiply_adds, candidate.fixed.multiply_adds, candidate.unit.multiply_adds);
  if (by_work < by_parameters) result = {by_work, concat(multiply_adds, " multiply-adds")};
  return result;
}

MERISTEM_INLINE void Budget::limit(Candidate& candidate) const {
  const auto [units, limited] = room(candidate);
  candidate.at_most(units, concat("the budget of ", limited, " leaves no room"));
}

MERISTEM_INLINE void Budget::require_valid() const {
  const auto check = [](const char* what, std::int64_t limit) {
    if (limit < 1) throw ArgumentError(concat("Grower: budget.", what, " is ", limit, "; it must be at least 1"));
  };
  check("parameters", parameters);
  check("multiply_adds", multiply_adds);
}

template <Real T>
const Shape& detail::InputShapes<T>::of(const nn::Layer<T>& layer) const {
  const auto found = shapes_.find(&layer);
  if (found == shapes_.end()) {
    throw ArgumentError(concat("growth: no batch has reached ", layer.label(),
                               "; the container around it describes it as a layer inside, but does not run it"));
  }
  return found->second;
}

MERISTEM_INLINE void require_room(const char* what, std::int64_t budget, std::int64_t used, std::int64_t least) {
  if (budget - used >= least) return;
  throw ArgumentError(concat("Grower: budget.", what, " is ", budget, " and forbids any growth: the network has ", used,
                             " already, and the smallest unit adds ", least,
                             "; raise the budget, or set must_leave_room to false if growth may be over"));
}

template <Real T>
std::int64_t least_unit_parameters(const Site<T>& site) {
  if (site.tied()) return site.parameters_per_unit();
  return site.parameters_per_unit(site.places(site.width()));
}

template <Real T>
Candidate::Cost unit_cost(const Site<T>& site, const detail::InputShapes<T>& shapes) {
  // Inputs may have grown since they were seen.
  const auto input_of = [&](const Affine<T>& layer) {
    const Shape& seen = shapes.of(*layer.layer());
    return seen.with(seen.rank() - 1, layer.in_features());
  };
  const Shape unit_input = input_of(site.producer);
  // Places at which a layer computes each of its outputs for one sample; its own width may be 0.
  const auto places = [&](const Affine<T>& layer) {
    const Shape output = layer.layer()->output_shape(input_of(layer));
    std::int64_t count = 1;
    for (int axis = 1; axis + 1 < output.rank(); ++axis) count *= output[axis];
    return count;
  };
  const auto unit_work = [&](const Affine<T>& layer, bool norm) {
    return places(layer) * (layer.window().kernel.size() * layer.in_features() + (norm ? 1 : 0));
  };
  std::int64_t work = unit_work(site.producer, site.producer.norm() != nullptr);
  if (site.tied()) {
    std::int64_t input_norms = std::ssize(site.tied_norms());
    for (const Affine<T>& rider : site.riders) {
      work += unit_work(rider, rider.norm() != nullptr);
      if (rider.norm()) --input_norms;
    }
    // Those in front of readers stand where sources are added up, without a pooling in between.
    work += input_norms * places(site.producer);
    site.for_each_reader([&](const Reader<T>& reader) {
      work += places(reader.consumer) * reader.places(site.width()) * reader.consumer.out_features();
    });
    return {.parameters = site.parameters_per_unit(), .multiply_adds = work};
  }
  const std::int64_t taps = site.spatial() ? site.shape(unit_input).consumer_window().kernel.size() : 1;
  work += places(site.consumer) * taps * site.fan_out();
  return {.parameters = site.parameters_per_unit(taps), .multiply_adds = work};
}

}  // namespace meristem::grow
