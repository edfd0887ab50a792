#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include <meristem/kernels/grow_copy.cuh>
#include <support/check.hpp>

namespace kernels_grow_copy_test {

TEST_SUITE_BEGIN("unit");

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;
using support::Guarded;
using Map = std::vector<std::int64_t>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

std::int64_t count_new(const Map& map) {
  std::int64_t count = 0;
  for (const std::int64_t entry : map) count += entry < 0 ? 1 : 0;
  return count;
}

template <class T>
void check_copy(ms::Context& ctx, const ms::Shape& shape, int axis, const Map& map, bool with_fresh) {
  const auto extent = static_cast<std::int64_t>(map.size());
  const std::int64_t added = count_new(map);
  const ms::Shape fresh_shape = shape.with(axis, added);
  const auto source_values = support::normal_values<T>(shape.size(), 1);
  const auto fresh_values = support::normal_values<T>(fresh_shape.size(), 2);
  const auto source = ms::from_host<T>(ctx, shape, source_values);
  const auto fresh = ms::from_host<T>(ctx, fresh_shape, fresh_values);
  Guarded<T> destination(ctx, shape.with(axis, extent));
  mk::grow_copy(ctx, source.view(), axis, map, with_fresh ? fresh.view() : ms::View<const T>(), destination.view());
  destination.check_guards(ctx);

  std::int64_t outer = 1, inner = 1;
  for (int i = 0; i < axis; ++i) outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  std::vector<T> expected;
  for (std::int64_t o = 0; o < outer; ++o) {
    std::int64_t next_new = 0;
    for (const std::int64_t entry : map) {
      for (std::int64_t k = 0; k < inner; ++k) {
        if (entry >= 0) {
          expected.push_back(source_values[at((o * shape[axis] + entry) * inner + k)]);
        } else {
          expected.push_back(with_fresh ? fresh_values[at((o * added + next_new) * inner + k)] : T(0));
        }
      }
      if (entry < 0) ++next_new;
    }
  }
  support::check_same_bits(destination.values(ctx), expected,
                           ms::concat("source ", shape, ", axis ", axis, ", ", extent, " indices"));
}

}  // namespace

TEST_CASE_TEMPLATE("grow_copy: every rank and axis, grown, permuted, repeated and pruned", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    const std::vector<ms::Shape> shapes = {{5}, {3, 4}, {2, 3, 4}, {2, 3, 5, 2}, {2, 3, 2, 3, 8}, {1, 33}, {65, 1}};
    for (const ms::Shape& shape : shapes) {
      for (int axis = 0; axis < shape.rank(); ++axis) {
        const std::int64_t last = shape[axis] - 1;
        Map keep, reversed, interleaved, repeated;
        for (std::int64_t i = 0; i <= last; ++i) {
          keep.push_back(i);
          reversed.push_back(last - i);
          interleaved.push_back(i);
          interleaved.push_back(-1);
          repeated.push_back(i);
          repeated.push_back(0);
        }
        Map appended = keep;
        appended.insert(appended.end(), 3, -1);
        for (const bool with_fresh : {false, true}) {
          check_copy<T>(ctx, shape, axis, keep, with_fresh);
          check_copy<T>(ctx, shape, axis, reversed, with_fresh);
          check_copy<T>(ctx, shape, axis, interleaved, with_fresh);
          check_copy<T>(ctx, shape, axis, repeated, with_fresh);
          check_copy<T>(ctx, shape, axis, appended, with_fresh);
          check_copy<T>(ctx, shape, axis, {last, -1, 0}, with_fresh);  // drops all between
          check_copy<T>(ctx, shape, axis, {-1, -1}, with_fresh);       // nothing old is left
          check_copy<T>(ctx, shape, axis, {}, with_fresh);
        }
      }
    }
  });
}

TEST_CASE("grow_copy: from and to tensors without elements") {
  ms::Context ctx({.seed = 1});
  for (const bool with_fresh : {false, true}) {
    check_copy<float>(ctx, {0, 3}, 0, {-1, -1}, with_fresh);
    check_copy<float>(ctx, {3, 0}, 1, {-1}, with_fresh);
    check_copy<float>(ctx, {3, 0}, 0, {2, -1, 0}, with_fresh);
    check_copy<float>(ctx, {0}, 0, {}, with_fresh);
  }
}

