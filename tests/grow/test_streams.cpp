// Streams: what the finder makes of skip connections, and their units against plain double loops on a perceptron.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <meristem/grow/measure/shared_passes.hpp>
#include <meristem/grow/methods/gradmax.hpp>
#include <meristem/grow/methods/tiny.hpp>
#include <meristem/grow/policy/streams.hpp>
#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/models/resnet.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/dropout.hpp>
#include <meristem/nn/group_norm.hpp>
#include <meristem/nn/layer_norm.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/residual.hpp>
#include <support/check.hpp>
#include <support/growth_problem.hpp>
#include <support/residual_networks.hpp>
#include <support/units_on_host.hpp>

namespace grow_streams_test {

namespace ms = meristem;
using ms::grow::Widths;
using ms::nn::Activation;
using Net = ms::nn::Sequential<double>;
using Site = ms::grow::Site<double>;
using support::contains;
using support::Dense;
using support::message_of;

namespace {

constexpr std::int64_t n = 48, inputs = 5, width = 4, hidden = 3, outputs = 2;

/// Where norms stand, beside the one in the middle of the block.
enum class Norms {
  none,    ///< nowhere
  behind,  ///< behind stem and block, before the ReLUs there
  before,  ///< in front of the block's first layer and the head, with ReLUs behind them
  mixed,   ///< behind the stem and in front of the block's first layer; the head reads the sum as it is
};
constexpr Norms everywhere[] = {Norms::none, Norms::behind, Norms::before, Norms::mixed};

/// stem, a block of two layers that is added, head.
Net skipping(ms::Context& ctx, Norms norms) {
  Net net;
  const bool relus_behind = norms == Norms::none || norms == Norms::behind;
  const auto norm = [&](ms::nn::Sequential<double>& to, const char* name, std::int64_t features, bool relu) {
    const Activation function = relu ? Activation::relu : Activation::identity;
    if (norms != Norms::none) {
      to.add<ms::nn::BatchNorm<double>>(name, ctx, features, ms::nn::BatchNormOptions{.activation = function});
    } else if (relu) {
      to.add<ms::nn::ActivationLayer<double>>(name, function);
    }
  };
  net.add<ms::nn::Linear<double>>("stem", ctx, inputs, width);
  if (norms != Norms::before) norm(net, "norm", width, relus_behind);
  auto& block = net.add<ms::nn::Residual<double>>(
      "block", ms::nn::ResidualOptions{.activation = relus_behind ? Activation::relu : Activation::identity});
  if (!relus_behind) norm(block.body(), "norm0", width, true);
  block.add<ms::nn::Linear<double>>("in", ctx, width, hidden);
  norm(block.body(), "norm1", hidden, true);
  block.add<ms::nn::Linear<double>>("out", ctx, hidden, width);
  if (relus_behind) norm(block.body(), "norm2", width, false);
  if (norms == Norms::before) norm(net, "norm3", width, true);
  net.add<ms::nn::Linear<double>>("head", ctx, width, outputs);
  return net;
}

/// The same network in plain loops, with one more group of channels of the stream. Samples are rows.
struct Plain {
  struct Layer {
    Dense w;
    std::vector<double> b;
  };
  struct Norm {
    std::vector<double> mean, variance, weight, shift;
    double epsilon = 0.0;
  };
  Layer stem, in, out, head;
  std::map<std::string, Norm> norms;  // by name
  bool relus_behind = true;           // ReLUs behind the stem and the sum, not in front of readers
  bool relu_before_head = false;
  bool training = true;

  /// Units that arrive at `in` and at the head, and what these read of them.
  struct Added {
    Dense stem, out;                  // fan-ins (K, inputs + 1) of units of either source; the other is empty
    Dense to_in, to_head;             // fan-outs (K, q)
    std::vector<double> before = {};  // what is added to the outputs of `in` and of the head (perturbations)
  };

  /// What flows where, for the statistics.
  struct Flow {
    Dense x, s, h, t, y;  // input, what `in` reads, hidden, what the head reads, output
  };

  static Dense apply(const Layer& layer, const Dense& x) {
    Dense y(x.rows, layer.w.rows);
    for (std::int64_t i = 0; i < x.rows; ++i) {
      for (std::int64_t o = 0; o < layer.w.rows; ++o) {
        double sum = layer.b[static_cast<std::size_t>(o)];
        for (std::int64_t k = 0; k < x.columns; ++k) sum += layer.w(o, k) * x(i, k);
        y(i, o) = sum;
      }
    }
    return y;
  }

  void normalise(const std::string& which, Dense& a) const {
    if (!norms.contains(which)) return;
    const Norm& norm = norms.at(which);
    for (std::int64_t c = 0; c < a.columns; ++c) {
      const auto at = static_cast<std::size_t>(c);
      double mean = norm.mean[at], variance = norm.variance[at];
      if (training) {
        mean = variance = 0.0;
        for (std::int64_t i = 0; i < a.rows; ++i) mean += a(i, c) / static_cast<double>(a.rows);
        for (std::int64_t i = 0; i < a.rows; ++i) {
          variance += (a(i, c) - mean) * (a(i, c) - mean) / static_cast<double>(a.rows);
        }
      }
      for (std::int64_t i = 0; i < a.rows; ++i) {
        a(i, c) = (a(i, c) - mean) / std::sqrt(variance + norm.epsilon) * norm.weight[at] + norm.shift[at];
      }
    }
  }

