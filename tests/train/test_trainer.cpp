#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include <meristem/data/image_set.hpp>
#include <meristem/data/loader.hpp>
#include <meristem/data/sample_set.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/sequential.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>
#include <support/plain_mlp.hpp>

namespace train_trainer_test {

namespace ms = meristem;
using ms::train::Metrics;
using support::contains;
using support::message_of;

namespace {

const std::vector<std::int64_t> widths = {12, 5, 3};

template <class T>
ms::nn::Sequential<T> small_net(ms::Context& ctx, ms::nn::Activation activation = ms::nn::Activation::tanh) {
  return ms::models::mlp<T>(ctx, {.inputs = 12, .hidden = {5}, .classes = 3, .activation = activation});
}

/// Images of 2 × 2 pixels with 3 channels.
ms::data::ImageSet small_set(std::int64_t count) {
  ms::data::ImageSet set;
  set.height = set.width = 2;
  set.channels = 3;
  set.class_names = {"a", "b", "c"};
  set.normalization = {.mean = {0.5, 0.4, 0.3}, .stddev = {0.25, 0.5, 0.2}};
  set.source = "small set";
  const ms::Philox random(1, 2);
  for (std::int64_t i = 0; i < count; ++i) {
    for (int p = 0; p < 12; ++p) {
      set.pixels.push_back(static_cast<std::uint8_t>(random.below(256, static_cast<std::uint64_t>(12 * i + p))));
    }
    set.labels.push_back(static_cast<std::int32_t>(i % 3));
  }
  return set;
}

std::vector<double> normalised(const ms::data::ImageSet& set) {
  std::vector<double> x;
  for (std::size_t i = 0; i < set.pixels.size(); ++i) {
    x.push_back((set.pixels[i] / 255.0 - set.normalization.mean[i % 3]) / set.normalization.stddev[i % 3]);
  }
  return x;
}

const std::vector<std::int32_t> labels{0, 1, 2, 2, 1, 0, 0};

template <class T>
ms::nn::Batch<T> random_batch(ms::Context& ctx) {
  return support::make_batch<T>(ctx, {7, 12}, support::to_double(support::normal_values<T>(7 * 12, 5)), labels);
}

/// Everything that a failed step must leave alone.
template <class T>
std::vector<T> numbers_of(ms::Context& ctx, ms::nn::Layer<T>& net, ms::optim::Optimizer<T>& optimizer) {
  std::vector<T> numbers = support::all_numbers(ctx, net);
  for (auto* parameter : ms::nn::parameters(net)) {
    for (const auto& moment : optimizer.state(parameter->id)) {
      for (const T value : ms::to_host(ctx, moment)) numbers.push_back(value);
    }
  }
  return numbers;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("trainer: a step returns the metrics before it and lowers the loss", T, float, double) {
  ms::Context ctx({.seed = 3});
  auto net = small_net<T>(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.05});
  const auto batch = random_batch<T>(ctx);
  support::PlainMlp plain{widths, support::plain_parameters(ctx, net)};
  const auto expected = plain.run(support::to_double(ms::to_host(ctx, batch.inputs)), labels);
  const Metrics first = ms::train::step(ctx, net, batch, sgd);
  // A loss of order 1 behind sums of 12 and 5 products.
  CHECK(std::abs(first.loss - expected.loss) <= 100 * support::eps<T>);
  CHECK(first.accuracy == static_cast<double>(expected.correct) / 7);
  CHECK(first.samples == 7);
  CHECK(sgd.steps() == 1);
  double previous = first.loss;
  for (int t = 0; t < 20; ++t) {
    const double loss = ms::train::step(ctx, net, batch, sgd).loss;
    CHECK(loss < previous);
    previous = loss;
  }
}

TEST_CASE("trainer: a step is forward, backward and update, with label smoothing as asked") {
  ms::Context ctx({.seed = 3});
  auto net = small_net<double>(ctx), same = small_net<double>(ctx);
  for (std::size_t i = 0; i < 4; ++i) {
    ms::nn::parameters(same)[i]->value = ms::clone(ctx, ms::nn::parameters(net)[i]->value);
  }
  const auto batch = random_batch<double>(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.1}), other(same, {.learning_rate = 0.1});
  const ms::nn::CrossEntropy loss{.label_smoothing = 0.2};
  const double mean = ms::train::step(ctx, net, batch, sgd, loss).loss;

