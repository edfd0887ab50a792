// Definitions of site.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include <meristem/grow/units/site.hpp>
#include <meristem/grow/units/streams.hpp>

namespace meristem::grow::detail {

/// Whether a tensor other than an affine layer's weight and bias has an axis that features index.
template <Real T>
[[nodiscard]] bool has_riders(const nn::Description<T>& description) {
  const auto rides = [](const auto& entry) {
    return entry.axis_of(nn::Axis::in) >= 0 || entry.axis_of(nn::Axis::out) >= 0 ||
           entry.axis_of(nn::Axis::channel) >= 0;
  };
  const bool affine = description.op == nn::Operator::affine;
  for (const auto& entry : description.parameters) {
    if (affine && (entry.tensor == description.weight || entry.tensor == description.bias)) continue;
    if (rides(entry)) return true;
  }
  return std::any_of(description.buffers.begin(), description.buffers.end(), rides);
}

/// Means of means: one window, where the first ones do not overlap.
[[nodiscard]] MERISTEM_INLINE Window one_after_the_other(const Window& a, const Window& b) {
  const auto kernel = [](std::int64_t first, std::int64_t stride, std::int64_t second) {
    return (second - 1) * stride + first;
  };
  return {.kernel = {kernel(a.kernel.y, a.stride.y, b.kernel.y), kernel(a.kernel.x, a.stride.x, b.kernel.x)},
          .stride = {a.stride.y * b.stride.y, a.stride.x * b.stride.x}};
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
Affine<T>::Affine(nn::Layer<T>& layer, const nn::Description<T>& description) {
  if (description.op != nn::Operator::affine || detail::has_riders(description)) return;
  layer_ = &layer;
  weight_ = description.weight;
  bias_ = description.bias;
  window_ = description.window;
  is_convolution_ = weight_->value.rank() == 4;
}

template <Real T>
Site<T> Site<T>::read_by(std::size_t index) const {
  Site result;
  static_cast<Reader<T>&>(result) = reader(index);
  result.name = name;
  result.producer = producer;
  result.norm = norm;
  return result;
}

template <Real T>
bool Site<T>::is_source(const nn::Layer<T>* layer) const {
  if (producer.layer() == layer) return true;
  return std::any_of(riders.begin(), riders.end(),
                     [&](const Source<T>& rider) { return rider.layer.layer() == layer; });
}

template <Real T>
std::int64_t Site<T>::fan_out() const {
  std::int64_t outputs = 0;
  for (std::size_t i = 0; i < readers(); ++i) outputs += reader(i).consumer.out_features();
  return outputs;
}

template <Real T>
std::int64_t Site<T>::parameters_per_unit(std::int64_t taps) const {
  if (!tied()) return fan_in() + taps * fan_out() + (norm ? 2 : 0);
  std::int64_t count = Source<T>{producer, norm}.parameters();
  for (const Source<T>& rider : riders) count += rider.parameters();
  for_each_reader([&](const Reader<T>& to) { count += to.places(width()) * to.consumer.out_features(); });
  return count;
}

template <Real T>
SiteShape Site<T>::shape(const Shape& input) const {
  if (readers() > 1) {
    throw ShapeError(concat("site ", name, ": a stream with ", readers(),
                            " readers has a shape for each; ask for that of read_by(index)"));
  }
  const auto shape_of = [](const Affine<T>& layer) {
    return AffineShape{layer.in_features(), layer.out_features(), layer.has_bias(), layer.is_convolution(),
                       layer.window()};
  };
  SiteShape result;
  result.name = name;
  result.producer = shape_of(producer);
  result.consumer = shape_of(consumer);
  result.consumer_label = consumer.layer()->label();
  if (!spatial()) return result;
  if (input.rank() != 4) {
    throw ShapeError(concat("site ", name, ": ", producer.layer()->label(), " reads shape ", input,
                            "; a site with a convolution reads maps (n, height, width, channels)"));
  }
  result.map = {input[1], input[2]};
  if (this->pool) result.pool = this->pool->description().window_on(result.hidden());
  if (this->last_pool) {
    result.pool = detail::one_after_the_other(*result.pool, this->last_pool->description().window_on(result.pooled()));
  }
  result.flattened = this->flattened;
  return result;
}

}  // namespace meristem::grow

namespace meristem::grow::detail {

template <Real T>
void SiteFinder<T>::walk(nn::Layer<T>& network) {
  const nn::Description<T> told = network.description();
  const bool chain = told.op == nn::Operator::sequence && told.plain();
  close();
  for (const auto& child : told.children) {
    visit(child.layer);
    if (!chain) close();
  }
  close();
}

template <Real T>
void SiteFinder<T>::visit(nn::Layer<T>* layer) {
  const nn::Description<T> told = layer->description();
  const Affine<T> affine(*layer, told);
  // A tensor between the two layers that has units of its own.
  const bool rides = told.op != nn::Operator::normalise && detail::has_riders(told);
  const nn::Operator op = rides || (told.op == nn::Operator::affine && !affine.layer()) ? nn::Operator::other : told.op;
  const bool behind = directly_behind_;
  directly_behind_ = false;
  if (op == nn::Operator::affine) {
    if (open_) {
      site_.consumer = affine;
      sites_->push_back(site_);
    }
    close();
    site_.name = layer->name();
    site_.producer = affine;
    open_ = directly_behind_ = true;
  } else if (told.batch_norm) {
    if (!behind) return close();
    site_.norm = told.batch_norm;
    if (!sites_->empty() && sites_->back().consumer.layer() == site_.producer.layer()) {
      sites_->back().consumer_norm = told.batch_norm;
    }
    if (told.activation != nn::Activation::identity) activate(*told.activation);
  } else if (op == nn::Operator::elementwise && told.slope_at_zero) {
    activate(told.activation.value_or(nn::Activation::identity));
    if (!told.activation) site_.own_slope = told.slope_at_zero;
  } else if (op == nn::Operator::pool) {
    if (site_.pool || site_.flattened || !site_.producer.layer() || !site_.producer.is_convolution()) close();
    site_.pool = layer;
    site_.pooling = told.pooling;
    site_.pool_first = !activated_;
    global_ = told.global;
  } else if (op == nn::Operator::flatten) {
    // Behind a Linear it would merge axes whose meaning is not known here.
    if (site_.flattened || !site_.producer.layer() || !site_.producer.is_convolution()) close();
    site_.flattened = !(site_.pool && global_);
  } else if (op != nn::Operator::identity) {
    close();
    SiteFinder(*sites_).walk(*layer);
  }
}

template <Real T>
void SiteFinder<T>::activate(nn::Activation function) {
  if (activated_) close();
  activated_ = true;
  site_.activation = function;
}

template <Real T>
void SiteFinder<T>::close() {
  open_ = activated_ = directly_behind_ = false;
  site_ = {};
}

template <Real T>
std::vector<std::string> TiedLayers<T>::of(const std::string& name) const {
  for (const std::vector<std::string>& group : groups_) {
    for (const std::string& member : group) {
      if (member == name) return group;
    }
  }
  return {};
}

template <Real T>
std::vector<std::string> TiedLayers<T>::follow(nn::Layer<T>& layer, std::vector<std::string> stream) {
  const nn::Description<T> told = layer.description();
  if (told.op == nn::Operator::affine) return {layer.name()};
  if (told.op == nn::Operator::sum) {
    std::vector<std::string> sum;
    for (const auto& branch : told.children) {
      for (const std::string& name : follow(*branch.layer, stream)) sum.push_back(name);
    }
    for (const std::string& name : sum) {
      // A stream that is added again takes its group with it.
      const auto known = [&](const std::vector<std::string>& group) {
        return std::find(group.begin(), group.end(), name) != group.end();
      };
      groups_.erase(std::remove_if(groups_.begin(), groups_.end(), known), groups_.end());
    }
    groups_.push_back(sum);
    return sum;
  }
  for (const auto& child : told.children) stream = follow(*child.layer, std::move(stream));
  return stream;
}

template <Real T>
[[nodiscard]] bool has_layer(nn::Layer<T>& network, const std::string& name) {
  if (network.name() == name) return true;
  for (nn::Layer<T>* child : network.children()) {
    if (has_layer(*child, name)) return true;
  }
  return false;
}

MERISTEM_INLINE std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
std::vector<Site<T>> find_sites(nn::Layer<T>& network, Widths widths) {
  std::vector<Site<T>> sites;
  if (widths == Widths::none) return sites;
  detail::SiteFinder<T>(sites).walk(network);
  if (widths == Widths::hidden) return sites;
  const detail::StreamFinder<T> streams(network);
  for (const Site<T>& site : streams.sites()) {
    const auto same = [&](const Site<T>& known) { return known.producer.layer() == site.producer.layer(); };
    if (std::none_of(sites.begin(), sites.end(), same)) sites.push_back(site);
  }
  std::stable_sort(sites.begin(), sites.end(), [&](const Site<T>& a, const Site<T>& b) {
    return streams.place(a.producer.layer()) < streams.place(b.producer.layer());
  });
  return sites;
}

template <Real T>
Site<T> find_site(nn::Layer<T>& network, const std::string& name, Widths widths) {
  const std::vector<Site<T>> sites = find_sites(network, widths);
  std::vector<std::string> names;
  for (const Site<T>& site : sites) {
    if (site.name == name) return site;
    names.push_back(site.name);
  }
  const std::string others = names.empty() ? "no layer of this network can grow"
                                           : concat("the layers that can grow are ", detail::listed(names));
  if (name.empty() || !detail::has_layer(network, name)) {
    throw ArgumentError(concat("growth: there is no layer '", name, "'; ", others));
  }
  const std::string trouble = detail::StreamFinder<T>(network).trouble(name);
  if (widths == Widths::all && !trouble.empty())
    throw ArgumentError(concat("growth: ", name, " cannot grow: ", trouble, "; ", others));
  const std::vector<std::string> tied = detail::TiedLayers<T>(network).of(name);
  if (!tied.empty()) {
    throw ArgumentError(concat("growth: ", name, " cannot grow alone: skip connections add the outputs of ",
                               detail::listed(tied), ", whose channels are tied; ",
                               trouble.empty() ? "with Widths::all they grow together; " : "", others));
  }
  throw ArgumentError(concat("growth: ", name,
                             " cannot grow: no Linear or Conv2d consumes its output through at most one BatchNorm, "
                             "activation, pooling and Flatten; ",
                             others));
}

}  // namespace meristem::grow
