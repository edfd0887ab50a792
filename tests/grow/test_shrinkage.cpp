// The ridge that is chosen from the data, and that no scale of the inputs changes what growth finds.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <meristem/grow/solve/shrinkage.hpp>
#include <meristem/grow/statistics/random_signs.hpp>
#include <support/growth_problem.hpp>
#include <support/map_problem.hpp>
#include <support/method_problem.hpp>
#include <support/plain_maps.hpp>

namespace grow_shrinkage_test {

namespace ms = meristem;
using ms::nn::Activation;
using support::Dense;
using support::GrowthProblem;
using support::MethodProblem;
using support::to_dense;
using support::to_tensor;

namespace {

/// Moments of signed samples: Σ sign b2 vᵀ / n.
Dense signed_moment(const Dense& a, const Dense& b, const std::vector<double>& signs) {
  Dense flipped = b;
  for (std::int64_t i = 0; i < b.rows; ++i) {
    for (std::int64_t t = 0; t < b.columns; ++t) flipped(i, t) *= signs[static_cast<std::size_t>(t)];
  }
  return (1.0 / static_cast<double>(b.columns)) * (a * support::transposed(flipped));
}

/// The inputs of a network times 10^k, k from -4 to 4 in turn, and the weights of the first layer divided by it: the
/// same function, whose first layer reads other scales. `per_channel` as maps need it.
void rescale_inputs(MethodProblem& problem, bool per_channel) {
  const std::int64_t channels = problem.x.extent(3), features = problem.x.size() / problem.n;
  const auto factor = [&](std::int64_t feature) {
    const std::int64_t turn = per_channel ? 8 * (feature % channels) : feature % 9;
    return std::pow(10.0, static_cast<double>(turn - 4));
  };
  std::vector<double> x = ms::to_host(problem.ctx, problem.x);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= factor(static_cast<std::int64_t>(i) % features);
  problem.x = ms::from_host<double>(problem.ctx, problem.x.shape(), x);
  auto& weight = problem.site.producer.weight().value;
  std::vector<double> w = ms::to_host(problem.ctx, weight);
  const std::int64_t inputs = per_channel ? channels : features;
  for (std::size_t i = 0; i < w.size(); ++i) w[i] /= factor(static_cast<std::int64_t>(i) % inputs);
  ms::copy<double>(problem.ctx, ms::from_host<double>(problem.ctx, weight.shape(), w), weight);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("damping: a ridge in units of each element's own mean square") {
  ms::Context ctx;
  const Dense a(3, 3, std::vector<double>{4, 1, 0, 1, 9, 2, 0, 2, 0});
  ms::Tensor<double> damped = to_tensor<double>(ctx, a);
  ms::grow::damp(ctx, 0.25, damped);
  support::check_dense(to_dense(ctx, damped), Dense(3, 3, std::vector<double>{5, 1, 0, 1, 11.25, 2, 0, 2, 0}), 0.0,
                       "damped");
}

TEST_CASE("damping: an input that is all but dead receives no weight") {
  ms::Context ctx;
  // Three samples; the second input is 1e-12 of the first, on one of them.
  const Dense b(2, 3, std::vector<double>{1, 2, -1, 0, 0, 1e-12}), v(1, 3, std::vector<double>{1, 0, 2});
  const GrowthProblem problem{b, Dense(0, 3), v};
  for (const double share : {1e-3, 1.0}) {
    ms::Tensor<double> s = to_tensor<double>(ctx, problem.moment(b, b));
    ms::grow::damp(ctx, share, s);
    const auto move = ms::grow::best_move<double>(ctx, s, to_tensor<double>(ctx, problem.moment(b, v)).view());
    const std::vector<double> weights = ms::to_host(ctx, move.weights);
    // ⟨b0, v⟩ / (⟨b0, b0⟩ (1 + share)) = -1 / (6 (1 + share))
    CHECK(weights[0] == doctest::Approx(-1.0 / (6.0 * (1.0 + share))));
    CHECK(std::abs(weights[1]) < 1.0);
  }
}

TEST_CASE("random signs: one for each sample, the same in whatever batches, about as many of both") {
  ms::Context ctx({.seed = 5});
  constexpr std::int64_t n = 1000, each = 3;
  const auto v = ms::from_host<double>(ctx, {n, each}, support::normal_values<double>(n * each, 1));
  const std::vector<double> plain = ms::to_host(ctx, v),
                            whole = ms::to_host(ctx, ms::grow::with_random_signs<double>(ctx, v.view(), 0)),
                            tail = ms::to_host(
                                ctx, ms::grow::with_random_signs<double>(ctx, v.view().slice(0, 700, n), 700));
  std::int64_t turned = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double sign = whole[static_cast<std::size_t>(i * each)] == plain[static_cast<std::size_t>(i * each)] ? 1 : -1;
    turned += sign < 0 ? 1 : 0;
    for (std::int64_t j = 0; j < each; ++j) {
      const auto at = static_cast<std::size_t>(i * each + j);
      CHECK(whole[at] == sign * plain[at]);
      if (i >= 700) CHECK(tail[at - 700 * each] == whole[at]);
    }
  }
  // Five deviations of a binomial distribution, √1000 / 2.
  CHECK(std::abs(static_cast<double>(turned) - 500.0) < 80.0);
}

TEST_CASE("shrinkage: the share is chosen whose solutions explain most of the halves they were not found from") {
  ms::Context ctx;
  constexpr std::int64_t p = 5, q = 4, n = 24;
  std::vector<double> chosen;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    const Dense b(p, n, support::normal_values<double>(p * n, 3 * seed));
    Dense v(q, n, support::normal_values<double>(q * n, 3 * seed + 1));
    for (std::int64_t t = 0; t < n; ++t) v(0, t) += (seed % 3 == 0 ? 4.0 : 0.5) * (b(0, t) - b(1, t));
    std::vector<double> signs;
    for (const double value : support::normal_values<double>(n, 3 * seed + 2)) signs.push_back(value < 0 ? -1.0 : 1.0);
    const GrowthProblem problem{b, b, v};
    const Dense s = problem.moment(b, b), mean = problem.moment(b, v), noise = signed_moment(b, v, signs);
    const std::array halves{mean - (-1.0 * noise), mean - noise};
    const auto best = [&](std::int64_t units) {
      double most = 0.0, share_of_most = 0.0;
      for (const double share : {0.01, 0.1, 1.0, 10.0}) {
        Dense damped = s;
        for (std::int64_t i = 0; i < p; ++i) damped(i, i) *= 1.0 + share;
        double gain = 0.0;
        for (const std::size_t half : {0, 1}) {
          // All units together are S⁻¹ N, and the first one is S⁻¹ N v vᵀ for the largest eigenvector v of Nᵀ S⁻¹ N.
          Dense found = support::solved(damped, halves[half]);
          if (units == 1) {
            const Dense gram = support::transposed(halves[half]) * found;
            Dense first(q, 1, std::vector<double>{1.0, 0.3, -0.2, 0.1});
            for (int step = 0; step < 20'000; ++step) {
              first = gram * first;
              first = (1.0 / std::sqrt(support::dot(first, first))) * first;
            }
            found = found * first * support::transposed(first);
          }
          const double inner = support::dot(found, halves[1 - half]);
          if (inner > 0.0) gain += inner * inner / support::dot(found, s * found);
        }
        if (gain > most) {
          most = gain;
          share_of_most = share;
        }
      }
      return share_of_most > 0.0 ? share_of_most : ms::grow::usual_damping;
    };
    const auto s_there = to_tensor<double>(ctx, s), mean_there = to_tensor<double>(ctx, mean),
               noise_there = to_tensor<double>(ctx, noise);
    INFO("seed ", seed);
    const auto move =
        ms::grow::damped_move(ctx, s_there, mean_there, noise_there, std::nullopt, ms::grow::Route::cholesky, 0x1p-52);
    CHECK(move.damping == best(q));
    for (const std::int64_t units : {std::int64_t{1}, q}) {
      CHECK(ms::grow::detail::damping_of_units(ctx, s_there.view(), s_there.view(), mean_there.view(),
                                               noise_there.view(), {}, units, 0x1p-52)
                .share == best(units));
    }
    chosen.push_back(move.damping);
  }
  // Not always the same one.
  CHECK(*std::min_element(chosen.begin(), chosen.end()) < *std::max_element(chosen.begin(), chosen.end()));
}

TEST_CASE("shrinkage: few noisy samples ask for more of it than many") {
  const auto chosen = [](std::int64_t n, double noise, std::uint64_t seed) {
    ms::Context ctx({.seed = seed});
    // Twelve inputs with a common part; v follows a difference, a direction of little variance.
    constexpr std::int64_t p = 12;
    Dense b(p, n, support::normal_values<double>(p * n, 2 * seed)),
        v(1, n, support::normal_values<double>(n, 2 * seed + 1));
    for (std::int64_t t = 0; t < n; ++t) {
      v(0, t) = b(1, t) - b(2, t) + noise * v(0, t);
      const double common = 2.0 * b(0, t);
      for (std::int64_t i = 0; i < p; ++i) b(i, t) += common;
    }
    const auto flipped = ms::to_host(
        ctx,
        ms::grow::with_random_signs<double>(
            ctx, ms::from_host<double>(ctx, {n, 1}, std::vector<double>(static_cast<std::size_t>(n), 1.0)).view(), 0));
    const GrowthProblem problem{b, b, v};
    return ms::grow::damped_move(
        ctx, to_tensor<double>(ctx, problem.moment(b, b)), to_tensor<double>(ctx, problem.moment(b, v)),
        to_tensor<double>(ctx, signed_moment(b, v, flipped)), std::nullopt, ms::grow::Route::cholesky, 0x1p-52);
  };
  // One choice scatters over the whole range; the mean of 16 over two decades' deviation divided by four.
  double few = 0.0, many = 0.0;
  for (std::uint64_t seed = 1; seed <= 16; ++seed) {
    few += std::log10(chosen(24, 3.0, seed).damping) / 16.0;
    many += std::log10(chosen(4000, 0.1, seed).damping) / 16.0;
  }
  CAPTURE(few);
  CAPTURE(many);
  CHECK(few > many + 0.5);
  CHECK(many < -1.0);
}

TEST_CASE("shrinkage: without noise to choose by, the usual share; a share that is given is taken") {
  ms::Context ctx;
  const GrowthProblem problem = support::random_problem(4, 3, 2, 40, 5);
  const auto s1 = to_tensor<double>(ctx, problem.moment(problem.b1, problem.b1));
  const auto m1 = to_tensor<double>(ctx, problem.moment(problem.b1, problem.v));
  for (const double share : {-1.0, 0.25}) {
    const bool given = share > 0.0;
    const auto found = ms::grow::damped_move(ctx, s1, m1, {}, given ? std::optional<double>(share) : std::nullopt,
                                             ms::grow::Route::eigen, 0x1p-52);
    CHECK(found.damping == (given ? share : ms::grow::usual_damping));
    Dense ridge = to_dense(ctx, s1);
    for (std::int64_t i = 0; i < ridge.rows; ++i) ridge(i, i) *= 1.0 + found.damping;
    support::check_dense(to_dense(ctx, found.move.weights),
                         support::transposed(support::solved(ridge, to_dense(ctx, m1))), 1e-12, "move");
  }
}

TEST_CASE("shrinkage: scales of the inputs from 1e-4 to 1e4 change nothing that growth finds") {
  for (const std::size_t which : {0, 1}) {
    const auto& net = support::method_nets()[which];
    for (const char* name : {"tiny", "tiny-eigen", "tiny-joint", "tiny-fisher", "senn"}) {
      for (const double significance : {0.0, 0.5}) {
        INFO(net.name, ", ", name, ", significance ", significance);
        MethodProblem plain(net, Activation::tanh), scaled(net, Activation::tanh);
        rescale_inputs(scaled, which == 1);
        const ms::grow::detail::MeasurementOptions options{.method = ms::grow::parse_method(name),
                                                           .significance = significance};
        const auto expected = plain.propose(plain.site, 3, options), found = scaled.propose(scaled.site, 3, options);
        REQUIRE(found.insertion.units == expected.insertion.units);
        REQUIRE(found.report.lambda.size() == expected.report.lambda.size());
        CHECK(found.report.damping == expected.report.damping);
        // The scales' squares span 1e16 of a double's range; equilibrated, all that is left of them is rounding.
        const double largest = expected.report.lambda.empty() ? 1.0 : expected.report.lambda.front();
        for (std::size_t k = 0; k < expected.report.lambda.size(); ++k) {
          CHECK(std::abs(found.report.lambda[k] - expected.report.lambda[k]) < 1e-8 * largest);
        }
        CHECK(found.report.threshold == doctest::Approx(expected.report.threshold).epsilon(1e-8));
        // SENN brings its units to the scale of today's weights, which is another one.
        if (std::string(name) == "senn" || expected.insertion.units == 0) continue;
        CHECK(found.report.slope == doctest::Approx(expected.report.slope).epsilon(1e-7));
        // The same function of the inputs.
        ms::nn::Mode mode = ms::nn::Mode::training;
        plain.insert(plain.site, expected.insertion, 0.25);
        scaled.insert(scaled.site, found.insertion, 0.25);
        CHECK(support::relative_distance(plain.outputs(mode), scaled.outputs(mode)) < 1e-7);
      }
    }
  }
}

namespace {

/// Samples as columns, with a row of ones below them.
Dense with_ones(ms::Context& ctx, ms::View<const double> samples) {
  const std::int64_t n = samples.extent(0), features = samples.size() / n;
  const std::vector<double> values = ms::to_host(ctx, samples);
  Dense result(features + 1, n);
  for (std::int64_t s = 0; s < n; ++s) {
    for (std::int64_t i = 0; i < features; ++i) result(i, s) = values[static_cast<std::size_t>(s * features + i)];
    result(features, s) = 1.0;
  }
  return result;
}

}  // namespace

TEST_CASE("shrinkage: move, bottleneck and units of a site are of the same damped moments, of vectors and maps alike") {
  for (const bool convolutions : {false, true}) {
    support::MapProblem problem(40, {1, 1, 5}, [&](ms::Context& ctx, support::MapProblem::Net& net) {
      if (convolutions) {
        net.add<ms::nn::Conv2d<double>>("a", ctx, 5, 3, ms::nn::Conv2dOptions{.kernel = 1});
        net.add<ms::nn::ActivationLayer<double>>("f", Activation::tanh);
        net.add<ms::nn::Conv2d<double>>("b", ctx, 3, 4, ms::nn::Conv2dOptions{.kernel = 1});
        net.add<ms::nn::Flatten<double>>("flatten");
      } else {
        net.add<ms::nn::Flatten<double>>("flatten");
        net.add<ms::nn::Linear<double>>("a", ctx, 5, 3);
        net.add<ms::nn::ActivationLayer<double>>("f", Activation::tanh);
        net.add<ms::nn::Linear<double>>("b", ctx, 3, 4);
      }
    });
    const auto site = ms::grow::find_sites(problem.net).at(0);
    GrowthProblem samples;
    problem.visit({site}, [&](ms::Context& ctx, std::size_t, ms::View<const double> unit,
                              ms::View<const double> consumer, ms::View<const double> goal) {
      samples.b2 = with_ones(ctx, unit);
      samples.b1 = with_ones(ctx, consumer);
      samples.v = with_ones(ctx, goal);
    });
    // The row of ones is none of the goal's.
    samples.v.rows -= 1;
    samples.v.values.resize(static_cast<std::size_t>(samples.v.rows * samples.v.columns));
    for (const double share : {0.0, 0.1, 10.0}) {
      INFO("convolutions ", convolutions, ", damping ", share);
      const auto damped = [&](const Dense& a) {
        Dense result = samples.moment(a, a);
        for (std::int64_t i = 0; i < result.rows; ++i) result(i, i) *= 1.0 + share;
        return result;
      };
      const Dense move =
          support::transposed(support::solved(damped(samples.b1), samples.moment(samples.b1, samples.v)));
      const Dense left = samples.v - move * samples.b1;
      const Dense n = samples.moment(samples.b2, left);
      const auto lambda = support::singular_values(support::power(damped(samples.b2), -0.5) * n);
      const auto found = problem.propose(
          site, 2, {.method = ms::grow::tiny(ms::grow::Route::eigen), .damping = share, .significance = 0.0});
      CHECK(found.report.bottleneck ==
            doctest::Approx(support::dot(left, left) / static_cast<double>(problem.n)).epsilon(1e-9));
      REQUIRE(found.insertion.units == 2);
      for (std::size_t k = 0; k < 2; ++k) {
        CHECK(found.report.lambda[k] == doctest::Approx(lambda[k]).epsilon(1e-8));
      }
      CHECK(support::relative_distance(ms::to_host(problem.ctx, found.insertion.move), move.values) < 1e-8);
    }
  }
}

TEST_SUITE_END();

}  // namespace grow_shrinkage_test
