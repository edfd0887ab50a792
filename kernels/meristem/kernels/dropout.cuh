// Inverted dropout of a tensor of any shape.
//
//   dropout     y[i] = x[i] / (1 - probability) with probability 1 - probability, else 0
//
// Element i is kept if 32-bit word i of a Philox stream under the Context's seed is below (1 - probability) 2^32: the
// same elements fall for the same stream, in forward and backward, on both executors; nothing is stored. y is
// overwritten and may be x.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/packs.cuh>
#include <meristem/kernels/require.hpp>

namespace meristem::kernels {

namespace detail {

template <class T>
struct Dropout {
  Philox stream;
  const std::uint64_t* shift;  // of the stream; null for none
  std::uint64_t keep_below;    // of 2^32
  T scale;
  const T* x;
  T* y;
  [[nodiscard]] MERISTEM_HD T of(T value, std::uint32_t word) const {
    const T kept = value * scale;
    return word < keep_below ? kept : T(0);
  }
  MERISTEM_HD void apply(std::int64_t i, std::uint32_t word) const { y[i] = of(x[i], word); }
  [[nodiscard]] MERISTEM_HD Philox random() const { return shift != nullptr ? stream.shifted(*shift) : stream; }
};

/// The elements of one block of random words on the GPU, packs of W at a time, of 32 blocks on the CPU; four to a
/// block.
template <class T, int W>
struct DropoutGroup {
  static constexpr std::int64_t elements = MERISTEM_GPU ? 4 : 128;
  Dropout<T> dropout;
#if MERISTEM_GPU
  __device__ void operator()(std::int64_t group) const {
    const Philox::Block block = dropout.random().block(static_cast<std::uint64_t>(group));
    for (int first = 0; first < 4; first += W) {
      const std::int64_t i = 4 * group + first;
      Pack<T, W> pack = load_pack<W>(dropout.x + i);
      for (int k = 0; k < W; ++k) pack.at[k] = dropout.of(pack.at[k], block.word[first + k]);
      store_pack(pack, dropout.y + i);
    }
  }
#else
  // Out of line: the loops inside vectorise, not the one over groups.
  [[gnu::noinline]] void operator()(std::int64_t group) const {
    constexpr int blocks = elements / 4;
    const Dropout<T> rule = dropout;
    std::uint32_t word[4][blocks], element[elements];
    rule.stream.template blocks<blocks>(static_cast<std::uint64_t>(group) * blocks, word);
    for (int l = 0; l < blocks; ++l) {
      for (int k = 0; k < 4; ++k) element[4 * l + k] = word[k][l];
    }
    MERISTEM_INDEPENDENT
    for (int i = 0; i < elements; ++i) rule.apply(elements * group + i, element[i]);
  }
#endif
};

/// Elements from `first` on: those of the last, incomplete group.
template <class T>
struct DropoutRest {
  Dropout<T> dropout;
  std::int64_t first;
  MERISTEM_HD void operator()(std::int64_t k) const {
    const std::int64_t i = first + k;
    const Philox::Block block = dropout.random().block(static_cast<std::uint64_t>(i / 4));
    dropout.apply(i, block.word[i % 4]);
  }
};

}  // namespace detail

/// y = x with each element dropped (0) with `probability` and the others divided by 1 - probability. The gradient is
/// the same function of the upstream gradient. The stream is `stream`, and Context::random_shift further. Throws
/// ArgumentError unless probability is in [0, 1), ShapeError unless both are contiguous and of equal shape.
template <class T>
void dropout(Context& ctx, std::uint64_t stream, double probability, View<const std::type_identity_t<T>> x, View<T> y) {
  if (!(probability >= 0.0 && probability < 1.0)) {
    throw ArgumentError(concat("dropout: the probability is ", probability, "; it must be in [0, 1)"));
  }
  detail::require_same_shape("dropout", "x", x, "y", y);
  const double kept = 1.0 - probability;
  // At least one word is kept: a probability next to 1 must not divide by what is never drawn.
  const auto keep_below = static_cast<std::uint64_t>(std::fmax(1.0, std::nearbyint(kept * 0x1p32)));
  const detail::Dropout<T> rule{Philox(ctx.seed(), stream), ctx.random_shift(), keep_below,
                                static_cast<T>(1.0 / kept), x.data_handle(),    y.data_handle()};
  constexpr std::int64_t elements = detail::DropoutGroup<T, 1>::elements;
  const std::int64_t groups = y.size() / elements;
  const auto run = [&](auto size) { for_each(ctx, groups, detail::DropoutGroup<T, decltype(size)::value>{rule}); };
  detail::with_packs<T>(elements, run, x.data_handle(), y.data_handle());
  for_each(ctx, y.size() - elements * groups, detail::DropoutRest<T>{rule, elements * groups});
}

}  // namespace meristem::kernels
