#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <meristem/io/architecture.hpp>
#include <meristem/io/file.hpp>
#include <meristem/io/layout.hpp>
#include <meristem/io/model.hpp>
#include <meristem/io/onnx.hpp>
#include <meristem/kernels/random.cuh>
#include <meristem/kernels/reduce.cuh>
#include <meristem/models/mlp.hpp>
#include <support/check.hpp>

namespace io_model_test {

namespace {

namespace ms = meristem;
using namespace ms::nn;
using Net = Sequential<float>;
using support::contains;
using support::message_of;

/// A layer that the library does not know: y = scale · x with a fixed number.
class Scale final : public Layer<float> {
 public:
  explicit Scale(double scale) : scale_(scale) {}
  [[nodiscard]] std::string_view kind() const override { return "Scale"; }
  [[nodiscard]] ms::Shape output_shape(const ms::Shape& input) const override { return input; }

 private:
  void describe(Description<float>& description) override { description.field("scale", scale_); }
  [[nodiscard]] Trace<float> do_forward(ms::Context& ctx, ms::View<const float> input, const Pass<float>&) override {
    Trace<float> trace;
    trace.storage = ms::Tensor<float>(ctx, input.shape());
    ms::kernels::combine<float>(ctx, static_cast<float>(scale_), input, 0.0f, input, trace.storage.view());
    trace.output = trace.storage.view();
    return trace;
  }
  [[nodiscard]] ms::Tensor<float> do_backward(ms::Context&, ms::View<const float>, const Trace<float>&,
                                              ms::Tensor<float> output_gradient, const Pass<float>&) override {
    return output_gradient;
  }

  double scale_;
};

/// A layer that passes its input on.
class Base : public Layer<float> {
 public:
  [[nodiscard]] std::string_view kind() const override { return "Base"; }
  [[nodiscard]] ms::Shape output_shape(const ms::Shape& input) const override { return input; }

 private:
  [[nodiscard]] Trace<float> do_forward(ms::Context&, ms::View<const float> input, const Pass<float>&) override {
    Trace<float> trace;
    trace.output = input;
    return trace;
  }
  [[nodiscard]] ms::Tensor<float> do_backward(ms::Context&, ms::View<const float>, const Trace<float>&,
                                              ms::Tensor<float> output_gradient, const Pass<float>&) override {
    return output_gradient;
  }
};

/// A pooling that the library does not know: the middle of the window.
class Middle final : public WindowPool<float> {
 public:
  explicit Middle(const PoolOptions& options)
      : WindowPool<float>({.kernel = options.kernel, .stride = options.kernel, .padding = 0}) {}
  [[nodiscard]] std::string_view kind() const override { return "Middle"; }

