#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include <meristem/grow/units/edit.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <optim/pytorch_trajectories.hpp>
#include <support/check.hpp>

namespace optim_pytorch_test {

namespace ms = meristem;

namespace {

/// A vector whose gradient the test sets.
struct Point final : ms::nn::Layer<double> {
  ms::nn::Parameter<double> x;
  explicit Point(ms::Context& ctx) : x(ctx, "x", {3}, true) {}
  std::string_view kind() const override { return "Point"; }
  ms::Shape output_shape(const ms::Shape& input) const override { return input; }
  ms::nn::Trace<double> do_forward(ms::Context&, ms::View<const double>, const ms::nn::Pass<double>&) override {
    return {};
  }
  ms::Tensor<double> do_backward(ms::Context&, ms::View<const double>, const ms::nn::Trace<double>&, ms::Tensor<double>,
                                 const ms::nn::Pass<double>&) override {
    return {};
  }
  void describe(ms::nn::Description<double>& description) override { description.parameter(x); }
};

std::vector<double> part(const std::vector<double>& values, std::size_t begin, std::size_t end) {
  return {values.begin() + static_cast<std::ptrdiff_t>(begin), values.begin() + static_cast<std::ptrdiff_t>(end)};
}

/// Runs the optimiser that `make` makes along the gradients of a case, and compares every step.
template <class Make, class Case>
void check(const Make& make, const Case& expected) {
  ms::Context ctx;
  Point point(ctx);
  point.x.value = ms::from_host<double>(ctx, {3}, part(pytorch::start, 0, 3));
  auto optimizer = make(point);
  std::size_t size = 3, at = 0;
  for (std::size_t step = 0; step < pytorch::gradients.size(); ++step) {
    CAPTURE(step);
    if (expected.grows && step == pytorch::joins) {
      size = 5;
      ms::grow::Edit<double> edit;
      edit.axes.push_back(
          {point.x.id, 0, ms::grow::appended(3, 2), ms::from_host<double>(ctx, {2}, part(pytorch::start, 3, 5))});
      ms::grow::apply<double>(ctx, edit, point, &optimizer);
    }
    if (expected.changing) optimizer.set_learning_rate(expected.learning_rate * pytorch::rates[step]);
    const auto n = static_cast<std::int64_t>(size);
    point.x.gradient = ms::from_host<double>(ctx, {n}, part(pytorch::gradients[step], 0, size));
    optimizer.step(ctx);
    // The file has 15 digits. A step rounds about ten numbers of the size of the weights, and hands roundings on.
    const std::vector<double> now = part(expected.path, at, at + size);
    const double scale = support::scale_of(now, 20.0);  // of the momentum too, which sums gradients up
    support::check_close(ms::to_host(ctx, point.x.value), now,
                         static_cast<double>(step + 1) * 10 * support::eps<double> * scale);
    at += size;
  }
  CHECK(at == expected.path.size());
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("optimizers: Sgd goes PyTorch's way with every option, alone and together, also after growth") {
  std::size_t number = 0;
  for (const pytorch::Sgd& expected : pytorch::sgd_trajectories) {
    CAPTURE(number++);
    check(
        [&](Point& point) {
          return ms::optim::Sgd<double>(point, {.learning_rate = expected.learning_rate,
                                                .momentum = expected.momentum,
                                                .dampening = expected.dampening,
                                                .weight_decay = expected.weight_decay,
                                                .nesterov = expected.nesterov});
        },
        expected);
  }
}

TEST_CASE("optimizers: AdamW goes PyTorch's way with every option, alone and together, also after growth") {
  std::size_t number = 0;
  for (const pytorch::AdamW& expected : pytorch::adamw_trajectories) {
    CAPTURE(number++);
    check(
        [&](Point& point) {
          return ms::optim::AdamW<double>(point, {.learning_rate = expected.learning_rate,
                                                  .beta1 = expected.beta1,
                                                  .beta2 = expected.beta2,
                                                  .epsilon = expected.epsilon,
                                                  .weight_decay = expected.weight_decay});
        },
        expected);
  }
}

TEST_SUITE_END();

}  // namespace optim_pytorch_test