TEST_CASE("grow_copy: slices of whole and broken 16-byte packs") {
  ms::Context ctx({.seed = 1});
  for (const std::int64_t inner : {1, 2, 3, 4, 5, 8, 63, 64, 65}) {
    check_copy<float>(ctx, {2, 3, inner}, 1, {2, -1, 0, 1, -1}, true);
    check_copy<double>(ctx, {2, 3, inner}, 1, {2, -1, 0, 1, -1}, true);
  }
  // A source that starts between two packs.
  const auto values = support::normal_values<float>(13, 1);
  const auto tensor = ms::from_host<float>(ctx, {13}, values);
  const ms::View<const float> source(tensor.data() + 1, {3, 4});
  Guarded<float> destination(ctx, {2, 4});
  mk::grow_copy(ctx, source, 0, Map{2, 0}, {}, destination.view());
  destination.check_guards(ctx);
  const auto result = destination.values(ctx);
  for (int k = 0; k < 4; ++k) {
    CHECK(result[at(k)] == values[at(1 + 8 + k)]);
    CHECK(result[at(4 + k)] == values[at(1 + k)]);
  }
}

TEST_CASE("grow_copy: maps and shapes that do not fit are named") {
  ms::Context ctx({.seed = 1});
  const auto source = ms::zeros<float>(ctx, {3, 4});
  const auto fresh = ms::zeros<float>(ctx, {1, 4});
  auto destination = ms::zeros<float>(ctx, {5, 4});
  const auto message = [&](int axis, const Map& map, ms::View<const float> fresh_view, ms::View<float> to) {
    return support::message_of<ms::ShapeError>([&] { mk::grow_copy(ctx, source.view(), axis, map, fresh_view, to); });
  };
  CHECK(message(2, {0}, {}, destination.view()) == "grow_copy: axis 2 does not exist in the source of shape (3, 4)");
  CHECK(message(-1, {0}, {}, destination.view()) == "grow_copy: axis -1 does not exist in the source of shape (3, 4)");
  CHECK(message(0, {0, 1, 2, -1}, {}, destination.view()) ==
        "grow_copy: a source of shape (3, 4) and a map of 4 indices on axis 0 give shape (4, 4), but the destination "
        "has (5, 4)");
  CHECK(message(1, {0, 1, 2, 3, -1}, {}, destination.view()) ==
        "grow_copy: a source of shape (3, 4) and a map of 5 indices on axis 1 give shape (3, 5), but the destination "
        "has (5, 4)");
  CHECK(message(0, {0, 1, 2, 3, -1}, {}, destination.view()) ==
        "grow_copy: map[3] is 3; it must be -1 for a new index or an index of axis 0 of the source of shape (3, 4)");
  CHECK(message(0, {0, 1, 2, -2, -1}, {}, destination.view()) ==
        "grow_copy: map[3] is -2; it must be -1 for a new index or an index of axis 0 of the source of shape (3, 4)");
  CHECK(message(0, {0, 1, 2, -1, -1}, fresh.view(), destination.view()) ==
        "grow_copy: the map has 2 new indices on axis 0, so fresh must have shape (2, 4); got (1, 4)");
  auto wide = ms::zeros<float>(ctx, {5, 6});
  CHECK(message(0, {0, 1, 2, 0, -1}, {}, wide.view().slice(1, 0, 4)) ==
        "grow_copy: source, fresh and destination must be contiguous; one of them is strided");
  auto both = ms::zeros<float>(ctx, {7, 4});
  CHECK(support::message_of<ms::ArgumentError>([&] {
          mk::grow_copy(ctx, ms::View<const float>(both.view()).slice(0, 0, 3), 0, Map{0, 1, 2, -1, -1}, {},
                        both.view().slice(0, 2, 7));
        }) == "grow_copy: the destination of shape (5, 4) overlaps an input; give it memory of its own");
}

TEST_SUITE_END();

}  // namespace kernels_grow_copy_test
