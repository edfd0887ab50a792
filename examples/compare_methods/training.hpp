// One training: the network, its growth, and what came out after every epoch.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <meristem/io/architecture.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/random.cuh>
#include <meristem/meristem.hpp>

#include "variant.hpp"

namespace ms = meristem;

/// What all trainings share.
struct Task {
  ms::data::ImageSet train, test;
  std::string model = "vgg";
  std::int64_t epochs = 9, batch = 50, channels = 4, units = 8;
  double share = 0.25;
  bool augment = false, linear = false;
};

/// After one epoch.
struct Mark {
  double parameters = 0.0;
  double operations = 0.0, growing = 0.0;  ///< floating-point operations in all, and those of growth among them
  double loss = 0.0;                       ///< mean over the epoch's batches
  double accuracy = 0.0;                   ///< of the test images, %
  double seconds = 0.0;                    ///< of training and growth, not of testing
};

struct Run {
  std::vector<Mark> marks;  ///< one after every epoch
  std::int64_t units = 0;   ///< added in all
  std::string end;          ///< the network's architecture
};

/// The network after `steps` of `of` growth steps, untrained. Where all widths grow, those of the streams start at a
/// quarter.
inline ms::nn::Sequential<float> build(ms::Context& ctx, const Task& task, std::int64_t steps, std::int64_t of = 1,
                                       ms::grow::Widths widths = ms::grow::Widths::hidden, std::int64_t blocks = 2) {
  const std::int64_t c = task.channels;
  if (task.model == "resnet18") {
    ms::models::ResNetOptions options{.classes = task.train.classes(),
                                      .width = 1.0 / 16,
                                      .channels = c,
                                      .in_channels = task.train.channels,
                                      .blocks = std::vector<std::int64_t>(4, blocks)};
    for (std::int64_t stage = 0, outer = c; stage < 4; ++stage, outer *= 2) {
      const auto each = static_cast<std::int64_t>(std::ceil(task.share * static_cast<double>(outer)));
      const std::int64_t start = std::max<std::int64_t>(1, std::llround(static_cast<double>(outer) / 16.0));
      options.hidden.insert(options.hidden.end(), static_cast<std::size_t>(blocks), start + steps * each);
    }
    if (widths == ms::grow::Widths::all)
      options.channels = (c + 3) / 4 + (c - (c + 3) / 4) * steps / std::max<std::int64_t>(of, 1);
    return ms::models::resnet18<float>(ctx, options);
  }
  const std::int64_t extra = steps * task.units;
  return ms::models::vgg<float>(ctx, {.classes = task.train.classes(),
                                      .stages = {{c + extra}, {2 * c + extra}, {2 * c + extra, 2 * c + extra}},
                                      .in_channels = task.train.channels});
}

/// A network of that architecture with the initial weights of `build`'s.
inline ms::nn::Sequential<float> build_new(ms::Context& ctx, const std::string& architecture) {
  ms::nn::Sequential<float> network = ms::io::build<float>(ctx, architecture);
  network.visit_parameters([&](ms::nn::Parameter<float>& parameter) {
    const ms::Shape& shape = parameter.value.shape();
    if (shape.rank() < 2 || parameter.value.empty()) return;
    const std::int64_t fan_in = shape.size() / shape[0];
    ms::nn::initialize<float>(ctx, shape.rank() == 4 ? ms::nn::Init::kaiming_normal : ms::nn::Init::lecun_normal,
                              fan_in, shape.size() / fan_in, parameter.value.view());
  });
  return network;
}

/// w = shrink · w + perturb · (a fresh one, by Kaiming's variance), for the weights of Linear and Conv2d.
inline void shrink_and_perturb(ms::Context& ctx, ms::nn::Layer<float>& network, double shrink, double perturb) {
  network.visit_parameters([&](ms::nn::Parameter<float>& parameter) {
    const ms::Shape& shape = parameter.value.shape();
    if (shape.rank() < 2 || parameter.value.empty()) return;
    ms::kernels::scale<float>(ctx, static_cast<float>(shrink), parameter.value.view());
    if (perturb == 0.0) return;
    ms::Tensor<float> noise(ctx, shape);
    const double fan_in = static_cast<double>(shape.size() / shape[0]);
    ms::kernels::fill_normal<float>(ctx, ctx.next_random_stream(), 0.0f,
                                    static_cast<float>(perturb * std::sqrt(2.0 / fan_in)), noise.view());
    ms::kernels::axpy<float>(ctx, 1.0f, noise, parameter.value.view());
  });
}

