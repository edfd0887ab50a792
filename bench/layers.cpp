// What do the layers cost, forward and backward, beside their floors?
//
// Maps of (128, 32, 32, 64) in training mode, rows of (8192, 256) for what acts on rows, logits of (8192, 10) for the
// losses. Bytes: forward reads the input and writes the output; backward reads the output's gradient and writes the
// input's, and reads the input where the gradient depends on it. A layer that works in place moves less and may stand
// above 100 %; Flatten moves nothing. Batch normalisation needs its input twice, for statistics and for the result,
// and counts it once: it would fit only a cache. Weights and their gradients count as well; operations as in conv2d.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/group_norm.hpp>
#include <meristem/nn/layer_norm.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>

#include "main.hpp"

namespace {

namespace ms = meristem;
namespace nn = meristem::nn;
using bench::bytes_of;
using bench::context;
using Layer = nn::Layer<float>;
using Make = std::unique_ptr<Layer> (*)();

enum class On { maps, rows };
/// Whether the gradient at the input depends on the input's values.
enum class Reads { input, gradient, nothing };

ms::Tensor<float> random_input(On on) {
  return on == On::maps ? bench::normal_matrix({128, 32, 32, 64}, 1) : bench::normal_matrix({8192, 256}, 1);
}

void forward(benchmark::State& state, Make make, On on, Reads reads) {
  ms::Context& ctx = context();
  const auto layer = make();
  const auto input = random_input(on);
  const ms::Shape shape = layer->output_shape(input.shape());
  const bench::Work work{2.0 * static_cast<double>(layer->multiply_adds(input.shape()) * input.extent(0)),
                         bytes_of(input) + static_cast<double>(shape.size()) * sizeof(float) +
                             4.0 * static_cast<double>(nn::parameter_count(*layer))};
  std::optional<nn::Trace<float>> trace;
  bench::measure(
      state, reads == Reads::nothing ? bench::Work{} : work, [&] { trace = layer->forward(ctx, input, {}); },
      [&] { trace.reset(); });
}

void backward(benchmark::State& state, Make make, On on, Reads reads) {
  ms::Context& ctx = context();
  const auto layer = make();
  const auto input = random_input(on);
  const nn::Pass<float> pass{.input_gradient = true};
  const nn::Trace<float> trace = layer->forward(ctx, input, pass);
  const auto gradient = bench::normal_matrix(trace.output.shape(), 2);
  const double operations = 4.0 * static_cast<double>(layer->multiply_adds(input.shape()) * input.extent(0));
  const bench::Work work{operations, bytes_of(input, gradient) + (reads == Reads::input ? bytes_of(input) : 0.0) +
                                         8.0 * static_cast<double>(nn::parameter_count(*layer))};
  ms::Tensor<float> consumed, result;
  bench::measure(
      state, reads == Reads::nothing ? bench::Work{} : work,
      [&] { result = layer->backward(ctx, input, trace, std::move(consumed), pass); },
      [&] {
        result = {};
        consumed = ms::clone(ctx, gradient);
      });
}

template <class L, class... Arguments>
std::unique_ptr<Layer> with_context(Arguments... arguments) {
  return std::make_unique<L>(context(), arguments...);
}

std::unique_ptr<Layer> linear() { return with_context<nn::Linear<float>>(256, 256); }
std::unique_ptr<Layer> conv3x3() { return with_context<nn::Conv2d<float>>(64, 64, nn::Conv2dOptions{.padding = 1}); }
std::unique_ptr<Layer> batch_norm() { return with_context<nn::BatchNorm<float>>(64); }
std::unique_ptr<Layer> batch_norm_relu() {
  return std::make_unique<nn::BatchNorm<float>>(context(), 64,
                                                nn::BatchNormOptions{.activation = nn::Activation::relu});
}
std::unique_ptr<Layer> group_norm() { return with_context<nn::GroupNorm<float>>(8, 64); }
std::unique_ptr<Layer> layer_norm() { return with_context<nn::LayerNorm<float>>(256); }
template <nn::Activation function>
std::unique_ptr<Layer> activation() {
  return std::make_unique<nn::ActivationLayer<float>>(function);
}
std::unique_ptr<Layer> dropout() { return std::make_unique<nn::Dropout<float>>(0.5); }
std::unique_ptr<Layer> max_pool() { return std::make_unique<nn::MaxPool2d<float>>(); }
std::unique_ptr<Layer> average_pool() { return std::make_unique<nn::AveragePool2d<float>>(); }
std::unique_ptr<Layer> global_pool() { return std::make_unique<nn::GlobalAveragePool<float>>(); }
std::unique_ptr<Layer> flatten() { return std::make_unique<nn::Flatten<float>>(); }
std::unique_ptr<Layer> residual() {
  auto layer = std::make_unique<nn::Residual<float>>();
  layer->add<nn::BatchNorm<float>>("norm", context(), 64, nn::BatchNormOptions{.activation = nn::Activation::relu});
  return layer;
}

#define MERISTEM_LAYER(make, name, on, reads)                                                             \
  BENCHMARK_CAPTURE(forward, name, make, on, reads)->Name("layers/" name "/forward")->Apply(bench::rows); \
  BENCHMARK_CAPTURE(backward, name, make, on, reads)->Name("layers/" name "/backward")->Apply(bench::rows)

MERISTEM_LAYER(linear, "linear", On::rows, Reads::input);
MERISTEM_LAYER(conv3x3, "conv3x3", On::maps, Reads::input);
MERISTEM_LAYER(batch_norm, "batch_norm", On::maps, Reads::input);
MERISTEM_LAYER(batch_norm_relu, "batch_norm_relu", On::maps, Reads::input);
MERISTEM_LAYER(group_norm, "group_norm", On::maps, Reads::input);
MERISTEM_LAYER(layer_norm, "layer_norm", On::rows, Reads::input);
MERISTEM_LAYER(activation<nn::Activation::relu>, "relu", On::maps, Reads::input);
MERISTEM_LAYER(activation<nn::Activation::gelu>, "gelu", On::maps, Reads::input);
MERISTEM_LAYER(activation<nn::Activation::silu>, "silu", On::maps, Reads::input);
MERISTEM_LAYER(activation<nn::Activation::tanh>, "tanh", On::maps, Reads::input);
MERISTEM_LAYER(activation<nn::Activation::selu>, "selu", On::maps, Reads::input);
MERISTEM_LAYER(dropout, "dropout", On::maps, Reads::gradient);
MERISTEM_LAYER(max_pool, "max_pool", On::maps, Reads::input);
MERISTEM_LAYER(average_pool, "average_pool", On::maps, Reads::gradient);
MERISTEM_LAYER(global_pool, "global_pool", On::maps, Reads::gradient);
MERISTEM_LAYER(residual, "residual_norm_relu", On::maps, Reads::input);
MERISTEM_LAYER(flatten, "flatten", On::maps, Reads::nothing);

/// Loss and gradient in one pass: reads the logits, writes the gradient.
void cross_entropy(benchmark::State& state) {
  const auto logits = bench::normal_matrix({8192, 10}, 1);
  std::vector<std::int32_t> classes;
  for (std::int32_t i = 0; i < 8192; ++i) classes.push_back(i % 10);
  const auto labels = ms::from_host<std::int32_t>(context(), {8192}, classes);
  bench::measure(state, {0.0, bytes_of(logits, logits, labels)}, [&] {
    const auto value =
        nn::CrossEntropy{}(context(), ms::View<const float>(logits), ms::View<const std::int32_t>(labels));
    benchmark::DoNotOptimize(value.mean);
  });
}
BENCHMARK(cross_entropy)->Name("layers/cross_entropy")->Apply(bench::rows);

void squared_error(benchmark::State& state) {
  const auto output = bench::normal_matrix({8192, 10}, 1), target = bench::normal_matrix({8192, 10}, 2);
  bench::measure(state, {0.0, bytes_of(output, target, output)}, [&] {
    const auto value = nn::SquaredError{}(context(), ms::View<const float>(output), target);
    benchmark::DoNotOptimize(value.mean);
  });
}
BENCHMARK(squared_error)->Name("layers/squared_error")->Apply(bench::rows);

}  // namespace
