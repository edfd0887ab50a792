// Networks in which outputs of several layers stand side by side, of vectors and of maps.
#pragma once

#include <cstdint>
#include <string>

#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/concatenate.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>
#include <support/check.hpp>

namespace support {

enum class Rows {
  inception,  ///< stem; two branches and what the stem gives between them; a layer that reads all
  flattened,  ///< the same with a pooling and a Flatten before that layer; of maps alone
  dense,      ///< each block puts what it makes behind what it reads; norms and ReLUs in front of layers
  residual,   ///< branches before and inside of a residual block, in front of what it adds to
  towers,     ///< the network's input and two branches that read it
};
inline constexpr Rows all_rows[] = {Rows::inception, Rows::flattened, Rows::dense, Rows::residual, Rows::towers};

/// One of them, for samples with two features, or maps of `side` by `side` with two channels.
template <class T>
class RowBuilder {
 public:
  using Net = ms::nn::Sequential<T>;

  RowBuilder(ms::Context& ctx, bool maps, bool norms, std::int64_t side = 4)
      : ctx_(&ctx), maps_(maps), norms_(norms), side_(side) {}

  Net build(Rows kind, std::int64_t classes) const {
    Net net;
    std::int64_t width = 2;
    if (kind == Rows::inception || kind == Rows::flattened) {
      normed(net, "stem", 2, 3);
      auto& mix = net.template add<ms::nn::Concatenate<T>>("mix");
      normed(branch(mix, "a"), "a", 3, 2);
      branch(mix, "same");
      Net& b = branch(mix, "b");
      normed(b, "b1", 3, 2);
      normed(b, "b2", 2, 3);
      width = 8;
      if (kind == Rows::flattened) {
        net.template add<ms::nn::AveragePool2d<T>>("pool", ms::nn::PoolOptions{.kernel = 2, .stride = 2});
        net.template add<ms::nn::Flatten<T>>("flatten");
        net.template add<ms::nn::Linear<T>>("join", *ctx_, side_ / 2 * (side_ / 2) * width, 4);
        net.template add<ms::nn::ActivationLayer<T>>("relu", ms::nn::Activation::relu);
        net.template add<ms::nn::Linear<T>>("head", *ctx_, 4, classes);
        return net;
      }
    } else if (kind == Rows::towers) {
      auto& mix = net.template add<ms::nn::Concatenate<T>>("mix");
      branch(mix, "same");
      normed(branch(mix, "a"), "a", 2, 3);
      normed(branch(mix, "b"), "b", 2, 2);
      width = 7;
    } else if (kind == Rows::dense) {
      affine(net, "stem", 2, 3);
      if (!norms_) relu(net);
      width = 3;
      for (const std::string block : {"block1", "block2"}) {
        auto& row = net.template add<ms::nn::Concatenate<T>>(block);
        branch(row, "same");
        Net& made = branch(row, "made");
        if (norms_) norm(made, "norm", width);
        affine(made, "layer", width, 2);
        if (!norms_) relu(made);
        width += 2;
      }
    } else {
      affine(net, "stem", 2, 3);
      if (!norms_) relu(net);
      auto& block = net.template add<ms::nn::Residual<T>>(
          "block",
          ms::nn::ResidualOptions{.activation = norms_ ? ms::nn::Activation::identity : ms::nn::Activation::relu});
      auto& row = block.template add<ms::nn::Concatenate<T>>("row");
      affine(branch(row, "p"), "p", 3, 2);
      if (!norms_) relu(static_cast<Net&>(row[0]));
      branch(row, "same");
      if (norms_) norm(block.body(), "norm", 5);
      normed(block.body(), "in", 5, 2);
      affine(block.body(), "out", 2, 3);
      auto& mix = net.template add<ms::nn::Concatenate<T>>("mix");
      affine(branch(mix, "a"), "a", 3, 2);
      if (!norms_) relu(static_cast<Net&>(mix[0]));
      branch(mix, "same");
      width = 5;
    }
    const bool before = norms_ && (kind == Rows::dense || kind == Rows::residual);
    if (before) norm(net, "norm", width);
    if (kind != Rows::dense) {
      normed(net, "join", width, 4);
      width = 4;
    }
    if (maps_) net.template add<ms::nn::GlobalAveragePool<T>>("mean");
    net.template add<ms::nn::Linear<T>>("head", *ctx_, width, classes);
    return net;
  }

 private:
  static Net& branch(ms::nn::Concatenate<T>& row, const std::string& name) {
    return row.template add<ms::nn::Sequential<T>>(name);
  }
  void affine(Net& to, const std::string& name, std::int64_t in, std::int64_t out) const {
    if (maps_) {
      to.template add<ms::nn::Conv2d<T>>(name, *ctx_, in, out, ms::nn::Conv2dOptions{.padding = 1});
    } else {
      to.template add<ms::nn::Linear<T>>(name, *ctx_, in, out);
    }
  }
  void norm(Net& to, const std::string& name, std::int64_t features) const {
    to.template add<ms::nn::BatchNorm<T>>(name, *ctx_, features,
                                          ms::nn::BatchNormOptions{.activation = ms::nn::Activation::relu});
  }
  void relu(Net& to) const { to.template add<ms::nn::ActivationLayer<T>>("relu", ms::nn::Activation::relu); }
  void normed(Net& to, const std::string& name, std::int64_t in, std::int64_t out) const {
    affine(to, name, in, out);
    if (norms_) {
      norm(to, name + "_norm", out);
    } else {
      to.template add<ms::nn::ActivationLayer<T>>(name + "_relu", ms::nn::Activation::relu);
    }
  }

  ms::Context* ctx_;
  bool maps_, norms_;
  std::int64_t side_;
};

}  // namespace support
