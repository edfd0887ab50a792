// Definitions of prune.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include <meristem/grow/units/depth_places_impl.hpp>
#include <meristem/grow/units/prune.hpp>
#include <meristem/kernels/grow_copy.cuh>
#include <meristem/nn/sequential.hpp>

namespace meristem::grow::detail {

/// A parameter or buffer of a site that has an axis along which units lie.
template <Real T>
struct UnitAxis {
  nn::ParameterId id;
  Tensor<T>* value;
  int axis;
  UnitsAlong along;
};

/// What a site's units are made of: every tensor of the sources along their outputs, of the norms along their channels,
/// and of the readers along their inputs.
template <Real T>
[[nodiscard]] std::vector<UnitAxis<T>> unit_axes(const Site<T>& site) {
  std::vector<UnitAxis<T>> result;
  const auto add = [&](nn::Layer<T>& layer, nn::Axis role, const UnitsAlong& along) {
    const auto add_tensor = [&](const auto& entry) {
      const int axis = entry.axis_of(role);
      if (axis >= 0) result.push_back({entry.tensor->id, &entry.tensor->value, axis, along});
    };
    const nn::Description<T> told = layer.description();
    for (const auto& entry : told.parameters) add_tensor(entry);
    for (const auto& entry : told.buffers) add_tensor(entry);
  };
  const std::int64_t width = site.width();
  const UnitsAlong own{1, width, 0, width};
  add(*site.producer.layer(), nn::Axis::out, own);
  if (site.producer.norm()) add(*site.producer.norm(), nn::Axis::channel, own);
  for (const Affine<T>& rider : site.riders) add(*rider.layer(), nn::Axis::out, own);
  for (nn::BatchNorm<T>* norm : site.tied_norms()) add(*norm, nn::Axis::channel, units_along(site, *norm));
  site.for_each_reader(
      [&](const Reader<T>& reader) { add(*reader.consumer.layer(), nn::Axis::in, units_along(reader, width)); });
  return result;
}

/// Sorted, without repeats, all within the site. Throws ArgumentError otherwise.
template <Real T>
[[nodiscard]] std::vector<std::int64_t> checked_units(const Site<T>& site, std::vector<std::int64_t> units) {
  std::sort(units.begin(), units.end());
  if (units.empty()) throw ArgumentError(concat("pruning of ", site.name, ": no unit is named; name at least one"));
  if (units.front() < 0 || units.back() >= site.width()) {
    throw ArgumentError(concat("pruning of ", site.name, ": there is no unit ",
                               units.front() < 0 ? units.front() : units.back(), " among its ", site.width(),
                               "; units are counted from 0"));
  }
  const auto repeated = std::adjacent_find(units.begin(), units.end());
  if (repeated != units.end()) {
    throw ArgumentError(concat("pruning of ", site.name, ": unit ", *repeated, " is named twice"));
  }
  return units;
}

/// The Sequential that holds the layer of this path name, or null.
template <Real T>
[[nodiscard]] nn::Sequential<T>* container_of(nn::Layer<T>& network, const std::string& name) {
  nn::Sequential<T>* const sequence = network.description().sequential;
  for (nn::Layer<T>* child : network.children()) {
    if (sequence && child->name() == name) return sequence;
    if (nn::Sequential<T>* const found = container_of(*child, name)) return found;
  }
  return nullptr;
}

/// The Sequential of this path name that holds layers of its own, or null.
template <Real T>
[[nodiscard]] nn::Sequential<T>* sequence_called(nn::Layer<T>& layer, const std::string& name) {
  if (nn::Sequential<T>* const sequence = layer.description().sequential; sequence && layer.name() == name) {
    return sequence;
  }
  for (nn::Layer<T>* child : layer.children()) {
    if (nn::Sequential<T>* const found = sequence_called(*child, name)) return found;
  }
  return nullptr;
}

template <Real T>
void put_back_slices(Context& ctx, const RemovedSlices<T>& removed, nn::Layer<T>& network,
                     optim::Optimizer<T>* optimizer) {
  // What the optimiser remembers is completed before anything changes.
  struct Memory {
    nn::ParameterId id;
    std::vector<Tensor<T>> moments;
    optim::FirstSteps first_steps;
  };
  std::vector<Memory> memories;
  for (std::size_t i = 0; optimizer && i < removed.restore.axes.size(); ++i) {
    const AxisEdit<T>& change = removed.restore.axes[i];
    const std::vector<Tensor<T>>& now = optimizer->state(change.parameter);
    if (removed.moments[i].size() != now.size() || removed.first_steps[i].empty()) continue;
    Memory memory{change.parameter, {}, optimizer->first_steps(change.parameter)};
    const std::int64_t left = std::ssize(change.map) - std::ssize(removed.first_steps[i]);
    // `apply` says what does not fit.
    if (std::ssize(memory.first_steps.along(change.axis, left)) != left) continue;
    for (std::size_t m = 0; m < now.size(); ++m) {
      memory.moments.emplace_back(ctx, now[m].shape().with(change.axis, static_cast<std::int64_t>(change.map.size())));
      kernels::grow_copy<T>(ctx, now[m], change.axis, change.map, removed.moments[i][m].view(), memory.moments.back());
    }
    memory.first_steps.follow(change.axis, left, change.map, removed.first_steps[i]);
    memories.push_back(std::move(memory));
  }
  apply(ctx, removed.restore, network, optimizer);
  for (Memory& memory : memories) {
    optimizer->state(memory.id) = std::move(memory.moments);
    optimizer->first_steps(memory.id) = std::move(memory.first_steps);
  }
}

template <Real T>
void put_back_block(const std::string& name, RemovedBlock<T>& removed, nn::Layer<T>& network,
                    optim::Optimizer<T>* optimizer) {
  if (!removed.layer) throw ArgumentError(concat("depth: the block ", name, " was put back already"));
  nn::Sequential<T>* const container = sequence_called(network, removed.container);
  if (!container) {
    throw ArgumentError(
        concat("depth: the network has no Sequential '", removed.container, "' to put ", name, " back into"));
  }
  const std::string own = last_name(name);
  for (const auto& child : container->description().children) {
    if (child.name != own) continue;
    throw ArgumentError(concat("depth: the network has a layer ", name, " already; remove or rename that first"));
  }
  if (removed.position > container->size()) {
    throw ArgumentError(concat("depth: ", name, " stood behind ", removed.position, " layers of '", removed.container,
                               "', which has ", container->size(), " now"));
  }
  container->insert(removed.position, own, std::move(removed.layer));
  for (auto& memory : removed.memories) {
    if (!optimizer) break;
    optimizer->state(memory.id) = std::move(memory.moments);
    optimizer->first_steps(memory.id) = std::move(memory.first_steps);
    optimizer->set_group(memory.id, memory.group);
  }
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
Removed<T> prune(Context& ctx, const Site<T>& site, const std::vector<std::int64_t>& units, nn::Layer<T>& network,
                 optim::Optimizer<T>* optimizer) {
  Removed<T> removed{.name = site.name};
  removed.units = detail::checked_units(site, units);
  // Of the axis: indices that stay, that go, and for each index before where it is found afterwards.
  Edit<T> edit;
  for (const detail::UnitAxis<T>& along : detail::unit_axes(site)) {
    std::vector<std::int64_t> stay, go, back;
    for (std::int64_t i = 0; i < along.value->extent(along.axis); ++i) {
      const bool goes = std::binary_search(removed.units.begin(), removed.units.end(), along.along.unit_of(i));
      back.push_back(goes ? -1 : std::ssize(stay));
      (goes ? go : stay).push_back(i);
    }
    const std::int64_t before = std::ssize(back), after = std::ssize(stay);
    edit.axes.push_back({along.id, along.axis, std::move(stay), {}, before});
    removed.slices.restore.axes.push_back(
        {along.id, along.axis, std::move(back), detail::slices(ctx, *along.value, along.axis, go), after});
    std::vector<Tensor<T>> moments;
    std::vector<std::int64_t> first_steps;
    if (optimizer) {
      for (const Tensor<T>& moment : optimizer->state(along.id)) {
        moments.push_back(detail::slices(ctx, moment, along.axis, go));
      }
      const std::vector<std::int64_t> all =
          optimizer->first_steps(along.id).along(along.axis, along.value->extent(along.axis));
      for (const std::int64_t index : go) first_steps.push_back(all.at(static_cast<std::size_t>(index)));
    }
    removed.slices.moments.push_back(std::move(moments));
    removed.slices.first_steps.push_back(std::move(first_steps));
  }
  apply(ctx, edit, network, optimizer);
  return removed;
}

template <Real T>
Removed<T> remove_block(nn::Layer<T>& network, const std::string& name, optim::Optimizer<T>* optimizer) {
  nn::Sequential<T>* const container = name.empty() ? nullptr : detail::container_of(network, name);
  if (!container) {
    throw ArgumentError(concat("depth: there is no layer '", name, "' in a Sequential of the network"));
  }
  const std::string own = detail::last_name(name);
  Removed<T> removed{.name = name};
  detail::RemovedBlock<T>& out = removed.block;
  out.container = container->name();
  out.position = container->position(own);
  nn::Layer<T>& block = (*container)[out.position];
  if (!detail::body_of(block.description())) {
    throw ArgumentError(concat("depth: ", block.label(),
                               " is no block that adds something to its input; what stands behind it could not read "
                               "what stands before it"));
  }
  out.layer = container->extract(own);
  if (!optimizer) return removed;
  out.layer->visit_parameters([&](nn::Parameter<T>& parameter) {
    out.memories.push_back({parameter.id, std::move(optimizer->state(parameter.id)),
                            optimizer->first_steps(parameter.id), optimizer->group(parameter.id)});
    optimizer->forget(parameter.id);
  });
  return removed;
}

template <Real T>
void put_back(Context& ctx, Removed<T>&& removed, nn::Layer<T>& network, optim::Optimizer<T>* optimizer) {
  if (removed.units.empty()) return detail::put_back_block(removed.name, removed.block, network, optimizer);
  detail::put_back_slices(ctx, removed.slices, network, optimizer);
}

MERISTEM_INLINE std::vector<std::int64_t> smallest_units(const std::vector<double>& scores, std::int64_t count) {
  if (count < 0 || count > std::ssize(scores)) {
    throw ArgumentError(concat("pruning: ", count, " units were asked for among ", scores.size()));
  }
  std::vector<std::int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return scores[static_cast<std::size_t>(a)] < scores[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

template <Real T>
std::vector<double> unit_norms(Context& ctx, const Site<T>& site) {
  const std::size_t width = static_cast<std::size_t>(site.width());
  std::vector<double> in(width, 0.0), result(width, 0.0);
  const auto square = [](T value) { return static_cast<double>(value) * static_cast<double>(value); };
  if (width == 0) return in;
  const auto add_source = [&](const Affine<T>& source, nn::BatchNorm<T>* norm) {
    const std::vector<T> weights = to_host(ctx, norm ? norm->weight().value : source.weight().value);
    for (std::size_t i = 0; i < weights.size(); ++i) in[i / (weights.size() / width)] += square(weights[i]);
  };
  add_source(site.producer, site.producer.norm());
  for (const Affine<T>& rider : site.riders) add_source(rider, rider.norm());
  site.for_each_reader([&](const Reader<T>& reader) {
    std::vector<double> feeds = in;
    if (reader.input_norm) {
      const std::vector<T> norm = to_host(ctx, reader.input_norm->weight().value);
      const auto first = norm.begin() + reader.offset();
      std::transform(first, first + site.width(), feeds.begin(), square);
    }
    std::vector<double> out(width, 0.0);
    const std::vector<T> weights = to_host(ctx, reader.consumer.weight().value);
    const detail::UnitsAlong along = detail::units_along(reader, site.width());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const std::int64_t unit = along.unit_of(static_cast<std::int64_t>(i));
      if (unit >= 0) out[static_cast<std::size_t>(unit)] += square(weights[i]);
    }
    for (std::size_t k = 0; k < width; ++k) result[k] += feeds[k] * out[k];
  });
  for (double& score : result) score = std::sqrt(score);
  return result;
}

}  // namespace meristem::grow
