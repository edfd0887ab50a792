// Definitions of depth.hpp.
#pragma once

#include <algorithm>
#include <cctype>
#include <cmath>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include <meristem/grow/units/depth.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/linear.hpp>

namespace meristem::grow::detail {

[[nodiscard]] MERISTEM_INLINE std::string last_name(const std::string& path) {
  return path.substr(path.rfind('.') + 1);
}

/// Whether a window leaves maps as large as they are.
[[nodiscard]] MERISTEM_INLINE bool keeps_size(const Window& window) {
  const Extent2 reach = window.reach();
  return window.stride == Extent2(1) && 2 * window.padding.y == reach.y - 1 && 2 * window.padding.x == reach.x - 1;
}

/// The layers of a chain of sequences, in order; false where something else holds layers.
template <Real T>
[[nodiscard]] bool leaves_of(nn::Layer<T>& layer, std::vector<nn::Layer<T>*>& leaves) {
  const nn::Description<T> told = layer.description();
  if (told.op != nn::Operator::sequence) {
    leaves.push_back(&layer);
    return told.children.empty();
  }
  bool chain = told.plain();
  for (const auto& child : told.children) chain = leaves_of(*child.layer, leaves) && chain;
  return chain;
}

/// The branches of a residual block: the one with layers, or null unless the other is the identity.
template <Real T>
[[nodiscard]] nn::Layer<T>* body_of(const nn::Description<T>& told) {
  if (told.op != nn::Operator::sum || !told.plain() || told.children.size() != 2) return nullptr;
  nn::Layer<T>* body = nullptr;
  for (const auto& branch : told.children) {
    const nn::Description<T> inside = branch.layer->description();
    if (inside.op == nn::Operator::sequence && inside.plain() && inside.children.empty()) continue;
    if (body) return nullptr;
    body = branch.layer;
  }
  return body;
}

/// Takes over the form of a residual block; false if it is no model.
template <Real T>
[[nodiscard]] bool take_form(nn::Layer<T>& block, Place<T>& place) {
  nn::Layer<T>* const body = body_of(block.description());
  if (!body) return false;
  std::vector<nn::Layer<T>*> leaves;
  if (!leaves_of(*body, leaves)) return false;
  const std::vector<Site<T>> sites = find_sites(*body);
  if (sites.size() != 1) return false;
  const Site<T>& site = sites.front();
  const nn::Layer<T>* const end =
      site.consumer_norm ? static_cast<nn::Layer<T>*>(site.consumer_norm) : site.consumer.layer();
  if (leaves.front() != site.producer.layer() || leaves.back() != end) return false;
  if (site.pool || site.flattened || site.own_slope) return false;
  if (site.producer.in_features() != site.consumer.out_features()) return false;
  if (site.producer.is_convolution() != site.consumer.is_convolution()) return false;
  place.model = &block;
  place.first = site.producer;
  place.last = site.consumer;
  place.norm = site.norm;
  place.last_norm = site.consumer_norm;
  place.activation = site.activation;
  place.features = site.producer.in_features();
  place.first_window = site.producer.window();
  place.last_window = site.consumer.window();
  place.names = {.first = last_name(site.producer.name()),
                 .norm = site.norm ? last_name(site.norm->name()) : "",
                 .activation = "",
                 .last = last_name(site.consumer.name()),
                 .last_norm = site.consumer_norm ? last_name(site.consumer_norm->name()) : ""};
  for (nn::Layer<T>* leaf : leaves) {
    const nn::Description<T> told = leaf->description();
    if (told.op == nn::Operator::elementwise) place.names.activation = last_name(leaf->name());
    // A norm that the site does not have between its two layers is none that can be made again.
    if (told.op == nn::Operator::normalise && leaf != site.norm && leaf != site.consumer_norm) return false;
  }
  return true;
}

/// Finds places along the sequences of a network.
template <Real T>
class PlaceFinder {
 public:
  PlaceFinder(nn::Layer<T>& network, Widths widths) {
    if (widths == Widths::hidden) {
      for (const Site<T>& site : find_sites(network)) hidden_.insert(site.producer.layer());
    }
    walk(network);
  }

  std::vector<Place<T>> places;

