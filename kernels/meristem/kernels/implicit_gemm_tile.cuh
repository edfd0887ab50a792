// One tile of a convolution's matrix product, whose patch matrix is never formed: what a thread does of it.
//
//   forward   out[position, k]     = Σ_(tap, c) patch[position, (tap, c)] · w[k, tap, c]
//   data      out[position, c]     = Σ_(tap, k) patch[position, (tap, k)] · w[k, tap, c]     patches of the gradient dy
//   weights   out[(tap, c), k]     = Σ_position patch[position, (tap, c)] · dy[position, k]
//
// Rows of the product always come from the patches (implicit_gemm_places.cuh says where their elements lie), columns
// from a matrix; the sum runs over the product's `depth`, in stages.
//
// Shared memory is double-buffered: while a stage is multiplied, the next one waits in registers. Tile elements are
// stored in quads of neighbouring rows (columns), with a quad of padding after each depth: a warp that writes
// transposed then meets a bank twice, not up to sixteen times.
#pragma once

#include <cstddef>
#include <cstdint>

#include <meristem/core/config.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/kernels/implicit_gemm_places.cuh>

namespace meristem::kernels::implicit_gemm {

/// Four neighbouring elements, moved by loads and stores of 16 bytes.
template <class T>
struct alignas(16) Quad {
  T at[4];
};

/// A block's part of the output and how its threads divide it.
template <int Rows, int Columns, int EachRows, int EachColumns>
struct Tile {
  static constexpr int rows = Rows;
  static constexpr int columns = Columns;
  static constexpr int each_rows = EachRows;  ///< sums of a thread: each_rows × each_columns
  static constexpr int each_columns = EachColumns;
  static constexpr int threads_across = Columns / EachColumns;
  static constexpr int threads = Rows / EachRows * threads_across;
  /// Blocks that registers must leave room for on a multiprocessor, with elements of `bytes`.
  [[nodiscard]] static constexpr int resident(int bytes) { return (EachRows == 8 ? 512 : 640) * 4 / bytes / threads; }
};
using LargeTile = Tile<128, 64, 8, 4>;
using MediumTile = Tile<64, 32, 4, 4>;
using NarrowTile = Tile<128, 8, 4, 1>;

/// How the threads share the loads of one stage of an operand that is `Width` wide. Memory is contiguous either along
/// the depth, with a thread always at the same depth, or across the tile, by quads, with a thread always at the same
/// quad.
template <class T, int Width, int Threads>
struct Share {
  static constexpr int depth = stage_depth<T>;
  static constexpr int quads = depth * Width / 4;
  static constexpr int quads_each = (quads + Threads - 1) / Threads;
  static constexpr int singles = depth * Width;
  static constexpr int singles_each = (singles + Threads - 1) / Threads;
  static constexpr int held = 4 * quads_each > singles_each ? 4 * quads_each : singles_each;
  static_assert(Threads % depth == 0 && Threads % (Width / 4) == 0);

  static constexpr int line = Width / 4 + 1;  ///< quads from one depth of a stage to the next
  static constexpr int stage = depth * line;  ///< quads of a stage

