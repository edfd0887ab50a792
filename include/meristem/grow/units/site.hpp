// Where a network can grow: a hidden layer between the layer that produces it and the one that consumes it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <meristem/core/window.hpp>
#include <meristem/grow/statistics/site_shape.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow {

/// A layer that describes itself as affine, such as Linear and Conv2d, seen as a convolution: one on vectors has the
/// window 1x1.
template <Real T>
class Affine {
 public:
  Affine() = default;
  /// Without a layer if that is not affine, or has more tensors along its features than a weight and a bias: what to
  /// put into those for a new unit is not known here.
  Affine(nn::Layer<T>& layer, const nn::Description<T>& description);

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
  [[nodiscard]] SiteShape shape(const Shape& input) const;

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

  void walk(nn::Layer<T>& network);

 private:
  void visit(nn::Layer<T>* layer);

  void activate(nn::Activation function);

  void close();

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
  [[nodiscard]] std::vector<std::string> of(const std::string& name) const;

 private:
  /// Names of the layers whose outputs are added up in the output of `layer`, given those in its input.
  std::vector<std::string> follow(nn::Layer<T>& layer, std::vector<std::string> stream);

  std::vector<std::vector<std::string>> groups_;
};

[[nodiscard]] std::string listed(const std::vector<std::string>& names);

}  // namespace detail

/// All sites of a network, in the order data flows, as its layers describe themselves: every affine layer (Linear,
/// Conv2d), followed by at most one BatchNorm, one activation (a function with a slope at zero), one pooling, one
/// Flatten and any identity (Dropout), followed by an affine layer.
template <Real T>
[[nodiscard]] std::vector<Site<T>> find_sites(nn::Layer<T>& network);

/// The site of that name. Throws ArgumentError that says what stands in the way: no such layer, channels that skip
/// connections tie to those of other layers (it lists them), or no consumer.
template <Real T>
[[nodiscard]] Site<T> find_site(nn::Layer<T>& network, const std::string& name);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/site_impl.hpp>
#endif
