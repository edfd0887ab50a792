// The network that was asked for, what grows it, and what it looks like.
#pragma once

#include <string>
#include <vector>

#include <meristem/grow/methods/methods.hpp>
#include <meristem/meristem.hpp>

#include "events.hpp"
#include "options.hpp"

namespace cifar10 {

namespace ms = meristem;

ms::nn::Sequential<float> build(ms::Context& ctx, const Options& o, const ms::data::ImageSet& images);

ms::grow::Widths widths_of(const Options& o);

/// Whether a width is told once by this site: that of a stream is told by its first source.
bool names_width(const ms::grow::Site<float>& site);

ms::grow::GrowerOptions grower_options(const Options& o);

/// Throws ArgumentError if --max-parameters leaves no room for a single unit; a network that goes on may have used it
/// up.
void require_room(const Options& o, ms::nn::Layer<float>& net, const std::vector<ms::grow::Site<float>>& sites);

/// The layers with weights, in the order data flows; shortcuts come after the block's body.
class LayerWalk {
 public:
  LayerWalk(ms::nn::Layer<float>& net, const ms::Shape& image, const std::vector<ms::grow::Site<float>>& sites);
  [[nodiscard]] std::vector<LayerState>& layers() { return layers_; }

 private:
  void walk(ms::nn::Layer<float>& layer, const ms::Shape& input, const std::string& block);

  const std::vector<ms::grow::Site<float>>* sites_;
  std::vector<LayerState> layers_;
};

NetworkState network_state(ms::nn::Layer<float>& net, const ms::Shape& image,
                           const std::vector<ms::grow::Site<float>>& sites);

}  // namespace cifar10
