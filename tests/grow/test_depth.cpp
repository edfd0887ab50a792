// Residual blocks that are not there yet: where they can stand, what an empty one does, and what its first units are
// worth, against plain double loops.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/grow/measure/shared_passes.hpp>
#include <meristem/grow/units/depth.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/grow/units/prune.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/models/vgg.hpp>
#include <meristem/nn/group_norm.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <support/check.hpp>
#include <support/growth_problem.hpp>
#include <support/map_problem.hpp>
#include <support/units_on_host.hpp>

namespace grow_depth_test {

namespace ms = meristem;
using ms::grow::Widths;
using ms::grow::detail::EmptyBlocks;
using ms::nn::Activation;
using ms::nn::Mode;
using support::contains;
using support::Dense;
using support::message_of;

namespace {

template <class T>
using Net = ms::nn::Sequential<T>;

template <class T>
std::vector<std::string> names_of(Net<T>& net, Widths widths = Widths::all) {
  std::vector<std::string> names;
  for (const auto& place : ms::grow::find_places<T>(net, widths)) names.push_back(place.name);
  return names;
}

template <class T>
std::vector<std::string> behind_in(Net<T>& net, Widths widths = Widths::all) {
  std::vector<std::string> names;
  for (const auto& place : ms::grow::find_places<T>(net, widths)) names.push_back(place.behind);
  return names;
}

using Names = std::vector<std::string>;

Net<float> residual_net(ms::Context& ctx, bool strided) {
  return strided
             ? ms::models::resnet18_strided<float>(ctx, {.classes = 4, .width = 0.5, .channels = 2, .in_channels = 2})
             : ms::models::resnet18<float>(ctx, {.classes = 4, .width = 0.5, .channels = 2, .in_channels = 2});
}

/// Some steps of training, so that norms and moments are what they are in earnest.
template <class T>
void train(ms::Context& ctx, Net<T>& net, ms::optim::Optimizer<T>& optimizer, const ms::Tensor<T>& x, int steps = 3) {
  const std::int64_t n = x.extent(0);
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < n; ++i) labels.push_back(static_cast<std::int32_t>(i % 4));
  const auto targets = ms::from_host<std::int32_t>(ctx, {n}, labels);
  const ms::nn::Objective loss = ms::nn::CrossEntropy{};
  for (int step = 0; step < steps; ++step) {
    const auto trace = net.forward(ctx, x, {});
    auto value = loss(ctx, trace.output, ms::nn::BatchView<T>{.inputs = x, .labels = targets});
    (void)net.backward(ctx, x, trace, std::move(value.gradient), {});
    optimizer.step(ctx);
  }
}

template <class T>
std::vector<T> outputs(ms::Context& ctx, Net<T>& net, const ms::Tensor<T>& x, Mode mode) {
  return ms::to_host(ctx, net.forward(ctx, x, {.mode = mode, .measuring = true}).output);
}

/// Gradients of all parameters that `names` has, and of the input, for a fixed gradient at the outputs.
template <class T>
std::vector<std::vector<T>> gradients(ms::Context& ctx, Net<T>& net, const ms::Tensor<T>& x, const Names& names) {
  const ms::nn::Pass<T> pass{.input_gradient = true, .measuring = true};
  const auto trace = net.forward(ctx, x, pass);
  const std::int64_t size = trace.output.size();
  auto dy = ms::from_host<T>(ctx, trace.output.shape(), support::normal_values<T>(size, 5));
  std::vector<std::vector<T>> all{ms::to_host(ctx, net.backward(ctx, x, trace, std::move(dy), pass))};
  net.visit_parameters([&](ms::nn::Parameter<T>& parameter) {
    if (std::find(names.begin(), names.end(), parameter.name) == names.end()) return;
    all.push_back(ms::to_host(ctx, parameter.gradient));
  });
  for (auto& numbers : all) {
    for (T& number : numbers) number += T(0);  // 0 for -0
  }
  return all;
}

template <class T>
Names parameter_names(Net<T>& net) {
  Names names;
  net.visit_parameters([&](ms::nn::Parameter<T>& parameter) { names.push_back(parameter.name); });
  return names;
}

/// Everything that a network and its optimiser hold, by name.
template <class T>
std::vector<std::pair<std::string, std::vector<T>>> everything(ms::Context& ctx, Net<T>& net,
                                                               ms::optim::Optimizer<T>& optimizer) {
  std::vector<std::pair<std::string, std::vector<T>>> all;
  net.visit_parameters([&](ms::nn::Parameter<T>& parameter) {
    all.emplace_back(ms::concat(parameter.name, " ", parameter.id), ms::to_host(ctx, parameter.value));
    for (const auto& moment : optimizer.state(parameter.id)) {
      all.emplace_back("moment of " + parameter.name, ms::to_host(ctx, moment));
    }
    all.emplace_back(ms::concat("first step ", optimizer.first_steps(parameter.id).base, " rate ",
                                optimizer.group(parameter.id).learning_rate_factor),
                     std::vector<T>{});
  });
  net.visit_buffers([&](ms::nn::Buffer<T>& buffer) {
    all.emplace_back(ms::concat(buffer.name, " ", buffer.id), ms::to_host(ctx, buffer.value));
  });
  return all;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("places: behind the blocks of a residual network and its stem, with names of their own") {
  ms::Context ctx({.seed = 1});
  for (const bool strided : {false, true}) {
    CAPTURE(strided);
    auto net = residual_net(ctx, strided);
    const Names names{"stem.block1",     "stage1.block1_1", "stage1.block2_1", "stage2.block1_1", "stage2.block2_1",
                      "stage3.block1_1", "stage3.block2_1", "stage4.block1_1", "stage4.block2_1"};
    CHECK(names_of(net) == names);
    // The width of the stem is tied whether or not a block stands behind it.
    CHECK(names_of(net, Widths::hidden) == names);
    CHECK(names_of(net, Widths::none) == names);
    const auto places = ms::grow::find_places<float>(net);
    CHECK(places[3].behind == "stage2.block1");
    // The first block of a strided stage changes the shape; the second one is the model there.
    CHECK(places[3].first.name() == (strided ? "stage2.block2.conv1" : "stage2.block1.conv1"));
    CHECK(places[3].features == 4);
    CHECK(places[3].last_norm != nullptr);
    CHECK(places[0].model == nullptr);
    CHECK(places[1].model == &net[1].children().at(0)[0]);
  }
}

TEST_CASE("places: in chains behind activations, where widths stay able to grow") {
  ms::Context ctx({.seed = 1});
  auto mlp = ms::models::mlp<float>(ctx, {.inputs = 6, .hidden = {4, 3}, .classes = 2});
  CHECK(names_of(mlp) == Names{"block1", "block2"});
  CHECK(behind_in(mlp) == Names{"activation1", "activation2"});
  CHECK(names_of(mlp, Widths::hidden).empty());
  CHECK(names_of(mlp, Widths::none) == Names{"block1", "block2"});

  auto vgg = ms::models::vgg<float>(ctx, {.classes = 4, .stages = {{2}, {3, 3}}, .width = 1.0});
  CHECK(behind_in(vgg) == Names{"norm1", "norm2", "norm3"});
  CHECK(names_of(vgg, Widths::hidden).empty());

  // A kernel that does not keep the size of maps gives way to one of 3x3.
  Net<float> odd;
  odd.add<ms::nn::Conv2d>("conv", ctx, 2, 3, ms::nn::Conv2dOptions{.kernel = 5, .stride = 2});
  odd.add<ms::nn::ActivationLayer>("act", Activation::tanh);
  odd.add<ms::nn::GlobalAveragePool>("pool");
  odd.add<ms::nn::Linear>("head", ctx, 3, 4);
  const auto places = ms::grow::find_places<float>(odd);
  REQUIRE(places.size() == 1);
  CHECK(places[0].first_window == ms::Window{.kernel = 3, .padding = 1});
  CHECK(places[0].activation == Activation::tanh);
}

TEST_CASE("places: none where a block could not be made like its model") {
  ms::Context ctx({.seed = 1});
  const auto count = [&](auto&& fill) {
    Net<float> net;
    fill(net);
    return ms::grow::find_places<float>(net, Widths::hidden).size();
  };
  const auto block = [&](Net<float>& net, auto&& body) {
    net.add<ms::nn::Linear>("stem", ctx, 5, 4);
    body(net.add<ms::nn::Residual>("block"));
    net.add<ms::nn::Linear>("head", ctx, 4, 2);
  };
  const auto relu = [](ms::nn::Residual<float>& body, const char* name) {
    body.add<ms::nn::ActivationLayer>(name, Activation::relu);
  };
  // As a check of the others: this one is a model.
  CHECK(count([&](Net<float>& net) {
          block(net, [&](auto& body) {
            body.template add<ms::nn::Linear>("in", ctx, 4, 3);
            relu(body, "relu");
            body.template add<ms::nn::Linear>("out", ctx, 3, 4);
          });
        }) == 1);
  // Activation and norm first.
  CHECK(count([&](Net<float>& net) {
          block(net, [&](auto& body) {
            body.template add<ms::nn::BatchNorm>("norm", ctx, 4);
            body.template add<ms::nn::Linear>("in", ctx, 4, 3);
            relu(body, "relu");
            body.template add<ms::nn::Linear>("out", ctx, 3, 4);
          });
        }) == 0);
  // Three affine layers.
  CHECK(count([&](Net<float>& net) {
          block(net, [&](auto& body) {
            body.template add<ms::nn::Linear>("in", ctx, 4, 3);
            relu(body, "relu1");
            body.template add<ms::nn::Linear>("mid", ctx, 3, 3);
            relu(body, "relu2");
            body.template add<ms::nn::Linear>("out", ctx, 3, 4);
          });
        }) == 0);
  // A norm that growth does not pass.
  CHECK(count([&](Net<float>& net) {
          block(net, [&](auto& body) {
            body.template add<ms::nn::Linear>("in", ctx, 4, 4);
            body.template add<ms::nn::GroupNorm>("norm", ctx, 2, 4);
            relu(body, "relu");
            body.template add<ms::nn::Linear>("out", ctx, 4, 4);
          });
        }) == 0);
  // A shortcut that is not the identity.
  CHECK(count([&](Net<float>& net) {
          block(net, [&](auto& body) {
            body.template add<ms::nn::Linear>("in", ctx, 4, 3);
            relu(body, "relu");
            body.template add<ms::nn::Linear>("out", ctx, 3, 4);
            body.shortcut().template add<ms::nn::Linear>("project", ctx, 4, 4);
          });
        }) == 0);
}

TEST_CASE("blocks: an empty one changes no bit, in either mode, forward or backward, and leaves nothing behind") {
  const auto check = [](const char* what, auto&& build, const ms::Shape& shape) {
    CAPTURE(what);
    ms::Context ctx({.seed = 3});
    Net<float> net = build(ctx);
    ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
    const auto x = ms::from_host<float>(ctx, shape, support::normal_values<float>(shape.size(), 2));
    train<float>(ctx, net, sgd, x);
    const Names names = parameter_names(net);
    const auto before = everything<float>(ctx, net, sgd);
    const auto training = outputs(ctx, net, x, Mode::training), evaluation = outputs(ctx, net, x, Mode::evaluation);
    const auto slopes = gradients(ctx, net, x, names);
    const std::int64_t work = net.multiply_adds(shape.with(0, 1));
    const std::uint64_t streams = ctx.random_streams();
    {
      EmptyBlocks<float> blocks(ctx, ms::grow::find_places<float>(net));
      CHECK(ctx.random_streams() == streams);
      REQUIRE(blocks.size() > 0);
      CHECK(blocks.parameters() == 0);
      blocks.open();
      CHECK(ms::nn::parameter_count<float>(net) > 0);
      CHECK(net.multiply_adds(shape.with(0, 1)) == work);
      support::check_same_bits(outputs(ctx, net, x, Mode::training), training, "training");
      support::check_same_bits(outputs(ctx, net, x, Mode::evaluation), evaluation, "evaluation");
      CHECK(gradients(ctx, net, x, names) == slopes);
      const Names open_names = parameter_names(net);
      for (const std::string& name : names) CHECK(std::count(open_names.begin(), open_names.end(), name) == 1);
      std::int64_t empty = 0;
      net.visit_parameters([&](ms::nn::Parameter<float>& parameter) {
        if (std::count(names.begin(), names.end(), parameter.name) == 0) empty += parameter.value.size();
      });
      CHECK(blocks.parameters() == empty);
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        CHECK(blocks.site(i).width() == 0);
        CHECK(blocks.site(i).name.starts_with(blocks.place(i).name + "."));
      }
    }
    CHECK(everything<float>(ctx, net, sgd) == before);
    support::check_same_bits(outputs(ctx, net, x, Mode::training), training, "afterwards");
  };
  check("resnet18", [](ms::Context& ctx) { return residual_net(ctx, false); }, {6, 8, 8, 2});
  check("resnet18_strided", [](ms::Context& ctx) { return residual_net(ctx, true); }, {6, 8, 8, 2});
  check("vgg",
        [](ms::Context& ctx) {
          return ms::models::vgg<float>(ctx, {.classes = 4, .stages = {{2}, {3, 3}}, .width = 1.0, .in_channels = 2});
        },
        {6, 8, 8, 2});
  for (const Activation activation : {Activation::relu, Activation::tanh, Activation::silu}) {
    check("mlp",
          [=](ms::Context& ctx) {
            return ms::models::mlp<float>(ctx, {.inputs = 6, .hidden = {5, 3}, .classes = 4, .activation = activation});
          },
          {9, 6});
  }
}

TEST_CASE("blocks: singular values, slope and outputs of the first units are those of plain loops") {
  constexpr std::int64_t n = 40, inputs = 5, width = 4, classes = 3;
  ms::Context ctx({.seed = 7});
  auto net = ms::models::mlp<double>(ctx, {.inputs = inputs, .hidden = {width}, .classes = classes});
  const auto values = support::normal_values<double>(n * inputs, 3);
  const auto x = ms::from_host<double>(ctx, {n, inputs}, values);
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < n; ++i) labels.push_back(static_cast<std::int32_t>((i * i + i / 3) % classes));
  const auto targets = ms::from_host<std::int32_t>(ctx, {n}, labels);
  const ms::nn::BatchView<double> batch{.inputs = x, .labels = targets};

