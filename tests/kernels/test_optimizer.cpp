#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/kernels/optimizer.cuh>
#include <support/check.hpp>

namespace kernels_optimizer_test {

TEST_SUITE_BEGIN("unit");

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;
using support::Guarded;

constexpr int steps = 10;

template <class T>
std::vector<T> gradient_of_step(std::int64_t size, int step) {
  return support::normal_values<T>(size, 100 + static_cast<std::uint64_t>(step));
}

// Ten steps of one float operation after the other: every step adds a few roundings of numbers of size `scale`.
template <class T>
double tolerance(double scale) {
  return 8 * steps * support::eps<T> * scale;
}

template <class T>
void put(ms::Context& ctx, ms::View<T> to, const std::vector<T>& values) {
  if (values.empty()) return;
  const auto tensor = ms::from_host<T>(ctx, to.shape(), values);
  ms::copy(ctx, tensor.view(), to);
}

template <class T>
void check_sgd(ms::Context& ctx, std::int64_t size, const mk::SgdStep& step) {
  Guarded<T> parameter(ctx, {size});
  Guarded<T> buffer(ctx, {size}, T(0));
  const auto start = support::normal_values<T>(size, 1);
  put(ctx, parameter.view(), start);
  std::vector<double> w = support::to_double(start);
  std::vector<double> v(w.size(), 0.0);
  for (int t = 0; t < steps; ++t) {
    const auto gradient = gradient_of_step<T>(size, t);
    const auto device_gradient = ms::from_host<T>(ctx, {size}, gradient);
    mk::sgd_step(ctx, step, device_gradient.view(), step.momentum == 0.0 ? ms::View<T>() : buffer.view(),
                 parameter.view());
    for (std::size_t i = 0; i < w.size(); ++i) {
      double d = static_cast<double>(gradient[i]);
      if (step.weight_decay != 0.0) d += step.weight_decay * w[i];
      if (step.momentum != 0.0) {
        v[i] = step.momentum * v[i] + (1.0 - step.dampening) * d;
        d = step.nesterov ? d + step.momentum * v[i] : v[i];
      }
      w[i] -= step.learning_rate * d;
    }
  }
  parameter.check_guards(ctx);
  buffer.check_guards(ctx);
  support::check_close(parameter.values(ctx), w, tolerance<T>(support::scale_of(w, 1.0)), "parameter");
  support::check_close(buffer.values(ctx), v, tolerance<T>(support::scale_of(v, 1.0)), "momentum buffer");
}

template <class T>
void check_adamw(ms::Context& ctx, std::int64_t size, mk::AdamWStep step) {
  Guarded<T> parameter(ctx, {size});
  Guarded<T> first(ctx, {size}, T(0));
  Guarded<T> second(ctx, {size}, T(0));
  const auto start = support::normal_values<T>(size, 1);
  put(ctx, parameter.view(), start);
  std::vector<double> w = support::to_double(start);
  std::vector<double> m(w.size(), 0.0), v(w.size(), 0.0);
  double power1 = 1.0, power2 = 1.0;
  for (int t = 1; t <= steps; ++t) {
    const auto gradient = gradient_of_step<T>(size, t);
    const auto device_gradient = ms::from_host<T>(ctx, {size}, gradient);
    step.step = t;
    mk::adamw_step(ctx, step, device_gradient.view(), first.view(), second.view(), parameter.view());
    power1 *= step.beta1;
    power2 *= step.beta2;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double g = static_cast<double>(gradient[i]);
      w[i] -= step.learning_rate * step.weight_decay * w[i];
      m[i] = step.beta1 * m[i] + (1.0 - step.beta1) * g;
      v[i] = step.beta2 * v[i] + (1.0 - step.beta2) * g * g;
      const double m_hat = m[i] / (1.0 - power1);
      const double v_hat = v[i] / (1.0 - power2);
      w[i] -= step.learning_rate * m_hat / (std::sqrt(v_hat) + step.epsilon);
    }
  }
  parameter.check_guards(ctx);
  first.check_guards(ctx);
  second.check_guards(ctx);
  support::check_close(first.values(ctx), m, tolerance<T>(support::scale_of(m, 1.0)), "first moment");
  support::check_close(second.values(ctx), v, tolerance<T>(support::scale_of(v, 1.0)), "second moment");
  support::check_close(parameter.values(ctx), w, tolerance<T>(support::scale_of(w, 1.0)), "parameter");
}

}  // namespace

