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
  ms::nn::Trace<float> forward(ms::Context&, ms::View<const float>, const ms::nn::Pass<float>&) override { return {}; }
  ms::Tensor<float> backward(ms::Context&, ms::View<const float>, const ms::nn::Trace<float>&, ms::Tensor<float>,
                             const ms::nn::Pass<float>&) override {
    return {};
  }
  void visit_parameters(const std::function<void(Parameter<float>&)>& visit) override {
    for (Parameter<float>& parameter : parameters_) visit(parameter);
  }
  void visit_buffers(const std::function<void(ms::nn::Buffer<float>&)>& visit) override { visit(buffer_); }

 private:
  std::vector<Parameter<float>> parameters_;
  ms::nn::Buffer<float> buffer_;
};

/// Names itself, and its parameters not at all.
struct Forgetful final : Own {
  using Own::Own;
  void set_name(const std::string&) override {}
};

/// A container of a user that leaves the layers inside alone.
struct Careless final : Own {
  ms::nn::Linear<float> inner;
  explicit Careless(ms::Context& ctx) : Own(ctx, {}), inner(ctx, 2, 2) {}
  std::vector<Layer<float>*> children() override { return {&inner}; }
  void visit_parameters(const std::function<void(Parameter<float>&)>& visit) override { inner.visit_parameters(visit); }
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

TEST_CASE("names: two parameters of one name, and names outside the layer's, are told") {
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
  CHECK(contains(refused([&] { net.add<Forgetful>("layer1", ctx, Names{"w"}); }),
                 "the name 'w' of one of its parameters"));
  CHECK(contains(refused([&] { net.add<Careless>("layer1", ctx); }),
                 "layer1 (Own): the name 'weight' of one of its parameters or buffers does not begin with 'layer1.'"));
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
  // Of another network.
  Net other;
  const auto trace = other.forward(ctx, input, {});
  CHECK(refused(net, trace) == "Sequential" + told);
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