  // What flows at the place, and what the loss asks for there.
  const auto parameters = ms::nn::parameters<double>(net);
  const Dense w1(width, inputs, ms::to_host(ctx, parameters[0]->value));
  const Dense w2(classes, width, ms::to_host(ctx, parameters[2]->value));
  const auto b2 = ms::to_host(ctx, parameters[3]->value);
  Dense h(width, n);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < width; ++j) {
      double sum = ms::to_host(ctx, parameters[1]->value)[static_cast<std::size_t>(j)];
      for (std::int64_t k = 0; k < inputs; ++k) sum += w1(j, k) * values[static_cast<std::size_t>(i * inputs + k)];
      h(j, i) = std::max(sum, 0.0);
    }
  }
  const auto logits = [&](const Dense& flow) {
    Dense y = w2 * flow;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t c = 0; c < classes; ++c) y(c, i) += b2[static_cast<std::size_t>(c)];
    }
    return y;
  };
  const auto softmax = [&](const Dense& y) {
    Dense p = y;
    for (std::int64_t i = 0; i < n; ++i) {
      double total = 0.0;
      for (std::int64_t c = 0; c < classes; ++c) total += std::exp(y(c, i));
      for (std::int64_t c = 0; c < classes; ++c) p(c, i) = std::exp(y(c, i)) / total;
    }
    return p;
  };
  const auto loss = [&](const Dense& flow) {
    const Dense p = softmax(logits(flow));
    double sum = 0.0;
    for (std::int64_t i = 0; i < n; ++i) sum -= std::log(p(labels[static_cast<std::size_t>(i)], i));
    return sum / static_cast<double>(n);
  };
  Dense error = softmax(logits(h));
  for (std::int64_t i = 0; i < n; ++i) error(labels[static_cast<std::size_t>(i)], i) -= 1.0;
  support::GrowthProblem problem{Dense(width + 1, n), Dense(1, n), -1.0 * (support::transposed(w2) * error)};
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < width; ++j) problem.b2(j, i) = h(j, i);
    problem.b2(width, i) = problem.b1(0, i) = 1.0;  // today the last layer has its bias alone
  }
  const std::vector<double> lambda = problem.lambda();

  EmptyBlocks<double> blocks(ctx, ms::grow::find_places<double>(net));
  REQUIRE(blocks.size() == 1);
  blocks.open();
  const auto& site = blocks.site(0);
  CHECK(site.name == "block1.linear1");
  ms::grow::detail::SharedPasses<double> passes(net, ms::nn::CrossEntropy{});
  const auto proposals = passes.measure(
      ctx, {site}, {.method = ms::grow::tiny(), .damping = 0.0, .significance = 0.0},
      [&](const auto& use) { use(batch); }, [](const auto&, std::int64_t, const auto*) { return std::int64_t{2}; });
  REQUIRE(proposals.size() == 1);
  const auto insertion = support::on_host(ctx, proposals[0].insertion);
  REQUIRE(insertion.units == 2);
  REQUIRE(proposals[0].report.lambda.size() >= 3);
  for (std::size_t k = 0; k < 3; ++k) {
    CHECK(proposals[0].report.lambda[k] == doctest::Approx(lambda[k]).epsilon(1e-9));
  }
  CHECK(proposals[0].report.goal_norm2 == doctest::Approx(problem.norm2(problem.v)).epsilon(1e-10));

  // y = h + Σ_k γ relu(α_kᵀ[h 1]) ω_k + γ δb, as γ is shared out evenly.
  const auto flow = [&](double gamma) {
    Dense y = h;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t k = 0; k < insertion.units; ++k) {
        double sum = 0.0;
        for (std::int64_t j = 0; j <= width; ++j) {
          sum += insertion.fan_in[static_cast<std::size_t>(k * (width + 1) + j)] * problem.b2(j, i);
        }
        for (std::int64_t o = 0; o < width; ++o) {
          y(o, i) += gamma * std::max(sum, 0.0) * insertion.fan_out[static_cast<std::size_t>(k * width + o)];
        }
      }
      for (std::int64_t o = 0; o < width; ++o) y(o, i) += gamma * insertion.move[static_cast<std::size_t>(o)];
    }
    return y;
  };
  const double at0 = loss(h);
  // Two one-sided differences, extrapolated: an error of γ² against the 2 % that are asked for.
  const double step = 1e-3;
  const double coarse = (at0 - loss(flow(step))) / step, fine = (at0 - loss(flow(step / 2))) / (step / 2);
  CHECK(proposals[0].report.slope == doctest::Approx(2 * fine - coarse).epsilon(1e-3));
  CHECK(proposals[0].report.slope > 0.0);

  const double gamma = 0.7;
  ms::grow::apply<double>(ctx, ms::grow::make_edit(ctx, site, proposals[0].insertion, gamma), net);
  const auto grown = outputs(ctx, net, x, Mode::training);
  std::vector<double> expected;
  const Dense y = logits(flow(gamma));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t c = 0; c < classes; ++c) expected.push_back(y(c, i));
  }
  support::check_close(grown, expected, 1e-12 * support::scale_of(expected, 1.0), "outputs at the amplitude");
}