  static void relu(Dense& a) {
    for (double& value : a.values) value = std::max(value, 0.0);
  }

  /// relu(α [b 1]) ω, or without the ReLU, added to y.
  static void add_units(const Dense& fan_in, const Dense& b, const Dense& fan_out, Dense& y, bool curved = true) {
    for (std::int64_t k = 0; k < fan_in.rows; ++k) {
      for (std::int64_t i = 0; i < b.rows; ++i) {
        double unit = fan_in(k, b.columns);
        for (std::int64_t j = 0; j < b.columns; ++j) unit += fan_in(k, j) * b(i, j);
        for (std::int64_t o = 0; o < y.columns; ++o) y(i, o) += (curved ? std::max(unit, 0.0) : unit) * fan_out(k, o);
      }
    }
  }

  Flow run(const Dense& x, const Added& added) const {
    Flow flow;
    flow.x = x;
    Dense sum = apply(stem, x);
    normalise("norm", sum);
    if (relus_behind) relu(sum);
    flow.s = sum;
    normalise("block.norm0", flow.s);
    relu(flow.s);  // of a ReLU in front of the block, or the same again
    flow.h = apply(in, flow.s);
    add_units(added.stem, x, added.to_in, flow.h);
    const std::size_t first = added.before.empty() ? 0 : flow.h.values.size();
    for (std::size_t i = 0; i < first; ++i) flow.h.values[i] += added.before[i];
    normalise("block.norm1", flow.h);
    relu(flow.h);
    flow.t = apply(out, flow.h);
    normalise("block.norm2", flow.t);
    for (std::size_t i = 0; i < flow.t.values.size(); ++i) flow.t.values[i] += sum.values[i];
    normalise("norm3", flow.t);
    if (relu_before_head) relu(flow.t);
    flow.y = apply(head, flow.t);
    add_units(added.stem, x, added.to_head, flow.y, relu_before_head);
    add_units(added.out, flow.h, added.to_head, flow.y, relu_before_head);
    for (std::size_t i = 0; first > 0 && i < flow.y.values.size(); ++i) flow.y.values[i] += added.before[first + i];
    return flow;
  }

  /// Σ (y - target)² over all samples.
  double total(const Dense& x, const Dense& target, const Added& added) const {
    const Dense y = run(x, added).y;
    double sum = 0.0;
    for (std::size_t i = 0; i < y.values.size(); ++i) {
      sum += (y.values[i] - target.values[i]) * (y.values[i] - target.values[i]);
    }
    return sum;
  }
};

struct Problem {
  ms::Context ctx{{.seed = 5}};
  Norms norms;
  Net net;
  Dense x, target;
  ms::Tensor<double> x_tensor, target_tensor;

  explicit Problem(Norms norms_) : norms(norms_), net(skipping(ctx, norms_)) {
    x = Dense(n, inputs, support::normal_values<double>(n * inputs, 1));
    target = Dense(n, outputs, support::normal_values<double>(n * outputs, 2));
    x_tensor = support::to_tensor<double>(ctx, x);
    target_tensor = support::to_tensor<double>(ctx, target);
    // Nothing is at its first value.
    std::uint64_t seed = 10;
    net.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
      if (parameter.value.rank() != 1) return;
      std::vector<double> values = support::normal_values<double>(parameter.value.size(), ++seed, 0.3);
      for (double& value : values) value += contains(parameter.name, "norm") ? 0.8 : 0.0;
      ms::copy<double>(ctx, ms::from_host<double>(ctx, parameter.value.shape(), values), parameter.value);
    });
    net.visit_buffers([&](ms::nn::Buffer<double>& buffer) {
      std::vector<double> values = support::normal_values<double>(buffer.value.size(), ++seed, 0.3);
      for (double& value : values) value = 1.0 + std::abs(value);
      ms::copy<double>(ctx, ms::from_host<double>(ctx, buffer.value.shape(), values), buffer.value);
    });
  }

  std::vector<double> numbers(const std::string& name) {
    std::vector<double> result;
    net.visit_parameters([&](ms::nn::Parameter<double>& p) {
      if (p.name == name) result = ms::to_host(ctx, p.value);
    });
    net.visit_buffers([&](ms::nn::Buffer<double>& b) {
      if (b.name == name) result = ms::to_host(ctx, b.value);
    });
    REQUIRE(!result.empty());
    return result;
  }

