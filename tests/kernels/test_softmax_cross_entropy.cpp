#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/kernels/softmax_cross_entropy.cuh>
#include <support/check.hpp>

namespace kernels_softmax_cross_entropy_test {

namespace ms = meristem;
namespace kernels = meristem::kernels;
using support::Guarded;
using support::message_of;

TEST_SUITE_BEGIN("unit");

namespace {

struct Size {
  std::int64_t rows, classes;
};

const std::vector<Size> sizes = {{1, 1}, {1, 10}, {31, 1}, {33, 10}, {5, 33}, {3, 100}, {2, 31}, {1, 1000}};

struct Oracle {
  double loss = 0.0;
  std::int64_t correct = 0;
  std::vector<double> probabilities, gradient;
};

template <class T>
Oracle oracle(const std::vector<T>& logits, const std::vector<std::int32_t>& labels, double smoothing) {
  Oracle result;
  const std::size_t rows = labels.size(), classes = logits.size() / rows;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::vector<double> x(logits.begin() + static_cast<std::ptrdiff_t>(r * classes),
                                logits.begin() + static_cast<std::ptrdiff_t>((r + 1) * classes));
    const auto label = static_cast<std::size_t>(labels[r]);
    const auto largest = std::max_element(x.begin(), x.end());  // the first one
    double sum = 0.0;
    for (const double value : x) sum += std::exp(value - *largest);
    if (largest - x.begin() == labels[r]) ++result.correct;
    for (std::size_t k = 0; k < classes; ++k) {
      const double log_p = x[k] - *largest - std::log(sum);
      const double q = (k == label ? 1.0 - smoothing : 0.0) + smoothing / static_cast<double>(classes);
      result.loss -= q * log_p / static_cast<double>(rows);
      result.probabilities.push_back(std::exp(log_p));
      result.gradient.push_back((std::exp(log_p) - q) / static_cast<double>(rows));
    }
  }
  return result;
}

// exp's argument is rounded by eps / 2 of a range of at most 2 scales and exp itself by an ulp; the logarithm of their
// sum and the probabilities inherit that relative error. Smoothing adds a sum of `classes` terms as large as the range,
// rounded in double, here and in the oracle.
template <class T>
double tolerance(const std::vector<T>& logits, std::int64_t classes) {
  const double range = 2 * support::scale_of(logits);
  return 2 * support::eps<T> * (range + 2) + 2 * support::eps<double> * range * std::sqrt(static_cast<double>(classes));
}

std::vector<std::int32_t> some_labels(std::int64_t rows, std::int64_t classes) {
  std::vector<std::int32_t> labels;
  for (std::int64_t r = 0; r < rows; ++r) labels.push_back(static_cast<std::int32_t>((r * 7 + r / 3) % classes));
  return labels;
}

template <class T>
kernels::ClassificationLoss loss_of(ms::Context& ctx, const ms::Shape& shape, const std::vector<T>& logits,
                                    const std::vector<std::int32_t>& labels, double smoothing = 0.0) {
  const auto rows = static_cast<std::int64_t>(labels.size());
  return kernels::softmax_cross_entropy(ctx, ms::from_host<T>(ctx, shape, logits).view(),
                                        ms::from_host<std::int32_t>(ctx, {rows}, labels), smoothing);
}

}  // namespace