 protected:
  void pool(ms::Context&, ms::View<const float>, ms::View<float>) const override {}
  void pool_backward(ms::Context&, ms::View<const float>, ms::View<const float>, ms::View<float>) const override {}
};

ms::io::LayerKinds<float> own_kinds() {
  ms::io::LayerKinds<float> kinds;
  kinds.add("Scale",
            [](ms::Context&, ms::io::LayerFields& fields) { return std::make_unique<Scale>(fields.real("scale")); });
  return kinds;
}

/// Every kind of layer, none with its default options.
Net every_layer(ms::Context& ctx) {
  Net net;
  auto& stem = net.add<Net>("stem");
  stem.add<Conv2d<float>>(
      "conv", ctx, 3, 4,
      Conv2dOptions{.kernel = {3, 2}, .stride = {1, 2}, .padding = {2, 1}, .dilation = {2, 1}, .bias = false});
  stem.add<BatchNorm<float>>("norm", ctx, 4,
                             BatchNormOptions{.momentum = 0.3, .epsilon = 1e-3, .activation = Activation::relu});
  net.add<GroupNorm<float>>("groups", ctx, 2, 4, GroupNormOptions{.epsilon = 0.1});
  net.add<LayerNorm<float>>("rows", ctx, 4, LayerNormOptions{.epsilon = 0.2});
  auto& block = net.add<Residual<float>>("block", ResidualOptions{.activation = Activation::identity});
  block.add<Conv2d<float>>("conv", ctx, 4, 5, Conv2dOptions{.padding = 1});
  block.shortcut().add<Conv2d<float>>("conv", ctx, 4, 5, Conv2dOptions{.kernel = 1});
  auto& branches = net.add<Concatenate<float>>("branches");
  branches.add<Net>("deep").add<Conv2d<float>>("conv", ctx, 5, 2, Conv2dOptions{.padding = 1});
  branches.add<Conv2d<float>>("narrow", ctx, 5, 3, Conv2dOptions{.kernel = 1});
  net.add<MaxPool2d<float>>("max",
                            PoolOptions{.kernel = 3, .stride = ms::Extent2(1, 2), .padding = {1, 0}, .dilation = 2});
  net.add<AveragePool2d<float>>("mean", PoolOptions{.kernel = {1, 2}, .stride = ms::Extent2(1)});
  for (const Activation each : ms::kernels::all_activations) {
    net.add<ActivationLayer<float>>("act_" + std::string(ms::kernels::activation_name(each)), each);
  }
  net.add<Scale>("scale", 1.25);
  net.add<Flatten<float>>("flatten");
  net.add<Dropout<float>>("dropout", 0.125);
  net.add<Linear<float>>("linear", ctx, 5 * 2 * 5, 3, LinearOptions{.bias = false});
  auto& parts = net.add<Concatenate<float>>("parts");
  parts.add<Slice<float>>("last", 1, ms::Shape{2});
  parts.add<Slice<float>>("first", 0, ms::Shape{1});
  net.add<Linear<float>>("last", ctx, 3, 4);
  return net;
}

Net with_global_pool(ms::Context& ctx) {
  Net net;
  net.set_name("outer");
  net.add<GlobalAveragePool<float>>("pool");
  net.add<Linear<float>>("linear", ctx, 3, 0);
  return net;
}

/// Parameters and buffers become random numbers; variances stay positive.
void randomize(ms::Context& ctx, Net& net) {
  const auto fill = [&](ms::View<float> values, float low) {
    ms::kernels::fill_uniform(ctx, ctx.next_random_stream(), low, 1.0f, values);
  };
  net.visit_parameters([&](Parameter<float>& parameter) { fill(parameter.value.view(), -1.0f); });
  net.visit_buffers([&](Buffer<float>& buffer) { fill(buffer.value.view(), 0.5f); });
}

std::vector<float> output(ms::Context& ctx, Net& net, const ms::Shape& shape) {
  ms::Tensor<float> input(ctx, shape);
  ms::kernels::fill_normal(ctx, 77, 0.0f, 1.0f, input.view());
  const Trace<float> trace = net.forward(ctx, input.view(), {.mode = Mode::evaluation});
  return ms::to_host(ctx, trace.output);
}

const ms::Shape images = {3, 7, 17, 3};

std::string path_of(const std::string& name) {
  return (std::filesystem::temp_directory_path() / ("meristem_model_" + std::to_string(::getpid()) + "_" + name))
      .string();
}

/// What `build` says of a network with one layer of these fields.
std::string build_complaint(const std::string& fields) {
  ms::Context ctx;
  const std::string text = R"({"version":1,"name":"","kind":"Sequential","layers":[{"name":"a",)" + fields + "}]}";
  return message_of<ms::DataError>(
      [&] { (void)ms::io::build<float>(ctx, text, {.source = "x", .limits = {.elements = 1000}}); });
}

std::string whole_complaint(const std::string& text) {
  ms::Context ctx;
  return message_of<ms::DataError>([&] { (void)ms::io::build<float>(ctx, text, {.source = "x"}); });
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("architecture: every kind of layer is written down and made again, with all its options") {
  const auto kinds = own_kinds();
  ms::Context ctx;
  for (const auto make : {every_layer, with_global_pool}) {
    Net net = make(ctx);
    const std::string text = ms::io::architecture(net, kinds);
    Net built = ms::io::build<float>(ctx, text, {}, kinds);
    CHECK(ms::io::architecture(built, kinds) == text);
    // The same names and shapes, and, with the same numbers, the same function.
    const auto from = parameters(net), to = parameters(built);
    REQUIRE(from.size() == to.size());
    randomize(ctx, net);
    for (std::size_t i = 0; i < from.size(); ++i) {
      CHECK(from[i]->name == to[i]->name);
      CHECK(from[i]->decays == to[i]->decays);
      CHECK(from[i]->id != to[i]->id);
      REQUIRE(from[i]->value.shape() == to[i]->value.shape());
      to[i]->value = ms::clone(ctx, from[i]->value);
    }
    std::vector<Buffer<float>*> buffers;
    net.visit_buffers([&](Buffer<float>& buffer) { buffers.push_back(&buffer); });
    std::size_t next = 0;
    built.visit_buffers([&](Buffer<float>& buffer) { buffer.value = ms::clone(ctx, buffers[next++]->value); });
    CHECK(output(ctx, built, images) == output(ctx, net, images));
  }
}

TEST_CASE("architecture: what cannot be written down is said") {
  ms::Context ctx;
  Net net;
  net.add<Scale>("scale", 2.0);
  CHECK(contains(
      message_of<ms::ArgumentError>([&] { (void)ms::io::architecture<float>(net); }),
      "scale (Scale): layers of this kind cannot be written down; add the kind to an io::LayerKinds and hand that "
      "over"));
  Linear<float> linear(ctx, 2, 2);
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)ms::io::architecture<float>(linear); }),
                 "Linear: only a Sequential can be written down as a network"));
  auto kinds = own_kinds();
  for (const char* kind : {"Scale", "Linear"}) {
    CHECK(contains(message_of<ms::ArgumentError>([&] { kinds.add(kind, {}); }), "is there already"));
  }
  struct Twice final : Base {
    std::string field;
    explicit Twice(std::string name) : field(std::move(name)) {}
    void describe(Description<float>& description) override {
      description.field("width", 1);
      description.field(field, 2);
    }
  };
  for (const char* field : {"width", "name", "kind"}) {
    Net own;
    own.add<Twice>("own", field);
    ms::io::LayerKinds<float> base;
    base.add("Base", {});
    CHECK(contains(message_of<ms::ArgumentError>([&] { (void)ms::io::architecture<float>(own, base); }),
                   ms::concat("own (Base): its description has a field '", field, "', which is taken")));
  }
}

