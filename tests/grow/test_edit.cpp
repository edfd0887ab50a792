#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <meristem/grow/units/edit.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/sequential.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
#include <support/check.hpp>
#include <support/plain_mlp.hpp>

namespace grow_edit_test {

namespace ms = meristem;
using ms::grow::appended;
using ms::grow::Edit;
using ms::grow::detail::StagedEdit;
using ms::nn::Linear;
using ms::nn::Parameter;
using ms::optim::AdamW;
using ms::optim::Optimizer;
using ms::optim::Sgd;
using support::contains;
using support::message_of;

namespace {

using Map = std::vector<std::int64_t>;

/// 6 - 7 - 5 - 3 with tanh.
template <class T>
struct Net {
  ms::nn::Sequential<T> net;
  Linear<T>* a;
  Linear<T>* b;
  Linear<T>* c;

  explicit Net(ms::Context& ctx) {
    a = &net.template add<Linear<T>>("a", ctx, 6, 7);
    net.template add<ms::nn::ActivationLayer<T>>("f", ms::nn::Activation::tanh);
    b = &net.template add<Linear<T>>("b", ctx, 7, 5);
    net.template add<ms::nn::ActivationLayer<T>>("g", ms::nn::Activation::tanh);
    c = &net.template add<Linear<T>>("c", ctx, 5, 3);
  }
};

template <class T>
ms::nn::Batch<T> batch_of_step(ms::Context& ctx, int step) {
  const auto x = support::normal_values<T>(9 * 6, 40 + static_cast<std::uint64_t>(step));
  return support::make_batch<T>(ctx, {9, 6}, support::to_double(x), {0, 1, 2, 2, 1, 0, 0, 2, 1});
}

template <class T>
void train(ms::Context& ctx, Net<T>& net, Optimizer<T>& optimizer, int steps) {
  for (int t = 0; t < steps; ++t) (void)ms::train::step(ctx, net.net, batch_of_step<T>(ctx, t), optimizer);
}

template <class T>
std::vector<T> outputs(ms::Context& ctx, Net<T>& net) {
  const auto batch = batch_of_step<T>(ctx, 99);
  return ms::to_host(ctx, net.net.forward(ctx, batch.inputs, {}).output);
}

/// Shape and numbers of a tensor on the host.
template <class T>
struct Array {
  ms::Shape shape{0};
  std::vector<T> values;
};

template <class T>
Array<T> array_of(ms::Context& ctx, const ms::Tensor<T>& tensor) {
  return {tensor.shape(), ms::to_host(ctx, tensor)};
}

template <class T>
void check_array(const Array<T>& actual, const Array<T>& expected, const std::string& what) {
  INFO(what);
  REQUIRE(actual.shape == expected.shape);
  support::check_same_bits(actual.values, expected.values, what);
}

/// Value, gradient and moments of every parameter, in order.
template <class T>
std::vector<Array<T>> everything(ms::Context& ctx, Net<T>& net, Optimizer<T>* optimizer) {
  std::vector<Array<T>> result;
  for (Parameter<T>* parameter : ms::nn::parameters(net.net)) {
    result.push_back(array_of(ctx, parameter->value));
    result.push_back(array_of(ctx, parameter->gradient));
    if (optimizer == nullptr) continue;
    for (const auto& moment : optimizer->state(parameter->id)) result.push_back(array_of(ctx, moment));
  }
  return result;
}

template <class T>
void check_unchanged(const std::vector<Array<T>>& actual, const std::vector<Array<T>>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) check_array(actual[i], expected[i], ms::concat("tensor ", i));
}

/// The oracle: element by element, in two dimensions (a vector is a column).
template <class T>
Array<T> mapped(const Array<T>& source, int axis, const Map& map, const std::vector<T>& fresh) {
  const bool vector = source.shape.rank() == 1;
  const std::int64_t rows = source.shape[0], columns = vector ? 1 : source.shape[1];
  const auto extent = static_cast<std::int64_t>(map.size());
  const std::int64_t new_rows = axis == 0 ? extent : rows, new_columns = axis == 1 ? extent : columns;
  const std::int64_t added = std::count(map.begin(), map.end(), -1);
  Array<T> result{source.shape.with(axis, extent), {}};
  for (std::int64_t i = 0; i < new_rows; ++i) {
    for (std::int64_t j = 0; j < new_columns; ++j) {
      const std::int64_t index = axis == 0 ? i : j;
      const std::int64_t from = map[static_cast<std::size_t>(index)];
      std::int64_t at = 0;
      if (from >= 0) {
        at = axis == 0 ? from * columns + j : i * columns + from;
        result.values.push_back(source.values[static_cast<std::size_t>(at)]);
      } else {
        const std::int64_t rank = std::count(map.begin(), map.begin() + index, -1);
        at = axis == 0 ? rank * columns + j : i * added + rank;
        result.values.push_back(fresh.empty() ? T(0) : fresh[static_cast<std::size_t>(at)]);
      }
    }
  }
  return result;
}

template <class T>
ms::Tensor<T> normal_tensor(ms::Context& ctx, const ms::Shape& shape, std::uint64_t seed) {
  return ms::from_host<T>(ctx, shape, support::normal_values<T>(shape.size(), seed));
}

template <class T>
std::unique_ptr<Optimizer<T>> make_optimizer(int kind, ms::nn::Layer<T>& net) {
  if (kind == 0) {
    return std::make_unique<Sgd<T>>(
        net, ms::optim::SgdOptions{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3});
  }
  return std::make_unique<AdamW<T>>(net, ms::optim::AdamWOptions{.learning_rate = 0.01, .epsilon = 1e-3});
}

/// An edit that grows both axes of b's weight and moves its numbers first: what growing two neighbouring layers does.
template <class T>
Edit<T> grow_two_layers(ms::Context& ctx, Net<T>& net) {
  Edit<T> edit;
  edit.values.push_back({net.b->weight().id, normal_tensor<T>(ctx, {5, 7}, 1)});
  edit.values.push_back({net.b->bias().id, normal_tensor<T>(ctx, {5}, 2)});
  edit.axes.push_back({net.a->weight().id, 0, appended(7, 2), normal_tensor<T>(ctx, {2, 6}, 3)});
  edit.axes.push_back({net.a->bias().id, 0, appended(7, 2), normal_tensor<T>(ctx, {2}, 4)});
  edit.axes.push_back({net.b->weight().id, 1, appended(7, 2), normal_tensor<T>(ctx, {5, 2}, 5)});
  edit.axes.push_back({net.b->weight().id, 0, appended(5, 3), normal_tensor<T>(ctx, {3, 9}, 6)});
  edit.axes.push_back({net.b->bias().id, 0, appended(5, 3), normal_tensor<T>(ctx, {3}, 7)});
  edit.axes.push_back({net.c->weight().id, 1, appended(5, 3), normal_tensor<T>(ctx, {3, 3}, 8)});
  return edit;
}

/// Appends `units` units to the layer between `producer` and `consumer`.
template <class T>
Edit<T> insertion(ms::Context& ctx, Linear<T>& producer, Linear<T>& consumer, const ms::Tensor<T>& fan_in,
                  const ms::Tensor<T>& bias, const ms::Tensor<T>& fan_out) {
  const Map map = appended(producer.out_features(), bias.size());
  Edit<T> edit;
  edit.axes.push_back({producer.weight().id, 0, map, ms::clone(ctx, fan_in)});
  edit.axes.push_back({producer.bias().id, 0, map, ms::clone(ctx, bias)});
  edit.axes.push_back({consumer.weight().id, 1, map, ms::clone(ctx, fan_out)});
  return edit;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("edit: appended keeps the old indices and adds new ones") {
  CHECK(appended(3, 2) == Map{0, 1, 2, -1, -1});
  CHECK(appended(0, 1) == Map{-1});
  CHECK(appended(2, 0) == Map{0, 1});
  CHECK(appended(0, 0).empty());
}

TEST_CASE_TEMPLATE("edit: weights, gradients and moments follow the index map", T, float, double) {
  // Growth at the end, in front and in between; pruning; a permutation; a copy; everything at once; nothing left.
  const std::vector<std::pair<int, Map>> changes = {{0, {0, 1, 2, 3, 4, -1, -1}},
                                                    {1, {0, 1, 2, 3, 4, 5, 6, -1}},
                                                    {0, {-1, 0, 1, -1, 2, 3, 4}},
                                                    {0, {0, 2, 4}},
                                                    {1, {6, 0}},
                                                    {1, {6, 5, 4, 3, 2, 1, 0}},
                                                    {0, {1, 1, 1, 0}},
                                                    {1, {-1, 5, -1, 5, 0, -1}},
                                                    {0, {}},
                                                    {1, {-1}}};
  for (const int kind : {0, 1}) {
    for (const auto& change : changes) {
      const int axis = change.first;
      const Map& map = change.second;
      CAPTURE(kind);
      CAPTURE(axis);
      CAPTURE(map.size());
      ms::Context ctx({.seed = 2});
      Net<T> net(ctx);
      const auto optimizer = make_optimizer<T>(kind, net.net);
      train<T>(ctx, net, *optimizer, 3);
      Parameter<T>& weight = net.b->weight();
      const ms::Shape fresh_shape = ms::Shape{5, 7}.with(axis, std::count(map.begin(), map.end(), -1));
      const auto fresh = support::normal_values<T>(fresh_shape.size(), 8);
      const auto value = array_of(ctx, weight.value), gradient = array_of(ctx, weight.gradient);
      std::vector<Array<T>> moments;
      for (const auto& moment : optimizer->state(weight.id)) moments.push_back(array_of(ctx, moment));
      CHECK(moments.size() == (kind == 0 ? 1u : 2u));
      const auto a = array_of(ctx, net.a->weight().value);

      Edit<T> edit;
      edit.axes.push_back({weight.id, axis, map, ms::from_host<T>(ctx, fresh_shape, fresh)});
      ms::grow::apply(ctx, edit, net.net, optimizer.get());

      check_array(array_of(ctx, weight.value), mapped(value, axis, map, fresh), "value");
      check_array(array_of(ctx, weight.gradient), mapped(gradient, axis, map, {}), "gradient");
      REQUIRE(optimizer->state(weight.id).size() == moments.size());
      for (std::size_t i = 0; i < moments.size(); ++i) {
        check_array(array_of(ctx, optimizer->state(weight.id)[i]), mapped(moments[i], axis, map, {}), "moment");
      }
      check_array(array_of(ctx, net.a->weight().value), a, "another parameter");
    }
  }
}

TEST_CASE_TEMPLATE("edit: value changes come first, then both axes of one parameter, in order", T, float, double) {
  ms::Context ctx({.seed = 3});
  Net<T> net(ctx);
  const auto optimizer = make_optimizer<T>(0, net.net);
  train<T>(ctx, net, *optimizer, 2);
  Parameter<T>& weight = net.b->weight();
  Array<T> value = array_of(ctx, weight.value), gradient = array_of(ctx, weight.gradient);
  Array<T> moment = array_of(ctx, optimizer->state(weight.id)[0]);

  const auto first = support::normal_values<T>(35, 1), second = support::normal_values<T>(35, 2);
  const Map columns{3, -1, 0, 1, -1, 6}, rows{-1, 4, 0};
  const auto fresh_columns = support::normal_values<T>(5 * 2, 3), fresh_row = support::normal_values<T>(1 * 6, 4);
  Edit<T> edit;
  edit.axes.push_back({weight.id, 1, columns, ms::from_host<T>(ctx, {5, 2}, fresh_columns)});
  edit.axes.push_back({weight.id, 0, rows, ms::from_host<T>(ctx, {1, 6}, fresh_row)});
  edit.values.push_back({weight.id, ms::from_host<T>(ctx, {5, 7}, first)});
  edit.values.push_back({weight.id, ms::from_host<T>(ctx, {5, 7}, second)});
  ms::grow::apply<T>(ctx, edit, net.net, optimizer.get());

  for (std::size_t i = 0; i < 35; ++i) {
    value.values[i] += first[i];
    value.values[i] += second[i];
  }
  check_array(array_of(ctx, weight.value), mapped(mapped(value, 1, columns, fresh_columns), 0, rows, fresh_row),
              "value");
  check_array(array_of(ctx, weight.gradient), mapped(mapped(gradient, 1, columns, {}), 0, rows, {}), "gradient");
  check_array(array_of(ctx, optimizer->state(weight.id)[0]), mapped(mapped(moment, 1, columns, {}), 0, rows, {}),
              "moment");
}

TEST_CASE("edit: a change of values alone leaves gradients, moments and other parameters alone") {
  ms::Context ctx({.seed = 3});
  Net<double> net(ctx);
  const auto optimizer = make_optimizer<double>(1, net.net);
  train<double>(ctx, net, *optimizer, 2);
  auto expected = everything(ctx, net, optimizer.get());
  const auto delta = support::normal_values<double>(15, 1);
  Edit<double> edit;
  edit.values.push_back({net.c->weight().id, ms::from_host<double>(ctx, {3, 5}, delta)});
  ms::grow::apply(ctx, edit, net.net, optimizer.get());
  // c.weight is the fifth parameter of four tensors each.
  for (std::size_t i = 0; i < 15; ++i) expected[16].values[i] += delta[i];
  check_unchanged(everything(ctx, net, optimizer.get()), expected);
}

TEST_CASE("edit: an empty edit changes nothing") {
  ms::Context ctx({.seed = 3});
  Net<float> net(ctx);
  const auto before = everything<float>(ctx, net, nullptr);
  ms::grow::apply<float>(ctx, {}, net.net);
  check_unchanged(everything<float>(ctx, net, nullptr), before);
}

TEST_CASE("edit: pruning needs no fresh numbers, whatever the rank") {
  ms::Context ctx({.seed = 4});
  Net<double> net(ctx);
  const Map kept{6, 2, 3};
  const auto a = array_of(ctx, net.a->weight().value), bias = array_of(ctx, net.a->bias().value);
  const auto b = array_of(ctx, net.b->weight().value);
  Edit<double> edit;
  edit.axes.push_back({net.a->weight().id, 0, kept, {}});
  edit.axes.push_back({net.a->bias().id, 0, kept, {}});
  edit.axes.push_back({net.b->weight().id, 1, kept, {}});
  ms::grow::apply(ctx, edit, net.net);
  check_array(array_of(ctx, net.a->weight().value), mapped(a, 0, kept, {}), "a.weight");
  check_array(array_of(ctx, net.a->bias().value), mapped(bias, 0, kept, {}), "a.bias");
  check_array(array_of(ctx, net.b->weight().value), mapped(b, 1, kept, {}), "b.weight");
  CHECK(net.a->out_features() == 3);
  CHECK(net.net.output_shape({2, 6}) == ms::Shape{2, 3});
}

TEST_CASE("edit: a hidden layer can be emptied and grown again") {
  ms::Context ctx({.seed = 5});
  Net<float> net(ctx);
  const auto optimizer = make_optimizer<float>(0, net.net);
  train<float>(ctx, net, *optimizer, 2);
  Edit<float> prune;
  prune.axes.push_back({net.a->weight().id, 0, {}, {}});
  prune.axes.push_back({net.a->bias().id, 0, {}, {}});
  prune.axes.push_back({net.b->weight().id, 1, {}, {}});
  ms::grow::apply(ctx, prune, net.net, optimizer.get());
  CHECK(net.a->out_features() == 0);
  CHECK(optimizer->state(net.a->weight().id)[0].shape() == ms::Shape{0, 6});
  train<float>(ctx, net, *optimizer, 2);
  ms::grow::apply(ctx,
                  insertion<float>(ctx, *net.a, *net.b, normal_tensor<float>(ctx, {4, 6}, 1),
                                   normal_tensor<float>(ctx, {4}, 2), normal_tensor<float>(ctx, {5, 4}, 3)),
                  net.net, optimizer.get());
  CHECK(net.a->out_features() == 4);
  CHECK(optimizer->state(net.a->weight().id)[0].shape() == ms::Shape{4, 6});
  CHECK_NOTHROW(train<float>(ctx, net, *optimizer, 2));
}

TEST_CASE_TEMPLATE("edit: permuting hidden units leaves the function, and permuting back restores every bit", T, float,
                   double) {
  ms::Context ctx({.seed = 6});
  Net<T> net(ctx);
  const auto optimizer = make_optimizer<T>(1, net.net);
  train<T>(ctx, net, *optimizer, 3);
  const auto before = everything(ctx, net, optimizer.get());
  const auto y = outputs<T>(ctx, net);
  const Map there{4, 2, 6, 0, 5, 1, 3};
  Map back(7);
  for (std::size_t i = 0; i < 7; ++i) back[static_cast<std::size_t>(there[i])] = static_cast<std::int64_t>(i);
  const auto permute = [&](const Map& map) {
    Edit<T> edit;
    edit.axes.push_back({net.a->weight().id, 0, map, {}});
    edit.axes.push_back({net.a->bias().id, 0, map, {}});
    edit.axes.push_back({net.b->weight().id, 1, map, {}});
    ms::grow::apply(ctx, edit, net.net, optimizer.get());
  };
  permute(there);
  // Sums of 7 and 5 products of order 1 in another order.
  support::check_close(outputs<T>(ctx, net), support::to_double(y), 50 * support::eps<T>);
  permute(back);
  check_unchanged(everything(ctx, net, optimizer.get()), before);
  support::check_same_bits(outputs<T>(ctx, net), y);
}

TEST_CASE_TEMPLATE("edit: staging changes nothing, one swap carries it out, the second restores every bit", T, float,
                   double) {
  for (const int kind : {0, 1}) {
    CAPTURE(kind);
    ms::Context ctx({.seed = 7});
    Net<T> net(ctx), same(ctx);
    for (std::size_t i = 0; i < 6; ++i) {
      ms::nn::parameters(same.net)[i]->value = ms::clone(ctx, ms::nn::parameters(net.net)[i]->value);
    }
    const auto optimizer = make_optimizer<T>(kind, net.net), same_optimizer = make_optimizer<T>(kind, same.net);
    train<T>(ctx, net, *optimizer, 3);
    train<T>(ctx, same, *same_optimizer, 3);
    const auto before = everything(ctx, net, optimizer.get());
    const auto y = outputs<T>(ctx, net);
    ms::grow::apply(ctx, grow_two_layers<T>(ctx, same), same.net, same_optimizer.get());

    StagedEdit<T> staged(ctx, grow_two_layers<T>(ctx, net), net.net, optimizer.get());
    check_unchanged(everything(ctx, net, optimizer.get()), before);
    for (int round = 0; round < 2; ++round) {
      staged.swap();
      check_unchanged(everything(ctx, net, optimizer.get()), everything(ctx, same, same_optimizer.get()));
      support::check_same_bits(outputs<T>(ctx, net), outputs<T>(ctx, same));
      CHECK(outputs<T>(ctx, net) != y);
      staged.swap();
      check_unchanged(everything(ctx, net, optimizer.get()), before);
      support::check_same_bits(outputs<T>(ctx, net), y);
    }
  }
}

TEST_CASE("edit: without an optimiser, weights and gradients follow") {
  ms::Context ctx({.seed = 8});
  Net<float> net(ctx);
  Sgd<float> sgd(net.net, {.momentum = 0.9});
  train<float>(ctx, net, sgd, 1);
  ms::grow::apply(ctx, grow_two_layers<float>(ctx, net), net.net);
  CHECK(net.b->weight().value.shape() == ms::Shape{8, 9});
  CHECK(net.b->weight().gradient.shape() == ms::Shape{8, 9});
  CHECK(sgd.state(net.b->weight().id)[0].shape() == ms::Shape{5, 7});
}

TEST_CASE("edit: before its first step an optimiser has nothing to follow, and steps afterwards") {
  ms::Context ctx({.seed = 8});
  Net<float> net(ctx);
  AdamW<float> adamw(net.net, {});
  ms::grow::apply(ctx, grow_two_layers<float>(ctx, net), net.net, &adamw);
  CHECK(adamw.state(net.b->weight().id).empty());
  CHECK_NOTHROW(train<float>(ctx, net, adamw, 2));
  CHECK(adamw.state(net.b->weight().id)[0].shape() == ms::Shape{8, 9});
}

TEST_CASE("edit: ids, names and addresses of parameters survive") {
  ms::Context ctx({.seed = 9});
  Net<float> net(ctx);
  const auto parameters = ms::nn::parameters(net.net);
  std::vector<std::pair<ms::nn::ParameterId, std::string>> before, after;
  for (auto* parameter : parameters) before.emplace_back(parameter->id, parameter->name);
  ms::grow::apply(ctx, grow_two_layers<float>(ctx, net), net.net);
  for (auto* parameter : ms::nn::parameters(net.net)) after.emplace_back(parameter->id, parameter->name);
  CHECK(before == after);
  CHECK(ms::nn::parameters(net.net) == parameters);
}

TEST_CASE_TEMPLATE("edit: new units with fan-out 0, or with fan-in 0 under tanh, leave the outputs", T, float, double) {
  for (const bool fan_out_is_zero : {true, false}) {
    CAPTURE(fan_out_is_zero);
    ms::Context ctx({.seed = 10});
    Net<T> net(ctx);
    const auto before = outputs<T>(ctx, net);
    const auto choose = [&](bool zero, const ms::Shape& shape, std::uint64_t seed) {
      return zero ? ms::zeros<T>(ctx, shape) : normal_tensor<T>(ctx, shape, seed);
    };
    ms::grow::apply(ctx,
                    insertion<T>(ctx, *net.a, *net.b, choose(!fan_out_is_zero, {4, 6}, 1),
                                 choose(!fan_out_is_zero, {4}, 2), choose(fan_out_is_zero, {5, 4}, 3)),
                    net.net);
    CHECK(net.a->out_features() == 11);
    // The added products are 0; the sums of 7 and 5 products of order 1 may run in another order.
    support::check_close(outputs<T>(ctx, net), support::to_double(before), 50 * support::eps<T>);
  }
}

TEST_CASE("edit: ten more steps of the old part are those of the network that did not grow") {
  for (const int kind : {0, 1}) {
    CAPTURE(kind);
    ms::Context ctx({.seed = 11});
    Net<double> net(ctx), same(ctx);
    for (std::size_t i = 0; i < 6; ++i) {
      ms::nn::parameters(same.net)[i]->value = ms::clone(ctx, ms::nn::parameters(net.net)[i]->value);
    }
    const auto optimizer = make_optimizer<double>(kind, net.net),
               same_optimizer = make_optimizer<double>(kind, same.net);
    train<double>(ctx, net, *optimizer, 5);
    train<double>(ctx, same, *same_optimizer, 5);
    // Units whose fan-in, bias and fan-out are all 0 output tanh(0) = 0 and get no gradient: they stay 0.
    ms::grow::apply(ctx,
                    insertion<double>(ctx, *net.a, *net.b, ms::zeros<double>(ctx, {3, 6}), ms::zeros<double>(ctx, {3}),
                                      ms::zeros<double>(ctx, {5, 3})),
                    net.net, optimizer.get());
    train<double>(ctx, net, *optimizer, 10);
    train<double>(ctx, same, *same_optimizer, 10);

    // The matrix products may add their terms in another order, so old weights agree to rounding, not to the bit.
    // Gradients are sums of about 100 products of order 1, so 100 eps apart. SGD turns that into 0.05 / (1 - 0.9) = 0.5
    // of it per step, AdamW into at most 0.01 / epsilon = 10 of it; over ten steps the difference may double each time.
    const double tolerance = (kind == 0 ? 0.5 : 10.0) * 100 * support::eps<double> * (1 << 10);
    const auto grown = everything(ctx, net, optimizer.get()), expected = everything(ctx, same, same_optimizer.get());
    REQUIRE(grown.size() == expected.size());
    for (std::size_t i = 0; i < grown.size(); ++i) {
      INFO("tensor ", i);
      const ms::Shape& wide = grown[i].shape;
      const ms::Shape& narrow = expected[i].shape;
      std::vector<double> old_part, new_part;
      const std::int64_t columns = wide.rank() == 1 ? 1 : wide[1];
      for (std::int64_t r = 0; r < wide[0]; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) {
          const bool old = r < narrow[0] && (wide.rank() == 1 || c < narrow[1]);
          (old ? old_part : new_part).push_back(grown[i].values[static_cast<std::size_t>(r * columns + c)]);
        }
      }
      support::check_close(old_part, expected[i].values, tolerance, "old part");
      support::check_close(new_part, std::vector<double>(new_part.size(), 0.0), 0.0, "new part");
    }
    const auto new_elements = [&](std::size_t tensor) {
      return grown[tensor].values.size() - expected[tensor].values.size();
    };
    CHECK(new_elements(0) == 18);
  }
}

TEST_CASE("edit: moments carried along give the trajectory, moments lost do not") {
  ms::Context ctx({.seed = 12});
  Net<double> net(ctx), forgetful(ctx);
  for (std::size_t i = 0; i < 6; ++i) {
    ms::nn::parameters(forgetful.net)[i]->value = ms::clone(ctx, ms::nn::parameters(net.net)[i]->value);
  }
  const auto optimizer = make_optimizer<double>(0, net.net), other = make_optimizer<double>(0, forgetful.net);
  train<double>(ctx, net, *optimizer, 5);
  train<double>(ctx, forgetful, *other, 5);
  for (auto* parameter : ms::nn::parameters(forgetful.net)) other->state(parameter->id).clear();
  train<double>(ctx, net, *optimizer, 1);
  train<double>(ctx, forgetful, *other, 1);
  const auto with = ms::to_host(ctx, net.a->weight().value), without = ms::to_host(ctx, forgetful.a->weight().value);
  double difference = 0.0;
  for (std::size_t i = 0; i < with.size(); ++i) difference = std::max(difference, std::abs(with[i] - without[i]));
  // Far above the tolerance of the test before: that test can tell.
  CHECK(difference > 1e-4);
}

TEST_CASE("edit: what does not fit is told by name and shape, and nothing has changed") {
  ms::Context ctx({.seed = 13});
  Net<double> net(ctx);
  const auto optimizer = make_optimizer<double>(0, net.net);
  train<double>(ctx, net, *optimizer, 2);
  const auto before = everything(ctx, net, optimizer.get());
  const auto b = net.b->weight().id;

  const auto refused = [&]<class Error>(Error*, auto&& add) {
    // Much that fits, then what does not.
    Edit<double> edit = grow_two_layers<double>(ctx, net);
    add(edit);
    const auto text = message_of<Error>([&] { ms::grow::apply(ctx, edit, net.net, optimizer.get()); });
    check_unchanged(everything(ctx, net, optimizer.get()), before);
    return text;
  };
  ms::ShapeError* const shape_error = nullptr;
  ms::ArgumentError* const argument_error = nullptr;
  using E = Edit<double>;

  auto text = refused(argument_error, [&](E& edit) {
    edit.values.push_back({9999, normal_tensor<double>(ctx, {2}, 1)});
  });
  CHECK(contains(text, "growth edit: the network has no parameter with id 9999"));
  CHECK(contains(text, "apply an edit to the network it was made for"));
  text = refused(argument_error, [&](E& edit) { edit.axes.push_back({9998, 0, {0}, {}}); });
  CHECK(contains(text, "no parameter with id 9998"));

  text = refused(shape_error, [&](E& edit) { edit.values.push_back({b, normal_tensor<double>(ctx, {7, 5}, 1)}); });
  CHECK(contains(text, "growth edit: b.weight has shape (5, 7), its change has shape (7, 5)"));

  text = refused(shape_error, [&](E& edit) { edit.axes.push_back({b, 2, {0}, {}}); });
  CHECK(text == "growth edit: b.weight of shape (8, 9) has no axis 2");
  text = refused(shape_error, [&](E& edit) { edit.axes.push_back({b, -1, {0}, {}}); });
  CHECK(contains(text, "has no axis -1"));

  text = refused(shape_error, [&](E& edit) { edit.axes.push_back({b, 1, {0, 9}, {}}); });
  CHECK(
      text ==
      "growth edit: b.weight of shape (8, 9): map[1] is 9; it must be -1 for an added index or one of the 9 indices of "
      "axis 1");
  text = refused(shape_error, [&](E& edit) { edit.axes.push_back({b, 1, {-2}, {}}); });
  CHECK(contains(text, "map[0] is -2"));

  text = refused(shape_error, [&](E& edit) {
    edit.axes.push_back({b, 0, appended(8, 2), normal_tensor<double>(ctx, {2, 7}, 1)});
  });
  CHECK(text ==
        "growth edit: b.weight of shape (8, 9): the map adds 2 indices on axis 0, so fresh must have shape (2, 9); got "
        "(2, 7)");
  text = refused(shape_error, [&](E& edit) { edit.axes.push_back({b, 0, appended(8, 2), {}}); });
  CHECK(contains(text, "so fresh must have shape (2, 9); got (0)"));
  text = refused(shape_error, [&](E& edit) {
    edit.axes.push_back({b, 0, {0, 1}, normal_tensor<double>(ctx, {1, 9}, 1)});
  });
  CHECK(contains(text, "the map adds 0 indices on axis 0, so fresh must have shape (0, 9); got (1, 9)"));

  // Still in working order.
  CHECK_NOTHROW(ms::grow::apply(ctx, grow_two_layers<double>(ctx, net), net.net, optimizer.get()));
  CHECK_NOTHROW(train<double>(ctx, net, *optimizer, 1));
}

TEST_CASE("edit: the optimiser of another network is refused") {
  // Two contexts number their parameters alike.
  ms::Context ctx({.seed = 14}), elsewhere({.seed = 15});
  Net<double> net(ctx), other(elsewhere);
  const auto optimizer = make_optimizer<double>(0, other.net);
  ms::grow::apply(elsewhere, grow_two_layers<double>(elsewhere, other), other.net);
  train<double>(elsewhere, other, *optimizer, 1);
  REQUIRE(net.a->weight().id == other.a->weight().id);
  const auto before = everything<double>(ctx, net, nullptr);
  const auto text = message_of<ms::ArgumentError>(
      [&] { ms::grow::apply(ctx, grow_two_layers<double>(ctx, net), net.net, optimizer.get()); });
  CHECK(text == "growth edit: the optimiser is of another network; give the optimiser that was made for this network");
  check_unchanged(everything<double>(ctx, net, nullptr), before);
}

TEST_CASE("edit: the edit of another network is refused, also if it numbers its parameters alike") {
  ms::Context first({.seed = 16}), second({.seed = 16});
  Net<float> one(first), two(second), three(first);
  REQUIRE(one.b->weight().id == two.b->weight().id);
  const Edit<float> edit = grow_two_layers<float>(first, one);
  const auto before = everything<float>(second, two, nullptr);
  for (ms::Context* ctx : {&first, &second}) {
    const auto text = message_of<ms::ArgumentError>([&] { ms::grow::apply(*ctx, edit, two.net); });
    CHECK(contains(text, "are of another Context; apply an edit to the network it was made for"));
  }
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::grow::apply(first, edit, three.net); }),
                 "the network has no parameter with id"));
  check_unchanged(everything<float>(second, two, nullptr), before);
  CHECK_NOTHROW(ms::grow::apply(first, edit, one.net));
}