  const auto trace = same.forward(ctx, batch.inputs, {});
  auto value = loss.operator()<double>(ctx, trace.output, batch.labels);
  (void)same.backward(ctx, batch.inputs, trace, std::move(value.gradient), {});
  other.step(ctx);
  CHECK(mean == value.mean);
  support::check_same_bits(support::all_numbers(ctx, net), support::all_numbers(ctx, same));

  const double smoothed = ms::train::evaluate(ctx, net, small_set(9), 4, loss).loss;
  CHECK(smoothed != ms::train::evaluate(ctx, net, small_set(9), 4).loss);
}

TEST_CASE("trainer: metrics of unequal batches join to the weighted mean") {
  Metrics total;
  CHECK(total.samples == 0);
  const std::vector<Metrics> parts = {{2.0, 0.5, 2}, {8.0, 0.0, 1}, {0.0, 1.0, 5}, {1.0, 0.25, 8}};
  for (const Metrics& part : parts) total += part;
  // Four joins of three roundings each, relative to the largest part.
  CHECK(total.samples == 16);
  CHECK(std::abs(total.loss - (4.0 + 8.0 + 0.0 + 8.0) / 16) <= 12 * 8.0 * support::eps<double>);
  CHECK(std::abs(total.accuracy - (1.0 + 0.0 + 5.0 + 2.0) / 16) <= 12 * support::eps<double>);

  const Metrics before = total;
  total += {};
  CHECK(total.loss == before.loss);
  CHECK(total.accuracy == before.accuracy);
  CHECK(total.samples == before.samples);
  Metrics empty;
  empty += before;
  CHECK(empty.loss == before.loss);

  // A long run of small batches: the mean of 1 and 3 in the shares 1 : 2 stays 7/3, a few eps per join.
  Metrics many;
  for (int i = 0; i < 10000; ++i) many += i % 2 == 0 ? Metrics{1.0, 0.0, 1} : Metrics{3.0, 1.0, 2};
  CHECK(std::abs(many.loss - 7.0 / 3.0) <= 10000 * 2 * 3.0 * support::eps<double>);
  CHECK(std::abs(many.accuracy - 2.0 / 3.0) <= 10000 * 2 * support::eps<double>);
}

TEST_CASE("trainer: metrics print as a person reads them") {
  std::ostringstream text;
  text << Metrics{1.25, 0.5, 10};
  CHECK(text.str() == "loss 1.25, accuracy 50 %");
}

TEST_CASE_TEMPLATE("trainer: evaluation of a set equals the plain loop, however it is cut", T, float, double) {
  ms::Context ctx({.seed = 4});
  auto net = small_net<T>(ctx);
  const auto set = small_set(29);
  support::PlainMlp plain{widths, support::plain_parameters(ctx, net)};
  const auto expected = plain.run(normalised(set), set.labels);
  const auto before = support::all_numbers(ctx, net);
  for (const std::int64_t batch_size : {1, 2, 10, 28, 29, 1000}) {
    CAPTURE(batch_size);
    const Metrics metrics = ms::train::evaluate(ctx, net, set, batch_size);
    CHECK(metrics.samples == 29);
    // Inputs up to 3.5 and losses of order 1 behind sums of 12 and 5 products, and up to 29 joins.
    CHECK(std::abs(metrics.loss - expected.loss) <= 300 * support::eps<T>);
    CHECK(std::abs(metrics.accuracy - static_cast<double>(expected.correct) / 29) <= 29 * support::eps<double>);
  }
  CHECK(ms::train::evaluate(ctx, net, set).samples == 29);
  support::check_same_bits(support::all_numbers(ctx, net), before, "evaluation changes nothing");
}

TEST_CASE("trainer: the same seed gives the same bits, twice") {
  const auto run = [] {
    ms::Context ctx({.seed = 12});
    auto net = small_net<float>(ctx);
    ms::optim::AdamW adamw(net, {});
    const auto set = small_set(40);
    for (int epoch = 0; epoch < 3; ++epoch) {
      for (const auto& batch : set.batches(ctx, 16, {.shuffle = true, .epoch = epoch})) {
        (void)ms::train::step(ctx, net, batch, adamw);
      }
    }
    return numbers_of<float>(ctx, net, adamw);
  };
  support::check_same_bits(run(), run());
}

TEST_CASE("trainer: a loss that is not finite stops training before anything changes") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const auto activation : ms::kernels::all_activations) {
    for (const double poison : {nan, infinity, -infinity}) {
      // A bounded activation takes an infinite input to a finite loss.
      const bool hidden_by_tanh = activation == ms::nn::Activation::tanh && std::isinf(poison);
      if (hidden_by_tanh) continue;
      CAPTURE(ms::kernels::activation_name(activation));
      CAPTURE(poison);
      ms::Context ctx({.seed = 5});
      auto net = small_net<double>(ctx, activation);
      ms::optim::Sgd sgd(net, {.learning_rate = 0.1, .momentum = 0.9});
      (void)ms::train::step(ctx, net, random_batch<double>(ctx), sgd);
      const auto before = numbers_of<double>(ctx, net, sgd);
      auto x = support::normal_values<double>(7 * 12, 5);
      x[40] = poison;
      // Either sign must reach the loss through one-sided activations.
      x[52] = -poison;
      const auto bad = support::make_batch<double>(ctx, {7, 12}, x, labels);
      const auto text = message_of<ms::NumericError>([&] { (void)ms::train::step(ctx, net, bad, sgd); });
      CHECK(contains(text, "training: step 2: the input batch: element 40 of (7, 12) is "));
      support::check_same_bits(numbers_of<double>(ctx, net, sgd), before);
      CHECK(sgd.steps() == 1);
      CHECK_NOTHROW((void)ms::train::step(ctx, net, random_batch<double>(ctx), sgd));
    }
  }
}

