#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/data/loader.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/sequential.hpp>
#include <meristem/optim/sgd.hpp>
#include <support/check.hpp>
#include <support/pictures.hpp>

namespace grow_own_layer_test {

namespace {

namespace ms = meristem;

/// SiLU as a user would write it: growth knows its slope at zero and nothing else.
class OwnSilu final : public ms::nn::Layer<double> {
 public:
  explicit OwnSilu(std::optional<double> slope) : slope_(slope) {}
  [[nodiscard]] std::string_view kind() const override { return "OwnSilu"; }
  [[nodiscard]] ms::Shape output_shape(const ms::Shape& input) const override { return input; }

 private:
  void describe(ms::nn::Description<double>& description) override { description.elementwise(slope_); }
  [[nodiscard]] ms::nn::Trace<double> do_forward(ms::Context& ctx, ms::View<const double> input,
                                                 const ms::nn::Pass<double>& pass) override {
    ms::nn::Trace<double> trace;
    trace.children.push_back(silu_.forward(ctx, input, pass));
    trace.output = trace.children[0].output;
    return trace;
  }
  [[nodiscard]] ms::Tensor<double> do_backward(ms::Context& ctx, ms::View<const double> input,
                                               const ms::nn::Trace<double>& trace, ms::Tensor<double> output_gradient,
                                               const ms::nn::Pass<double>& pass) override {
    return silu_.backward(ctx, input, trace.children[0], std::move(output_gradient), pass);
  }

  ms::nn::ActivationLayer<double> silu_{ms::nn::Activation::silu};
  std::optional<double> slope_;
};

/// Passes its input on, and says of itself what the test has it say.
class Told final : public ms::nn::Layer<double> {
 public:
  using Tell = std::function<void(Told&, ms::nn::Description<double>&)>;
  Told(ms::Context& ctx, Tell tell)
      : weight(ctx, "weight", {4, 4}, true),
        along(ctx, "along", {4}, true),
        number(ctx, "number", {1}, true),
        left(ctx, 4, 4),
        right(ctx, 4, 4),
        tell_(std::move(tell)) {}
  [[nodiscard]] std::string_view kind() const override { return "Told"; }
  [[nodiscard]] ms::Shape output_shape(const ms::Shape& input) const override { return input; }

  ms::nn::Parameter<double> weight, along, number;
  ms::nn::Linear<double> left, right;