TEST_CASE("blocks: between maps with norms the slope is the loss's own") {
  support::MapProblem problem(10, {6, 5, 2}, [](ms::Context& ctx, Net<double>& net) {
    net.add<ms::nn::Conv2d>("stem", ctx, 2, 4, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1, .bias = false});
    net.add<ms::nn::BatchNorm>("norm", ctx, 4, ms::nn::BatchNormOptions{.activation = Activation::relu});
    auto& block = net.add<ms::nn::Residual>("block");
    block.add<ms::nn::Conv2d>("conv1", ctx, 4, 3, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1});
    block.add<ms::nn::BatchNorm>("norm1", ctx, 3, ms::nn::BatchNormOptions{.activation = Activation::relu});
    block.add<ms::nn::Conv2d>("conv2", ctx, 3, 4, ms::nn::Conv2dOptions{.kernel = 3, .padding = 1});
    block.add<ms::nn::BatchNorm>("norm2", ctx, 4, ms::nn::BatchNormOptions{.activation = Activation::relu});
    net.add<ms::nn::GlobalAveragePool>("pool");
    net.add<ms::nn::Linear>("head", ctx, 4, 3);
  });
  EmptyBlocks<double> blocks(problem.ctx, ms::grow::find_places<double>(problem.net));
  REQUIRE(blocks.size() == 2);
  CHECK(blocks.place(0).name == "block1");  // behind the stem; the block of the chain is not called block1
  CHECK(blocks.place(1).name == "block_1");
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    CAPTURE(i);
    blocks.open(i);
    const auto& site = blocks.site(i);
    const auto proposal = problem.propose(site, 2);
    REQUIRE(proposal.insertion.units == 2);
    const double at0 = problem.loss(), step = 1e-5;
    const auto slope_at = [&](double gamma) {
      return (at0 - problem.loss_with(ms::grow::make_edit(problem.ctx, site, proposal.insertion, gamma))) / gamma;
    };
    CHECK(proposal.report.slope == doctest::Approx(2 * slope_at(step / 2) - slope_at(step)).epsilon(0.02));
    CHECK(proposal.report.slope > 0.0);

    // The norm at its end is put there when the units are in, and does nothing then.
    problem.insert(site, proposal.insertion, 0.05);
    const auto without = problem.outputs(Mode::evaluation), in_training = problem.outputs(Mode::training);
    ms::nn::BatchNorm<double>* const norm = blocks.add_norm(problem.ctx, i);
    REQUIRE(norm != nullptr);
    CHECK(norm->name() == blocks.place(i).name + ".norm2");
    CHECK(contains(message_of<ms::ArgumentError>([&] { blocks.settle_norm(problem.ctx, i, {}); }), "no batch"));
    ms::grow::detail::NormInputs<double> seen;
    (void)problem.net.forward(problem.ctx, problem.x, {.measuring = true, .taps = &seen});
    blocks.settle_norm(problem.ctx, i, seen);
    const double tolerance = 1e-9 * support::scale_of(without, 1.0);
    support::check_close(problem.outputs(Mode::evaluation), support::to_double(without), tolerance, "evaluation");
    support::check_close(problem.outputs(Mode::training), support::to_double(in_training), tolerance, "training");
    double squares = 0.0;
    for (const double w : ms::to_host(problem.ctx, site.consumer.weight().value)) squares += w * w;
    CHECK(squares == doctest::Approx(2.0 * 4).epsilon(1e-9));
    ms::optim::Sgd<double> sgd(problem.net, {});
    blocks.keep(i, sgd);
  }
}

