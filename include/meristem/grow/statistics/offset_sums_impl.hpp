// Definitions of offset_sums.hpp.
#pragma once

#include <cmath>

#include <meristem/core/launch.hpp>
#include <meristem/grow/statistics/offset_sums.hpp>

namespace meristem::grow::detail {

inline constexpr double not_there = std::numeric_limits<double>::quiet_NaN();

/// Positions of the left map that weigh the same for all pairs of some neighbouring offsets.
struct PositionClass {
  std::vector<kernels::IndexRange> runs;
  kernels::IndexRange offsets;               ///< those with a weight that is not 0
  std::int64_t first = 0;                    ///< offset of weights[0]
  std::vector<std::vector<double>> weights;  ///< by offset, pair; NaN where no position has a partner on the map

  [[nodiscard]] std::int64_t positions() const;
  [[nodiscard]] double weight(std::int64_t offset, std::size_t pair) const {
    return weights[static_cast<std::size_t>(offset - first)][pair];
  }
};

MERISTEM_INLINE void PairTable::finish() {
  for (const auto& pairs : at) {
    first_index.push_back(count);
    count += static_cast<std::int64_t>(pairs.size());
  }
}

MERISTEM_INLINE PairTable covariance_pairs(const WindowAxis& axis, const std::vector<double>& weights) {
  PairTable table{axis.map, axis.map, 1 - axis.kernel, {}, {}, 0};
  table.at.resize(static_cast<std::size_t>(2 * axis.kernel - 1));
  for (std::int64_t s = 0; s < axis.kernel; ++s) {
    TapPair pair{s, 0, std::vector<double>(static_cast<std::size_t>(axis.map), 0.0)};
    for (std::int64_t y = 0; y < axis.outputs; ++y) {
      const std::int64_t u = axis.source(y, s);
      if (u >= 0 && u < axis.map) pair.weights[static_cast<std::size_t>(u)] = weights[static_cast<std::size_t>(y)];
    }
    for (std::int64_t t = 0; t < axis.kernel; ++t) {
      pair.right = t;
      table.add(t - s, pair);
    }
  }
  table.finish();
  return table;
}

MERISTEM_INLINE PairTable cross_pairs(const WindowAxis& producer, const WindowAxis& consumer, FanOut fan_out) {
  const auto [first, last] = taps_of(consumer.kernel, fan_out);
  const std::int64_t least = first - consumer.padding - producer.padding;
  PairTable table{consumer.outputs, producer.map, least, {}, {}, 0};
  table.at.resize(static_cast<std::size_t>(last - first + producer.kernel - 1));
  for (std::int64_t e = first; e < last; ++e) {
    TapPair pair{e - first, 0, std::vector<double>(static_cast<std::size_t>(consumer.outputs), 0.0)};
    for (std::int64_t j = 0; j < consumer.outputs; ++j) {
      const std::int64_t position = consumer.source(j, e);
      if (position >= 0 && position < consumer.map) pair.weights[static_cast<std::size_t>(j)] = 1.0;
    }
    for (std::int64_t t = 0; t < producer.kernel; ++t) {
      pair.right = t;
      table.add(least + (e - first) + t, pair);
    }
  }
  table.finish();
  return table;
}

MERISTEM_INLINE std::int64_t PositionClass::positions() const {
  std::int64_t sum = 0;
  for (const kernels::IndexRange& run : runs) sum += run.size();
  return sum;
}

/// The classes of the positions of an axis for the offsets [from, to]; positions that weigh nothing are in none.
[[nodiscard]] MERISTEM_INLINE std::vector<PositionClass> classes_of(const PairTable& table, std::int64_t from,
                                                                    std::int64_t to) {
  std::vector<PositionClass> classes;
  const auto counts = [](double w) { return !std::isnan(w) && w != 0.0; };
  for (std::int64_t u = 0; u < table.left_map; ++u) {
    std::vector<std::vector<double>> weights;
    bool needed = false;
    for (std::int64_t offset = from; offset <= to; ++offset) {
      const bool inside = u + offset >= 0 && u + offset < table.right_map;
      weights.emplace_back();
      for (const TapPair& pair : table.pairs(offset)) {
        weights.back().push_back(inside ? pair.weights[static_cast<std::size_t>(u)] : not_there);
        needed = needed || counts(weights.back().back());
      }
    }
    if (!needed) continue;
    const auto agrees = [&](const PositionClass& other) {
      for (std::size_t o = 0; o < weights.size(); ++o) {
        for (std::size_t i = 0; i < weights[o].size(); ++i) {
          const double mine = weights[o][i], theirs = other.weights[o][i];
          if (!std::isnan(mine) && !std::isnan(theirs) && mine != theirs) return false;
        }
      }
      return true;
    };
    auto at = std::find_if(classes.begin(), classes.end(), agrees);
    if (at == classes.end()) {
      classes.push_back({{}, {}, from, weights});
      at = classes.end() - 1;
    }
    for (std::size_t o = 0; o < weights.size(); ++o) {
      for (std::size_t i = 0; i < weights[o].size(); ++i) {
        if (std::isnan(at->weights[o][i])) at->weights[o][i] = weights[o][i];
      }
    }
    if (!at->runs.empty() && at->runs.back().end == u) {
      ++at->runs.back().end;
    } else {
      at->runs.push_back({u, u + 1});
    }
  }
  for (PositionClass& each : classes) {
    const auto weighs = [&](std::int64_t offset) {
      const auto& weights = each.weights[static_cast<std::size_t>(offset - from)];
      return std::any_of(weights.begin(), weights.end(), counts);
    };
    each.offsets = {from, to + 1};
    while (!weighs(each.offsets.begin)) ++each.offsets.begin;
    while (!weighs(each.offsets.end - 1)) --each.offsets.end;
  }
  return classes;
}

MERISTEM_INLINE OffsetPlan plan_offsets(PairTable y, PairTable x, std::int64_t left_channels,
                                        std::int64_t right_channels, bool symmetric, std::int64_t most_elements) {
  OffsetPlan plan{std::move(y), std::move(x), left_channels, right_channels, 1, {}, {}, 0, 0.0, 0.0};
  if (left_channels == 0 || right_channels == 0) return plan;
  // On the CPU pieces small enough for several threads and for results that stay in the innermost caches.
  constexpr std::int64_t most_channels = MERISTEM_GPU ? std::int64_t{1} << 40 : 32;
  constexpr std::int64_t most_columns = MERISTEM_GPU ? std::int64_t{1} << 40 : 192;
  plan.part_channels = (left_channels - 1) / ((left_channels - 1) / most_channels + 1) + 1;
  const std::int64_t parts = plan.parts();
  plan.terms.resize(static_cast<std::size_t>(plan.y.count * plan.x.count * parts));

  for (std::int64_t dy = symmetric ? 0 : plan.y.first; dy <= plan.y.last(); ++dy) {
    const std::vector<PositionClass> rows = classes_of(plan.y, dy, dy);
    const std::vector<PositionClass> columns =
        classes_of(plan.x, symmetric && dy == 0 ? 0 : plan.x.first, plan.x.last());
    for (const PositionClass& row : rows) {
      for (const PositionClass& column : columns) {
        if (plan.elements > most_elements) return plan;
        const std::int64_t all = column.offsets.size();
        const std::int64_t chunk = std::clamp<std::int64_t>(most_columns / right_channels, 1, all);
        const std::int64_t chunks = (all + chunk - 1) / chunk;
        for (std::int64_t k = 0; k < chunks; ++k) {
          const std::int64_t begin = column.offsets.begin + all * k / chunks;
          const std::int64_t end = column.offsets.begin + all * (k + 1) / chunks;
          for (std::int64_t part = 0; part < parts; ++part) {
            const kernels::IndexRange channels{part * plan.part_channels,
                                               std::min((part + 1) * plan.part_channels, left_channels)};
            const std::int64_t stride = (end - begin) * right_channels;
            plan.products.push_back({row.runs, column.runs, dy, begin, end - begin, channels, plan.elements});
            for (std::size_t i = 0; i < plan.y.pairs(dy).size(); ++i) {
              const double weight_y = row.weight(dy, i);
              for (std::int64_t dx = begin; dx < end; ++dx) {
                for (std::size_t j = 0; j < plan.x.pairs(dx).size(); ++j) {
                  const double weight = weight_y * column.weight(dx, j);
                  if (std::isnan(weight) || weight == 0.0) continue;
                  const std::int64_t row_pair =
                      plan.y.first_index[static_cast<std::size_t>(dy - plan.y.first)] + static_cast<std::int64_t>(i);
                  const std::int64_t column_pair =
                      plan.x.first_index[static_cast<std::size_t>(dx - plan.x.first)] + static_cast<std::int64_t>(j);
                  plan.terms[static_cast<std::size_t>((row_pair * plan.x.count + column_pair) * parts + part)]
                      .push_back({plan.elements + (dx - begin) * right_channels, stride, weight});
                }
              }
            }
            plan.elements += channels.size() * stride;
            // Pairs of positions that are both on their maps.
            double pairs = 0.0;
            for (std::int64_t dx = begin; dx < end; ++dx) {
              for (const kernels::IndexRange& run : column.runs) {
                const std::int64_t low = std::max(run.begin, -dx), high = std::min(run.end, plan.x.right_map - dx);
                pairs += static_cast<double>(std::max<std::int64_t>(high - low, 0));
              }
            }
            plan.multiply_adds += static_cast<double>(row.positions()) * pairs * static_cast<double>(channels.size()) *
                                  static_cast<double>(right_channels);
            plan.calls += static_cast<double>(row.runs.size()) * static_cast<double>(column.positions());
          }
        }
      }
    }
  }
  // The longest first: threads that share them finish about together. Places and terms stay.
  const auto work = [](const kernels::OffsetProduct& product) {
    double rows = 0.0, columns = 0.0;
    for (const kernels::IndexRange& run : product.rows) rows += static_cast<double>(run.size());
    for (const kernels::IndexRange& run : product.columns) columns += static_cast<double>(run.size());
    return rows * columns * static_cast<double>(product.offsets * product.channels.size());
  };
  std::stable_sort(plan.products.begin(), plan.products.end(),
                   [&](const auto& a, const auto& b) { return work(a) > work(b); });
  return plan;
}

/// Few channels make small products: threads then share the samples, and each slab of them has sums of its own.
[[nodiscard]] MERISTEM_INLINE std::int64_t slabs_for(const OffsetPlan& plan) {
  if (MERISTEM_GPU) return 1;
  const std::int64_t size = plan.left_channels * plan.right_channels;
  return size <= 16 * 16 ? 8 : (size <= 32 * 32 ? 4 : 1);
}

template <Real T>
PatchPath cheaper_path(const OffsetPlan& plan, std::int64_t map_numbers, const PatchWork& patches) {
  constexpr double copied = 10.0, gathered = 20.0, call = 25'000.0;
  const auto narrow = [](double m, double n) {
    return (1.0 + 4.0 / std::max(m, 1.0)) * (1.0 + 16.0 / std::max(n, 1.0));
  };
  if (static_cast<double>(plan.elements) > static_cast<double>(most_sums) * patches.results) {
    return PatchPath::patches;
  }
  double width = 1.0;
  for (const kernels::OffsetProduct& product : plan.products) {
    width = std::max(width, static_cast<double>(product.offsets * plan.right_channels));
  }
  const std::int64_t group =
      std::min<std::int64_t>(kernels::interleaved_samples(map_numbers * static_cast<std::int64_t>(sizeof(T))), 64);
  const double calls = plan.calls * static_cast<double>(slabs_for(plan)) / static_cast<double>(group);
  const double offsets = plan.multiply_adds * narrow(static_cast<double>(plan.part_channels), width) +
                         copied * static_cast<double>(map_numbers) + call * calls;
  const double rows = patches.multiply_adds * narrow(patches.rows, patches.columns) + gathered * patches.gathered;
  return offsets <= rows ? PatchPath::offsets : PatchPath::patches;
}

MERISTEM_INLINE double BlockOf::value(std::int64_t block, std::int64_t c, std::int64_t q) const {
  const std::int64_t part = c / part_channels, in_part = c - part * part_channels;
  double sum = 0.0;
  for (std::int64_t k = first_term[block * parts + part]; k < first_term[block * parts + part + 1]; ++k) {
    sum += terms[k].weight * sums[terms[k].place + in_part * terms[k].stride + q];
  }
  return sum;
}

MERISTEM_INLINE void PlaceCovariance::operator()(std::int64_t block, std::int64_t c, std::int64_t q) const {
  const std::int64_t left = blocks.left_tap[block], right = blocks.right_tap[block];
  if (left < 0 || (left == right && q > c)) return;
  const std::int64_t row = left * blocks.left_channels + c, column = right * blocks.right_channels + q;
  const double value = blocks.value(block, c, q);
  to.result[row * to.stride + column] = value;
  to.result[column * to.stride + row] = value;
}

MERISTEM_INLINE void PlaceCross::operator()(std::int64_t block, std::int64_t c, std::int64_t q) const {
  to.at(blocks.right_tap[block] * blocks.right_channels + q, blocks.left_tap[block], c) = blocks.value(block, c, q);
}

template <Real T>
OffsetSums<T>::OffsetSums(Context& ctx, OffsetPlan plan, std::pair<std::int64_t, std::int64_t> taps_x, bool symmetric)
    : plan_(std::move(plan)), slabs_(slabs_for(plan_)) {
  total_ = zeros<double>(ctx, {slabs_, plan_.elements});
  if constexpr (two_parts) recent_ = zeros<T>(ctx, {slabs_, plan_.elements});
  positions_.assign(plan_.products.size() * static_cast<std::size_t>(slabs_), 0);
  place_terms(ctx, taps_x, symmetric);
}

template <Real T>
void OffsetSums<T>::add(Context& ctx, View<const T> a, View<const T> b) {
  kernels::accumulate_offset_products<T>(
      ctx, a, b, plan_.products, slabs_,
      [&](std::size_t i, std::int64_t slab, std::int64_t positions) { return target(ctx, i, slab, positions); });
}

template <Real T>
void OffsetSums<T>::merge(Context& ctx, const OffsetSums& other) {
  kernels::axpy<double>(ctx, 1.0, other.total_, total_);
  if constexpr (two_parts) {
    Tensor<T> theirs = clone(ctx, other.recent_);
    if (!total_.empty()) for_each(ctx, total_.size(), MoveInto<T>{theirs.data(), total_.data()});
  }
}

template <Real T>
T* OffsetSums<T>::target(Context& ctx, std::size_t i, std::int64_t slab, std::int64_t positions) {
  const kernels::OffsetProduct& product = plan_.products[i];
  const std::int64_t at = slab * plan_.elements + product.place;
  if constexpr (two_parts) {
    std::int64_t& so_far = positions_[static_cast<std::size_t>(slab) * plan_.products.size() + i];
    if (so_far > 0 && so_far + positions > stretch) {
      const std::int64_t size = product.channels.size() * product.offsets * plan_.right_channels;
      for_each(ctx, size, MoveInto<T>{recent_.data() + at, total_.data() + at});
      so_far = 0;
    }
    so_far += positions;
    return recent_.data() + at;
  } else {
    return total_.data() + at;
  }
}

template <Real T>
void OffsetSums<T>::place_terms(Context& ctx, std::pair<std::int64_t, std::int64_t> taps_x, bool symmetric) {
  std::vector<Term> terms;
  std::vector<std::int64_t> first{0}, left, right;
  for (const auto& list : plan_.terms) {
    terms.insert(terms.end(), list.begin(), list.end());
    first.push_back(static_cast<std::int64_t>(terms.size()));
  }
  plan_.terms = {};
  for (std::int64_t dy = plan_.y.first; dy <= plan_.y.last(); ++dy) {
    for (const TapPair& row : plan_.y.pairs(dy)) {
      for (std::int64_t dx = plan_.x.first; dx <= plan_.x.last(); ++dx) {
        for (const TapPair& column : plan_.x.pairs(dx)) {
          const bool transposed = symmetric && (dy < 0 || (dy == 0 && dx < 0));
          left.push_back(transposed ? -1 : row.left * taps_x.first + column.left);
          right.push_back(row.right * taps_x.second + column.right);
        }
      }
    }
  }
  const auto upload = [&]<class U>(const std::vector<U>& values) {
    return from_host<U>(ctx, {static_cast<std::int64_t>(values.size())}, values);
  };
  terms_ = upload(terms);
  first_term_ = upload(first);
  left_tap_ = upload(left);
  right_tap_ = upload(right);
}

}  // namespace meristem::grow::detail