TEST_CASE("architecture: text that describes no network is refused, with the layer") {
  struct Case {
    std::string message, words;
  };
  const std::string window = R"("stride":[1,1],"padding":[0,0],"dilation":[1,1])";
  const std::vector<Case> cases = {
      {whole_complaint("[]"), "x: architecture: the version is missing"},
      {whole_complaint(R"({"version":2,"name":"","kind":"Sequential","layers":[]})"),
       "has version 2; version 1 is read here"},
      {whole_complaint(R"({"version":1,"name":"","kind":"Linear","layers":[]})"), "must be an object with version"},
      {whole_complaint(R"({"version":1,"name":"","kind":"Sequential","layers":[],"more":1})"),
       "must be an object with"},
      {whole_complaint(R"({"version":1,"name":"","kind":"Sequential","layers":{}})"), "its layers must be a list"},
      {whole_complaint(R"({"version":1,"name":"","kind":"Sequential","layers":[1]})"), "an object with a name"},
      {build_complaint(R"("kind":"Magic")"), "x: architecture: layer 'a' (Magic): there is no such kind of layer here"},
      {build_complaint(R"("kin":"Magic")"), "layer 'a': the field 'kind' is missing"},
      {build_complaint(R"("kind":"Flatten","axis":1)"), "layer 'a' (Flatten): the field 'axis' is not known here"},
      {build_complaint(R"("kind":"Linear","in_features":2,"bias":true)"),
       "(Linear): the field 'out_features' is missing"},
      {build_complaint(R"("kind":"Linear","in_features":2,"out_features":-1,"bias":true)"),
       "the field 'out_features' must be a whole number from 0 to 2147483647"},
      {build_complaint(R"("kind":"Linear","in_features":2,"out_features":1.5,"bias":true)"), "must be a whole number"},
      {build_complaint(R"("kind":"Linear","in_features":2,"out_features":3000000000,"bias":true)"),
       "must be a whole number"},
      {build_complaint(R"("kind":"Linear","in_features":2,"out_features":3,"bias":1)"), "must be true or false"},
      {build_complaint(R"("kind":"Linear","in_features":2000000000,"out_features":2000000000,"bias":true)"),
       "larger than the 1000 numbers that are allowed for"},
      {build_complaint(R"("kind":"Linear","in_features":0,"out_features":900,"bias":true},
                          {"name":"b","kind":"BatchNorm","channels":30,"momentum":0.1,"epsilon":1,"activation":"relu")"),
       "layer 'b' (BatchNorm): its parameters would make the network larger"},
      {build_complaint(
           R"("kind":"Conv2d","in_channels":0,"out_channels":0,"bias":true,"kernel":[2000000000,2000000000],)" +
           window),
       "the field 'kernel' must be a whole number from 1 to 65536"},
      {build_complaint(R"("kind":"MaxPool2d","kernel":[2,2],"stride":[1,1],"padding":[0,65537],"dilation":[1,1])"),
       "the field 'padding' must be a whole number from 0 to 65536"},
      {build_complaint(R"("kind":"Conv2d","in_channels":1,"out_channels":1,"bias":true,"kernel":[0,1],)" + window),
       "the field 'kernel' must be a whole number from 1"},
      {build_complaint(R"("kind":"MaxPool2d","kernel":[2],)" + window), "'kernel' must be a list of two numbers"},
      {build_complaint(R"("kind":"GroupNorm","groups":3,"channels":4,"epsilon":1e-5)"),
       "layer 'a' (GroupNorm): GroupNorm"},
      {build_complaint(R"("kind":"Dropout","probability":1.5)"), "layer 'a' (Dropout): Dropout: the probability"},
      {build_complaint(R"("kind":"Dropout","probability":"half")"), "must be a number"},
      {build_complaint(R"("kind":"Slice","first":-1,"shape":[2])"), "the field 'first' must be a whole number from 0"},
      {build_complaint(R"("kind":"Slice","first":0,"shape":[])"), "'shape' must be a list of one to 5 numbers"},
      {build_complaint(R"("kind":"Slice","first":0,"shape":[1,1,1,1,1,1])"), "must be a list of one to 5 numbers"},
      {build_complaint(R"("kind":"Slice","first":0,"shape":[2,0])"), "'shape' must be a whole number from 1"},
      {build_complaint(R"("kind":"Slice","first":0,"shape":[2,"3"])"), "'shape' must be a whole number from 1"},
      {build_complaint(R"("kind":"Slice","first":0,"shape":[2000000000,2000000000])"),
       "a shape of more than 2147483647"},
      {build_complaint(R"("kind":"Slice","first":0,"shape":[1,1,1,1,1])"), "(Slice): Slice: numbers from 0 on"},
      {build_complaint(R"("kind":"Activation","function":"step")"), "there is no activation 'step'"},
      {build_complaint(R"("kind":"Flatten"},{"name":"a","kind":"Flatten")"), "there is a layer named 'a' already"},
      {build_complaint(R"("kind":"Flatten"},{"name":"a.b","kind":"Flatten")"), "'a.b' is no name for a layer"},
      {build_complaint(
           R"("kind":"Residual","activation":"relu","body":[{"name":"shortcut","kind":"Flatten"}],"shortcut":[])"),
       "'shortcut' is the name of the other branch"}};
  for (const Case& one : cases) {
    CAPTURE(one.words);
    CHECK(contains(one.message, one.words));
  }
  std::string deep = R"({"version":1,"name":"","kind":"Sequential","layers":)";
  for (int i = 0; i < 70; ++i) deep += R"([{"name":"a","kind":"Sequential","layers":)";
  deep += "[]";
  for (int i = 0; i < 70; ++i) deep += "}]";
  CHECK(contains(whole_complaint(deep + "}"), "more than 60 deep"));
}

TEST_CASE("model: saved in either layout, a network computes the same to the last bit") {
  const auto kinds = own_kinds();
  ms::Context ctx;
  Net net = every_layer(ctx);
  randomize(ctx, net);
  ms::io::ModelInfo info;
  info.sample = {7, 17, 3};
  info.class_names = {"a", "b \"é\"", "", "d"};
  info.normalization = {.mean = {0.1, 0.2, 0.3}, .stddev = {1, 2, 3}};
  info.history = "{\"step\":1}\n{\"step\":2}\n";
  info.notes = {{"author", "someone"}, {"", "nameless"}};
  const std::vector<float> wanted = output(ctx, net, images);
  for (const auto layout : {ms::io::ModelLayout::meristem, ms::io::ModelLayout::pytorch}) {
    const std::string path = path_of("both");
    // Layers behind the Flatten keep the order of maps: Scale would too, but who can know.
    if (layout == ms::io::ModelLayout::pytorch) {
      Net small = ms::io::build<float>(ctx, R"({"version":1,"name":"","kind":"Sequential","layers":[{"name":"flatten",
          "kind":"Flatten"},{"name":"scale","kind":"Scale","scale":2.0}]})",
                                       {}, kinds);
      CHECK(contains(message_of<ms::ArgumentError>([&] {
                       ms::io::save_model<float>(path, ctx, small, {.sample = {2, 2, 2}}, layout, kinds);
                     }),
                     "scale (Scale): it sees the maps of flatten (Flatten) in the order (h, w, c)"));
    }
    ms::io::save_model<float>(path, ctx, net, info, layout, kinds);
    ms::Context other;
    ms::io::Model<float> model = ms::io::load_model<float>(other, path, kinds);
    CHECK(output(other, model.network, images) == wanted);
    CHECK(model.info.sample == info.sample);
    CHECK(model.info.class_names == info.class_names);
    CHECK(model.info.normalization == info.normalization);
    CHECK(model.info.history == info.history);
    CHECK(model.info.notes == info.notes);
    CHECK(contains(message_of<ms::DataError>([&] { (void)ms::io::load_model<double>(other, path); }),
                   "holds numbers of type float32; this program computes in float64"));
    std::filesystem::remove(path);
  }
}

