// Residual networks of 18 layers for small images.
#pragma once

#include <cstdint>
#include <vector>

#include <meristem/models/scaled_width.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>

namespace meristem::models {

struct ResNetOptions {
  std::int64_t classes = 10;
  /// Inside the blocks: hidden width over outer width. A block of outer width w starts with max(1, round(width·w))
  /// hidden channels.
  double width = 1.0;
  std::int64_t channels = 64;  ///< outer width of the first stage; it doubles from stage to stage
  std::int64_t in_channels = 3;
  bool bias = true;                       ///< of the convolutions behind the stem
  std::vector<std::int64_t> hidden = {};  ///< hidden widths of all blocks, in place of `width`
  std::vector<std::int64_t> blocks = {};  ///< numbers of blocks of the four stages, in place of two each
};

struct StridedResNetOptions {
  std::int64_t classes = 10;
  double width = 1.0;          ///< hidden width over outer width, as in ResNetOptions
  std::int64_t channels = 64;  ///< outer width of the first stage; it doubles from stage to stage
  std::int64_t in_channels = 3;
  std::vector<std::int64_t> hidden = {};  ///< hidden widths of all blocks, in place of `width`
  std::vector<std::int64_t> blocks = {};  ///< numbers of blocks of the four stages, in place of two each
};

/// The growable ResNet-18 of M. Verbockhaven et al., "Growing tiny networks" (TMLR 2024): every block keeps its shape
/// and its identity shortcut, and only the hidden widths grow.
///
/// `stem`: conv3x3 without bias, norm, relu. `stage1` ... `stage4` of width w = channels·{1, 2, 4, 8}, with two
/// residual blocks each (or `blocks`): `conv1` (3x3, w to h), `norm1`, relu, `conv2` (3x3, h to w), `norm2`, addition,
/// relu. Stages 2 to 4 start with `down`: conv1x1 w/2 to w, norm, 2x2 average pooling. No relu after the last block;
/// `pool` (global average) and `linear`. Images need a side of 8 or more, divisible by 8 if no border is to be dropped.
/// Convolutions start kaiming_normal, the linear layer lecun_normal. Throws ArgumentError for options out of range.
template <Real T>
[[nodiscard]] nn::Sequential<T> resnet18(Context& ctx, const ResNetOptions& options);

/// The usual ResNet-18 for images of 32x32 (K. He et al., "Deep residual learning for image recognition" (2015), with a
/// 3x3 stem and no first pooling): stages of width channels·{1, 2, 4, 8}, two blocks each; stages 2 to 4 start with
/// stride 2 and a 1x1 stride-2 projection with norm as the shortcut (`stage2.block1.shortcut.conv`); no convolution has
/// a bias; relu after every block; global average pooling and a linear layer. Names and initial values as resnet18.
/// Throws ArgumentError for options out of range.
template <Real T>
[[nodiscard]] nn::Sequential<T> resnet18_strided(Context& ctx, const StridedResNetOptions& options);

}  // namespace meristem::models

#if !defined(MERISTEM_COMPILED)
#include <meristem/models/resnet_impl.hpp>
#endif
