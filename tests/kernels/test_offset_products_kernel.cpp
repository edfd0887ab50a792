#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <meristem/kernels/offset_products_kernel.cuh>
#include <support/check.hpp>

namespace kernels_offset_products_kernel_test {

TEST_SUITE_BEGIN("unit");

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;
using mk::Region;
using ms::Extent2;
using support::Guarded;

constexpr double fill = 0.75;

struct Case {
  std::int64_t n;
  Extent2 a_map;
  std::int64_t a_channels;
  Extent2 b_map;
  std::int64_t b_channels;
  Region region;
  std::vector<Extent2> offsets;
  bool weigh_y = false;
  bool weigh_x = false;
  bool same = false;  // b is a
};

// Offsets whose products make up the covariance of the patches of a 3x3 kernel.
std::vector<Extent2> covariance_offsets() {
  std::vector<Extent2> offsets = {{0, 0}, {0, 1}, {0, 2}};
  for (std::int64_t y = 1; y <= 2; ++y) {
    for (std::int64_t x = -2; x <= 2; ++x) offsets.push_back({y, x});
  }
  return offsets;
}

std::vector<Extent2> square_offsets(std::int64_t low, std::int64_t high) {
  std::vector<Extent2> offsets;
  for (std::int64_t y = low; y <= high; ++y) {
    for (std::int64_t x = low; x <= high; ++x) offsets.push_back({y, x});
  }
  return offsets;
}

std::vector<double> weights(std::int64_t count, double step) {
  std::vector<double> result;
  for (std::int64_t i = 0; i < count; ++i) result.push_back(1.0 + step * static_cast<double>(i % 5));
  return result;
}

template <class T>
struct Data {
  std::vector<T> a, b;
  std::vector<double> wy, wx;

