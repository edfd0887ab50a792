// The three kinds of networks that growth methods are tested on, and the samples at a site for plain loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/methods/methods.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <support/growth_problem.hpp>
#include <support/map_problem.hpp>

namespace support {

/// A network and the name of the site that is grown.
struct MethodNet {
  std::string name;
  std::string site;
  std::function<void(ms::Context&, MapProblem::Net&, ms::nn::Activation)> build;
};

inline const std::vector<MethodNet>& method_nets() {
  using ms::nn::ActivationLayer;
  using ms::nn::BatchNorm;
  using ms::nn::Conv2d;
  using ms::nn::Linear;
  using Net = MapProblem::Net;
  using F = ms::nn::Activation;
  static const ms::nn::Conv2dOptions conv3{.kernel = 3, .padding = 1};
  static const std::vector<MethodNet> all{
      {"mlp", "a",
       [](ms::Context& ctx, Net& net, F f) {
         net.add<ms::nn::Flatten<double>>("flatten");
         net.add<Linear<double>>("a", ctx, 24, 3);
         net.add<ActivationLayer<double>>("f", f);
         net.add<Linear<double>>("b", ctx, 3, 5);
         net.add<ActivationLayer<double>>("g", F::tanh);
         net.add<Linear<double>>("out", ctx, 5, 3);
       }},
      {"vgg", "a",
       [](ms::Context& ctx, Net& net, F f) {
         net.add<Conv2d<double>>("a", ctx, 2, 3, conv3);
         net.add<ActivationLayer<double>>("f", f);
         net.add<ms::nn::MaxPool2d<double>>("pool", ms::nn::PoolOptions{.kernel = {2, 1}});
         net.add<Conv2d<double>>("b", ctx, 3, 4, conv3);
         net.add<ActivationLayer<double>>("g", F::tanh);
         net.add<ms::nn::Flatten<double>>("flatten");
         net.add<Linear<double>>("out", ctx, 24, 3);
       }},
      {"vgg to linear", "b",
       [](ms::Context& ctx, Net& net, F f) {
         net.add<Conv2d<double>>("a", ctx, 2, 3, conv3);
         net.add<ActivationLayer<double>>("f", F::tanh);
         net.add<Conv2d<double>>("b", ctx, 3, 2, conv3);
         net.add<ActivationLayer<double>>("g", f);
         net.add<ms::nn::Flatten<double>>("flatten");
         net.add<Linear<double>>("out", ctx, 24, 4);
       }},
      {"resnet", "block.conv1",
       [](ms::Context& ctx, Net& net, F f) {
         net.add<Conv2d<double>>("stem", ctx, 2, 4, conv3);
         auto& block = net.add<ms::nn::Residual<double>>("block");
         block.add<Conv2d<double>>("conv1", ctx, 4, 2, conv3);
         block.add<BatchNorm<double>>("norm1", ctx, 2);
         block.add<ActivationLayer<double>>("f", f);
         block.add<Conv2d<double>>("conv2", ctx, 2, 4, conv3);
         block.add<BatchNorm<double>>("norm2", ctx, 4);
         net.add<ms::nn::GlobalAveragePool<double>>("mean");
         net.add<Linear<double>>("out", ctx, 4, 3);
       }},
  };
  return all;
}

/// A network of the list with samples, its running statistics those of the samples.
struct MethodProblem : MapProblem {
  ms::grow::Site<double> site;

  MethodProblem(const MethodNet& which, ms::nn::Activation f, std::int64_t samples = 48)
      : MapProblem(samples, {4, 3, 2}, [&](ms::Context& c, Net& n) { which.build(c, n, f); }),
        site(ms::grow::find_site<double>(net, which.site)) {
    ms::grow::detail::NormInputs<double> batch;
    (void)net.forward(ctx, x, {.measuring = true, .taps = &batch});
    for (const auto& [norm, channels] : batch.all()) {
      auto& layer = const_cast<ms::nn::BatchNorm<double>&>(*norm);
      ms::copy<double>(ctx, ms::from_host<double>(ctx, {layer.channels()}, channels.mean), layer.running_mean().value);
      ms::copy<double>(ctx, ms::from_host<double>(ctx, {layer.channels()}, channels.variance),
                       layer.running_variance().value);
    }
  }

  /// B2, B1 and V_goal of a site between vectors.
  [[nodiscard]] GrowthProblem samples() {
    GrowthProblem result;
    visit({site}, [&](ms::Context&, std::size_t, ms::View<const double> unit, ms::View<const double> consumer,
                      ms::View<const double> goal) {
      result.b2 = columns(unit, site.producer.has_bias());
      result.b1 = columns(consumer, site.consumer.has_bias());
      result.v = columns(goal, false);
    });
    return result;
  }

 private:
  [[nodiscard]] Dense columns(ms::View<const double> rows, bool bias) {
    const std::vector<double> values = ms::to_host(ctx, rows);
    const std::int64_t features = rows.extent(1);
    Dense result(features + (bias ? 1 : 0), rows.extent(0));
    for (std::int64_t t = 0; t < rows.extent(0); ++t) {
      for (std::int64_t i = 0; i < features; ++i) result(i, t) = values[static_cast<std::size_t>(t * features + i)];
      if (bias) result(features, t) = 1.0;
    }
    return result;
  }
};

/// Largest difference, relative to the largest number.
inline double relative_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = a.size() == b.size() ? 0.0 : 1e300, scale = 1e-300;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference = std::max(difference, std::abs(a[i] - b[i]));
    scale = std::max(scale, std::abs(a[i]));
  }
  return difference / scale;
}

}  // namespace support
