// The sizes of two layers and of what lies between them: all that statistics need to know of a network.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/window.hpp>

namespace meristem::grow {

namespace detail {

/// An affine layer seen as a convolution; one on vectors has the window 1x1.
struct AffineShape {
  std::int64_t in = 0;   ///< features, or channels
  std::int64_t out = 0;  ///< features, or channels
  bool bias = true;
  bool convolution = false;
  Window window = {};

  /// Numbers that one output reads: a whole patch, and the bias.
  [[nodiscard]] std::int64_t inputs() const { return window.kernel.size() * in + (bias ? 1 : 0); }
};

}  // namespace detail

/// A producer of hidden units and the consumer that reads them. Where either is a convolution, samples are maps
/// (n, height, width, channels) at the producer, else vectors (n, ..., features).
///
///   SiteShape vectors{.producer = {.in = 8, .out = 4}, .consumer = {.in = 4, .out = 3}};
///   const Window three{.kernel = 3, .padding = 1};
///   SiteShape maps{.producer = {.in = 8, .out = 4, .convolution = true, .window = three},
///                  .consumer = {.in = 4, .out = 3, .convolution = true, .window = three},
///                  .map = {16, 16}};
struct SiteShape {
  std::string name = "the site";
  detail::AffineShape producer;
  detail::AffineShape consumer;
  Extent2 map = 1;                              ///< of the producer's input
  std::optional<Window> pool = {};              ///< taken as average pooling of the producer's output
  bool flattened = false;                       ///< the consumer, on vectors, reads whole maps: (position, channel)
  std::int64_t before = 0, after = 0;           ///< features that the consumer reads beside the units, at each position
  std::string consumer_label = "the consumer";  ///< for messages

  /// Units today.
  [[nodiscard]] std::int64_t width() const { return producer.out; }
  /// p: inputs of one unit, the bias included.
  [[nodiscard]] std::int64_t fan_in() const { return producer.inputs(); }
  /// d: inputs of one output of the consumer, the bias included.
  [[nodiscard]] std::int64_t consumer_inputs() const { return consumer.inputs(); }
  /// q: outputs of the consumer.
  [[nodiscard]] std::int64_t fan_out() const { return consumer.out; }
  /// True if positions matter.
  [[nodiscard]] bool spatial() const { return producer.convolution || consumer.convolution; }

  /// Size of the producer's output.
  [[nodiscard]] Extent2 hidden() const { return producer.window.output(map); }
  /// Size of what the consumer reads.
  [[nodiscard]] Extent2 pooled() const { return pool ? pool->output(hidden()) : hidden(); }
  /// The consumer as a convolution over `pooled`: behind a Flatten its kernel is the map.
  [[nodiscard]] Window consumer_window() const {
    Window window = consumer.window;
    if (flattened) window.kernel = pooled();
    return window;
  }
  /// Positions of the consumer's output.
  [[nodiscard]] Extent2 outputs() const { return consumer_window().output(pooled()); }

  /// Throws ShapeError unless the consumer reads what the producer puts out.
  void check() const {
    const std::int64_t read = flattened ? consumer.in / std::max<std::int64_t>(pooled().size(), 1) : consumer.in;
    if (read == before + producer.out + after) return;
    throw ShapeError(concat("SiteShape: the producer has ", producer.out, " outputs",
                            before + after > 0 ? concat(" and ", before + after, " stand beside them") : std::string(),
                            ", the consumer reads ", consumer.in,
                            flattened ? concat(", ", pooled().size(), " positions of each") : std::string()));
  }
};

}  // namespace meristem::grow