TEST_CASE("blocks: parameters join the optimiser's groups of their model, and what is taken out comes back") {
  ms::Context ctx({.seed = 5});
  auto net = residual_net(ctx, false);
  const ms::Shape shape{6, 8, 8, 2};
  const auto x = ms::from_host<float>(ctx, shape, support::normal_values<float>(shape.size(), 2));
  ms::optim::AdamW<float> adam(net, {.learning_rate = 0.01});
  adam.set_group("stage1.block1.*", {.learning_rate_factor = 0.5});
  train<float>(ctx, net, adam, x);
  const auto without = everything<float>(ctx, net, adam);
  const auto outputs_before = outputs(ctx, net, x, Mode::training);

  const auto places = ms::grow::find_places<float>(net);
  const std::string name = ms::grow::insert_zero_norm<float>(ctx, places[1], 3, adam);
  CHECK(name == "stage1.block1_1");
  support::check_same_bits(outputs(ctx, net, x, Mode::training), outputs_before, "a norm of weight 0");
  net.visit_parameters([&](ms::nn::Parameter<float>& parameter) {
    const bool grouped = parameter.name.starts_with("stage1.block1.") || parameter.name.starts_with(name + ".");
    CHECK(adam.group(parameter.id).learning_rate_factor == (grouped ? 0.5 : 1.0));
  });
  // Names of what comes later leave those that are taken alone.
  const Names names = names_of(net);
  CHECK(names[1] == "stage1.block1_2");
  CHECK(names[2] == "stage1.block1_3");
  CHECK(names[3] == "stage1.block2_1");
  train<float>(ctx, net, adam, x);
  const auto with = everything<float>(ctx, net, adam);

  auto removed = ms::grow::remove_block<float>(net, name, &adam);
  CHECK(removed.block.container == "stage1");
  CHECK(removed.block.position == 1);
  CHECK(everything<float>(ctx, net, adam).size() == without.size());
  (void)outputs(ctx, net, x, Mode::training);
  ms::grow::put_back<float>(ctx, std::move(removed), net, &adam);
  CHECK(everything<float>(ctx, net, adam) == with);
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::grow::put_back<float>(ctx, std::move(removed), net); }),
                 "was put back already"));
  train<float>(ctx, net, adam, x, 1);

  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)ms::grow::remove_block<float>(net, "stage9"); }),
                 "there is no layer 'stage9'"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)ms::grow::remove_block<float>(net, "stem"); }),
                 "no block that adds something to its input"));
  auto again = ms::grow::remove_block<float>(net, name);
  again.block.container = "stage7";
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::grow::put_back<float>(ctx, std::move(again), net); }),
                 "no Sequential 'stage7'"));
  // What could not be put back is still there.
  REQUIRE(again.block.layer != nullptr);
  again.block.container = "stage1";
  again.name = "stage1.block1";
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::grow::put_back<float>(ctx, std::move(again), net); }),
                 "has a layer stage1.block1 already"));
  CHECK(again.block.layer != nullptr);
  CHECK(contains(message_of<ms::ArgumentError>([&] {
                   (void)ms::grow::insert_zero_norm<float>(ctx, ms::grow::find_places<float>(net)[1], 0, adam);
                 }),
                 "hidden width 0"));
}