TEST_CASE("layout: weights in PyTorch's order, against plain loops") {
  ms::Context ctx;
  Net net;
  net.add<Conv2d<float>>("conv", ctx, 3, 2, Conv2dOptions{.kernel = {2, 1}});
  net.add<Flatten<float>>("flatten");
  net.add<BatchNorm<float>>("norm", ctx, 4 * 5 * 2);
  net.add<Linear<float>>("linear", ctx, 4 * 5 * 2, 3);
  net.add<Linear<float>>("last", ctx, 3, 2);
  const auto layout = ms::io::torch_layout<float>(net, {5, 5, 3});
  const auto values_of = [](const ms::io::TorchTensor& tensor) {
    std::vector<float> numbers(static_cast<std::size_t>(tensor.shape.size()));
    std::iota(numbers.begin(), numbers.end(), 0.0f);
    return numbers;
  };
  std::vector<std::string> names;
  for (const auto& tensor : layout) {
    names.push_back(tensor.torch_name);
    const std::vector<float> numbers = values_of(tensor);
    const std::vector<float> there = ms::io::to_torch<float>(tensor, numbers);
    CHECK(ms::io::from_torch<float>(tensor, there) == numbers);
    std::vector<float> wanted;
    if (tensor.name == "conv.weight") {
      CHECK(tensor.torch_shape == ms::Shape{2, 3, 2, 1});
      for (int out = 0; out < 2; ++out) {
        for (int in = 0; in < 3; ++in) {
          for (int y = 0; y < 2; ++y) wanted.push_back(static_cast<float>((out * 2 + y) * 3 + in));
        }
      }
    } else if (tensor.name == "linear.weight" || tensor.name.find("norm.") == 0) {
      CHECK(tensor.torch_shape == tensor.shape);
      const int rows = tensor.shape.rank() == 2 ? 3 : 1;
      for (int row = 0; row < rows; ++row) {
        for (int c = 0; c < 2; ++c) {
          for (int y = 0; y < 4; ++y) {
            for (int x = 0; x < 5; ++x) wanted.push_back(static_cast<float>(((row * 4 + y) * 5 + x) * 2 + c));
          }
        }
      }
    } else {
      wanted = numbers;
    }
    CHECK(there == wanted);
  }
  CHECK(names == std::vector<std::string>{"conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean",
                                          "norm.running_var", "linear.weight", "linear.bias", "last.weight",
                                          "last.bias"});
  CHECK_THROWS_AS((void)ms::io::torch_layout<float>(net, {6, 5, 3}), ms::ShapeError);
  Net flat;
  flat.add<Flatten<float>>("flatten");
  CHECK(contains(message_of<ms::ArgumentError>([&] {
                   (void)ms::io::torch_layout<float>(flat, {6, 5, 3});
                 }),
                 "put a Linear right behind the Flatten"));
  CHECK(ms::io::torch_layout<float>(flat, {6, 5, 1}).empty());
}

