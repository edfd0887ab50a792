// What the optimisers know of growth: the first step of every element, and learning rates by it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/prune.hpp>
#include <meristem/io/checkpoint.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/sequential.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <support/check.hpp>

namespace grow_growth_rate_test {

namespace ms = meristem;
using ms::optim::AdamW;
using ms::optim::AdamWOptions;
using ms::optim::GrowthRate;
using ms::optim::Optimizer;
using ms::optim::Sgd;
using ms::optim::SgdOptions;
using support::contains;
using support::message_of;

namespace {

using Map = std::vector<std::int64_t>;
using Net = ms::nn::Sequential<double>;

constexpr std::int64_t in = 2, out = 3;

/// 2 - width - 3.
Net net_of(ms::Context& ctx, std::int64_t width) {
  Net net;
  net.add<ms::nn::Linear<double>>("a", ctx, in, width);
  net.add<ms::nn::ActivationLayer<double>>("relu", ms::nn::Activation::relu);
  net.add<ms::nn::Linear<double>>("b", ctx, width, out);
  return net;
}

/// One scalar of the network by where it lies: parameter, unit, and place within the unit. It knows when it joined.
struct Scalar {
  double w, v = 0.0, m = 0.0;
  int first;
};

/// The network's scalars that belong to units, by the unit's name: unit names survive reordering.
struct Oracle {
  struct Unit {
    std::vector<Scalar> fan_in, fan_out;  // weights and bias of a; weights of b
  };
  std::vector<Unit> units;
  std::vector<Scalar> bias;  // of b
};

double gradient(int step, int unit, std::size_t place) {
  return std::sin(1.7 * step + 0.9 * unit + 0.37 * static_cast<double>(place)) + 0.2;
}
double value(int unit, std::size_t place) { return std::cos(2.3 * unit + 0.71 * static_cast<double>(place)); }

/// Both sides of the comparison: a network whose units have names, and the plain scalars.
class Twins {
 public:
  Twins(ms::Context& ctx, const std::function<std::unique_ptr<Optimizer<double>>(Net&)>& make,
        std::function<void(Scalar&, double g, int age, double rate)> rule, GrowthRate rate, double learning_rate)
      : ctx_(ctx),
        net_(net_of(ctx, 2)),
        optimizer_(make(net_)),
        rule_(std::move(rule)),
        rate_(rate),
        learning_rate_(learning_rate) {
    names_ = {0, 1};
    for (const int name : names_) oracle_[name] = unit_of(name);
    for (std::size_t i = 0; i < out; ++i) bias_.push_back({.w = value(-1, i), .first = 1});
    write();
  }

  void step() {
    ++steps_;
    put([&](int unit, std::size_t place) { return gradient(steps_, unit, place); }, false);
    // The rule reads norms before the step.
    const std::map<int, double> weight_a = norms(true), weight_b = norms(false);
    const auto update = [&](Scalar& s, double g, const std::map<int, double>* norm) {
      double factor = 1.0;
      const int age = steps_ - s.first + 1;
      if (rate_.rule == GrowthRate::Rule::rewarm && s.first > 1 && age <= rate_.steps) {
        factor = rate_.start + (1.0 - rate_.start) * (age - 1) / static_cast<double>(rate_.steps);
      }
      if (rate_.rule == GrowthRate::Rule::norm_ratio && norm != nullptr) {
        factor = norm->at(s.first) / norm->begin()->second;
      }
      rule_(s, g, age, learning_rate_ * factor);
    };
    for (const int name : names_) {
      Oracle::Unit& unit = oracle_.at(name);
      for (std::size_t i = 0; i < in + 1; ++i) {
        update(unit.fan_in[i], gradient(steps_, name, i), i < in ? &weight_a : nullptr);
      }
      for (std::size_t i = 0; i < out; ++i) update(unit.fan_out[i], gradient(steps_, name, 10 + i), &weight_b);
    }
    for (std::size_t i = 0; i < out; ++i) update(bias_[i], gradient(steps_, -1, i), nullptr);
    optimizer_->step(ctx_);
  }

