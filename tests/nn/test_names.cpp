// Names of parameters, and what misuse of layers is told.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <meristem/models/resnet.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/group_norm.hpp>
#include <meristem/nn/layer_norm.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>
#include <support/check.hpp>

namespace nn_names_test {

namespace ms = meristem;
using ms::nn::Layer;
using ms::nn::Parameter;
using Net = ms::nn::Sequential<float>;
using Names = std::vector<std::string>;
using support::contains;
using support::message_of;

namespace {

/// A layer of a user, with parameters and a buffer of these names.
class Own : public Layer<float> {
 public:
  Own(ms::Context& ctx, const Names& names) : buffer_(ctx, "count", {1}) {
    for (const std::string& name : names) parameters_.emplace_back(ctx, name, ms::Shape{1}, true);
  }
  std::string_view kind() const override { return "Own"; }
  ms::Shape output_shape(const ms::Shape& input) const override { return input; }

 protected:
  void describe(ms::nn::Description<float>& description) override {
    for (Parameter<float>& parameter : parameters_) description.parameter(parameter);
    description.buffer(buffer_);
  }
  ms::nn::Trace<float> do_forward(ms::Context&, ms::View<const float> input, const ms::nn::Pass<float>&) override {
    ms::nn::Trace<float> trace;
    trace.output = input;
    return trace;
  }
  ms::Tensor<float> do_backward(ms::Context&, ms::View<const float>, const ms::nn::Trace<float>&,
                                ms::Tensor<float> output_gradient, const ms::nn::Pass<float>&) override {
    return output_gradient;
  }

