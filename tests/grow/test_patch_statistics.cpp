#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/accumulator.hpp>
#include <meristem/grow/patch_statistics.hpp>
#include <support/check.hpp>
#include <support/npy.hpp>

namespace ms = meristem;
using ms::Extent2;
using ms::Window;
using ms::grow::FanOut;
using ms::grow::PatchCovariance;
using ms::grow::PatchCrossCovariance;
using ms::grow::PatchPath;
using support::contains;
using support::message_of;

namespace {

/// Maps (n, y, x, channels) of numbers.
template <class T>
struct Maps {
  std::int64_t n;
  Extent2 extent;
  std::int64_t channels;
  std::vector<T> values;

  Maps(std::int64_t n_, Extent2 extent_, std::int64_t channels_, std::uint64_t seed)
      : n(n_),
        extent(extent_),
        channels(channels_),
        values(support::normal_values<T>(n_ * extent_.size() * channels_, seed)) {}

  [[nodiscard]] double operator()(std::int64_t i, std::int64_t y, std::int64_t x, std::int64_t c) const {
    if (y < 0 || x < 0 || y >= extent.y || x >= extent.x) return 0.0;
    return static_cast<double>(values[static_cast<std::size_t>(((i * extent.y + y) * extent.x + x) * channels + c)]);
  }
  [[nodiscard]] ms::Tensor<T> tensor(ms::Context& ctx, std::int64_t begin, std::int64_t end) const {
    const std::int64_t each = extent.size() * channels;
    return ms::from_host<T>(ctx, {end - begin, extent.y, extent.x, channels},
                            std::vector<T>(values.begin() + begin * each, values.begin() + end * each));
  }
  [[nodiscard]] ms::Tensor<T> tensor(ms::Context& ctx) const { return tensor(ctx, 0, n); }
};

/// [patch 1] of sample i at position (y, x) of the window.
template <class T>
std::vector<double> patch_at(const Maps<T>& maps, const Window& w, bool bias, std::int64_t i, std::int64_t y,
                             std::int64_t x) {
  std::vector<double> result;
  for (std::int64_t a = 0; a < w.kernel.y; ++a) {
    for (std::int64_t b = 0; b < w.kernel.x; ++b) {
      for (std::int64_t c = 0; c < maps.channels; ++c) {
        result.push_back(maps(i, y * w.stride.y - w.padding.y + a * w.dilation.y,
                              x * w.stride.x - w.padding.x + b * w.dilation.x, c));
      }
    }
  }
  if (bias) result.push_back(1.0);
  return result;
}

/// What the statistics must be, and the largest sum of magnitudes: the scale of their rounding errors.
struct Plain {
  std::vector<double> mean;
  double scale = 0.0;
};

struct Sums {
  std::vector<double> values, magnitudes;
  explicit Sums(std::int64_t size)
      : values(static_cast<std::size_t>(size), 0.0), magnitudes(static_cast<std::size_t>(size), 0.0) {}
  void add(std::int64_t at, double term) {
    values[static_cast<std::size_t>(at)] += term;
    magnitudes[static_cast<std::size_t>(at)] += std::abs(term);
  }
  [[nodiscard]] Plain mean(std::int64_t n) const {
    Plain result;
    for (const double value : values) result.mean.push_back(value / static_cast<double>(n));
    result.scale = support::scale_of(magnitudes) / static_cast<double>(n);
    return result;
  }
};

/// Pairs (output, tap) of a consumer: calls visit(j_y, j_x, tap, y, x) for those that read position (y, x) of a map.
template <class Visit>
void for_each_read(const Window& consumer, Extent2 map, FanOut fan_out, Visit&& visit) {
  const Extent2 outputs = consumer.output(map);
  for (std::int64_t jy = 0; jy < outputs.y; ++jy) {
    for (std::int64_t jx = 0; jx < outputs.x; ++jx) {
      for (std::int64_t a = 0; a < consumer.kernel.y; ++a) {
        for (std::int64_t b = 0; b < consumer.kernel.x; ++b) {
          if (fan_out == FanOut::centre && (a != consumer.kernel.y / 2 || b != consumer.kernel.x / 2)) continue;
          const std::int64_t y = jy * consumer.stride.y - consumer.padding.y + a * consumer.dilation.y;
          const std::int64_t x = jx * consumer.stride.x - consumer.padding.x + b * consumer.dilation.x;
          if (y < 0 || x < 0 || y >= map.y || x >= map.x) continue;
          visit(jy, jx, fan_out == FanOut::centre ? 0 : a * consumer.kernel.x + b, y, x);
        }
      }
    }
  }
}

/// S over the positions that `visit_positions(use)` shows, as often as it shows them.
template <class T, class Positions>
Plain plain_covariance(const Maps<T>& maps, const Window& w, bool bias, Positions&& positions) {
  const std::int64_t p = w.kernel.size() * maps.channels + bias;
  Sums sums(p * p);
  for (std::int64_t i = 0; i < maps.n; ++i) {
    positions([&](std::int64_t y, std::int64_t x) {
      const std::vector<double> patch = patch_at(maps, w, bias, i, y, x);
      for (std::int64_t r = 0; r < p; ++r) {
        for (std::int64_t c = 0; c < p; ++c) {
          sums.add(r * p + c, patch[static_cast<std::size_t>(r)] * patch[static_cast<std::size_t>(c)]);
        }
      }
    });
  }
  return sums.mean(maps.n);
}

template <class T>
Plain plain_cross(const Maps<T>& maps, const Window& w, bool bias, const Maps<T>& v, const Window& consumer,
                  FanOut fan_out) {
  const std::int64_t p = w.kernel.size() * maps.channels + bias;
  const std::int64_t columns = (fan_out == FanOut::full ? consumer.kernel.size() : 1) * v.channels;
  Sums sums(p * columns);
  for (std::int64_t i = 0; i < maps.n; ++i) {
    for_each_read(consumer, w.output(maps.extent), fan_out,
                  [&](std::int64_t jy, std::int64_t jx, std::int64_t tap, std::int64_t y, std::int64_t x) {
                    const std::vector<double> patch = patch_at(maps, w, bias, i, y, x);
                    for (std::int64_t r = 0; r < p; ++r) {
                      for (std::int64_t m = 0; m < v.channels; ++m) {
                        sums.add(r * columns + tap * v.channels + m,
                                 patch[static_cast<std::size_t>(r)] * v(i, jy, jx, m));
                      }
                    }
                  });
  }
  return sums.mean(maps.n);
}

/// A sum of `terms` products in T, in any order, with a few operations more on each, is off by at most so much.
template <class T>
double tolerance(std::int64_t terms, double scale) {
  if (sizeof(T) == 8) return 1e-12 * scale;
  return static_cast<double>(terms + 8) * support::eps<float> * scale;
}

bool slides_by_one(const Window& w) { return w.stride == Extent2(1) && w.dilation == Extent2(1); }

std::vector<PatchPath> paths_for(const Window& w, const Window& consumer = {}) {
  std::vector<PatchPath> paths{PatchPath::automatic, PatchPath::patches};
  if (slides_by_one(w) && slides_by_one(consumer)) paths.push_back(PatchPath::offsets);
  return paths;
}

/// Windows to slide over a map, of all that fit it.
std::vector<Window> windows_for(Extent2 map) {
  std::vector<Window> result;
  const auto add = [&](const Window& w) {
    const Extent2 reach = w.reach();
    if (map.y + 2 * w.padding.y >= reach.y && map.x + 2 * w.padding.x >= reach.x) result.push_back(w);
  };
  for (std::int64_t k = 1; k <= 5; ++k) {
    for (std::int64_t padding = 0; padding <= 3; ++padding) add({.kernel = k, .padding = padding});
    add({.kernel = k, .stride = 2, .padding = k / 2});
    add({.kernel = k, .padding = k / 2, .dilation = 2});
  }
  add({.kernel = {3, 2}, .padding = {0, 1}});
  add({.kernel = {2, 5}, .padding = {1, 3}});
  add({.kernel = {1, 3}, .stride = {1, 2}, .padding = {2, 0}});
  add({.kernel = {3, 2}, .stride = {2, 1}, .padding = 1, .dilation = {1, 2}});
  add({.kernel = 3, .stride = 2, .dilation = 2});
  add({.kernel = map});
  return result;
}

const std::vector<Extent2> some_maps{{7, 5}, {4, 4}, {2, 3}, {1, 6}, {1, 1}};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("patch covariance: equals im2col over kernels, paddings, strides, dilations and maps", T, double,
                   float) {
  ms::Context ctx;
  for (const Extent2 map : some_maps) {
    const Maps<T> maps(2, map, 2, 11);
    const auto x = maps.tensor(ctx);
    for (const Window& w : windows_for(map)) {
      const Extent2 positions = w.output(map);
      std::vector<double> wy, wx;
      for (std::int64_t i = 0; i < positions.y; ++i) wy.push_back(i % 3 == 1 ? 0.0 : 1.0 + 0.5 * double(i % 4));
      for (std::int64_t i = 0; i < positions.x; ++i) wx.push_back(i % 5 == 2 ? 0.0 : 2.0 - 0.25 * double(i % 3));
      for (const bool bias : {false, true}) {
        const Plain ones = plain_covariance(maps, w, bias, [&](auto&& use) {
          for (std::int64_t y = 0; y < positions.y; ++y) {
            for (std::int64_t x_ = 0; x_ < positions.x; ++x_) use(y, x_);
          }
        });
        // Any weights: the sum over single positions, weighted.
        const std::int64_t p = w.kernel.size() * 2 + bias;
        Sums weighted(p * p);
        for (std::int64_t i = 0; i < maps.n; ++i) {
          for (std::int64_t y = 0; y < positions.y; ++y) {
            for (std::int64_t x_ = 0; x_ < positions.x; ++x_) {
              const auto patch = patch_at(maps, w, bias, i, y, x_);
              const double weight = wy[static_cast<std::size_t>(y)] * wx[static_cast<std::size_t>(x_)];
              for (std::int64_t r = 0; r < p; ++r) {
                for (std::int64_t c = 0; c < p; ++c) {
                  weighted.add(r * p + c,
                               weight * patch[static_cast<std::size_t>(r)] * patch[static_cast<std::size_t>(c)]);
                }
              }
            }
          }
        }
        const Plain expected = weighted.mean(maps.n);
        for (const PatchPath path : paths_for(w)) {
          INFO("map ", map, ", kernel ", w.kernel, ", stride ", w.stride, ", padding ", w.padding, ", dilation ",
               w.dilation, ", bias ", bias, ", path ", static_cast<int>(path));
          PatchCovariance<T> s1(ctx, 2, w, map, bias, {}, {}, path), s(ctx, 2, w, map, bias, wy, wx, path);
          s1.update(ctx, x);
          s.update(ctx, x);
          const std::int64_t terms = 2 * positions.size();
          support::check_close(ms::to_host(ctx, s1.mean(ctx)), ones.mean, tolerance<T>(terms, ones.scale), "ones");
          support::check_close(ms::to_host(ctx, s.mean(ctx)), expected.mean, tolerance<T>(terms, expected.scale),
                               "weighted");
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("patch statistics: S and N of a consumer equal im2col, all taps and the centre alone", T, double,
                   float) {
  ms::Context ctx;
  const std::vector<Window> producers{{.kernel = 1},
                                      {.kernel = 3, .padding = 1},
                                      {.kernel = {2, 3}, .padding = {1, 2}},
                                      {.kernel = 4, .padding = 3},
                                      {.kernel = 5, .padding = 2},
                                      {.kernel = 3, .stride = 2, .padding = 1},
                                      {.kernel = 2, .padding = 1, .dilation = 2}};
  for (const Extent2 map : {Extent2{6, 5}, Extent2{3, 4}, Extent2{2, 2}}) {
    const Maps<T> maps(2, map, 2, 21);
    const auto x = maps.tensor(ctx);
    for (const Window& w : producers) {
      if (map.y + 2 * w.padding.y < w.reach().y || map.x + 2 * w.padding.x < w.reach().x) continue;
      const Extent2 hidden = w.output(map);
      for (const Window& consumer : windows_for(hidden)) {
        const Maps<T> v(2, consumer.output(hidden), 3, 22);
        const auto goal = v.tensor(ctx);
        for (const FanOut fan_out : {FanOut::full, FanOut::centre}) {
          const auto [wy, wx] = ms::grow::position_counts(consumer, hidden, fan_out);
          const Plain s = plain_covariance(maps, w, true, [&](auto&& use) {
            for_each_read(
                consumer, hidden, fan_out,
                [&](std::int64_t, std::int64_t, std::int64_t, std::int64_t y, std::int64_t x_) { use(y, x_); });
          });
          for (const bool bias : {false, true}) {
            const Plain n = plain_cross(maps, w, bias, v, consumer, fan_out);
            for (const PatchPath path : paths_for(w, consumer)) {
              INFO("map ", map, ", kernel ", w.kernel, ", stride ", w.stride, ", padding ", w.padding, ", dilation ",
                   w.dilation, "; consumer kernel ", consumer.kernel, ", stride ", consumer.stride, ", padding ",
                   consumer.padding, ", dilation ", consumer.dilation, "; bias ", bias, ", fan-out ",
                   static_cast<int>(fan_out), ", path ", static_cast<int>(path));
              PatchCrossCovariance<T> cross(ctx, 2, w, map, bias, 3, consumer, fan_out, path);
              cross.update(ctx, x, goal);
              support::check_close(ms::to_host(ctx, cross.mean(ctx)), n.mean,
                                   tolerance<T>(2 * v.extent.size(), n.scale), "N");
              if (!bias) continue;
              const PatchPath own = path == PatchPath::offsets && !slides_by_one(w) ? PatchPath::automatic : path;
              PatchCovariance<T> covariance(ctx, 2, w, map, true, wy, wx, own);
              covariance.update(ctx, x);
              support::check_close(ms::to_host(ctx, covariance.mean(ctx)), s.mean,
                                   tolerance<T>(2 * consumer.kernel.size() * v.extent.size(), s.scale), "S");
            }
          }
        }
      }
    }
  }
}

TEST_SUITE_END();
