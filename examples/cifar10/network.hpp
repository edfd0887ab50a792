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

/// The layers whose width can grow, or, where depth alone grows, those whose width is of interest.
std::vector<ms::grow::Site<float>> shown_sites(const Options& o, ms::nn::Layer<float>& net);

/// Multiply-adds of one image that an automatic run may reach by a growth step now, so that this step and all training
/// that is left stay within its operations: `spent` are those so far, `epochs_left` follow, `images` are in each.
std::int64_t room_for_work(const Options& o, double spent, std::int64_t epochs_left, std::int64_t images,
                           std::size_t sites);

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

/// `names` are those of the widths, in the order in which they are told; as data flows without.
NetworkState network_state(ms::nn::Layer<float>& net, const ms::Shape& image,
                           const std::vector<ms::grow::Site<float>>& sites, std::vector<std::string> names = {});

}  // namespace cifar10