  /// Where quad `q` of depth `k` lies in a stage.
  [[nodiscard]] MERISTEM_HD static int place(int k, int q) { return k * line + q; }
  /// The depth at which a thread loads along the depth.
  [[nodiscard]] MERISTEM_HD static int depth_of(int thread, bool by_quads) {
    return by_quads ? thread % (depth / 4) * 4 : thread % depth;
  }
  /// Stores what was loaded along the depth.
  MERISTEM_HD static void put_along(Quad<T>* stage, const T* values, int thread, bool by_quads) {
    const int k = depth_of(thread, by_quads);
    if (by_quads) {
      for (int i = 0; i < quads_each; ++i) {
        const int unit = thread + i * Threads;
        const int row = unit / (depth / 4);
        if (unit >= quads) break;
        for (int j = 0; j < 4; ++j) stage[place(k + j, row / 4)].at[row % 4] = values[4 * i + j];
      }
    } else {
      for (int i = 0; i < singles_each; ++i) {
        const int unit = thread + i * Threads;
        const int row = unit / depth;
        if (unit >= singles) break;
        stage[place(k, row / 4)].at[row % 4] = values[i];
      }
    }
  }
  /// Stores what was loaded across the tile.
  MERISTEM_HD static void put_across(Quad<T>* stage, const T* values, int thread) {
    for (int i = 0; i < quads_each; ++i) {
      const int unit = thread + i * Threads;
      if (unit >= quads) break;
      Quad<T> quad;
      for (int j = 0; j < 4; ++j) quad.at[j] = values[4 * i + j];
      stage[place(unit / (Width / 4), unit % (Width / 4))] = quad;
    }
  }
};

/// Moves four aligned elements into registers.
template <class T>
MERISTEM_HD inline void load_quad(const T* from, T* values) {
  const Quad<T> quad = *reinterpret_cast<const Quad<T>*>(from);
  for (int j = 0; j < 4; ++j) values[j] = quad.at[j];
}

/// to[i] = or += values[i] for i < limit; `by_quads` if four may be moved at once.
template <int Count, class T>
MERISTEM_HD inline void store(const T* values, T* to, int limit, bool by_quads, bool add) {
  if (Count == 4 && by_quads) {
    Quad<T> quad;
    if (add) quad = *reinterpret_cast<const Quad<T>*>(to);
    for (int j = 0; j < Count; ++j) quad.at[j] = add ? quad.at[j] + values[j] : values[j];
    *reinterpret_cast<Quad<T>*>(to) = quad;
    return;
  }
  for (int j = 0; j < Count; ++j) {
    if (j < limit) to[j] = add ? to[j] + values[j] : values[j];
  }
}

/// Moves elements [column, column + 4) of a row of `columns` into registers, as far as the row goes.
template <class T>
MERISTEM_HD inline void load_columns(const T* row, int column, int columns, bool by_quads, T* values) {
  if (by_quads) {
    if (column < columns) load_quad(row + column, values);
    return;
  }
  for (int j = 0; j < 4; ++j) {
    if (column + j < columns) values[j] = row[column + j];
  }
}

/// The registers of a thread.
template <class T, class Tile, Direction direction>
struct Registers {
  using RowShare = Share<T, Tile::rows, Tile::threads>;
  using ColumnShare = Share<T, Tile::columns, Tile::threads>;
  static constexpr int row_counters = direction == Direction::weights ? RowShare::quads_each : 1;

