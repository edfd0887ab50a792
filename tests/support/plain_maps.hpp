// A place of growth with maps: how to build it, and its growth statistics by their definitions in plain double loops
// that share no code with the library.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/window.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/sequential.hpp>
#include <support/check.hpp>
#include <support/dense.hpp>

namespace support {

enum class Pooling { none, maximum, average, global };

/// Two layers and what stands between them.
struct MapJoint {
  std::string name = {};
  ms::Extent2 map = 1;  ///< of the producer's input
  std::int64_t in = 1, width = 1, out = 1;
  ms::Window first = {}, second = {};
  Pooling pooling = Pooling::none;
  ms::Window pool = {};
  bool flatten = false;
  bool linear_producer = false, linear_consumer = false;
  bool producer_bias = true, consumer_bias = true;
  bool norm = false;
  bool pool_first = false;  ///< before the activation
  ms::nn::Activation activation = ms::nn::Activation::identity;

  [[nodiscard]] static ms::Extent2 slide(const ms::Window& w, ms::Extent2 map) {
    return {(map.y + 2 * w.padding.y - w.dilation.y * (w.kernel.y - 1) - 1) / w.stride.y + 1,
            (map.x + 2 * w.padding.x - w.dilation.x * (w.kernel.x - 1) - 1) / w.stride.x + 1};
  }
  [[nodiscard]] ms::Extent2 hidden() const { return slide(first, map); }
  [[nodiscard]] ms::Window pooled_by() const {
    if (pooling == Pooling::none) return {};
    return pooling == Pooling::global ? ms::Window{.kernel = hidden(), .stride = hidden()} : pool;
  }
  [[nodiscard]] ms::Extent2 pooled() const { return slide(pooled_by(), hidden()); }
  /// The consumer as a convolution over the pooled map.
  [[nodiscard]] ms::Window consumer() const { return flatten ? ms::Window{.kernel = pooled()} : second; }
  [[nodiscard]] ms::Extent2 outputs() const { return slide(consumer(), pooled()); }
  [[nodiscard]] std::int64_t p() const { return first.kernel.size() * in + (producer_bias ? 1 : 0); }
  [[nodiscard]] std::int64_t d() const { return consumer().kernel.size() * width + (consumer_bias ? 1 : 0); }

  [[nodiscard]] ms::Shape unit_shape(std::int64_t n) const { return {n, map.y, map.x, in}; }
  [[nodiscard]] ms::Shape consumer_shape(std::int64_t n) const {
    if (pooling == Pooling::global || flatten) return {n, pooled().size() * width};
    return {n, pooled().y, pooled().x, width};
  }
  [[nodiscard]] ms::Shape goal_shape(std::int64_t n) const {
    if (pooling == Pooling::global || flatten) return {n, out};
    return {n, outputs().y, outputs().x, out};
  }