  Plain plain(bool training) {
    const auto layer = [&](const std::string& name) {
      const std::vector<double> w = numbers(name + ".weight"), b = numbers(name + ".bias");
      const auto rows = static_cast<std::int64_t>(b.size());
      return Plain::Layer{Dense(rows, static_cast<std::int64_t>(w.size()) / rows, w), b};
    };
    Plain result{layer("stem"), layer("block.in"), layer("block.out"), layer("head"), {}};
    result.training = training;
    result.relus_behind = norms == Norms::none || norms == Norms::behind;
    result.relu_before_head = norms != Norms::mixed;
    net.visit_buffers([&](ms::nn::Buffer<double>& buffer) {
      if (!buffer.name.ends_with(".running_mean")) return;
      const std::string at = buffer.name.substr(0, buffer.name.find(".running"));
      result.norms[at] = {numbers(at + ".running_mean"), numbers(at + ".running_variance"), numbers(at + ".weight"),
                          numbers(at + ".bias"), 1e-5};
    });
    return result;
  }

  std::vector<double> output(bool training) {
    const ms::nn::Mode mode = training ? ms::nn::Mode::training : ms::nn::Mode::evaluation;
    return ms::to_host(ctx, net.forward(ctx, x_tensor, {.mode = mode, .measuring = true}).output);
  }

  double loss() {
    return ms::nn::SquaredError{}(ctx, net.forward(ctx, x_tensor, {.measuring = true}).output, target_tensor.view(),
                                  false)
        .mean;
  }

  ms::grow::detail::Proposal measure(const Site& site, const ms::grow::detail::MeasurementOptions& options,
                                     std::int64_t most) {
    ms::grow::detail::SharedPasses<double> passes(net, ms::nn::SquaredError{});
    const ms::nn::BatchView<double> batch{.inputs = x_tensor, .targets = target_tensor};
    auto proposals = passes.measure(
        ctx, {site}, options, [&](const auto& use) { use(batch); },
        [&](const Site&, std::int64_t, const ms::grow::Choice*) { return most; });
    return std::move(proposals.front());
  }
};

/// Columns, a row of ones below where a bias reads.
Dense transposed_with_ones(const Dense& a) {
  Dense result(a.columns + 1, a.rows);
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t j = 0; j < a.columns; ++j) result(j, i) = a(i, j);
    result(a.columns, i) = 1.0;
  }
  return result;
}

Dense beside(const Dense& a, const Dense& b) {
  Dense result(a.rows, a.columns + b.columns);
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t j = 0; j < result.columns; ++j) result(i, j) = j < a.columns ? a(i, j) : b(i, j - a.columns);
  }
  return result;
}

/// Rows less their means.
Dense centred(Dense a) {
  for (std::int64_t i = 0; i < a.rows; ++i) {
    double mean = 0.0;
    for (std::int64_t j = 0; j < a.columns; ++j) mean += a(i, j) / static_cast<double>(a.columns);
    for (std::int64_t j = 0; j < a.columns; ++j) a(i, j) -= mean;
  }
  return a;
}

const ms::grow::detail::MeasurementOptions plain_tiny{.method = ms::grow::tiny(), .damping = 0.0, .significance = 0.0};

