// Networks that move after an optimiser was made for them, and optimisers of other networks.
#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/data/image_set.hpp>
#include <meristem/data/sample_set.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>
#include <support/plain_mlp.hpp>

namespace train_moving_test {

namespace ms = meristem;
using Net = ms::nn::Sequential<float>;
using Sgd = ms::optim::Sgd<float>;
using support::contains;
using support::message_of;

namespace {

Net net_of(ms::Context& ctx) { return ms::models::mlp<float>(ctx, {.inputs = 6, .hidden = {4}, .classes = 3}); }

ms::nn::Batch<float> batch_of(ms::Context& ctx) {
  return support::make_batch<float>(ctx, {5, 6}, support::to_double(support::normal_values<float>(30, 9)),
                                    {0, 1, 2, 2, 1});
}

std::vector<std::vector<float>> values_of(ms::Context& ctx, ms::nn::Layer<float>& net) {
  std::vector<std::vector<float>> values;
  for (auto* parameter : ms::nn::parameters(net)) values.push_back(ms::to_host(ctx, parameter->value));
  return values;
}

struct Model {
  Net net;
  std::unique_ptr<Sgd> sgd;

  explicit Model(ms::Context& ctx)
      : net(net_of(ctx)),
        sgd(std::make_unique<Sgd>(net, ms::optim::SgdOptions{.learning_rate = 0.1, .momentum = 0.9})) {}
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("moving: models with their optimisers in a vector train as ones that stay in place") {
  ms::Context ctx({.seed = 2}), other({.seed = 2});
  const auto batch = batch_of(ctx), same = batch_of(other);
  std::vector<Model> models;
  std::vector<std::unique_ptr<Model>> still;
  for (int i = 0; i < 5; ++i) {
    models.emplace_back(ctx);
    still.push_back(std::make_unique<Model>(other));
    for (auto& model : models) ms::train::step<float>(ctx, model.net, batch, *model.sgd);
    for (auto& model : still) ms::train::step<float>(other, model->net, same, *model->sgd);
  }
  std::swap(models[0], models[3]);
  std::swap(still[0], still[3]);
  models.erase(models.begin() + 1);
  still.erase(still.begin() + 1);
  for (std::size_t i = 0; i < models.size(); ++i) {
    CHECK(&models[i].sgd->network() == &models[i].net);
    const auto before = values_of(ctx, models[i].net);
    ms::train::step<float>(ctx, models[i].net, batch, *models[i].sgd);
    ms::train::step<float>(other, still[i]->net, same, *still[i]->sgd);
    CHECK(values_of(ctx, models[i].net) != before);
    CHECK(values_of(ctx, models[i].net) == values_of(other, still[i]->net));
  }
}

TEST_CASE("moving: every kind of network is found again") {
  ms::Context ctx({.seed = 2});
  ms::nn::Linear<float> linear(ctx, 2, 2);
  Sgd of_linear(linear, {});
  ms::nn::Linear<float> moved(std::move(linear));
  CHECK(&of_linear.network() == &moved);
  std::optional<ms::nn::Residual<float>> block(std::in_place);
  block->add<ms::nn::Linear<float>>("fc", ctx, 2, 2);
  Sgd of_block(*block, {});
  ms::nn::Residual<float> later = std::move(*block);
  block.reset();
  CHECK(&of_block.network() == &later);
  Sgd second(later, {});
  ms::nn::Residual<float>& self = later;
  later = std::move(self);
  CHECK(&of_block.network() == &later);
  CHECK(&second.network() == &later);
}

TEST_CASE("moving: an optimiser whose network is gone says so") {
  ms::Context ctx({.seed = 2});
  const auto batch = batch_of(ctx);
  auto net = std::make_unique<Net>(net_of(ctx));
  Sgd sgd(*net, {});
  const auto told = [&](auto&& action) {
    return contains(message_of<ms::ArgumentError>(action),
                    "the network is gone that an optimiser or a Grower was made for");
  };
  net.reset();
  CHECK(told([&] { sgd.step(ctx); }));
  CHECK(sgd.steps() == 0);
  // A network that is assigned over is gone, too.
  Net kept = net_of(ctx);
  Sgd of_kept(kept, {});
  kept = net_of(ctx);
  CHECK(told([&] { ms::train::step<float>(ctx, kept, batch, of_kept); }));
  CHECK(told([&] { of_kept.set_group("*", {}); }));
}

TEST_CASE("moving: Growers of networks that are moved grow them as ones that stay in place") {
  struct Growing {
    Model model;
    std::unique_ptr<ms::grow::Grower<float>> grower;

    explicit Growing(ms::Context& ctx) : model(ctx) {
      grower = std::make_unique<ms::grow::Grower<float>>(
          model.net, *model.sgd,
          ms::grow::GrowerOptions{.how_many = {.at_most = 1, .significance = 0.0}, .amplitude = {.fixed = 0.1}});
    }
  };
  ms::Context ctx({.seed = 2}), other({.seed = 2});
  ms::data::SampleSet<float> set{.inputs = support::normal_values<float>(6 * 40, 3), .input = {6}};
  for (int i = 0; i < 40; ++i) set.labels.push_back(i % 3);
  std::vector<Growing> moved;
  std::vector<std::unique_ptr<Growing>> still;
  for (int i = 0; i < 4; ++i) {
    moved.emplace_back(ctx);
    still.push_back(std::make_unique<Growing>(other));
    for (auto& each : moved) CHECK(each.grower->grow(ctx, set).added() == 1);
    for (auto& each : still) CHECK(each->grower->grow(other, set).added() == 1);
  }
  for (std::size_t i = 0; i < moved.size(); ++i) {
    CHECK(values_of(ctx, moved[i].model.net) == values_of(other, still[i]->model.net));
    CHECK(moved[i].grower->probe(ctx, set).front().bottleneck ==
          still[i]->grower->probe(other, set).front().bottleneck);
  }
  auto net = std::make_unique<Net>(net_of(ctx));
  Sgd sgd(*net, {});
  ms::grow::Grower<float> grower(*net, sgd);
  net.reset();
  for (const bool grows : {false, true}) {
    CHECK(contains(message_of<ms::ArgumentError>([&] {
                     if (grows) {
                       (void)grower.grow(ctx, set);
                     } else {
                       (void)grower.probe(ctx, set);
                     }
                   }),
                   "the network is gone that an optimiser or a Grower was made for"));
  }
}

TEST_CASE("moving: training and growth refuse an optimiser of another network") {
  ms::Context ctx({.seed = 2});
  const auto batch = batch_of(ctx);
  Net net = net_of(ctx), other = net_of(ctx);
  Sgd sgd(other, {.learning_rate = 0.1});
  const auto before = values_of(ctx, net), others = values_of(ctx, other);
  CHECK(message_of<ms::ArgumentError>([&] { ms::train::step<float>(ctx, net, batch, sgd); }) ==
        "training: the optimiser is of another network; give the one that was made for this network");
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::grow::Grower<float>(net, sgd); }),
                 "Grower: the optimiser is of another network"));
  CHECK(values_of(ctx, net) == before);
  CHECK(values_of(ctx, other) == others);
  // An optimiser of the whole does not fit a part, nor does a Grower grow what only a part of it follows.
  auto& last = net[net.size() - 1];
  Sgd whole(net, {.learning_rate = 0.1}), part(last, {.learning_rate = 0.1});
  CHECK_THROWS_AS(ms::train::step<float>(ctx, last, batch, whole), ms::ArgumentError);
  CHECK_THROWS_AS(ms::grow::Grower<float>(net, part), ms::ArgumentError);
  // An optimiser of a part trains that part alone.
  ms::train::step<float>(ctx, net, batch, part);
  const auto after = values_of(ctx, net);
  for (std::size_t i = 0; i < after.size(); ++i) CHECK((after[i] == before[i]) == (i + 2 < after.size()));
}

TEST_SUITE_END();

}  // namespace train_moving_test