TEST_CASE("blocks: a clone is its model times a scale") {
  constexpr std::int64_t n = 7;
  ms::Context ctx({.seed = 5});
  const auto build = [&] {
    Net<double> net;
    net.add<ms::nn::Linear>("stem", ctx, 3, 4);
    auto& block = net.add<ms::nn::Residual>("block", ms::nn::ResidualOptions{.activation = Activation::identity});
    block.add<ms::nn::Linear>("in", ctx, 4, 3);
    block.add<ms::nn::ActivationLayer>("tanh", Activation::tanh);
    block.add<ms::nn::Linear>("out", ctx, 3, 4);
    return net;
  };
  const auto x = ms::from_host<double>(ctx, {n, 3}, support::normal_values<double>(n * 3, 4));
  for (const double scale : {0.0, 0.25}) {
    CAPTURE(scale);
    auto net = build();
    ms::optim::Sgd<double> sgd(net, {});
    const auto before = outputs(ctx, net, x, Mode::training);
    const auto parameters = ms::nn::parameters<double>(net);
    const Dense in(3, 4, ms::to_host(ctx, parameters[2]->value)), out(4, 3, ms::to_host(ctx, parameters[4]->value));
    const auto in_bias = ms::to_host(ctx, parameters[3]->value), out_bias = ms::to_host(ctx, parameters[5]->value);
    const auto places = ms::grow::find_places<double>(net);
    REQUIRE(places.size() == 1);
    CHECK(ms::grow::insert_clone<double>(ctx, places[0], scale, sgd) == "block_1");
    std::vector<double> expected;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t o = 0; o < 4; ++o) {
        double y = out_bias[static_cast<std::size_t>(o)];
        for (std::int64_t k = 0; k < 3; ++k) {
          double sum = in_bias[static_cast<std::size_t>(k)];
          for (std::int64_t j = 0; j < 4; ++j) sum += in(k, j) * before[static_cast<std::size_t>(i * 4 + j)];
          y += out(o, k) * std::tanh(sum);
        }
        expected.push_back(before[static_cast<std::size_t>(i * 4 + o)] + scale * y);
      }
    }
    support::check_close(outputs(ctx, net, x, Mode::training), expected, 1e-13 * support::scale_of(expected, 1.0));
    CHECK(contains(message_of<ms::ArgumentError>([&] {
                     (void)ms::grow::insert_clone<double>(ctx, ms::grow::find_places<double>(net)[0], NAN, sgd);
                   }),
                   "must be finite"));
  }
  auto chain = ms::models::mlp<double>(ctx, {.inputs = 3, .hidden = {4}, .classes = 2});
  ms::optim::Sgd<double> sgd(chain, {});
  CHECK(contains(message_of<ms::ArgumentError>([&] {
                   (void)ms::grow::insert_clone<double>(ctx, ms::grow::find_places<double>(chain)[0], 0.5, sgd);
                 }),
                 "no residual block to clone"));
}
TEST_SUITE_END();

}  // namespace grow_depth_test
