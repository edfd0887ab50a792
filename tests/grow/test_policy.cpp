// When, where and how many: the values that growth policies are made of.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/grow/policy/budget.hpp>
#include <meristem/grow/policy/how_many.hpp>
#include <meristem/grow/policy/samples.hpp>
#include <meristem/grow/policy/when.hpp>
#include <meristem/grow/policy/where.hpp>
#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/models/vgg.hpp>
#include <support/check.hpp>
#include <support/units_on_host.hpp>

namespace grow_policy_test {

namespace ms = meristem;
using ms::grow::HowMany;
using ms::grow::When;
using ms::grow::detail::Evidence;
using support::contains;
using support::message_of;

namespace {

/// The epochs 1 ... last at which the condition is due.
std::vector<std::int64_t> due_epochs(When when, std::int64_t last) {
  std::vector<std::int64_t> due;
  for (std::int64_t epoch = 1; epoch <= last; ++epoch) {
    if (when({.epoch = epoch})) due.push_back(epoch);
  }
  return due;
}

/// Indices of the losses at which the condition is due.
std::vector<std::size_t> due_losses(When when, const std::vector<double>& losses) {
  std::vector<std::size_t> due;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (when({.epoch = static_cast<std::int64_t>(i) + 1, .loss = losses[i]})) due.push_back(i);
  }
  return due;
}

using Epochs = std::vector<std::int64_t>;
using Indices = std::vector<std::size_t>;

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("when: every n epochs or steps, up to an epoch") {
  CHECK(due_epochs(When(), 10) == Epochs{});
  CHECK(due_epochs(When::every_epochs(3), 10) == Epochs{3, 6, 9});
  CHECK(due_epochs(When::every_epochs(3) && When::until_epoch(7), 10) == Epochs{3, 6});
  CHECK(due_epochs(When::every_epochs(4) || When::every_epochs(3), 10) == Epochs{3, 6, 9});
  When steps = When::every_steps(20);
  std::vector<std::int64_t> due;
  for (std::int64_t step = 0; step <= 100; step += 8) {
    if (steps({.step = step})) due.push_back(step);
  }
  // At least 20 since the last one.
  CHECK(due == Epochs{24, 48, 72, 96});
}

TEST_CASE("when: a plateau is patience losses without a sufficient fall, and starts over") {
  const auto plateau = [](std::int64_t patience, double least) { return When::plateau(patience, least); };
  CHECK(due_losses(plateau(2, 0.1), {10, 8, 6, 5.9, 5.8, 5.0, 4.9, 4.8}) == Indices{4, 7});
  // The first loss after growth sets the mark, even if it is higher.
  CHECK(due_losses(plateau(1, 0.0), {2, 2, 5, 4, 4}) == Indices{1, 4});
  CHECK(due_losses(plateau(2, 0.0), {3, 2, 1, 0.5}) == Indices{});
  CHECK(due_losses(plateau(2, 0.1) && When::every_epochs(7), {1, 1, 1, 1, 1, 1, 1, 1}) == Indices{6});
}

TEST_CASE("when: the bottleneck is measured only if the answer depends on it") {
  int measured = 0;
  double share = 0.0;
  const auto at = [&](std::int64_t epoch) {
    return When::Progress{.epoch = epoch, .unexpressed = [&] {
                            ++measured;
                            return share;
                          }};
  };
  When both = When::bottleneck(0.5) && When::every_epochs(2);
  CHECK_FALSE(both(at(1)));
  CHECK(measured == 0);
  CHECK_FALSE(both(at(2)));
  CHECK(measured == 1);
  share = 0.5;
  CHECK_FALSE(both(at(3)));  // not above
  share = 0.51;
  CHECK(both(at(4)));
  CHECK_FALSE(both(at(5)));
  CHECK(measured == 3);
  When either = When::every_epochs(2) || When::bottleneck(0.6);
  CHECK(either(at(2)));
  CHECK(measured == 3);
  CHECK_FALSE(either(at(3)));
  CHECK(measured == 4);
}

TEST_CASE("when: the state is plain numbers, and restoring it goes on where it was") {
  const auto make = [] { return (When::every_epochs(3) && When::until_epoch(50)) || When::plateau(2, 0.01); };
  const std::vector<double> losses{5, 4, 3, 3, 3, 2.9, 2.9, 2.9, 2.8, 2.8, 2.8, 2.8, 2.7, 2.7};
  std::vector<bool> whole, parts;
  When one = make();
  for (std::size_t i = 0; i < losses.size(); ++i) {
    whole.push_back(one({.epoch = static_cast<std::int64_t>(i) + 1, .loss = losses[i]}));
  }
  When two = make();
  for (std::size_t i = 0; i < losses.size(); ++i) {
    When next = make();
    next.restore(two.state());
    two = next;
    parts.push_back(two({.epoch = static_cast<std::int64_t>(i) + 1, .loss = losses[i]}));
  }
  CHECK(whole == parts);
  CHECK(contains(message_of<ms::ArgumentError>([&] { When::every_epochs(3).restore(one.state()); }),
                 "are not those of every 3 epochs"));
  CHECK(make().describe() == "(every 3 epochs and until epoch 50) or a plateau of 2");
}

TEST_CASE("when: numbers that make no sense and progress that lacks something are refused") {
  const auto refused = [](auto&& make) { return message_of<ms::ArgumentError>(make); };
  CHECK(contains(refused([] { (void)When::every_epochs(0); }), "every_epochs(0)"));
  CHECK(contains(refused([] { (void)When::every_steps(-2); }), "every_steps(-2)"));
  CHECK(contains(refused([] { (void)When::plateau(0); }), "plateau(0): the number must be at least 1"));
  CHECK(contains(refused([] { (void)When::plateau(3, 1.0); }), "plateau: 1 is given; it must lie in [0, 1)"));
  CHECK(contains(refused([] { (void)When::bottleneck(1.0); }), "bottleneck: 1 is given"));
  CHECK(contains(refused([] { (void)When::until_epoch(-1); }), "-1 epochs"));
  CHECK(contains(refused([] { (void)When::plateau()({.epoch = 1}); }), "plateau needs When::Progress::loss"));
  CHECK(contains(refused([] { (void)When::bottleneck(0.5)({.epoch = 1}); }), "needs When::Progress::unexpressed"));
  CHECK(contains(
      message_of<ms::NumericError>([] { (void)When::bottleneck(0.5)({.unexpressed = [] { return std::nan(""); }}); }),
      "is nan"));
}

TEST_CASE("how many: the smallest limit counts") {
  const ms::grow::Candidate layer{.report = {.name = "layer1", .width = 10}, .fan_in = 7, .fan_out = 25};
  const ms::grow::Candidate empty{.report = {.name = "empty", .width = 0}, .fan_out = 1};
  const auto most = [](const HowMany& rule, ms::grow::Candidate site) {
    rule.limit(site);
    return site.units;
  };
  CHECK(most(HowMany(), layer) == ms::grow::unlimited);
  CHECK(most(HowMany::fixed(3), layer) == 3);
  CHECK(most(HowMany::of_width(0.25), layer) == 3);
  CHECK(most(HowMany::of_width(0.25), empty) == 1);
  CHECK(most(HowMany::of_outputs(0.1), layer) == 3);
  CHECK(most(HowMany::up_to({{"layer1", 14}}), layer) == 4);
  CHECK(most(HowMany::up_to({{"layer1", 9}}), layer) == 0);
  CHECK(most(HowMany::up_to({{"other", 9}}), layer) == ms::grow::unlimited);
  const auto twice = HowMany::up_to([](const ms::grow::Candidate& site) { return 2 * site.fan_in; });
  CHECK(most(twice, layer) == 4);
  CHECK(most(HowMany::fixed(3) & twice, layer) == 3);
  CHECK(most(HowMany::fixed(8) & twice & HowMany::up_to({{"layer1", 12}}), layer) == 2);
  const auto up = HowMany::up_to([](const ms::grow::Candidate&) { return std::int64_t{11}; });
  CHECK(most(twice & up, layer) == 1);
  CHECK(most(HowMany::of_width(0.5) & HowMany::of_width(0.2), layer) == 2);
  CHECK(most(HowMany::of_width(0.5) & HowMany::fixed(100), layer) == 5);
  CHECK((HowMany::significant(1.5) & HowMany::significant(1.0)).significance == 1.5);
  CHECK((HowMany::explaining(0.9) & HowMany::explaining(0.5)).explained == 0.5);
  CHECK(HowMany().least_significance() == 1.0);
  CHECK(HowMany::fixed(1).least_significance() == 0.0);
  // What says nothing about significance leaves it alone.
  const HowMany limit = HowMany::up_to({{"layer1", 12}});
  for (const HowMany& joined : {HowMany::fixed(2) & limit, limit & HowMany::fixed(2)}) {
    CHECK(joined.least_significance() == 0.0);
    CHECK(joined.insist);
  }
  CHECK((limit & HowMany::of_width(0.5)).least_significance() == 1.0);
  CHECK((HowMany::significant(0.5) & limit).least_significance() == 0.5);
  CHECK((HowMany::fixed(2) & HowMany::significant()).least_significance() == 1.0);
  // The target of a stream goes by its first source.
  ms::grow::Candidate source{.report = {.name = "block.conv2", .width = 10, .stream = "stem"}};
  HowMany::up_to({{"stem", 12}, {"block.conv2", 11}}).limit(source);
  CHECK(source.units == 2);
}

TEST_CASE("how many: the fewest units that explain a share of what is significant") {
  const auto explaining = [](double share, const std::vector<double>& lambda, std::int64_t units) {
    ms::grow::Candidate site{.report = {.name = "layer", .lambda = lambda, .threshold = 0.7, .found = units},
                             .solved = true,
                             .units = units};
    HowMany::explaining(share).limit(site);
    return site.units;
  };
  const std::vector<double> lambda{3, 2, 1, 1, 0.5};
  // Squares 9, 4, 1, 1 above 0.7: 15 together.
  CHECK(explaining(1.0, lambda, 4) == 4);
  CHECK(explaining(0.5, lambda, 4) == 1);
  CHECK(explaining(0.61, lambda, 4) == 2);
  CHECK(explaining(0.9, lambda, 4) == 3);
  CHECK(explaining(0.99, lambda, 4) == 4);
  CHECK(explaining(0.99, lambda, 2) == 2);
  CHECK(explaining(0.5, {}, 0) == 0);
  // What is found otherwise may still fill up, unless fewer explain enough.
  ms::grow::Candidate site{.report = {.name = "layer", .lambda = {3}, .found = 1}, .solved = true, .units = 4};
  HowMany::explaining(0.5).limit(site);
  CHECK(site.units == 4);
}

TEST_CASE("how many: numbers that make no sense are refused") {
  const auto refused = [](const HowMany& rule) { return message_of<ms::ArgumentError>([&] { rule.require_valid(); }); };
  CHECK(contains(refused(HowMany::fixed(0)), "at_most is 0"));
  CHECK(contains(refused(HowMany::of_width(-1)), "share_of_width is -1"));
  CHECK(contains(refused(HowMany::of_outputs(std::nan(""))), "share_of_outputs is nan"));
  CHECK(contains(refused(HowMany::explaining(0)), "explained is 0"));
  CHECK(contains(refused(HowMany::significant(-1)), "significance is -1"));
  CHECK(contains(refused(HowMany::up_to({{"layer1", 0}})), "the target width of layer1 is 0"));
}

TEST_CASE("where: names read back") {
  for (const std::string_view name : ms::grow::where_names) {
    CHECK(ms::grow::name_of(ms::grow::parse_where(name)) == name);
  }
  CHECK(contains(message_of<ms::ArgumentError>([] { (void)ms::grow::parse_where("nowhere"); }),
                 "'nowhere' is no rule for where to grow; the rules are all, together"));
}

TEST_CASE("samples: as many as it takes for a share of the bottleneck to reach the threshold") {
  // (√9 + √16)² = 49; a fifth of the bottleneck.
  CHECK(ms::grow::samples_to_see(0.2, 1.0, 9, 16) == doctest::Approx(49.0 / (0.2 * 16)).epsilon(1e-12));
  CHECK(ms::grow::samples_to_see(0.2, 2.0, 9, 16) == doctest::Approx(4 * 49.0 / (0.2 * 16)).epsilon(1e-12));
  CHECK(ms::grow::samples_to_see(0.2, 1.0, 9, 0) == 0.0);
  CHECK(contains(message_of<ms::ArgumentError>([] { (void)ms::grow::samples_to_see(0.0, 1.0, 9, 4); }),
                 "the share of the bottleneck is 0"));
}

TEST_CASE("samples: a leading value is judged against its noise edge") {
  using ms::grow::detail::judge;
  CHECK(judge(2.1, 1.0, 1.0, 100, 1000) == Evidence::above);
  CHECK(judge(1.9, 1.0, 1.0, 100, 1000) == Evidence::open);
  CHECK(judge(2.4, 1.0, 1.5, 100, 1000) == Evidence::open);
  CHECK(judge(2.6, 1.0, 1.5, 100, 1000) == Evidence::above);
  // Noise that sits at its edge: √(1 - 0.81) = 0.436, and √(100 / 1000) = 0.316, √(100 / 500) = 0.447.
  CHECK(judge(1.0, 1.0, 1.0, 100, 1000) == Evidence::open);
  CHECK(judge(1.0, 1.0, 1.0, 100, 500) == Evidence::below);
  CHECK(judge(0.8, 1.0, 1.0, 100, 1'000'000) == Evidence::below);
  // What is significant today is never called hopeless.
  CHECK(judge(1.01, 1.0, 1.0, 999, 1000) == Evidence::open);
}

TEST_CASE("samples: search and statistics have samples of their own") {
  const auto drawn = ms::grow::draw_samples(7, 100, 15, 50);
  REQUIRE(drawn.search.size() == 15);
  REQUIRE(drawn.statistics.size() == 50);
  std::vector<int> seen(100, 0);
  for (const std::int64_t i : drawn.search) ++seen[static_cast<std::size_t>(i)];
  for (const std::int64_t i : drawn.statistics) ++seen[static_cast<std::size_t>(i)];
  for (const int count : seen) CHECK(count <= 1);
  CHECK(ms::grow::draw_samples(7, 100, 15, 50).search == drawn.search);
  CHECK(ms::grow::draw_samples(8, 100, 15, 50).search != drawn.search);
  // A fifth at most, so that the statistics get most of a small set.
  CHECK(ms::grow::draw_samples(7, 100, 90, 1000).search.size() == 20);
  CHECK(ms::grow::draw_samples(7, 100, 90, 1000).statistics.size() == 80);
  CHECK(ms::grow::draw_samples(7, 1, 5, 5).statistics.size() == 1);
}

TEST_CASE("budget: the cost of a unit is what the network counts once it is there") {
  using Net = ms::nn::Sequential<double>;
  ms::Context ctx({.seed = 3});
  const auto check = [&](Net net, const ms::Shape& input) {
    ms::grow::detail::InputShapes<double> shapes;
    const auto batch = ms::from_host<double>(ctx, input, support::normal_values<double>(input.size(), 1));
    (void)net.forward(ctx, batch, {.measuring = true, .taps = &shapes});
    for (const auto& site : ms::grow::find_sites<double>(net)) {
      CAPTURE(site.name);
      const ms::grow::Candidate::Cost cost = ms::grow::unit_cost(site, shapes);
      const std::int64_t parameters = ms::nn::parameter_count(net), work = net.multiply_adds(input);
      CHECK(ms::grow::least_unit_parameters(site) == cost.parameters);
      const std::int64_t places =
          site.flattened ? site.consumer.in_features() / site.width() : site.consumer.window().kernel.size();
      support::HostInsertion units{.units = 2, .inputs = site.fan_in(), .outputs = site.fan_out()};
      units.taps = site.spatial() ? places : 1;
      units.fan_in.assign(static_cast<std::size_t>(2 * units.inputs), 0.0);
      units.fan_out.assign(static_cast<std::size_t>(2 * units.taps * units.outputs), 0.0);
      if (site.producer.norm()) units.mean = units.variance = {0.0, 0.0};
      ms::grow::apply(ctx, ms::grow::make_edit<double>(ctx, site, support::on_device(ctx, units), 1.0), net);
      CHECK(ms::nn::parameter_count(net) == parameters + 2 * cost.parameters);
      CHECK(net.multiply_adds(input) == work + 2 * cost.multiply_adds);
    }
  };
  check(ms::models::mlp<double>(ctx, {.inputs = 6, .hidden = {3, 2}, .classes = 4}), {1, 6});
  check(ms::models::resnet18<double>(ctx, {.classes = 3, .width = 0.5, .channels = 2, .in_channels = 2}), {1, 8, 8, 2});
  check(ms::models::vgg<double>(ctx, {.classes = 3,
                                      .stages = {{2}, {3, 2}},
                                      .in_channels = 2,
                                      .head = ms::models::VggHead::flatten,
                                      .image = 8,
                                      .hidden = {3}}),
        {1, 8, 8, 2});
  ms::grow::detail::InputShapes<double> none;
  Net net = ms::models::mlp<double>(ctx, {.inputs = 6, .hidden = {3}, .classes = 4});
  CHECK(contains(message_of<ms::ArgumentError>(
                     [&] { (void)ms::grow::unit_cost(ms::grow::find_sites<double>(net).front(), none); }),
                 "no batch has reached layer1 (Linear)"));
}

TEST_SUITE_END();

}  // namespace grow_policy_test
