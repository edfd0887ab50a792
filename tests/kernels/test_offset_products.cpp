#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/offset_products.cuh>
#include <support/check.hpp>

namespace kernels_offset_products_test {

namespace ms = meristem;
namespace mk = meristem::kernels;
using mk::IndexRange;
using mk::OffsetPath;
using mk::OffsetProduct;

namespace {

struct Extents {
  std::int64_t n, rows, columns, channels;
  [[nodiscard]] ms::Shape shape() const { return {n, rows, columns, channels}; }
};

template <class T>
double at(const std::vector<T>& values, const Extents& e, std::int64_t i, std::int64_t y, std::int64_t x,
          std::int64_t c) {
  if (y < 0 || x < 0 || y >= e.rows || x >= e.columns) return 0.0;
  return static_cast<double>(values[static_cast<std::size_t>(((i * e.rows + y) * e.columns + x) * e.channels + c)]);
}

/// The sum of the file's head, after what `out` held.
template <class T>
std::vector<double> plain(const OffsetProduct& p, const std::vector<T>& a, const Extents& ea, const std::vector<T>& b,
                          const Extents& eb, double held) {
  std::vector<double> result;
  for (std::int64_t c = p.channels.begin; c < p.channels.end; ++c) {
    for (std::int64_t o = 0; o < p.offsets; ++o) {
      for (std::int64_t q = 0; q < eb.channels; ++q) {
        double sum = held;
        for (std::int64_t i = 0; i < ea.n; ++i) {
          for (const IndexRange& rows : p.rows) {
            for (std::int64_t y = rows.begin; y < rows.end; ++y) {
              for (const IndexRange& columns : p.columns) {
                for (std::int64_t x = columns.begin; x < columns.end; ++x) {
                  sum += at(a, ea, i, y, x, c) * at(b, eb, i, y + p.dy, x + p.dx + o, q);
                }
              }
            }
          }
        }
        result.push_back(sum);
      }
    }
  }
  return result;
}

std::int64_t size_of(const OffsetProduct& p, const Extents& b) { return p.channels.size() * p.offsets * b.channels; }

/// Adds every product to sums of its own that hold 0.5 (in the first slab) and compares with the plain loops.
template <class T>
void check(ms::Context& ctx, const Extents& ea, const Extents& eb, bool same, std::vector<OffsetProduct> products,
           std::int64_t slabs, OffsetPath path) {
  const auto a = support::normal_values<T>(ea.shape().size(), 1);
  const auto b = same ? a : support::normal_values<T>(eb.shape().size(), 2);
  const auto left = ms::from_host<T>(ctx, ea.shape(), a);
  const auto other = ms::from_host<T>(ctx, eb.shape(), b);
  std::int64_t total = 0;
  for (OffsetProduct& product : products) {
    product.place = total;
    total += size_of(product, eb);
  }
  support::Guarded<T> out(ctx, {slabs, total}, T(0));
  mk::fill(ctx, T(0.5), out.view().slice(0, 0, 1).reshape({total}));
  std::vector<std::int64_t> positions(products.size(), 0);
  mk::accumulate_offset_products<T>(
      ctx, left, same ? left.view() : other.view(), products, slabs,
      [&](std::size_t i, std::int64_t slab, std::int64_t count) {
#if defined(_OPENMP)
#pragma omp critical
#endif
        positions[i] += count;
        return out.view().data_handle() + slab * total + products[i].place;
      },
      path);
  const std::vector<T> all = out.values(ctx);
  for (std::size_t i = 0; i < products.size(); ++i) {
    INFO("product ", i, ", slabs ", slabs, ", path ", static_cast<int>(path));
    std::vector<double> sums(static_cast<std::size_t>(size_of(products[i], eb)), 0.0);
    for (std::int64_t slab = 0; slab < slabs; ++slab) {
      for (std::size_t k = 0; k < sums.size(); ++k) {
        sums[k] += static_cast<double>(all[static_cast<std::size_t>(slab * total + products[i].place) + k]);
      }
    }
    std::int64_t terms = 0;
    for (const IndexRange& rows : products[i].rows) {
      for (const IndexRange& columns : products[i].columns) terms += ea.n * rows.size() * columns.size();
    }
    // Products of normal numbers, below 16 all of them; a sum in any order is off by at most a rounding for each term.
    support::check_close(sums, plain(products[i], a, ea, b, eb, 0.5),
                         static_cast<double>(terms + 2) * support::eps<T> * 16 * static_cast<double>(terms + 1));
    if (path == OffsetPath::blas) CHECK(positions[i] == terms);
  }
  out.check_guards(ctx);
}

std::vector<OffsetProduct> some_products(const Extents& a, const Extents& b) {
  // With the row offset, rows have to lie on the map of b; columns need not.
  const std::int64_t rows = std::min(a.rows, b.rows);
  return {{{{0, rows}}, {{0, a.columns}}, 0, 0, 1, {0, a.channels}, 0},
          {{{0, rows}}, {{0, a.columns}}, 0, -2, 5, {0, a.channels}, 0},
          {{{0, rows - 1}}, {{0, a.columns}}, 1, -1, 3, {0, a.channels}, 0},
          {{{1, rows}}, {{a.columns - 1, a.columns}}, -1, -2, 4, {0, a.channels}, 0},
          {{{0, 1}, {rows - 1, rows}}, {{0, 1}, {2, a.columns}}, 0, 1, 2, {1, a.channels}, 0},
          {{{0, rows}}, {{0, a.columns}}, 0, b.columns, 2, {0, a.channels}, 0}};
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("offset products: equal plain loops, for equal and different maps, on both paths", T, float,
                   double) {
  ms::Context ctx;
  for (const OffsetPath path : {OffsetPath::automatic, OffsetPath::blas, OffsetPath::kernel}) {
    for (const std::int64_t slabs : {1, 3}) {
      if (slabs > 1 && path != OffsetPath::blas) continue;
      for (const std::int64_t n : {1, 2, 7}) {
        check<T>(ctx, {n, 5, 6, 3}, {n, 5, 6, 3}, true, some_products({n, 5, 6, 3}, {n, 5, 6, 3}), slabs, path);
        check<T>(ctx, {n, 4, 6, 3}, {n, 5, 7, 4}, false, some_products({n, 4, 6, 3}, {n, 5, 7, 4}), slabs, path);
        check<T>(ctx, {n, 3, 3, 20}, {n, 3, 9, 1}, false, some_products({n, 3, 3, 20}, {n, 3, 9, 1}), slabs, path);
      }
    }
  }
}

TEST_CASE("offset products: maps larger than a group, and depths that are cut") {
  ms::Context ctx;
  // 400 KiB each: two maps of a side are interleaved at a time, and no product takes all their rows at once.
  const Extents e{5, 40, 40, 64};
  check<float>(ctx, e, e, true,
               {{{{0, 40}}, {{0, 40}}, 0, 0, 1, {0, 2}, 0}, {{{0, 39}}, {{3, 40}}, 1, -1, 2, {60, 64}, 0}}, 1,
               OffsetPath::blas);
}

TEST_CASE("offset products: every way of running a block gives the same") {
  support::for_every_executor([](ms::Context& ctx) {
    check<double>(ctx, {2, 4, 3, 2}, {2, 4, 3, 2}, true, some_products({2, 4, 3, 2}, {2, 4, 3, 2}), 1,
                  OffsetPath::blas);
  });
}

TEST_CASE("offset products: the same bits for any number of threads") {
  const auto run = [](int threads) {
    ms::ContextOptions options;
    options.executor.threads = threads;
    ms::Context ctx(options);
    const auto a = ms::from_host<float>(ctx, {9, 12, 12, 48}, support::normal_values<float>(9 * 144 * 48, 5));
    std::vector<OffsetProduct> products = some_products({9, 12, 12, 48}, {9, 12, 12, 48});
    std::int64_t total = 0;
    for (OffsetProduct& product : products) {
      product.place = total;
      total += size_of(product, {9, 12, 12, 48});
    }
    auto out = ms::zeros<float>(ctx, {2, total});
    mk::accumulate_offset_products<float>(ctx, a, a, products, 2, [&](std::size_t i, std::int64_t slab, std::int64_t) {
      return out.data() + slab * total + products[i].place;
    });
    return ms::to_host(ctx, out);
  };
  const std::vector<float> one = run(1);
  support::check_same_bits(run(1), one, "twice");
  support::check_same_bits(run(2), one, "two threads");
}

TEST_CASE("offset products: maps that do not fit are refused; empty ones add nothing") {
  ms::Context ctx;
  const auto a = ms::zeros<float>(ctx, {2, 3, 3, 1}), b = ms::zeros<float>(ctx, {3, 3, 3, 1});
  const std::vector<OffsetProduct> products = some_products({2, 3, 3, 1}, {3, 3, 3, 1});
  const auto never = [](std::size_t, std::int64_t, std::int64_t) -> float* {
    FAIL("nothing is to be added");
    return nullptr;
  };
  CHECK(support::contains(support::message_of<ms::ShapeError>(
                              [&] { mk::accumulate_offset_products<float>(ctx, a, b, products, 1, never); }),
                          "accumulate_offset_products: a and b must have rank 4 (samples, rows, columns, channels) and "
                          "the same number of samples; got shapes (2, 3, 3, 1) and (3, 3, 3, 1)"));
  CHECK(support::contains(support::message_of<ms::ShapeError>([&] {
                            mk::accumulate_offset_products<float>(ctx, a.view().slice(2, 0, 2), b, products, 1, never);
                          }),
                          "a of shape (2, 3, 2, 1) is strided"));
  const ms::View<const float> none(nullptr, {0, 3, 3, 1});
  mk::accumulate_offset_products<float>(ctx, none, none, products, 1, never);
}

TEST_SUITE_END();

}  // namespace kernels_offset_products_test