std::vector<std::string> names_of(const std::vector<ms::grow::Reader<double>>& readers) {
  std::vector<std::string> names;
  for (const auto& reader : readers) names.push_back(reader.consumer.name());
  return names;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("streams: sources, readers and riders of a block with a skip connection") {
  for (const Norms norms : everywhere) {
    Problem problem(norms);
    const auto hidden_sites = ms::grow::find_sites<double>(problem.net);
    REQUIRE(hidden_sites.size() == 1);
    CHECK(hidden_sites[0].name == "block.in");
    const auto sites = ms::grow::find_sites<double>(problem.net, Widths::all);
    REQUIRE(sites.size() == 3);
    CHECK(sites[0].name == "stem");
    CHECK(sites[1].name == "block.in");
    CHECK(!sites[1].tied());
    CHECK(sites[2].name == "block.out");
    for (const std::size_t i : {std::size_t{0}, std::size_t{2}}) {
      CHECK(sites[i].stream == "stem");
      CHECK(sites[i].first_layer().name() == "stem");
      const bool stem = i == 0;
      const auto normed = [&](bool first) { return norms == Norms::behind || (norms == Norms::mixed && first); };
      CHECK((sites[i].producer.norm() != nullptr) == normed(stem));
      REQUIRE(sites[i].riders.size() == 1);
      CHECK(sites[i].riders[0].name() == (i == 0 ? "block.out" : "stem"));
      CHECK((sites[i].riders[0].norm() != nullptr) == normed(!stem));
    }
    REQUIRE(sites[0].readers() == 2);
    CHECK(sites[0].consumer.name() == "block.in");
    CHECK(sites[0].others[0].consumer.name() == "head");
    CHECK((sites[0].consumer.norm() != nullptr) == (norms != Norms::none));
    const bool before = norms == Norms::before || norms == Norms::mixed;
    CHECK((sites[0].input_norm != nullptr) == before);
    CHECK((sites[0].others[0].input_norm != nullptr) == (norms == Norms::before));
    CHECK(sites[0].earlier.empty());
    CHECK(sites[0].fan_out() == hidden + outputs);
    REQUIRE(sites[2].readers() == 1);
    CHECK(sites[2].consumer.name() == "head");
    CHECK(names_of(sites[2].earlier) == std::vector<std::string>{"block.in"});
    // A row of both sources, their norms, a column of both readers.
    const std::int64_t cost = inputs + 1 + hidden + 1 + (norms == Norms::none ? 0 : 4) + hidden + outputs;
    CHECK(sites[0].parameters_per_unit() == cost);
    CHECK(sites[2].parameters_per_unit() == cost);
  }
}

TEST_CASE("streams: residual networks, whose streams end at transitions") {
  ms::Context ctx({.seed = 1});
  for (const bool strided : {false, true}) {
    CAPTURE(strided);
    Net net = strided ? ms::models::resnet18_strided<double>(ctx, {.width = 0.25, .channels = 4})
                      : ms::models::resnet18<double>(ctx, {.width = 0.25, .channels = 4});
    CHECK(ms::grow::find_sites<double>(net).size() == 8);
    const auto sites = ms::grow::find_sites<double>(net, Widths::all);
    // Eight hidden widths, and in each of four stages the stem or transition and the two blocks.
    REQUIRE(sites.size() == 20);
    const auto find = [&](const char* name) { return ms::grow::find_site<double>(net, name, Widths::all); };
    const auto readers = [](const Site& site) {
      std::vector<std::string> names;
      for (std::size_t i = 0; i < site.readers(); ++i) names.push_back(site.reader(i).consumer.name());
      return names;
    };
    using Names = std::vector<std::string>;
    const Site stem = find("stem.conv");
    CHECK(readers(stem) == (strided ? Names{"stage1.block1.conv1", "stage1.block2.conv1", "stage2.block1.conv1",
                                            "stage2.block1.shortcut.conv"}
                                    : Names{"stage1.block1.conv1", "stage1.block2.conv1", "stage2.down.conv"}));
    CHECK(stem.riders.size() == 2);
    const Site last = find("stage4.block2.conv2");
    CHECK(readers(last) == Names{"linear"});
    CHECK(last.pool != nullptr);
    CHECK(last.activation == (strided ? Activation::relu : Activation::identity));
    CHECK(last.stream == (strided ? "stage4.block1.conv2" : "stage4.down.conv"));
    CHECK(names_of(last.earlier) ==
          (strided ? Names{"stage4.block2.conv1"} : Names{"stage4.block1.conv1", "stage4.block2.conv1"}));
    const Site transition = find(strided ? "stage4.block1.shortcut.conv" : "stage4.down.conv");
    CHECK(transition.producer.norm() != nullptr);
    if (strided) continue;
    // The first block reads the transition's means as they are, the second behind the ReLU of the first sum.
    CHECK(transition.activation == Activation::identity);
    CHECK(transition.others[0].activation == Activation::relu);
    CHECK(transition.others[0].pool_first);
    CHECK(transition.others[1].consumer.name() == "linear");
    CHECK(transition.others[1].last_pool != nullptr);
    // 2x2 means of an 8x8 map, and the mean of those: one mean.
    const auto pool = transition.read_by(2).shape({1, 8, 8, 16}).pool;
    REQUIRE(pool.has_value());
    CHECK(pool->kernel == ms::Extent2(8));
    CHECK(pool->output({8, 8}) == ms::Extent2(1));
  }
}

TEST_CASE("streams: norms in front of their readers, which several may share") {
  ms::Context ctx({.seed = 1});
  Net net = support::preactivation_resnet<double>(ctx, {});
  std::vector<std::string> inside;
  for (const Site& site : ms::grow::find_sites<double>(net)) inside.push_back(site.name);
  CHECK(inside == std::vector<std::string>{"stage1.block1.conv1", "stage1.block2.conv1", "stage2.block1.conv1",
                                           "stage2.block2.conv1"});
  REQUIRE(ms::grow::find_sites<double>(net, Widths::all).size() == 10);
  const auto names = [](const std::vector<ms::nn::BatchNorm<double>*>& norms) {
    std::vector<std::string> result;
    for (const auto* norm : norms) result.push_back(norm->name());
    return result;
  };
  using Names = std::vector<std::string>;
  const Site stem = ms::grow::find_site<double>(net, "stem.conv", Widths::all);
  CHECK(stem.readers() == 4);
  CHECK(stem.producer.norm() == nullptr);
  CHECK(stem.activation == Activation::relu);
  CHECK(names(stem.input_norms()) == Names{"stage1.block1.norm1", "stage1.block2.norm1", "stage2.norm"});
  const Site last = ms::grow::find_site<double>(net, "stage1.block2.conv2", Widths::all);
  CHECK(last.readers() == 2);
  CHECK(last.input_norm == last.others[0].input_norm);
  CHECK(names(last.input_norms()) == Names{"stage2.norm"});
  CHECK(names(last.tied_norms()) == Names{"stage2.norm", "stage1.block1.norm1", "stage1.block2.norm1"});
  const Site deep = ms::grow::find_site<double>(net, "stage2.block1.shortcut.conv", Widths::all);
  CHECK(names(deep.input_norms()) == Names{"stage2.block2.norm1", "norm"});
  CHECK(deep.others[0].pool != nullptr);
}

TEST_CASE("streams: what cannot grow, and why") {
  ms::Context ctx;
  const auto refused = [&](Net& net, const char* name) {
    for (const auto& site : ms::grow::find_sites<double>(net, Widths::all)) CHECK(site.name != name);
    return message_of<ms::ArgumentError>([&] { (void)ms::grow::find_site<double>(net, name, Widths::all); });
  };
  const auto residual = [&](Net& net, Activation function) -> ms::nn::Residual<double>& {
    return net.add<ms::nn::Residual<double>>("block", ms::nn::ResidualOptions{.activation = function});
  };
  {
    Net net;
    auto& block = residual(net, Activation::relu);
    block.add<ms::nn::Linear<double>>("in", ctx, 4, 4);
    net.add<ms::nn::Linear<double>>("head", ctx, 4, 2);
    CHECK(contains(refused(net, "block.in"), "added to the network's input"));
    CHECK(contains(refused(net, "head"), "its outputs are the network's"));
  }
  {
    Net net;
    net.add<ms::nn::Linear<double>>("stem", ctx, 4, 4);
    residual(net, Activation::relu).add<ms::nn::Linear<double>>("in", ctx, 4, 4);
    net.add<ms::nn::Linear<double>>("head", ctx, 4, 2);
    CHECK(contains(refused(net, "stem"), "block.in (Linear) reads the channels that its outputs are added to"));
  }
  {
    Net net;
    net.add<ms::nn::Linear<double>>("stem", ctx, 4, 4);
    net.add<ms::nn::ActivationLayer<double>>("tanh", Activation::tanh);
    auto& block = residual(net, Activation::relu);
    block.add<ms::nn::Linear<double>>("in", ctx, 4, 3);
    block.add<ms::nn::Linear<double>>("out", ctx, 3, 4);
    net.add<ms::nn::Linear<double>>("head", ctx, 4, 2);
    CHECK(contains(refused(net, "stem"), "they pass a second activation, block (Residual); only the ReLU of a ReLU"));
    CHECK(contains(refused(net, "block.out"), "second activation"));
  }
  {
    // Norms read the sum itself, and nothing adds what they give.
    const auto preactivated = [&](Net& net, auto&& before_block, auto&& before_head) {
      net.add<ms::nn::Linear<double>>("stem", ctx, 4, 4);
      before_block();
      auto& block = residual(net, Activation::identity);
      block.add<ms::nn::BatchNorm<double>>("norm", ctx, 4);
      block.add<ms::nn::Linear<double>>("in", ctx, 4, 3);
      block.add<ms::nn::Linear<double>>("out", ctx, 3, 4);
      before_head();
      net.add<ms::nn::Linear<double>>("head", ctx, 4, 2);
    };
    const auto nothing = [] {};
    Net plain, behind, tanh, row, group, second, mixed;
    preactivated(plain, nothing, nothing);
    CHECK(ms::grow::find_sites<double>(plain, Widths::all).size() == 3);
    const auto function = [&](Net& net, Activation f) {
      return [&net, f] { net.add<ms::nn::ActivationLayer<double>>("function", f); };
    };
    preactivated(behind, function(behind, Activation::relu), nothing);
    CHECK(contains(refused(behind, "stem"), "block.norm (BatchNorm) reads them behind an activation, where mean"));
    preactivated(tanh, nothing, function(tanh, Activation::tanh));
    CHECK(contains(refused(tanh, "block.out"),
                   "block.in (Linear) reads them behind block.norm (BatchNorm), and head (Linear) without a norm "
                   "through tanh"));
    preactivated(row, nothing, [&] { row.add<ms::nn::LayerNorm<double>>("row", ctx, 4); });
    CHECK(contains(refused(row, "stem"), "row (LayerNorm) reads them, and what it does to one more channel"));
    preactivated(group, nothing, [&] { group.add<ms::nn::GroupNorm<double>>("group", ctx, 2, 4); });
    CHECK(contains(refused(group, "stem"), "group (GroupNorm) reads them, and what it does to one more channel"));
    preactivated(second, nothing, [&] {
      second.add<ms::nn::BatchNorm<double>>("one", ctx, 4);
      second.add<ms::nn::BatchNorm<double>>("two", ctx, 4);
    });
    CHECK(contains(refused(second, "stem"), "two (BatchNorm) is a second norm behind one (BatchNorm)"));
    // A norm that reads a sum and is added to another.
    auto& outer = residual(mixed, Activation::identity);
    outer.add<ms::nn::Linear<double>>("stem", ctx, 4, 4);
    auto& inner =
        outer.add<ms::nn::Residual<double>>("inner", ms::nn::ResidualOptions{.activation = Activation::identity});
    inner.add<ms::nn::Linear<double>>("in", ctx, 4, 3);
    inner.add<ms::nn::Linear<double>>("out", ctx, 3, 4);
    outer.add<ms::nn::BatchNorm<double>>("norm", ctx, 4);
    outer.shortcut().add<ms::nn::Linear<double>>("linear", ctx, 4, 4);
    mixed.add<ms::nn::Linear<double>>("head", ctx, 4, 2);
    CHECK(contains(refused(mixed, "block.stem"), "block (Residual) adds what block.norm (BatchNorm) gives, which"));
  }
  {
    // Of one layer with one reader.
    Net net;
    net.add<ms::nn::Linear<double>>("stem", ctx, 4, 4);
    net.add<ms::nn::Dropout<double>>("dropout", 0.5);
    net.add<ms::nn::BatchNorm<double>>("norm", ctx, 4);
    net.add<ms::nn::Linear<double>>("head", ctx, 4, 2);
    CHECK(contains(refused(net, "stem"), "norm (BatchNorm) does not stand directly behind a single layer"));
  }
  {
    // tanh once is fine.
    Net net;
    net.add<ms::nn::Linear<double>>("stem", ctx, 4, 4);
    net.add<ms::nn::ActivationLayer<double>>("tanh", Activation::tanh);
    auto& block = residual(net, Activation::identity);
    block.add<ms::nn::Linear<double>>("in", ctx, 4, 3);
    block.add<ms::nn::Linear<double>>("out", ctx, 3, 4);
    net.add<ms::nn::Linear<double>>("head", ctx, 4, 2);
    const Site stem = ms::grow::find_site<double>(net, "stem", Widths::all);
    CHECK(stem.activation == Activation::tanh);
    CHECK(ms::grow::find_site<double>(net, "block.out", Widths::all).activation == Activation::identity);
  }
}

TEST_CASE("streams: units and moves of a source are those of plain loops over all its readers") {
  for (const Norms norms : everywhere) {
    Problem problem(norms);
    const Plain plain = problem.plain(true);
    // V_goal of both readers by central differences of the total loss: with a step of 1e-5 their rounding error is
    // 1e-16 · loss / 1e-5 ≈ 1e-9 of it, their truncation 1e-10.
    const std::size_t numbers = static_cast<std::size_t>(n * (hidden + outputs));
    std::vector<double> goal(numbers);
    for (std::size_t i = 0; i < numbers; ++i) {
      Plain::Added added;
      added.before.assign(numbers, 0.0);
      added.before[i] = 1e-5;
      const double up = plain.total(problem.x, problem.target, added);
      added.before[i] = -1e-5;
      goal[i] = -(up - plain.total(problem.x, problem.target, added)) / 2e-5;
    }
    const auto goal_of = [&](std::int64_t q, std::size_t first) {
      Dense v(q, n);
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t o = 0; o < q; ++o) v(o, i) = goal[first + static_cast<std::size_t>(i * q + o)];
      }
      return v;
    };
    const Plain::Flow flow = plain.run(problem.x, {});
    const Dense v_in = goal_of(hidden, 0), v_head = goal_of(outputs, static_cast<std::size_t>(n * hidden));
    const Dense b_in = transposed_with_ones(flow.s), b_head = transposed_with_ones(flow.t);
    for (const char* source : {"stem", "block.out"}) {
      CAPTURE(source);
      CAPTURE(static_cast<int>(norms));
      const bool stem = std::string(source) == "stem";
      const Site site = ms::grow::find_site<double>(problem.net, source, Widths::all);
      const Dense b = transposed_with_ones(stem ? flow.x : flow.h);
      const support::GrowthProblem to_in{b, b_in, v_in}, to_head{b, b_head, v_head};
      const Dense cross = stem ? beside(to_in.cross(), to_head.cross()) : to_head.cross();
      const Dense s = to_in.moment(b, b);
      const std::vector<double> lambda = support::singular_values(support::power(s, -0.5) * cross);
      const std::int64_t rank = std::min(cross.rows, cross.columns);
      const auto proposal = problem.measure(site, plain_tiny, rank);
      REQUIRE(proposal.report.lambda.size() >= static_cast<std::size_t>(rank));
      std::vector<double> found(proposal.report.lambda.begin(), proposal.report.lambda.begin() + rank);
      // 1e-9 of central differences times the condition of S^{-1/2}, below 10, and some.
      const double tolerance = 1e-6 * lambda[0];
      support::check_close(found, std::vector<double>(lambda.begin(), lambda.begin() + rank), tolerance, "lambda");
      const support::HostInsertion units = support::on_host(problem.ctx, proposal.insertion);
      REQUIRE(units.units == rank);
      REQUIRE(units.outputs == cross.columns);
      const Dense product = support::transposed(Dense(units.units, units.inputs, units.fan_in)) *
                            Dense(units.units, units.outputs, units.fan_out);
      const Dense expected = support::power(s, -1) * cross;
      support::check_dense(product, expected, 1e-6 * support::largest(expected), "all units");
      const double goals = to_head.norm2(v_head) + (stem ? to_in.norm2(v_in) : 0.0);
      CHECK(proposal.report.goal_norm2 == doctest::Approx(goals).epsilon(1e-7));
      const double left = to_head.norm2(to_head.residual()) + (stem ? to_in.norm2(to_in.residual()) : 0.0);
      CHECK(proposal.report.bottleneck == doctest::Approx(left).epsilon(1e-7));
      std::vector<double> moves = stem ? to_in.best_move().values : std::vector<double>();
      const std::vector<double> head_moves = to_head.best_move().values;
      moves.insert(moves.end(), head_moves.begin(), head_moves.end());
      support::check_close(units.move, moves, 1e-6 * support::scale_of(moves), "moves");
      // A norm on the way takes means out of what new fan-ins of zero would answer.
      const auto cross_of = [&](const Dense& v, const ms::nn::BatchNorm<double>* input_norm) {
        return to_head.moment(site.producer.norm() || input_norm ? centred(b) : b, v);
      };
      const auto* last_norm = site.reader(site.readers() - 1).input_norm;
      const Dense m =
          stem ? beside(cross_of(v_in, site.input_norm), cross_of(v_head, last_norm)) : cross_of(v_head, last_norm);
      const auto gradmax = problem.measure(site, {.method = ms::grow::gradmax(), .significance = 0.0}, 2);
      REQUIRE(gradmax.report.lambda.size() >= 2);
      const std::vector<double> largest = support::singular_values(m);
      for (std::size_t k = 0; k < 2; ++k) {
        CHECK(std::abs(gradmax.report.lambda[k] - largest[k]) <= 1e-6 * largest[0]);
      }
    }
  }
}

