#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <meristem/models/mlp.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/nn/sequential.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace nn_layers_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

namespace {

template <class T>
void set(ms::Context& ctx, ms::nn::Parameter<T>& parameter, const std::vector<T>& values) {
  parameter.value = ms::from_host<T>(ctx, parameter.value.shape(), values);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("linear: forward equals the plain loop", T, float, double) {
  ms::Context ctx({.seed = 3});
  for (const std::int64_t n : {0, 1, 31, 33}) {
    for (const std::int64_t in : {1, 7, 33}) {
      for (const std::int64_t out : {1, 5, 64}) {
        CAPTURE(n);
        CAPTURE(in);
        CAPTURE(out);
        ms::nn::Linear<T> linear(ctx, in, out);
        const auto x = support::normal_values<T>(n * in, 1);
        const auto w = support::normal_values<T>(out * in, 2);
        const auto b = support::normal_values<T>(out, 3);
        set(ctx, linear.weight(), w);
        set(ctx, linear.bias(), b);
        const auto input = ms::from_host<T>(ctx, {n, in}, x);
        const auto trace = linear.forward(ctx, input, {});
        std::vector<double> expected;
        for (std::int64_t i = 0; i < n; ++i) {
          for (std::int64_t o = 0; o < out; ++o) {
            double sum = b[o];
            for (std::int64_t k = 0; k < in; ++k) sum += double(x[i * in + k]) * double(w[o * in + k]);
            expected.push_back(sum);
          }
        }
        // in products of magnitude up to ~16, each rounded once, summed: (in + 1) eps · 16.
        support::check_close(n == 0 ? std::vector<T>() : ms::to_host(ctx, trace.output), expected,
                             16.0 * double(in + 1) * support::eps<T>);
      }
    }
  }
}

TEST_CASE("linear: gradients agree with finite differences, tokens included") {
  ms::Context ctx({.seed = 4});
  ms::nn::Linear<double> linear(ctx, 5, 3);
  support::check_gradients(ctx, linear, {4, 5}, 10);
  support::check_gradients(ctx, linear, {2, 3, 5}, 11);
  ms::nn::Linear<double> plain(ctx, 3, 4, {.bias = false});
  support::check_gradients(ctx, plain, {5, 3}, 12);
}

TEST_CASE("linear: gradients are overwritten, accumulated or ignored as asked") {
  ms::Context ctx({.seed = 5});
  ms::nn::Linear<double> linear(ctx, 3, 2);
  const auto x = ms::from_host<double>(ctx, {4, 3}, support::normal_values<double>(12, 1));
  const auto dy = support::normal_values<double>(8, 2);
  const auto run = [&](ms::nn::GradientMode mode) {
    const ms::nn::Pass<double> pass{.gradients = mode};
    const auto trace = linear.forward(ctx, x, pass);
    (void)linear.backward(ctx, x, trace, ms::from_host<double>(ctx, {4, 2}, dy), pass);
    return ms::to_host(ctx, linear.weight().gradient);
  };
  const auto once = run(ms::nn::GradientMode::overwrite);
  support::check_same_bits(run(ms::nn::GradientMode::overwrite), once);
  auto twice = support::to_double(once);
  for (double& value : twice) value *= 2;
  const auto bias_once = ms::to_host(ctx, linear.bias().gradient);
  support::check_close(run(ms::nn::GradientMode::accumulate), twice, 1e-15 * support::scale_of(twice));
  auto bias_twice = support::to_double(bias_once);
  for (double& value : bias_twice) value *= 2;
  support::check_close(ms::to_host(ctx, linear.bias().gradient), bias_twice, 1e-15 * support::scale_of(bias_twice));
  support::check_close(run(ms::nn::GradientMode::ignore), twice, 1e-15 * support::scale_of(twice));
}

TEST_CASE("linear: widths of 0 compute") {
  ms::Context ctx({.seed = 6});
  ms::nn::Sequential<float> net;
  net.add<ms::nn::Linear<float>>("a", ctx, 4, 0);
  net.add<ms::nn::ActivationLayer<float>>("f", ms::nn::Activation::relu);
  auto& last = net.add<ms::nn::Linear<float>>("b", ctx, 0, 2);
  set<float>(ctx, last.bias(), {1.5f, -2.5f});
  const auto x = ms::from_host<float>(ctx, {3, 4}, support::normal_values<float>(12, 1));
  const ms::nn::Pass<float> pass{.input_gradient = true};
  const auto trace = net.forward(ctx, x, pass);
  support::check_close(ms::to_host(ctx, trace.output), {1.5, -2.5, 1.5, -2.5, 1.5, -2.5}, 0.0);
  auto dx = net.backward(ctx, x, trace, ms::from_host<float>(ctx, {3, 2}, support::normal_values<float>(6, 2)), pass);
  support::check_close(ms::to_host(ctx, dx), std::vector<double>(12, 0.0), 0.0);
}

TEST_CASE("linear: misfits are told with name, shapes and remedy") {
  ms::Context ctx;
  ms::nn::Sequential<float> net;
  net.add<ms::nn::Linear<float>>("layer1", ctx, 16, 4);
  const auto text = message_of<ms::ShapeError>([&] { (void)net.output_shape({8, 3}); });
  CHECK(contains(text, "layer1 (Linear)"));
  CHECK(contains(text, "(4, 16)"));
  CHECK(contains(text, "expects 16 input features"));
  CHECK(contains(text, "(8, 3)"));
  const auto images = ms::zeros<float>(ctx, {2, 4, 4, 1});
  CHECK(contains(message_of<ms::ShapeError>([&] { (void)net.forward(ctx, images, {}); }), "put a Flatten before it"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::nn::Linear<float>(ctx, -1, 4); }), "-1 -> 4"));
}