TEST_CASE_TEMPLATE("trainer: steps that are not waited for are steps, and their metrics the means over samples", T,
                   float, double) {
  ms::Context ctx({.seed = 12});
  auto net = small_net<T>(ctx), same = small_net<T>(ctx);
  for (std::size_t i = 0; i < 4; ++i) {
    ms::nn::parameters(same)[i]->value = ms::clone(ctx, ms::nn::parameters(net)[i]->value);
  }
  ms::optim::AdamW adamw(net, {}), other(same, {});
  ms::train::Trainer trainer(ctx, net, adamw);
  const auto set = small_set(40);
  for (int epoch = 0; epoch < 2; ++epoch) {
    Metrics expected;
    for (const auto& batch : set.batches<T>(ctx, 16, {.shuffle = true, .epoch = epoch})) {
      trainer.step(batch);
      expected += ms::train::step<T>(ctx, same, batch, other);
    }
    const Metrics metrics = trainer.metrics();
    CHECK(metrics.samples == 40);
    // Two orders of adding three losses in double.
    CHECK(metrics.loss == doctest::Approx(expected.loss).epsilon(1e-14));
    CHECK(metrics.accuracy == doctest::Approx(expected.accuracy).epsilon(1e-14));
  }
  support::check_same_bits(numbers_of<T>(ctx, net, adamw), numbers_of<T>(ctx, same, other));
  CHECK(trainer.metrics().samples == 0);
}

