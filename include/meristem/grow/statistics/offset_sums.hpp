// Convolution statistics from products of shifted maps: which products are needed, their running sums, and how the
// statistics are put together from them.
//
// Along one axis a statistic is, for taps s and t, Σ_u w(u) L[u] R[u + δ]: δ depends on the pair (s, t), the weight w
// on the pair and on u. Away from the borders w is the same for all pairs. So the positions u fall into a few classes
// of equal weights; for each class of rows, class of columns and offset one matrix of sums is kept, and every block of
// the statistic is a weighted sum of these. Nothing is computed twice and nothing cancels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/core/window.hpp>
#include <meristem/grow/statistics/accumulator.hpp>
#include <meristem/grow/statistics/patch_geometry.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/offset_products.cuh>

namespace meristem::grow::detail {

/// A tap of the left and one of the right side, and how much each position of the left map counts for them.
struct TapPair {
  std::int64_t left = 0, right = 0;
  std::vector<double> weights;
};

/// All pairs of taps of one axis, by their offset.
struct PairTable {
  std::int64_t left_map = 0, right_map = 0;
  std::int64_t first = 0;                 ///< least offset
  std::vector<std::vector<TapPair>> at;   ///< at[offset - first]
  std::vector<std::int64_t> first_index;  ///< of the pairs of each offset, counted through
  std::int64_t count = 0;

  void add(std::int64_t offset, TapPair pair) {
    at[static_cast<std::size_t>(offset - first)].push_back(std::move(pair));
  }
  void finish();
  [[nodiscard]] std::int64_t last() const { return first + static_cast<std::int64_t>(at.size()) - 1; }
  [[nodiscard]] const std::vector<TapPair>& pairs(std::int64_t offset) const {
    return at[static_cast<std::size_t>(offset - first)];
  }
};

/// For S: both sides are the map that the window slides over by one.
[[nodiscard]] PairTable covariance_pairs(const WindowAxis& axis, const std::vector<double>& weights);

/// For N: left the outputs of the consumer with its taps (counted from the first that fans out), right the map with the
/// taps of the producer.
[[nodiscard]] PairTable cross_pairs(const WindowAxis& producer, const WindowAxis& consumer, FanOut fan_out);

/// A weighted sum of products makes a block of the statistic; these are its summands.
struct Term {
  std::int64_t place;   ///< of element (first channel, offset, 0) of the product
  std::int64_t stride;  ///< from channel to channel
  double weight;
};

/// What a statistic needs: products, and for every pair of taps (a row pair and a column pair) their weighted sum.
struct OffsetPlan {
  PairTable y, x;
  std::int64_t left_channels = 0, right_channels = 0;
  std::int64_t part_channels = 1;  ///< left channels of one product
  std::vector<kernels::OffsetProduct> products;
  std::vector<std::vector<Term>> terms;  ///< [(row pair · column pairs + column pair) · parts + part]
  std::int64_t elements = 0;             ///< of all results together
  double multiply_adds = 0.0;            ///< per sample
  double calls = 0.0;                    ///< of gemm, for each group of maps

  [[nodiscard]] std::int64_t parts() const { return (left_channels + part_channels - 1) / part_channels; }
};

/// `symmetric`: left and right are the same map, and blocks that are others transposed are left out. A plan with more
/// than `most_elements` is given up when that is clear: it is not complete.
[[nodiscard]] OffsetPlan plan_offsets(PairTable y, PairTable x, std::int64_t left_channels, std::int64_t right_channels,
                                      bool symmetric,
                                      std::int64_t most_elements = std::numeric_limits<std::int64_t>::max());

/// What the patches path does for one sample.
struct PatchWork {
  double rows, columns;  ///< extents of its products of matrices
  double multiply_adds;
  double gathered;  ///< numbers written: patches, and outputs at positions
  double results;   ///< numbers of the statistic
};

/// Sums that the offsets path may keep, as a multiple of the result's size.
inline constexpr std::int64_t most_sums = 4;

/// Which path is expected to take less time. Costs of one sample, in multiply-adds of a large product of matrices:
///   offsets   multiply-adds · narrow(m, n) + 10 for each number of the maps, `map_numbers` of both sides together
///             (copied and read), + 25,000 for each call of gemm, which serves a group of at most 64 samples
///   patches   multiply-adds · narrow(m, n) + 20 for each number gathered (written, then read)
/// narrow(m, n) = (1 + 4/m)(1 + 16/n) stands for what narrow products lose. bench/conv_statistics.cpp times both.
/// Where positions weigh so differently that the sums would be many times the result, the patches path as well.
template <Real T>
[[nodiscard]] PatchPath cheaper_path(const OffsetPlan& plan, std::int64_t map_numbers, const PatchWork& patches);

/// A block of the statistic from the sums of products.
struct BlockOf {
  const double* sums;
  const Term* terms;
  const std::int64_t* first_term;  ///< [block · parts + part], and the end
  const std::int64_t* left_tap;    ///< of a block, or -1 for one that is another one transposed
  const std::int64_t* right_tap;
  std::int64_t part_channels, parts, left_channels, right_channels;