TEST_CASE("activation layers: gradients agree with finite differences") {
  ms::Context ctx;
  for (const auto function : ms::kernels::all_activations) {
    CAPTURE(ms::kernels::activation_name(function));
    ms::nn::ActivationLayer<double> layer(function);
    support::check_gradients(ctx, layer, {3, 7}, 20);
  }
}

TEST_CASE("flatten: moves no data, forward and backward") {
  ms::Context ctx;
  ms::nn::Flatten<float> flatten;
  const auto x = ms::from_host<float>(ctx, {2, 3, 2, 1}, support::normal_values<float>(12, 1));
  const ms::nn::Pass<float> pass{.input_gradient = true};
  const auto trace = flatten.forward(ctx, x, pass);
  CHECK(trace.output.shape() == ms::Shape{2, 6});
  CHECK(trace.output.data_handle() == x.data());
  auto gradient = ms::from_host<float>(ctx, {2, 6}, support::normal_values<float>(12, 2));
  const float* data = gradient.data();
  const auto dx = flatten.backward(ctx, x, trace, std::move(gradient), pass);
  CHECK(dx.shape() == x.shape());
  CHECK(dx.data() == data);
}

TEST_CASE("sequential: names are paths, kept unique") {
  ms::Context ctx;
  ms::nn::Sequential<float> net;
  auto& inner = net.add<ms::nn::Sequential<float>>("block");
  auto& linear = inner.add<ms::nn::Linear<float>>("first", ctx, 2, 3);
  CHECK(linear.name() == "block.first");
  CHECK(linear.weight().name == "block.first.weight");
  net.set_name("net");
  CHECK(linear.bias().name == "net.block.first.bias");
  CHECK(contains(message_of<ms::ArgumentError>([&] { net.add<ms::nn::Flatten<float>>("block"); }), "'block' already"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { net.add<ms::nn::Flatten<float>>("a.b"); }), "'a.b'"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { net.add<ms::nn::Flatten<float>>(""); }), "no name"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)net[1]; }), "no layer 1 among 1"));
}

TEST_CASE("sequential: gradients of a whole network agree with finite differences") {
  ms::Context ctx({.seed = 8});
  auto net = ms::models::mlp<double>(
      ctx, {.inputs = 6, .hidden = {5, 4}, .classes = 3, .activation = ms::nn::Activation::tanh});
  support::check_gradients(ctx, net, {7, 6}, 30);
}

TEST_CASE("sequential: the same gradients with and without the input gradient") {
  ms::Context ctx({.seed = 9});
  auto net = ms::models::mlp<double>(ctx, {.inputs = 6, .hidden = {5}, .classes = 3});
  const auto x = ms::from_host<double>(ctx, {4, 2, 3}, support::normal_values<double>(24, 1));
  const auto dy = support::normal_values<double>(12, 2);
  std::vector<std::vector<double>> gradients;
  for (const bool input_gradient : {false, true}) {
    const ms::nn::Pass<double> pass{.input_gradient = input_gradient};
    const auto trace = net.forward(ctx, x, pass);
    const auto dx = net.backward(ctx, x, trace, ms::from_host<double>(ctx, {4, 3}, dy), pass);
    CHECK(dx.empty() == !input_gradient);
    if (input_gradient) CHECK(dx.shape() == x.shape());
    for (auto* parameter : ms::nn::parameters(net)) gradients.push_back(ms::to_host(ctx, parameter->gradient));
  }
  for (std::size_t i = 0; i < gradients.size() / 2; ++i) {
    support::check_same_bits(gradients[i], gradients[gradients.size() / 2 + i]);
  }
}