TEST_CASE("trainer: what goes wrong in steps that are not waited for holds the weights, and is told when asked") {
  ms::Context ctx({.seed = 5});
  auto net = small_net<double>(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.1, .momentum = 0.9});
  ms::train::Trainer<double> trainer(ctx, net, sgd);
  const auto good = random_batch<double>(ctx);
  auto x = support::normal_values<double>(7 * 12, 5);
  auto wrong = labels;
  wrong[3] = 99;
  const auto mislabelled = support::make_batch<double>(ctx, {7, 12}, x, wrong);
  x[40] = std::numeric_limits<double>::quiet_NaN();
  const auto bad = support::make_batch<double>(ctx, {7, 12}, x, labels);
  trainer.step(good);
  const auto weights_and_moments = [&] {
    for (auto* parameter : ms::nn::parameters(net)) {  // gradients are those of the last backward
      parameter->gradient = ms::zeros<double>(ctx, parameter->value.shape());
    }
    return numbers_of<double>(ctx, net, sgd);
  };
  const auto before = weights_and_moments();
  const auto check_held = [&](const auto& batch, const auto& message) {
    trainer.step(batch);
    trainer.step(good);
    trainer.step(bad);
    CHECK(sgd.steps() == 4);
    message();
    CHECK(sgd.steps() == 1);
    support::check_same_bits(weights_and_moments(), before);
  };
  check_held(bad, [&] {
    CHECK(message_of<ms::NumericError>([&] { (void)trainer.metrics(); }) ==
          "training: step 2: the loss is nan; lower the learning rate (0.1) or look at the data");
  });
  check_held(mislabelled, [&] {
    CHECK(message_of<ms::DataError>([&] { (void)trainer.metrics(); }) ==
          "training: step 2: label 3 of the batch is out of range; classes are numbered from 0 to one less than the "
          "network has outputs, binary labels are 0 and 1; check the labels, or give the last layer more outputs");
  });
  trainer.step(good);
  CHECK(trainer.metrics().samples == 7);
  CHECK(weights_and_moments() != before);

  ms::nn::Parameter<double>& last = *ms::nn::parameters(net).back();
  auto numbers = ms::to_host(ctx, last.value);
  numbers[1] = std::numeric_limits<double>::quiet_NaN();
  last.value = ms::from_host<double>(ctx, last.value.shape(), numbers);
  trainer.step(good);
  CHECK(contains(message_of<ms::NumericError>([&] { (void)trainer.metrics(); }),
                 ms::concat("training: step 3: ", last.name, ": element 1 of ")));
}

TEST_CASE("trainer: a label that a binary loss does not know holds the weights") {
  ms::Context ctx({.seed = 5});
  auto net = ms::models::mlp<double>(ctx, {.inputs = 2, .hidden = {3}, .classes = 1});
  ms::optim::Sgd sgd(net, {.learning_rate = 0.1});
  ms::train::Trainer<double> trainer(ctx, net, sgd, ms::nn::BinaryCrossEntropy{});
  const auto weights = [&] {
    std::vector<std::vector<double>> values;
    for (const auto* parameter : ms::nn::parameters(net)) values.push_back(ms::to_host(ctx, parameter->value));
    return values;
  };
  const auto before = weights();
  trainer.step(support::make_batch<double>(ctx, {3, 2}, {1, 2, 3, 4, 5, 6}, {0, 1, 2}));
  CHECK(contains(message_of<ms::DataError>([&] { (void)trainer.metrics(); }),
                 "training: step 1: label 2 of the batch is out of range"));
  CHECK(weights() == before);
  CHECK(sgd.steps() == 0);
  trainer.step(support::make_batch<double>(ctx, {3, 2}, {1, 2, 3, 4, 5, 6}, {0, 1, 1}));
  CHECK(trainer.metrics().samples == 3);
  CHECK(weights() != before);
}

// Reads its own sum, as a loss of somebody's own may.
struct ReadSquares {
  template <ms::Real T>
  [[nodiscard]] ms::nn::LossValue<T> operator()(ms::Context& ctx, ms::View<const T> output,
                                                const ms::nn::BatchView<T>& batch, bool with_gradient = true) const {
    return ms::nn::SquaredError{}(ctx, output, batch, with_gradient);
  }
};

TEST_CASE("trainer: losses that are read at once are summed and told at once") {
  ms::Context ctx({.seed = 5});
  auto net = small_net<double>(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.01});
  ms::train::Trainer<double> trainer(ctx, net, sgd, ReadSquares{});
  const auto inputs = random_batch<double>(ctx);
  const auto output = net.forward(ctx, inputs.inputs, {});
  const auto zero = ms::zeros<double>(ctx, output.output.shape());
  const ms::nn::BatchView<double> batch{.inputs = inputs.inputs, .targets = zero};
  double squares = 0.0;
  for (const double value : ms::to_host(ctx, output.output)) squares += value * value;
  trainer.step(batch);
  const Metrics metrics = trainer.metrics();
  CHECK(metrics.samples == 7);
  CHECK(metrics.loss == doctest::Approx(squares / 7).epsilon(1e-12));
  auto x = support::normal_values<double>(7 * 12, 5);
  x[40] = std::numeric_limits<double>::quiet_NaN();
  const auto bad = support::make_batch<double>(ctx, {7, 12}, x, labels);
  CHECK(contains(message_of<ms::NumericError>([&] { trainer.step({.inputs = bad.inputs, .targets = zero}); }),
                 "training: step 2: the input batch: element 40"));
  auto other = small_net<double>(ctx);
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::train::Trainer<double>(ctx, other, sgd); }),
                 "the optimiser is of another network"));
}