  T total[Tile::each_rows][Tile::each_columns];
  T row_values[RowShare::held];
  T column_values[ColumnShare::held];
  Counter row_counter[row_counters];
  Counter column_counter;  ///< for `data`
  T column_sum[4];         ///< for `weights`: of the columns that this thread loads
};

template <class T, class Tile, Direction direction>
MERISTEM_HD inline void start(const Problem<T>& problem, const Job<T>& job, int thread,
                              Registers<T, Tile, direction>& own) {
  using Own = Registers<T, Tile, direction>;
  using Rows = typename Own::RowShare;
  for (int i = 0; i < Tile::each_rows; ++i) {
    for (int j = 0; j < Tile::each_columns; ++j) own.total[i][j] = T(0);
  }
  if constexpr (direction == Direction::weights) {
    for (int j = 0; j < 4; ++j) own.column_sum[j] = T(0);
  }
  if (job.begin >= job.end) return;
  if constexpr (direction == Direction::weights) {
    for (int i = 0; i < Own::row_counters; ++i) {
      own.row_counter[i] = job.counting.at(job.begin + (thread + i * Tile::threads) / (Tile::rows / 4));
    }
  } else {
    own.row_counter[0] = job.counting.at(Rows::depth_of(thread, problem.source_quads));
  }
  if constexpr (direction == Direction::data) {
    static_assert(Own::ColumnShare::quads_each == 1);
    own.column_counter = job.counting.at(thread / (Tile::columns / 4));
  }
}

/// Loads this thread's elements of the stage at `depth`, zeros where the map or the product ends.
template <class T, class Tile, Direction direction>
MERISTEM_HD inline void fetch(const Problem<T>& problem, const Job<T>& job, const Site* sites, int depth, int thread,
                              Registers<T, Tile, direction>& own) {
  using Rows = typename Registers<T, Tile, direction>::RowShare;
  using Columns = typename Registers<T, Tile, direction>::ColumnShare;
  const Gather& g = job.gather;
  for (int i = 0; i < Rows::held; ++i) own.row_values[i] = T(0);
  for (int i = 0; i < Columns::held; ++i) own.column_values[i] = T(0);

  if constexpr (direction == Direction::weights) {
    for (int i = 0; i < Rows::quads_each; ++i) {
      const int unit = thread + i * Tile::threads;
      const int row = unit % (Tile::rows / 4) * 4;
      if (depth + unit / (Tile::rows / 4) < job.end) {
        const Site position = g.position(own.row_counter[i].high, own.row_counter[i].middle, own.row_counter[i].low);
        if (problem.source_quads) {
          const Site tap = sites[row];
          if (g.contains(position, tap))
            load_quad(problem.source + (position.offset + tap.offset), &own.row_values[4 * i]);
        } else {
          for (int j = 0; j < 4; ++j) {
            const Site tap = sites[row + j];
            if (g.contains(position, tap)) own.row_values[4 * i + j] = problem.source[position.offset + tap.offset];
          }
        }
      }
      job.counting.advance(own.row_counter[i]);
    }
  } else {
    if (depth + Rows::depth_of(thread, problem.source_quads) < job.end) {
      const Site tap = g.tap(own.row_counter[0].high, own.row_counter[0].middle, own.row_counter[0].low);
      if (problem.source_quads) {
        for (int i = 0; i < Rows::quads_each; ++i) {
          const Site position = sites[(thread + i * Tile::threads) / (Rows::depth / 4)];
          if (g.contains(position, tap))
            load_quad(problem.source + (position.offset + tap.offset), &own.row_values[4 * i]);
        }
      } else {
        for (int i = 0; i < Rows::singles_each; ++i) {
          const Site position = sites[(thread + i * Tile::threads) / Rows::depth];
          if (g.contains(position, tap)) own.row_values[i] = problem.source[position.offset + tap.offset];
        }
      }
    }
    job.counting.advance(own.row_counter[0]);
  }

  if constexpr (direction == Direction::forward) {
    const int k = depth + Columns::depth_of(thread, problem.matrix_quads);
    if (k < job.end) {
      if (problem.matrix_quads) {
        for (int i = 0; i < Columns::quads_each; ++i) {
          const int unit = thread + i * Tile::threads;
          const int column = job.first_column + unit / (Columns::depth / 4);
          if (unit < Columns::quads && column < problem.columns) {
            load_quad(problem.matrix + (column * problem.patch + k), &own.column_values[4 * i]);
          }
        }
      } else {
        for (int i = 0; i < Columns::singles_each; ++i) {
          const int unit = thread + i * Tile::threads;
          const int column = job.first_column + unit / Columns::depth;
          if (unit < Columns::singles && column < problem.columns) {
            own.column_values[i] = problem.matrix[column * problem.patch + k];
          }
        }
      }
    }
  } else {
    for (int i = 0; i < Columns::quads_each; ++i) {
      const int unit = thread + i * Tile::threads;
      const int k = depth + unit / (Tile::columns / 4);
      if (unit < Columns::quads && k < job.end) {
        int row;
        if constexpr (direction == Direction::data) {
          const Counter& counter = own.column_counter;
          row = job.matrix_start + counter.low * problem.patch + counter.middle * problem.matrix_tap_x +
                counter.high * problem.matrix_tap_y;
        } else {
          row = k * problem.columns;
        }
        load_columns(problem.matrix + row, job.first_column + unit % (Tile::columns / 4) * 4, problem.columns,
                     problem.matrix_quads, &own.column_values[4 * i]);
      }
    }
    if constexpr (direction == Direction::data) job.counting.advance(own.column_counter);
  }
}

/// Stores what `fetch` loaded to the stage's place in shared memory.
template <class T, class Tile, Direction direction>
MERISTEM_HD inline void put(const Problem<T>& problem, int thread, Registers<T, Tile, direction>& own, Quad<T>* left,
                            Quad<T>* right) {
  using Rows = typename Registers<T, Tile, direction>::RowShare;
  using Columns = typename Registers<T, Tile, direction>::ColumnShare;
  if constexpr (direction == Direction::weights) {
    Rows::put_across(left, own.row_values, thread);
  } else {
    Rows::put_along(left, own.row_values, thread, problem.source_quads);
  }
  if constexpr (direction == Direction::forward) {
    Columns::put_along(right, own.column_values, thread, problem.matrix_quads);
  } else {
    Columns::put_across(right, own.column_values, thread);
  }
  if constexpr (direction == Direction::weights) {
    static_assert(Columns::quads_each == 1);
    for (int j = 0; j < 4; ++j) own.column_sum[j] += own.column_values[j];
  }
}

/// A thread's place among the sums. The 32 threads of a warp lie 8 across where the tile allows it: they read 4 + 8
/// different quads.
template <class Tile>
struct Micro {
  static constexpr int lanes_across = Tile::threads_across < 8 ? Tile::threads_across : 8;
  static constexpr int warps_across = Tile::threads_across / lanes_across;
  static constexpr int row_quads = Tile::each_rows / 4;
  int across;
  int down;

