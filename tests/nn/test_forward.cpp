// What Layer does around every layer: taps, also through a user's container, and passes that keep nothing.
#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/models/resnet.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace nn_forward_test {

namespace ms = meristem;
namespace nn = meristem::nn;
using support::message_of;

namespace {

/// A user's container, which knows nothing of taps: y = second(first(x)), with a factor of its own on the way.
class Pair final : public nn::Layer<double> {
 public:
  Pair(ms::Context& ctx, std::int64_t width)
      : first(ctx, width, 3), second(ctx, 3, width), scale(ctx, "scale", {1}, true) {
    scale.value = ms::from_host<double>(ctx, {1}, {0.5});
  }
  [[nodiscard]] std::string_view kind() const override { return "Pair"; }
  [[nodiscard]] ms::Shape output_shape(const ms::Shape& input) const override {
    return second.output_shape(first.output_shape(input));
  }

  nn::Linear<double> first, second;
  nn::Parameter<double> scale;

 private:
  void describe(nn::Description<double>& description) override {
    description.parameter(scale);
    description.child("first", first);
    description.child("second", second);
  }
  nn::Trace<double> do_forward(ms::Context& ctx, ms::View<const double> input, const nn::Pass<double>& pass) override {
    nn::Trace<double> trace;
    trace.children.push_back(first.forward(ctx, input, pass));
    ms::Tensor<double> scaled(ctx, trace.children[0].output.shape());
    const double s = ms::to_host(ctx, scale.value)[0];
    ms::kernels::combine<double>(ctx, s, trace.children[0].output, 0.0, trace.children[0].output, scaled.view());
    trace.saved.push_back(std::move(scaled));
    trace.children.push_back(second.forward(ctx, trace.saved[0].view(), pass));
    trace.output = trace.children[1].output;
    return trace;
  }
  ms::Tensor<double> do_backward(ms::Context& ctx, ms::View<const double> input, const nn::Trace<double>& trace,
                                 ms::Tensor<double> gradient, const nn::Pass<double>& pass) override {
    nn::Pass<double> inner = pass;
    inner.input_gradient = true;
    gradient = second.backward(ctx, trace.saved[0].view(), trace.children[1], std::move(gradient), inner);
    const auto h = ms::to_host(ctx, trace.children[0].output);
    const auto g = ms::to_host(ctx, gradient);
    double dot = 0;
    for (std::size_t i = 0; i < h.size(); ++i) dot += h[i] * g[i];
    scale.gradient = ms::from_host<double>(ctx, {1}, {dot});
    ms::kernels::scale<double>(ctx, ms::to_host(ctx, scale.value)[0], gradient.view());
    return first.backward(ctx, input, trace.children[0], std::move(gradient), pass);
  }
};

struct Record final : nn::Taps<double> {
  std::vector<std::string> events;
  void on_forward(ms::Context&, const nn::Layer<double>& layer, ms::View<const double> input) override {
    events.push_back("> " + layer.label() + input.shape().to_string());
  }
  void on_backward(ms::Context&, const nn::Layer<double>& layer, ms::View<const double> input,
                   ms::View<const double> gradient) override {
    events.push_back("< " + layer.label() + input.shape().to_string() + gradient.shape().to_string());
  }
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("forward: taps see the layers inside a user's container, once, before they run") {
  ms::Context ctx({.seed = 3});
  nn::Sequential<double> net;
  net.add<Pair>("pair", ctx, 2);
  net.add<nn::ActivationLayer>("f", nn::Activation::tanh);
  support::check_gradients(ctx, net, {5, 2}, 4);
  Record record;
  const nn::Pass<double> pass{.taps = &record};
  const auto input = ms::from_host<double>(ctx, {4, 2}, support::normal_values<double>(8, 1));
  const auto trace = net.forward(ctx, input, pass);
  (void)net.backward(ctx, input, trace, ms::zeros<double>(ctx, {4, 2}), pass);
  CHECK(record.events ==
        std::vector<std::string>{"> Sequential(4, 2)", "> pair (Pair)(4, 2)", "> pair.first (Linear)(4, 2)",
                                 "> pair.second (Linear)(4, 3)", "> f (tanh)(4, 2)", "< Sequential(4, 2)(4, 2)",
                                 "< f (tanh)(4, 2)(4, 2)", "< pair (Pair)(4, 2)(4, 2)",
                                 "< pair.second (Linear)(4, 3)(4, 2)", "< pair.first (Linear)(4, 2)(4, 3)"});
}

TEST_CASE("forward: add takes a template of layers with the network's numbers") {
  ms::Context ctx;
  nn::Sequential<double> net;
  nn::Linear<double>& linear = net.add<nn::Linear>("a", ctx, 8, 4, nn::LinearOptions{.bias = false});
  CHECK(linear.weight().name == "a.weight");
  nn::Residual<double>& block = net.add<nn::Residual>("block");
  nn::Linear<double>& inner = block.add<nn::Linear>("b", ctx, 4, 4);
  CHECK(inner.name() == "block.b");
  CHECK(net.output_shape({3, 8}) == ms::Shape{3, 4});
}

TEST_CASE("infer: the same output to the last bit as evaluation, and nothing else is left") {
  ms::Context ctx({.seed = 5});
  auto net = ms::models::resnet18<float>(ctx, {.classes = 3, .width = 1.0 / 4, .channels = 4});
  const auto input = ms::from_host<float>(ctx, {2, 16, 16, 3}, support::normal_values<float>(2 * 16 * 16 * 3, 1));
  const auto kept = net.forward(ctx, input, {.mode = nn::Mode::evaluation});
  const auto trace = nn::infer(ctx, net, input);
  CHECK(trace.children.empty());
  CHECK(trace.saved.empty());
  CHECK(trace.storage.data() == trace.output.data_handle());
  support::check_same_bits(ms::to_host(ctx, trace.output), ms::to_host(ctx, kept.output));
  CHECK(message_of<ms::ArgumentError>([&] {
          (void)net.backward(ctx, input, trace, ms::zeros<float>(ctx, {2, 3}), {.forward_only = true});
        }) ==
        "Sequential: backward of a pass that is forward_only, which keeps nothing to go back by; give a pass that "
        "is not, to forward too");
  // A trace that kept nothing is not the one that backward needs, of a single layer neither.
  nn::BatchNorm<float> norm(ctx, 3);
  const auto row = ms::zeros<float>(ctx, {2, 3});
  CHECK_THROWS_AS((void)norm.backward(ctx, row, nn::infer(ctx, norm, row), ms::zeros<float>(ctx, {2, 3}), {}),
                  ms::ArgumentError);
  CHECK_THROWS_AS((void)net.backward(ctx, input, trace, ms::zeros<float>(ctx, {2, 3}), {}), ms::ArgumentError);
}

TEST_CASE("infer: outputs that alias the input, or lie in what a container kept, live on") {
  ms::Context ctx({.seed = 6});
  nn::Sequential<double> aliases;
  aliases.add<nn::Flatten>("flatten");
  aliases.add<nn::Dropout>("dropout", 0.5);
  const auto input = ms::from_host<double>(ctx, {4, 2, 1}, support::normal_values<double>(8, 1));
  const auto same = nn::infer(ctx, aliases, input);
  CHECK(same.output.data_handle() == input.data());
  CHECK(same.storage.empty());
  aliases.add<Pair>("pair", ctx, 2);
  aliases.add<nn::Flatten>("again");
  const auto kept = aliases.forward(ctx, input, {.mode = nn::Mode::evaluation});
  const auto trace = nn::infer(ctx, aliases, input);
  CHECK(trace.children.empty());
  CHECK(trace.storage.data() == trace.output.data_handle());
  support::check_same_bits(ms::to_host(ctx, trace.output), ms::to_host(ctx, kept.output));
}

TEST_CASE("infer: activations are freed when what reads them has run") {
  ms::Context ctx;
  const std::int64_t rows = 512, width = 64;
  const auto bytes = static_cast<std::size_t>(rows * width) * sizeof(float);
  const auto input = ms::zeros<float>(ctx, {rows, width});
  // Most bytes beyond those before, and bytes kept at the end.
  const auto use = [&](nn::Layer<float>& net, const nn::Pass<float>& pass) {
    (void)net.forward(ctx, input, pass);  // whatever is allocated once
    const std::size_t before = ctx.memory()->in_use();
    ctx.memory()->reset_peak();
    const auto trace = net.forward(ctx, input, pass);
    return std::pair{ctx.memory()->peak() - before, ctx.memory()->in_use() - before};
  };
  const nn::Pass<float> evaluation{.mode = nn::Mode::evaluation};
  for (const bool training : {false, true}) {
    const nn::Pass<float> forward_only{
        .mode = training ? nn::Mode::training : nn::Mode::evaluation, .measuring = training, .forward_only = true};
    nn::Sequential<float> chain, net;
    for (int i = 0; i < 10; ++i) {
      chain.add<nn::Linear>("linear" + std::to_string(i), ctx, width, width);
      chain.add<nn::Flatten>("flatten" + std::to_string(i));
      auto& stage = net.add<nn::Sequential>("stage" + std::to_string(i));
      stage.add<nn::Linear>("linear", ctx, width, width);
      stage.add<nn::ActivationLayer>("f", nn::Activation::tanh);
      stage.add<nn::Flatten>("flatten");
    }
    CHECK(use(chain, evaluation) == std::pair{10 * bytes, 10 * bytes});
    CHECK(use(net, evaluation) == std::pair{20 * bytes, 20 * bytes});
    // What a layer reads and what it writes; then the output.
    CHECK(use(chain, forward_only) == std::pair{2 * bytes, bytes});
    // And what the container around them reads.
    CHECK(use(net, forward_only) == std::pair{3 * bytes, bytes});

    nn::Sequential<float> blocks;
    for (int i = 0; i < 10; ++i) {
      auto& block = blocks.add<nn::Residual>("block" + std::to_string(i));
      block.add<nn::Linear>("linear1", ctx, width, width);
      block.add<nn::Linear>("linear2", ctx, width, width);
    }
    CHECK(use(blocks, evaluation) == std::pair{30 * bytes, 30 * bytes});
    // The block's input, what the last layer of its body reads and writes, and the sum.
    CHECK(use(blocks, forward_only) == std::pair{4 * bytes, bytes});
  }
}

TEST_SUITE_END();

}  // namespace nn_forward_test
