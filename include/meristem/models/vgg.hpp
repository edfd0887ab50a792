// Plain chains of 3x3 convolutions with pooling between the stages.
#pragma once

#include <cstdint>
#include <vector>

#include <meristem/models/scaled_width.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/sequential.hpp>

namespace meristem::models {

/// What stands between the last map and the linear layers.
enum class VggHead {
  global_average,  ///< the mean of each channel: images of any size
  flatten,         ///< all numbers of the map: images of `VggOptions::image`
};

struct VggOptions {
  std::int64_t classes = 10;
  /// Widths of the convolutions, stage by stage.
  std::vector<std::vector<std::int64_t>> stages = {{64}, {128}, {256, 256}, {512, 512}, {512, 512}};
  double width = 1.0;  ///< factor of all widths of `stages` and `hidden`, rounded to 1 or more
  std::int64_t in_channels = 3;
  bool bias = true;  ///< of the convolutions and the hidden linear layers
  bool batch_norm = true;
  bool pool_last = false;  ///< whether the last stage ends in a pooling too, as in the original
  VggHead head = VggHead::global_average;
  Extent2 image = 32;                     ///< rows and columns of an image; only for VggHead::flatten
  std::vector<std::int64_t> hidden = {};  ///< widths of the linear layers before the last
  double dropout = 0.0;                   ///< probability to drop an input of each linear layer; 0 adds no layer
};

/// The stages of VGG-11, 13, 16 or 19 (K. Simonyan, A. Zisserman, "Very deep convolutional networks" (2015), columns A,
/// B, D, E). Throws ArgumentError for another depth.
[[nodiscard]] std::vector<std::vector<std::int64_t>> vgg_stages(int depth);

/// A chain of `conv1`, `norm1` (with relu; without batch_norm `conv1`, `relu1`), ..., with `pool1`, ... (2x2 maxima)
/// between the stages, then `pool` (global average) or `flatten`, then for each hidden width `linear1`,
/// `linear_relu1`, and last `linear`. With dropout, `dropout1`, ... stand before the linear layers. Convolutions are
/// 3x3 with padding 1. Layers before a relu start kaiming_normal, the last one lecun_normal. Throws ArgumentError for
/// options out of range, and ShapeError if the image of a flatten head is too small for the poolings.
template <Real T>
[[nodiscard]] nn::Sequential<T> vgg(Context& ctx, const VggOptions& options);

}  // namespace meristem::models

#if !defined(MERISTEM_COMPILED)
#include <meristem/models/vgg_impl.hpp>
#endif