TEST_CASE_TEMPLATE("optimizer: ten SGD steps match the double loop", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::int64_t size : {0, 1, 31, 33, 130}) {
      CAPTURE(size);
      check_sgd<T>(ctx, size, {.learning_rate = 0.1});
      check_sgd<T>(ctx, size, {.learning_rate = 0.1, .weight_decay = 5e-2});
      check_sgd<T>(ctx, size, {.learning_rate = 0.1, .momentum = 0.9});
      check_sgd<T>(ctx, size, {.learning_rate = 0.05, .momentum = 0.9, .dampening = 0.3, .weight_decay = 1e-2});
      check_sgd<T>(ctx, size, {.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-2, .nesterov = true});
      check_sgd<T>(ctx, size, {.learning_rate = 0.0, .momentum = 0.9, .weight_decay = 1e-2});
    }
  });
}

TEST_CASE_TEMPLATE("optimizer: ten AdamW steps match the double loop", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::int64_t size : {0, 1, 31, 33, 130}) {
      CAPTURE(size);
      check_adamw<T>(ctx, size, {});
      check_adamw<T>(ctx, size, {.learning_rate = 0.1, .weight_decay = 0.0});
      check_adamw<T>(ctx, size,
                     {.learning_rate = 0.05, .beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.1});
      check_adamw<T>(ctx, size, {.learning_rate = 0.05, .beta1 = 0.0, .beta2 = 0.0, .epsilon = 1e-3});
    }
  });
}

