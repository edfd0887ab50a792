// Where a network can grow: a hidden layer between the layer that produces it and the one that consumes it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/window.hpp>
#include <meristem/grow/statistics/site_shape.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow {

namespace detail {

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

}  // namespace detail

/// A layer that describes itself as affine, such as Linear and Conv2d, seen as a convolution: one on vectors has the
/// window 1x1.
template <Real T>
class Affine {
 public:
  Affine() = default;
  /// Without a layer if that is not affine, or has more tensors along its features than a weight and a bias: what to
  /// put into those for a new unit is not known here.
  Affine(nn::Layer<T>& layer, const nn::Description<T>& description) {
    if (description.op != nn::Operator::affine || detail::has_riders(description)) return;
    layer_ = &layer;
    weight_ = description.weight;
    bias_ = description.bias;
    window_ = description.window;
    is_convolution_ = weight_->value.rank() == 4;
  }

  [[nodiscard]] nn::Layer<T>* layer() const noexcept { return layer_; }
  [[nodiscard]] const std::string& name() const { return layer_->name(); }
  /// (out, in) or (out, ky, kx, in).
  [[nodiscard]] nn::Parameter<T>& weight() const { return *weight_; }
  [[nodiscard]] bool has_bias() const noexcept { return bias_ != nullptr; }
  /// Only if `has_bias()`.
  [[nodiscard]] nn::Parameter<T>& bias() const { return *bias_; }
  [[nodiscard]] const Window& window() const noexcept { return window_; }
  [[nodiscard]] bool is_convolution() const noexcept { return is_convolution_; }

  [[nodiscard]] std::int64_t in_features() const { return weight_->value.extent(weight_->value.rank() - 1); }
  [[nodiscard]] std::int64_t out_features() const { return weight_->value.extent(0); }
  /// Numbers that one output reads: a whole patch, and the bias.
  [[nodiscard]] std::int64_t inputs() const { return window_.kernel.size() * in_features() + (has_bias() ? 1 : 0); }

 private:
  nn::Layer<T>* layer_ = nullptr;
  nn::Parameter<T>* weight_ = nullptr;
  nn::Parameter<T>* bias_ = nullptr;
  Window window_;
  bool is_convolution_ = false;
};

/// A hidden layer that can take more units. A unit is a row of the producer's weight (its fan-in), a slice along the
/// input axis of the consumer's weight (its fan-out), and a channel of the normalisation between them, if there is one.
template <Real T>
struct Site {
  std::string name;  ///< path name of the producer
  Affine<T> producer;
  Affine<T> consumer;
  nn::BatchNorm<T>* norm = nullptr;           ///< directly behind the producer, or null
  nn::BatchNorm<T>* consumer_norm = nullptr;  ///< directly behind the consumer, or null
  nn::Activation activation = nn::Activation::identity;
  /// Of a user's layer that stands in the activation's place; `activation` is identity then.
  std::optional<double> own_slope = {};
  nn::Layer<T>* pool = nullptr;  ///< a pooling over a window or over whole maps, or null
  nn::Pooling pooling = nn::Pooling::mean;
  bool pool_first = false;  ///< whether the pooling stands before the activation
  bool flattened = false;   ///< a Flatten stands before the consumer

  /// Units today.
  [[nodiscard]] std::int64_t width() const { return producer.out_features(); }
  /// p: inputs of one unit, the bias included.
  [[nodiscard]] std::int64_t fan_in() const { return producer.inputs(); }
  /// d: inputs of one output of the consumer, the bias included.
  [[nodiscard]] std::int64_t consumer_inputs() const { return consumer.inputs(); }
  /// q: outputs of the consumer.
  [[nodiscard]] std::int64_t fan_out() const { return consumer.out_features(); }
  /// σ'(0) of the activation.
  [[nodiscard]] double slope_at_zero() const { return own_slope.value_or(kernels::slope_at_zero(activation)); }
  /// True if positions matter: samples are maps, not vectors.
  [[nodiscard]] bool spatial() const { return producer.is_convolution() || consumer.is_convolution(); }
  /// True for a pooling that is not linear.
  [[nodiscard]] bool pools_maximum() const { return pool != nullptr && pooling == nn::Pooling::maximum; }

  /// Its sizes for an input of the producer of this shape, (n, height, width, channels) where positions matter. Throws
  /// ShapeError for another rank there.
  [[nodiscard]] SiteShape shape(const Shape& input) const {
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
    if (pool) result.pool = pool->description().window_on(result.hidden());
    result.flattened = flattened;
    return result;
  }