TEST_CASE("edit: an edit of known extents does not apply twice") {
  ms::Context ctx({.seed = 17});
  Net<float> net(ctx);
  Edit<float> edit;
  edit.axes.push_back({net.a->weight().id, 0, appended(7, 1), normal_tensor<float>(ctx, {1, 6}, 1), 7});
  edit.axes.push_back({net.a->bias().id, 0, appended(7, 1), normal_tensor<float>(ctx, {1}, 2), 7});
  edit.axes.push_back({net.b->weight().id, 1, appended(7, 1), normal_tensor<float>(ctx, {5, 1}, 3), 7});
  ms::grow::apply(ctx, edit, net.net);
  const auto before = everything<float>(ctx, net, nullptr);
  CHECK(
      message_of<ms::ShapeError>([&] { ms::grow::apply(ctx, edit, net.net); }) ==
      "growth edit: axis 0 of a.weight has 8 indices, the edit was made for 7; if it was applied already, make another "
      "for the network as it is now");
  check_unchanged(everything<float>(ctx, net, nullptr), before);
}

TEST_CASE("edit: numbers that are not finite are not applied") {
  ms::Context ctx({.seed = 18});
  Net<float> net(ctx);
  const auto before = everything<float>(ctx, net, nullptr);
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    Edit<float> edit;
    edit.axes.push_back({net.a->bias().id, 0, appended(7, 2), ms::from_host<float>(ctx, {2}, {1.0f, bad})});
    CHECK(contains(message_of<ms::ArgumentError>([&] { ms::grow::apply(ctx, edit, net.net); }),
                   "growth edit: number 1 of what a.bias gets is not finite"));
    Edit<float> change;
    std::vector<float> numbers(7, 0.0f);
    numbers[3] = bad;
    change.values.push_back({net.a->bias().id, ms::from_host<float>(ctx, {7}, numbers)});
    CHECK(contains(message_of<ms::ArgumentError>([&] { ms::grow::apply(ctx, change, net.net); }),
                   "growth edit: number 3 of what a.bias gets is not finite"));
  }
  check_unchanged(everything<float>(ctx, net, nullptr), before);
}