TEST_CASE("model: files that do not hold their network are refused, with file and tensor") {
  ms::Context ctx;
  Net net = ms::models::mlp<float>(ctx, {.inputs = 2, .hidden = {3}, .classes = 2});
  const std::string path = path_of("refused");
  ms::io::save_model<float>(path, ctx, net);
  /// What load_model says of the file after a change.
  const auto changed = [&](const std::function<void(ms::io::Safetensors&)>& change, const std::string& without = "") {
    const ms::io::Safetensors original = ms::io::Safetensors::read(path);
    ms::io::Safetensors file;
    file.metadata() = original.metadata();
    for (const auto& [name, tensor] : original.tensors()) {
      if (name == without) continue;
      ms::Shape shape;
      for (const std::int64_t extent : tensor.shape) shape.append(extent);
      file.add<float>(name, shape, std::vector<std::byte>(tensor.bytes.begin(), tensor.bytes.end()));
    }
    change(file);
    file.write(path + ".changed");
    const std::string message =
        message_of<ms::DataError>([&] { (void)ms::io::load_model<float>(ctx, path + ".changed"); });
    std::filesystem::remove(path + ".changed");
    CHECK(contains(message, path + ".changed: "));
    return message;
  };
  const auto set = [](const std::string& name, const std::string& text) {
    return [=](ms::io::Safetensors& file) { file.metadata()[name] = text; };
  };
  const auto nothing = [](ms::io::Safetensors&) {};
  CHECK(contains(changed(nothing, "layer2.weight"), "there is no tensor 'layer2.weight' in it"));
  CHECK(contains(changed([](auto& file) { file.template add<float>("more", {1}, std::vector<std::byte>(4)); }),
                 "the tensor 'more' is not in the network"));
  CHECK(contains(changed(
                     [](auto& file) {
                       file.template add<float>("layer2.weight", {3, 2}, std::vector<std::byte>(24));
                     },
                     "layer2.weight"),
                 "tensor 'layer2.weight' has shape (3, 2); (2, 3) is expected"));
  CHECK(contains(changed(
                     [](auto& file) {
                       file.template add<double>("layer2.weight", {2, 3}, std::vector<std::byte>(48));
                     },
                     "layer2.weight"),
                 "tensor 'layer2.weight' has dtype F64; F32"));
  CHECK(contains(changed(set("meristem.format", "other")), "is no meristem-model file but other"));
  CHECK(contains(changed(set("meristem.format_version", "9")), "has version 9 of the format; version 1 is read here"));
  CHECK(contains(changed(set("layout", "nchw")), "has the layout 'nchw'"));
  CHECK(contains(changed(set("sample", "[3,-1]")), "sample: is no shape"));
  CHECK(contains(changed(set("class_names", "{}")), "class_names is no list"));
  CHECK(contains(changed(set("normalization", "{\"mean\":[1]}")), "'stddev' is missing"));
  CHECK(contains(changed([](auto& file) { file.metadata().erase("history"); }), "no entry 'history'"));
  CHECK(contains(changed([](auto& file) { file.metadata().clear(); }), "is no meristem-model file"));
  // The architecture asks for more numbers than the file has.
  std::string architecture = ms::io::architecture<float>(net);
  architecture.replace(architecture.find("\"out_features\":2"), 16, "\"out_features\":90000000");
  CHECK(contains(changed(set("architecture", architecture)), "would make the network larger than the 65570 numbers"));
  std::filesystem::remove(path);
}