 private:
  void describe(ms::nn::Description<double>& description) override { tell_(*this, description); }
  [[nodiscard]] ms::nn::Trace<double> do_forward(ms::Context&, ms::View<const double> input,
                                                 const ms::nn::Pass<double>&) override {
    ms::nn::Trace<double> trace;
    trace.output = input;
    return trace;
  }
  [[nodiscard]] ms::Tensor<double> do_backward(ms::Context&, ms::View<const double>, const ms::nn::Trace<double>&,
                                               ms::Tensor<double> output_gradient,
                                               const ms::nn::Pass<double>&) override {
    return output_gradient;
  }
  Tell tell_;
};

/// Names of the sites of Linear `a`, the layer `f` and Linear `b`.
std::vector<std::string> sites_around(const Told::Tell& tell) {
  ms::Context ctx;
  ms::nn::Sequential<double> net;
  net.add<ms::nn::Linear>("a", ctx, 4, 4);
  net.add<Told>("f", ctx, tell);
  net.add<ms::nn::Linear>("b", ctx, 4, 4);
  std::vector<std::string> names;
  for (const auto& site : ms::grow::find_sites<double>(net)) names.push_back(site.name);
  return names;
}

template <class Function, class... Args>
ms::nn::Sequential<double> net_with_function(ms::Context& ctx, Args... args) {
  ms::nn::Sequential<double> net;
  net.add<ms::nn::Flatten<double>>("flatten");
  net.add<ms::nn::Linear<double>>("a", ctx, 12, 2);
  net.add<Function>("f", args...);
  net.add<ms::nn::Linear<double>>("b", ctx, 2, 3);
  return net;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("own layer: a layer that knows its slope at zero is an activation to growth, one that does not is none") {
  ms::Context ctx;
  auto with = net_with_function<OwnSilu>(ctx, 0.5);
  const auto sites = ms::grow::find_sites<double>(with);
  REQUIRE(sites.size() == 1);
  CHECK(sites[0].name == "a");
  CHECK(sites[0].activation == ms::nn::Activation::identity);
  CHECK(sites[0].slope_at_zero() == 0.5);
  with.add<OwnSilu>("g", 0.25);
  with.add<ms::nn::ActivationLayer<double>>("h", ms::nn::Activation::relu);
  with.add<ms::nn::Linear<double>>("c", ctx, 3, 3);
  with.add<ms::nn::Linear<double>>("d", ctx, 3, 3);
  const auto more = ms::grow::find_sites<double>(with);
  REQUIRE(more.size() == 2);
  // Two activations in a row are none, and the next layer starts afresh.
  CHECK(more[1].name == "c");
  CHECK(more[1].slope_at_zero() == 1.0);

  auto without = net_with_function<OwnSilu>(ctx, std::nullopt);
  CHECK(ms::grow::find_sites<double>(without).empty());
}

TEST_CASE("own layer: what it says of itself decides where a network grows") {
  using Description = ms::nn::Description<double>;
  using ms::nn::Axis;
  using Names = std::vector<std::string>;
  CHECK(sites_around([](Told&, Description&) {}).empty());
  CHECK(sites_around([](Told&, Description& d) { d.identity(); }) == Names{"a"});
  CHECK(sites_around([](Told&, Description& d) { d.elementwise(ms::nn::Activation::tanh); }) == Names{"a"});
  CHECK(sites_around([](Told&, Description& d) { d.elementwise(); }).empty());
  // A number for all units may stand between; one for each would need a value for a new unit.
  CHECK(sites_around([](Told& f, Description& d) {
          d.elementwise(0.5);
          d.parameter(f.number);
        }) == Names{"a"});
  CHECK(sites_around([](Told& f, Description& d) {
          d.elementwise(0.5);
          d.parameter(f.along, {Axis::channel});
        }).empty());
  // An affine layer is a consumer and a producer, unless it has a third tensor along its features.
  CHECK(sites_around([](Told& f, Description& d) { d.affine(f.weight, &f.along); }) == Names{"a", "f"});
  CHECK(sites_around([](Told& f, Description& d) { d.affine(f.weight); }) == Names{"a", "f"});
  CHECK(sites_around([](Told& f, Description& d) {
          d.affine(f.weight);
          d.parameter(f.number);
        }) == Names{"a", "f"});
  CHECK(sites_around([](Told& f, Description& d) {
          d.affine(f.weight);
          d.parameter(f.along, {Axis::out});
        }).empty());
}

TEST_CASE("own layer: the layers inside a user's container are a chain if it says so") {
  using Description = ms::nn::Description<double>;
  const auto with_children = [](auto&& tell) {
    return sites_around([=](Told& f, Description& d) {
      tell(f, d);
      d.child("left", f.left);
      d.child("right", f.right);
    });
  };
  CHECK(with_children([](Told&, Description& d) { d.sequence(); }) ==
        std::vector<std::string>{"a", "f.left", "f.right"});
  CHECK(with_children([](Told&, Description&) {}).empty());
  CHECK(with_children([](Told& f, Description& d) {
          d.sequence();
          d.parameter(f.number);
        }).empty());
}

TEST_CASE("own layer: branches that a user's container adds up are tied") {
  ms::Context ctx;
  ms::nn::Sequential<double> net;
  net.add<ms::nn::Linear>("a", ctx, 4, 4);
  net.add<Told>("f", ctx, [](Told& f, ms::nn::Description<double>& d) {
    d.sum();
    d.child("left", f.left);
    d.child("right", f.right);
  });
  net.add<ms::nn::Linear>("b", ctx, 4, 4);
  // Nor is one of them the consumer of the other.
  CHECK(ms::grow::find_sites<double>(net).empty());
  CHECK(support::message_of<ms::ArgumentError>([&] { (void)ms::grow::find_site<double>(net, "f.right"); }) ==
        "growth: f.right cannot grow alone: skip connections add the outputs of f.left, f.right, whose channels are "
        "tied; with Widths::all they grow together; no layer of this network can grow");
  const auto streams = ms::grow::find_sites<double>(net, ms::grow::Widths::all);
  // The first layer has two readers, each branch the other as rider.
  REQUIRE(streams.size() == 3);
  CHECK(streams[0].name == "a");
  CHECK(streams[0].readers() == 2);
  CHECK(streams[2].name == "f.right");
  CHECK(streams[2].riders.at(0).name() == "f.left");
}

TEST_CASE("own layer: a network grows through it as through the same function of the library") {
  const auto grown = [](auto make) {
    ms::Context ctx({.seed = 7});
    auto net = make(ctx);
    const auto set = support::bright_and_dark();
    ms::optim::Sgd<double> sgd(net, {.learning_rate = 0.1});
    ms::grow::Grower<double> grower(
        net, sgd, {.how_many = {.at_most = 3, .significance = 0.0}, .statistics_samples = 150, .search_samples = 50});
    const auto report = grower.grow(ctx, set);
    std::vector<double> result{report.sites[0].slope, report.sites[0].gamma, report.sites[0].predicted};
    CHECK(report.sites[0].added == 2);  // as many as three logits whose gradients add up to 0 have directions
    for (const auto* parameter : ms::nn::parameters<double>(net)) {
      for (const double value : ms::to_host(ctx, parameter->value)) result.push_back(value);
    }
    return result;
  };
  support::check_same_bits(grown([](ms::Context& ctx) { return net_with_function<OwnSilu>(ctx, 0.5); }),
                           grown([](ms::Context& ctx) {
                             return net_with_function<ms::nn::ActivationLayer<double>>(ctx, ms::nn::Activation::silu);
                           }));
}

TEST_SUITE_END();

}  // namespace grow_own_layer_test
