// Where a network can get deeper: residual blocks that are not there yet. An empty block, of hidden width 0, is the
// identity, and its hidden layer is a site as any other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/core/window.hpp>
#include <meristem/grow/units/recalibration.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::grow {

/// A place where a residual block could stand: y = x + body(x), its body two affine layers with at most a BatchNorm and
/// an activation between them, and a BatchNorm at the end where its model has one. Without an activation behind the
/// sum the empty block is the identity whatever comes in.
template <Real T>
struct Place {
  std::string name;                        ///< path name of the block
  std::string behind;                      ///< path name of the layer behind which it would stand
  nn::Sequential<T>* container = nullptr;  ///< of both
  /// The residual block that it would be like, or null in a plain chain.
  nn::Layer<T>* model = nullptr;
  /// The layers whose form those of the block take over, with the optimiser's groups of their parameters.
  Affine<T> first, last;
  nn::BatchNorm<T>* norm = nullptr;                      ///< directly behind the first, or null
  nn::BatchNorm<T>* last_norm = nullptr;                 ///< directly behind the last, or null
  nn::Activation activation = nn::Activation::identity;  ///< between the two, in the norm or behind it
  std::int64_t features = 0;                             ///< of what comes in and goes out
  Window first_window = {}, last_window = {};            ///< of convolutions
  struct Names {
    std::string first, norm, activation, last, last_norm;
  };
  Names names = {};  ///< of the layers in the block
};

/// All places of a network, in the order data flows, as its layers describe themselves:
///
/// - behind every residual block with the identity as one branch and two affine layers in the other, each followed by
///   at most one BatchNorm, an activation between them, which is the model of the new block; and between a block of
///   another shape and such a one, which is the model then;
/// - in a plain chain behind every activation that follows an affine layer through at most one BatchNorm, Dropout and a
///   pooling over a window: the layer and its norm are the model, with a 3x3 kernel where its own does not keep the
///   size of maps. Such a block ties the widths before and behind it. With Widths::hidden, which could not grow on
///   then, a chain has no place between hidden layers that can.
///
/// There are none inside blocks, behind GroupNorm and LayerNorm, behind functions of one's own, and where the body has
/// more than two affine layers or begins with a norm. Names follow from those that are taken: `stage1.block1_1` behind
/// `stage1.block1`, `block1` in a chain.
template <Real T>
[[nodiscard]] std::vector<Place<T>> find_places(nn::Layer<T>& network, Widths widths = Widths::all);

namespace detail {

/// Empty blocks for some places of a network, put into it and taken out of it as growth looks at them. While a block is
/// in, the network computes what it did, bit for bit, in training and evaluation mode, forward and backward (up to the
/// sign of zeros); when it is out, nothing of it is left. Blocks that were not kept are taken out by the destructor.
/// The network must outlive it.
template <Real T>
class EmptyBlocks {
 public:
  /// Makes the blocks, out of the network. They have no norm at the end yet.
  EmptyBlocks(Context& ctx, std::vector<Place<T>> places);
  EmptyBlocks(const EmptyBlocks&) = delete;
  EmptyBlocks& operator=(const EmptyBlocks&) = delete;
  ~EmptyBlocks() { close(); }

  [[nodiscard]] std::size_t size() const noexcept { return blocks_.size(); }
  [[nodiscard]] const Place<T>& place(std::size_t index) const { return blocks_.at(index).place; }
  /// The hidden layer of a block, whether the block is in or out.
  [[nodiscard]] const Site<T>& site(std::size_t index) const { return blocks_.at(index).site; }
  [[nodiscard]] std::vector<Site<T>> sites() const;

  void open(std::size_t index);
  void open();
  void close(std::size_t index, optim::Optimizer<T>* optimizer = nullptr);
  void close() noexcept;

  /// Learned scalars that the blocks which are in have, and that a network without them has not.
  [[nodiscard]] std::int64_t parameters() const;
  /// Learned scalars that a block brings beside those of its units: bias and norm at its end.
  [[nodiscard]] std::int64_t fixed_parameters(std::size_t index) const;
  /// Multiply-adds of the norm at its end for one position of a map.
  [[nodiscard]] std::int64_t fixed_multiply_adds(std::size_t index) const;

  /// Puts the norm that the model has at its end behind the last layer of a block that is in; null if it has none.
  nn::BatchNorm<T>* add_norm(Context& ctx, std::size_t index);
  /// Lets that norm do nothing on samples with the statistics that it saw: the rows of the last layer get the norm of
  /// Kaiming's initialisation, running mean and variance are what was seen, weight and shift undo them. Outputs in
  /// evaluation mode are those without it up to rounding. Throws ArgumentError for statistics that lack it.
  void settle_norm(Context& ctx, std::size_t index, const NormInputs<T>& seen);
  /// Leaves a block in for good; its parameters join the optimiser's groups that those of its model are in.
  void keep(std::size_t index, optim::Optimizer<T>& optimizer);

 private:
  struct Block {
    Place<T> place;
    Site<T> site = {};
    nn::Residual<T>* residual = nullptr;
    nn::LayerPtr<T> out = nullptr;  // owns the block while it is out of the network
    bool kept = false;
    nn::BatchNorm<T>* last_norm = nullptr;
  };

  std::vector<Block> blocks_;
};

}  // namespace detail

/// To compare with: puts a copy of the model into a place, the output of its body times `scale`, by the weight and
/// shift of the norm at its end or by its last layer. With scale 0 the network computes what it did. Returns the path
/// name of the block. Throws ArgumentError for a place in a plain chain, which has no block to copy, and for a scale
/// that is not finite. Places and sites of the network are to be found anew.
template <Real T>
std::string insert_clone(Context& ctx, const Place<T>& place, double scale, optim::Optimizer<T>& optimizer);

/// To compare with: puts a block of this hidden width with random weights into a place, the weight of the norm at its
/// end 0 (P. Goyal et al., "Accurate, large minibatch SGD" (2017), section 5.1), or its last layer where its model has
/// no norm there: the network computes what it did. Returns the path name of the block. Throws ArgumentError for a
/// width below 1. Places and sites of the network are to be found anew.
template <Real T>
std::string insert_zero_norm(Context& ctx, const Place<T>& place, std::int64_t width, optim::Optimizer<T>& optimizer);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/depth_impl.hpp>
#endif