TEST_CASE_TEMPLATE("softmax_cross_entropy: loss, hits and gradient against loops in double", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const Size& size : sizes) {
      const std::int64_t rows = size.rows, classes = size.classes;
      for (const double smoothing : {0.0, 0.1}) {
        INFO("rows ", rows, ", classes ", classes, ", smoothing ", smoothing);
        const std::vector<T> x = support::normal_values<T>(rows * classes, 1, 3.0);
        const std::vector<std::int32_t> labels = some_labels(rows, classes);
        const Oracle expected = oracle(x, labels, smoothing);
        const auto logits = ms::from_host<T>(ctx, {rows, classes}, x);
        const auto device_labels = ms::from_host<std::int32_t>(ctx, {rows}, labels);

        Guarded<T> gradient(ctx, {rows, classes}, std::numeric_limits<T>::quiet_NaN());
        const auto got = kernels::softmax_cross_entropy(ctx, logits.view(), device_labels, smoothing, gradient.view());
        gradient.check_guards(ctx);
        const double error = tolerance(x, classes);
        CHECK(std::abs(got.loss_mean - expected.loss) <= error);
        CHECK(got.correct == expected.correct);
        support::check_close(gradient.values(ctx), expected.gradient, error / static_cast<double>(rows));

        if (smoothing == 0.0) continue;
        const auto loss_only = kernels::softmax_cross_entropy(ctx, logits.view(), device_labels, smoothing);
        CHECK(loss_only.loss_mean == got.loss_mean);
        CHECK(loss_only.correct == got.correct);

        Guarded<T> in_place(ctx, {rows, classes});
        ms::copy(ctx, logits.view(), in_place.view());
        const auto again =
            kernels::softmax_cross_entropy(ctx, in_place.view(), device_labels, smoothing, in_place.view());
        CHECK(again.loss_mean == got.loss_mean);
        support::check_same_bits(in_place.values(ctx), gradient.values(ctx), "in place");
      }
    }
  });
}

TEST_CASE_TEMPLATE("softmax_cross_entropy: gradient agrees with central differences", T, double) {
  ms::Context ctx({.seed = 1});
  const std::int64_t rows = 3, classes = 5;
  const std::vector<T> x = support::normal_values<T>(rows * classes, 2);
  const std::vector<std::int32_t> labels = {4, 0, 2};
  for (const double smoothing : {0.0, 0.2}) {
    ms::Tensor<T> gradient(ctx, {rows, classes});
    kernels::softmax_cross_entropy(ctx, ms::from_host<T>(ctx, {rows, classes}, x).view(),
                                   ms::from_host<std::int32_t>(ctx, {rows}, labels), smoothing, gradient.view());
    const double h = 1e-5;
    std::vector<double> difference;
    for (std::size_t i = 0; i < x.size(); ++i) {
      std::vector<T> above = x, below = x;
      above[i] += h;
      below[i] -= h;
      difference.push_back((loss_of<T>(ctx, {rows, classes}, above, labels, smoothing).loss_mean -
                            loss_of<T>(ctx, {rows, classes}, below, labels, smoothing).loss_mean) /
                           (2 * h));
    }
    // Truncation h^2 / 6 of a third derivative below 1, and a few ulp of a loss of about 2 over 2h: 1e-10.
    support::check_close(ms::to_host(ctx, gradient), difference, 5e-10);
  }
}

TEST_CASE_TEMPLATE("softmax_cross_entropy: closed forms", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    const double error = 8 * support::eps<T>;
    for (const double s : {0.0, 0.1, 0.9}) {
      // Equal logits: log(classes), whatever the smoothing.
      CHECK(std::abs(loss_of<T>(ctx, {1, 10}, std::vector<T>(10, T(4)), {3}, s).loss_mean - std::log(10.0)) <= error);
      // One logit of 2 at the label, 0 elsewhere: log(e^2 + 9) - 2 (1 - s + s / 10).
      std::vector<T> x(10, T(0));
      x[3] = T(2);
      const double expected = std::log(std::exp(2.0) + 9.0) - 2.0 * (1.0 - s + s / 10.0);
      CHECK(std::abs(loss_of<T>(ctx, {1, 10}, x, {3}, s).loss_mean - expected) <= 2 * error);
    }
  });
}