  explicit Data(const Case& c)
      : a(support::normal_values<T>(c.n * c.a_map.size() * c.a_channels, 3)),
        b(c.same ? a : support::normal_values<T>(c.n * c.b_map.size() * c.b_channels, 4)),
        wy(weights(c.a_map.y, c.weigh_y ? -0.5 : 0.0)),
        wx(weights(c.a_map.x, c.weigh_x ? 0.25 : 0.0)) {}
};

// The sums and, for tolerances, the sums of the terms' magnitudes.
struct Expected {
  std::vector<double> sums, magnitudes;
};

template <class T>
Expected oracle(const Case& c, const Data<T>& data) {
  Expected expected;
  for (const Extent2& offset : c.offsets) {
    const std::int64_t cells = c.a_channels * c.b_channels;
    std::vector<double> sum(static_cast<std::size_t>(cells), fill);
    std::vector<double> magnitude(static_cast<std::size_t>(cells), fill);
    for (std::int64_t i = 0; i < c.n; ++i) {
      for (std::int64_t y = c.region.begin.y; y < c.region.end.y; ++y) {
        for (std::int64_t x = c.region.begin.x; x < c.region.end.x; ++x) {
          if (offset.y < -y || offset.y >= c.b_map.y - y || offset.x < -x || offset.x >= c.b_map.x - x) continue;
          const std::int64_t v = y + offset.y, u = x + offset.x;
          const double weight = data.wy[static_cast<std::size_t>(y)] * data.wx[static_cast<std::size_t>(x)];
          const T* const a = data.a.data() + ((i * c.a_map.y + y) * c.a_map.x + x) * c.a_channels;
          const T* const b = data.b.data() + ((i * c.b_map.y + v) * c.b_map.x + u) * c.b_channels;
          for (std::int64_t p = 0; p < c.a_channels; ++p) {
            for (std::int64_t q = 0; q < c.b_channels; ++q) {
              const double term = weight * static_cast<double>(a[p]) * static_cast<double>(b[q]);
              sum[static_cast<std::size_t>(p * c.b_channels + q)] += term;
              magnitude[static_cast<std::size_t>(p * c.b_channels + q)] += std::abs(term);
            }
          }
        }
      }
    }
    expected.sums.insert(expected.sums.end(), sum.begin(), sum.end());
    expected.magnitudes.insert(expected.magnitudes.end(), magnitude.begin(), magnitude.end());
  }
  return expected;
}

template <class T>
std::vector<T> compute(ms::Context& ctx, const Case& c, const Data<T>& data) {
  const auto a = ms::from_host<T>(ctx, {c.n, c.a_map.y, c.a_map.x, c.a_channels}, data.a);
  const auto other = ms::from_host<T>(ctx, {c.n, c.b_map.y, c.b_map.x, c.b_channels}, data.b);
  const auto wy = ms::from_host<T>(ctx, {c.a_map.y}, std::vector<T>(data.wy.begin(), data.wy.end()));
  const auto wx = ms::from_host<T>(ctx, {c.a_map.x}, std::vector<T>(data.wx.begin(), data.wx.end()));
  Guarded<T> out(ctx, {static_cast<std::int64_t>(c.offsets.size()), c.a_channels, c.b_channels}, T(fill));
  mk::offset_products_tiled(ctx, a.view(), c.same ? a.view() : other.view(), c.region, c.offsets,
                            c.weigh_y ? wy.view() : ms::View<const T>(), c.weigh_x ? wx.view() : ms::View<const T>(),
                            out.view());
  out.check_guards(ctx);
  return out.values(ctx);
}

template <class T>
void check_case(ms::Context& ctx, const Case& c) {
  const std::string what =
      ms::concat("n ", c.n, ", a ", c.a_map, 'x', c.a_channels, ", b ", c.b_map, 'x', c.b_channels, ", ", c.region,
                 ", ", c.offsets.size(), " offsets, weights ", c.weigh_y, c.weigh_x, ", ", ms::dtype_name<T>);
  INFO(what);
  const Data<T> data(c);
  const auto expected = oracle(c, data);
  // Each term has three roundings more than the running sum, which rounds once a term: (R + 5) eps/2 at worst, of which
  // random signs leave the square root.
  const double terms = static_cast<double>(c.n * c.region.extent().size());
  const double tolerance = 4 * std::sqrt(terms + 5) * support::eps<T> / 2 * support::scale_of(expected.magnitudes);
  support::check_close(compute<T>(ctx, c, data), expected.sums, tolerance, what);
}

ms::Context gpu_blocks(int threads = 0) {
  ms::ContextOptions options;
  options.executor.gpu_blocks = true;
  options.executor.poison_shared = true;
  options.executor.threads = threads;
  return ms::Context(options);
}

}  // namespace

TEST_CASE_TEMPLATE("offset_products_kernel: channels, offsets and regions match the double loop", T, float, double) {
  ms::Context production({.seed = 1});
  ms::Context blocks = gpu_blocks();
  const Extent2 map{7, 9};
  const std::vector<Region> regions = {Region::whole(map), {{0, 0}, {1, 9}}, {{6, 0}, {7, 9}}, {{0, 8}, {7, 9}},
                                       {{2, 3}, {3, 4}},   {{1, 2}, {6, 5}}, {{3, 4}, {3, 9}}, {{0, 2}, {7, 2}}};
  const std::vector<std::vector<Extent2>> sets = {
      covariance_offsets(), square_offsets(-2, 2), {{0, 0}}, {{-1, 3}}, {{6, 8}, {-6, -8}, {7, 0}, {0, 9}, {-7, 0}}};
  int turn = 0;
  for (const auto& [p, q] : {std::pair{1, 1}, {3, 3}, {17, 3}, {3, 33}, {16, 16}, {33, 17}, {64, 64}}) {
    for (std::size_t set = 0; set < sets.size(); ++set) {
      for (std::size_t region = 0; region < regions.size(); ++region) {
        // Wide channels take their turn with a third of the combinations.
        if (p * q > 300 && ++turn % 3 != 0) continue;
        const bool same = p == q && (set + region) % 2 == 0;
        const Case c{3, map, p, map, q, regions[region], sets[set], region % 2 == 1, set % 2 == 1, same};
        check_case<T>(blocks, c);
        if (region < 2) check_case<T>(production, c);
      }
    }
  }
}

