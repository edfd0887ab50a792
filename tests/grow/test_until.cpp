// When growth is over.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <meristem/data/loader.hpp>
#include <meristem/data/synthetic.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/optim/sgd.hpp>
#include <support/check.hpp>

namespace grow_until_test {

namespace ms = meristem;
using ms::grow::Until;
using ms::grow::detail::UntilCount;
using support::contains;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("until: counts growth steps that added nothing, in a row") {
  const Until limits{.empty_steps = 2};
  UntilCount count;
  for (const int added : {0, 3, 0}) count.after_step(added, std::nullopt);
  CHECK(!count.over(limits));
  count.after_step(0, std::nullopt);
  CHECK(count.over(limits) == "2 growth steps in a row added no unit");
  CHECK(!count.over({}));
  CHECK(count.over({.empty_steps = 1}));
  count.after_step(1, std::nullopt);
  CHECK(!count.over(limits));
  count.after_step(0, std::nullopt);
  CHECK(count.over({.empty_steps = 1}) == "the last growth step added no unit");
}

TEST_CASE("until: waits for validation to gain, and remembers the best") {
  const Until limits{.patience = 2, .least_gain = 0.01};
  UntilCount count;
  for (const double accuracy : {0.5, 0.505, 0.52, 0.529}) count.before_step(limits, accuracy);
  CHECK(!count.over(limits));
  UntilCount other;
  other.restore(count.state());
  for (UntilCount* one : {&count, &other}) {
    one->before_step(limits, 0.5301);
    CHECK(!one->over(limits));
    one->before_step(limits, 0.4);
    one->before_step(limits, 0.53);
    CHECK(contains(*one->over(limits), "2 growth steps in a row gained nothing in validation, best 0.5301"));
  }
  CHECK(contains(message_of<ms::ArgumentError>([&] { limits.require_validation(NAN); }), "needs Progress::validation"));
  count.before_step({}, NAN);
  CHECK(contains(message_of<ms::ArgumentError>([&] { count.restore({1.0}); }), "4 are needed"));
  for (const double number : UntilCount().state()) CHECK(std::isfinite(number));
}

TEST_CASE("until: limits outside their range are refused") {
  const auto refused = [](const Until& limits) {
    return message_of<ms::ArgumentError>([&] { limits.require_valid(); });
  };
  CHECK(contains(refused({.empty_steps = -1}), "until.empty_steps is -1"));
  CHECK(contains(refused({.latency = 0.0}), "until.latency is 0"));
  CHECK(contains(refused({.patience = -2}), "until.patience is -2"));
  CHECK(contains(refused({.least_gain = std::numeric_limits<double>::infinity()}), "until.least_gain is inf"));
  Until{}.require_valid();
}

TEST_CASE("until: a Grower stops by itself, and does so after it was restored") {
  ms::Context ctx({.seed = 2});
  const auto images = ms::data::synthetic({.images = 200});
  auto net = ms::models::mlp<float>(ctx, {.inputs = images.image_bytes(), .hidden = {2}, .classes = images.classes()});
  ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.01});
  ms::grow::GrowerOptions options{.when = ms::grow::When::every_epochs(1),
                                  .max_units = 1,
                                  .significance = 0.0,
                                  .statistics_samples = 100,
                                  .search_samples = 20,
                                  .batch_size = 50};
  options.until.empty_steps = 2;
  ms::grow::Grower<float> grower(net, sgd, options);
  const auto due = [&](ms::grow::Grower<float>& one, std::int64_t epoch, double validation = NAN) {
    return one.grow_when_due(ctx, images, {.epoch = epoch, .validation = validation});
  };
  REQUIRE(due(grower, 1));
  CHECK(!grower.over());
  // No room: nothing is added any more.
  grower.set_budget({.parameters = ms::nn::parameter_count<float>(net), .must_leave_room = false});
  CHECK(message_of<ms::ArgumentError>([&] { grower.set_budget({.parameters = 0}); }) != "");
  CHECK(due(grower, 2)->added() == 0);
  CHECK(!grower.over());
  options.budget = grower.options().budget;
  ms::grow::Grower<float> resumed(net, sgd, options);
  resumed.restore(grower.state());
  CHECK(due(resumed, 3)->added() == 0);
  CHECK(contains(resumed.over().value_or(""), "added no unit"));
  CHECK(!due(resumed, 4));
  CHECK(!due(resumed, 9));
  // What an earlier version saved has no counts.
  std::vector<double> old = grower.state();
  old.resize(old.size() - 4);
  resumed.restore(old);
  CHECK(!resumed.over());

  options.budget = {};
  options.until = {.latency = 1e-12};
  ms::grow::Grower<float> slow(net, sgd, options);
  CHECK(!slow.over());
  REQUIRE(due(slow, 5));
  CHECK(contains(slow.over().value_or(""), "a sample takes "));
  CHECK(!due(slow, 6));

  options.until = {.patience = 1};
  ms::grow::Grower<float> patient(net, sgd, options);
  REQUIRE(due(patient, 1, 0.3));
  CHECK(!due(patient, 2, 0.2));
  CHECK(contains(patient.over().value_or(""), "gained nothing in validation"));

  // A step that could not be taken counts for nothing, and is due again.
  ms::grow::Grower<float> again(net, sgd, options);
  const auto blank = images.subset({});
  for (int i = 0; i < 2; ++i) {
    CHECK_THROWS_AS((void)again.grow_when_due(ctx, blank, {.epoch = 1, .validation = 0.3}), ms::DataError);
  }
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)due(again, 1); }), "until.patience needs"));
  CHECK(!again.over());
  CHECK(due(again, 1, 0.3));

  // With more room there is no reason any more.
  options.until = {.empty_steps = 1};
  options.budget = {.parameters = ms::nn::parameter_count<float>(net), .must_leave_room = false};
  ms::grow::Grower<float> full(net, sgd, options);
  CHECK(due(full, 1)->added() == 0);
  CHECK(full.over());
  full.set_budget({.parameters = ms::nn::parameter_count<float>(net) - 1, .must_leave_room = false});
  CHECK(full.over());
  full.set_budget({.parameters = 100000});
  CHECK(!full.over());
  for (const double bad : {-5.0, 0.5, std::numeric_limits<double>::quiet_NaN()}) {
    std::vector<double> numbers = full.state();
    numbers[numbers.size() - 4] = bad;
    CHECK(contains(message_of<ms::ArgumentError>([&] { full.restore(numbers); }), "were saved of when growth is over"));
  }
  CHECK(ms::grow::measure_latency<float>(ctx, net, images.batch<float>(ctx, std::vector<std::int64_t>{0}).inputs) >
        0.0);
}

TEST_SUITE_END();

}  // namespace grow_until_test
