#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/statistics/accumulator.hpp>
#include <meristem/grow/statistics/patch_statistics.hpp>
#include <support/check.hpp>

namespace grow_patch_statistics_test {

namespace ms = meristem;
using ms::Extent2;
using ms::Window;
using ms::grow::FanOut;
using ms::grow::PatchCovariance;
using ms::grow::PatchCrossCovariance;
using ms::grow::detail::PatchPath;
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

TEST_CASE("patch statistics: counts of positions") {
  const auto [rows, columns] = ms::grow::position_counts({.kernel = 3, .padding = 1}, {4, 5}, FanOut::full);
  CHECK(rows == std::vector<double>{2, 3, 3, 2});  // 4 at corners, 6 at edges, 9 inside
  CHECK(columns == std::vector<double>{2, 3, 3, 3, 2});
  const auto [centre, all] =
      ms::grow::position_counts({.kernel = 3, .stride = 2, .padding = 1}, {4, 5}, FanOut::centre);
  CHECK(centre == std::vector<double>{1, 0, 1, 0});
  CHECK(all == std::vector<double>{1, 0, 1, 0, 1});
  CHECK(contains(message_of<ms::ShapeError>([] {
                   (void)ms::grow::position_counts({.kernel = 3}, {2, 9}, FanOut::full);
                 }),
                 "position_counts: the kernel 3x3 spans 3x3, more than the map of 2x9"));
}

TEST_CASE_TEMPLATE("patch statistics: 1x1 kernels give the fully connected statistics of stacked positions", T, float,
                   double) {
  ms::Context ctx;
  const Extent2 map{5, 3};
  const Maps<T> maps(4, map, 6, 31), goals(4, map, 3, 32);
  const auto x = maps.tensor(ctx), v = goals.tensor(ctx);
  ms::grow::Covariance<T> rows(ctx, 6, true);
  ms::grow::CrossCovariance<T> pairs(ctx, 6, true, 3);
  rows.update(ctx, x, 4);
  pairs.update(ctx, x, v, 4);
  const auto s = ms::to_host(ctx, rows.mean(ctx)), n = ms::to_host(ctx, pairs.mean(ctx));
  for (const PatchPath path : {PatchPath::automatic, PatchPath::offsets, PatchPath::patches}) {
    for (const FanOut fan_out : {FanOut::full, FanOut::centre}) {
      PatchCovariance<T> covariance(ctx, 6, {}, map, true, {}, {}, path);
      PatchCrossCovariance<T> cross(ctx, 6, {}, map, true, 3, {}, fan_out, path);
      covariance.update(ctx, x);
      cross.update(ctx, x, v);
      const double scale = 4 * static_cast<double>(map.size());  // of a sum of squares of normal numbers, or more
      support::check_close(ms::to_host(ctx, covariance.mean(ctx)), s, tolerance<T>(60, scale));
      support::check_close(ms::to_host(ctx, cross.mean(ctx)), n, tolerance<T>(60, scale));
    }
  }
}

namespace {

/// Both statistics of two 3x3 convolutions on 9x7 maps, with 3 channels and 2 outputs.
template <class T>
struct Both {
  PatchCovariance<T> s;
  PatchCrossCovariance<T> n;
  static constexpr Window window{.kernel = 3, .padding = 1};
  static constexpr Extent2 map{9, 7};