TEST_CASE("load_weights: a PyTorch state_dict goes into a network of the same shape, by names and axes") {
  ms::Context ctx;
  Net net;
  net.add<Conv2d<float>>("conv", ctx, 2, 3, Conv2dOptions{.kernel = {2, 1}});
  net.add<BatchNorm<float>>("bn", ctx, 3);
  net.add<Flatten<float>>("flatten");
  net.add<Linear<float>>("fc", ctx, 2 * 3 * 3, 2, LinearOptions{.bias = false});
  const ms::Shape sample = {3, 3, 2};
  // As torch.nn.Conv2d(2, 3, (2, 1)), BatchNorm2d(3), Flatten(), Linear(18, 2, bias=False) keep it; every element is
  // its place in the order there.
  const std::string path = path_of("state_dict");
  const auto write = [&](const std::function<void(ms::io::Safetensors&)>& more, const std::string& without = "") {
    ms::io::Safetensors file;
    const auto add = [&](const std::string& name, const ms::Shape& shape, float first) {
      if (name == without) return;
      std::vector<float> values(static_cast<std::size_t>(shape.size()));
      std::iota(values.begin(), values.end(), first);
      file.add<float>(ctx, name, ms::from_host<float>(ctx, shape, values).view());
    };
    add("conv.weight", {3, 2, 2, 1}, 0);
    add("conv.bias", {3}, 100);
    add("bn.weight", {3}, 200);
    add("bn.bias", {3}, 300);
    add("bn.running_mean", {3}, 400);
    add("bn.running_var", {3}, 500);
    file.add<std::int64_t>("bn.num_batches_tracked", {}, std::vector<std::byte>(8));
    add("fc.weight", {2, 18}, 0);
    more(file);
    file.write(path);
  };
  const auto nothing = [](ms::io::Safetensors&) {};
  const auto numbers = [&] {
    std::map<std::string, std::vector<float>> all;
    net.visit_parameters([&](Parameter<float>& p) { all[p.name] = ms::to_host(ctx, p.value); });
    net.visit_buffers([&](Buffer<float>& b) { all[b.name] = ms::to_host(ctx, b.value); });
    return all;
  };
  const auto before = numbers();
  const auto complaint = [&](const ms::Shape& shape) {
    const std::string message = message_of<ms::DataError>(
        [&] { ms::io::load_weights<float>(ctx, net, path, ms::io::ModelLayout::pytorch, shape); });
    CHECK(numbers() == before);
    return message;
  };

  // All that does not fit, at once.
  write(
      [&](ms::io::Safetensors& file) {
        file.add<float>("fc.bias", {2}, std::vector<std::byte>(8));
        file.add<double>("bn.weight", {3}, std::vector<std::byte>(24));
      },
      "bn.weight");
  Net wider;
  wider.add<Conv2d<float>>("conv", ctx, 2, 4, Conv2dOptions{.kernel = {2, 1}});
  wider.add<BatchNorm<float>>("norm", ctx, 4);
  CHECK(message_of<ms::DataError>([&] {
          ms::io::load_weights<float>(ctx, wider, path, ms::io::ModelLayout::pytorch);
        }) == path +
                  ": does not fit the network: tensor 'conv.weight' has shape (3, 2, 2, 1); (4, 2, 2, 1) is "
                  "expected; tensor 'conv.bias' has shape (3); (4) is expected; there is no 'norm.weight' of shape "
                  "(4); there is no 'norm.bias' of shape (4); there is no 'norm.running_mean' of shape (4); there is "
                  "no 'norm.running_var' of shape (4); 'bn.bias' of shape (3) is not in the network; "
                  "'bn.running_mean' of shape (3) is not in the network; 'bn.running_var' of shape (3) is not in the "
                  "network; 'bn.weight' of shape (3) is not in the network; 'fc.bias' of shape (2) is not in the "
                  "network; 'fc.weight' of shape (2, 18) is not in the network");
  CHECK(complaint(sample) == path +
                                 ": does not fit the network: tensor 'bn.weight' has dtype F64; F32 (float32) is "
                                 "expected; 'fc.bias' of shape (2) is not in the network");
  write(
      [&](ms::io::Safetensors& file) {
        const float nan[] = {1.0f, std::nanf(""), 2.0f};
        file.add<float>(
            "bn.weight", {3},
            std::vector<std::byte>(std::as_bytes(std::span(nan)).begin(), std::as_bytes(std::span(nan)).end()));
      },
      "bn.weight");
  CHECK(contains(complaint(sample), ": does not fit the network: tensor 'bn.weight': element 1 of (3) is nan"));
  write(nothing);
  CHECK(contains(
      message_of<ms::ArgumentError>([&] { ms::io::load_weights<float>(ctx, net, path, ms::io::ModelLayout::pytorch); }),
      "flatten (Flatten): sample is missing; PyTorch's order of its features follows from the height and "
      "width of its maps: give the shape of one sample, such as (32, 32, 3)"));
  CHECK_THROWS_AS(ms::io::load_weights<float>(ctx, net, path + "x", ms::io::ModelLayout::meristem), ms::IoError);
  CHECK(contains(
      message_of<ms::DataError>([&] { ms::io::load_weights<float>(ctx, net, path, ms::io::ModelLayout::meristem); }),
      "tensor 'conv.weight' has shape (3, 2, 2, 1); (3, 2, 1, 2) is expected; there is no "
      "'bn.running_variance' of shape (3); 'bn.num_batches_tracked' of shape () is not in the network"));
  REQUIRE(numbers() == before);

  ms::io::load_weights<float>(ctx, net, path, ms::io::ModelLayout::pytorch, sample);
  const auto after = numbers();
  for (int out = 0; out < 3; ++out) {
    for (int y = 0; y < 2; ++y) {
      for (int in = 0; in < 2; ++in) {
        CHECK(after.at("conv.weight")[static_cast<std::size_t>((out * 2 + y) * 2 + in)] ==
              static_cast<float>((out * 2 + in) * 2 + y));
      }
    }
  }
  CHECK(after.at("conv.bias") == std::vector<float>{100, 101, 102});
  CHECK(after.at("bn.weight") == std::vector<float>{200, 201, 202});
  CHECK(after.at("bn.bias") == std::vector<float>{300, 301, 302});
  CHECK(after.at("bn.running_mean") == std::vector<float>{400, 401, 402});
  CHECK(after.at("bn.running_variance") == std::vector<float>{500, 501, 502});
  for (int row = 0; row < 2; ++row) {
    for (int y = 0; y < 2; ++y) {
      for (int x = 0; x < 3; ++x) {
        for (int c = 0; c < 3; ++c) {
          CHECK(after.at("fc.weight")[static_cast<std::size_t>(row * 18 + (y * 3 + x) * 3 + c)] ==
                static_cast<float>(row * 18 + (c * 2 + y) * 3 + x));
        }
      }
    }
  }
  std::filesystem::remove(path);
}