namespace {

/// `steps[k]` for the elements of stage k equals that step alone on each of them, bit for bit.
template <class T, class Step, class Run>
void check_stages(ms::Context& ctx, std::int64_t size, const std::vector<Step>& all, const Run& run) {
  std::vector<std::int32_t> stage;
  for (std::int64_t i = 0; i < size; ++i) {
    stage.push_back(static_cast<std::int32_t>(i * i % 7 % static_cast<std::int64_t>(all.size())));
  }
  const auto stages = ms::from_host<std::int32_t>(ctx, {size}, stage);
  const auto after = [&](const std::vector<Step>& steps) {
    std::vector<std::vector<T>> result;
    std::vector<ms::Tensor<T>> tensors;
    for (std::uint64_t k = 0; k < 4; ++k) {
      std::vector<T> values = support::normal_values<T>(size, k);
      if (k == 3) std::transform(values.begin(), values.end(), values.begin(), [](T v) { return v * v; });
      tensors.push_back(ms::from_host<T>(ctx, {size}, values));
    }
    run(ctx, steps, stages.view(), tensors[0], tensors[2], tensors[3], tensors[1]);
    for (const std::size_t k : {1, 2, 3}) result.push_back(ms::to_host(ctx, tensors[k]));
    return result;
  };
  const auto mixed = after(all);
  for (std::size_t k = 0; k < all.size(); ++k) {
    const auto alone = after({all[k]});
    for (std::size_t tensor = 0; tensor < 3; ++tensor) {
      for (std::size_t i = 0; i < stage.size(); ++i) {
        if (stage[i] == static_cast<std::int32_t>(k)) CHECK(mixed[tensor][i] == alone[tensor][i]);
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("optimizer: elements of a growth stage take the step of that stage", T, float, double) {
  ms::ContextOptions options{.seed = 1};
#if !MERISTEM_GPU
  options.executor.gpu_blocks = true;
  options.executor.order = ms::ThreadOrder::shuffled;
#endif
  ms::Context ctx(options);
  for (const std::int64_t size : {0, 1, 33, 130}) {
    CAPTURE(size);
    check_stages<T, mk::SgdStep>(ctx, size, {{.learning_rate = 0.1}, {.learning_rate = 0.3, .weight_decay = 0.1}},
                                 [](auto& c, const auto& steps, auto stage, auto& g, auto&, auto&, auto& w) {
                                   mk::sgd_step<T>(c, steps, stage, g.view(), {}, w.view());
                                 });
    check_stages<T, mk::SgdStep>(ctx, size, {{.momentum = 0.9}, {.momentum = 0.9, .dampening = 0.5}, {.momentum = 0.5}},
                                 [](auto& c, const auto& steps, auto stage, auto& g, auto& v, auto&, auto& w) {
                                   mk::sgd_step<T>(c, steps, stage, g.view(), v.view(), w.view());
                                 });
    check_stages<T, mk::AdamWStep>(ctx, size, {{.step = 1000}, {.learning_rate = 0.5, .step = 3}, {.step = 1}},
                                   [](auto& c, const auto& steps, auto stage, auto& g, auto& m, auto& v, auto& w) {
                                     mk::adamw_step<T>(c, steps, stage, g.view(), m.view(), v.view(), w.view());
                                   });
  }
}

namespace {

/// Parameters of a step, a third of them with two growth stages; sizes about the edges of blocks.
template <class T>
struct Many {
  std::vector<ms::Tensor<T>> parameter, gradient, first, second;
  std::vector<ms::Tensor<std::int32_t>> stage;

  explicit Many(ms::Context& ctx) {
    std::uint64_t seed = 1;
    for (const std::int64_t size : {4097, 1, 0, 4096, 9001, 3, 0, 4095}) {
      const auto filled = [&] { return ms::from_host<T>(ctx, {size}, support::normal_values<T>(size, seed++)); };
      parameter.push_back(filled());
      gradient.push_back(filled());
      first.push_back(filled());
      second.push_back(ms::from_host<T>(ctx, {size}, std::vector<T>(static_cast<std::size_t>(size), T(0.5))));
      std::vector<std::int32_t> stages;
      for (std::int64_t i = 0; i < size; ++i) stages.push_back(i % 5 < 2 ? 1 : 0);
      stage.push_back(ms::from_host<std::int32_t>(ctx, {size}, stages));
    }
  }
  template <class Step>
  static std::vector<Step> steps_of(std::size_t i, const Step& step) {
    std::vector<Step> result{step};
    result[0].learning_rate *= static_cast<double>(i + 1);
    if (i % 3 == 0) {
      result.push_back(result[0]);
      result[1].learning_rate *= 3;
    }
    return result;
  }
  void check_same_bits(ms::Context& ctx, const Many& other) const {
    for (std::size_t i = 0; i < parameter.size(); ++i) {
      CAPTURE(i);
      CHECK(ms::to_host(ctx, parameter[i]) == ms::to_host(ctx, other.parameter[i]));
      CHECK(ms::to_host(ctx, first[i]) == ms::to_host(ctx, other.first[i]));
      CHECK(ms::to_host(ctx, second[i]) == ms::to_host(ctx, other.second[i]));
    }
  }
};

}  // namespace

TEST_CASE_TEMPLATE("optimizer: many parameters in one launch get the bits of one loop each", T, float, double) {
  namespace impl = mk::optimizer_detail;
  support::for_every_executor([](ms::Context& ctx) {
    const mk::SgdStep sgd{.learning_rate = 0.01, .momentum = 0.9, .dampening = 0.25, .weight_decay = 1e-3};
    Many<T> together(ctx), alone(ctx);
    std::vector<mk::SgdParameter<T>> all;
    for (std::size_t i = 0; i < together.parameter.size(); ++i) {
      const auto steps = Many<T>::steps_of(i, sgd);
      all.push_back({steps, together.stage[i], together.gradient[i], together.first[i], together.parameter[i]});
      using Step = impl::MomentumSgd<T>;
      std::vector<typename Step::Numbers> numbers;
      for (const auto& step : steps) numbers.push_back({T(step.learning_rate), T(0.9), T(0.75), T(1e-3), T(0), T(1)});
      const auto table = ms::from_host<typename Step::Numbers>(ctx, {std::ssize(numbers)}, numbers);
      const Step step{alone.gradient[i].data(), alone.first[i].data(), alone.parameter[i].data(), numbers[0]};
      if (numbers.size() == 1) {
        ms::for_each(ctx, alone.parameter[i].size(), step);
      } else {
        ms::for_each(ctx, alone.parameter[i].size(), impl::ByStage<Step>{step, table.data(), alone.stage[i].data()});
      }
    }
    mk::sgd_step<T>(ctx, all);
    together.check_same_bits(ctx, alone);

    const mk::SgdStep plain{.learning_rate = 0.01};
    std::vector<mk::SgdParameter<T>> all_plain;
    for (std::size_t i = 0; i < together.parameter.size(); ++i) {
      const auto steps = Many<T>::steps_of(i, plain);
      all_plain.push_back({steps, together.stage[i], together.gradient[i], {}, together.parameter[i]});
      mk::sgd_step<T>(ctx, steps, alone.stage[i], alone.gradient[i], ms::View<T>(), alone.parameter[i].view());
    }
    mk::sgd_step<T>(ctx, all_plain);
    together.check_same_bits(ctx, alone);

    const mk::AdamWStep adamw{.learning_rate = 0.01, .step = 3};
    std::vector<mk::AdamWParameter<T>> all_adamw;
    for (std::size_t i = 0; i < together.parameter.size(); ++i) {
      const auto steps = Many<T>::steps_of(i, adamw);
      all_adamw.push_back({steps, together.stage[i], together.gradient[i], together.first[i], together.second[i],
                           together.parameter[i]});
      mk::adamw_step<T>(ctx, steps, alone.stage[i], alone.gradient[i], alone.first[i], alone.second[i],
                        alone.parameter[i].view());
    }
    mk::adamw_step<T>(ctx, all_adamw);
    together.check_same_bits(ctx, alone);
    mk::adamw_step<T>(ctx, {});
    mk::sgd_step<T>(ctx, std::span<const mk::SgdParameter<T>>());
  });
}

TEST_CASE("optimizer: a step of which one parameter does not fit changes none") {
  ms::Context ctx;
  const auto gradient = ms::from_host<float>(ctx, {2}, std::vector<float>{1, 1});
  auto fits = ms::zeros<float>(ctx, {2}), other = ms::zeros<float>(ctx, {3});
  const mk::SgdStep step{.learning_rate = 1.0};
  CHECK(support::message_of<ms::ShapeError>([&] {
          mk::sgd_step<float>(ctx, std::vector<mk::SgdParameter<float>>{{{step}, {}, gradient, {}, fits},
                                                                        {{step}, {}, gradient, {}, other}});
        }) == "sgd_step: gradient has shape (2), but the parameter has (3)");
  CHECK(ms::to_host(ctx, fits) == std::vector<float>{0, 0});
}

TEST_CASE("optimizer: the squares of a stage are summed, and stages that do not fit are told") {
  ms::Context ctx({.seed = 1});
  const std::int64_t size = 10000;
  const auto values = support::normal_values<float>(size, 3);
  std::vector<std::int32_t> stage;
  std::vector<double> expected(3, 0.0);
  for (std::int64_t i = 0; i < size; ++i) {
    stage.push_back(static_cast<std::int32_t>(i % 5 % 3));
    const double value = static_cast<double>(values[static_cast<std::size_t>(i)]);
    expected[static_cast<std::size_t>(stage.back())] += value * value;
  }
  const auto x = ms::from_host<float>(ctx, {size}, values);
  const auto stages = ms::from_host<std::int32_t>(ctx, {size}, stage);
  for (const std::int32_t k : {0, 1, 2}) {
    CHECK(mk::stage_sum_squares(ctx, x.view(), stages.view(), k) ==
          doctest::Approx(expected[static_cast<std::size_t>(k)]).epsilon(1e-13));
  }
  auto w = ms::zeros<float>(ctx, {size});
  const std::vector<mk::SgdStep> two(2), uneven = {{.momentum = 0.5}, {}};
  const auto message = [&](const std::vector<mk::SgdStep>& steps, ms::View<const std::int32_t> view) {
    try {
      mk::sgd_step<float>(ctx, steps, view, x.view(), w.view(), w.view());
    } catch (const ms::Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  CHECK(support::contains(message(two, {}), "sgd_step: stage has shape (), but the parameter has (10000)"));
  CHECK(support::contains(message({}, stages), "sgd_step: there are no steps; give one for each growth stage"));
  CHECK(support::contains(message(uneven, stages), "sgd_step: some steps have momentum and some have none"));
}

TEST_CASE("optimizer: known trajectories") {
  ms::Context ctx({.seed = 1});
  const std::vector<double> gradients = {0.3, -0.2, 0.1};
  {
    auto w = ms::from_host<double>(ctx, {1}, std::vector<double>{0.5});
    auto v = ms::zeros<double>(ctx, {1});
    for (const double g : gradients) {
      const auto gradient = ms::from_host<double>(ctx, {1}, std::vector<double>{g});
      mk::sgd_step(ctx, {.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true},
                   gradient.view(), v.view(), w.view());
    }
    // By hand: v = 0.305, w = 0.44205; v = 0.0789205, w = 0.4545051; v = 0.1755735, w = 0.42824897.
    CHECK(ms::to_host(ctx, v)[0] == doctest::Approx(0.1755735).epsilon(1e-6));
    CHECK(ms::to_host(ctx, w)[0] == doctest::Approx(0.42824897).epsilon(1e-6));
  }
  {
    auto w = ms::from_host<double>(ctx, {1}, std::vector<double>{0.5});
    auto m = ms::zeros<double>(ctx, {1});
    auto v = ms::zeros<double>(ctx, {1});
    const auto gradient = ms::from_host<double>(ctx, {1}, std::vector<double>{0.3});
    mk::adamw_step(ctx, {.learning_rate = 0.1, .epsilon = 0.0, .weight_decay = 0.2}, gradient.view(), m.view(),
                   v.view(), w.view());
    // The first step moves by the learning rate whatever the gradient's size; the decay is not scaled by it.
    CHECK(ms::to_host(ctx, w)[0] == doctest::Approx(0.5 * (1 - 0.02) - 0.1).epsilon(1e-12));
  }
}

TEST_CASE("optimizer: a zero gradient leaves the parameter, and a second run gives the same bits") {
  ms::Context ctx({.seed = 1});
  const std::int64_t size = 1000;
  const auto start = support::normal_values<float>(size, 1);
  const auto run = [&](const std::vector<float>& gradient_values) {
    auto w = ms::from_host<float>(ctx, {size}, start);
    auto m = ms::zeros<float>(ctx, {size});
    auto v = ms::zeros<float>(ctx, {size});
    const auto gradient = ms::from_host<float>(ctx, {size}, gradient_values);
    mk::adamw_step(ctx, {.weight_decay = 0.0}, gradient.view(), m.view(), v.view(), w.view());
    return ms::to_host(ctx, w);
  };
  support::check_same_bits(run(std::vector<float>(size, 0.0f)), start, "zero gradient");
  const auto gradient = gradient_of_step<float>(size, 1);
  support::check_same_bits(run(gradient), run(gradient), "second run");
}

TEST_CASE("optimizer: hyper-parameters out of range and shapes that differ are named") {
  ms::Context ctx({.seed = 1});
  auto w = ms::zeros<float>(ctx, {2, 3});
  auto g = ms::zeros<float>(ctx, {2, 3});
  auto other = ms::zeros<float>(ctx, {3, 2});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto sgd = [&](const mk::SgdStep& step) {
    return support::message_of<ms::ArgumentError>([&] { mk::sgd_step(ctx, step, g.view(), other.view(), w.view()); });
  };
  CHECK(sgd({.learning_rate = -1.0}) == "sgd_step: learning_rate is -1; it must be 0 or more, and finite");
  CHECK(sgd({.learning_rate = nan}) == "sgd_step: learning_rate is nan; it must be 0 or more, and finite");
  CHECK(sgd({.momentum = -0.5}) == "sgd_step: momentum is -0.5; it must be 0 or more, and finite");
  CHECK(sgd({.weight_decay = -0.5}) == "sgd_step: weight_decay is -0.5; it must be 0 or more, and finite");
  CHECK(sgd({.dampening = nan}) == "sgd_step: dampening is nan; it must be finite");
  CHECK(sgd({.nesterov = true}) ==
        "sgd_step: nesterov needs momentum > 0 and dampening 0; got momentum 0 and dampening 0");
  CHECK(sgd({.momentum = 0.9, .dampening = 0.5, .nesterov = true}) ==
        "sgd_step: nesterov needs momentum > 0 and dampening 0; got momentum 0.9 and dampening 0.5");
  const auto adamw = [&](const mk::AdamWStep& step) {
    return support::message_of<ms::ArgumentError>(
        [&] { mk::adamw_step(ctx, step, g.view(), g.view(), g.view(), w.view()); });
  };
  CHECK(adamw({.learning_rate = -1.0}) == "adamw_step: learning_rate is -1; it must be 0 or more, and finite");
  CHECK(adamw({.beta1 = 1.0}) == "adamw_step: beta1 is 1; it must lie in [0, 1)");
  CHECK(adamw({.beta2 = -0.1}) == "adamw_step: beta2 is -0.1; it must lie in [0, 1)");
  CHECK(adamw({.epsilon = nan}) == "adamw_step: epsilon is nan; it must be 0 or more, and finite");
  CHECK(adamw({.weight_decay = -1}) == "adamw_step: weight_decay is -1; it must be 0 or more, and finite");
  CHECK(adamw({.step = 0}) == "adamw_step: step is 0; steps are counted from 1");

  const auto shape_message = [&](auto action) { return support::message_of<ms::ShapeError>(action); };
  CHECK(shape_message([&] { mk::sgd_step(ctx, {}, other.view(), {}, w.view()); }) ==
        "sgd_step: gradient has shape (3, 2), but the parameter has (2, 3)");
  CHECK(shape_message([&] { mk::sgd_step(ctx, {.momentum = 0.9}, g.view(), {}, w.view()); }) ==
        "sgd_step: momentum is 0.9, so a momentum_buffer of shape (2, 3), zero at the start, is needed; got an empty "
        "view");
  CHECK(shape_message([&] { mk::sgd_step(ctx, {.momentum = 0.9}, g.view(), other.view(), w.view()); }) ==
        "sgd_step: momentum_buffer has shape (3, 2), but the parameter has (2, 3)");
  CHECK(shape_message([&] { mk::sgd_step(ctx, {}, g.view().slice(1, 0, 2), {}, w.view().slice(1, 0, 2)); }) ==
        "sgd_step: the parameter of shape (2, 2) is strided; it must be contiguous");
  CHECK(shape_message([&] { mk::adamw_step(ctx, {}, other.view(), g.view(), g.view(), w.view()); }) ==
        "adamw_step: gradient has shape (3, 2), but the parameter has (2, 3)");
  CHECK(shape_message([&] { mk::adamw_step(ctx, {}, g.view(), other.view(), g.view(), w.view()); }) ==
        "adamw_step: first_moment has shape (3, 2), but the parameter has (2, 3)");
  CHECK(shape_message([&] { mk::adamw_step(ctx, {}, g.view(), g.view(), other.view(), w.view()); }) ==
        "adamw_step: second_moment has shape (3, 2), but the parameter has (2, 3)");
}

TEST_SUITE_END();

}  // namespace kernels_optimizer_test