  template <class T>
  void build(ms::Context& ctx, ms::nn::Sequential<T>& net) const {
    const auto options = [](const ms::Window& w, bool bias) {
      return ms::nn::Conv2dOptions{
          .kernel = w.kernel, .stride = w.stride, .padding = w.padding, .dilation = w.dilation, .bias = bias};
    };
    if (linear_producer) {
      net.template add<ms::nn::Linear<T>>("a", ctx, in, width, ms::nn::LinearOptions{.bias = producer_bias});
    } else {
      net.template add<ms::nn::Conv2d<T>>("a", ctx, in, width, options(first, producer_bias));
    }
    if (norm) net.template add<ms::nn::BatchNorm<T>>("norm", ctx, width);
    const auto add_pool = [&] {
      const ms::nn::PoolOptions window{
          .kernel = pool.kernel, .stride = pool.stride, .padding = pool.padding, .dilation = pool.dilation};
      if (pooling == Pooling::maximum) net.template add<ms::nn::MaxPool2d<T>>("pool", window);
      if (pooling == Pooling::average) net.template add<ms::nn::AveragePool2d<T>>("pool", window);
      if (pooling == Pooling::global) net.template add<ms::nn::GlobalAveragePool<T>>("pool");
    };
    if (pool_first) add_pool();
    net.template add<ms::nn::ActivationLayer<T>>("f", activation);
    if (!pool_first) add_pool();
    if (flatten) net.template add<ms::nn::Flatten<T>>("flatten");
    if (linear_consumer) {
      const std::int64_t features = flatten ? pooled().size() * width : width;
      net.template add<ms::nn::Linear<T>>("b", ctx, features, out, ms::nn::LinearOptions{.bias = consumer_bias});
    } else {
      net.template add<ms::nn::Conv2d<T>>("b", ctx, width, out, options(second, consumer_bias));
    }
  }
};

/// Every way of joining two layers of which one at least has maps.
inline std::vector<MapJoint> map_joints() {
  const ms::Window three{.kernel = 3, .padding = 1}, halves{.kernel = 2, .stride = 2};
  return {
      {.name = "conv3 - conv3", .map = {6, 5}, .in = 2, .width = 2, .out = 4, .first = three, .second = three},
      {.name = "conv3 stride 2 - conv3 stride 2 without padding",
       .map = {9, 11},
       .in = 2,
       .width = 2,
       .out = 3,
       .first = {.kernel = 3, .stride = 2, .padding = 1},
       .second = {.kernel = 3, .stride = 2}},
      {.name = "conv5 stride (1, 2) - conv(2x3) stride (2, 1)",
       .map = {7, 8},
       .in = 1,
       .width = 3,
       .out = 2,
       .first = {.kernel = 5, .stride = {1, 2}, .padding = {2, 3}},
       .second = {.kernel = {2, 3}, .stride = {2, 1}, .padding = {1, 2}}},
      {.name = "conv3 dilated - conv3 dilated",
       .map = {8, 7},
       .in = 1,
       .width = 2,
       .out = 2,
       .first = {.kernel = 3, .padding = 2, .dilation = 2},
       .second = {.kernel = 3, .padding = 1, .dilation = {1, 2}}},
      {.name = "conv3 - conv1 stride 2",
       .map = {6, 5},
       .in = 2,
       .width = 2,
       .out = 3,
       .first = three,
       .second = {.stride = 2}},
      {.name = "conv1 - conv1", .map = {3, 4}, .in = 3, .width = 2, .out = 3},
      {.name = "linear - conv3",
       .map = {4, 5},
       .in = 3,
       .width = 2,
       .out = 3,
       .second = three,
       .linear_producer = true},
      {.name = "conv3 - linear at every position",
       .map = {4, 5},
       .in = 2,
       .width = 2,
       .out = 3,
       .first = three,
       .linear_consumer = true},
      {.name = "conv3 - average pool - conv3",
       .map = {8, 6},
       .in = 2,
       .width = 2,
       .out = 3,
       .first = three,
       .second = three,
       .pooling = Pooling::average,
       .pool = halves},
      {.name = "conv3 - overlapping max pool with padding - conv3",
       .map = {7, 6},
       .in = 2,
       .width = 2,
       .out = 3,
       .first = three,
       .second = three,
       .pooling = Pooling::maximum,
       .pool = {.kernel = 3, .stride = 2, .padding = 1}},
      {.name = "conv3 stride 2 - average pool (2x3) with padding - conv(1x2)",
       .map = {9, 12},
       .in = 1,
       .width = 2,
       .out = 3,
       .first = {.kernel = 3, .stride = 2, .padding = 1},
       .second = {.kernel = {1, 2}},
       .pooling = Pooling::average,
       .pool = {.kernel = {2, 3}, .stride = {1, 2}, .padding = {0, 1}}},
      {.name = "conv3 - max pool - flatten - linear",
       .map = {6, 4},
       .in = 2,
       .width = 2,
       .out = 3,
       .first = three,
       .pooling = Pooling::maximum,
       .pool = halves,
       .flatten = true,
       .linear_consumer = true},
      {.name = "conv3 - flatten - linear",
       .map = {4, 3},
       .in = 2,
       .width = 1,
       .out = 3,
       .first = three,
       .flatten = true,
       .linear_consumer = true},
      {.name = "conv3 - global average - linear",
       .map = {6, 5},
       .in = 2,
       .width = 3,
       .out = 4,
       .first = three,
       .pooling = Pooling::global,
       .linear_consumer = true},
  };
}

/// The sums of growth over samples: patches of the producer's input, the consumer's input and the desired update, all
/// (n, rows, columns, channels). Coordinates of patches: [ky][kx][channel], the bias last.
class PlainMaps {
 public:
  PlainMaps(MapJoint joint, std::int64_t n, std::vector<double> unit_input, std::vector<double> consumer_input,
            std::vector<double> goal)
      : joint_(std::move(joint)),
        n_(n),
        x_(std::move(unit_input)),
        z_(std::move(consumer_input)),
        v_(std::move(goal)) {}

  [[nodiscard]] const MapJoint& joint() const { return joint_; }

  /// The patch of the producer at a hidden position.
  [[nodiscard]] std::vector<double> patch(std::int64_t i, std::int64_t hy, std::int64_t hx) const {
    return cut(x_, joint_.first, joint_.map, joint_.in, joint_.producer_bias, i, hy, hx);
  }