TEST_CASE("streams: the slope of the loss is the one that is reported") {
  for (const Norms norms : everywhere) {
    for (const char* source : {"stem", "block.out"}) {
      for (const bool moves : {false, true}) {
        CAPTURE(source);
        CAPTURE(static_cast<int>(norms));
        CAPTURE(moves);
        Problem problem(norms);
        const Site site = ms::grow::find_site<double>(problem.net, source, Widths::all);
        auto options = plain_tiny;
        options.move_weights = moves;
        auto proposal = problem.measure(site, options, 3);
        REQUIRE(proposal.insertion.units >= 2);
        proposal.insertion.rider_rows = ms::grow::draw_rider_rows(problem.ctx, site, proposal.insertion.units);
        const double before = problem.loss(), gamma = 1e-7;
        ms::grow::detail::StagedEdit<double> staged(
            problem.ctx, ms::grow::make_edit(problem.ctx, site, proposal.insertion, gamma), problem.net);
        staged.swap();
        const double measured = (before - problem.loss()) / gamma;
        staged.swap();
        CHECK(problem.loss() == before);
        // 1 + O(γ) where no ReLU is passed on the way, rounding 1e-16 / γ; ε of the norm counts to 1e-5.
        CHECK(measured / proposal.report.slope == doctest::Approx(1.0).epsilon(1e-3));
      }
    }
  }
}