TEST_CASE("model, onnx: numbers that are not finite are neither written nor read") {
  ms::Context ctx;
  Net net = ms::models::mlp<float>(ctx, {.inputs = 2, .hidden = {3}, .classes = 2});
  const ms::io::ModelInfo info{.sample = {2}};
  for (const auto layout : {ms::io::ModelLayout::meristem, ms::io::ModelLayout::pytorch}) {
    const std::string path = path_of("finite");
    ms::io::save_model<float>(path, ctx, net, info, layout);
    const std::vector<std::byte> good = ms::io::read_file(path);
    const auto parameters_of_net = parameters(net);
    Parameter<float>& bias = *parameters_of_net.at(3);
    REQUIRE(bias.name == "layer2.bias");
    const ms::Tensor<float> kept = ms::clone(ctx, bias.value);
    for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
      const char* const word = std::isnan(bad) ? "nan" : bad > 0 ? "inf" : "-inf";
      bias.value = ms::from_host<float>(ctx, {2}, std::vector<float>{0.0f, bad});
      for (const auto& write :
           std::vector<std::function<void()>>{[&] { ms::io::save_model<float>(path, ctx, net, info, layout); },
                                              [&] { ms::io::save_onnx<float>(path, ctx, net, info); }}) {
        CHECK(contains(message_of<ms::NumericError>(write),
                       ms::concat(path, " is not written: layer2.bias: element 1 of (2) is ", word)));
      }
      CHECK(ms::io::read_file(path) == good);
      // The same bytes in the file.
      const ms::io::Safetensors file = ms::io::Safetensors::read(path);
      const std::size_t at =
          static_cast<std::size_t>(file.at("layer2.bias").bytes.data() - file.tensors().begin()->second.bytes.data());
      std::vector<std::byte> changed = good;
      std::size_t data = 0;
      for (const auto& [name, tensor] : file.tensors()) data += tensor.bytes.size();
      std::memcpy(changed.data() + changed.size() - data + at + sizeof(float), &bad, sizeof(bad));
      CHECK(contains(message_of<ms::DataError>(
                         [&] { (void)ms::io::load_model<float>(ctx, ms::io::Safetensors::parse(changed, "x")); }),
                     ms::concat("x: tensor 'layer2.bias': element 1 of (2) is ", word)));
    }
    bias.value = ms::clone(ctx, kept);
    std::filesystem::remove(path);
  }
  // Finite in float64, but not in the float32 of ONNX.
  ms::nn::Sequential<double> wide;
  wide.add<Linear<double>>("linear", ctx, 1, 1);
  wide.visit_parameters(
      [&](Parameter<double>& p) { p.value = ms::from_host<double>(ctx, p.value.shape(), std::vector<double>{1e300}); });
  const std::string path = path_of("wide");
  CHECK(contains(message_of<ms::NumericError>([&] { ms::io::save_onnx<double>(path, ctx, wide, {.sample = {1}}); }),
                 path + " is not written: linear.weight: one of its numbers is beyond float32"));
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("model, onnx: a sample that is missing is asked for, where it is needed") {
  ms::Context ctx;
  const std::string path = path_of("sample");
  Net net = ms::models::mlp<float>(ctx, {.inputs = 12, .hidden = {3}, .classes = 2});
  CHECK(message_of<ms::ArgumentError>([&] { ms::io::save_onnx<float>(path, ctx, net, {}); }) ==
        path +
            ": info.sample is missing; an ONNX model tells the shape of its input: give that of one sample, such as "
            "(32, 32, 3) for maps or (784) for features");
  Net flat;
  flat.add<Flatten<float>>("flatten");
  flat.add<Linear<float>>("layer1", ctx, 12, 2);
  CHECK(contains(message_of<ms::ArgumentError>(
                     [&] { ms::io::save_model<float>(path, ctx, flat, {}, ms::io::ModelLayout::pytorch); }),
                 "flatten (Flatten): sample is missing; "));
  CHECK_FALSE(std::filesystem::exists(path));
  // Orders without a Flatten do not depend on it.
  Net conv;
  conv.add<Conv2d<float>>("conv", ctx, 3, 2);
  conv.add<GlobalAveragePool<float>>("pool");
  conv.add<Linear<float>>("linear", ctx, 2, 2);
  ms::io::save_model<float>(path, ctx, conv, {}, ms::io::ModelLayout::pytorch);
  ms::io::Model<float> back = ms::io::load_model<float>(ctx, path);
  CHECK(output(ctx, back.network, {2, 5, 5, 3}) == output(ctx, conv, {2, 5, 5, 3}));
  std::filesystem::remove(path);
}

