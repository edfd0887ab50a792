// Products AᵀB over many rows, tile by tile: what covariance.cuh and cross_covariance.cuh share.
//
//   out[i, j] += Σ_r a[r, i] · w[r] · b[r, j]     a: rows × p,  b: rows × q,  out: p × q  (w = 1 without weights)
//   out[p, j] += Σ_r w[r] · b[r, j]               the bias row: a has a last column of ones that is never stored
//
// The rows are cut into slabs. `row_product_kernel`: one block computes one tile of 64 × Width products over one slab
// and overwrites (=) its place in a scratch array; `AddSlabs` then adds the slabs to `out` (+=) in their order. The
// number of slabs follows from the shapes alone and nothing is atomic, so equal inputs give equal bits.
//
// Order of a float32 sum: inside a slab of R rows one row after the other in float32, over slabs in double. Hence
// |error| <= (R + 3)·2^-24·Σ_r |a w b| + 2^-24·|out| for every element.
#pragma once

#include <algorithm>
#include <cstdint>

#include <meristem/core/blas.hpp>
#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::kernels {

/// How a covariance is computed.
enum class CovariancePath {
  automatic,  ///< the CPU takes `blas`; the GPU `kernel` up to `largest_kernel_width` columns, `blas` above
  kernel,     ///< the tile kernel of row_product.cuh
  blas,       ///< syrk and gemm; on the GPU these follow the matmul precision of the Context
};

/// Widest matrix for which the GPU uses the tile kernel by default. Up to here there are too few tiles of the output to
/// fill a GPU unless the rows are split as well. bench/covariance.cpp times both paths.
inline constexpr std::int64_t largest_kernel_width = 512;

namespace row_product {

/// Rows of a tile of the output.
inline constexpr int tile_rows = 64;
/// Rows of the inputs staged in shared memory at a time.
inline constexpr int depth = 16;
/// Threads of a block on the GPU: 16 × 16, each with 4 × (Width / 16) sums in registers.
inline constexpr int block_size = 256;

/// Four neighbouring elements, moved by loads of 16 bytes.
template <class T>
struct alignas(16) Quad {
  T at[4];
};

/// One product, as the kernel sees it.
template <class T>
struct Problem {
  const T* a;
  std::int64_t a_stride;
  std::int64_t p;
  const T* b;
  std::int64_t b_stride;
  std::int64_t q;
  const T* weight;  ///< null: all ones
  std::int64_t rows;
  bool lower;      ///< a and b are the same matrix and only tiles on or below the diagonal are wanted
  bool bias;       ///< the sums of the columns of b are wanted too
  bool a_aligned;  ///< rows of a start at multiples of 16 bytes
  bool b_aligned;
  int width;  ///< columns of a tile
  std::int64_t row_tiles;
  std::int64_t column_tiles;
  std::int64_t tiles;
  std::int64_t slabs;
  std::int64_t slab_rows;
  T* products;  ///< (slabs, tiles, tile_rows, width)
  T* sums;      ///< (slabs, column_tiles · width + 1): column sums of w·b, then the sum of w