TEST_CASE_TEMPLATE("offset_products_kernel: maps of different sizes and shapes", T, float, double) {
  ms::Context blocks = gpu_blocks();
  const auto cross = square_offsets(-1, 3);
  check_case<T>(blocks, {2, {5, 4}, 5, {8, 3}, 7, {{0, 0}, {5, 4}}, cross, true, true});
  check_case<T>(blocks, {2, {8, 3}, 7, {5, 4}, 5, {{0, 0}, {8, 3}}, cross});
  check_case<T>(blocks, {9, {1, 1}, 20, {1, 1}, 20, {{0, 0}, {1, 1}}, {{0, 0}}});
  check_case<T>(blocks, {37, {2, 2}, 4, {2, 2}, 20, {{0, 0}, {2, 2}}, square_offsets(-1, 1), false, true});
  check_case<T>(blocks, {1, {1, 700}, 2, {3, 600}, 2, {{0, 1}, {1, 699}}, cross, false, true});
  check_case<T>(blocks, {1, {700, 1}, 2, {600, 3}, 2, {{1, 0}, {699, 1}}, cross, true, false});
  check_case<T>(blocks, {2, {40, 40}, 3, {40, 40}, 3, {{0, 0}, {40, 40}}, covariance_offsets(), false, false, true});
}

TEST_CASE_TEMPLATE("offset_products_kernel: long, far, repeated and many offsets", T, float, double) {
  ms::Context blocks = gpu_blocks();
  const Extent2 map{12, 13};
  const Region whole = Region::whole(map);
  check_case<T>(blocks, {2, map, 3, map, 4, whole, square_offsets(-4, 4)});  // 81: more than one launch takes
  check_case<T>(blocks, {2, map, 3, map, 4, whole, {{11, -12}, {-11, 12}, {0, 0}, {11, 12}, {0, -12}, {-5, 5}}});
  check_case<T>(blocks, {2, map, 3, map, 4, whole, {{1, 1}, {0, 0}, {1, 1}, {90, 0}, {0, 2}, {0, 1}, {0, 0}}});
  check_case<T>(blocks, {2, map, 3, map, 4, whole, {{INT64_MAX, 0}, {0, INT64_MIN}, {INT64_MIN, INT64_MAX}}});
  check_case<T>(blocks, {0, map, 3, map, 4, whole, covariance_offsets()});
  check_case<T>(blocks, {2, map, 3, map, 4, whole, {}});
  check_case<T>(blocks, {2, map, 0, map, 4, whole, covariance_offsets()});
  check_case<T>(blocks, {2, map, 3, map, 0, whole, covariance_offsets()});
}

TEST_CASE_TEMPLATE("offset_products_kernel: every thread order", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    check_case<T>(ctx, {2, {6, 5}, 3, {6, 5}, 3, {{0, 0}, {6, 5}}, covariance_offsets(), true, true, true});
    check_case<T>(ctx, {9, {6, 5}, 17, {4, 6}, 5, {{1, 0}, {6, 4}}, {{0, 0}, {1, -1}, {1, 0}}, false, true});
    check_case<T>(ctx, {1, {3, 3}, 4, {3, 3}, 4, {{0, 0}, {3, 3}}, square_offsets(-2, 2)});
  });
}

TEST_CASE_TEMPLATE("offset_products_kernel: no block size, number of workers or second run changes a bit", T, float,
                   double) {
  for (const std::int64_t channels : {5, 20}) {
    const Case c{11, {6, 9}, channels, {6, 9}, channels, {{0, 0}, {6, 9}}, covariance_offsets(), true, false, true};
    const Data<T> data(c);
    ms::Context one = gpu_blocks(1), two = gpu_blocks(2), production({.seed = 1});
    const auto first = compute<T>(one, c, data);
    support::check_same_bits(first, compute<T>(one, c, data), "a second run");
    support::check_same_bits(first, compute<T>(two, c, data), "two workers");
    support::check_same_bits(first, compute<T>(production, c, data), "one thread a block");
  }
}