TEST_CASE("streams: at an amplitude the new channels carry the units to all readers behind, and nothing before") {
  for (const Norms norms : everywhere) {
    for (const char* source : {"stem", "block.out"}) {
      CAPTURE(source);
      CAPTURE(static_cast<int>(norms));
      Problem problem(norms);
      const Site site = ms::grow::find_site<double>(problem.net, source, Widths::all);
      auto proposal = problem.measure(site, plain_tiny, 2);
      ms::grow::Insertion& there = proposal.insertion;
      REQUIRE(there.units == 2);
      there.rider_rows = ms::grow::draw_rider_rows(problem.ctx, site, there.units);
      const double gamma = 0.3, root = std::sqrt(gamma);
      there.split = ms::grow::balanced_split<double>(problem.ctx, site, there, gamma);
      const support::HostInsertion units = support::on_host(problem.ctx, there);
      const bool stem = std::string(source) == "stem";
      for (const bool training : {true, false}) {
        CAPTURE(training);
        Plain plain = problem.plain(training);
        Plain::Added added;
        const Dense fan_in = root * Dense(2, units.inputs, units.fan_in);
        (stem ? added.stem : added.out) = fan_in;
        const auto fan_out = [&](std::int64_t q, std::int64_t first) {
          Dense result(2, q);
          for (std::int64_t k = 0; k < 2; ++k) {
            for (std::int64_t o = 0; o < q; ++o) {
              result(k, o) = root * units.fan_out[static_cast<std::size_t>(k * units.outputs + first + o)];
            }
          }
          return result;
        };
        if (stem) added.to_in = fan_out(hidden, 0);
        added.to_head = fan_out(outputs, stem ? hidden : 0);
        std::size_t at = 0;
        const auto move = [&](Plain::Layer& layer) {
          for (std::int64_t o = 0; o < layer.w.rows; ++o) {
            for (std::int64_t k = 0; k < layer.w.columns; ++k) layer.w(o, k) += gamma * units.move[at++];
            layer.b[static_cast<std::size_t>(o)] += gamma * units.move[at++];
          }
        };
        if (stem) move(plain.in);
        move(plain.head);
        REQUIRE(at == units.move.size());
        const std::vector<double> expected = plain.run(problem.x, added).y.values;
        ms::grow::detail::StagedEdit<double> staged(problem.ctx, ms::grow::make_edit(problem.ctx, site, there, gamma),
                                                    problem.net);
        staged.swap();
        const std::vector<double> actual = problem.output(training);
        // The new channels, behind what the network has: units behind the source, and 0 before it.
        const Site grown = ms::grow::find_site<double>(problem.net, source, Widths::all);
        CHECK(grown.width() == width + 2);
        CHECK(grown.earlier.size() == (stem ? 0 : 1));
        for (const auto& reader : grown.earlier) {
          const std::vector<double> weights = ms::to_host(problem.ctx, reader.consumer.weight().value);
          for (std::size_t i = 0; i < weights.size(); ++i) {
            if (static_cast<std::int64_t>(i) % (width + 2) >= width) CHECK(weights[i] == 0.0);
          }
        }
        staged.swap();
        // A few hundred roundings of numbers of this scale; the fan-ins go through a norm that takes its scale out.
        support::check_close(actual, expected, 1e-12 * support::scale_of(expected), "outputs");
      }
    }
  }
}