TEST_CASE_TEMPLATE("layers: the gradient at the input is added to a sum", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    const ms::Shape shape{2, 5, 4, 3};
    const auto check = [&](ms::nn::Layer<T>& layer) {
      const auto x = ms::from_host<T>(ctx, shape, support::normal_values<T>(shape.size(), 1));
      const auto before = support::normal_values<T>(shape.size(), 2);
      const ms::nn::Pass<T> pass{.input_gradient = true};
      const auto trace = layer.forward(ctx, x, pass);
      const ms::Shape out = trace.output.shape();
      const auto gradient = support::normal_values<T>(out.size(), 3);
      const auto dx =
          ms::to_host(ctx, layer.backward(ctx, x, trace, ms::from_host<T>(ctx, out, gradient), pass).view());
      const auto sum = ms::to_host(ctx, layer
                                            .backward(ctx, x, trace, ms::from_host<T>(ctx, out, gradient), pass,
                                                      ms::from_host<T>(ctx, shape, before))
                                            .view());
      std::vector<T> expected;
      for (std::size_t i = 0; i < dx.size(); ++i) expected.push_back(before[i] + dx[i]);
      support::check_same_bits(sum, expected);
      CHECK(contains(message_of<ms::ShapeError>([&] {
                       (void)layer.backward(ctx, x, trace, ms::from_host<T>(ctx, out, gradient), pass,
                                            ms::from_host<T>(ctx, {3}, std::vector<T>(3)));
                     }),
                     "got a sum of shape (3) for an input of shape (2, 5, 4, 3); make the shapes equal"));
    };
    ms::nn::Linear<T> linear(ctx, 3, 4);
    check(linear);
    ms::nn::Conv2d<T> conv(ctx, 3, 2, {.kernel = 3, .padding = 1});
    check(conv);
    ms::nn::Sequential<T> net;
    check(net);
    net.template add<ms::nn::Conv2d<T>>("conv", ctx, 3, 4);
    net.template add<ms::nn::ActivationLayer<T>>("f", ms::nn::Activation::relu);
    check(net);
  });
}

TEST_CASE("sequential: taps see each layer's input and the gradient at its output") {
  struct Record final : ms::nn::Taps<double> {
    std::vector<std::string> events;
    std::vector<double> last_gradient;
    void on_forward(ms::Context&, const ms::nn::Layer<double>& layer, ms::View<const double> input) override {
      events.push_back("forward " + layer.name() + " " + input.shape().to_string());
    }
    void on_backward(ms::Context& ctx, const ms::nn::Layer<double>& layer, ms::View<const double>,
                     ms::View<const double> output_gradient) override {
      events.push_back("backward " + layer.name() + " " + output_gradient.shape().to_string());
      last_gradient = ms::to_host(ctx, output_gradient);
    }
  };
  ms::Context ctx({.seed = 9});
  auto net = ms::models::mlp<double>(
      ctx, {.inputs = 6, .hidden = {5}, .classes = 3, .activation = ms::nn::Activation::identity});
  Record record;
  const ms::nn::Pass<double> pass{.gradients = ms::nn::GradientMode::ignore, .taps = &record};
  const auto x = ms::from_host<double>(ctx, {4, 6}, support::normal_values<double>(24, 1));
  const auto trace = net.forward(ctx, x, pass);
  const auto dy = support::normal_values<double>(12, 2);
  (void)net.backward(ctx, x, trace, ms::from_host<double>(ctx, {4, 3}, dy), pass);
  // The network itself has no name.
  const std::vector<std::string> expected{
      "forward  (4, 6)",       "forward flatten (4, 6)", "forward layer1 (4, 6)",  "forward activation1 (4, 5)",
      "forward layer2 (4, 5)", "backward  (4, 3)",       "backward layer2 (4, 3)", "backward activation1 (4, 5)",
      "backward layer1 (4, 5)"};
  CHECK(record.events == expected);
  // Identity activation: the gradient at layer1's output is dy W2.
  const auto w2 = ms::to_host(ctx, dynamic_cast<ms::nn::Linear<double>&>(net[3]).weight().value);
  std::vector<double> gradient;
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 5; ++k) {
      double sum = 0;
      for (int o = 0; o < 3; ++o) sum += dy[i * 3 + o] * w2[o * 5 + k];
      gradient.push_back(sum);
    }
  }
  support::check_close(record.last_gradient, gradient, 1e-14);
}

