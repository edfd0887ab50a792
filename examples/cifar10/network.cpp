#include "network.hpp"

#include <algorithm>
#include <cstdint>

namespace cifar10 {

ms::grow::Where where_of(const std::string& name) {
  using ms::grow::Where;
  if (name == "best") return Where::best_gain;
  if (name == "best-per-parameter") return Where::best_gain_per_parameter;
  if (name == "best-per-operation") return Where::best_gain_per_flop;
  if (name == "round-robin") return Where::round_robin;
  return name == "together" ? Where::together : Where::all;
}

ms::nn::Sequential<float> build(ms::Context& ctx, const Options& o, const ms::data::ImageSet& images) {
  const std::int64_t classes = images.classes();
  if (o.is_mlp()) {
    return ms::models::mlp<float>(ctx, {.inputs = images.image_bytes(),
                                        .hidden = o.hidden.value_or(std::vector<std::int64_t>{8, 8}),
                                        .classes = classes,
                                        .activation = ms::kernels::parse_activation(o.activation.value_or("relu"))});
  }
  if (o.model == "vgg") {
    auto stages = ms::models::vgg_stages(11);
    for (auto& stage : stages) {
      for (std::int64_t& width : stage) width = std::max<std::int64_t>(width * o.channels / 64, 1);
    }
    return ms::models::vgg<float>(
        ctx, {.classes = classes, .stages = stages, .width = o.width, .in_channels = images.channels});
  }
  const std::vector<std::int64_t> hidden = o.hidden.value_or(std::vector<std::int64_t>{});
  if (o.automatic) {
    return ms::models::resnet18<float>(ctx, {.classes = classes,
                                             .channels = o.channels,
                                             .in_channels = images.channels,
                                             .hidden = {1, 1, 1, 1},
                                             .blocks = {1, 1, 1, 1}});
  }
  if (o.model == "resnet18-strided") {
    return ms::models::resnet18_strided<float>(ctx, {.classes = classes,
                                                     .width = o.width,
                                                     .channels = o.channels,
                                                     .in_channels = images.channels,
                                                     .hidden = hidden});
  }
  return ms::models::resnet18<float>(
      ctx,
      {.classes = classes, .width = o.width, .channels = o.channels, .in_channels = images.channels, .hidden = hidden});
}

ms::grow::Widths widths_of(const Options& o) {
  if (o.grow == "depth") return ms::grow::Widths::none;
  return o.grow == "hidden" ? ms::grow::Widths::hidden : ms::grow::Widths::all;
}

bool names_width(const ms::grow::Site<float>& site) { return !site.tied() || site.stream == site.name; }

ms::grow::GrowerOptions grower_options(const Options& o) {
  ms::grow::GrowerOptions options;
  options.method = ms::grow::parse_method(o.method);
  options.where = where_of(o.where);
  options.widths = widths_of(o);
  options.depth = o.deepens();
  if (o.automatic) options.when = ms::grow::When::until_empty(1);
  options.sites = o.layers;
  options.fan_out = o.fan_out == "centre" ? ms::grow::FanOut::centre : ms::grow::FanOut::full;
  const Units each = o.units_each_step();
  ms::grow::HowMany rule =
      each.of > 0 ? ms::grow::HowMany::of_outputs(static_cast<double>(each.count) / static_cast<double>(each.of))
                  : ms::grow::HowMany::fixed(each.count);
  rule.significance = o.least_significance();
  // With a threshold only what stands out of the noise and lowers the loss.
  rule.insist = rule.significance == 0.0;
  options.how_many = rule;
  options.damping = o.damping;
  options.statistics_samples = o.statistics_samples.value_or(o.is_mlp() ? 5'000 : 2'000);
  options.search_samples = o.search_samples.value_or(o.is_mlp() ? 1'000 : 500);
  // Batch normalisation measures what it would do in training.
  if (!o.is_mlp()) options.batch_size = o.batch;
  if (o.max_parameters > 0) options.budget.parameters = o.max_parameters;
  options.budget.must_leave_room = false;  // require_room says it in the options' own words
  options.loss = ms::nn::CrossEntropy{.label_smoothing = o.label_smoothing};
  return options;
}

std::vector<ms::grow::Site<float>> shown_sites(const Options& o, ms::nn::Layer<float>& net) {
  return ms::grow::find_sites(net, o.grow == "depth" ? ms::grow::Widths::all : widths_of(o));
}

std::int64_t room_for_work(const Options& o, double spent, std::int64_t epochs_left, std::int64_t images,
                           std::size_t sites) {
  // Of a growth step at most: statistics in three passes forward and backward for widths and again for blocks, and two
  // forward for norms of each stream; ten losses for each site. A multiply-add is two operations.
  const ms::grow::GrowerOptions options = grower_options(o);
  const double growing =
      60.0 * static_cast<double>(std::min(options.statistics_samples, images)) +
      20.0 * static_cast<double>(std::min(options.search_samples, std::max<std::int64_t>(images / 5, 1))) *
          static_cast<double>(sites + 1);
  const double training = 6.0 * static_cast<double>(images) * static_cast<double>(epochs_left);
  return static_cast<std::int64_t>(std::min((o.max_operations - spent) / (training + growing), 1e15));
}

void require_room(const Options& o, ms::nn::Layer<float>& net, const std::vector<ms::grow::Site<float>>& sites) {
  if (o.max_parameters == 0 || !o.resume.empty() || sites.empty()) return;
  const std::int64_t parameters = ms::nn::parameter_count(net);
  std::int64_t least = ms::grow::unlimited;
  for (const auto& site : sites) least = std::min(least, ms::grow::least_unit_parameters(site));
  if (o.max_parameters - parameters >= least) return;
  throw ms::ArgumentError(
      ms::concat("--max-parameters: ", o.max_parameters, " leaves no room to grow: the network has ", parameters,
                 " and the smallest unit adds ", least, "; give at least ", parameters + least, ", or --method none"));
}

LayerWalk::LayerWalk(ms::nn::Layer<float>& net, const ms::Shape& image, const std::vector<ms::grow::Site<float>>& sites)
    : sites_(&sites) {
  walk(net, image, "");
}

void LayerWalk::walk(ms::nn::Layer<float>& layer, const ms::Shape& input, const std::string& block) {
  const auto children = layer.children();
  if (children.empty()) {
    if (layer.kind() != "Conv2d" && layer.kind() != "Linear") return;
    const ms::Shape output = layer.output_shape(input);
    LayerState state{.name = layer.name(), .kind = std::string(layer.kind()), .block = block};
    state.outputs = output[output.rank() - 1];
    if (output.rank() == 4) {
      state.height = output[1];
      state.width = output[2];
    }
    for (const auto& site : *sites_) state.grows = state.grows || site.name == state.name;
    layers_.push_back(state);
    return;
  }
  // The body and the shortcut of a block read the same.
  const bool forks = layer.kind() == "Residual";
  ms::Shape shape = input;
  for (ms::nn::Layer<float>* child : children) {
    const ms::Shape& reads = forks ? input : shape;
    walk(*child, reads, forks ? layer.name() : block);
    if (!forks) shape = child->output_shape(shape);
  }
}

NetworkState network_state(ms::nn::Layer<float>& net, const ms::Shape& image,
                           const std::vector<ms::grow::Site<float>>& sites, std::vector<std::string> names) {
  NetworkState state;
  const bool given = !names.empty();
  for (const auto& site : sites) {
    if (!given && names_width(site)) names.push_back(site.name);
  }
  for (const std::string& name : names) {
    const auto found = std::find_if(sites.begin(), sites.end(), [&](const auto& site) { return site.name == name; });
    if (found == sites.end()) continue;
    state.hidden_names.push_back(name);
    state.hidden.push_back(found->width());
  }
  state.parameters = ms::nn::parameter_count(net);
  state.layers = LayerWalk(net, image, sites).layers();
  return state;
}

}  // namespace cifar10