TEST_CASE("onnx: the bytes of a graph, against a reading of the specification by hand") {
  meristem::io::OnnxGraph graph;
  graph.opset = 300;
  graph.input = {"x", {}};
  graph.output = {"y", {5}};
  graph.nodes.push_back({"Op", "n", {"x"}, "y", {{"a", -1}}, {{"b", 1.0f}}, {{"c", {2}}}});
  graph.constants.push_back({"w", {1}, {2.0f}, {}});
  graph.metadata.push_back({"k", "v"});
  const auto message = [](char key, const std::string& bytes) {
    return std::string(1, key) + static_cast<char>(bytes.size()) + bytes;
  };
  const std::string minus_one = std::string(9, '\xff') + '\x01';
  const std::string node =
      message('\x0a', "x") + message('\x12', "y") + message('\x1a', "n") + message('\x22', "Op") +
      message('\x2a', message('\x0a', "a") + '\x18' + minus_one + "\xa0\x01\x02") +
      message('\x2a', message('\x0a', "b") + std::string("\x15\x00\x00\x80\x3f", 5) + "\xa0\x01\x01") +
      message('\x2a', message('\x0a', "c") + "\x40\x02" + "\xa0\x01\x07");
  const std::string constant =
      std::string("\x08\x01\x10\x01") + message('\x42', "w") + message('\x4a', std::string("\x00\x00\x00\x40", 4));
  const std::string batch = message('\x0a', message('\x12', "batch"));
  const auto value = [&](const char* name, const std::string& more) {
    return message('\x0a', name) + message('\x12', message('\x0a', "\x08\x01" + message('\x12', batch + more)));
  };
  const std::string body = message('\x0a', node) + message('\x12', "network") + message('\x2a', constant) +
                           message('\x5a', value("x", "")) + message('\x62', value("y", message('\x0a', "\x08\x05")));
  REQUIRE(body.size() > 127);
  const std::string length = {static_cast<char>(body.size() % 128 + 128), static_cast<char>(body.size() / 128)};
  const std::string wanted = "\x08\x08" + message('\x12', "p") + message('\x1a', "1") + '\x3a' + length + body +
                             message('\x42', message('\x0a', "") + "\x10\xac\x02") +
                             message('\x72', message('\x0a', "k") + message('\x12', "v"));
  CHECK(graph.serialize("p", "1") == wanted);
}

TEST_CASE("onnx: what ONNX has no words for is refused, with the layer") {
  ms::Context ctx;
  const std::string path = path_of("onnx");
  const auto complaint = [&](Net& net, const ms::Shape& sample) {
    return message_of<ms::ArgumentError>([&] { ms::io::save_onnx<float>(path, ctx, net, {.sample = sample}); });
  };
  Net scale;
  scale.add<Scale>("scale", 2.0);
  CHECK(contains(complaint(scale, {3}),
                 "scale (Scale): layers of this kind cannot be exported to ONNX; add the kind with its nodes to an "
                 "io::LayerKinds and hand that over, or put layers of the library in its place"));
  Net lines;
  lines.add<Slice<float>>("lines", 0, ms::Shape{2, 3});
  CHECK(contains(complaint(lines, {6}),
                 "lines (Slice): ONNX export takes (n, features) and maps (n, H, W, channels); got (1, 2, 3)"));
  // With its nodes in the registry it can be, wherever it stands.
  ms::io::LayerKinds<float> kinds;
  kinds.add("Scale", {}, [](ms::io::OnnxLayer<float>& onnx) {
    return onnx.node("Mul", {onnx.input(), onnx.constant("factor", {}, {2.0f})});
  });
  ms::io::save_onnx<float>(path, ctx, scale, {.sample = {3}}, kinds);
  const auto bytes = ms::io::read_file(path);
  const std::string written(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const char* word : {"scale/Mul", "scale/factor", "output"}) CHECK(contains(written, word));
  std::filesystem::remove(path);
  // An operator of the library with a tensor too many is another one.
  struct Gated final : Base {
    explicit Gated(ms::Context& context) : gate(context, "gate", {3}, true) {
      ms::kernels::fill(context, 1.0f, gate.value.view());
    }
    void describe(Description<float>& description) override {
      description.elementwise(Activation::relu);
      description.parameter(gate, {Axis::channel});
    }
    Parameter<float> gate;
  };
  Net gated;
  gated.add<Gated>("gated", ctx);
  CHECK(contains(complaint(gated, {3}), "gated (Base): layers of this kind cannot be exported"));
  // A pooling of the user's is none of the library's.
  Net own_pool;
  own_pool.add<Middle>("middle", PoolOptions{.kernel = 3});
  CHECK(contains(complaint(own_pool, {9, 9, 1}), "middle (Middle): layers of this kind cannot be exported"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)ms::io::architecture<float>(own_pool); }),
                 "middle (Middle): layers of this kind cannot be written down"));
  CHECK(contains(complaint(scale, {3, 4}), "takes samples of shape (features) or (H, W, channels); got (3, 4)"));
  Net padded;
  padded.add<MaxPool2d<float>>("pool", PoolOptions{.kernel = 2, .padding = 2, .dilation = 3});
  CHECK(contains(complaint(padded, {8, 8, 1}), "pool (MaxPool2d): its padding 2x2 is not smaller than its kernel 2x2"));
  Net empty_layer = with_global_pool(ctx);
  CHECK(contains(complaint(empty_layer, {4, 4, 3}), "is empty; ONNX has no such layers"));
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_SUITE_END();

}  // namespace io_model_test