  [[nodiscard]] MERISTEM_HD std::int64_t tile_index(std::int64_t row, std::int64_t column) const {
    return lower ? row * (row + 1) / 2 + column : row * column_tiles + column;
  }
  [[nodiscard]] MERISTEM_HD std::int64_t sums_stride() const { return column_tiles * width + 1; }
};

/// Columns [column, column + 4) of one row of a matrix with `columns` columns; zeros beyond them.
template <class T>
MERISTEM_HD inline Quad<T> load_quad(const T* row, std::int64_t column, std::int64_t columns, bool aligned) {
  if (aligned && column + 4 <= columns) return *reinterpret_cast<const Quad<T>*>(row + column);
  Quad<T> quad{};
  for (int j = 0; j < 4; ++j) {
    if (column + j < columns) quad.at[j] = row[column + j];
  }
  return quad;
}

/// Grid: (tiles, slabs). Any block size gives the same bits.
template <class T, int Width>
__global__ void row_product_kernel(Problem<T> problem) {
  constexpr int row_quads = tile_rows / 4;
  constexpr int column_quads = Width / 4;
  constexpr int columns_each = Width / 16;
  MERISTEM_SHARED(Quad<T>, left, [depth * row_quads]);
  MERISTEM_SHARED(Quad<T>, right, [depth * column_quads]);
  MERISTEM_SHARED(T, sums, [Width + 1]);

  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const std::int64_t tile = blockIdx.x;
  const std::int64_t slab = blockIdx.y;
  std::int64_t row_tile = 0;
  std::int64_t column_tile = 0;
  if (problem.lower) {
    while ((row_tile + 1) * (row_tile + 2) / 2 <= tile) ++row_tile;
    column_tile = tile - row_tile * (row_tile + 1) / 2;
  } else {
    row_tile = tile / problem.column_tiles;
    column_tile = tile % problem.column_tiles;
  }
  const std::int64_t first_row = slab * problem.slab_rows;
  const std::int64_t last_row =
      first_row + problem.slab_rows < problem.rows ? first_row + problem.slab_rows : problem.rows;
  const std::int64_t a_column = row_tile * tile_rows;
  const std::int64_t b_column = column_tile * Width;
  const bool same = problem.lower && row_tile == column_tile && problem.weight == nullptr;
  const bool sums_here = problem.bias && (problem.lower ? row_tile == column_tile : row_tile == 0);
  const Quad<T>* const b_tile = same ? &left[0] : &right[0];

  if (sums_here) {
    for (int c = thread; c <= Width; c += threads) sums[c] = T(0);
  }
  // With fewer threads than sums to hold the slab is read several times; the GPU's block makes one pass.
  for (int pass = 0; pass < block_size; pass += threads) {
    const int micro = pass + thread;
    const int micro_row = micro / 16;
    const int micro_column = micro % 16;
    T total[4][columns_each] = {};
    for (std::int64_t row = first_row; row < last_row; row += depth) {
      __syncthreads();
      for (int e = thread; e < depth * row_quads; e += threads) {
        const std::int64_t r = row + e / row_quads;
        const std::int64_t column = a_column + e % row_quads * 4;
        left[e] = r < last_row ? load_quad(problem.a + r * problem.a_stride, column, problem.p, problem.a_aligned)
                               : Quad<T>{};
      }
      if (!same) {
        for (int e = thread; e < depth * column_quads; e += threads) {
          const std::int64_t r = row + e / column_quads;
          const std::int64_t column = b_column + e % column_quads * 4;
          Quad<T> quad{};
          if (r < last_row) {
            quad = load_quad(problem.b + r * problem.b_stride, column, problem.q, problem.b_aligned);
            if (problem.weight != nullptr) {
              for (int j = 0; j < 4; ++j) quad.at[j] *= problem.weight[r];
            }
          }
          right[e] = quad;
        }
      }
      __syncthreads();
      if (micro < block_size) {
        for (int k = 0; k < depth; ++k) {
          const Quad<T> a = left[k * row_quads + micro_row];
          T b[columns_each];
          if constexpr (columns_each == 4) {
            const Quad<T> quad = b_tile[k * column_quads + micro_column];
            for (int j = 0; j < 4; ++j) b[j] = quad.at[j];
          } else {
            b[0] = b_tile[k * column_quads + micro_column / 4].at[micro_column % 4];
          }
          for (int i = 0; i < 4; ++i) {
            for (int j = 0; j < columns_each; ++j) total[i][j] += a.at[i] * b[j];
          }
        }
      }
      if (sums_here && pass == 0) {
        for (int c = thread; c <= Width; c += threads) {
          T sum = sums[c];
          for (int k = 0; k < depth; ++k) {
            if (c < Width) {
              sum += b_tile[k * column_quads + c / 4].at[c % 4];
            } else if (row + k < last_row) {
              sum += problem.weight == nullptr ? T(1) : problem.weight[row + k];
            }
          }
          sums[c] = sum;
        }
      }
    }
    if (micro < block_size) {
      T* const out = problem.products + (slab * problem.tiles + tile) * (tile_rows * Width);
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < columns_each; ++j) {
          out[(micro_row * 4 + i) * Width + micro_column * columns_each + j] = total[i][j];
        }
      }
    }
  }
  if (sums_here) {
    T* const out = problem.sums + slab * problem.sums_stride();
    for (int c = thread; c < Width; c += threads) out[b_column + c] = sums[c];
    // The sum of the weights is written once, by whoever holds it.
    if (column_tile == 0 && Width % threads == thread) out[problem.column_tiles * Width] = sums[Width];
  }
}

/// out(i, j) += the sum of all slabs.
template <class T>
struct AddSlabs {
  Problem<T> problem;
  T* out;
  std::int64_t out_stride;

  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const {
    if (problem.lower && j > i) return;
    const T* from;
    std::int64_t stride;
    if (i == problem.p) {
      stride = problem.sums_stride();
      from = problem.sums + (j == problem.q ? stride - 1 : j);
    } else {
      const std::int64_t tile = problem.tile_index(i / tile_rows, j / problem.width);
      stride = problem.tiles * tile_rows * problem.width;
      from = problem.products + (tile * tile_rows + i % tile_rows) * problem.width + j % problem.width;
    }
    double total = 0.0;
    for (std::int64_t slab = 0; slab < problem.slabs; ++slab) total += static_cast<double>(from[slab * stride]);
    T& element = out[i * out_stride + j];
    element = static_cast<T>(static_cast<double>(element) + total);
  }
};