TEST_CASE_TEMPLATE("softmax_cross_entropy: extreme logits stay finite", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    const std::vector<T> x = {T(1e4), T(-1e4), T(1e4), T(-1e4), T(1e4), T(1e4), T(-1e4), T(-1e4)};
    const auto logits = ms::from_host<T>(ctx, {4, 2}, x);
    Guarded<T> gradient(ctx, {4, 2}), probabilities(ctx, {4, 2});
    const auto got = kernels::softmax_cross_entropy(
        ctx, logits.view(), ms::from_host<std::int32_t>(ctx, {4}, {1, 0, 0, 1}), 0.0, gradient.view());
    CHECK(got.loss_mean == doctest::Approx((20000.0 + 0.0 + 2.0 * std::log(2.0)) / 4.0).epsilon(1e-12));
    CHECK(got.correct == 2);
    CHECK(gradient.values(ctx) == std::vector<T>{T(0.25), T(-0.25), 0, 0, T(-0.125), T(0.125), T(0.125), T(-0.125)});
    kernels::softmax(ctx, logits, probabilities.view());
    CHECK(probabilities.values(ctx) == std::vector<T>{1, 0, 1, 0, T(0.5), T(0.5), T(0.5), T(0.5)});
  });
}

TEST_CASE_TEMPLATE("softmax_cross_entropy: infinite, huge and shifted logits as PyTorch's in float64", T, float,
                   double) {
  struct Case {
    std::vector<T> logits;
    std::int32_t label;
    double smoothing, loss;
    std::vector<double> gradient;
  };
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const std::vector<Case> cases{
      {{-infinity, T(0), T(1)}, 1, 0.0, 1.3132616875182228, {0.0, -0.7310585786300049, 0.7310585786300049}},
      {{T(1e38), T(-1e38), T(0)}, 1, 0.0, 2e38, {1.0, -1.0, 0.0}},
      {{T(1000), T(1000), T(999)},
       2,
       0.3,
       1.6619948040582513,
       {0.32231879825151816, 0.32231879825151816, -0.6446375965030363}},
      {{T(88.8), T(-88.8)}, 1, 0.0, 177.6, {1.0, -1.0}}};
  // A few roundings of numbers as large as the loss; logits of 88.8 are rounded to T themselves.
  const double unit = 8 * static_cast<double>(std::numeric_limits<T>::epsilon());
  support::for_every_executor([&](ms::Context& ctx) {
    for (const Case& c : cases) {
      const auto classes = static_cast<std::int64_t>(c.logits.size());
      ms::Tensor<T> gradient(ctx, {1, classes});
      const auto got = kernels::softmax_cross_entropy(ctx, ms::from_host<T>(ctx, {1, classes}, c.logits).view(),
                                                      ms::from_host<std::int32_t>(ctx, {1}, {c.label}), c.smoothing,
                                                      gradient.view());
      CHECK(std::abs(got.loss_mean - c.loss) <= unit * c.loss);
      support::check_close(ms::to_host(ctx, gradient), c.gradient, unit);
    }
  });
}

TEST_CASE_TEMPLATE("softmax_cross_entropy: hits count the first largest logit, never NaN", T, float, double) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  support::for_every_executor([&](ms::Context& ctx) {
    CHECK(loss_of<T>(ctx, {2, 3}, {1, 5, 5, 1, 5, 5}, {1, 2}).correct == 1);
    for (std::int32_t label = 0; label < 3; ++label) {
      const auto got = loss_of<T>(ctx, {1, 3}, {1, nan, 2}, {label});
      CHECK(got.correct == 0);
      CHECK(std::isnan(got.loss_mean));
    }
  });
}

TEST_CASE_TEMPLATE("softmax_cross_entropy: the same bits for one and two workers and for two runs", T, float, double) {
  const std::int64_t classes = 3;
  const auto run = [&](std::int64_t rows, int workers, bool gpu_blocks) {
    const std::vector<T> x = support::normal_values<T>(rows * classes, 3, 2.0);
    const std::vector<std::int32_t> labels = some_labels(rows, classes);
    const Oracle expected = oracle(x, labels, 0.1);
    ms::ContextOptions options{.seed = 1};
    options.executor.threads = workers;
    options.executor.gpu_blocks = gpu_blocks;
    ms::Context ctx(options);
    ms::Tensor<T> gradient(ctx, {rows, classes});
    const auto got =
        kernels::softmax_cross_entropy(ctx, ms::from_host<T>(ctx, {rows, classes}, x).view(),
                                       ms::from_host<std::int32_t>(ctx, {rows}, labels), 0.1, gradient.view());
    const double error = tolerance(x, classes);
    CHECK(std::abs(got.loss_mean - expected.loss) <= error);
    CHECK(got.correct == expected.correct);
    std::vector<T> bits = ms::to_host(ctx, gradient);
    support::check_close(bits, expected.gradient, error / static_cast<double>(rows));
    std::vector<double> all(bits.begin(), bits.end());
    all.push_back(got.loss_mean);
    return all;
  };
  // With more than 8192 rows blocks take more rows than they have warps.
  const std::vector<double> first = run(8203, 1, false);
  support::check_same_bits(first, run(8203, 1, false));
  support::check_same_bits(first, run(8203, 2, false));
  support::check_same_bits(run(300, 1, true), run(300, 2, true), "GPU blocks");
}