  Both(ms::Context& ctx, FanOut fan_out, PatchPath path, const Window& first = window)
      : s(ctx, 3, first, map, true, counts(first, fan_out).first, counts(first, fan_out).second, path),
        n(ctx, 3, first, map, true, 2, window, fan_out, path) {}
  static std::pair<std::vector<double>, std::vector<double>> counts(const Window& first, FanOut fan_out) {
    return ms::grow::position_counts(window, first.output(map), fan_out);
  }
  void update(ms::Context& ctx, const ms::Tensor<T>& x, const ms::Tensor<T>& v) {
    s.update(ctx, x);
    n.update(ctx, x, v);
  }
  std::vector<double> means(ms::Context& ctx) {
    std::vector<double> result = ms::to_host(ctx, s.mean(ctx)), more = ms::to_host(ctx, n.mean(ctx));
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("patch statistics: order, splitting, merging and using the data twice change nothing", T, float,
                   double) {
  ms::Context ctx;
  const std::int64_t samples = 20;
  const Maps<T> maps(samples, Both<T>::map, 3, 41), goals(samples, Both<T>::map, 2, 42);
  for (const FanOut fan_out : {FanOut::full, FanOut::centre}) {
    for (const PatchPath path : {PatchPath::offsets, PatchPath::patches}) {
      const auto add = [&](Both<T>& both, std::int64_t begin, std::int64_t end) {
        both.update(ctx, maps.tensor(ctx, begin, end), goals.tensor(ctx, begin, end));
      };
      Both<T> whole(ctx, fan_out, path);
      add(whole, 0, samples);
      const std::vector<double> expected = whole.means(ctx);
      // The largest sum of magnitudes is the count of positions times the mean square of normal numbers, below 2.
      const double scale = 2.0 * 9 * static_cast<double>(Both<T>::map.size());
      const double allowed = tolerance<T>(2 * 9 * samples, scale);
      const auto check = [&](Both<T>& both, std::int64_t count, const char* what) {
        CHECK(both.s.samples() == count);
        CHECK(both.n.samples() == count);
        support::check_close(both.means(ctx), expected, allowed, what);
      };
      const std::vector<std::int64_t> cuts{0, 1, 2, 9, 9, 16, 20};
      Both<T> split(ctx, fan_out, path), backwards(ctx, fan_out, path);
      for (std::size_t i = 1; i < cuts.size(); ++i) add(split, cuts[i - 1], cuts[i]);
      for (std::size_t i = cuts.size(); i-- > 1;) add(backwards, cuts[i - 1], cuts[i]);
      check(split, samples, "split");
      check(backwards, samples, "backwards");

      Both<T> first(ctx, fan_out, path), second(ctx, fan_out, path), none(ctx, fan_out, path);
      add(first, 0, 7);
      (void)first.means(ctx);  // the mean may be asked for in the middle of the stream
      add(second, 7, samples);
      first.s.merge(ctx, second.s);
      first.n.merge(ctx, second.n);
      first.s.merge(ctx, none.s);
      first.n.merge(ctx, none.n);
      check(first, samples, "merged");
      const auto untouched = second.means(ctx);
      none.s.merge(ctx, second.s);
      none.n.merge(ctx, second.n);
      support::check_same_bits(none.means(ctx), untouched, "into an empty one");

      add(whole, 0, samples);
      check(whole, 2 * samples, "twice");
    }
  }
}

TEST_CASE_TEMPLATE("patch statistics: many float positions keep the error of one stretch", T, float) {
  // Per stretch of 8192 positions √8192 · 2^-24 of the terms' root mean square; sums of constants, whose roundings all
  // go the same way, (8192 / 32 + 32) 2^-24 of them at worst, as no sum of 32 or more partial sums comes near it.
  ms::Context ctx;
  const Extent2 map{40, 40};
  const std::int64_t samples = 24;
  Maps<T> maps(samples, map, 2, 51);
  const Maps<T> goals(samples, map, 2, 52);
  for (std::size_t i = 0; i < maps.values.size(); ++i) maps.values[i] = i % 2 ? 0.1f : maps.values[i] + 2.0f;
  const Window window{.kernel = 3, .padding = 1};
  const Plain n = plain_cross(maps, window, true, goals, window, FanOut::centre);
  const Plain s = plain_covariance(maps, window, true, [&](auto&& use) {
    for (std::int64_t y = 0; y < map.y; ++y) {
      for (std::int64_t x = 0; x < map.x; ++x) use(y, x);
    }
  });
  const double allowed = (8192.0 / 32 + 32) * 0x1p-24 * 10.0 * static_cast<double>(map.size());
  for (const PatchPath path : {PatchPath::offsets, PatchPath::patches}) {
    PatchCovariance<T> covariance(ctx, 2, window, map, true, {}, {}, path);
    PatchCrossCovariance<T> cross(ctx, 2, window, map, true, 2, window, FanOut::centre, path);
    covariance.update(ctx, maps.tensor(ctx));
    cross.update(ctx, maps.tensor(ctx), goals.tensor(ctx));
    const auto mean = ms::to_host(ctx, covariance.mean(ctx));
    support::check_close(mean, s.mean, allowed, "S1");
    CHECK(mean.back() == static_cast<double>(map.size()));  // the constant coordinate is counted, not added up
    support::check_close(ms::to_host(ctx, cross.mean(ctx)), n.mean, allowed, "N");
  }
}

TEST_CASE("patch statistics: the same bits twice and on any number of threads, both triangles alike") {
  const Maps<float> maps(70, Both<float>::map, 3, 61), goals(70, Both<float>::map, 2, 62);
  for (const FanOut fan_out : {FanOut::full, FanOut::centre}) {
    for (const PatchPath path : {PatchPath::offsets, PatchPath::patches}) {
      const auto run = [&](int threads) {
        ms::ContextOptions options;
        options.executor.threads = threads;
        ms::Context ctx(options);
        Both<float> both(ctx, fan_out, path);
        both.update(ctx, maps.tensor(ctx), goals.tensor(ctx));
        return both.means(ctx);
      };
      const std::vector<double> one = run(1);
      support::check_same_bits(run(1), one, "twice");
      support::check_same_bits(run(2), one, "two threads");
      support::check_same_bits(run(3), one, "three threads");
      for (std::size_t i = 0; i < 28; ++i) {
        for (std::size_t j = 0; j < i; ++j) REQUIRE(one[i * 28 + j] == one[j * 28 + i]);
      }
    }
  }
}

TEST_CASE("patch statistics: every way of running a block gives the same") {
  const Maps<double> maps(3, Both<double>::map, 3, 71), strided(3, {5, 4}, 2, 73);
  ms::Context plain;
  const Window two{.kernel = 3, .stride = 2, .padding = 1};
  Both<double> reference(plain, FanOut::full, PatchPath::patches, two);
  reference.update(plain, maps.tensor(plain), strided.tensor(plain));
  const std::vector<double> expected = reference.means(plain);
  support::for_every_executor([&](ms::Context& ctx) {
    Both<double> both(ctx, FanOut::full, PatchPath::patches, two);
    both.update(ctx, maps.tensor(ctx), strided.tensor(ctx));
    support::check_close(both.means(ctx), expected, tolerance<double>(1, 100.0));
  });
}

TEST_CASE("patch statistics: the cost rule picks the path") {
  ms::Context ctx;
  const Window three{.kernel = 3, .padding = 1}, two{.kernel = 3, .stride = 2, .padding = 1}, one{};
  CHECK(PatchCovariance<float>(ctx, 64, three, 32, true).path() == PatchPath::offsets);
  CHECK(PatchCovariance<float>(ctx, 16, three, 4, true).path() == PatchPath::offsets);
  CHECK(PatchCovariance<float>(ctx, 3, three, 32, true).path() == PatchPath::offsets);
  CHECK(PatchCovariance<float>(ctx, 64, two, 32, true).path() == PatchPath::patches);
  // A pixel is its own patch: symmetry halves the product of the patches path, and there is nothing to share.
  CHECK(PatchCovariance<float>(ctx, 256, one, 8, true).path() == PatchPath::patches);
  CHECK(PatchCrossCovariance<float>(ctx, 64, three, 32, true, 64, three, FanOut::full).path() == PatchPath::offsets);
  CHECK(PatchCrossCovariance<float>(ctx, 64, three, 32, true, 64, two, FanOut::full).path() == PatchPath::patches);
  // A linear layer behind a flattened map reads every position once: nothing is gathered for it.
  CHECK(PatchCrossCovariance<float>(ctx, 64, three, 8, true, 10, {.kernel = 8}, FanOut::full).path() ==
        PatchPath::offsets);
  // With weights that differ everywhere every position is a class of its own.
  std::vector<double> weights;
  for (int i = 0; i < 32; ++i) weights.push_back(1.0 + i);
  CHECK(PatchCovariance<float>(ctx, 4, three, 32, false, weights, weights).path() == PatchPath::patches);
}

TEST_CASE("patch statistics: scratch memory stays far below the maps") {
  ms::Context ctx;
  const Window window{.kernel = 3, .padding = 1};
  const auto x = ms::zeros<float>(ctx, {64, 16, 16, 32}), v = ms::zeros<float>(ctx, {64, 16, 16, 32});
  for (const PatchPath path : {PatchPath::offsets, PatchPath::patches}) {
    PatchCovariance<float> s(ctx, 32, window, 16, true, {}, {}, path);
    PatchCrossCovariance<float> n(ctx, 32, window, 16, true, 32, window, FanOut::full, path);
    const std::size_t before = ctx.memory()->in_use();
    ctx.memory()->reset_peak();
    s.update(ctx, x);
    n.update(ctx, x, v);
    const std::size_t maps = 2 * static_cast<std::size_t>(x.size()) * sizeof(float);
    CHECK(ctx.memory()->peak() - before <= maps * 12 / 10);
  }
}

TEST_CASE("patch statistics: no channels, no outputs, no samples") {
  ms::Context ctx;
  const Window window{.kernel = 3, .padding = 1};
  const Extent2 map{4, 3};
  for (const PatchPath path : {PatchPath::automatic, PatchPath::offsets, PatchPath::patches}) {
    PatchCovariance<float> bias_only(ctx, 0, window, map, true, {}, {}, path);
    bias_only.update(ctx, ms::View<const float>(nullptr, {2, 4, 3, 0}));
    CHECK(ms::to_host(ctx, bias_only.mean(ctx)) == std::vector<double>{12.0});
    PatchCovariance<float> nothing(ctx, 0, window, map, false, {}, {}, path);
    nothing.update(ctx, ms::View<const float>(nullptr, {2, 4, 3, 0}));
    CHECK(nothing.mean(ctx).shape() == ms::Shape{0, 0});

    const Maps<float> maps(2, map, 1, 81);
    PatchCrossCovariance<float> no_outputs(ctx, 1, window, map, true, 0, window, FanOut::full, path);
    no_outputs.update(ctx, maps.tensor(ctx), ms::View<const float>(nullptr, {2, 4, 3, 0}));
    CHECK(no_outputs.mean(ctx).shape() == ms::Shape{10, 0});
    PatchCrossCovariance<float> no_channels(ctx, 0, window, map, true, 1, window, FanOut::centre, path);
    no_channels.update(ctx, ms::View<const float>(nullptr, {2, 4, 3, 0}), maps.tensor(ctx));
    double sum = 0.0;
    for (const float value : maps.values) sum += value;
    support::check_close(ms::to_host(ctx, no_channels.mean(ctx)), {sum / 2}, 24 * support::eps<float> * 24);

    PatchCovariance<float> s(ctx, 1, window, map, true, {}, {}, path);
    s.update(ctx, maps.tensor(ctx));
    const auto before = ms::to_host(ctx, s.mean(ctx));
    s.update(ctx, ms::zeros<float>(ctx, {0, 4, 3, 1}));
    CHECK(s.samples() == 2);
    support::check_same_bits(ms::to_host(ctx, s.mean(ctx)), before);
  }
}

TEST_CASE("patch statistics: a NaN stays visible where it is read, and nowhere else") {
  ms::Context ctx;
  Maps<float> maps(2, {5, 5}, 1, 91);
  maps.values[0] = std::numeric_limits<float>::quiet_NaN();  // the first sample's top left corner
  const Window window{.kernel = 2};
  for (const PatchPath path : {PatchPath::offsets, PatchPath::patches}) {
    PatchCovariance<float> s(ctx, 1, window, {5, 5}, true, {}, {}, path);
    s.update(ctx, maps.tensor(ctx));
    const auto mean = ms::to_host(ctx, s.mean(ctx));
    CHECK(std::isnan(mean[0]));
    CHECK(std::isnan(mean[4 * 5 + 0]));
    CHECK(std::isfinite(mean[3 * 5 + 3]));  // no patch has the corner at its lower right
    CHECK(std::isfinite(mean[4 * 5 + 3]));
  }
}

TEST_CASE("patch covariance: misuse is told and changes nothing") {
  ms::Context ctx;
  const Window window{.kernel = 3, .padding = 1};
  const Extent2 map{4, 5};
  PatchCovariance<float> s(ctx, 2, window, map, true);
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)s.mean(ctx); }),
                 "PatchCovariance: the mean of no samples was asked for; call update first"));
  const Maps<float> maps(2, map, 2, 95);
  s.update(ctx, maps.tensor(ctx));
  const auto before = ms::to_host(ctx, s.mean(ctx));

  CHECK(contains(message_of<ms::ShapeError>([&] {
                   s.update(ctx, ms::zeros<float>(ctx, {2, 4, 5, 3}));
                 }),
                 "PatchCovariance: was made for x of shape (n, 4, 5, 2), got (2, 4, 5, 3)"));
  CHECK(contains(message_of<ms::ShapeError>([&] { s.update(ctx, ms::zeros<float>(ctx, {2, 20, 2})); }), "(2, 20, 2)"));
  const auto wide = ms::zeros<float>(ctx, {2, 4, 6, 2});
  CHECK(contains(message_of<ms::ShapeError>([&] { s.update(ctx, wide.view().slice(2, 0, 5)); }), "is strided"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { PatchCovariance<float>(ctx, -1, window, map, true); }),
                 "PatchCovariance: the number of channels is -1; it is 0 or more"));
  CHECK(contains(message_of<ms::ShapeError>([&] { PatchCovariance<float>(ctx, 1, {.kernel = 7}, map, true); }),
                 "PatchCovariance: the kernel 7x7 spans 7x7, more than the map of 4x5"));
  CHECK(contains(
      message_of<ms::ArgumentError>([&] { PatchCovariance<float>(ctx, 1, {.kernel = 1, .stride = 0}, map, true); }),
      "PatchCovariance: the stride is 0x0"));
  CHECK(contains(message_of<ms::ShapeError>([&] {
                   PatchCovariance<float>(ctx, 1, window, map, true, {1, 1, 1});
                 }),
                 "PatchCovariance: weight_y holds 3 numbers, but the window has 4 positions; give one for each row"));
  CHECK(contains(message_of<ms::ShapeError>([&] {
                   PatchCovariance<float>(ctx, 1, window, map, true, {}, {1, 1});
                 }),
                 "weight_x holds 2 numbers, but the window has 5 positions; give one for each column"));
  CHECK(contains(message_of<ms::ArgumentError>([&] {
                   PatchCovariance<float>(ctx, 1, window, map, true, {1, 1, -2, 1});
                 }),
                 "weight_y holds -2; weights are finite and not negative"));
  CHECK(contains(message_of<ms::ArgumentError>([&] {
                   PatchCovariance<float>(ctx, 1, {.kernel = 3, .stride = 2}, map, true, {}, {}, PatchPath::offsets);
                 }),
                 "PatchCovariance: the offsets path needs windows of stride 1 and dilation 1"));

  PatchCovariance<float> narrow(ctx, 1, window, map, true), weighted(ctx, 2, window, map, true, {1, 2, 2, 1});
  CHECK(contains(message_of<ms::ArgumentError>([&] { s.merge(ctx, narrow); }),
                 "cannot merge statistics of other patches: this has 2 channels on maps of 4x5"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { s.merge(ctx, weighted); }), "with other position weights"));
  PatchCovariance<float> offsets(ctx, 2, window, map, true, {}, {}, PatchPath::offsets);
  PatchCovariance<float> patches(ctx, 2, window, map, true, {}, {}, PatchPath::patches);
  CHECK(contains(message_of<ms::ArgumentError>([&] { offsets.merge(ctx, patches); }), "different paths"));
  support::check_same_bits(ms::to_host(ctx, s.mean(ctx)), before);
  CHECK(s.samples() == 2);
}