  /// New units with these names at the places where `map` has -1.
  void edit(const Map& map, const std::vector<int>& joining) {
    ms::grow::Edit<double> edit;
    std::vector<double> rows, biases, columns;
    for (const int name : joining) {
      oracle_[name] = unit_of(name);
      for (std::size_t i = 0; i < in; ++i) rows.push_back(value(name, i));
      biases.push_back(value(name, in));
    }
    for (std::size_t i = 0; i < out; ++i) {
      for (const int name : joining) columns.push_back(value(name, 10 + i));
    }
    const auto n = static_cast<std::int64_t>(joining.size());
    edit.axes.push_back({a().weight().id, 0, map, ms::from_host<double>(ctx_, {n, in}, rows)});
    edit.axes.push_back({a().bias().id, 0, map, ms::from_host<double>(ctx_, {n}, biases)});
    edit.axes.push_back({b().weight().id, 1, map, ms::from_host<double>(ctx_, {out, n}, columns)});
    ms::grow::apply(ctx_, edit, net_, optimizer_.get());
    std::vector<int> names;
    std::size_t next = 0;
    for (const std::int64_t from : map) {
      names.push_back(from >= 0 ? names_[static_cast<std::size_t>(from)] : joining[next++]);
    }
    names_ = names;
  }

  ms::grow::Removed<double> prune(const std::vector<std::int64_t>& units) {
    const auto site = ms::grow::find_sites<double>(net_).front();
    before_ = names_;
    for (auto unit = units.rbegin(); unit != units.rend(); ++unit) names_.erase(names_.begin() + *unit);
    return ms::grow::prune(ctx_, site, units, net_, optimizer_.get());
  }
  void grow_back(ms::grow::Removed<double>& removed) {
    ms::grow::put_back(ctx_, std::move(removed), net_, optimizer_.get());
    names_ = before_;
  }

  void check(const std::string& what) {
    INFO(what);
    std::vector<double> weight, bias, columns;
    for (const int name : names_) {
      for (std::size_t i = 0; i < in; ++i) weight.push_back(oracle_.at(name).fan_in[i].w);
      bias.push_back(oracle_.at(name).fan_in[in].w);
    }
    for (std::size_t i = 0; i < out; ++i) {
      for (const int name : names_) columns.push_back(oracle_.at(name).fan_out[i].w);
    }
    // A step rounds some ten numbers of the size of weights and momenta, and norms of ten squares.
    const double tolerance = 100 * support::eps<double> * (steps_ + 1);
    support::check_close(ms::to_host(ctx_, a().weight().value), weight, tolerance, "a.weight");
    support::check_close(ms::to_host(ctx_, a().bias().value), bias, tolerance, "a.bias");
    support::check_close(ms::to_host(ctx_, b().weight().value), columns, tolerance, "b.weight");
    std::vector<double> last;
    for (const Scalar& s : bias_) last.push_back(s.w);
    support::check_close(ms::to_host(ctx_, b().bias().value), last, tolerance, "b.bias");
  }

  Net& net() { return net_; }
  Optimizer<double>& optimizer() { return *optimizer_; }
  ms::nn::Linear<double>& a() { return dynamic_cast<ms::nn::Linear<double>&>(net_[0]); }
  ms::nn::Linear<double>& b() { return dynamic_cast<ms::nn::Linear<double>&>(net_[2]); }

 private:
  Oracle::Unit unit_of(int name) const {
    Oracle::Unit unit;
    for (std::size_t i = 0; i < in + 1; ++i) unit.fan_in.push_back({.w = value(name, i), .first = steps_ + 1});
    for (std::size_t i = 0; i < out; ++i) unit.fan_out.push_back({.w = value(name, 10 + i), .first = steps_ + 1});
    return unit;
  }

  /// Frobenius norm of a weight's elements by first step, the oldest first.
  std::map<int, double> norms(bool fan_in) const {
    std::map<int, double> result;
    for (const int name : names_) {
      const Oracle::Unit& unit = oracle_.at(name);
      for (std::size_t i = 0; i < static_cast<std::size_t>(fan_in ? in : out); ++i) {
        const Scalar& s = (fan_in ? unit.fan_in : unit.fan_out)[i];
        result[s.first] += s.w * s.w;
      }
    }
    for (auto& [first, norm] : result) norm = std::sqrt(norm);
    return result;
  }

  /// Sets gradients, or values.
  void put(const std::function<double(int, std::size_t)>& number, bool values) {
    const auto set = [&](ms::nn::Parameter<double>& parameter, const std::vector<double>& numbers) {
      (values ? parameter.value : parameter.gradient) = ms::from_host<double>(ctx_, parameter.value.shape(), numbers);
    };
    std::vector<double> weight, bias, columns, last;
    for (const int name : names_) {
      for (std::size_t i = 0; i < in; ++i) weight.push_back(number(name, i));
      bias.push_back(number(name, in));
    }
    for (std::size_t i = 0; i < out; ++i) {
      for (const int name : names_) columns.push_back(number(name, 10 + i));
      last.push_back(number(-1, i));
    }
    set(a().weight(), weight);
    set(a().bias(), bias);
    set(b().weight(), columns);
    set(b().bias(), last);
  }
  void write() { put(value, true); }