  /// Calls use(hy, hx) for the hidden positions in the window of a pooled one; the same position without pooling.
  void for_each_pooled(std::int64_t u, std::int64_t v,
                       const std::function<void(std::int64_t, std::int64_t)>& use) const {
    const ms::Window w = joint_.pooled_by();
    const ms::Extent2 hidden = joint_.hidden();
    for (std::int64_t a = 0; a < w.kernel.y; ++a) {
      for (std::int64_t b = 0; b < w.kernel.x; ++b) {
        const std::int64_t hy = u * w.stride.y - w.padding.y + a * w.dilation.y;
        const std::int64_t hx = v * w.stride.x - w.padding.x + b * w.dilation.x;
        if (hy >= 0 && hx >= 0 && hy < hidden.y && hx < hidden.x) use(hy, hx);
      }
    }
  }

  /// The mean of the patches in the window of a pooled position.
  [[nodiscard]] std::vector<double> pooled_patch(std::int64_t i, std::int64_t u, std::int64_t v) const {
    std::vector<double> mean(static_cast<std::size_t>(joint_.p()), 0.0);
    double count = 0.0;
    for_each_pooled(u, v, [&](std::int64_t hy, std::int64_t hx) {
      const std::vector<double> one = patch(i, hy, hx);
      for (std::size_t j = 0; j < mean.size(); ++j) mean[j] += one[j];
      count += 1.0;
    });
    for (double& value : mean) value /= count;
    return mean;
  }

  /// What the consumer reads at one of its outputs.
  [[nodiscard]] std::vector<double> consumer_patch(std::int64_t i, std::int64_t oy, std::int64_t ox) const {
    return cut(z_, joint_.consumer(), joint_.pooled(), joint_.width, joint_.consumer_bias, i, oy, ox);
  }

  [[nodiscard]] double goal(std::int64_t i, std::int64_t oy, std::int64_t ox, std::int64_t m) const {
    const ms::Extent2 outputs = joint_.outputs();
    return v_[static_cast<std::size_t>(((i * outputs.y + oy) * outputs.x + ox) * joint_.out + m)];
  }

  /// Calls use(i, oy, ox) for every output of the consumer.
  void for_each_output(const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& use) const {
    const ms::Extent2 outputs = joint_.outputs();
    for (std::int64_t i = 0; i < n_; ++i) {
      for (std::int64_t oy = 0; oy < outputs.y; ++oy) {
        for (std::int64_t ox = 0; ox < outputs.x; ++ox) use(i, oy, ox);
      }
    }
  }

  /// Calls use(tap, u, v) for the taps, counted from 0, by which an output reads a unit, and the positions that they
  /// read, unless those lie in the padding.
  void for_each_tap(bool centre, std::int64_t oy, std::int64_t ox,
                    const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& use) const {
    const ms::Window w = joint_.consumer();
    const ms::Extent2 pooled = joint_.pooled();
    for (std::int64_t ky = 0; ky < w.kernel.y; ++ky) {
      for (std::int64_t kx = 0; kx < w.kernel.x; ++kx) {
        if (centre && (ky != w.kernel.y / 2 || kx != w.kernel.x / 2)) continue;
        const std::int64_t u = oy * w.stride.y - w.padding.y + ky * w.dilation.y;
        const std::int64_t v = ox * w.stride.x - w.padding.x + kx * w.dilation.x;
        if (u < 0 || v < 0 || u >= pooled.y || v >= pooled.x) continue;
        use(centre ? 0 : ky * w.kernel.x + kx, u, v);
      }
    }
  }

  [[nodiscard]] Dense s(bool centre) const {
    Dense sum(joint_.p(), joint_.p());
    for_each_output([&](std::int64_t i, std::int64_t oy, std::int64_t ox) {
      for_each_tap(centre, oy, ox, [&](std::int64_t, std::int64_t u, std::int64_t v) {
        const std::vector<double> b = pooled_patch(i, u, v);
        add_product(sum, b, b);
      });
    });
    return over_n(sum);
  }

  [[nodiscard]] Dense s1() const {
    Dense sum(joint_.d(), joint_.d());
    for_each_output([&](std::int64_t i, std::int64_t oy, std::int64_t ox) {
      const std::vector<double> b = consumer_patch(i, oy, ox);
      add_product(sum, b, b);
    });
    return over_n(sum);
  }

  [[nodiscard]] Dense m1() const {
    Dense sum(joint_.d(), joint_.out);
    for_each_output([&](std::int64_t i, std::int64_t oy, std::int64_t ox) {
      std::vector<double> v;
      for (std::int64_t m = 0; m < joint_.out; ++m) v.push_back(goal(i, oy, ox, m));
      add_product(sum, consumer_patch(i, oy, ox), v);
    });
    return over_n(sum);
  }