TEST_CASE("patch cross-covariance: misuse is told and changes nothing") {
  ms::Context ctx;
  const Window window{.kernel = 3, .padding = 1};
  const Extent2 map{4, 5};
  PatchCrossCovariance<float> n(ctx, 2, window, map, true, 3, window, FanOut::full);
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)n.mean(ctx); }),
                 "PatchCrossCovariance: the mean of no samples was asked for; call update first"));
  const Maps<float> maps(2, map, 2, 96), goals(2, map, 3, 97);
  n.update(ctx, maps.tensor(ctx), goals.tensor(ctx));
  const auto before = ms::to_host(ctx, n.mean(ctx));

  CHECK(contains(message_of<ms::ShapeError>([&] { n.update(ctx, goals.tensor(ctx), goals.tensor(ctx)); }),
                 "PatchCrossCovariance: was made for x of shape (n, 4, 5, 2), got (2, 4, 5, 3)"));
  CHECK(contains(message_of<ms::ShapeError>([&] { n.update(ctx, maps.tensor(ctx), maps.tensor(ctx)); }),
                 "was made for v of shape (n, 4, 5, 3), got (2, 4, 5, 2)"));
  CHECK(contains(message_of<ms::ShapeError>([&] { n.update(ctx, maps.tensor(ctx), goals.tensor(ctx, 0, 1)); }),
                 "x and v must have the same number of samples; got shapes (2, 4, 5, 2) and (1, 4, 5, 3)"));
  CHECK(contains(message_of<ms::ArgumentError>(
                     [&] { PatchCrossCovariance<float>(ctx, 2, window, map, true, -1, window, FanOut::full); }),
                 "PatchCrossCovariance: the number of outputs is -1; it is 0 or more"));
  CHECK(contains(message_of<ms::ShapeError>([&] {
                   PatchCrossCovariance<float>(ctx, 2, window, map, true, 3, {.kernel = 9, .padding = 1}, FanOut::full);
                 }),
                 "PatchCrossCovariance: the consumer: the kernel 9x9 spans 9x9, more than the map of 4x5"));
  CHECK(contains(message_of<ms::ArgumentError>([&] {
                   PatchCrossCovariance<float>(ctx, 2, window, map, true, 3, {.kernel = 3, .stride = 2}, FanOut::full,
                                               PatchPath::offsets);
                 }),
                 "PatchCrossCovariance: the offsets path needs windows of stride 1 and dilation 1"));
  PatchCrossCovariance<float> centre(ctx, 2, window, map, true, 3, window, FanOut::centre);
  CHECK(contains(message_of<ms::ArgumentError>([&] { n.merge(ctx, centre); }),
                 "PatchCrossCovariance: cannot merge statistics of other layers"));
  support::check_same_bits(ms::to_host(ctx, n.mean(ctx)), before);
  CHECK(n.samples() == 2);
}

TEST_SUITE_END();

}  // namespace grow_patch_statistics_test
