// Growth of whole networks with convolutions.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <meristem/data/loader.hpp>
#include <meristem/data/synthetic.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/models/vgg.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>

namespace grow_grower_maps_test {

namespace ms = meristem;
using ms::grow::Where;
using support::contains;
using support::message_of;

namespace {

using Net = ms::nn::Sequential<float>;
using Build = Net (*)(ms::Context&);

/// 8×8 images of two channels; the class tells in which of four corners the brighter spot of the two is.
ms::data::ImageSet spots(std::int64_t images, std::uint64_t seed) {
  ms::data::ImageSet set;
  set.height = set.width = 8;
  set.channels = 2;
  set.class_names = {"a", "b", "c", "d"};
  set.source = "spots";
  set.normalization = {.mean = {0.3, 0.3}, .stddev = {0.2, 0.2}};
  const ms::Philox random(seed, 5);
  for (std::int64_t i = 0; i < images; ++i) {
    const auto draw = [&](int what, std::uint64_t below) {
      return random.below(static_cast<std::uint64_t>(i * 200 + what), below);
    };
    const std::uint64_t bright = draw(0, 4), dim = draw(1, 4);
    for (int y = 0; y < 8; ++y) {
      for (int x = 0; x < 8; ++x) {
        for (int c = 0; c < 2; ++c) {
          const std::uint64_t corner = static_cast<std::uint64_t>(y / 4 * 2 + x / 4);
          const bool centre = (y % 4) / 2 == (x % 4) / 2;  // a texture, not a mean
          std::uint64_t value = draw(8 + (y * 8 + x) * 2 + c, 90);
          if (centre && corner == bright && c == 0) value += 150;
          if (centre && corner == dim) value += 70;
          set.pixels.push_back(static_cast<std::uint8_t>(value));
        }
      }
    }
    set.labels.push_back(static_cast<std::int32_t>(bright));
  }
  return set;
}

Net resnet(ms::Context& ctx) {
  return ms::models::resnet18<float>(ctx, {.classes = 4, .width = 1.0 / 64, .channels = 4, .in_channels = 2});
}
Net strided(ms::Context& ctx) {
  return ms::models::resnet18_strided<float>(ctx, {.classes = 4, .width = 1.0 / 64, .channels = 4, .in_channels = 2});
}
Net vgg_of(ms::Context& ctx, bool norm, bool flatten) {
  return ms::models::vgg<float>(ctx,
                                {.classes = 4,
                                 .stages = {{4}, {4, 8}},
                                 .width = 0.125,
                                 .in_channels = 2,
                                 .batch_norm = norm,
                                 .head = flatten ? ms::models::VggHead::flatten : ms::models::VggHead::global_average,
                                 .image = 8,
                                 .hidden = {8}});
}
Net vgg(ms::Context& ctx) { return vgg_of(ctx, false, true); }
Net vgg_with_norm(ms::Context& ctx) { return vgg_of(ctx, true, true); }
Net vgg_with_mean(ms::Context& ctx) { return vgg_of(ctx, true, false); }

struct Named {
  const char* name;
  Build build;
};
constexpr Named all_nets[] = {{"resnet18", resnet},
                              {"resnet18_strided", strided},
                              {"vgg", vgg},
                              {"vgg with norm", vgg_with_norm},
                              {"vgg with norm and global average", vgg_with_mean}};

void train_epochs(ms::Context& ctx, Net& net, const ms::data::ImageSet& set, ms::optim::Optimizer<float>& optimizer,
                  std::int64_t first, std::int64_t last) {
  for (std::int64_t epoch = first; epoch < last; ++epoch) {
    for (const auto& batch : set.batches<float>(ctx, 25, {.shuffle = true, .epoch = epoch})) {
      ms::train::step<float>(ctx, net, batch, optimizer);
    }
  }
}

/// Every number of a network, its buffers and its optimiser.
std::vector<std::vector<float>> everything(ms::Context& ctx, Net& net, ms::optim::Optimizer<float>& optimizer) {
  std::vector<std::vector<float>> all;
  for (auto* parameter : ms::nn::parameters(net)) {
    all.push_back(ms::to_host(ctx, parameter->value));
    for (const auto& moment : optimizer.state(parameter->id)) all.push_back(ms::to_host(ctx, moment));
  }
  net.visit_buffers([&](ms::nn::Buffer<float>& buffer) { all.push_back(ms::to_host(ctx, buffer.value)); });
  return all;
}

/// Widths of all layers agree with those of their neighbours, and gradients, moments and buffers with them.
void check_whole(Net& net, ms::optim::Optimizer<float>& optimizer) {
  for (const auto& site : ms::grow::find_sites<float>(net)) {
    CAPTURE(site.name);
    CHECK(site.consumer.in_features() % site.width() == 0);
    if (!site.flattened) CHECK(site.consumer.in_features() == site.width());
    if (site.producer.norm()) {
      CHECK(site.producer.norm()->channels() == site.width());
      CHECK(site.producer.norm()->running_mean().value.extent(0) == site.width());
      CHECK(site.producer.norm()->running_variance().value.extent(0) == site.width());
    }
  }
  for (auto* parameter : ms::nn::parameters(net)) {
    CAPTURE(parameter->name);
    CHECK(parameter->gradient.shape() == parameter->value.shape());
    for (const auto& moment : optimizer.state(parameter->id)) CHECK(moment.shape() == parameter->value.shape());
  }
}

ms::grow::GrowerOptions lenient(Where where) {
  ms::grow::GrowerOptions options{.where = where,
                                  .how_many = {.at_most = 2, .significance = 0.0},
                                  .statistics_samples = 100,
                                  .search_samples = 50,
                                  .batch_size = 50};
  options.amplitude.least_relative_decrease = 1e-4;
  return options;
}

/// Every network from width 1, two growth steps with training between them.
void check_growth(Where where) {
  const auto set = spots(150, 1);
  for (const Named& which : all_nets) {
    INFO(std::string(which.name));
    ms::Context ctx({.seed = 4});
    Net net = which.build(ctx);
    ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
    ms::grow::Grower<float> grower(net, sgd, lenient(where));
    for (const auto& site : grower.sites()) CHECK(site.width() == 1);
    train_epochs(ctx, net, set, sgd, 0, 1);
    std::int64_t grown = 0;
    for (int round = 0; round < 2; ++round) {
      const auto report = grower.grow(ctx, set);
      REQUIRE(report.sites.size() == grower.sites().size());
      std::int64_t sites_grown = 0;
      for (const auto& site : report.sites) {
        CAPTURE(site.name);
        CAPTURE(site.note);
        // Ψ is what a least-squares fit leaves.
        CHECK(site.bottleneck >= 0.0);
        CHECK(site.bottleneck <= site.goal_norm2 * (1 + 1e-4));
        if (site.added == 0) {
          CHECK(site.note != "");
          continue;
        }
        ++sites_grown;
        CHECK(site.added <= 2);
        CHECK(site.measured() >= 1e-4 * site.loss_before);
        CHECK(site.slope > 0.0);
      }
      if (where == Where::best_gain) CHECK(sites_grown <= 1);
      grown += sites_grown;
      CHECK(report.parameters == ms::nn::parameter_count(net));
      check_whole(net, sgd);
      train_epochs(ctx, net, set, sgd, round + 1, round + 2);
      CHECK(std::isfinite(ms::train::evaluate<float>(ctx, net, set).loss));
    }
    CHECK(grown >= (where == Where::best_gain ? 1 : 3));
  }
}

/// A source of which every batch is the whole set: statistics, line search and test see the same samples.
ms::nn::BatchSource<float> undivided(const ms::data::ImageSet& set) {
  return {5 * set.size(), [&set](ms::Context& ctx, std::span<const std::int64_t> indices) {
            std::vector<std::int64_t> all(indices.size());
            std::iota(all.begin(), all.end(), std::int64_t{0});
            return set.batch<float>(ctx, all);
          }};
}

/// Gives every norm the statistics of a set as its running ones, so that both modes are one function there.
void settle(ms::Context& ctx, Net& net, const ms::data::ImageSet& set) {
  ms::grow::detail::NormInputs<float> inputs;
  for (const auto& batch : set.batches<float>(ctx, set.size())) {
    (void)net.forward(ctx, batch.inputs, {.measuring = true, .taps = &inputs});
  }
  for (const auto& [norm, channels] : inputs.all()) {
    auto& layer = const_cast<ms::nn::BatchNorm<float>&>(*norm);
    const auto write = [&](const std::vector<double>& values, ms::Tensor<float>& to) {
      ms::copy<float>(ctx, ms::from_host<float>(ctx, to.shape(), std::vector<float>(values.begin(), values.end())), to);
    };
    write(channels.mean, layer.running_mean().value);
    write(channels.variance, layer.running_variance().value);
  }
}

/// ‖a - b‖ / ‖a‖ of the outputs in training and in evaluation mode.
double distance_of_modes(ms::Context& ctx, Net& net, const ms::data::ImageSet& set) {
  double difference = 0.0, norm = 0.0;
  for (const auto& batch : set.batches<float>(ctx, set.size())) {
    const auto a = ms::to_host(ctx, net.forward(ctx, batch.inputs, {.measuring = true}).output);
    const auto b = ms::to_host(ctx, net.forward(ctx, batch.inputs, {.mode = ms::nn::Mode::evaluation}).output);
    for (std::size_t i = 0; i < a.size(); ++i) {
      difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
      norm += static_cast<double>(a[i]) * a[i];
    }
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("grower of maps: every site in turn, from width 1") { check_growth(Where::all); }

TEST_CASE("grower of maps: all sites from the same passes, from width 1") { check_growth(Where::together); }

TEST_CASE("grower of maps: the site that promises most, from width 1") { check_growth(Where::best_gain); }

TEST_CASE("grower of maps: fan-outs at the centre tap alone") {
  const auto set = spots(150, 1);
  for (const Build build : {resnet, strided}) {
    ms::Context ctx({.seed = 4});
    Net net = build(ctx);
    ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
    auto options = lenient(Where::all);
    options.fan_out = ms::grow::FanOut::centre;
    ms::grow::Grower<float> grower(net, sgd, options);
    const auto report = grower.grow(ctx, set);
    CHECK(report.added() > 0);
    check_whole(net, sgd);
    for (std::size_t i = 0; i < report.sites.size(); ++i) {
      const auto& site = grower.sites()[i];
      if (report.sites[i].added == 0 || !site.consumer.is_convolution()) continue;
      // (out, ky, kx, in): new inputs are read at (1, 1) alone.
      const auto weights = ms::to_host(ctx, site.consumer.weight().value);
      const auto in = static_cast<std::size_t>(site.consumer.in_features());
      float centre = 0.0f;
      for (std::size_t at = 0; at < weights.size(); ++at) {
        if (at % in < static_cast<std::size_t>(report.sites[i].width)) continue;
        if (at / in % 9 == 4) centre = std::max(centre, std::abs(weights[at]));
        if (at / in % 9 != 4) CHECK(weights[at] == 0.0f);
      }
      CHECK(centre > 0.0f);
    }
  }
}

TEST_CASE("grower of maps: chains of linear layers grow from the same passes too") {
  const auto set = spots(150, 1);
  ms::Context ctx({.seed = 4});
  Net net = ms::models::mlp<float>(ctx, {.inputs = 128, .hidden = {2, 3, 2}, .classes = 4});
  ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
  ms::grow::GrowerOptions options{.where = Where::together, .how_many = ms::grow::HowMany::fixed(2)};
  ms::grow::Grower<float> grower(net, sgd, options);
  train_epochs(ctx, net, set, sgd, 0, 1);
  const auto report = grower.grow(ctx, set);
  CHECK(report.sites[0].added > 0);
  CHECK(report.sites[1].added > 0);
  check_whole(net, sgd);
  train_epochs(ctx, net, set, sgd, 1, 2);
}

TEST_CASE("grower of maps: the same seed gives the same bits, another seed others") {
  const auto set = spots(100, 1);
  for (const Build build : {resnet, vgg_with_norm}) {
    const auto run = [&](std::uint64_t seed) {
      ms::Context ctx({.seed = seed});
      Net net = build(ctx);
      ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
      ms::grow::Grower<float> grower(net, sgd, lenient(Where::all));
      train_epochs(ctx, net, set, sgd, 0, 1);
      CHECK(grower.grow(ctx, set).added() > 0);
      train_epochs(ctx, net, set, sgd, 1, 2);
      return everything(ctx, net, sgd);
    };
    const auto once = run(7);
    CHECK(once == run(7));
    CHECK(once != run(8));
  }
}

TEST_CASE("grower of maps: rejected growth leaves every bit, running statistics and moments included") {
  const auto set = spots(100, 1);
  for (const Build build : {resnet, vgg_with_norm}) {
    for (const Where where : {Where::all, Where::together}) {
      ms::Context ctx({.seed = 4});
      Net net = build(ctx);
      ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
      train_epochs(ctx, net, set, sgd, 0, 1);
      auto options = lenient(where);
      options.amplitude.least_relative_decrease = 0.9999;
      ms::grow::Grower<float> grower(net, sgd, options);
      const auto before = everything(ctx, net, sgd);
      const auto report = grower.grow(ctx, set);
      CHECK(report.added() == 0);
      bool searched = false;
      for (const auto& site : report.sites) searched |= site.evaluations > 1;
      CHECK(searched);
      CHECK(everything(ctx, net, sgd) == before);
    }
  }
}

TEST_CASE("grower of maps: what a method had to say is kept where its units are not inserted") {
  const auto set = spots(100, 1);
  for (const Where where : {Where::all, Where::best_gain}) {
    CAPTURE(static_cast<int>(where));
    ms::Context ctx({.seed = 4});
    Net net = vgg_with_norm(ctx);
    ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
    train_epochs(ctx, net, set, sgd, 0, 1);
    auto options = lenient(where);
    options.how_many.at_most = 1000;
    options.amplitude.least_relative_decrease = 0.9999;
    ms::grow::Grower<float> grower(net, sgd, options);
    const auto report = grower.grow(ctx, set);
    int kept = 0;
    for (const auto& site : report.sites) {
      CAPTURE(site.note);
      if (!contains(site.note, "rejected: no amplitude lowers the loss enough") &&
          !contains(site.note, "another site promises more")) {
        continue;
      }
      CHECK(contains(site.note, "; asked for 1000 units, of which "));
      ++kept;
    }
    CHECK(kept > 0);
  }
  ms::grow::BestMove<double> move;
  CHECK(ms::grow::detail::note_of_move(move) == "");
  move.note = "fell back to the eigen route";
  CHECK(ms::grow::detail::note_of_move(move) == "the move of today's weights fell back to the eigen route");
}

TEST_CASE("grower of maps: the parameter budget holds, taps and norms counted") {
  const auto set = spots(100, 1);
  for (const Build build : {resnet, vgg_with_norm}) {
    for (const Where where : {Where::all, Where::together, Where::best_gain}) {
      CAPTURE(static_cast<int>(where));
      ms::Context ctx({.seed = 4});
      Net net = build(ctx);
      ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
      train_epochs(ctx, net, set, sgd, 0, 1);
      auto options = lenient(where);
      // Room for one unit of the first site and no more.
      options.budget.parameters =
          ms::nn::parameter_count(net) + ms::grow::find_sites<float>(net)[0].parameters_per_unit(9);
      ms::grow::Grower<float> grower(net, sgd, options);
      bool told = false;
      for (int round = 0; round < 2; ++round) {
        const auto report = grower.grow(ctx, set);
        CHECK(ms::nn::parameter_count(net) <= options.budget.parameters);
        CHECK(report.parameters == ms::nn::parameter_count(net));
        for (const auto& site : report.sites) told |= contains(site.note, "budget");
      }
      CHECK(told);
    }
  }
}

TEST_CASE("grower of maps: only the sites that are named grow, in the order data flows") {
  const auto set = spots(100, 1);
  ms::Context ctx({.seed = 4});
  Net net = vgg_with_norm(ctx);
  ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
  auto options = lenient(Where::together);
  options.sites = {"conv3", "linear1", "conv2", "conv3"};
  ms::grow::Grower<float> grower(net, sgd, options);
  REQUIRE(grower.sites().size() == 3);
  CHECK(grower.sites()[0].name == "conv2");
  CHECK(grower.sites()[1].name == "conv3");
  CHECK(grower.sites()[2].name == "linear1");
  const auto report = grower.grow(ctx, set);
  CHECK(report.added() > 0);
  CHECK(ms::grow::find_site<float>(net, "conv1").width() == 1);
  for (std::size_t i = 0; i < 3; ++i) CHECK(grower.sites()[i].width() == 1 + report.sites[i].added);
  check_whole(net, sgd);
}

TEST_CASE("grower of maps: the linear sites of a network with convolutions take every method") {
  const auto set = spots(100, 1);
  for (const auto& named : ms::grow::all_methods()) {
    CAPTURE(named->name());
    ms::Context ctx({.seed = 4});
    Net net = vgg(ctx);
    ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
    train_epochs(ctx, net, set, sgd, 0, 1);
    auto options = lenient(Where::all);
    options.method = named;
    options.sites = {"linear1"};
    ms::grow::Grower<float> grower(net, sgd, options);
    REQUIRE(grower.sites().size() == 1);
    REQUIRE(!grower.sites()[0].spatial());
    const auto streams = ctx.random_streams();
    const auto report = grower.grow(ctx, set);
    CHECK(ctx.random_streams() == streams);
    CAPTURE(report.sites[0].note);
    CHECK(report.added() > 0);
    CHECK(report.added() <= 2);
    CHECK(grower.sites()[0].width() == 1 + report.added());
    CHECK(ms::grow::find_site<float>(net, "conv3").width() == 1);
    check_whole(net, sgd);
    train_epochs(ctx, net, set, sgd, 1, 2);
    CHECK(std::isfinite(ms::train::evaluate<float>(ctx, net, set).loss));
  }
}

TEST_CASE("grower of maps: sites that cannot grow are refused") {
  ms::Context ctx({.seed = 4});
  Net net = resnet(ctx);
  ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05});
  const auto refused = [&](const ms::grow::GrowerOptions& options) {
    return message_of<ms::ArgumentError>([&] { ms::grow::Grower<float> grower(net, sgd, options); });
  };
  auto options = lenient(Where::all);
  options.sites = {"stage1.block1.conv1", "stage1.block3.conv1"};
  CHECK(contains(refused(options), "growth: there is no layer 'stage1.block3.conv1'; the layers that can grow are "));
  options.sites = {"stem.conv"};
  CHECK(contains(refused(options), "growth: stem.conv cannot grow alone: skip connections add the outputs of "));
  options.sites = {"linear"};
  CHECK(contains(refused(options), "growth: linear cannot grow"));
}

TEST_CASE("grower of maps: after growth, evaluation computes what the line search saw in training mode") {
  const auto set = spots(150, 1);
  for (const Build build : {resnet, vgg_with_norm}) {
    for (const Where where : {Where::all, Where::together}) {
      CAPTURE(static_cast<int>(where));
      ms::Context ctx({.seed = 4});
      Net net = build(ctx);
      ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.02, .momentum = 0.9});
      auto options = lenient(where);
      options.statistics_samples = options.search_samples = options.batch_size = 150;
      ms::grow::Grower<float> grower(net, sgd, options);
      train_epochs(ctx, net, set, sgd, 0, 3);
      settle(ctx, net, set);
      // Some twenty layers whose rounding errors a norm of few values may enlarge.
      REQUIRE(distance_of_modes(ctx, net, set) < 1e-4);
      const auto report = grower.grow(ctx, undivided(set));
      CHECK(report.added() >= 4);
      CHECK(distance_of_modes(ctx, net, set) < 1e-3);
    }
  }
}

TEST_SUITE_END();

}  // namespace grow_grower_maps_test