TEST_CASE_TEMPLATE("softmax_cross_entropy: softmax and argmax against loops in double", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const Size& size : sizes) {
      const std::int64_t rows = size.rows, classes = size.classes;
      INFO("rows ", rows, ", classes ", classes);
      const std::vector<T> x = support::normal_values<T>(rows * classes, 4, 3.0);
      const auto logits = ms::from_host<T>(ctx, {rows, classes}, x);
      Guarded<T> probabilities(ctx, {rows, classes});
      kernels::softmax(ctx, logits, probabilities.view());
      probabilities.check_guards(ctx);
      // As for the loss: the relative error of exp with a rounded argument, twice.
      support::check_close(probabilities.values(ctx), oracle(x, some_labels(rows, classes), 0.0).probabilities,
                           tolerance(x, classes));

      std::vector<std::int32_t> expected;
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto begin = x.begin() + static_cast<std::ptrdiff_t>(r * classes);
        expected.push_back(static_cast<std::int32_t>(std::max_element(begin, begin + classes) - begin));
      }
      Guarded<std::int32_t> indices(ctx, {rows});
      kernels::argmax(ctx, logits.view(), indices.view());
      indices.check_guards(ctx);
      CHECK(indices.values(ctx) == expected);

      const std::vector<T> separate = probabilities.values(ctx);
      ms::copy(ctx, logits.view(), probabilities.view());
      kernels::softmax(ctx, probabilities.view(), probabilities.view());
      support::check_same_bits(probabilities.values(ctx), separate, "in place");
    }
  });
}

TEST_CASE_TEMPLATE("softmax_cross_entropy: argmax takes the first of equals and the first NaN", T, float, double) {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  support::for_every_executor([&](ms::Context& ctx) {
    const auto argmax = [&](const std::vector<T>& row) {
      Guarded<std::int32_t> index(ctx, {1});
      kernels::argmax(ctx, ms::from_host<T>(ctx, {1, static_cast<std::int64_t>(row.size())}, row).view(), index.view());
      index.check_guards(ctx);
      return index.values(ctx)[0];
    };
    CHECK(argmax({1, 3, 3, 2}) == 1);
    CHECK(argmax({-inf, -inf, -inf}) == 0);
    CHECK(argmax({1, inf, nan, 2, nan}) == 2);
    CHECK(argmax({nan, 1}) == 0);
    std::vector<T> row(100, T(1));
    row[40] = row[35] = T(2);
    CHECK(argmax(row) == 35);
    CHECK(argmax(std::vector<T>(100, T(0))) == 0);
    row[99] = nan;
    CHECK(argmax(row) == 99);
  });
}

TEST_CASE("softmax_cross_entropy: an empty batch has probabilities and indices, but no loss") {
  support::for_every_executor([](ms::Context& ctx) {
    const auto logits = ms::zeros<float>(ctx, {0, 10});
    Guarded<float> probabilities(ctx, {0, 10});
    Guarded<std::int32_t> indices(ctx, {0});
    kernels::softmax(ctx, logits, probabilities.view());
    kernels::argmax(ctx, logits.view(), indices.view());
    probabilities.check_guards(ctx);
    indices.check_guards(ctx);
  });
}