 private:
  void walk(nn::Layer<T>& layer) {
    const nn::Description<T> told = layer.description();
    auto* const sequence = dynamic_cast<nn::Sequential<T>*>(&layer);
    if (!sequence) return;
    std::set<std::string> taken;
    for (const auto& child : told.children) taken.insert(child.name);
    Affine<T> tail;  // the affine layer whose outputs flow, if nothing but what a chain may have followed it
    nn::BatchNorm<T>* norm = nullptr;
    bool directly = false;
    for (std::size_t i = 0; i < told.children.size(); ++i) {
      nn::Layer<T>& child = *told.children[i].layer;
      const nn::Description<T> own = child.description();
      const Affine<T> affine(child, own);
      const bool behind = std::exchange(directly, false);
      std::optional<nn::Activation> activation;
      if (affine.layer()) {
        tail = affine;
        norm = nullptr;
        directly = true;
        continue;
      }
      if (own.batch_norm && behind) {
        norm = own.batch_norm;
        activation = own.activation;
      } else if (own.op == nn::Operator::elementwise && own.activation && own.plain()) {
        activation = own.activation;
      } else if (own.op == nn::Operator::identity ||
                 (own.op == nn::Operator::pool && !own.global && tail.layer() && tail.is_convolution())) {
        continue;
      } else {
        tail = {};
      }
      if (activation && *activation != nn::Activation::identity && tail.layer()) {
        if (!hidden_.contains(tail.layer())) in_chain(*sequence, child, tail, norm, *activation, taken);
        tail = {};
      }
      if (own.op == nn::Operator::sum) {
        Place<T> place;
        const bool fits =
            take_form(child, place) || (i + 1 < told.children.size() && take_form(*told.children[i + 1].layer, place));
        if (fits) add(std::move(place), *sequence, child, base_of(told.children[i].name) + "_", taken);
      } else if (own.op == nn::Operator::sequence) {
        walk(child);
      }
    }
  }

  void in_chain(nn::Sequential<T>& sequence, nn::Layer<T>& behind, const Affine<T>& tail, nn::BatchNorm<T>* norm,
                nn::Activation activation, std::set<std::string>& taken) {
    Place<T> place;
    place.first = place.last = tail;
    place.norm = place.last_norm = norm;
    place.activation = activation;
    place.features = tail.out_features();
    if (tail.is_convolution()) {
      const bool keeps = keeps_size(tail.window());
      place.first_window = keeps ? tail.window() : Window{.kernel = 3, .padding = 1};
      place.last_window = place.first_window;
    }
    const std::string kind = tail.is_convolution() ? "conv" : "linear";
    place.names = {.first = kind + "1",
                   .norm = norm ? "norm1" : "",
                   .activation = "activation",
                   .last = kind + "2",
                   .last_norm = norm ? "norm2" : ""};
    add(std::move(place), sequence, behind, "block", taken);
  }

  void add(Place<T> place, nn::Sequential<T>& sequence, nn::Layer<T>& behind, const std::string& base,
           std::set<std::string>& taken) {
    int number = 1;
    while (!taken.insert(base + std::to_string(number)).second) ++number;
    const std::string& path = sequence.name();
    place.name = concat(path, path.empty() ? "" : ".", base, number);
    place.behind = behind.name();
    place.container = &sequence;
    places.push_back(std::move(place));
  }

  /// `block1` of `block1_2`: blocks behind inserted ones are named like those.
  static std::string base_of(const std::string& name) {
    const std::size_t at = name.rfind('_');
    if (at == std::string::npos || at == 0 || at + 1 == name.size()) return name;
    const bool number = std::all_of(name.begin() + static_cast<std::ptrdiff_t>(at) + 1, name.end(),
                                    [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; });
    return number ? name.substr(0, at) : name;
  }

