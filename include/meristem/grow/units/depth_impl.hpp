// Definitions of depth.hpp: blocks.
#pragma once

#include <cmath>
#include <memory>
#include <utility>

#include <meristem/grow/units/depth.hpp>
#include <meristem/grow/units/depth_places_impl.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>

namespace meristem::grow::detail {

template <Real T>
[[nodiscard]] nn::BatchNormOptions like(const nn::BatchNorm<T>& norm, nn::Activation activation) {
  return {.momentum = norm.momentum(), .epsilon = norm.epsilon(), .activation = activation};
}

/// A block for a place, of this hidden width, without the norm at its end.
template <Real T>
[[nodiscard]] std::unique_ptr<nn::Residual<T>> make_block(Context& ctx, const Place<T>& place, std::int64_t width,
                                                          nn::Init init) {
  auto block = std::make_unique<nn::Residual<T>>(nn::ResidualOptions{.activation = nn::Activation::identity});
  const auto add_affine = [&](const std::string& name, const Affine<T>& model, const Window& window, std::int64_t in,
                              std::int64_t out) {
    if (model.is_convolution()) {
      block->template add<nn::Conv2d<T>>(name, ctx, in, out,
                                         nn::Conv2dOptions{.kernel = window.kernel,
                                                           .stride = window.stride,
                                                           .padding = window.padding,
                                                           .dilation = window.dilation,
                                                           .bias = model.has_bias(),
                                                           .init = init});
    } else {
      block->template add<nn::Linear<T>>(name, ctx, in, out, nn::LinearOptions{.bias = model.has_bias(), .init = init});
    }
  };
  add_affine(place.names.first, place.first, place.first_window, place.features, width);
  bool activated = place.activation == nn::Activation::identity;
  if (place.norm) {
    block->template add<nn::BatchNorm<T>>(place.names.norm, ctx, width, like(*place.norm, place.norm->activation()));
    activated = activated || place.norm->activation() == place.activation;
  }
  if (!activated) block->template add<nn::ActivationLayer<T>>(place.names.activation, place.activation);
  add_affine(place.names.last, place.last, place.last_window, width, place.features);
  return block;
}

/// Puts the norm of the place's form to the end of a block; null if there is none.
template <Real T>
nn::BatchNorm<T>* add_last_norm(Context& ctx, const Place<T>& place, nn::Residual<T>& block) {
  if (!place.last_norm) return nullptr;
  return &block.template add<nn::BatchNorm<T>>(place.names.last_norm, ctx, place.features,
                                               like(*place.last_norm, nn::Activation::identity));
}

/// Puts a block behind the layer that its place names.
template <Real T>
void put_in(const Place<T>& place, nn::LayerPtr<T> block) {
  const std::size_t at = place.container->position(last_name(place.behind));
  place.container->insert(at + 1, last_name(place.name), std::move(block));
}

/// Parameters of a block join the groups of those of the place's model.
template <Real T>
void join_groups(const Place<T>& place, nn::Residual<T>& block, optim::Optimizer<T>& optimizer) {
  const auto join = [&](const std::string& name, nn::Layer<T>* model) {
    if (!model) return;
    nn::Sequential<T>& body = block.body();
    nn::Layer<T>& layer = body[body.position(name)];
    layer.visit_parameters([&](nn::Parameter<T>& parameter) {
      model->visit_parameters([&](nn::Parameter<T>& same) {
        if (last_name(same.name) == last_name(parameter.name)) {
          optimizer.set_group(parameter.id, optimizer.group(same.id));
        }
      });
    });
  };
  join(place.names.first, place.first.layer());
  join(place.names.norm, place.norm);
  join(place.names.last, place.last.layer());
  join(place.names.last_norm, place.last_norm);
}

template <Real T>
EmptyBlocks<T>::EmptyBlocks(Context& ctx, std::vector<Place<T>> places) {
  for (Place<T>& place : places) {
    auto made = make_block(ctx, place, 0, nn::Init::zeros);
    made->set_name(place.name);
    Block block{.place = std::move(place)};
    block.residual = made.get();
    block.site = find_sites<T>(*made).at(0);
    block.out = std::move(made);
    blocks_.push_back(std::move(block));
  }
}

template <Real T>
std::vector<Site<T>> EmptyBlocks<T>::sites() const {
  std::vector<Site<T>> result;
  for (const Block& block : blocks_) result.push_back(block.site);
  return result;
}

template <Real T>
void EmptyBlocks<T>::open(std::size_t index) {
  Block& block = blocks_.at(index);
  if (block.out) put_in(block.place, std::move(block.out));
}

template <Real T>
void EmptyBlocks<T>::open() {
  for (std::size_t i = 0; i < blocks_.size(); ++i) open(i);
}

template <Real T>
void EmptyBlocks<T>::close(std::size_t index, optim::Optimizer<T>* optimizer) {
  Block& block = blocks_.at(index);
  if (block.out || block.kept) return;
  block.out = block.place.container->extract(last_name(block.place.name));
  if (!optimizer) return;
  block.out->visit_parameters([&](nn::Parameter<T>& parameter) { optimizer->forget(parameter.id); });
}

template <Real T>
void EmptyBlocks<T>::close() noexcept {
  for (std::size_t i = 0; i < blocks_.size(); ++i) close(i);
}

template <Real T>
std::int64_t EmptyBlocks<T>::parameters() const {
  std::int64_t count = 0;
  for (const Block& block : blocks_) {
    if (!block.out && !block.kept) count += nn::parameter_count<T>(*block.residual);
  }
  return count;
}

template <Real T>
std::int64_t EmptyBlocks<T>::fixed_parameters(std::size_t index) const {
  const Place<T>& at = place(index);
  return at.features * ((at.last.has_bias() ? 1 : 0) + (at.last_norm ? 2 : 0));
}

template <Real T>
std::int64_t EmptyBlocks<T>::fixed_multiply_adds(std::size_t index) const {
  return place(index).last_norm ? place(index).features : 0;
}

template <Real T>
nn::BatchNorm<T>* EmptyBlocks<T>::add_norm(Context& ctx, std::size_t index) {
  Block& block = blocks_.at(index);
  block.last_norm = add_last_norm(ctx, block.place, *block.residual);
  return block.last_norm;
}

template <Real T>
void EmptyBlocks<T>::settle_norm(Context& ctx, std::size_t index, const NormInputs<T>& seen) {
  Block& block = blocks_.at(index);
  if (!block.last_norm) return;
  const auto found = seen.all().find(block.last_norm);
  if (found == seen.all().end()) {
    throw ArgumentError(concat(block.last_norm->label(), ": no batch has reached it that its statistics could be of"));
  }
  const Affine<T>& last = block.site.consumer;
  const std::vector<T> weights = to_host(ctx, last.weight().value);
  double squares = 0.0;
  for (const T weight : weights) squares += static_cast<double>(weight) * static_cast<double>(weight);
  // The norm takes the scale of the rows out again, and steps depend on it.
  const double norm = std::sqrt(squares / static_cast<double>(block.place.features));
  const double factor = norm > 0.0 && std::isfinite(norm) ? std::sqrt(2.0) / norm : 1.0;
  kernels::scale<T>(ctx, static_cast<T>(factor), last.weight().value.view());
  if (last.has_bias()) kernels::scale<T>(ctx, static_cast<T>(factor), last.bias().value.view());
  std::vector<T> means, variances, scales, shifts;
  for (std::size_t c = 0; c < found->second.mean.size(); ++c) {
    const double mean = found->second.mean[c], variance = factor * factor * found->second.variance[c];
    means.push_back(static_cast<T>(factor * mean));
    variances.push_back(static_cast<T>(variance));
    scales.push_back(static_cast<T>(std::sqrt(variance + block.last_norm->epsilon()) / factor));
    shifts.push_back(static_cast<T>(mean));
  }
  const auto put = [&](Tensor<T>& to, const std::vector<T>& values) {
    copy<T>(ctx, from_host<T>(ctx, to.shape(), values), to);
  };
  put(block.last_norm->running_mean().value, means);
  put(block.last_norm->running_variance().value, variances);
  put(block.last_norm->weight().value, scales);
  put(block.last_norm->bias().value, shifts);
}

template <Real T>
void EmptyBlocks<T>::keep(std::size_t index, optim::Optimizer<T>& optimizer) {
  Block& block = blocks_.at(index);
  if (block.out) {
    throw ArgumentError(concat("depth: the block ", block.place.name, " is not in the network; open it first"));
  }
  join_groups(block.place, *block.residual, optimizer);
  block.kept = true;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
std::string insert_clone(Context& ctx, const Place<T>& place, double scale, optim::Optimizer<T>& optimizer) {
  if (!place.model) {
    throw ArgumentError(
        concat("depth: behind ", place.behind, " there is no residual block to clone; a plain chain has none"));
  }
  if (!std::isfinite(scale)) {
    throw ArgumentError(concat("depth: the scale of a cloned block is ", scale, "; it must be finite"));
  }
  auto made = detail::make_block(ctx, place, place.first.out_features(), nn::Init::zeros);
  nn::Residual<T>& block = *made;
  nn::BatchNorm<T>* const norm = detail::add_last_norm(ctx, place, block);
  nn::Sequential<T>& body = block.body();
  const auto layer = [&](const std::string& name) -> nn::Layer<T>& { return body[body.position(name)]; };
  const auto take = [&](const std::string& name, nn::Layer<T>* model) {
    if (!model) return;
    std::vector<Tensor<T>*> from, to;
    model->visit_parameters([&](nn::Parameter<T>& parameter) { from.push_back(&parameter.value); });
    model->visit_buffers([&](nn::Buffer<T>& buffer) { from.push_back(&buffer.value); });
    layer(name).visit_parameters([&](nn::Parameter<T>& parameter) { to.push_back(&parameter.value); });
    layer(name).visit_buffers([&](nn::Buffer<T>& buffer) { to.push_back(&buffer.value); });
    for (std::size_t i = 0; i < from.size(); ++i) copy<T>(ctx, *from[i], *to.at(i));
  };
  take(place.names.first, place.first.layer());
  take(place.names.norm, place.norm);
  take(place.names.last, place.last.layer());
  take(place.names.last_norm, place.last_norm);
  nn::Layer<T>& end = norm ? static_cast<nn::Layer<T>&>(*norm) : layer(place.names.last);
  end.visit_parameters(
      [&](nn::Parameter<T>& parameter) { kernels::scale<T>(ctx, static_cast<T>(scale), parameter.value.view()); });
  detail::put_in<T>(place, std::move(made));
  detail::join_groups(place, block, optimizer);
  return place.name;
}

template <Real T>
std::string insert_zero_norm(Context& ctx, const Place<T>& place, std::int64_t width, optim::Optimizer<T>& optimizer) {
  if (width < 1) {
    throw ArgumentError(concat("depth: a block of hidden width ", width, " with random weights; give 1 or more"));
  }
  auto made = detail::make_block(ctx, place, width, nn::Init::kaiming_normal);
  nn::Residual<T>& block = *made;
  nn::BatchNorm<T>* const norm = detail::add_last_norm(ctx, place, block);
  nn::Sequential<T>& body = block.body();
  nn::Layer<T>& end = norm ? static_cast<nn::Layer<T>&>(*norm) : body[body.position(place.names.last)];
  end.visit_parameters(
      [&](nn::Parameter<T>& parameter) { kernels::scale<T>(ctx, static_cast<T>(0.0), parameter.value.view()); });
  detail::put_in<T>(place, std::move(made));
  detail::join_groups(place, block, optimizer);
  return place.name;
}

}  // namespace meristem::grow