TEST_CASE_TEMPLATE("edit: another amplitude is the same as another edit, and the plain sum", T, float, double) {
  ms::Context ctx({.seed = 19});
  Net<T> net(ctx);
  const auto before = everything<T>(ctx, net, nullptr);
  const std::vector<T> weight = ms::to_host(ctx, net.b->weight().value);
  const std::vector<T> move = support::normal_values<T>(35, 1), fresh = support::normal_values<T>(10, 2),
                       rows = support::normal_values<T>(12, 3);
  const auto edit_at = [&](double gamma) {
    Edit<T> edit;
    edit.gamma = gamma;
    edit.values.push_back({net.b->weight().id, ms::from_host<T>(ctx, {5, 7}, move), 1.0});
    edit.axes.push_back({net.b->weight().id, 1, appended(7, 2), ms::from_host<T>(ctx, {5, 2}, fresh), 7, 0.5});
    edit.axes.push_back({net.a->weight().id, 0, appended(7, 2), ms::from_host<T>(ctx, {2, 6}, rows), 7});
    edit.axes.push_back({net.a->bias().id, 0, appended(7, 2), ms::from_host<T>(ctx, {2}, {T(1), T(2)}), 7, 0.5});
    return edit;
  };
  StagedEdit<T> trial(ctx, edit_at(0.3), net.net, nullptr, ms::grow::detail::Follow::nothing);
  for (const double gamma : {0.3, 0.0, 1.0, 1e-6, 400.0, 0.3}) {
    CAPTURE(gamma);
    trial.set_amplitude(ctx, gamma);
    trial.swap();
    CHECK_THROWS_AS(trial.set_amplitude(ctx, 1.0), ms::ArgumentError);
    const std::vector<T> found = ms::to_host(ctx, net.b->weight().value), bias = ms::to_host(ctx, net.a->bias().value);
    CHECK(ms::to_host(ctx, net.a->weight().value).size() == 54);
    trial.swap();
    const T root = static_cast<T>(std::sqrt(gamma)), whole = static_cast<T>(gamma);
    for (std::size_t o = 0; o < 5; ++o) {
      for (std::size_t i = 0; i < 9; ++i) {
        const T expected = i < 7 ? weight[7 * o + i] + whole * move[7 * o + i] : root * fresh[2 * o + i - 7];
        // A product and a sum, fused or not.
        CHECK(std::abs(found[9 * o + i] - expected) <=
              2 * support::eps<T> * std::max(std::abs(expected), T(1) + whole));
      }
    }
    CHECK(bias[8] == doctest::Approx(static_cast<double>(2 * root)).epsilon(2 * support::eps<T>));
    StagedEdit<T> own(ctx, edit_at(gamma), net.net, nullptr, ms::grow::detail::Follow::nothing);
    own.swap();
    CHECK(ms::to_host(ctx, net.b->weight().value) == found);
    own.swap();
    check_unchanged(everything<T>(ctx, net, nullptr), before);
  }
  // The largest of the 35 numbers of the move is above 1.8.
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::grow::apply(ctx, edit_at(1e308), net.net); }),
                 "at the amplitude 1e+308 a number of what b.weight gets is not finite"));
  check_unchanged(everything<T>(ctx, net, nullptr), before);
}

TEST_SUITE_END();

}  // namespace grow_edit_test
