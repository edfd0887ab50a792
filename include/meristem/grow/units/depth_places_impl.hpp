// Definitions of depth.hpp: places.
#pragma once

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>
#include <utility>

#include <meristem/grow/units/depth.hpp>
#include <meristem/grow/units/find_sites.hpp>

namespace meristem::grow::detail {

[[nodiscard]] MERISTEM_INLINE std::string last_name(const std::string& path) {
  return path.substr(path.rfind('.') + 1);
}

/// Whether a window leaves maps as large as they are.
[[nodiscard]] MERISTEM_INLINE bool keeps_size(const Window& window) {
  const Extent2 reach = window.reach();
  return window.stride == Extent2(1) && 2 * window.padding.y == reach.y - 1 && 2 * window.padding.x == reach.x - 1;
}

/// The layers of a chain of sequences, in order; false where something else holds layers.
template <Real T>
[[nodiscard]] bool leaves_of(nn::Layer<T>& layer, std::vector<nn::Layer<T>*>& leaves) {
  const nn::Description<T> told = layer.description();
  if (told.op != nn::Operator::sequence) {
    leaves.push_back(&layer);
    return told.children.empty();
  }
  bool chain = told.plain();
  for (const auto& child : told.children) chain = leaves_of(*child.layer, leaves) && chain;
  return chain;
}

/// The branches of a residual block: the one with layers, or null unless the other is the identity.
template <Real T>
[[nodiscard]] nn::Layer<T>* body_of(const nn::Description<T>& told) {
  if (told.op != nn::Operator::sum || !told.plain() || told.children.size() != 2) return nullptr;
  nn::Layer<T>* body = nullptr;
  for (const auto& branch : told.children) {
    const nn::Description<T> inside = branch.layer->description();
    if (inside.op == nn::Operator::sequence && inside.plain() && inside.children.empty()) continue;
    if (body) return nullptr;
    body = branch.layer;
  }
  return body;
}

/// Takes over the form of a residual block; false if it is no model.
template <Real T>
[[nodiscard]] bool take_form(nn::Layer<T>& block, Place<T>& place) {
  nn::Layer<T>* const body = body_of(block.description());
  if (!body) return false;
  std::vector<nn::Layer<T>*> leaves;
  if (!leaves_of(*body, leaves)) return false;
  const std::vector<Site<T>> sites = find_sites(*body);
  if (sites.size() != 1) return false;
  const Site<T>& site = sites.front();
  const nn::Layer<T>* const end =
      site.consumer.norm() ? static_cast<nn::Layer<T>*>(site.consumer.norm()) : site.consumer.layer();
  if (leaves.front() != site.producer.layer() || leaves.back() != end) return false;
  if (site.pool || site.flattened || site.own_slope) return false;
  if (site.producer.in_features() != site.consumer.out_features()) return false;
  if (site.producer.is_convolution() != site.consumer.is_convolution()) return false;
  place.model = &block;
  place.first = site.producer;
  place.last = site.consumer;
  place.norm = site.producer.norm();
  place.last_norm = site.consumer.norm();
  place.activation = site.activation;
  place.features = site.producer.in_features();
  place.first_window = site.producer.window();
  place.last_window = site.consumer.window();
  place.names = {.first = last_name(site.producer.name()),
                 .norm = site.producer.norm() ? last_name(site.producer.norm()->name()) : "",
                 .activation = "",
                 .last = last_name(site.consumer.name()),
                 .last_norm = site.consumer.norm() ? last_name(site.consumer.norm()->name()) : ""};
  for (nn::Layer<T>* leaf : leaves) {
    const nn::Description<T> told = leaf->description();
    if (told.op == nn::Operator::elementwise) place.names.activation = last_name(leaf->name());
    // A norm that the site does not have between its two layers is none that can be made again.
    if (told.op == nn::Operator::normalise && leaf != site.producer.norm() && leaf != site.consumer.norm())
      return false;
  }
  return true;
}

/// Finds places along the sequences of a network.
template <Real T>
class PlaceFinder {
 public:
  PlaceFinder(nn::Layer<T>& network, Widths widths) {
    if (widths == Widths::hidden) {
      for (const Site<T>& site : find_sites(network)) hidden_.insert(site.producer.layer());
    }
    walk(network);
  }

