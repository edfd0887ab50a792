// Definitions of streams.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include <meristem/grow/units/streams.hpp>

namespace meristem::grow::detail {

/// Whether a tensor other than an affine layer's weight and bias has an axis that features index.
template <Real T>
[[nodiscard]] bool has_riders(const nn::Description<T>& description);

/// Whether means of means over the two windows are means over one.
[[nodiscard]] MERISTEM_INLINE bool compose(const Window& first, const Window& second) {
  return first.kernel == first.stride && first.padding == Extent2(0) && first.dilation == Extent2(1) &&
         second.padding == Extent2(0) && second.dilation == Extent2(1);
}

template <Real T>
StreamFinder<T>::StreamFinder(nn::Layer<T>& network) {
  Flow input;
  input.foreign = "the network's input";
  refuse(follow(network, input), "its outputs are the network's");
  for (Read& read : reads_) {
    const nn::Layer<T>* const consumer = read.how.consumer.layer();
    read.how.consumer_norm = sources_[source_of_.at(consumer)].norm;
    if (root(source_of_.at(consumer)) == root(read.source)) {
      refuse(read.source, concat(consumer->label(), " reads the channels that its outputs are added to"));
    }
  }
}

template <Real T>
std::vector<Site<T>> StreamFinder<T>::sites() const {
  std::vector<Site<T>> result;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (!trouble(sources_[i].layer.name()).empty()) continue;
    result.push_back(site(i));
  }
  return result;
}

template <Real T>
std::string StreamFinder<T>::trouble(const std::string& name) const {
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i].layer.name() != name) continue;
    for (const auto& [source, why] : refused_) {
      if (root(source) == root(i)) return why;
    }
    for (const Read& read : reads_) {
      if (read.source == i) return {};
    }
    return "no layer reads its outputs";
  }
  return {};
}

template <Real T>
std::size_t StreamFinder<T>::place(const nn::Layer<T>* layer) const {
  const auto found = source_of_.find(layer);
  return found == source_of_.end() ? sources_.size() : found->second;
}

template <Real T>
Site<T> StreamFinder<T>::site(std::size_t source) const {
  Site<T> result;
  result.name = sources_[source].layer.name();
  result.producer = sources_[source].layer;
  result.norm = sources_[source].norm;
  std::size_t first = sources_.size(), members = 0;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (root(i) != root(source)) continue;
    first = std::min(first, i);
    ++members;
    if (i != source) result.riders.push_back(sources_[i]);
  }
  std::vector<Reader<T>> behind;
  std::set<const nn::Layer<T>*> seen;
  for (const Read& read : reads_) {
    if (read.source != source) continue;
    behind.push_back(read.how);
    seen.insert(read.how.consumer.layer());
  }
  for (const Read& read : reads_) {
    if (root(read.source) != root(source) || !seen.insert(read.how.consumer.layer()).second) continue;
    result.earlier.push_back(read.how);
  }
  static_cast<Reader<T>&>(result) = behind.front();
  result.others.assign(behind.begin() + 1, behind.end());
  if (members > 1 || behind.size() > 1) {
    result.stream = sources_[first].layer.name();
    result.first = sources_[first].layer.layer();
  }
  return result;
}

template <Real T>
auto StreamFinder<T>::follow(nn::Layer<T>& layer, Flow flow) -> Flow {
  const nn::Description<T> told = layer.description();
  const Affine<T> affine(layer, told);
  if (affine.layer()) return read(layer, affine, flow);
  if (told.op == nn::Operator::sequence && told.plain()) {
    for (const auto& child : told.children) flow = follow(*child.layer, std::move(flow));
    return flow;
  }
  if (told.op == nn::Operator::sum && told.plain() && !told.children.empty()) return add(layer, told, flow);
  if (told.batch_norm) {
    for (Arrival& arrival : flow.arrivals) {
      if (!arrival.direct || !flow.foreign.empty() || flow.arrivals.size() > 1) {
        refuse(arrival.source, concat(layer.label(), " does not stand directly behind a single layer"));
      }
      sources_[arrival.source].norm = told.batch_norm;
      arrival.direct = false;
    }
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
auto StreamFinder<T>::read(nn::Layer<T>& layer, const Affine<T>& affine, const Flow& flow) -> Flow {
  for (const Arrival& arrival : flow.arrivals) {
    Reader<T> how = arrival.path;
    how.consumer = affine;
    if (sources_[arrival.source].layer.is_convolution() && !affine.is_convolution() && !how.flattened &&
        !arrival.global) {
      refuse(arrival.source, concat(layer.label(), " reads single positions of a map"));
    }
    reads_.push_back({arrival.source, how});
  }
  if (source_of_.contains(&layer)) {
    refuse(source_of_.at(&layer), concat(layer.label(), " runs more than once"));
  } else {
    source_of_[&layer] = sources_.size();
    parents_.push_back(sources_.size());
    sources_.push_back({affine, nullptr});
  }
  Arrival arrival;
  arrival.source = source_of_.at(&layer);
  Flow result;
  result.arrivals.push_back(arrival);
  return result;
}

template <Real T>
auto StreamFinder<T>::add(nn::Layer<T>& layer, const nn::Description<T>& told, const Flow& flow) -> Flow {
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
      arrival.direct = false;
      sum.arrivals.push_back(arrival);
    }
    if (sum.foreign.empty()) sum.foreign = out.foreign;
  }
  for (const Arrival& arrival : sum.arrivals) tie(arrival.source, sum.arrivals.front().source);
  if (!sum.foreign.empty()) refuse(sum, concat("its outputs are added to ", sum.foreign));
  activate(layer, told.activation, 1.0, sum);
  return sum;
}

template <Real T>
void StreamFinder<T>::activate(const nn::Layer<T>& layer, const std::optional<nn::Activation>& function, double slope,
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
void StreamFinder<T>::pool(nn::Layer<T>& layer, const nn::Description<T>& told, Flow& flow) {
  for (Arrival& arrival : flow.arrivals) {
    Reader<T>& path = arrival.path;
    if (!sources_[arrival.source].layer.is_convolution() || path.flattened || path.last_pool) {
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
void StreamFinder<T>::flatten(const nn::Layer<T>& layer, Flow& flow) {
  for (Arrival& arrival : flow.arrivals) {
    const Affine<T>& source = sources_[arrival.source].layer;
    if (arrival.path.flattened || !source.is_convolution() || source.out_features() == 0) {
      refuse(arrival.source, concat(layer.label(), " merges axes whose meaning is not known"));
    }
    arrival.path.flattened = !arrival.global;
  }
}

template <Real T>
void StreamFinder<T>::refuse(const Flow& flow, const std::string& why) {
  for (const Arrival& arrival : flow.arrivals) refuse(arrival.source, why);
}

template <Real T>
void StreamFinder<T>::refuse(std::size_t source, const std::string& why) {
  refused_.emplace(source, why);
}

template <Real T>
void StreamFinder<T>::tie(std::size_t a, std::size_t b) {
  parents_[root(a)] = root(b);
}

template <Real T>
std::size_t StreamFinder<T>::root(std::size_t source) const {
  while (parents_[source] != source) source = parents_[source];
  return source;
}

}  // namespace meristem::grow::detail