/// Trains for `epochs` epochs, the last one cut short if there is a fraction; the schedule is stretched with them.
/// `architecture` is that of a network from scratch.
inline Run train(const Task& task, const Variant& variant, std::uint64_t seed, double epochs,
                 const std::string& architecture = {}) {
  ms::Context ctx({.seed = seed});
  const auto growths = static_cast<std::int64_t>(variant.grow_after.size());
  // With sites that join on the way, widths are given by name; a Grower is made for each growth step.
  const bool by_name = variant.widths == ms::grow::Widths::all || variant.depth;
  ms::nn::Sequential<float> net = variant.from_scratch()
                                      ? build_new(ctx, architecture)
                                      : build(ctx, task, variant.method.starts_with("large") ? growths : 0, growths,
                                              variant.widths, variant.depth ? 1 : 2);
  ms::optim::Sgd<float> sgd(net, {.learning_rate = variant.learning_rate, .momentum = 0.9, .weight_decay = 5e-4});
  const std::int64_t steps_per_epoch = (task.train.size() + task.batch - 1) / task.batch;
  ms::optim::GrowthRate growth_rate = variant.growth_rate;
  growth_rate.steps *= steps_per_epoch;
  sgd.set_growth_rate(growth_rate);
  const auto steps = std::llround(epochs * static_cast<double>(steps_per_epoch));
  const double stretch = epochs / static_cast<double>(task.epochs);
  const ms::optim::Schedule schedule(
      {.peak = variant.learning_rate,
       .decay = task.linear ? ms::optim::Decay::linear : ms::optim::Decay::cosine,
       .hold_steps = std::llround(stretch * static_cast<double>(variant.hold * steps_per_epoch)),
       .total_steps = steps});

  std::optional<ms::grow::Grower<float>> grower;
  ms::grow::GrowerOptions options;
  if (variant.grows()) {
    options.method = method_named(variant.method);
    options.where = ms::grow::Where::together;
    // The same number of units for every method, also where a threshold would not let them pass.
    options.how_many =
        task.model == "resnet18" ? ms::grow::HowMany::of_outputs(task.share) : ms::grow::HowMany::fixed(task.units);
    options.how_many.insist = true;
    options.how_many.significance = variant.significance;
    options.amplitude = variant.amplitude;
    options.damping = variant.damping;
    options.move_weights = variant.move_weights;
    options.statistics_samples = std::min(variant.statistics_samples, std::max<std::int64_t>(task.train.size() / 2, 1));
    options.search_samples = std::min(variant.search_samples, std::max<std::int64_t>(task.train.size() / 4, 1));
    options.batch_size = 250;
    options.widths = variant.widths;
    options.depth = variant.depth;
    if (!by_name) grower.emplace(net, sgd, options);
  }
  const ms::Shape image{1, task.train.height, task.train.width, task.train.channels};
  Run run;
  Mark mark;
  for (std::int64_t epoch = 1; sgd.steps() < steps; ++epoch) {
    const auto start = std::chrono::steady_clock::now();
    ms::train::Metrics metrics;
    const double each = 6.0 * static_cast<double>(net.multiply_adds(image));
    for (const auto& batch :
         task.train.batches<float>(ctx, task.batch,
                                   {.shuffle = true,
                                   .epoch = epoch - 1,
                                   .augmentation = {.crop_padding = task.augment ? 4 : 0, .flip = task.augment}})) {
      if (sgd.steps() == steps) break;
      sgd.set_learning_rate(schedule.at(sgd.steps()));
      metrics += ms::train::step<float>(ctx, net, batch, sgd);
      // A multiply-add is two operations; forward and the gradients of inputs and weights take about the same.
      mark.operations += each * static_cast<double>(batch.labels.size());
    }
    const auto step = std::find(variant.grow_after.begin(), variant.grow_after.end(), epoch);
    if (variant.grows() && epoch < task.epochs && step != variant.grow_after.end()) {
      if (by_name) {
        // To the widths of the network that is built for this step; blocks that join get a share of their outputs.
        ms::Context apart;
        ms::nn::Sequential<float> goal =
            build(apart, task, step - variant.grow_after.begin() + 1, growths, variant.widths);
        std::map<std::string, std::int64_t> widths;
        for (const auto& site : ms::grow::find_sites(goal, variant.widths)) {
          widths[site.tied() ? site.stream : site.name] = site.width();
        }
        options.how_many.share_of_outputs = 0.0;
        options.how_many.target = [widths, share = task.share](const ms::grow::Candidate& site) {
          const auto found = widths.find(site.width_name());
          return found != widths.end()
                     ? found->second
                     : static_cast<std::int64_t>(std::ceil(share * static_cast<double>(site.fan_out) / (3 * 3)));
        };
        grower.emplace(net, sgd, options);
      }
      if (variant.shrink != 1.0 || variant.perturb != 0.0) {
        shrink_and_perturb(ctx, net, variant.shrink, variant.perturb);
      }
      const ms::grow::GrowthReport report = grower->grow(ctx, task.train);
      run.units += report.added();
      mark.growing += report.operations;
      mark.operations += report.operations;
      if (variant.forget_moments) {
        for (ms::nn::Parameter<float>* parameter : ms::nn::parameters(net)) {
          for (ms::Tensor<float>& moment : sgd.state(parameter->id)) ms::kernels::fill(ctx, 0.0f, moment.view());
        }
      }
    }
    mark.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    mark.parameters = static_cast<double>(ms::nn::parameter_count(net));
    mark.loss = metrics.loss;
    mark.accuracy = 100.0 * ms::train::evaluate<float>(ctx, net, task.test, 250).accuracy;
    run.marks.push_back(mark);
  }
  run.end = ms::io::architecture<float>(net);
  return run;
}