  std::set<const nn::Layer<T>*> hidden_;  // producers whose width could not grow behind a block
};

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

/// The Sequential that holds the layer of this path name, or null.
template <Real T>
[[nodiscard]] nn::Sequential<T>* container_of(nn::Layer<T>& network, const std::string& name) {
  auto* const sequence = dynamic_cast<nn::Sequential<T>*>(&network);
  for (nn::Layer<T>* child : network.children()) {
    if (sequence && child->name() == name) return sequence;
    if (nn::Sequential<T>* const found = container_of(*child, name)) return found;
  }
  return nullptr;
}

/// The Sequential of this path name that holds layers of its own, or null.
template <Real T>
[[nodiscard]] nn::Sequential<T>* sequence_called(nn::Layer<T>& layer, const std::string& name) {
  if (auto* const sequence = dynamic_cast<nn::Sequential<T>*>(&layer); sequence && layer.name() == name)
    return sequence;
  for (nn::Layer<T>* child : layer.children()) {
    if (nn::Sequential<T>* const found = sequence_called(*child, name)) return found;
  }
  return nullptr;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
std::vector<Place<T>> find_places(nn::Layer<T>& network, Widths widths) {
  return detail::PlaceFinder<T>(network, widths).places;
}

template <Real T>
EmptyBlocks<T>::EmptyBlocks(Context& ctx, std::vector<Place<T>> places) {
  for (Place<T>& place : places) {
    auto made = detail::make_block(ctx, place, 0, nn::Init::zeros);
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
  if (block.out) detail::put_in(block.place, std::move(block.out));
}

template <Real T>
void EmptyBlocks<T>::open() {
  for (std::size_t i = 0; i < blocks_.size(); ++i) open(i);
}

template <Real T>
void EmptyBlocks<T>::close(std::size_t index, optim::Optimizer<T>* optimizer) {
  Block& block = blocks_.at(index);
  if (block.out || block.kept) return;
  block.out = block.place.container->extract(detail::last_name(block.place.name));
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
  block.last_norm = detail::add_last_norm(ctx, block.place, *block.residual);
  return block.last_norm;
}

template <Real T>
void EmptyBlocks<T>::settle_norm(Context& ctx, std::size_t index, const detail::NormInputs<T>& seen) {
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
  detail::join_groups(block.place, *block.residual, optimizer);
  block.kept = true;
}

template <Real T>
RemovedBlock<T> remove_block(nn::Layer<T>& network, const std::string& name, optim::Optimizer<T>* optimizer) {
  nn::Sequential<T>* const container = name.empty() ? nullptr : detail::container_of(network, name);
  if (!container) {
    throw ArgumentError(concat("depth: there is no layer '", name, "' in a Sequential of the network"));
  }
  const std::string own = detail::last_name(name);
  RemovedBlock<T> removed{.name = name, .container = container->name(), .position = container->position(own)};
  nn::Layer<T>& block = (*container)[removed.position];
  if (!detail::body_of(block.description())) {
    throw ArgumentError(concat("depth: ", block.label(),
                               " is no block that adds something to its input; what stands behind it could not read "
                               "what stands before it"));
  }
  removed.block = container->extract(own);
  if (!optimizer) return removed;
  removed.block->visit_parameters([&](nn::Parameter<T>& parameter) {
    removed.memories.push_back({parameter.id, std::move(optimizer->state(parameter.id)),
                                optimizer->first_steps(parameter.id), optimizer->group(parameter.id)});
    optimizer->forget(parameter.id);
  });
  return removed;
}

template <Real T>
void put_back(RemovedBlock<T>&& removed, nn::Layer<T>& network, optim::Optimizer<T>* optimizer) {
  if (!removed.block) throw ArgumentError(concat("depth: the block ", removed.name, " was put back already"));
  nn::Sequential<T>* const container = detail::sequence_called(network, removed.container);
  if (!container) {
    throw ArgumentError(
        concat("depth: the network has no Sequential '", removed.container, "' to put ", removed.name, " back into"));
  }
  const std::string own = detail::last_name(removed.name);
  for (const auto& child : container->description().children) {
    if (child.name != own) continue;
    throw ArgumentError(
        concat("depth: the network has a layer ", removed.name, " already; remove or rename that first"));
  }
  if (removed.position > container->size()) {
    throw ArgumentError(concat("depth: ", removed.name, " stood behind ", removed.position, " layers of '",
                               removed.container, "', which has ", container->size(), " now"));
  }
  container->insert(removed.position, own, std::move(removed.block));
  for (auto& memory : removed.memories) {
    if (!optimizer) break;
    optimizer->state(memory.id) = std::move(memory.moments);
    optimizer->first_steps(memory.id) = std::move(memory.first_steps);
    optimizer->set_group(memory.id, memory.group);
  }
}

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
