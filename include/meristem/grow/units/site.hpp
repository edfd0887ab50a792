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

  /// The BatchNorm directly behind it, or null.
  [[nodiscard]] nn::BatchNorm<T>* norm() const noexcept { return norm_; }
  void set_norm(nn::BatchNorm<T>* norm) noexcept { norm_ = norm; }

 private:
  nn::Layer<T>* layer_ = nullptr;
  nn::Parameter<T>* weight_ = nullptr;
  nn::Parameter<T>* bias_ = nullptr;
  nn::BatchNorm<T>* norm_ = nullptr;
  Window window_;
  bool is_convolution_ = false;
};

/// A layer that reads units, and what lies between their producer and it.
template <Real T>
struct Reader {
  Affine<T> consumer;
  nn::BatchNorm<T>* input_norm = nullptr;  ///< of a stream: behind the sum, before activation and pooling, or null
  nn::Activation activation = nn::Activation::identity;
  /// Of a user's layer that stands in the activation's place; `activation` is identity then.
  std::optional<double> own_slope = {};
  nn::Layer<T>* pool = nullptr;  ///< a pooling over a window or over whole maps, or null
  nn::Pooling pooling = nn::Pooling::mean;
  bool pool_first = false;            ///< whether the pooling stands before the activation
  nn::Layer<T>* last_pool = nullptr;  ///< a second pooling, behind both, or null
  bool flattened = false;             ///< a Flatten stands before the consumer
  /// Layers whose outputs a Concatenate puts before the units and behind them.
  std::vector<Affine<T>> before = {}, after = {};
  std::int64_t fixed_before = 0;  ///< features before the units that are of no such layer; their number stays

  /// Where the units begin among the features of a position that the consumer reads, and those of `input_norm`.
  [[nodiscard]] std::int64_t offset() const { return fixed_before + features_of(before); }
  /// Features of a position that the consumer reads, `width` of them units.
  [[nodiscard]] std::int64_t features(std::int64_t width) const {
    return flattened ? offset() + width + features_of(after) : consumer.in_features();
  }
  /// σ'(0) of the activation.
  [[nodiscard]] double slope_at_zero() const { return own_slope.value_or(kernels::slope_at_zero(activation)); }
  /// σ(c h) = c σ(h) for positive c.
  [[nodiscard]] bool homogeneous() const {
    return activation == nn::Activation::relu || (activation == nn::Activation::identity && !own_slope.has_value());
  }
  /// True for a pooling that is not linear.
  [[nodiscard]] bool pools_maximum() const {
    return (pool != nullptr && pooling == nn::Pooling::maximum) ||
           (last_pool != nullptr && last_pool->description().pooling == nn::Pooling::maximum);
  }
  /// Weights by which one of the consumer's outputs reads one of `width` units; behind a Flatten there have to be
  /// features.
  [[nodiscard]] std::int64_t places(std::int64_t width) const {
    if (!flattened) return consumer.window().kernel.size();
    return features(width) > 0 ? consumer.in_features() / features(width) : 1;
  }

 private:
  static std::int64_t features_of(const std::vector<Affine<T>>& layers) {
    std::int64_t sum = 0;
    for (const Affine<T>& layer : layers) sum += layer.out_features();
    return sum;
  }
};

/// A layer that can take more units, and the readers of these. A unit is a row of the producer's weight (its fan-in), a
/// slice along the input axis of each consumer's weight (its fan-out), and a channel of the normalisation behind the
/// producer, if there is one.
///
/// Units may be a range of what a reader reads, where a Concatenate puts outputs of several layers side by side: new
/// ones go in behind it, and the ranges that follow move on.
///
/// A hidden layer has one consumer. Channels that skip connections tie together, a stream, have many sources and many
/// readers: a site for each source, whose units all readers behind it see. A new channel's rows in the other sources
/// add nothing at first (weight and shift 0 in their norm, or rows of zeros), so it carries σ(unit) behind the producer
/// and 0 before, as ReLU of a ReLU is that ReLU. Where norms stand in front of the readers, as before activation, it
/// carries a multiple of the unit, of which each norm makes the unit.
template <Real T>
struct Site : Reader<T> {
  using Reader<T>::consumer;