TEST_CASE("softmax_cross_entropy: leading axes are rows") {
  ms::Context ctx({.seed = 1});
  const std::vector<float> x = support::normal_values<float>(2 * 3 * 5, 5);
  CHECK(loss_of<float>(ctx, {2, 3, 5}, x, {0, 1, 2, 3, 4, 0}).loss_mean ==
        loss_of<float>(ctx, {6, 5}, x, {0, 1, 2, 3, 4, 0}).loss_mean);
}

TEST_CASE("softmax_cross_entropy: the first label out of range is named") {
  support::for_every_executor([](ms::Context& ctx) {
    const std::vector<float> x = support::normal_values<float>(100 * 10, 6);
    std::vector<std::int32_t> labels = some_labels(100, 10);
    labels[90] = -1;
    CHECK(message_of<ms::DataError>([&] {
            loss_of<float>(ctx, {100, 10}, x, labels);
          }) ==
          "softmax_cross_entropy: the label of row 90 is -1, but the logits have 10 classes, numbered from 0; check "
          "the labels, or give the last layer more outputs");
    labels[45] = labels[46] = 10;
    CHECK(support::contains(message_of<ms::DataError>([&] {
                              loss_of<float>(ctx, {100, 10}, x, labels);
                            }),
                            "the label of row 45 is 10, but the logits have 10 classes"));
  });
}

TEST_CASE("softmax_cross_entropy: bad arguments are named") {
  ms::Context ctx({.seed = 1});
  const std::string name = "softmax_cross_entropy: ";
  CHECK(message_of<ms::ArgumentError>([&] {
          loss_of<float>(ctx, {0, 10}, {}, {});
        }) == name + "got a batch of 0 rows; a mean needs at least one");
  CHECK(message_of<ms::ArgumentError>([&] {
          loss_of<float>(ctx, {2, 0}, {}, {0, 0});
        }) == name + "logits of shape (2, 0) have 0 classes; at least one is needed");
  for (const double smoothing : {1.0, -0.5, std::nan("")}) {
    CHECK(message_of<ms::ArgumentError>([&] {
            loss_of<float>(ctx, {1, 2}, {0, 0}, {0}, smoothing);
          }) == ms::concat(name, "label_smoothing is ", smoothing, "; it must be at least 0 and below 1"));
  }
  CHECK(message_of<ms::ShapeError>([&] {
          loss_of<float>(ctx, {2, 2}, {0, 0, 0, 0}, {0});
        }) == name + "logits have shape (2, 2), labels have shape (1); one label is needed for each of the 2 rows");
  auto a = ms::zeros<float>(ctx, {2, 3}), b = ms::zeros<float>(ctx, {3, 2}), number = ms::zeros<float>(ctx, {});
  auto two = ms::zeros<std::int32_t>(ctx, {2}), three = ms::zeros<std::int32_t>(ctx, {3});
  CHECK(message_of<ms::ShapeError>([&] { kernels::softmax_cross_entropy(ctx, a.view(), two.view(), 0.0, b.view()); }) ==
        name + "logits has shape (2, 3), dlogits has shape (3, 2); they must be equal");
  CHECK(message_of<ms::ShapeError>([&] { kernels::softmax_cross_entropy(ctx, number.view(), two.view(), 0.0); }) ==
        name + "logits have rank 0; the last axis must be the classes");
  CHECK(message_of<ms::ShapeError>([&] { kernels::softmax(ctx, a, b.view()); }) ==
        "softmax: logits has shape (2, 3), probabilities has shape (3, 2); they must be equal");
  CHECK(message_of<ms::ShapeError>([&] { kernels::argmax(ctx, a.view(), three.view()); }) ==
        "argmax: logits have shape (2, 3), indices have shape (3); one index is needed for each of the 2 rows");
  CHECK(
      support::contains(message_of<ms::ShapeError>([&] { kernels::argmax(ctx, a.view().slice(1, 0, 2), two.view()); }),
                        "argmax: logits of shape (2, 2) is strided"));
}

TEST_SUITE_END();

}  // namespace kernels_softmax_cross_entropy_test
