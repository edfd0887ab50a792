// Definitions of find_sites.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include <meristem/core/text.hpp>
#include <meristem/grow/units/find_sites.hpp>

namespace meristem::grow::detail {

/// Whether means of means over the two windows are means over one.
[[nodiscard]] MERISTEM_INLINE bool compose(const Window& first, const Window& second) {
  return first.kernel == first.stride && first.padding == Extent2(0) && first.dilation == Extent2(1) &&
         second.padding == Extent2(0) && second.dilation == Extent2(1);
}

template <Real T>
SiteFinder<T>::SiteFinder(nn::Layer<T>& network) {
  Flow input;
  input.foreign = "the network's input";
  refuse(follow(network, input), "its outputs are the network's");
  for (Read& read : reads_) {
    const nn::Layer<T>* const consumer = read.how.consumer.layer();
    read.how.consumer.set_norm(sources_[source_of_.at(consumer)].norm());
    if (root(source_of_.at(consumer)) == root(read.source)) {
      refuse(read.source, concat(consumer->label(), " reads the channels that its outputs are added to"));
    }
  }
}

template <Real T>
std::vector<Site<T>> SiteFinder<T>::sites(Widths widths) const {
  std::vector<Site<T>> result;
  if (widths == Widths::none) return result;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (refusal(i, widths).empty()) result.push_back(site(i));
  }
  return result;
}

template <Real T>
std::string SiteFinder<T>::refusal(const std::string& name, Widths widths) const {
  if (widths == Widths::none) return "cannot grow: Widths::none keeps all layers that are there as they are";
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i].name() == name) return refusal(i, widths);
  }
  return "cannot grow: it is no Linear, Conv2d or other layer that describes itself as affine";
}

template <Real T>
std::string SiteFinder<T>::refusal(std::size_t source, Widths widths) const {
  const std::vector<std::size_t> tied = members(source);
  const auto readers =
      std::count_if(reads_.begin(), reads_.end(), [&](const Read& read) { return read.source == source; });
  std::string why;
  for (const auto& [other, reason] : refused_) {
    if (why.empty() && root(other) == root(source)) why = reason;
  }
  if (why.empty() && readers == 0) why = "no layer reads its outputs";
  const bool stream = tied.size() > 1 || readers > 1;
  if (why.empty()) why = stream ? trouble_of_stream(source) : trouble_of_chain(source);
  if (widths == Widths::all || !stream) return why.empty() ? why : "cannot grow: " + why;
  std::vector<std::string> names;
  for (const std::size_t member : tied) names.push_back(sources_[member].name());
  return concat("cannot grow alone: ",
                tied.size() > 1
                    ? concat("skip connections add the outputs of ", listed(names), ", whose channels are tied")
                    : concat(readers, " layers read its outputs"),
                "; ", why.empty() ? "with Widths::all they grow together" : why);
}

template <Real T>
std::string SiteFinder<T>::trouble_of_chain(std::size_t source) const {
  for (const Read& read : reads_) {
    if (read.source != source || !read.how.input_norm) continue;
    return concat(read.how.input_norm->label(), " does not stand directly behind a single layer");
  }
  return {};
}

template <Real T>
std::string SiteFinder<T>::trouble_of_stream(std::size_t source) const {
  const Reader<T>* normed = nullptr;
  const Reader<T>* curved = nullptr;
  for (const Read& read : reads_) {
    if (root(read.source) != root(source)) continue;
    if (read.how.input_norm) normed = &read.how;
    if (!read.how.input_norm && !read.how.homogeneous()) curved = &read.how;
    if (normed && curved) {
      const auto label = [](const Reader<T>& reader) { return reader.consumer.layer()->label(); };
      return concat(label(*normed), " reads them behind ", normed->input_norm->label(), ", and ", label(*curved),
                    " without a norm through ",
                    curved->own_slope ? "a function of its own" : kernels::activation_name(curved->activation),
                    ", for which their scale matters; give both a norm, or that one a ReLU");
    }
    const std::string& label = read.how.consumer.layer()->label();
    if (read.positions) return concat(label, " reads single positions of a map");
    if (read.how.flattened && sources_[source].out_features() == 0) {
      return concat("without channels it does not tell how many positions ", label, " reads");
    }
  }
  return {};
}

template <Real T>
std::vector<std::size_t> SiteFinder<T>::members(std::size_t source) const {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (root(i) == root(source)) result.push_back(i);
  }
  return result;
}

template <Real T>
Site<T> SiteFinder<T>::site(std::size_t source) const {
  Site<T> result;
  result.name = sources_[source].name();
  result.producer = sources_[source];
  const std::vector<std::size_t> tied = members(source);
  for (const std::size_t i : tied) {
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
  if (tied.size() > 1 || behind.size() > 1) {
    result.stream = sources_[tied.front()].name();
    result.first = sources_[tied.front()].layer();
  }
  return result;
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
    const bool positions =
        sources_[arrival.source].is_convolution() && !affine.is_convolution() && !how.flattened && !arrival.global;
    reads_.push_back({arrival.source, how, positions});
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
  for (const Arrival& arrival : sum.arrivals) tie(arrival.source, sum.arrivals.front().source);
  if (!sum.foreign.empty()) refuse(sum, concat("its outputs are added to ", sum.foreign));
  activate(layer, told.activation, 1.0, sum);
  return sum;
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

template <Real T>
void SiteFinder<T>::refuse(const Flow& flow, const std::string& why) {
  for (const Arrival& arrival : flow.arrivals) refuse(arrival.source, why);
}

template <Real T>
void SiteFinder<T>::refuse(std::size_t source, const std::string& why) {
  refused_.emplace(source, why);
}

template <Real T>
void SiteFinder<T>::tie(std::size_t a, std::size_t b) {
  parents_[root(a)] = root(b);
}

template <Real T>
std::size_t SiteFinder<T>::root(std::size_t source) const {
  while (parents_[source] != source) source = parents_[source];
  return source;
}

template <Real T>
[[nodiscard]] bool has_layer(nn::Layer<T>& network, const std::string& name) {
  if (network.name() == name) return true;
  const auto children = network.children();
  return std::any_of(children.begin(), children.end(), [&](nn::Layer<T>* child) { return has_layer(*child, name); });
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
std::vector<Site<T>> find_sites(nn::Layer<T>& network, Widths widths) {
  return detail::SiteFinder<T>(network).sites(widths);
}

template <Real T>
Site<T> find_site(nn::Layer<T>& network, const std::string& name, Widths widths) {
  const detail::SiteFinder<T> finder(network);
  std::vector<std::string> names;
  for (const Site<T>& site : finder.sites(widths)) {
    if (site.name == name) return site;
    names.push_back(site.name);
  }
  const std::string others =
      names.empty() ? "no layer of this network can grow" : concat("the layers that can grow are ", listed(names));
  if (name.empty() || !detail::has_layer(network, name)) {
    throw ArgumentError(concat("growth: there is no layer '", name, "'; ", others));
  }
  throw ArgumentError(concat("growth: ", name, " ", finder.refusal(name, widths), "; ", others));
}

}  // namespace meristem::grow
