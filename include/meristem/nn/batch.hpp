// What a network is trained on: batches, and the sets of samples they come from.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>

namespace meristem::nn {

/// Samples in device memory and what a network should answer to them. The first axis of each counts samples.
template <Real T>
struct BatchView {
  View<const T> inputs = {};             ///< (n, ...), what the network reads
  View<const std::int32_t> labels = {};  ///< (n, ...), numbers of classes; empty where there are none
  View<const T> targets = {};            ///< (n, ...), numbers; empty where there are none
  /// More that an objective of your own reads: weights of samples, masks, points.
  std::vector<View<const T>> extra = {};

  /// Number of samples.
  [[nodiscard]] std::int64_t size() const { return inputs.rank() > 0 ? inputs.extent(0) : 0; }
  [[nodiscard]] bool has_labels() const { return labels.data_handle() != nullptr && labels.size() > 0; }
  [[nodiscard]] bool has_targets() const { return targets.data_handle() != nullptr && targets.size() > 0; }
};

/// A BatchView with the memory it looks at.
template <Real T>
struct Batch {
  Tensor<T> inputs = {};
  Tensor<std::int32_t> labels = {};
  Tensor<T> targets = {};
  std::vector<Tensor<T>> extra = {};

  [[nodiscard]] std::int64_t size() const { return BatchView<T>(*this).size(); }

  operator BatchView<T>() const;
};

/// A batch with memory of its own.
template <Real T>
[[nodiscard]] Batch<T> copy_of(Context& ctx, const BatchView<T>& batch);

/// A number of samples that come by their indices: a data set, or a function that makes them. It refers to what it was
/// made of, which must outlive it. The same indices must give the same samples every time.
template <Real T>
class BatchSource {
 public:
  /// Of a set with `size()` and `batch<T>(ctx, indices)`; ImageSet and SampleSet are such.
  template <class Set>
  requires(!std::is_same_v<std::remove_cvref_t<Set>, BatchSource>) &&
      requires(const Set& set, Context& ctx, std::span<const std::int64_t> indices) {
    { set.size() } -> std::convertible_to<std::int64_t>;
    { set.template batch<T>(ctx, indices) } -> std::same_as<Batch<T>>;
  }
  BatchSource(const Set& set)
      : size_(set.size()), make_([&set](Context& ctx, std::span<const std::int64_t> indices) {
          return set.template batch<T>(ctx, indices);
        }) {}

  /// Of `size` samples that `make(ctx, indices)` makes.
  BatchSource(std::int64_t size, std::function<Batch<T>(Context&, std::span<const std::int64_t>)> make);

  [[nodiscard]] std::int64_t size() const noexcept { return size_; }

  /// The samples at `indices`, in that order. Throws ShapeError where a source gives another number of samples.
  [[nodiscard]] Batch<T> batch(Context& ctx, std::span<const std::int64_t> indices) const;

  /// Calls `use(const BatchView<T>&)` for the samples at `indices`, `batch_size` at a time.
  template <class Use>
  void for_each_batch(Context& ctx, std::span<const std::int64_t> indices, std::int64_t batch_size, Use&& use) const {
    if (batch_size < 1)
      throw ArgumentError(concat("batches: the batch size is ", batch_size, "; it must be at least 1"));
    const auto size = static_cast<std::size_t>(batch_size);
    for (std::size_t first = 0; first < indices.size(); first += size) {
      const Batch<T> one = batch(ctx, indices.subspan(first, std::min(size, indices.size() - first)));
      use(BatchView<T>(one));
    }
  }

  /// The same for all samples, in order.
  template <class Use>
  void for_each_batch(Context& ctx, std::int64_t batch_size, Use&& use) const {
    std::vector<std::int64_t> all(static_cast<std::size_t>(size_));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    for_each_batch(ctx, all, batch_size, use);
  }

 private:
  std::int64_t size_;
  std::function<Batch<T>(Context&, std::span<const std::int64_t>)> make_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/batch_impl.hpp>
#endif