  std::vector<Place<T>> places;

 private:
  void walk(nn::Layer<T>& layer) {
    const nn::Description<T> told = layer.description();
    nn::Sequential<T>* const sequence = told.sequential;
    if (!sequence) return;
    std::set<std::string> taken;
    for (const auto& child : told.children) taken.insert(child.name);
    Affine<T> tail;  // the affine layer whose outputs flow, if nothing but what a chain may have followed it
    nn::BatchNorm<T>* norm = nullptr;
    bool directly = false;
    for (std::size_t i = 0; i < told.children.size(); ++i) {
      nn::Layer<T>& child = *told.children[i].layer;
      const nn::Description<T> own = child.description();
      const Affine<T> affine(child, own);
      const bool behind = std::exchange(directly, false);
      std::optional<nn::Activation> activation;
      if (affine.layer()) {
        tail = affine;
        norm = nullptr;
        directly = true;
        continue;
      }
      if (own.batch_norm && behind) {
        norm = own.batch_norm;
        activation = own.activation;
      } else if (own.op == nn::Operator::elementwise && own.activation && own.plain()) {
        activation = own.activation;
      } else if (own.op == nn::Operator::identity ||
                 (own.op == nn::Operator::pool && !own.global && tail.layer() && tail.is_convolution())) {
        continue;
      } else {
        tail = {};
      }
      if (activation && *activation != nn::Activation::identity && tail.layer()) {
        if (!hidden_.contains(tail.layer())) in_chain(*sequence, child, tail, norm, *activation, taken);
        tail = {};
      }
      if (own.op == nn::Operator::sum) {
        Place<T> place;
        const bool fits =
            take_form(child, place) || (i + 1 < told.children.size() && take_form(*told.children[i + 1].layer, place));
        if (fits) add(std::move(place), *sequence, child, base_of(told.children[i].name) + "_", taken);
      } else if (own.op == nn::Operator::sequence) {
        walk(child);
      }
    }
  }

  void in_chain(nn::Sequential<T>& sequence, nn::Layer<T>& behind, const Affine<T>& tail, nn::BatchNorm<T>* norm,
                nn::Activation activation, std::set<std::string>& taken) {
    Place<T> place;
    place.first = place.last = tail;
    place.norm = place.last_norm = norm;
    place.activation = activation;
    place.features = tail.out_features();
    if (tail.is_convolution()) {
      const bool keeps = keeps_size(tail.window());
      place.first_window = keeps ? tail.window() : Window{.kernel = 3, .padding = 1};
      place.last_window = place.first_window;
    }
    const std::string kind = tail.is_convolution() ? "conv" : "linear";
    place.names = {.first = kind + "1",
                   .norm = norm ? "norm1" : "",
                   .activation = "activation",
                   .last = kind + "2",
                   .last_norm = norm ? "norm2" : ""};
    add(std::move(place), sequence, behind, "block", taken);
  }

  void add(Place<T> place, nn::Sequential<T>& sequence, nn::Layer<T>& behind, const std::string& base,
           std::set<std::string>& taken) {
    int number = 1;
    while (!taken.insert(base + std::to_string(number)).second) ++number;
    const std::string& path = sequence.name();
    place.name = concat(path, path.empty() ? "" : ".", base, number);
    place.behind = behind.name();
    place.container = &sequence;
    places.push_back(std::move(place));
  }

  /// `block1` of `block1_2`: blocks behind inserted ones are named like those.
  static std::string base_of(const std::string& name) {
    const std::size_t at = name.rfind('_');
    if (at == std::string::npos || at == 0 || at + 1 == name.size()) return name;
    const bool number = std::all_of(name.begin() + static_cast<std::ptrdiff_t>(at) + 1, name.end(),
                                    [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; });
    return number ? name.substr(0, at) : name;
  }

  std::set<const nn::Layer<T>*> hidden_;  // producers whose width could not grow behind a block
};

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
std::vector<Place<T>> find_places(nn::Layer<T>& network, Widths widths) {
  return detail::PlaceFinder<T>(network, widths).places;
}

}  // namespace meristem::grow
