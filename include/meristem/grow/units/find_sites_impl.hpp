// Definitions of find_sites.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include <meristem/core/text.hpp>
#include <meristem/grow/units/find_sites.hpp>

namespace meristem::grow::detail {

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
    for (const Read& other : reads_) {
      const bool again = other.how.consumer.layer() == consumer && other.place != read.place;
      if (!again || root(other.source) != root(read.source)) continue;
      refuse(read.source, concat(consumer->label(), " reads them twice, side by side"));
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
  const auto readers = readers_of(source);
  std::string why;
  for (const auto& [other, reason] : refused_) {
    if (why.empty() && root(other) == root(source)) why = reason;
  }
  if (why.empty() && readers == 0) why = "no layer reads its outputs";
  const bool stream = is_stream(source);
  if (why.empty()) why = stream ? trouble_of_stream(source) : trouble_of_chain(source);
  if (widths == Widths::all || !stream) return why.empty() ? why : "cannot grow: " + why;
  std::vector<std::string> names;
  for (const std::size_t member : tied) names.push_back(sources_[member].name());
  return concat("cannot grow alone: ",
                tied.size() > 1
                    ? concat("skip connections add the outputs of ", listed(names), ", whose channels are tied")
                : readers > 1 ? concat(readers, " layers read its outputs")
                              : std::string("others share the norm in front of the layer that reads its outputs"),
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
    if (read.how.flattened && read.how.features(sources_[read.source].out_features()) == 0) {
      return concat("without channels it does not tell how many positions ", label, " reads");
    }
  }
  return {};
}

template <Real T>
std::ptrdiff_t SiteFinder<T>::readers_of(std::size_t source) const {
  return std::count_if(reads_.begin(), reads_.end(), [&](const Read& read) { return read.source == source; });
}

template <Real T>
bool SiteFinder<T>::is_stream(std::size_t source) const {
  const auto shares = [&](const Read& read) { return read.source == source && read.shares_norm; };
  return members(source).size() > 1 || readers_of(source) > 1 || std::any_of(reads_.begin(), reads_.end(), shares);
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
  if (is_stream(source)) {
    result.stream = sources_[tied.front()].name();
    result.first = sources_[tied.front()].layer();
  }
  return result;
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

#include <meristem/grow/units/find_sites_follow_impl.hpp>