  explicit MERISTEM_HD Micro(int thread)
      : across(thread / 32 % warps_across * lanes_across + thread % 32 % lanes_across),
        down(thread / 32 / warps_across * (32 / lanes_across) + thread % 32 / lanes_across) {}

  /// Quad `h` of the thread's rows, in quads.
  [[nodiscard]] MERISTEM_HD int row_quad(int h) const { return h * (Tile::rows / 4 / row_quads) + down; }
  [[nodiscard]] MERISTEM_HD int column() const { return across * Tile::each_columns; }
};

template <class T, class Tile, Direction direction>
MERISTEM_HD inline void multiply(const Quad<T>* left, const Quad<T>* right, int thread,
                                 Registers<T, Tile, direction>& own) {
  using Rows = typename Registers<T, Tile, direction>::RowShare;
  using Columns = typename Registers<T, Tile, direction>::ColumnShare;
  const Micro<Tile> micro(thread);
  for (int k = 0; k < Rows::depth; ++k) {
    T a[Tile::each_rows];
    T b[Tile::each_columns];
    for (int h = 0; h < Micro<Tile>::row_quads; ++h) {
      const Quad<T> quad = left[Rows::place(k, micro.row_quad(h))];
      for (int i = 0; i < 4; ++i) a[4 * h + i] = quad.at[i];
    }
    const Quad<T>& quad = right[Columns::place(k, micro.column() / 4)];
    for (int j = 0; j < Tile::each_columns; ++j) b[j] = quad.at[micro.column() % 4 + j];
    for (int i = 0; i < Tile::each_rows; ++i) {
      for (int j = 0; j < Tile::each_columns; ++j) own.total[i][j] += a[i] * b[j];
    }
  }
}

/// An element of the product with the bias, if there is one.
template <class T>
MERISTEM_HD inline T biased(const Problem<T>& problem, const Job<T>& job, int column, T value) {
  const int at = job.first_column + column;
  return problem.bias != nullptr && at < problem.columns ? value + problem.bias[at] : value;
}

/// Writes (= or +=) this thread's sums: (row, column) of the product to its position in the map and channel, for
/// `weights` to column · patch + row of the slab.
template <class T, class Tile, Direction direction>
MERISTEM_HD inline void finish(const Problem<T>& problem, const Job<T>& job, const Site* sites, int slab, int thread,
                               const Registers<T, Tile, direction>& own) {
  const Micro<Tile> micro(thread);
  const int first_column = job.first_column + micro.column();
  for (int h = 0; h < Micro<Tile>::row_quads; ++h) {
    const int first_row = job.first_row + micro.row_quad(h) * 4;
    if constexpr (direction == Direction::weights) {
      T* const out = problem.out + static_cast<std::int64_t>(slab) * problem.slab_size;
      for (int j = 0; j < Tile::each_columns; ++j) {
        if (first_column + j >= problem.columns || first_row >= job.rows) continue;
        T values[4];
        for (int i = 0; i < 4; ++i) values[i] = own.total[4 * h + i][j];
        store<4>(values, out + ((first_column + j) * problem.patch + first_row), job.rows - first_row,
                 problem.out_quads, problem.add);
      }
    } else {
      for (int i = 0; i < 4; ++i) {
        const int target = sites[micro.row_quad(h) * 4 + i].target;
        if (target < 0 || first_column >= problem.columns) continue;
        T values[Tile::each_columns];
        for (int j = 0; j < Tile::each_columns; ++j) {
          values[j] = own.total[4 * h + i][j];
          if (direction == Direction::forward) values[j] = biased(problem, job, micro.column() + j, values[j]);
        }
        store<Tile::each_columns>(values, problem.out + (target * problem.columns + first_column),
                                  problem.columns - first_column, problem.out_quads,
                                  direction == Direction::data && problem.add);
      }
    }
  }
}

}  // namespace meristem::kernels::implicit_gemm
