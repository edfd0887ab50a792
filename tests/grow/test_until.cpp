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
using ms::grow::When;
using support::contains;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("until: counts growth steps that added nothing, in a row") {
  When twice = When::until_empty(2), once = When::until_empty();
  const auto grown = [&](std::int64_t added) {
    twice.grown(added);
    once.grown(added);
  };
  for (const int added : {0, 3, 0}) grown(added);
  CHECK(!twice.over());
  CHECK(twice({}));
  grown(0);
  CHECK(twice.over() == "2 growth steps in a row added no unit");
  CHECK(!twice({}));
  grown(1);
  CHECK(!twice.over());
  grown(0);
  CHECK(once.over() == "the last growth step added no unit");
  CHECK(!When().over());
  // Either of two ends growth by both, both of them by either.
  When both = When::until_empty(1) && When::until_empty(2), either = When::until_empty(1) || When::until_empty(2);
  for (When* one : {&both, &either}) one->grown(0);
  CHECK(both.over());
  CHECK(!either.over());
  either.grown(0);
  CHECK(contains(either.over().value_or(""), "2 growth steps in a row added no unit"));
  either.more_room();
  CHECK(!either.over());
}

TEST_CASE("until: waits for validation to gain, and remembers the best") {
  When when = When::until_stale(2, 0.01);
  for (const double accuracy : {0.5, 0.505, 0.52, 0.529}) CHECK(when({.validation = accuracy}));
  CHECK(!when.over());
  When other = When::until_stale(2, 0.01);
  other.restore(when.state());
  for (When* one : {&when, &other}) {
    CHECK((*one)({.validation = 0.5301}));
    CHECK((*one)({.validation = 0.4}));
    CHECK(!(*one)({.validation = 0.53}));
    CHECK(contains(one->over().value_or(""), "2 growth steps in a row gained nothing in validation, best 0.5301"));
  }
  CHECK(contains(message_of<ms::ArgumentError>([] { (void)When::until_stale()({.validation = NAN}); }),
                 "needs When::Progress::validation"));
  for (const double number : When::until_stale().state()) CHECK(std::isfinite(number));
  // What is not due is no growth step: the score does not count.
  When seldom = When::every_epochs(2) && When::until_stale(1, 0.0);
  CHECK(!seldom({.epoch = 1, .validation = 0.5}));
  CHECK(seldom({.epoch = 2, .validation = 0.5}));
  CHECK(!seldom({.epoch = 3, .validation = 0.1}));
  CHECK(!seldom.over());
}

TEST_CASE("until: limits outside their range are refused") {
  const auto refused = [](auto&& make) { return message_of<ms::ArgumentError>([&] { (void)make(); }); };
  CHECK(contains(refused([] { return When::until_empty(0); }), "until_empty(0): the number must be at least 1"));
  CHECK(contains(refused([] { return When::until_latency(0.0); }), "until_latency(0): it must be above 0 seconds"));
  CHECK(contains(refused([] { return When::until_stale(-2); }), "until_stale(-2)"));
  CHECK(contains(refused([] { return When::until_stale(1, std::numeric_limits<double>::infinity()); }),
                 "the least gain is inf"));
}

TEST_CASE("until: a Grower stops by itself, and does so after it was restored") {
  ms::Context ctx({.seed = 2});
  const auto images = ms::data::synthetic({.images = 200});
  auto net = ms::models::mlp<float>(ctx, {.inputs = images.image_bytes(), .hidden = {2}, .classes = images.classes()});
  ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.01});
  ms::grow::GrowerOptions options{.when = When::every_epochs(1) && When::until_empty(2),
                                  .how_many = {.at_most = 1, .significance = 0.0},
                                  .statistics_samples = 100,
                                  .search_samples = 20,
                                  .batch_size = 50};
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
  std::vector<double> cut = grower.state();
  cut.pop_back();
  CHECK_THROWS_AS(resumed.restore(cut), ms::ArgumentError);

  options.budget = {};
  options.when = When::every_epochs(1) && When::until_latency(1e-12);
  ms::grow::Grower<float> slow(net, sgd, options);
  CHECK(!slow.over());
  REQUIRE(due(slow, 5));
  CHECK(contains(slow.over().value_or(""), "a sample takes "));
  CHECK(!due(slow, 6));

  options.when = When::every_epochs(1) && When::until_stale(1);
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
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)due(again, 1); }), "until_stale needs"));
  CHECK(!again.over());
  CHECK(due(again, 1, 0.3));

  // With more room there is no reason any more.
  options.when = When::every_epochs(1) && When::until_empty(1);
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
    numbers[numbers.size() - 2] = bad;  // growth steps that added nothing
    CHECK(contains(message_of<ms::ArgumentError>([&] { full.restore(numbers); }), "saved numbers are not those of"));
  }
  CHECK(ms::grow::measure_latency<float>(ctx, net, images.batch<float>(ctx, std::vector<std::int64_t>{0}).inputs) >
        0.0);
}

TEST_SUITE_END();

}  // namespace grow_until_test