  ms::Context& ctx_;
  Net net_;
  std::unique_ptr<Optimizer<double>> optimizer_;
  std::function<void(Scalar&, double, int, double)> rule_;
  GrowthRate rate_;
  double learning_rate_;
  std::vector<int> names_, before_;
  std::map<int, Oracle::Unit> oracle_;
  std::vector<Scalar> bias_;
  int steps_ = 0;
};

constexpr double decay = 0.1;

/// Calls `use(twins)` for every optimiser and every rule.
template <class Use>
void for_every_rule(const Use& use) {
  for (const GrowthRate& rate :
       {ms::optim::constant_rate(), ms::optim::norm_ratio(), ms::optim::rewarm(0.25, 3), ms::optim::rewarm(3.0, 100)}) {
    CAPTURE(static_cast<int>(rate.rule));
    CAPTURE(rate.start);
    for (const bool adam : {false, true}) {
      CAPTURE(adam);
      ms::Context ctx;
      const auto make = [&](Net& net) -> std::unique_ptr<Optimizer<double>> {
        if (adam) {
          return std::make_unique<AdamW<double>>(
              net, AdamWOptions{.learning_rate = 0.03, .epsilon = 1e-3, .weight_decay = decay, .growth_rate = rate});
        }
        return std::make_unique<Sgd<double>>(
            net,
            SgdOptions{
                .learning_rate = 0.03, .momentum = 0.9, .dampening = 0.4, .weight_decay = 0.0, .growth_rate = rate});
      };
      const auto rule = [&](Scalar& s, double g, int age, double lr) {
        if (adam) {
          s.m = 0.9 * s.m + 0.1 * g;
          s.v = 0.999 * s.v + 0.001 * g * g;
          const double m = s.m / (1 - std::pow(0.9, age)), v = s.v / (1 - std::pow(0.999, age));
          s.w -= lr * m / (std::sqrt(v) + 1e-3);
        } else {
          s.v = age == 1 ? g : 0.9 * s.v + 0.6 * g;
          s.w -= lr * s.v;
        }
      };
      Twins twins(ctx, make, rule, rate, 0.03);
      if (adam) {
        // The oracle has no decay: set it off by a group.
        twins.optimizer().set_group("*", {.weight_decay = 0.0});
      }
      use(ctx, twins);
    }
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("growth rate: units that join at different times take the steps of scalars of that age") {
  for_every_rule([](ms::Context&, Twins& twins) {
    for (int i = 0; i < 4; ++i) twins.step();
    twins.check("before growth");
    twins.edit({0, 1, -1, -1}, {2, 3});
    for (int i = 0; i < 2; ++i) twins.step();
    twins.check("after the first growth");
    twins.edit({3, -1, 0, 2, 1}, {4});  // and reordered
    for (int i = 0; i < 5; ++i) twins.step();
    twins.check("after the second growth");
  });
}

TEST_CASE("growth rate: units that are pruned and grown back keep their age, others theirs") {
  for_every_rule([](ms::Context&, Twins& twins) {
    for (int i = 0; i < 3; ++i) twins.step();
    twins.edit({0, 1, -1, -1}, {2, 3});
    for (int i = 0; i < 2; ++i) twins.step();
    const auto steps_a = twins.optimizer().first_steps(twins.a().weight().id);
    auto removed = twins.prune({0, 2});
    twins.grow_back(removed);
    CHECK(twins.optimizer().first_steps(twins.a().weight().id) == steps_a);
    twins.step();
    twins.check("grown back at once");
    (void)twins.prune({1, 3});
    for (int i = 0; i < 2; ++i) twins.step();
    twins.check("pruned");
  });
}

TEST_CASE("growth rate: where all that joined is gone, nothing is left of it") {
  ms::Context ctx;
  Net net = net_of(ctx, 2);
  AdamW<double> adamw(net, {});
  adamw.step(ctx);
  const auto site = ms::grow::find_sites<double>(net).front();
  ms::grow::Edit<double> edit;
  const Map map = {0, -1, 1};
  edit.axes.push_back({site.producer.weight().id, 0, map, ms::zeros<double>(ctx, {1, in})});
  edit.axes.push_back({site.producer.bias().id, 0, map, ms::zeros<double>(ctx, {1})});
  edit.axes.push_back({site.consumer.weight().id, 1, map, ms::zeros<double>(ctx, {out, 1})});
  ms::grow::detail::StagedEdit<double> staged(ctx, edit, net, &adamw);
  ms::optim::FirstSteps& steps = adamw.first_steps(site.producer.weight().id);
  const ms::optim::FirstSteps before = steps;
  CHECK(before.axes.empty());
  staged.swap();
  CHECK(steps.axes.at(0) == Map{1, 2, 1});
  staged.swap();
  CHECK(steps == before);
  staged.swap();
  (void)ms::grow::prune(ctx, site, {1}, net, &adamw);
  CHECK(steps == before);
}

TEST_CASE("growth rate: the first AdamW step of a unit that joins late is one learning rate") {
  ms::Context ctx;
  Net net = net_of(ctx, 1);
  AdamW<double> adamw(net, {.learning_rate = 1e-3, .weight_decay = 0.0});
  const auto step = [&] {
    net.visit_parameters([&](ms::nn::Parameter<double>& parameter) {
      parameter.gradient = ms::from_host<double>(
          ctx, parameter.value.shape(), std::vector<double>(static_cast<std::size_t>(parameter.value.size()), 1.0));
    });
    adamw.step(ctx);
  };
  for (int i = 0; i < 1000; ++i) step();
  const auto site = ms::grow::find_sites<double>(net).front();
  auto removed = ms::grow::prune(ctx, site, {0}, net, &adamw);
  for (auto& moments : removed.slices.moments) moments.clear();  // then the unit joins anew
  ms::grow::put_back(ctx, std::move(removed), net, &adamw);
  std::vector<std::vector<double>> before, after;
  for (auto* parameter : ms::nn::parameters(net)) before.push_back(ms::to_host(ctx, parameter->value));
  step();
  for (auto* parameter : ms::nn::parameters(net)) after.push_back(ms::to_host(ctx, parameter->value));
  for (std::size_t i = 0; i < before.size(); ++i) {
    for (std::size_t k = 0; k < before[i].size(); ++k) {
      // The epsilon of 1e-8 takes as much of the step.
      CHECK((before[i][k] - after[i][k]) / 1e-3 == doctest::Approx(1.0).epsilon(1e-7));
    }
  }
}

TEST_CASE("growth rate: Sgd at a constant rate gives grown parameters the bits of one step for all") {
  ms::Context ctx({.seed = 4});
  Net net = net_of(ctx, 2), same = net_of(ctx, 4);
  Sgd<double> sgd(net, {.momentum = 0.9, .weight_decay = 0.01}), plain(same, {.momentum = 0.9, .weight_decay = 0.01});
  sgd.step(ctx);
  const auto site = ms::grow::find_sites<double>(net).front();
  ms::grow::Edit<double> edit;
  const Map map = {0, 1, -1, -1};
  edit.axes.push_back({site.producer.weight().id, 0, map, ms::zeros<double>(ctx, {2, in})});
  edit.axes.push_back({site.producer.bias().id, 0, map, ms::zeros<double>(ctx, {2})});
  edit.axes.push_back({site.consumer.weight().id, 1, map, ms::zeros<double>(ctx, {out, 2})});
  ms::grow::apply(ctx, edit, net, &sgd);
  const auto grown = ms::nn::parameters(net), others = ms::nn::parameters(same);
  plain.step(ctx);
  for (std::size_t i = 0; i < grown.size(); ++i) {
    others[i]->value = ms::clone(ctx, grown[i]->value);
    plain.state(others[i]->id)[0] = ms::clone(ctx, sgd.state(grown[i]->id)[0]);
  }
  for (int step = 0; step < 3; ++step) {
    for (std::size_t i = 0; i < grown.size(); ++i) {
      const ms::Shape& shape = grown[i]->value.shape();
      const auto g = support::normal_values<double>(shape.size(), 10 * static_cast<std::uint64_t>(step) + i);
      grown[i]->gradient = ms::from_host<double>(ctx, shape, g);
      others[i]->gradient = ms::from_host<double>(ctx, shape, g);
    }
    sgd.step(ctx);
    plain.step(ctx);
  }
  for (std::size_t i = 0; i < grown.size(); ++i) {
    support::check_same_bits(ms::to_host(ctx, grown[i]->value), ms::to_host(ctx, others[i]->value), grown[i]->name);
  }
}

TEST_CASE("growth rate: a stage of zeros takes the rate itself under norm_ratio") {
  ms::Context ctx;
  ms::nn::Linear<double> linear(ctx, 1, 1, {.bias = false});
  linear.weight().value = ms::from_host<double>(ctx, {1, 1}, {2.0});
  Sgd<double> sgd(linear, {.learning_rate = 0.5, .growth_rate = ms::optim::norm_ratio()});
  sgd.step(ctx);
  ms::grow::Edit<double> edit;
  edit.axes.push_back({linear.weight().id, 0, {0, -1}, ms::zeros<double>(ctx, {1, 1})});
  ms::grow::apply<double>(ctx, edit, linear, &sgd);
  linear.weight().gradient = ms::from_host<double>(ctx, {2, 1}, {0.5, -1.0});
  sgd.step(ctx);
  support::check_same_bits(ms::to_host(ctx, linear.weight().value), {1.75, 0.5});
  // Now the norms are 1.75 and 0.5.
  sgd.step(ctx);
  support::check_close(ms::to_host(ctx, linear.weight().value), {1.5, 0.5 + 0.5 * 0.5 / 1.75},
                       8 * support::eps<double>);
}

TEST_CASE("growth rate: a checkpoint brings ages, rules and groups back, and training goes on with the same bits") {
  const std::string path = (std::filesystem::temp_directory_path() / "meristem_growth_rate.ckpt").string();
  for_every_rule([&](ms::Context& ctx, Twins& twins) {
    for (int i = 0; i < 3; ++i) twins.step();
    twins.edit({0, 1, -1, -1}, {2, 3});
    twins.step();
    twins.edit({-1, 1, 2, 0}, {4});
    twins.optimizer().set_group("b.*", {.learning_rate_factor = 0.5, .weight_decay = 0.25});
    ms::io::save_checkpoint<double>(path, ctx, twins.net(), twins.optimizer());
    const auto checkpoint = ms::io::load_checkpoint<double>(path);
    Net net = checkpoint.network(ctx);
    const auto optimizer = checkpoint.optimizer(net);
    checkpoint.restore(ctx, net, *optimizer);
    CHECK(optimizer->growth_rate() == twins.optimizer().growth_rate());
    const auto those = ms::nn::parameters(twins.net()), restored = ms::nn::parameters(net);
    for (int i = 0; i < 4; ++i) {
      twins.step();
      for (std::size_t p = 0; p < those.size(); ++p) restored[p]->gradient = ms::clone(ctx, those[p]->gradient);
      optimizer->step(ctx);
    }
    for (std::size_t p = 0; p < those.size(); ++p) {
      CHECK(optimizer->first_steps(restored[p]->id) == twins.optimizer().first_steps(those[p]->id));
      CHECK(optimizer->group(restored[p]->id) == twins.optimizer().group(those[p]->id));
      support::check_same_bits(ms::to_host(ctx, restored[p]->value), ms::to_host(ctx, those[p]->value), those[p]->name);
    }
  });
}

TEST_CASE("growth rate: an edit that the optimiser was not given is told") {
  ms::Context ctx;
  ms::nn::Linear<double> linear(ctx, 2, 2);
  Sgd<double> sgd(linear, {.growth_rate = ms::optim::rewarm(0.5, 2)});
  sgd.step(ctx);
  const auto edit_of = [&](std::int64_t width) {
    ms::grow::Edit<double> edit;
    edit.axes.push_back({linear.weight().id, 0, ms::grow::appended(width, 1), ms::zeros<double>(ctx, {1, 2})});
    return edit;
  };
  ms::grow::apply<double>(ctx, edit_of(2), linear, &sgd);
  ms::grow::apply<double>(ctx, edit_of(3), linear);
  CHECK(contains(message_of<ms::ShapeError>([&] { sgd.step(ctx); }),
                 "weight has shape (4, 2), but not when it last grew; give the optimiser to every edit"));
  CHECK(contains(message_of<ms::ShapeError>([&] { ms::grow::apply<double>(ctx, edit_of(4), linear, &sgd); }),
                 "give the optimiser to every edit"));
}

TEST_CASE("growth rate: bad rules are told") {
  const double nan = std::nan("");
  CHECK(message_of<ms::ArgumentError>([&] { (void)ms::optim::rewarm(-1.0, 5); }) ==
        "rewarm: start is -1, steps 5; start must be 0 or more and finite, steps 1 or more");
  CHECK_THROWS_AS((void)ms::optim::rewarm(nan, 5), ms::ArgumentError);
  CHECK_THROWS_AS((void)ms::optim::rewarm(0.5, 0), ms::ArgumentError);
  ms::Context ctx;
  ms::nn::Linear<double> linear(ctx, 2, 2);
  CHECK_THROWS_AS(Sgd<double>(linear, {.growth_rate = {.rule = GrowthRate::Rule::rewarm}}), ms::ArgumentError);
  CHECK_THROWS_AS(AdamW<double>(linear, {.growth_rate = {.rule = GrowthRate::Rule::rewarm, .start = -1, .steps = 3}}),
                  ms::ArgumentError);
}

TEST_SUITE_END();

}  // namespace grow_growth_rate_test
