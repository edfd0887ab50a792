// A network with a layer of one's own trains and grows. Checks the layer's gradients first.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/sequential.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/train/trainer.hpp>

#include "spirals.hpp"
#include "swish.hpp"

namespace ms = meristem;
using ms::own_kernel::Swish;
using own_kernel::spirals;

/// Largest difference between a gradient and the central difference of sum(w y), in units of the largest gradient.
double gradient_error(ms::Context& ctx) {
  const std::int64_t n = 5000;  // more than one block
  const ms::Philox random(3, 1);
  std::vector<double> x, w;
  for (std::int64_t i = 0; i < n; ++i) {
    x.push_back(2 * random.normal(static_cast<std::uint64_t>(2 * i)));
    w.push_back(random.normal(static_cast<std::uint64_t>(2 * i + 1)));
  }
  Swish<double> layer(ctx, 1.5);
  const ms::nn::Pass<double> pass{.input_gradient = true};
  const auto loss = [&](double beta, double shift) {
    layer.beta().value = ms::from_host<double>(ctx, {1}, {beta});
    std::vector<double> moved = x;
    for (double& value : moved) value += shift;
    const auto input = ms::from_host<double>(ctx, {n}, moved);
    const auto trace = layer.forward(ctx, input, pass);
    return ms::to_host(ctx, trace.output);
  };
  const double step = 1e-5;
  const auto dot = [&](const std::vector<double>& up, const std::vector<double>& down) {
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) sum += w[i] * (up[i] - down[i]) / (2 * step);
    return sum;
  };
  const double beta_difference = dot(loss(1.5 + step, 0), loss(1.5 - step, 0));
  const std::vector<double> up = loss(1.5, step), down = loss(1.5, -step);  // elementwise: all inputs at once

  layer.beta().value = ms::from_host<double>(ctx, {1}, {1.5});
  const auto input = ms::from_host<double>(ctx, {n}, x);
  const auto trace = layer.forward(ctx, input, pass);
  const auto dx = ms::to_host(ctx, layer.backward(ctx, input, trace, ms::from_host<double>(ctx, {n}, w), pass));
  const double dbeta = ms::to_host(ctx, layer.beta().gradient)[0];
  double worst = std::abs(dbeta - beta_difference) / std::abs(dbeta);
  for (std::size_t i = 0; i < w.size(); ++i) {
    worst = std::max(worst, std::abs(dx[i] - w[i] * (up[i] - down[i]) / (2 * step)) / 3);
  }
  return worst;
}

int main() {
  try {
    ms::Context ctx({.seed = 1});
    std::cout << ctx.device_name() << '\n';

    // On the CPU also with the GPU's block size, where barriers count. The step squared and rounding leave 1e-9.
    for (const bool gpu_blocks : {false, true}) {
      ctx.set_executor({.gpu_blocks = gpu_blocks, .order = ms::ThreadOrder::shuffled, .poison_shared = true});
      const double error = gradient_error(ctx);
      std::cout << "gradients differ from finite differences by " << error << '\n';
      if (!(error < 1e-7)) return 1;
    }
    ctx.set_executor({});

    ms::nn::Sequential<double> net;
    net.add<ms::nn::Linear<double>>("layer1", ctx, 2, 2);
    net.add<Swish<double>>("swish1", ctx);
    net.add<ms::nn::Linear<double>>("layer2", ctx, 2, 2);
    net.add<Swish<double>>("swish2", ctx);
    net.add<ms::nn::Linear<double>>("layer3", ctx, 2, 2);

    const auto train = spirals(4000, 1), test = spirals(1000, 2);
    const auto batches = train.batches<double>(ctx, 100);
    ms::optim::AdamW<double> optimizer(net, {.learning_rate = 0.02});
    ms::grow::Grower<double> grower(net, optimizer,
                                    {.how_many = {.at_most = 4, .significance = 0.0}, .statistics_samples = 2000});
    double accuracy = 0;
    for (int epoch = 1; epoch <= 16; ++epoch) {
      for (const auto& batch : batches) ms::train::step<double>(ctx, net, batch, optimizer);
      if (epoch % 2 == 1) continue;
      if (epoch <= 10) std::cout << grower.grow(ctx, train);
      accuracy = ms::train::evaluate<double>(ctx, net, test).accuracy;
      std::cout << "epoch " << epoch << ": test accuracy " << 100 * accuracy << " %, " << ms::nn::parameter_count(net)
                << " parameters\n";
    }
    return accuracy > 0.9 ? 0 : 1;
  } catch (const ms::Error& error) {
    std::cerr << error.message() << '\n';
    return 1;
  }
}