  std::string name;  ///< path name of the producer
  Affine<T> producer;
  std::string stream = {};              ///< of a stream: the name of its first source; empty for a hidden layer
  std::vector<Reader<T>> others = {};   ///< of a stream: the readers behind the producer that follow `consumer`
  std::vector<Reader<T>> earlier = {};  ///< of a stream: the readers that its units do not reach
  std::vector<Affine<T>> riders = {};   ///< of a stream: the other sources
  nn::Layer<T>* first = nullptr;        ///< of a stream: the first layer that changes with its width

  /// Whether it has several sources or readers, or a norm that other layers' outputs share in front of its reader.
  [[nodiscard]] bool tied() const noexcept { return !stream.empty(); }
  /// The norms in front of the readers that its units reach, each once although readers may share it.
  [[nodiscard]] std::vector<nn::BatchNorm<T>*> input_norms() const;
  /// All norms that its channels pass but its own: those of the other sources and those in front of readers.
  [[nodiscard]] std::vector<nn::BatchNorm<T>*> tied_norms() const;
  /// Where its channels begin among those of a norm.
  [[nodiscard]] std::int64_t offset_in(const nn::BatchNorm<T>& norm) const;
  /// Whether a norm stands between its units and a reader, behind the producer or in front of the reader.
  [[nodiscard]] bool normed() const { return producer.norm() || !input_norms().empty(); }
  /// Readers that its units reach.
  [[nodiscard]] std::size_t readers() const noexcept { return 1 + others.size(); }
  /// One of them, in the order data flows.
  [[nodiscard]] const Reader<T>& reader(std::size_t index) const { return index == 0 ? *this : others[index - 1]; }
  /// The site as if that reader were its only one and the producer the only source.
  [[nodiscard]] Site read_by(std::size_t index) const;
  /// Calls use(const Reader<T>&) for every layer that reads its channels, those before the producer included.
  template <class Use>
  void for_each_reader(Use&& use) const {
    for (std::size_t i = 0; i < readers(); ++i) use(reader(i));
    for (const Reader<T>& other : earlier) use(other);
  }
  /// Whether a layer has its units as outputs.
  [[nodiscard]] bool is_source(const nn::Layer<T>* layer) const;
  /// The first layer that new units change.
  [[nodiscard]] nn::Layer<T>& first_layer() const { return first ? *first : *producer.layer(); }

  /// Units today.
  [[nodiscard]] std::int64_t width() const { return producer.out_features(); }
  /// p: inputs of one unit, the bias included.
  [[nodiscard]] std::int64_t fan_in() const { return producer.inputs(); }
  /// d: inputs of one output of the (first) consumer, the bias included.
  [[nodiscard]] std::int64_t consumer_inputs() const { return consumer.inputs(); }
  /// q: outputs of the readers that its units reach.
  [[nodiscard]] std::int64_t fan_out() const;
  /// True if positions matter: samples are maps, not vectors.
  [[nodiscard]] bool spatial() const { return producer.is_convolution() || consumer.is_convolution(); }

  /// Its sizes for an input of the producer of this shape, (n, height, width, channels) where positions matter. Throws
  /// ShapeError for another rank there, and for several readers: each has its own.
  [[nodiscard]] SiteShape shape(const Shape& input) const;

  /// Learned scalars that one unit adds if the consumer reads it by `taps` weights per output (1 for vectors,
  /// SiteShape::consumer_window().kernel.size() for maps). Of a stream: with the rows in all sources and all weights of
  /// all readers, whatever `taps`.
  [[nodiscard]] std::int64_t parameters_per_unit(std::int64_t taps = 1) const;
};

/// Which widths may grow.
enum class Widths {
  hidden,  ///< those of layers with one reader in a chain
  all,     ///< those of streams as well, which skip connections tie together
  none,    ///< of layers that are there; blocks that depth growth brings get units all the same
};

namespace detail {

/// Whether a tensor other than an affine layer's weight and bias has an axis that features index.
template <Real T>
[[nodiscard]] bool has_riders(const nn::Description<T>& description);

/// Adds the norm in front of a reader to others, unless it is there.
template <Real T>
void add_input_norm(const Reader<T>& reader, std::vector<nn::BatchNorm<T>*>& norms);

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/site_impl.hpp>
#endif