  /// V_goal - δW B1, in the layout of the desired update.
  [[nodiscard]] std::vector<double> residual(const Dense& move) const {
    std::vector<double> result;
    for_each_output([&](std::int64_t i, std::int64_t oy, std::int64_t ox) {
      const std::vector<double> b = consumer_patch(i, oy, ox);
      for (std::int64_t m = 0; m < joint_.out; ++m) {
        double value = goal(i, oy, ox, m);
        for (std::size_t j = 0; j < b.size(); ++j) value -= move(m, static_cast<std::int64_t>(j)) * b[j];
        result.push_back(value);
      }
    });
    return result;
  }

  /// N (p, taps · out), columns [tap][out], for a residual in the layout of the desired update; each sample with the
  /// factor that is given for it.
  [[nodiscard]] Dense cross(bool centre, const std::vector<double>& residual,
                            const std::vector<double>& factors = {}) const {
    const std::int64_t q = joint_.out, taps = centre ? 1 : joint_.consumer().kernel.size();
    Dense sum(joint_.p(), taps * q);
    std::size_t at = 0;
    for_each_output([&](std::int64_t i, std::int64_t oy, std::int64_t ox) {
      const double factor = factors.empty() ? 1.0 : factors[static_cast<std::size_t>(i)];
      for_each_tap(centre, oy, ox, [&](std::int64_t tap, std::int64_t u, std::int64_t v) {
        const std::vector<double> b = pooled_patch(i, u, v);
        for (std::size_t j = 0; j < b.size(); ++j) {
          for (std::int64_t m = 0; m < q; ++m) {
            sum(static_cast<std::int64_t>(j), tap * q + m) +=
                factor * b[j] * residual[at + static_cast<std::size_t>(m)];
          }
        }
      });
      at += static_cast<std::size_t>(q);
    });
    return over_n(sum);
  }

  /// (1/n) of the sum of squares.
  [[nodiscard]] double norm2(const std::vector<double>& values) const {
    double sum = 0.0;
    for (const double value : values) sum += value * value;
    return sum / static_cast<double>(n_);
  }
  [[nodiscard]] double goal_norm2() const { return norm2(v_); }
  [[nodiscard]] std::int64_t samples() const { return n_; }

 private:
  static std::vector<double> cut(const std::vector<double>& maps, const ms::Window& w, ms::Extent2 map,
                                 std::int64_t channels, bool bias, std::int64_t i, std::int64_t oy, std::int64_t ox) {
    std::vector<double> result;
    for (std::int64_t ky = 0; ky < w.kernel.y; ++ky) {
      for (std::int64_t kx = 0; kx < w.kernel.x; ++kx) {
        const std::int64_t y = oy * w.stride.y - w.padding.y + ky * w.dilation.y;
        const std::int64_t x = ox * w.stride.x - w.padding.x + kx * w.dilation.x;
        const bool inside = y >= 0 && x >= 0 && y < map.y && x < map.x;
        for (std::int64_t c = 0; c < channels; ++c) {
          result.push_back(inside ? maps[static_cast<std::size_t>(((i * map.y + y) * map.x + x) * channels + c)] : 0.0);
        }
      }
    }
    if (bias) result.push_back(1.0);
    return result;
  }

  static void add_product(Dense& sum, const std::vector<double>& a, const std::vector<double>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      for (std::size_t j = 0; j < b.size(); ++j) {
        sum(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j)) += a[i] * b[j];
      }
    }
  }

  [[nodiscard]] Dense over_n(const Dense& sum) const { return (1.0 / static_cast<double>(n_)) * sum; }

  MapJoint joint_;
  std::int64_t n_;
  std::vector<double> x_, z_, v_;
};

/// The solution of a x = b, by elimination with pivots.
inline Dense solved(Dense a, Dense b) {
  const std::int64_t n = a.rows;
  for (std::int64_t k = 0; k < n; ++k) {
    std::int64_t pivot = k;
    for (std::int64_t i = k; i < n; ++i) {
      if (std::abs(a(i, k)) > std::abs(a(pivot, k))) pivot = i;
    }
    for (std::int64_t j = 0; j < n; ++j) std::swap(a(k, j), a(pivot, j));
    for (std::int64_t j = 0; j < b.columns; ++j) std::swap(b(k, j), b(pivot, j));
    for (std::int64_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const double factor = a(i, k) / a(k, k);
      for (std::int64_t j = k; j < n; ++j) a(i, j) -= factor * a(k, j);
      for (std::int64_t j = 0; j < b.columns; ++j) b(i, j) -= factor * b(k, j);
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < b.columns; ++j) b(i, j) /= a(i, i);
  }
  return b;
}

}  // namespace support