TEST_CASE("trainer: a parameter or a loss that is not finite is named") {
  ms::Context ctx({.seed = 5});
  auto net = small_net<double>(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.1});
  const auto message = [&] {
    return message_of<ms::NumericError>([&] { (void)ms::train::step(ctx, net, random_batch<double>(ctx), sgd); });
  };
  ms::nn::Parameter<double>& last = *ms::nn::parameters(net).back();
  auto numbers = ms::to_host(ctx, last.value);
  numbers[1] = std::numeric_limits<double>::quiet_NaN();
  last.value = ms::from_host<double>(ctx, last.value.shape(), numbers);
  CHECK(contains(message(), ms::concat("training: step 1: ", last.name, ": element 1 of ")));
  // Finite logits so far apart that the loss of some sample overflows.
  for (double& number : numbers) number = 0.0;
  numbers[0] = 1e308;
  numbers[1] = -1e308;
  last.value = ms::from_host<double>(ctx, last.value.shape(), numbers);
  const auto text = message();
  CHECK(contains(text, "training: step 1: the loss is "));
  CHECK(contains(text, "lower the learning rate (0.1) or look at the data"));
}

TEST_CASE("trainer: bad batches are told and change nothing") {
  ms::Context ctx({.seed = 6});
  auto net = small_net<float>(ctx);
  ms::optim::Sgd sgd(net, {.momentum = 0.9});
  (void)ms::train::step(ctx, net, random_batch<float>(ctx), sgd);
  const auto before = numbers_of<float>(ctx, net, sgd);

  const auto none = support::make_batch<float>(ctx, {0, 12}, {}, {});
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)ms::train::step(ctx, net, none, sgd); }), "batch of 0"));

  const auto narrow = support::make_batch<float>(ctx, {2, 11}, std::vector<double>(22, 0.5), {0, 1});
  const auto shapes = message_of<ms::ShapeError>([&] { (void)ms::train::step(ctx, net, narrow, sgd); });
  CHECK(contains(shapes, "layer1 (Linear)"));
  CHECK(contains(shapes, "(2, 11)"));

  const auto short_of_labels = support::make_batch<float>(ctx, {2, 12}, std::vector<double>(24, 0.5), {0});
  CHECK(contains(message_of<ms::ShapeError>([&] { (void)ms::train::step(ctx, net, short_of_labels, sgd); }),
                 "one label is needed for each of the 2 rows"));

  const auto mislabelled = support::make_batch<float>(ctx, {2, 12}, std::vector<double>(24, 0.5), {0, 3});
  CHECK(contains(message_of<ms::DataError>([&] { (void)ms::train::step(ctx, net, mislabelled, sgd); }),
                 "training: step 2: softmax_cross_entropy: the label of row 1 is 3"));

  support::check_same_bits(numbers_of<float>(ctx, net, sgd), before);
  CHECK(sgd.steps() == 1);
}

TEST_CASE("trainer: evaluation keeps no activations, however deep the network is") {
  ms::Context ctx({.seed = 3});
  constexpr std::int64_t width = 64, n = 256;
  const ms::data::SampleSet<float> set{
      .inputs = std::vector<float>(n * width, 0.5f), .input = {width}, .labels = std::vector<std::int32_t>(n, 1)};
  std::vector<std::size_t> peaks;
  for (const int layers : {3, 30}) {
    ms::nn::Sequential<float> net;
    for (int i = 0; i < layers; ++i) net.add<ms::nn::Linear>("fc" + std::to_string(i), ctx, width, width);
    const auto evaluate = [&] { return ms::train::evaluate<float>(ctx, net, set, n).loss; };
    (void)evaluate();  // whatever is allocated once
    const std::size_t before = ctx.memory()->in_use();
    ctx.memory()->reset_peak();
    (void)evaluate();
    CHECK(ctx.memory()->in_use() == before);
    peaks.push_back(ctx.memory()->peak() - before);
  }
  CHECK(peaks[0] == peaks[1]);
  // The batch, and what a layer reads and writes; the rest is labels and sums.
  CHECK(peaks[1] < 3.5 * n * width * sizeof(float));
}