TEST_CASE("losses: values and gradients agree with finite differences") {
  ms::Context ctx;
  const std::int64_t n = 5, classes = 4;
  const auto logits = support::normal_values<double>(n * classes, 1);
  const std::vector<std::int32_t> labels{0, 3, 1, 1, 2};
  const auto label_tensor = ms::from_host<std::int32_t>(ctx, {n}, labels);
  const auto target = ms::from_host<double>(ctx, {n, classes}, support::normal_values<double>(n * classes, 2));
  for (const bool squared : {false, true}) {
    CAPTURE(squared);
    const auto evaluate = [&](const std::vector<double>& values, bool gradient) {
      const auto tensor = ms::from_host<double>(ctx, {n, classes}, values);
      return squared ? ms::nn::SquaredError{}(ctx, tensor.view(), target, gradient)
                     : ms::nn::CrossEntropy{.label_smoothing = 0.1}(ctx, tensor.view(), label_tensor, gradient);
    };
    const auto value = evaluate(logits, true);
    CHECK(evaluate(logits, false).gradient.empty());
    CHECK(evaluate(logits, false).mean == doctest::Approx(value.mean).epsilon(1e-14));
    std::vector<double> numeric;
    constexpr double h = 1e-5;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      auto above = logits, below = logits;
      above[i] += h;
      below[i] -= h;
      numeric.push_back((evaluate(above, false).mean - evaluate(below, false).mean) / (2 * h));
    }
    support::check_close(ms::to_host(ctx, value.gradient), numeric, 1e-8);
  }
}

TEST_CASE("mlp: parameters, names and bad widths") {
  ms::Context ctx;
  auto net = ms::models::mlp<float>(ctx, {.inputs = 3072, .hidden = {64, 64}, .classes = 10});
  CHECK(ms::nn::parameter_count(net) == 3072 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10);
  std::vector<std::string> names;
  for (auto* parameter : ms::nn::parameters(net)) names.push_back(parameter->name);
  CHECK(names == std::vector<std::string>{"layer1.weight", "layer1.bias", "layer2.weight", "layer2.bias",
                                          "layer3.weight", "layer3.bias"});
  CHECK(net.output_shape({7, 32, 32, 3}) == ms::Shape{7, 10});
  CHECK(net.multiply_adds({1, 32, 32, 3}) == 3072 * 64 + 64 * 64 + 64 * 10);
  CHECK(contains(message_of<ms::ArgumentError>([&] {
                   (void)ms::models::mlp<float>(ctx, {.inputs = 4, .hidden = {8, 0}, .classes = 2});
                 }),
                 "hidden width 2 is 0"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)ms::models::mlp<float>(ctx, {.inputs = 4, .hidden = {}}); }),
                 "classes is 0"));
  CHECK(
      contains(message_of<ms::ArgumentError>([&] { (void)ms::models::mlp<float>(ctx, {.hidden = {}, .classes = 2}); }),
               "inputs is 0"));
}

TEST_CASE("initialisation: variances, seeds and streams") {
  ms::Context a({.seed = 5}), b({.seed = 5}), c({.seed = 6});
  const std::int64_t in = 200, out = 300;
  const auto variance = [&](ms::nn::Init init) {
    ms::nn::Linear<double> linear(a, in, out, {.init = init});
    double sum = 0;
    for (const double w : ms::to_host(a, linear.weight().value)) sum += w * w;
    return sum / double(in * out);
  };
  // The variance of 60,000 draws is known to ±√(2/60000) ≈ 0.6 %; four of those are 2.4 %.
  CHECK(variance(ms::nn::Init::kaiming_normal) == doctest::Approx(2.0 / in).epsilon(0.024));
  CHECK(variance(ms::nn::Init::kaiming_uniform) == doctest::Approx(2.0 / in).epsilon(0.024));
  CHECK(variance(ms::nn::Init::lecun_normal) == doctest::Approx(1.0 / in).epsilon(0.024));
  CHECK(variance(ms::nn::Init::xavier_uniform) == doctest::Approx(2.0 / (in + out)).epsilon(0.024));
  CHECK(variance(ms::nn::Init::fan_in_uniform) == doctest::Approx(1.0 / (3.0 * in)).epsilon(0.024));
  CHECK(variance(ms::nn::Init::zeros) == 0.0);

  const auto first = [](ms::Context& ctx) {
    ms::nn::Linear<float> one(ctx, 4, 4), two(ctx, 4, 4);
    auto values = ms::to_host(ctx, one.weight().value);
    const auto more = ms::to_host(ctx, two.weight().value);
    CHECK(values != more);
    return values;
  };
  ms::Context d({.seed = 5});
  CHECK(first(b) == first(d));
  CHECK(first(b) != first(c));
}

TEST_SUITE_END();

}  // namespace nn_layers_test
