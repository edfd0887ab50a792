// The edit that inserts units: every number in its place, for every way of joining two layers.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/sgd.hpp>
#include <support/plain_maps.hpp>
#include <support/units_on_host.hpp>

namespace grow_insertion_test {

namespace ms = meristem;
using support::contains;
using support::HostInsertion;
using support::MapJoint;
using support::message_of;
using support::on_device;

namespace {

using Values = std::vector<double>;

HostInsertion random_insertion(const MapJoint& joint, std::int64_t units, bool centre = false) {
  HostInsertion result;
  result.units = units;
  result.inputs = joint.p();
  result.outputs = joint.out;
  result.consumer_inputs = joint.d();
  result.taps = centre ? 1 : joint.consumer().kernel.size();
  result.fan_in = support::normal_values<double>(units * joint.p(), 21);
  result.fan_out = support::normal_values<double>(units * result.taps * joint.out, 22);
  result.move = support::normal_values<double>(joint.out * joint.d(), 23);
  result.mean = support::normal_values<double>(units, 24);
  for (const double value : support::normal_values<double>(units, 25)) result.variance.push_back(0.1 + value * value);
  return result;
}

/// A network of one joint and its site.
struct Place {
  ms::Context ctx{{.seed = 6}};
  MapJoint joint;
  ms::nn::Sequential<double> net;
  ms::grow::Site<double> site;

  explicit Place(const MapJoint& given) : joint(given) {
    joint.build(ctx, net);
    site = ms::grow::find_sites<double>(net).front();
    // No number is left at its initial value.
    std::uint64_t seed = 40;
    const auto randomise = [&](ms::Tensor<double>& tensor) {
      tensor = ms::from_host<double>(ctx, tensor.shape(), support::normal_values<double>(tensor.size(), ++seed));
    };
    for (auto* parameter : ms::nn::parameters(net)) randomise(parameter->value);
    net.visit_buffers([&](ms::nn::Buffer<double>& buffer) { randomise(buffer.value); });
  }