  /// Learned scalars that one unit adds if the consumer reads it by `taps` weights per output (1 for vectors,
  /// SiteShape::consumer_window().kernel.size() for maps).
  [[nodiscard]] std::int64_t parameters_per_unit(std::int64_t taps = 1) const {
    return fan_in() + taps * fan_out() + (norm ? 2 : 0);
  }
};

namespace detail {

/// Follows a chain of layers and reports every site in it.
template <Real T>
class SiteFinder {
 public:
  explicit SiteFinder(std::vector<Site<T>>& sites) : sites_(&sites) {}

  void walk(nn::Layer<T>& network) {
    const nn::Description<T> told = network.description();
    const bool chain = told.op == nn::Operator::sequence && told.plain();
    close();
    for (const auto& child : told.children) {
      visit(child.layer);
      if (!chain) close();
    }
    close();
  }

 private:
  void visit(nn::Layer<T>* layer) {
    const nn::Description<T> told = layer->description();
    const Affine<T> affine(*layer, told);
    // A tensor between the two layers that has units of its own.
    const bool rides = told.op != nn::Operator::normalise && detail::has_riders(told);
    const nn::Operator op =
        rides || (told.op == nn::Operator::affine && !affine.layer()) ? nn::Operator::other : told.op;
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

  void activate(nn::Activation function) {
    if (activated_) close();
    activated_ = true;
    site_.activation = function;
  }

  void close() {
    open_ = activated_ = directly_behind_ = false;
    site_ = {};
  }

  std::vector<Site<T>>* sites_;
  Site<T> site_;
  bool open_ = false;             // a producer waits for its consumer
  bool activated_ = false;        // an activation stands behind it
  bool directly_behind_ = false;  // nothing stands behind it yet
  bool global_ = false;           // the pooling leaves no maps
};

/// Layers whose outputs are added to each other by skip connections, so that their channels are tied.
template <Real T>
class TiedLayers {
 public:
  explicit TiedLayers(nn::Layer<T>& network) { (void)follow(network, {}); }

  /// The layers tied to the named one, itself included; empty if there are none.
  [[nodiscard]] std::vector<std::string> of(const std::string& name) const {
    for (const std::vector<std::string>& group : groups_) {
      for (const std::string& member : group) {
        if (member == name) return group;
      }
    }
    return {};
  }

 private:
  /// Names of the layers whose outputs are added up in the output of `layer`, given those in its input.
  std::vector<std::string> follow(nn::Layer<T>& layer, std::vector<std::string> stream) {
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

  std::vector<std::vector<std::string>> groups_;
};

template <Real T>
[[nodiscard]] bool has_layer(nn::Layer<T>& network, const std::string& name) {
  if (network.name() == name) return true;
  for (nn::Layer<T>* child : network.children()) {
    if (has_layer(*child, name)) return true;
  }
  return false;
}

[[nodiscard]] inline std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace detail

/// All sites of a network, in the order data flows, as its layers describe themselves: every affine layer (Linear,
/// Conv2d), followed by at most one BatchNorm, one activation (a function with a slope at zero), one pooling, one
/// Flatten and any identity (Dropout), followed by an affine layer.
template <Real T>
[[nodiscard]] std::vector<Site<T>> find_sites(nn::Layer<T>& network) {
  std::vector<Site<T>> sites;
  detail::SiteFinder<T>(sites).walk(network);
  return sites;
}

/// The site of that name. Throws ArgumentError that says what stands in the way: no such layer, channels that skip
/// connections tie to those of other layers (it lists them), or no consumer.
template <Real T>
[[nodiscard]] Site<T> find_site(nn::Layer<T>& network, const std::string& name) {
  const std::vector<Site<T>> sites = find_sites(network);
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
  const std::vector<std::string> tied = detail::TiedLayers<T>(network).of(name);
  if (!tied.empty()) {
    throw ArgumentError(concat("growth: ", name, " cannot grow alone: skip connections add the outputs of ",
                               detail::listed(tied), ", whose channels are tied; ", others));
  }
  throw ArgumentError(concat("growth: ", name,
                             " cannot grow: no Linear or Conv2d consumes its output through at most one BatchNorm, "
                             "activation, pooling and Flatten; ",
                             others));
}

}  // namespace meristem::grow