 private:
  std::vector<Parameter<float>> parameters_;
  ms::nn::Buffer<float> buffer_;
};

/// A container of a user with a layer inside, which it tells and nothing more.
struct Holder final : Own {
  ms::nn::Linear<float> inner;
  std::string inner_name;
  Holder(ms::Context& ctx, std::string name, const Names& names = {})
      : Own(ctx, names), inner(ctx, 2, 2), inner_name(std::move(name)) {}
  void describe(ms::nn::Description<float>& description) override {
    Own::describe(description);
    description.child(inner_name, inner);
  }
};

Names names_of(Layer<float>& net) {
  Names names;
  net.visit_parameters([&](Parameter<float>& parameter) { names.push_back(parameter.name); });
  net.visit_buffers([&](ms::nn::Buffer<float>& buffer) { names.push_back(buffer.name); });
  return names;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("names: parameters and buffers of users' layers get their paths, also when the network is renamed") {
  ms::Context ctx;
  Net net;
  net.add<Own>("first", ctx, Names{"beta", "first.beta"});
  net.add<Own>("second", ctx, Names{"beta"});
  auto& block = net.add<ms::nn::Residual<float>>("block");
  block.add<Own>("beta", ctx, Names{"beta"});
  block.shortcut().add<Own>("beta", ctx, Names{"beta"});
  const Names names = {"first.beta",      "first.first.beta",         "second.beta",
                       "block.beta.beta", "block.shortcut.beta.beta", "first.count",
                       "second.count",    "block.beta.count",         "block.shortcut.beta.count"};
  CHECK(names_of(net) == names);
  for (const char* path : {"a", "block", "beta.a", ""}) {
    net.set_name(path);
    Names expected;
    for (const std::string& name : names) expected.push_back(*path == '\0' ? name : ms::concat(path, ".", name));
    CHECK(names_of(net) == expected);
  }
  Net outer;
  auto inner = std::make_unique<Net>(std::move(net));
  outer.append("inner", std::move(inner));
  CHECK(names_of(outer).front() == "inner.first.beta");
}

TEST_CASE("names: layers inside a user's container get their paths, in a network and by themselves") {
  ms::Context ctx;
  Net net;
  auto& holder = net.add<Holder>("block", ctx, "gate", Names{"scale"});
  const Names names = {"block.scale", "block.gate.weight", "block.gate.bias", "block.count"};
  CHECK(names_of(net) == names);
  CHECK(holder.inner.name() == "block.gate");
  net.set_name("net");
  CHECK(holder.inner.label() == "net.block.gate (Linear)");
  // Nobody named it: whatever is shown of it or seen by taps has the right names all the same.
  Holder alone(ctx, "gate", {"scale"});
  CHECK(names_of(alone) == Names{"scale", "gate.weight", "gate.bias", "count"});
  Holder running(ctx, "gate");
  (void)running.forward(ctx, ms::zeros<float>(ctx, {1, 2}), {});
  CHECK(running.inner.name() == "gate");
  // Moved, a network takes its names along.
  Net moved = std::move(net);
  moved.set_name("");
  CHECK(names_of(moved) == names);
}

TEST_CASE("names: two parameters of one name are told") {
  ms::Context ctx;
  Net net;
  const auto refused = [&](auto&& add) {
    const std::size_t size = net.size();
    const std::string message = message_of<ms::ArgumentError>(add);
    CHECK(net.size() == size);
    return message;
  };
  CHECK(refused([&] {
          net.add<Own>("layer1", ctx, Names{"w", "b", "w"});
        }) == "layer1 (Own): two of its parameters or buffers are called 'layer1.w'; make them with names that differ");
  CHECK(contains(refused([&] { net.add<Own>("layer1", ctx, Names{"count"}); }), "are called 'layer1.count'"));
  CHECK(contains(refused([&] { net.add<Holder>("layer1", ctx, "inner", Names{"inner.bias"}); }),
                 "layer1 (Own): two of its parameters or buffers are called 'layer1.inner.bias'"));
  CHECK(contains(refused([&] { net.add<Holder>("layer1", ctx, "", Names{"weight"}); }), "are called 'layer1.weight'"));
  auto& block = net.add<ms::nn::Residual<float>>("block");
  CHECK(contains(refused([&] { block.body().add<ms::nn::Linear<float>>("shortcut", ctx, 2, 2); }),
                 "'shortcut' is the name of the other branch; choose another"));
  CHECK(refused([&] { net.append("layer2", nullptr); }) == "Sequential: the layer 'layer2' is a null pointer");
}

TEST_CASE("names: all of a ResNet's differ") {
  ms::Context ctx;
  auto net = ms::models::resnet18<float>(ctx, {.classes = 3, .width = 1.0 / 16, .channels = 4});
  Names names = names_of(net);
  std::sort(names.begin(), names.end());
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
}

TEST_CASE("layers: backward without the trace of a forward is told") {
  ms::Context ctx;
  const auto input = ms::zeros<float>(ctx, {2, 4});
  const auto refused = [&](Layer<float>& layer, const ms::nn::Trace<float>& trace) {
    return message_of<ms::ArgumentError>([&] {
      (void)layer.backward(ctx, input, trace, ms::zeros<float>(ctx, {2, 4}), {});
    });
  };
  const std::string told =
      ": backward got a trace that its forward did not leave; give it the one that forward returned "
      "for the same input";
  Net net;
  net.add<ms::nn::Linear<float>>("fc", ctx, 4, 4);
  CHECK(refused(net, {}) == "Sequential" + told);
  ms::nn::BatchNorm<float> batch_norm(ctx, 4);
  batch_norm.set_name("norm");
  CHECK(refused(batch_norm, {}) == "norm (BatchNorm)" + told);
  ms::nn::LayerNorm<float> layer_norm(ctx, 4);
  CHECK(refused(layer_norm, {}) == "LayerNorm" + told);
  ms::nn::GroupNorm<float> group_norm(ctx, 2, 4);
  CHECK(refused(group_norm, {}) == "GroupNorm" + told);
  ms::nn::Residual<float> residual;
  residual.add<ms::nn::Linear<float>>("fc", ctx, 4, 4);
  CHECK(refused(residual, {}) == "Residual" + told);
  ms::nn::Trace<float> hollow;
  hollow.children.resize(2);
  CHECK(refused(residual, hollow) == "Residual" + told);
  // Of another network, of a layer inside, and of another shape.
  Net other;
  const auto trace = other.forward(ctx, input, {});
  CHECK(refused(net, trace) == "Sequential" + told);
  const auto whole = net.forward(ctx, input, {});
  CHECK(refused(net, whole.children[0]) == "Sequential" + told);
  const auto larger = ms::zeros<float>(ctx, {3, 4});
  CHECK(refused(net, net.forward(ctx, larger, {})) == "Sequential" + told);
  // A network may be moved in between, and a layer added behind is not in the trace.
  Net moved = std::move(net);
  (void)moved.backward(ctx, input, whole, ms::zeros<float>(ctx, {2, 4}), {});
  moved.add<ms::nn::Linear<float>>("more", ctx, 4, 4);
  CHECK(refused(moved, whole) == "Sequential" + told);
}

TEST_CASE("layers: gradients and outputs of another shape are told") {
  ms::Context ctx;
  ms::nn::Linear<float> linear(ctx, 4, 3);
  linear.set_name("fc");
  const auto input = ms::zeros<float>(ctx, {2, 4});
  const auto trace = linear.forward(ctx, input, {});
  CHECK(message_of<ms::ShapeError>([&] {
          (void)linear.backward(ctx, input, trace, ms::zeros<float>(ctx, {3, 2}), {});
        }) ==
        "fc (Linear): backward got a gradient of shape (3, 2) for an output of shape (2, 3); give the gradient at "
        "the output");
  struct Wrong final : Own {
    using Own::Own;
    ms::Shape output_shape(const ms::Shape&) const override { return {7}; }
  };
  Wrong wrong(ctx, {});
  CHECK(
      message_of<ms::ShapeError>([&] { (void)wrong.forward(ctx, input, {}); }) ==
      "Own: its do_forward gave shape (2, 4), its output_shape says (7) for an input of shape (2, 4); make them agree");
}

TEST_CASE("layers: descriptions that do not fit the tensors are told") {
  ms::Context ctx;
  struct Told final : Own {
    explicit Told(ms::Context& ctx_) : Own(ctx_, {}), weight(ctx_, "w", {2, 3}, true) {}
    void describe(ms::nn::Description<float>& description) override {
      if (window) return description.affine(weight, nullptr, {.kernel = 3});
      description.parameter(weight, {ms::nn::Axis::out});
    }
    bool window = false;
    Parameter<float> weight;
  };
  Told told(ctx);
  CHECK(message_of<ms::ArgumentError>([&] { (void)told.description(); }) == "Own: 1 axes of w are described; it has 2");
  told.window = true;
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)told.description(); }),
                 "w: the weight (2, 3) of an affine layer with the window 3x3; it is (out, in), or"));
}

TEST_CASE("layers: sizes that overflow are told, and empty batches have costs") {
  ms::Context ctx;
  constexpr std::int64_t big = std::int64_t{1} << 40;
  ms::nn::Flatten<float> flatten;
  CHECK_THROWS_AS((void)flatten.output_shape({1, big, big}), ms::ShapeError);
  CHECK(flatten.output_shape({1, big, 0, big}) == ms::Shape{1, 0});
  ms::nn::Conv2d<float> conv(ctx, 1, 8, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1 << 30});
  CHECK_THROWS_AS((void)conv.multiply_adds({8, 4, 4, 1}), ms::ShapeError);
  CHECK_THROWS_AS(ms::nn::Linear<float>(ctx, big, big), ms::ShapeError);
  ms::nn::Linear<float> linear(ctx, 5, 3);
  CHECK(linear.multiply_adds({0, 5}) == 15);
  CHECK(linear.multiply_adds({7, 2, 5}) == 30);
  CHECK_THROWS_AS((void)linear.multiply_adds({1, big, big / 1024, 5}), ms::ShapeError);
}

TEST_SUITE_END();

}  // namespace nn_names_test