TEST_CASE("trainer: evaluation refuses an empty set and a batch size of 0") {
  ms::Context ctx;
  auto net = small_net<float>(ctx);
  const auto none = small_set(0), some = small_set(3);
  CHECK(contains(message_of<ms::DataError>([&] { (void)ms::train::evaluate(ctx, net, none); }),
                 "evaluation: the data set is empty"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)ms::train::evaluate(ctx, net, some, 0); }),
                 "the batch size is 0"));
}

TEST_CASE("trainer: evaluation names what made the loss not finite") {
  ms::Context ctx({.seed = 5});
  auto net = small_net<double>(ctx);
  const auto set = small_set(29);
  const auto message = [&] {
    return message_of<ms::NumericError>([&] { (void)ms::train::evaluate(ctx, net, set, 10); });
  };
  ms::nn::Parameter<double>& last = *ms::nn::parameters(net).back();
  const std::vector<double> numbers = ms::to_host(ctx, last.value);
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    std::vector<double> spoiled = numbers;
    spoiled[2] = bad;
    last.value = ms::from_host<double>(ctx, last.value.shape(), spoiled);
    CHECK(contains(message(), ms::concat("evaluation: samples 0 to 9: ", last.name, ": element 2 of (3) is ",
                                         std::isnan(bad) ? "nan" : "inf")));
  }
  last.value = ms::from_host<double>(ctx, last.value.shape(), {1e308, -1e308, 0.0});
  CHECK(contains(message(), "evaluation: samples 0 to 9: the loss is "));
  // Numbers that a layer keeps without learning them.
  ms::nn::Sequential<double> normed;
  normed.add<ms::nn::Flatten<double>>("flatten");
  auto& norm = normed.add<ms::nn::BatchNorm<double>>("norm", ctx, 12);
  normed.add<ms::nn::Linear<double>>("fc", ctx, 12, 3);
  std::vector<double> means(12, 0.0);
  means[7] = std::nan("");
  norm.running_mean().value = ms::from_host<double>(ctx, {12}, means);
  CHECK(contains(message_of<ms::NumericError>([&] { (void)ms::train::evaluate<double>(ctx, normed, set); }),
                 "evaluation: samples 0 to 28: norm.running_mean: element 7 of (12) is nan"));
}

TEST_CASE("trainer: evaluation tells the batch with a label out of range") {
  ms::Context ctx;
  auto net = ms::models::mlp<float>(ctx, {.inputs = 12, .hidden = {}, .classes = 2});
  auto set = small_set(29);
  std::fill(set.labels.begin(), set.labels.end(), 1);
  set.labels[15] = 2;
  CHECK(contains(
      message_of<ms::DataError>([&] { (void)ms::train::evaluate(ctx, net, set, 10); }),
      "evaluation: samples 10 to 19: softmax_cross_entropy: the label of row 5 is 2, but the logits have 2 classes"));
}

TEST_CASE("trainer: weights that the last step spoiled are told by what looks at the network next") {
  // An infinite input hides behind tanh from the loss, not from the gradient.
  ms::Context ctx({.seed = 5});
  auto net = small_net<double>(ctx);
  ms::optim::Sgd sgd(net, {.learning_rate = 0.1});
  auto x = support::normal_values<double>(7 * 12, 5);
  x[40] = std::numeric_limits<double>::infinity();
  (void)ms::train::step(ctx, net, support::make_batch<double>(ctx, {7, 12}, x, labels), sgd);
  CHECK(contains(message_of<ms::NumericError>([&] { ms::nn::check_gradients(ctx, net, "step 1"); }),
                 "step 1: gradient of layer1.weight: element "));
  const auto named = [](const std::string& text) { return contains(text, "layer1.weight: element "); };
  CHECK(named(message_of<ms::NumericError>([&] { ms::nn::check_finite(ctx, net, "after training"); })));
  CHECK(named(message_of<ms::NumericError>([&] { (void)ms::train::evaluate(ctx, net, small_set(5)); })));
  CHECK(named(message_of<ms::NumericError>([&] { (void)ms::train::step(ctx, net, random_batch<double>(ctx), sgd); })));
}

TEST_SUITE_END();

}  // namespace train_trainer_test