TEST_CASE("offset_products_kernel: strips add up to the whole") {
  ms::Context ctx = gpu_blocks();
  const Extent2 map{7, 6};
  const auto a = ms::from_host<double>(ctx, {3, 7, 6, 5}, support::normal_values<double>(3 * 42 * 5, 8));
  const auto offsets = covariance_offsets();
  auto whole = ms::zeros<double>(ctx, {13, 5, 5});
  auto parts = ms::zeros<double>(ctx, {13, 5, 5});
  const auto add = [&](const Region& region, ms::View<double> out) {
    mk::offset_products_tiled(ctx, a.view(), a.view(), region, offsets, {}, {}, out);
  };
  add(Region::whole(map), whole.view());
  for (const Region& part : {Region{{0, 0}, {2, 6}}, Region{{2, 0}, {7, 1}}, Region{{2, 1}, {7, 6}}}) {
    add(part, parts.view());
  }
  const auto expected = ms::to_host(ctx, whole);
  support::check_close(ms::to_host(ctx, parts), expected,
                       4 * std::sqrt(3.0 * 42) * support::eps<double> * support::scale_of(expected));
}

TEST_CASE("offset_products_kernel: a NaN outside the region, or that no offset reaches, does not show") {
  ms::Context ctx = gpu_blocks();
  const std::int64_t h = 5, w = 6, channels = 3;
  auto values = support::normal_values<float>(h * w * channels, 5);
  for (std::int64_t c = 0; c < channels; ++c) values[static_cast<std::size_t>((4 * w + 5) * channels + c)] = NAN;
  const auto a = ms::from_host<float>(ctx, {1, h, w, channels}, values);
  const std::vector<Extent2> offsets = {{0, 0}, {0, 1}, {1, 0}, {1, 1}};
  auto out = ms::zeros<float>(ctx, {4, channels, channels});
  mk::offset_products_tiled(ctx, a.view(), a.view(), {{0, 0}, {4, 5}}, offsets, {}, {}, out.view());
  const auto result = ms::to_host(ctx, out);
  for (std::size_t e = 0; e < result.size(); ++e) {
    CAPTURE(e);
    CHECK(std::isnan(result[e]) == (e >= 3 * channels * channels));
  }
}

TEST_CASE("offset_products_kernel: offsets become runs of neighbours, each once") {
  const auto plan = mk::offset_tiles::plan_offsets(covariance_offsets(), Region::whole({32, 32}), {32, 32}, 5, 3);
  REQUIRE(plan.runs.size() == 3);
  REQUIRE(plan.groups.size() == 1);
  CHECK(*std::max_element(plan.place.begin(), plan.place.end()) == 12);
  CHECK(plan.spread == Extent2(2, 4));
  CHECK(plan.runs[0].length == 3);
  CHECK(plan.runs[1].length == 5);
  CHECK(plan.runs[2].length == 5);
  CHECK(plan.groups[0].x == -2);
  const auto cross = mk::offset_tiles::plan_offsets(square_offsets(-2, 2), Region::whole({32, 32}), {32, 32}, 5, 3);
  REQUIRE(cross.groups.size() == 2);
  CHECK(cross.groups[0].count == 3);
  CHECK(cross.groups[1].count == 2);
}

TEST_CASE("offset_products_kernel: a tile and its halo fit, whatever the region and the spread") {
  for (const std::int64_t samples : {1, 5, 1000}) {
    for (const Extent2 region : {Extent2(1, 1), Extent2(32, 32), Extent2(1, 5000), Extent2(3000, 1), Extent2(7, 9)}) {
      for (const Extent2 spread : {Extent2(0, 0), Extent2(2, 4), mk::offset_tiles::farthest}) {
        for (const std::int64_t capacity : {256, 512}) {
          const auto tile = mk::offset_tiles::choose_tile(samples, region, spread, capacity, 2);
          CAPTURE(region);
          CAPTURE(spread);
          CHECK(tile.samples >= 1);
          CHECK(tile.rows >= 1);
          CHECK(tile.columns >= 1);
          CHECK(tile.samples * (tile.rows * tile.columns + (tile.rows + spread.y) * (tile.columns + spread.x)) <=
                capacity);
        }
      }
    }
  }
}