  Values host(const ms::Tensor<double>& tensor) { return ms::to_host(ctx, tensor); }
};

/// All numbers of a network: parameters, gradients, moments and buffers.
template <class T>
std::vector<std::vector<T>> everything(ms::Context& ctx, ms::nn::Layer<T>& net, ms::optim::Optimizer<T>* optimizer) {
  std::vector<std::vector<T>> result;
  for (auto* parameter : ms::nn::parameters(net)) {
    result.push_back(ms::to_host(ctx, parameter->value));
    result.push_back(ms::to_host(ctx, parameter->gradient));
    if (!optimizer) continue;
    for (const auto& moment : optimizer->state(parameter->id)) result.push_back(ms::to_host(ctx, moment));
  }
  net.visit_buffers([&](ms::nn::Buffer<T>& buffer) { result.push_back(ms::to_host(ctx, buffer.value)); });
  return result;
}

/// The consumer's weight after growth, (q, places, width + units), and its bias.
void check_consumer(Place& place, const HostInsertion& insertion, const Values& before, const Values& bias,
                    double gamma) {
  const MapJoint& joint = place.joint;
  const std::int64_t places = joint.consumer().kernel.size(), w = joint.width, k = insertion.units, q = joint.out;
  const ms::Window window = joint.consumer();
  Values weights, biases;
  for (std::int64_t o = 0; o < q; ++o) {
    for (std::int64_t at = 0; at < places; ++at) {
      for (std::int64_t c = 0; c < w; ++c) {
        const auto i = static_cast<std::size_t>((o * places + at) * w + c);
        const double move =
            insertion.move.empty() ? 0.0 : insertion.move[static_cast<std::size_t>(o * joint.d() + at * w + c)];
        weights.push_back(before[i] + gamma * move);
      }
      for (std::int64_t unit = 0; unit < k; ++unit) {
        const bool centre = at == (window.kernel.y / 2) * window.kernel.x + window.kernel.x / 2;
        double value = 0.0;
        if (insertion.taps > 1) value = insertion.fan_out[static_cast<std::size_t>((unit * places + at) * q + o)];
        if (insertion.taps == 1 && centre) value = insertion.fan_out[static_cast<std::size_t>(unit * q + o)];
        weights.push_back(std::sqrt(gamma) * value);
      }
    }
    if (!joint.consumer_bias) continue;
    const double move =
        insertion.move.empty() ? 0.0 : insertion.move[static_cast<std::size_t>((o + 1) * joint.d() - 1)];
    biases.push_back(bias[static_cast<std::size_t>(o)] + gamma * move);
  }
  // One product and one sum of numbers of order 1.
  support::check_close(place.host(place.site.consumer.weight().value), weights, 1e-14, "consumer weight");
  if (joint.consumer_bias) support::check_close(place.host(place.site.consumer.bias().value), biases, 1e-14, "bias");
}

void check_inserted(const MapJoint& joint, const HostInsertion& insertion, double gamma) {
  Place place(joint);
  auto& site = place.site;
  const Values producer = place.host(site.producer.weight().value), consumer = place.host(site.consumer.weight().value);
  const Values producer_bias = joint.producer_bias ? place.host(site.producer.bias().value) : Values{};
  const Values consumer_bias = joint.consumer_bias ? place.host(site.consumer.bias().value) : Values{};
  Values norm_before;
  place.net.visit_buffers([&](ms::nn::Buffer<double>& b) {
    for (double v : place.host(b.value)) norm_before.push_back(v);
  });

  ms::grow::apply<double>(place.ctx, ms::grow::make_edit(place.ctx, site, on_device(place.ctx, insertion), gamma),
                          place.net);

  const std::int64_t w = joint.width, k = insertion.units, features = joint.first.kernel.size() * joint.in;
  CHECK(site.width() == w + k);
  CHECK(site.consumer.in_features() == (joint.flatten ? joint.pooled().size() : 1) * (w + k));
  // Behind a norm, fan-ins get the mean norm of the units that were there.
  Values scales(static_cast<std::size_t>(k), std::sqrt(gamma));
  if (joint.norm) {
    double mean = 0.0;
    for (std::int64_t unit = 0; unit < w; ++unit) {
      double squares = 0.0;
      for (std::int64_t i = 0; i < features; ++i) {
        squares += std::pow(producer[static_cast<std::size_t>(unit * features + i)], 2);
      }
      mean += std::sqrt(squares) / static_cast<double>(w);
    }
    if (w == 0) mean = std::sqrt(2.0);
    for (std::int64_t unit = 0; unit < k; ++unit) {
      double squares = 0.0;
      for (std::int64_t i = 0; i < features; ++i) {
        squares += std::pow(insertion.fan_in[static_cast<std::size_t>(unit * joint.p() + i)], 2);
      }
      scales[static_cast<std::size_t>(unit)] = mean / std::sqrt(squares);
    }
  }
  Values rows = producer, biases = producer_bias;
  for (std::int64_t unit = 0; unit < k; ++unit) {
    for (std::int64_t i = 0; i < joint.p(); ++i) {
      const double value =
          scales[static_cast<std::size_t>(unit)] * insertion.fan_in[static_cast<std::size_t>(unit * joint.p() + i)];
      (i < features ? rows : biases).push_back(value);
    }
  }
  support::check_close(place.host(site.producer.weight().value), rows, 1e-13, "producer weight");
  if (joint.producer_bias) support::check_close(place.host(site.producer.bias().value), biases, 1e-13, "producer bias");
  check_consumer(place, insertion, consumer, consumer_bias, gamma);

  if (!joint.norm) return;
  const Values weight = place.host(site.producer.norm()->weight().value),
               bias = place.host(site.producer.norm()->bias().value);
  const Values mean = place.host(site.producer.norm()->running_mean().value);
  const Values variance = place.host(site.producer.norm()->running_variance().value);
  REQUIRE(variance.size() == static_cast<std::size_t>(w + k));
  for (std::size_t c = 0; c < static_cast<std::size_t>(w); ++c) {
    CHECK(mean[c] == norm_before[c]);
    CHECK(variance[c] == norm_before[static_cast<std::size_t>(w) + c]);
  }
  for (std::size_t unit = 0; unit < static_cast<std::size_t>(k); ++unit) {
    const std::size_t c = static_cast<std::size_t>(w) + unit;
    // Whatever α[b 1] is, the norm must turn what the scaled fan-in makes of it into √γ α[b 1].
    for (const double h : {-2.0, 0.0, 0.7}) {
      const double normalised =
          (scales[unit] * h - mean[c]) / std::sqrt(variance[c] + site.producer.norm()->epsilon()) * weight[c] + bias[c];
      CHECK(normalised == doctest::Approx(std::sqrt(gamma) * h).epsilon(1e-12));
    }
    // And the statistics are those of the scaled fan-in.
    CHECK(mean[c] == doctest::Approx(scales[unit] * insertion.mean[unit]).epsilon(1e-13));
    CHECK(variance[c] == doctest::Approx(scales[unit] * scales[unit] * insertion.variance[unit]).epsilon(1e-13));
  }
}

const MapJoint& joint_named(const std::string& name) {
  static const std::vector<MapJoint> all = support::map_joints();
  for (const MapJoint& joint : all) {
    if (joint.name == name) return joint;
  }
  FAIL("no joint ", name);
  return all.front();
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("insertion: every number has its place, for every joint, full and at the centre") {
  for (MapJoint joint : support::map_joints()) {
    for (const bool centre : {false, true}) {
      if (centre && joint.linear_consumer) continue;
      for (const bool bias : {false, true}) {
        for (const bool norm : {false, true}) {
          for (const std::int64_t width : {joint.width, std::int64_t{0}}) {
            INFO(joint.name, ", centre ", centre, ", bias ", bias, ", norm ", norm, ", width ", width);
            MapJoint chosen = joint;
            chosen.producer_bias = chosen.consumer_bias = bias;
            chosen.norm = norm;
            chosen.width = width;
            check_inserted(chosen, random_insertion(chosen, 3, centre), 0.3);
          }
        }
      }
    }
  }
}

TEST_CASE("insertion: units without a move, and a move without units") {
  for (const char* name : {"conv3 - conv3", "conv3 - max pool - flatten - linear"}) {
    const MapJoint& joint = joint_named(name);
    HostInsertion units = random_insertion(joint, 2);
    units.move.clear();
    check_inserted(joint, units, 0.3);

    HostInsertion move = random_insertion(joint, 0);
    move.taps = 1;  // of no unit
    check_inserted(joint, move, 0.3);
  }
}

TEST_CASE("insertion: a split moves the scale of a unit from one side to the other, and a ReLU's function stays") {
  for (const MapJoint& joint : support::map_joints()) {
    INFO(joint.name);
    Place even(joint), other(joint);
    HostInsertion units = random_insertion(joint, 3);
    units.mean.resize(even.site.producer.norm() ? 3 : 0);
    units.variance.resize(even.site.producer.norm() ? 3 : 0);
    HostInsertion split = units;
    split.split = {0.25, 3.0, 40.0};
    constexpr double gamma = 0.09;
    ms::grow::apply(even.ctx, ms::grow::make_edit<double>(even.ctx, even.site, on_device(even.ctx, units), gamma),
                    even.net);
    ms::grow::apply(other.ctx, ms::grow::make_edit<double>(other.ctx, other.site, on_device(other.ctx, split), gamma),
                    other.net);
    // The last axis of the consumer ends with the units, place by place.
    const Values a = even.host(even.site.consumer.weight().value), b = other.host(other.site.consumer.weight().value);
    const auto width = static_cast<std::size_t>(even.site.width());
    for (std::size_t i = 0; i < a.size(); ++i) {
      const std::size_t unit = i % width;
      const double factor = unit < width - 3 ? 1.0 : split.split[unit - (width - 3)];
      CHECK(b[i] * factor == doctest::Approx(a[i]).epsilon(1e-14));
    }
    const auto& makes = [](Place& place) -> ms::Tensor<double>& {
      return place.site.producer.norm() ? place.site.producer.norm()->weight().value
                                        : place.site.producer.weight().value;
    };
    const Values c = even.host(makes(even)), d = other.host(makes(other));
    const std::size_t each = c.size() / width;
    for (std::size_t i = 0; i < c.size(); ++i) {
      const std::size_t unit = i / each;
      const double factor = unit < width - 3 ? 1.0 : split.split[unit - (width - 3)];
      CHECK(d[i] == doctest::Approx(factor * c[i]).epsilon(1e-14));
    }
  }
}

TEST_CASE("insertion: the balanced split gives new channels the weight of today's at any amplitude") {
  for (const MapJoint& joint : support::map_joints()) {
    INFO(joint.name);
    Place place(joint);
    HostInsertion units = random_insertion(joint, 3);
    if (!place.site.producer.norm()) {
      // Fan-ins come to the scale of today's, biases aside.
      const auto square = [](const Values& numbers, std::size_t begin, std::size_t count) {
        double sum = 0.0;
        for (std::size_t i = begin; i < begin + count; ++i) sum += numbers[i] * numbers[i];
        return sum;
      };
      const auto width = static_cast<std::size_t>(place.site.width());
      const Values weight = place.host(place.site.producer.weight().value);
      const std::size_t each = units.fan_in.size() / 3, bias = place.site.producer.has_bias() ? 1 : 0;
      if (width == 0) {
        CHECK(ms::grow::balanced_split<double>(place.ctx, place.site, on_device(place.ctx, units), 0.5).empty());
        continue;
      }
      const double now = std::sqrt(square(weight, 0, weight.size()) / static_cast<double>(width));
      std::fill_n(units.fan_in.begin() + static_cast<std::ptrdiff_t>(2 * each), each, 0.0);  // no scale to bring
      for (const double gamma : {1e-6, 0.5, 300.0}) {
        const Values split =
            place.host(ms::grow::balanced_split<double>(place.ctx, place.site, on_device(place.ctx, units), gamma));
        REQUIRE(split.size() == 3);
        CHECK(split[2] == 1.0);
        for (std::size_t k = 0; k < 2; ++k) {
          CHECK(split[k] * std::sqrt(gamma * square(units.fan_in, k * each, each - bias)) == doctest::Approx(now));
        }
      }
      continue;
    }
    const Values today = place.host(place.site.producer.norm()->weight().value);
    double squares = 0.0;
    for (const double weight : today) squares += weight * weight / static_cast<double>(today.size());
    const double expected = today.empty() ? 1.0 : std::sqrt(squares);
    units.variance[2] = 0.0;  // no scale to bring it to
    for (const double gamma : {1e-6, 0.5, 300.0}) {
      units.split =
          place.host(ms::grow::balanced_split<double>(place.ctx, place.site, on_device(place.ctx, units), gamma));
      REQUIRE(units.split.size() == 3);
      CHECK(units.split[2] == 1.0);
      for (std::size_t k = 0; k < 2; ++k) {
        CHECK(units.split[k] * std::sqrt(gamma * units.variance[k]) == doctest::Approx(expected));
      }
    }
  }
}

TEST_CASE("insertion: at amplitude 0 nothing is read from the units, and the move is none") {
  MapJoint joint = joint_named("conv3 - conv3");
  Place place(joint);
  const auto x = ms::from_host<double>(place.ctx, joint.unit_shape(3),
                                       support::normal_values<double>(joint.unit_shape(3).size(), 1));
  const Values before = ms::to_host(place.ctx, place.net.forward(place.ctx, x, {}).output);
  ms::grow::apply<double>(
      place.ctx, ms::grow::make_edit(place.ctx, place.site, on_device(place.ctx, random_insertion(joint, 2)), 0.0),
      place.net);
  support::check_close(ms::to_host(place.ctx, place.net.forward(place.ctx, x, {}).output), before, 1e-13);
}

TEST_CASE("insertion: amplitudes below 0 and numbers that are not finite are told") {
  MapJoint joint = joint_named("conv3 - conv3");
  joint.norm = true;
  Place place(joint);
  const auto refused = [&](auto&& change, double gamma = 0.1) {
    HostInsertion insertion = random_insertion(place.joint, 2);
    change(insertion);
    return message_of<ms::ArgumentError>(
        [&] { (void)ms::grow::make_edit(place.ctx, place.site, on_device(place.ctx, insertion), gamma); });
  };
  const auto nothing = [](HostInsertion&) {};
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  CHECK(refused(nothing, -1e-9) == "site a: the amplitude is -1e-09; it must be 0 or more, and finite");
  CHECK(contains(refused(nothing, nan), "the amplitude is nan"));
  CHECK(contains(refused(nothing, infinity), "the amplitude is inf"));
  CHECK(refused([](HostInsertion& i) { i.fan_in[3] = nan; }) ==
        "site a: fan_in[3] of the new units is nan; it must be finite");
  CHECK(contains(refused([](HostInsertion& i) { i.fan_out[0] = infinity; }), "fan_out[0] of the new units is inf"));
  CHECK(contains(refused([](HostInsertion& i) { i.move[1] = -infinity; }), "move[1] of the new units is -inf"));
  CHECK(contains(refused([](HostInsertion& i) { i.mean[1] = nan; }), "mean[1] of the new units is nan"));
  CHECK(refused([](HostInsertion& i) { i.variance[0] = -0.5; }) ==
        "site a: variance[0] of the new units is -0.5; it must be finite and 0 or more");
  const auto with_norm = [](HostInsertion& i) {
    i.norm_weight = {1.0, nan};
    i.norm_shift = {0.0, 0.0};
  };
  CHECK(contains(refused(with_norm), "norm_weight[1] of the new units is nan"));
  for (const double bad : {0.0, -1.0, nan, infinity}) {
    CHECK(contains(refused([&](HostInsertion& i) { i.split = {1.0, bad}; }), "split[1] of the new units is "));
  }
}

TEST_CASE("insertion: what does not fit the site is told by name and sizes") {
  Place conv(joint_named("conv3 - conv3")), flat(joint_named("conv3 - flatten - linear"));
  const auto refused = [](Place& place, auto&& change) {
    HostInsertion insertion = random_insertion(place.joint, 2);
    change(insertion);
    return message_of<ms::ShapeError>(
        [&] { (void)ms::grow::make_edit(place.ctx, place.site, on_device(place.ctx, insertion), 0.1); });
  };
  CHECK(
      refused(conv, [](HostInsertion& i) { i.inputs = 18; }) ==
      "site a: units with fan-in 18 and fan-out 4 at 9 taps do not fit a site with fan-in 19 and fan-out 4 at 9 taps");
  CHECK(contains(refused(conv, [](HostInsertion& i) { i.outputs = 5; }), "fan-out 5 at 9 taps do not fit"));
  CHECK(contains(refused(conv, [](HostInsertion& i) { i.taps = 4; }), "fan-out 4 at 4 taps do not fit"));
  CHECK(refused(flat, [](HostInsertion& i) { i.taps = 1; }) ==
        "site a: units with fan-in 19 and fan-out 3 do not fit a site with fan-in 19 and fan-out 3 at 12 taps");
  CHECK(refused(conv, [](HostInsertion& i) { i.consumer_inputs = 27; }) ==
        "site a: a move of 27 weights per output does not fit b (Conv2d), which has 19");
  CHECK(refused(conv, [](HostInsertion& i) { i.fan_out.pop_back(); }) ==
        "site a: 2 units have 38 numbers in fan_in and 71 in fan_out");
  CHECK(refused(conv, [](HostInsertion& i) { i.move.pop_back(); }) ==
        "site a: the new units have 75 numbers in move; it needs 76");
  MapJoint normed = conv.joint;
  normed.norm = true;
  Place with_norm(normed);
  CHECK(refused(with_norm, [](HostInsertion& i) { i.variance.clear(); }) ==
        "site a: the new units have 0 variances; it needs 2");
}

TEST_CASE("insertion: units follow a producer that got more inputs") {
  // Two convolutions and a Flatten: growing the first gives the producer of the second more inputs.
  for (const bool flatten : {false, true}) {
    for (const bool bias : {false, true}) {
      CAPTURE(flatten);
      CAPTURE(bias);
      ms::Context ctx({.seed = 2});
      ms::nn::Sequential<double> net;
      const ms::nn::Conv2dOptions options{.kernel = 3, .padding = 1, .bias = bias};
      net.add<ms::nn::Conv2d<double>>("a", ctx, 2, 3, options);
      net.add<ms::nn::ActivationLayer<double>>("f", ms::nn::Activation::relu);
      if (flatten) net.add<ms::nn::Flatten<double>>("flatten");
      if (flatten) {
        net.add<ms::nn::Linear<double>>("b", ctx, 3 * 20, 4, ms::nn::LinearOptions{.bias = bias});
        net.add<ms::nn::Linear<double>>("c", ctx, 4, 2, ms::nn::LinearOptions{.bias = bias});
      } else {
        net.add<ms::nn::Conv2d<double>>("b", ctx, 3, 4, options);
        net.add<ms::nn::Conv2d<double>>("c", ctx, 4, 2, options);
      }
      const auto sites = ms::grow::find_sites<double>(net);
      REQUIRE(sites.size() == 2);
      const auto units_for = [&](const ms::grow::Site<double>& site, std::int64_t units, std::int64_t taps) {
        HostInsertion result;
        result.units = units;
        result.inputs = site.fan_in();
        result.outputs = site.fan_out();
        result.taps = taps;
        result.fan_in = support::normal_values<double>(units * result.inputs, 5);
        result.fan_out = support::normal_values<double>(units * taps * result.outputs, 6);
        return result;
      };
      // Units of the first site that feed nothing: the second site's units must do what they did without them.
      HostInsertion first = units_for(sites[0], 2, flatten ? 20 : 9), second = units_for(sites[1], 3, flatten ? 1 : 9);
      for (double& value : first.fan_out) value = 0.0;
      const auto x = ms::from_host<double>(ctx, {3, 4, 5, 2}, support::normal_values<double>(120, 1));
      const auto outputs = [&] { return ms::to_host(ctx, net.forward(ctx, x, {}).output); };
      Values alone;
      {
        ms::grow::detail::StagedEdit<double> staged(
            ctx, ms::grow::make_edit(ctx, sites[1], on_device(ctx, second), 1.0), net);
        staged.swap();
        alone = outputs();
        staged.swap();
      }
      const auto map = ms::grow::detail::reader_map<double>(sites[0], sites[0].width(), first.taps, first.units);
      ms::grow::apply<double>(ctx, ms::grow::make_edit(ctx, sites[0], on_device(ctx, first), 1.0), net);
      CHECK_THROWS_AS((void)ms::grow::make_edit(ctx, sites[1], on_device(ctx, second), 1.0), ms::ShapeError);
      ms::grow::Insertion followed = on_device(ctx, second);
      ms::grow::follow_inputs(ctx, sites[1], map, followed);
      CHECK(followed.inputs == sites[1].fan_in());
      ms::grow::apply<double>(ctx, ms::grow::make_edit(ctx, sites[1], followed, 1.0), net);
      // Sums of up to 100 products of order 1.
      support::check_close(outputs(), alone, 1e-12 * support::scale_of(alone));
    }
  }
}

TEST_CASE("insertion: gradients, moments and running statistics follow, and swapping back restores every bit") {
  MapJoint joint = joint_named("conv3 - overlapping max pool with padding - conv3");
  joint.norm = true;
  joint.activation = ms::nn::Activation::relu;
  for (const bool adam : {false, true}) {
    CAPTURE(adam);
    ms::Context ctx({.seed = 9});
    ms::nn::Sequential<float> net;
    joint.build(ctx, net);
    net.add<ms::nn::GlobalAveragePool<float>>("mean");
    const auto site = ms::grow::find_sites<float>(net).front();
    ms::optim::Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9});
    ms::optim::AdamW<float> adamw(net, {.learning_rate = 0.01});
    ms::optim::Optimizer<float>& optimizer = adam ? static_cast<ms::optim::Optimizer<float>&>(adamw) : sgd;
    const auto x =
        ms::from_host<float>(ctx, joint.unit_shape(6), support::normal_values<float>(joint.unit_shape(6).size(), 1));
    const auto labels = ms::from_host<std::int32_t>(ctx, {6}, std::vector<std::int32_t>{0, 1, 2, 2, 1, 0});
    const auto train = [&](int steps) {
      for (int step = 0; step < steps; ++step) {
        auto trace = net.forward(ctx, x, {});
        auto value = ms::nn::CrossEntropy{}(ctx, trace.output, labels.view());
        (void)net.backward(ctx, x, trace, std::move(value.gradient), {});
        optimizer.step(ctx);
      }
    };
    train(3);
    const auto before = everything<float>(ctx, net, &optimizer);
    const auto edit = ms::grow::make_edit(ctx, site, on_device(ctx, random_insertion(joint, 2)), 0.1);
    {
      ms::grow::detail::StagedEdit<float> staged(ctx, edit, net, &optimizer);
      staged.swap();
      CHECK(everything<float>(ctx, net, &optimizer) != before);
      staged.swap();
    }
    CHECK(everything<float>(ctx, net, &optimizer) == before);

    const auto moments_of = [&](ms::nn::Parameter<float>& parameter) {
      Values all;
      for (const auto& moment : optimizer.state(parameter.id)) {
        CHECK(moment.shape() == parameter.value.shape());
        for (const float value : ms::to_host(ctx, moment)) all.push_back(value);
      }
      return all;
    };
    const Values producer = moments_of(site.producer.weight()), norm = moments_of(site.producer.norm()->weight());
    const Values consumer = moments_of(site.consumer.weight());
    ms::grow::apply<float>(ctx, edit, net, &optimizer);
    for (auto* parameter : ms::nn::parameters(net)) {
      CAPTURE(parameter->name);
      CHECK(parameter->gradient.shape() == parameter->value.shape());
      CHECK(moments_of(*parameter).size() ==
            static_cast<std::size_t>(parameter->value.size()) * optimizer.state(parameter->id).size());
    }
    // Old slices keep their moments, added ones start at zero: 2 units behind 2.
    const auto mapped = [&](const Values& old, std::int64_t outer, std::int64_t each) {
      Values result;
      for (std::size_t moment = 0; moment < optimizer.state(site.producer.weight().id).size(); ++moment) {
        for (std::int64_t o = 0; o < outer; ++o) {
          const auto begin = static_cast<std::int64_t>(moment) * outer * 2 * each + o * 2 * each;
          for (std::int64_t i = 0; i < 2 * each; ++i) result.push_back(old[static_cast<std::size_t>(begin + i)]);
          result.insert(result.end(), static_cast<std::size_t>(2 * each), 0.0);
        }
      }
      return result;
    };
    CHECK(moments_of(site.producer.weight()) == mapped(producer, 1, 18));
    CHECK(moments_of(site.producer.norm()->weight()) == mapped(norm, 1, 1));
    CHECK(moments_of(site.consumer.weight()) == mapped(consumer, 3 * 9, 1));
    CHECK(support::largest(support::Dense(1, static_cast<std::int64_t>(norm.size()), norm)) > 0.0);
    CHECK(site.producer.norm()->running_mean().value.shape() == ms::Shape{4});
    CHECK_NOTHROW(train(2));
  }
}

TEST_SUITE_END();

}  // namespace grow_insertion_test