TEST_CASE("streams: new channels have the scale of the source with the largest part, not that of a block just joined") {
  Problem problem(Norms::behind);
  const Site site = ms::grow::find_site<double>(problem.net, "block.out", Widths::all);
  ms::kernels::fill(problem.ctx, 0.01, site.producer.norm()->weight().value.view());
  REQUIRE(site.riders.size() == 1);
  for (const double largest : {2.0, 0.001}) {
    ms::kernels::fill(problem.ctx, largest, site.riders[0].norm()->weight().value.view());
    auto proposal = problem.measure(site, plain_tiny, 2);
    REQUIRE(proposal.insertion.units == 2);
    constexpr double gamma = 0.3;
    const std::vector<double> split =
        ms::to_host(problem.ctx, ms::grow::balanced_split<double>(problem.ctx, site, proposal.insertion, gamma));
    const std::vector<double> variance = ms::to_host(problem.ctx, proposal.insertion.variance);
    REQUIRE(split.size() == 2);
    for (std::size_t k = 0; k < 2; ++k) {
      CHECK(split[k] * std::sqrt(gamma * variance[k]) == doctest::Approx(std::max(largest, 0.01)));
    }
  }
}

TEST_CASE("streams: methods and sizes that do not fit are refused") {
  Problem problem(Norms::behind);
  const Site site = ms::grow::find_site<double>(problem.net, "stem", Widths::all);
  for (const ms::grow::Method& method : {ms::grow::tiny_joint(), ms::grow::tiny_fisher()}) {
    const auto message = message_of<ms::ArgumentError>([&] { (void)problem.measure(site, {.method = method}, 2); });
    CHECK(contains(message, "site stem: " + method->name() + " reads P or E of a single consumer"));
  }
  CHECK(contains(message_of<ms::ShapeError>([&] {
                   (void)site.shape({n, inputs});
                 }),
                 "a stream with 2 readers has a shape for each"));
  const auto refused = [&](auto&& change) {
    support::HostInsertion units = support::on_host(problem.ctx, problem.measure(site, plain_tiny, 2).insertion);
    change(units);
    try {
      (void)ms::grow::make_edit(problem.ctx, site, support::on_device(problem.ctx, units), 1.0);
    } catch (const ms::Error& error) {
      return error.message();
    }
    return std::string();
  };
  CHECK(refused([](auto&) {}).empty());
  CHECK(contains(refused([](auto& units) { units.outputs = 1; }),
                 "and fan-out 1 do not fit a site with fan-in 6 and fan-out 5, that of all its readers"));
  CHECK(contains(refused([](auto& units) { units.inputs = 1; }),
                 "units with fan-in 1 and fan-out 5 do not fit a site with fan-in 6"));
  CHECK(contains(refused([](auto& units) { units.move.pop_back(); }), "numbers in move; it needs 25"));
  CHECK(contains(refused([](auto& units) { units.rider_rows.resize(3); }), "have 3 riders with rows; it needs 1"));
  CHECK(contains(refused([](auto& units) { units.rider_rows = {{1.0}}; }), "have 1 numbers for a rider; it needs 8"));
  CHECK(contains(refused([](auto& units) { units.copies = {0, 4}; }), "a copy of unit 4, but there are 4"));
  CHECK(contains(refused([](auto& units) { units.fan_in_factor.assign(width, 2.0); }), "fan_in_factor would scale"));
  CHECK(contains(refused([](auto& units) { units.consumer_factor = 2.0; }), "head (Linear) has no BatchNorm behind"));
}

TEST_SUITE_END();

}  // namespace grow_streams_test