TEST_CASE("offset_products_kernel: arguments that do not fit are named") {
  ms::Context ctx({.seed = 1});
  const auto a = ms::zeros<float>(ctx, {2, 5, 6, 3});
  const auto b = ms::zeros<float>(ctx, {2, 4, 6, 7});
  const auto fewer = ms::zeros<float>(ctx, {1, 4, 6, 7});
  const auto matrix = ms::zeros<float>(ctx, {5, 6});
  const auto weight = ms::zeros<float>(ctx, {4});
  auto out = ms::zeros<float>(ctx, {2, 3, 7});
  auto square = ms::zeros<float>(ctx, {2, 3, 3});
  const std::vector<Extent2> offsets = {{0, 0}, {0, 1}};
  const Region whole = Region::whole({5, 6});
  const auto call = [&](ms::View<const float> first, ms::View<const float> second, const Region& region,
                        ms::View<const float> wy, ms::View<const float> wx, ms::View<float> to) {
    return [=, &ctx, &offsets] { mk::offset_products_tiled(ctx, first, second, region, offsets, wy, wx, to); };
  };
  const ms::View<const float> none;
  CHECK(support::message_of<ms::ShapeError>(call(matrix, b, whole, none, none, out)) ==
        "offset_products_tiled: a has shape (5, 6); it must have rank 4 (samples, rows, columns, channels)");
  CHECK(support::message_of<ms::ShapeError>(call(a, matrix, whole, none, none, out)) ==
        "offset_products_tiled: b has shape (5, 6); it must have rank 4 (samples, rows, columns, channels)");
  CHECK(
      support::message_of<ms::ShapeError>(call(a.view().slice(3, 0, 2), b, whole, none, none, out)) ==
      "offset_products_tiled: a of shape (2, 5, 6, 2) is strided; contiguous elements are needed: copy the slice to a "
      "tensor of its own");
  const auto huge = ms::zeros<float>(ctx, {0, 1 << 16, 1 << 16, 3});
  CHECK(support::message_of<ms::ShapeError>(call(huge, b, whole, none, none, out)) ==
        "offset_products_tiled: a has shape (0, 65536, 65536, 3); a sample may have at most 2^30 positions and 2^30 "
        "channels");
  CHECK(
      support::message_of<ms::ShapeError>(call(a, fewer, whole, none, none, out)) ==
      "offset_products_tiled: a and b must have the same number of samples; got shapes (2, 5, 6, 3) and (1, 4, 6, 7)");
  CHECK(support::message_of<ms::ShapeError>(call(a, b, whole, none, none, square)) ==
        "offset_products_tiled: for 2 offsets and maps of shapes (2, 5, 6, 3) and (2, 4, 6, 7) out must have shape "
        "(2, 3, 7); got (2, 3, 3)");
  CHECK(support::message_of<ms::ArgumentError>(call(a, b, {{0, 0}, {5, 7}}, none, none, out)) ==
        "offset_products_tiled: the region of rows [0, 5), columns [0, 7) does not lie on the map of a, 5x6");
  CHECK(support::message_of<ms::ArgumentError>(call(a, b, {{3, 0}, {2, 6}}, none, none, out)) ==
        "offset_products_tiled: the region of rows [3, 2), columns [0, 6) does not lie on the map of a, 5x6");
  CHECK(support::message_of<ms::ShapeError>(call(a, b, whole, weight, none, out)) ==
        "offset_products_tiled: weight_y has shape (4); a's map of 5x6 needs one number for each row, shape (5), or an "
        "empty View for ones");
  CHECK(support::message_of<ms::ShapeError>(call(a, b, whole, none, weight, out)) ==
        "offset_products_tiled: weight_x has shape (4); a's map of 5x6 needs one number for each column, shape (6), or "
        "an empty View for ones");
}

TEST_SUITE_END();

}  // namespace kernels_offset_products_kernel_test