/// Whether every row of a matrix starts at a multiple of 16 bytes.
template <class T>
[[nodiscard]] inline bool rows_aligned(View<const T> matrix) {
  return reinterpret_cast<std::uintptr_t>(matrix.data_handle()) % 16 == 0 &&
         matrix.stride(0) * static_cast<std::int64_t>(sizeof(T)) % 16 == 0;
}

/// out += [a 1]ᵀ diag(weight) b by the tile kernel; `lower`: b is a, and only the lower triangle of out is touched,
/// the corner (the sum of the weights) included. The caller has checked the shapes.
template <class T>
void accumulate(Context& ctx, View<const T> a, View<const T> b, const T* weight, bool bias, bool lower, View<T> out) {
  Problem<T> problem{};
  problem.a = a.data_handle();
  problem.a_stride = a.stride(0);
  problem.p = a.extent(1);
  problem.b = b.data_handle();
  problem.b_stride = b.stride(0);
  problem.q = b.extent(1);
  problem.weight = weight;
  problem.rows = a.extent(0);
  problem.lower = lower;
  problem.bias = bias;
  problem.a_aligned = rows_aligned(a);
  problem.b_aligned = rows_aligned(b);
  problem.width = !lower && problem.q <= 16 ? 16 : tile_rows;
  problem.row_tiles = std::max<std::int64_t>(1, (problem.p + tile_rows - 1) / tile_rows);
  problem.column_tiles = std::max<std::int64_t>(1, (problem.q + problem.width - 1) / problem.width);
  problem.tiles = lower ? problem.row_tiles * (problem.row_tiles + 1) / 2 : problem.row_tiles * problem.column_tiles;

  // About 512 blocks give every multiprocessor of a large GPU several; the last addition is serial over the slabs.
  constexpr std::int64_t target_blocks = 512;
  constexpr std::int64_t most_slabs = 128;
  constexpr std::int64_t least_slab_rows = 64;
  const std::int64_t wanted = std::min({std::max<std::int64_t>(1, target_blocks / problem.tiles), most_slabs,
                                        (problem.rows + least_slab_rows - 1) / least_slab_rows});
  problem.slab_rows = ((problem.rows + wanted - 1) / wanted + depth - 1) / depth * depth;
  problem.slabs = (problem.rows + problem.slab_rows - 1) / problem.slab_rows;

  auto products = empty<T>(ctx, {problem.slabs, problem.tiles, tile_rows, problem.width});
  auto sums = empty<T>(ctx, {problem.slabs, problem.sums_stride()});
  problem.products = products.data();
  problem.sums = sums.data();
  const dim3 grid(static_cast<unsigned>(problem.tiles), static_cast<unsigned>(problem.slabs));
  const unsigned block = block_threads(ctx, block_size);
  if (problem.width == 16) {
    launch<row_product_kernel<T, 16>>(ctx, grid, block, 0, problem);
  } else {
    launch<row_product_kernel<T, 64>>(ctx, grid, block, 0, problem);
  }
  for_each(ctx, out.extent(0), out.extent(1), AddSlabs<T>{problem, out.data_handle(), out.stride(0)});
}

/// row += wᵀ b, the bias row beside a product that BLAS computes. `row` has the q columns of b and is contiguous;
/// `weight` holds one number for each row of b, or is a default view, which means ones.
template <class T>
void accumulate_bias_row(Context& ctx, View<const T> weight, View<const T> b, View<T> row) {
  const std::int64_t n = b.extent(0);
  if (b.extent(1) == 0) return;
  if (weight.rank() == 0 && b.is_contiguous()) {
    column_sums(ctx, b, row, Accumulate::accumulate);
    return;
  }
  Tensor<T> ones;
  if (weight.rank() == 0) {
    ones = empty<T>(ctx, {n});
    fill(ctx, T(1), ones.view());
    weight = ones.view();
  }
  gemm(ctx, Transpose::no, Transpose::no, T(1), weight.reshape({1, n}), b, T(1), row.reshape({1, row.extent(0)}));
}

/// Throws ShapeError unless `matrix` has rank 2 and rows that are contiguous and do not overlap.
template <class T>
void check_matrix(const char* function, const char* name, View<T> matrix) {
  static_cast<void>(meristem::detail::as_blas_matrix(function, name, matrix, SourceLocation::current()));
}

/// Whether the tile kernel computes a product whose larger output extent is `width`.
[[nodiscard]] inline bool use_kernel([[maybe_unused]] const Context& ctx, CovariancePath path,
                                     [[maybe_unused]] std::int64_t width) {
  if (path != CovariancePath::automatic) return path == CovariancePath::kernel;
#if MERISTEM_GPU
  // Statistics stay in full precision even where the network's products were allowed to use TF32.
  return width <= largest_kernel_width || ctx.options().numerics.matmul != MatmulPrecision::full;
#else
  return false;
#endif
}

}  // namespace row_product

}  // namespace meristem::kernels
