#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/loss.hpp>
#include <support/check.hpp>

namespace nn_loss_test {

namespace ms = meristem;
namespace nn = meristem::nn;
using support::contains;
using support::message_of;

namespace {

/// A loss of one's own that weighs samples: a functor over the whole batch.
struct Weighted {
  template <ms::Real T>
  nn::LossValue<T> operator()(ms::Context& ctx, ms::View<const T> output, const nn::BatchView<T>& batch,
                              bool with_gradient) const {
    const auto x = ms::to_host(ctx, output), y = ms::to_host(ctx, batch.targets),
               w = ms::to_host(ctx, batch.extra.at(0));
    const T n = static_cast<T>(batch.size());
    nn::LossValue<T> value;
    std::vector<T> gradient(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const T weight = w[i * w.size() / x.size()], e = x[i] - y[i];
      value.mean += static_cast<double>(weight * e * e / n);
      gradient[i] = 2 * weight * e / n;
    }
    if (with_gradient) value.gradient = ms::from_host<T>(ctx, output.shape(), gradient);
    return value;
  }
};

/// For float networks alone, and wrong: no gradient.
struct Careless {
  nn::LossValue<float> operator()(ms::Context&, ms::View<const float>, const nn::BatchView<float>&, bool) const {
    return {};
  }
};

struct Sum {
  template <class T>
  MERISTEM_HD T operator()(const T* output, const T*, std::int64_t outputs, T* gradient) const {
    T sum = T(0);
    for (std::int64_t i = 0; i < outputs; ++i) sum += output[i];
    for (std::int64_t i = 0; gradient != nullptr && i < outputs; ++i) gradient[i] = T(1);
    return sum;
  }
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("objective: the gradient of every loss is that of its value", T, double) {
  ms::Context ctx;
  const std::int64_t n = 6, outputs = 3;
  std::vector<T> numbers = support::normal_values<T>(n * outputs, 1, 2.0);
  std::vector<T> shares = support::normal_values<T>(n * outputs, 2);
  for (T& share : shares) share = 1 / (1 + std::exp(-share));
  nn::Batch<T> values, labelled, binary;
  for (nn::Batch<T>* batch : {&values, &labelled, &binary}) batch->inputs = ms::zeros<T>(ctx, {n, 1});
  values.targets = ms::from_host<T>(ctx, {n, outputs}, shares);
  values.extra.push_back(ms::from_host<T>(ctx, {n}, std::vector<T>{1, 2, 0, 0.5, 1, 3}));
  labelled.labels = ms::from_host<std::int32_t>(ctx, {n}, std::vector<std::int32_t>{0, 2, 1, 1, 0, 2});
  binary.labels = ms::from_host<std::int32_t>(
      ctx, {n, outputs}, std::vector<std::int32_t>{0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0});
  struct Case {
    const char* name;
    nn::Objective loss;
    const nn::Batch<T>& batch;
    bool judges;
  };
  const std::vector<Case> cases{{"cross-entropy", {}, labelled, true},
                                {"smoothed", nn::CrossEntropy{.label_smoothing = 0.1}, labelled, true},
                                {"soft", nn::CrossEntropy{}, values, true},
                                {"soft and smoothed", nn::CrossEntropy{.label_smoothing = 0.1}, values, true},
                                {"squares", nn::SquaredError{}, values, false},
                                {"Huber", nn::Huber{.delta = 0.7}, values, false},
                                {"binary", nn::BinaryCrossEntropy{}, values, true},
                                {"binary labels", nn::BinaryCrossEntropy{}, binary, true},
                                {"weighted", Weighted{}, values, false},
                                {"per sample", nn::PerSample{Sum{}}, values, false}};
  for (const Case& one : cases) {
    CAPTURE(one.name);
    const auto loss_of = [&](const std::vector<T>& x, bool gradient) {
      const auto output = ms::from_host<T>(ctx, {n, outputs}, x);
      return one.loss(ctx, output.view(), one.batch, gradient);
    };
    const nn::LossValue<T> value = loss_of(numbers, true);
    CHECK(loss_of(numbers, false).mean == value.mean);
    CHECK(loss_of(numbers, false).gradient.empty());
    CHECK((value.judged > 0) == one.judges);
    CHECK(value.correct <= value.judged);
    // Left on the device it is the same, but for the user's function, which reads itself.
    const auto output = ms::from_host<T>(ctx, {n, outputs}, numbers);
    const nn::LossValue<T> unread = one.loss.template on_device<T>(ctx, output.view(), one.batch, true);
    CHECK(unread.sums.empty() == (std::string(one.name) == "weighted"));
    if (!unread.sums.empty()) {
      const auto sums = ms::to_host(ctx, unread.sums)[0];
      CHECK(sums.loss / static_cast<double>(unread.rows) == value.mean);
      CHECK(sums.correct == value.correct);
      CHECK(sums.bad_row == ms::kernels::LossSums::no_row);
    }
    CHECK(unread.judged == value.judged);
    support::check_same_bits(ms::to_host(ctx, unread.gradient), ms::to_host(ctx, value.gradient));
    const std::vector<T> gradient = ms::to_host(ctx, value.gradient);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      // Central differences: third derivatives of order one.
      const double h = 1e-5;
      std::vector<T> up = numbers, down = numbers;
      up[i] += h;
      down[i] -= h;
      CHECK(gradient[i] ==
            doctest::Approx((loss_of(up, false).mean - loss_of(down, false).mean) / (2 * h)).epsilon(1e-7).scale(1.0));
    }
  }
}

TEST_CASE("objective: a loss on the device says what its sum is divided by") {
  ms::Context ctx;
  struct Forgetful {
    nn::LossValue<float> operator()(ms::Context& c, ms::View<const float> output, const nn::BatchView<float>& batch,
                                    bool with_gradient) const {
      return nn::SquaredError{}(c, output, batch, with_gradient);
    }
    nn::LossValue<float> on_device(ms::Context& c, ms::View<const float> output, const nn::BatchView<float>& batch,
                                   bool with_gradient) const {
      nn::LossValue<float> value = nn::SquaredError{}.on_device(c, output, batch, with_gradient);
      value.rows = 0;
      return value;
    }
  };
  const auto output = ms::zeros<float>(ctx, {2, 1}), targets = ms::zeros<float>(ctx, {2, 1});
  const nn::Objective loss = Forgetful{};
  const nn::BatchView<float> batch{.inputs = output.view(), .targets = targets.view()};
  CHECK(loss(ctx, output.view(), batch).mean == 0.0);
  CHECK(message_of<ms::ArgumentError>([&] { (void)loss.on_device<float>(ctx, output.view(), batch); }) ==
        "objective: the loss is left on the device as a sum over 0 rows; set LossValue::rows to what the sum is "
        "divided by");
}

TEST_CASE("objective: answers of every position count for sequences of labels") {
  ms::Context ctx;
  // Two samples of three tokens, two classes; the last token of the second is wrong.
  const auto logits = ms::from_host<float>(ctx, {2, 3, 2}, std::vector<float>{2, 0, 0, 2, 2, 0, 0, 2, 2, 0, 2, 0});
  nn::Batch<float> batch;
  batch.inputs = ms::zeros<float>(ctx, {2, 3});
  batch.labels = ms::from_host<std::int32_t>(ctx, {2, 3}, std::vector<std::int32_t>{0, 1, 0, 1, 0, 1});
  const auto value = nn::Objective{}(ctx, logits.view(), batch);
  CHECK(value.judged == 6);
  CHECK(value.correct == 5);
  const double right = std::log1p(std::exp(-2.0)), wrong = right + 2.0;
  CHECK(value.mean == doctest::Approx((5 * right + wrong) / 6).epsilon(1e-6));
}

TEST_CASE("objective: what a loss cannot serve is refused in a sentence") {
  ms::Context ctx;
  const auto output = ms::zeros<double>(ctx, {2, 3});
  const auto small = ms::zeros<float>(ctx, {2, 3});
  nn::Batch<double> batch;
  batch.inputs = ms::zeros<double>(ctx, {2, 1});
  nn::Batch<float> floats;
  floats.inputs = ms::zeros<float>(ctx, {2, 1});
  const auto data_error = [&](const nn::Objective& loss) {
    return message_of<ms::DataError>([&] { (void)loss(ctx, output.view(), batch); });
  };
  CHECK(contains(data_error(nn::CrossEntropy{}), "neither labels nor targets"));
  CHECK(contains(data_error(nn::SquaredError{}), "squared error: the batch has no targets"));
  CHECK(contains(data_error(nn::Huber{}), "Huber loss: the batch has no targets"));
  CHECK(contains(data_error(nn::BinaryCrossEntropy{}), "binary cross-entropy: the batch has no targets"));
  batch.labels = ms::from_host<std::int32_t>(ctx, {2}, std::vector<std::int32_t>{0, 1});
  CHECK(contains(data_error(nn::SquaredError{}), "only labels"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)nn::Objective(Careless{})(ctx, output.view(), batch); }),
                 "not made for networks of float64"));
  CHECK(contains(message_of<ms::ShapeError>([&] { (void)nn::Objective(Careless{})(ctx, small.view(), floats); }),
                 "the gradient has shape"));
}