  [[nodiscard]] MERISTEM_HD double value(std::int64_t block, std::int64_t c, std::int64_t q) const;
};

/// A square matrix.
struct SquareRows {
  double* result;
  std::int64_t stride;
};

/// S (p, p), from its blocks.
struct PlaceCovariance {
  BlockOf blocks;
  SquareRows to;
  MERISTEM_HD void operator()(std::int64_t block, std::int64_t c, std::int64_t q) const;
};

/// A matrix (p, columns) of each of one or two groups of `outputs` outputs; columns are [tap][output].
struct GroupedColumns {
  double *first, *second;
  std::int64_t outputs, columns;
  /// `m` counts the outputs of both.
  [[nodiscard]] MERISTEM_HD double& at(std::int64_t row, std::int64_t tap, std::int64_t m) const {
    const bool is_second = m >= outputs;
    return (is_second ? second : first)[row * columns + tap * outputs + (is_second ? m - outputs : m)];
  }
};

/// N (p, columns), from its blocks.
struct PlaceCross {
  BlockOf blocks;
  GroupedColumns to;
  MERISTEM_HD void operator()(std::int64_t block, std::int64_t c, std::int64_t q) const;
};

/// The running sums of a plan's products: recent ones in T, everything before in double.
template <Real T>
class OffsetSums {
 public:
  OffsetSums() = default;

  /// `taps_x`: taps of a row of the left and the right kernel; `symmetric` as for plan_offsets.
  OffsetSums(Context& ctx, OffsetPlan plan, std::pair<std::int64_t, std::int64_t> taps_x, bool symmetric);

  void add(Context& ctx, View<const T> a, View<const T> b);

  void merge(Context& ctx, const OffsetSums& other);

  /// The launch that writes factor · the sums to `to` (size), for `for_each_of`; nothing may be added before that.
  [[nodiscard]] Part<SettleSlabs<T>, 1> settled(double factor, double* to) {
    std::fill(positions_.begin(), positions_.end(), 0);
    return part(plan_.elements, SettleSlabs<T>{two_parts ? recent_.data() : nullptr, total_.data(), slabs_,
                                               plan_.elements, factor, to});
  }
  [[nodiscard]] std::int64_t size() const { return plan_.elements; }

  /// The launch that writes the statistic from such sums.
  template <class Place>
  [[nodiscard]] Part<Place, 3> placed(const Tensor<double>& sums, const decltype(Place::to)& to) const {
    const BlockOf blocks{sums.data(),      terms_.data(),       first_term_.data(),
                         left_tap_.data(), right_tap_.data(),   plan_.part_channels,
                         plan_.parts(),    plan_.left_channels, plan_.right_channels};
    return part(left_tap_.size(), plan_.left_channels, plan_.right_channels, Place{blocks, to});
  }

 private:
  static constexpr bool two_parts = !std::is_same_v<T, double>;

  T* target(Context& ctx, std::size_t i, std::int64_t slab, std::int64_t positions);

  void place_terms(Context& ctx, std::pair<std::int64_t, std::int64_t> taps_x, bool symmetric);

  OffsetPlan plan_;
  std::int64_t slabs_ = 1;
  Tensor<T> recent_;
  Tensor<double> total_;
  std::vector<std::int64_t> positions_;  // added up in recent_, by slab and product
  Tensor<Term> terms_;
  Tensor<std::int64_t> first_term_, left_tap_, right_tap_;
};

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/statistics/offset_sums_impl.hpp>
#endif
