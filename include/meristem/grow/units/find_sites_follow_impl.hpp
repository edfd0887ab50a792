// Definitions of find_sites.hpp: what becomes of outputs on their way.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/text.hpp>
#include <meristem/grow/units/find_sites.hpp>

namespace meristem::grow::detail {

/// Whether means of means over the two windows are means over one.
[[nodiscard]] MERISTEM_INLINE bool compose(const Window& first, const Window& second) {
  return first.kernel == first.stride && first.padding == Extent2(0) && first.dilation == Extent2(1) &&
         second.padding == Extent2(0) && second.dilation == Extent2(1);
}

template <Real T>
auto SiteFinder<T>::follow(nn::Layer<T>& layer, Flow flow) -> Flow {
  const nn::Description<T> told = layer.description();
  const Affine<T> affine(layer, told);
  if (affine.layer()) return read(layer, affine, flow);
  if (told.op == nn::Operator::sequence && told.plain()) {
    for (const auto& child : told.children) flow = follow(*child.layer, std::move(flow));
    return flow;
  }
  if (told.op == nn::Operator::sum && told.plain() && !told.children.empty()) return add(layer, told, flow);
  if (told.op == nn::Operator::concatenate && told.plain()) return put_side_by_side(layer, told, flow);
  if (told.batch_norm) {
    normalise(*told.batch_norm, flow);
    if (!adding_.contains(&layer)) activate(layer, told.activation, 1.0, flow);
    return flow;
  }
  for (Arrival& arrival : flow.arrivals) arrival.direct = false;
  const bool rides = has_riders(told);
  if (told.op == nn::Operator::identity && !rides) return flow;
  if (told.op == nn::Operator::elementwise && told.slope_at_zero && !rides) {
    activate(layer, told.activation, *told.slope_at_zero, flow);
    return flow;
  }
  if (told.op == nn::Operator::pool && !rides) {
    pool(layer, told, flow);
    return flow;
  }
  if (told.op == nn::Operator::flatten && !rides) {
    flatten(layer, flow);
    return flow;
  }
  refuse(flow, concat(layer.label(), " reads them, and what it does to one more channel is not known"));
  Flow beyond;
  beyond.foreign = concat("the output of ", layer.label());
  for (const auto& child : told.children) {
    Flow within;
    within.foreign = concat("what ", layer.label(), " gives to the layers inside");
    refuse(follow(*child.layer, within), concat("what ", layer.label(), " does with them is not known"));
  }
  return beyond;
}

template <Real T>
auto SiteFinder<T>::read(nn::Layer<T>& layer, const Affine<T>& affine, const Flow& flow) -> Flow {
  for (const Arrival& arrival : flow.arrivals) {
    Reader<T> how = arrival.path;
    how.consumer = affine;
    locate(arrival, how);
    const bool positions =
        sources_[arrival.source].is_convolution() && !affine.is_convolution() && !how.flattened && !arrival.global;
    const std::size_t place = how.before.size() + static_cast<std::size_t>(arrival.unknown_before);
    reads_.push_back({arrival.source, how, positions, place, how.input_norm && arrival.beside()});
  }
  if (source_of_.contains(&layer)) {
    refuse(source_of_.at(&layer), concat(layer.label(), " runs more than once"));
  } else {
    source_of_[&layer] = sources_.size();
    parents_.push_back(sources_.size());
    sources_.push_back(affine);
  }
  Arrival arrival;
  arrival.source = source_of_.at(&layer);
  Flow result;
  result.arrivals.push_back(arrival);
  return result;
}

template <Real T>
auto SiteFinder<T>::add(nn::Layer<T>& layer, const nn::Description<T>& told, const Flow& flow) -> Flow {
  if (told.adding) adding_.insert(told.adding);
  Flow sum;
  for (const auto& branch : told.children) {
    Flow into = flow;
    for (Arrival& arrival : into.arrivals) arrival.direct = false;
    Flow out = follow(*branch.layer, std::move(into));
    for (Arrival& arrival : out.arrivals) {
      for (const Arrival& other : sum.arrivals) {
        if (other.source == arrival.source) refuse(other.source, concat(layer.label(), " adds them to themselves"));
      }
      if (arrival.path.input_norm) {
        refuse(arrival.source, concat(layer.label(), " adds what ", arrival.path.input_norm->label(),
                                      " gives, which does not stand directly behind a single layer"));
      }
      arrival.direct = false;
      sum.arrivals.push_back(arrival);
    }
    if (sum.foreign.empty()) sum.foreign = out.foreign;
  }
  const auto beside = [](const Arrival& arrival) { return arrival.beside(); };
  if (std::any_of(sum.arrivals.begin(), sum.arrivals.end(), beside)) {
    refuse(sum, concat(layer.label(), " adds outputs of several layers side by side to others"));
  } else {
    for (const Arrival& arrival : sum.arrivals) tie(arrival.source, sum.arrivals.front().source);
  }
  if (!sum.foreign.empty()) refuse(sum, concat("its outputs are added to ", sum.foreign));
  activate(layer, told.activation, 1.0, sum);
  return sum;
}

template <Real T>
auto SiteFinder<T>::put_side_by_side(nn::Layer<T>& layer, const nn::Description<T>& told, const Flow& flow) -> Flow {
  Flow row;
  Row before;
  const auto append = [](std::vector<Affine<T>>& to, const std::vector<Affine<T>>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  for (const auto& branch : told.children) {
    Flow into = flow;
    for (Arrival& arrival : into.arrivals) arrival.direct = false;
    const Flow out = follow(*branch.layer, std::move(into));
    const Row own = row_of(out);
    for (Arrival& earlier : row.arrivals) {
      append(earlier.path.after, own.layers);
      earlier.unknown_after += own.unknown;
    }
    for (Arrival arrival : out.arrivals) {
      Reader<T>& path = arrival.path;
      if (path.input_norm || path.flattened) {
        refuse(arrival.source, concat(layer.label(), " puts others beside what ",
                                      path.flattened ? "a Flatten" : path.input_norm->label(), " gives"));
      }
      path.before.insert(path.before.begin(), before.layers.begin(), before.layers.end());
      arrival.unknown_before += before.unknown;
      arrival.direct = false;
      row.arrivals.push_back(std::move(arrival));
    }
    append(before.layers, own.layers);
    before.unknown += own.unknown;
    if (row.foreign.empty()) row.foreign = out.foreign;
  }
  return row;
}

template <Real T>
auto SiteFinder<T>::row_of(const Flow& flow) const -> Row {
  const auto flattened = [](const Arrival& arrival) { return arrival.path.flattened; };
  if (flow.arrivals.empty() || std::any_of(flow.arrivals.begin(), flow.arrivals.end(), flattened)) return {{}, 1};
  const Arrival& one = flow.arrivals.front();
  Row row{one.path.before, one.unknown_before + one.unknown_after};
  row.layers.push_back(sources_[one.source]);
  row.layers.insert(row.layers.end(), one.path.after.begin(), one.path.after.end());
  return row;
}

template <Real T>
void SiteFinder<T>::locate(const Arrival& arrival, Reader<T>& reader) {
  const int unknown = arrival.unknown_before + arrival.unknown_after;
  if (unknown == 0 || (arrival.unknown_before == 0 && !reader.flattened)) return;
  if (unknown > 1 || reader.flattened) {
    return refuse(arrival.source, concat(reader.consumer.layer()->label(),
                                         " reads them beside others, and how many those are is not known"));
  }
  reader.fixed_before = reader.consumer.in_features() - sources_[arrival.source].out_features() - reader.offset();
  for (const Affine<T>& layer : reader.after) reader.fixed_before -= layer.out_features();
}

template <Real T>
void SiteFinder<T>::normalise(nn::BatchNorm<T>& norm, Flow& flow) {
  const bool behind_a_source = flow.arrivals.size() == 1 && flow.foreign.empty();
  for (Arrival& arrival : flow.arrivals) {
    Reader<T>& path = arrival.path;
    if (behind_a_source && arrival.direct) {
      sources_[arrival.source].set_norm(&norm);
    } else if (path.input_norm) {
      refuse(arrival.source, concat(norm.label(), " is a second norm behind ", path.input_norm->label()));
    } else if (arrival.activated || path.pool || path.flattened) {
      refuse(arrival.source, concat(norm.label(), " reads them behind ",
                                    arrival.activated ? "an activation"
                                    : path.pool       ? "a pooling"
                                                      : "a Flatten",
                                    ", where mean and variance of a new unit are not known"));
    } else {
      path.input_norm = &norm;
    }
    arrival.direct = false;
  }
}

template <Real T>
void SiteFinder<T>::activate(const nn::Layer<T>& layer, const std::optional<nn::Activation>& function, double slope,
                             Flow& flow) {
  if (function == nn::Activation::identity) return;
  for (Arrival& arrival : flow.arrivals) {
    Reader<T>& path = arrival.path;
    if (!arrival.activated && !path.last_pool) {
      arrival.activated = true;
      path.activation = function.value_or(nn::Activation::identity);
      if (!function) path.own_slope = slope;
    } else if (!arrival.activated) {
      refuse(arrival.source, concat("two poolings stand before the activation ", layer.label()));
    } else if (function != nn::Activation::relu || path.activation != nn::Activation::relu) {
      refuse(arrival.source, concat("they pass a second activation, ", layer.label(),
                                    "; only the ReLU of a ReLU leaves a unit what it is"));
    }
  }
}

template <Real T>
void SiteFinder<T>::pool(nn::Layer<T>& layer, const nn::Description<T>& told, Flow& flow) {
  for (Arrival& arrival : flow.arrivals) {
    Reader<T>& path = arrival.path;
    if (!sources_[arrival.source].is_convolution() || path.flattened || path.last_pool) {
      refuse(arrival.source, concat(layer.label(), path.last_pool ? " is a third pooling" : " reads no maps"));
    } else if (!path.pool) {
      path.pool = &layer;
      path.pooling = told.pooling;
      path.pool_first = !arrival.activated;
    } else {
      const nn::Description<T> before = path.pool->description();
      if (!before.global && !compose(before.window, told.global ? Window{} : told.window)) {
        refuse(arrival.source, concat(path.pool->label(), " and ", layer.label(), " are no single pooling"));
      }
      path.last_pool = &layer;
    }
    arrival.global = arrival.global || told.global;
  }
}

template <Real T>
void SiteFinder<T>::flatten(const nn::Layer<T>& layer, Flow& flow) {
  for (Arrival& arrival : flow.arrivals) {
    const Affine<T>& source = sources_[arrival.source];
    if (arrival.path.flattened || !source.is_convolution()) {
      refuse(arrival.source, concat(layer.label(), " merges axes whose meaning is not known"));
    }
    arrival.path.flattened = !arrival.global;
  }
}

}  // namespace meristem::grow::detail