TEST_CASE("objective: a label that is neither 0 nor 1 is no answer to a question of yes and no") {
  ms::Context ctx;
  nn::Batch<float> batch;
  batch.inputs = ms::zeros<float>(ctx, {3, 1});
  batch.labels = ms::from_host<std::int32_t>(ctx, {3}, std::vector<std::int32_t>{0, 2, 1});
  const auto output = ms::zeros<float>(ctx, {3, 1});
  CHECK(support::message_of<ms::DataError>(
            [&] { (void)nn::BinaryCrossEntropy{}(ctx, output.view(), nn::BatchView<float>(batch)); }) ==
        "binary cross-entropy: label 1 is 2; it must be 0 or 1; give targets for probabilities, cross-entropy for more "
        "classes");
}

TEST_CASE("batch source: a function that makes samples, and batches of any size") {
  ms::Context ctx;
  const nn::BatchSource<float> squares(10, [](ms::Context& c, std::span<const std::int64_t> indices) {
    std::vector<float> x, y;
    for (const std::int64_t i : indices) {
      x.push_back(static_cast<float>(i));
      y.push_back(static_cast<float>(i * i));
    }
    const auto n = std::ssize(indices);
    return nn::Batch<float>{.inputs = ms::from_host<float>(c, {n, 1}, x),
                            .targets = ms::from_host<float>(c, {n, 1}, y)};
  });
  CHECK(squares.size() == 10);
  for (const std::int64_t size : {1, 3, 10, 100}) {
    std::vector<float> seen;
    squares.for_each_batch(ctx, size, [&](const nn::BatchView<float>& batch) {
      CHECK(batch.size() <= size);
      for (const float y : ms::to_host(ctx, batch.targets)) seen.push_back(y);
    });
    CHECK(seen == std::vector<float>{0, 1, 4, 9, 16, 25, 36, 49, 64, 81});
  }
  const std::vector<std::int64_t> some{7, 2, 7};
  CHECK(ms::to_host(ctx, squares.batch(ctx, some).inputs) == std::vector<float>{7, 2, 7});

  CHECK(contains(message_of<ms::ArgumentError>([&] { squares.for_each_batch(ctx, 0, [](const auto&) {}); }),
                 "batch size is 0"));
  CHECK_THROWS_AS(
      nn::BatchSource<float>(-1, [](ms::Context&, std::span<const std::int64_t>) { return nn::Batch<float>(); }),
      ms::ArgumentError);
  CHECK_THROWS_AS(nn::BatchSource<float>(1, nullptr), ms::ArgumentError);
  const nn::BatchSource<float> wrong(3, [](ms::Context& c, std::span<const std::int64_t>) {
    return nn::Batch<float>{.inputs = ms::zeros<float>(c, {2, 1})};
  });
  CHECK(contains(message_of<ms::ShapeError>([&] { wrong.for_each_batch(ctx, 3, [](const auto&) {}); }),
                 "a batch of 3 samples was asked for"));
}

TEST_CASE("batch: a copy has memory of its own") {
  ms::Context ctx;
  nn::Batch<float> batch;
  batch.inputs = ms::from_host<float>(ctx, {2, 1}, std::vector<float>{1, 2});
  batch.labels = ms::from_host<std::int32_t>(ctx, {2}, std::vector<std::int32_t>{3, 4});
  batch.extra.push_back(ms::from_host<float>(ctx, {2}, std::vector<float>{5, 6}));
  const nn::Batch<float> copy = nn::copy_of(ctx, nn::BatchView<float>(batch));
  ms::copy<float>(ctx, ms::zeros<float>(ctx, {2, 1}), batch.inputs);
  CHECK(ms::to_host(ctx, copy.inputs) == std::vector<float>{1, 2});
  CHECK(ms::to_host(ctx, copy.labels) == std::vector<std::int32_t>{3, 4});
  CHECK(copy.targets.empty());
  CHECK(ms::to_host(ctx, copy.extra.at(0)) == std::vector<float>{5, 6});
}

TEST_SUITE_END();

}  // namespace nn_loss_test
