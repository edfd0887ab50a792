// Samples of any shape in host memory, with labels of classes or with numbers as targets.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/data/loader.hpp>
#include <meristem/nn/batch.hpp>

namespace meristem::data {

/// A look at samples in memory of your own, one after the other: inputs (n, input...), and labels (n) or targets
/// (n, target...).
template <Real U>
struct SampleView {
  std::span<const U> inputs;
  Shape input;  ///< of one sample
  std::span<const std::int32_t> labels;
  std::span<const U> targets;
  Shape target;  ///< of one sample
  std::string source = "the samples";

  /// Number of samples. Throws ShapeError for numbers of which no whole samples can be made, and for labels or targets
  /// of another number of samples.
  [[nodiscard]] std::int64_t size() const {
    const std::int64_t n = count("inputs", inputs.size(), input);
    const auto same = [&](const char* what, std::int64_t other) {
      if (other != n) {
        throw ShapeError(concat(source, ": there are inputs of ", n, " samples and ", what, " of ", other));
      }
    };
    if (!labels.empty()) same("labels", std::ssize(labels));
    if (!targets.empty()) same("targets", count("targets", targets.size(), target));
    return n;
  }

  /// The samples at `indices` in device memory. Throws as `size`, and ArgumentError for an index out of range.
  template <Real T = U>
  [[nodiscard]] nn::Batch<T> batch(Context& ctx, std::span<const std::int64_t> indices) const {
    const std::int64_t n = size();
    for (const std::int64_t index : indices) {
      if (index < 0 || index >= n) {
        throw ArgumentError(concat(source, ": there is no sample ", index, " in a set of ", n));
      }
    }
    const auto gathered = [&]<class To, class From>(std::span<const From> from, const Shape& one, To) {
      if (from.empty()) return Tensor<To>();
      const auto width = static_cast<std::size_t>(one.size());
      std::vector<To> numbers;
      numbers.reserve(indices.size() * width);
      for (const std::int64_t index : indices) {
        for (const From number : from.subspan(static_cast<std::size_t>(index) * width, width)) {
          numbers.push_back(static_cast<To>(number));
        }
      }
      Shape shape{std::ssize(indices)};
      for (int axis = 0; axis < one.rank(); ++axis) shape.append(one[axis]);
      return from_host<To>(ctx, shape, numbers);
    };
    nn::Batch<T> result;
    result.inputs = gathered(inputs, input, T());
    result.labels = gathered(labels, Shape{}, std::int32_t());
    result.targets = gathered(targets, target, T());
    return result;
  }

 private:
  [[nodiscard]] std::int64_t count(const char* what, std::size_t numbers, const Shape& one) const {
    const auto width = static_cast<std::size_t>(one.size());
    if (width == 0 || numbers % width != 0) {
      throw ShapeError(concat(source, ": ", numbers, " ", what, " are no whole number of samples of shape ", one));
    }
    return static_cast<std::int64_t>(numbers / width);
  }
};

/// Means and standard deviations, feature by feature.
struct Scaling {
  std::vector<double> mean, deviation;
};

/// Samples in memory of the set's own; see SampleView for what the members mean.
template <Real U = float>
struct SampleSet {
  std::vector<U> inputs;
  Shape input;
  std::vector<std::int32_t> labels = {};
  std::vector<U> targets = {};
  Shape target = {};
  std::string source = "the samples";

  [[nodiscard]] SampleView<U> view() const { return {inputs, input, labels, targets, target, source}; }
  operator SampleView<U>() const { return view(); }

  [[nodiscard]] std::int64_t size() const { return view().size(); }

  template <Real T = U>
  [[nodiscard]] nn::Batch<T> batch(Context& ctx, std::span<const std::int64_t> indices) const {
    return view().template batch<T>(ctx, indices);
  }

  /// One pass in batches of `batch_size`; see loader.hpp. The set must outlive it.
  template <Real T = U>
  [[nodiscard]] Loader<T> batches(Context& ctx, std::int64_t batch_size, const BatchOptions& options = {}) const& {
    return Loader<T>(ctx, nn::BatchSource<T>(*this), batch_size, options, source);
  }
  /// Deleted: the batches would outlive a temporary set.
  template <Real T = U>
  Loader<T> batches(Context& ctx, std::int64_t batch_size, const BatchOptions& options = {}) const&& = delete;

  /// The samples at `indices`, in that order. Throws as `batch`.
  [[nodiscard]] SampleSet subset(std::span<const std::int64_t> indices) const {
    const std::int64_t n = size();
    SampleSet result{.inputs = {}, .input = input, .labels = {}, .targets = {}, .target = target, .source = source};
    const auto take = [&](const auto& from, std::size_t width, std::int64_t index, auto& to) {
      if (from.empty()) return;
      const auto first = from.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(index) * width);
      to.insert(to.end(), first, first + static_cast<std::ptrdiff_t>(width));
    };
    for (const std::int64_t index : indices) {
      if (index < 0 || index >= n) {
        throw ArgumentError(concat(source, ": there is no sample ", index, " in a set of ", n));
      }
      take(inputs, static_cast<std::size_t>(input.size()), index, result.inputs);
      take(labels, 1, index, result.labels);
      take(targets, static_cast<std::size_t>(target.size()), index, result.targets);
    }
    return result;
  }

  /// Two sets: `share` of the samples, drawn at random by `seed`, and the others. Throws ArgumentError unless both get
  /// a sample.
  [[nodiscard]] std::pair<SampleSet, SampleSet> split(double share, std::uint64_t seed = 0) const {
    const std::int64_t n = size();
    const double wanted = std::round(share * static_cast<double>(n));
    if (!(wanted >= 1.0 && wanted <= static_cast<double>(n) - 1.0)) {
      throw ArgumentError(concat(source, ": a share of ", share, " of ", n, " samples leaves one of two sets empty"));
    }
    const std::vector<std::int64_t> order = epoch_order(n, seed, 0);
    const auto first = std::span(order).first(static_cast<std::size_t>(wanted));
    return {subset(first), subset(std::span(order).subspan(first.size()))};
  }

  /// Mean and standard deviation (not bias-corrected) of each input, or of each target; 1 for what never varies. Throws
  /// DataError without samples and for numbers that are not finite.
  [[nodiscard]] Scaling measure_inputs() const { return measure("inputs", inputs, input); }
  [[nodiscard]] Scaling measure_targets() const { return measure("targets", targets, target); }

  /// Turns every number x into (x - mean) / deviation. A test set is scaled as its training set. Throws ShapeError for
  /// a scaling of another number of features.
  void scale_inputs(const Scaling& scaling) { scale("inputs", inputs, input, scaling); }
  void scale_targets(const Scaling& scaling) { scale("targets", targets, target, scaling); }

 private:
  [[nodiscard]] Scaling measure(const char* what, const std::vector<U>& numbers, const Shape& one) const {
    const std::int64_t n = size();
    const auto width = static_cast<std::size_t>(one.size());
    if (n == 0 || numbers.empty()) throw DataError(concat(source, ": there are no ", what, " to measure"));
    Scaling result{std::vector<double>(width, 0.0), std::vector<double>(width, 0.0)};
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (!std::isfinite(numbers[i])) {
        throw DataError(concat(source, ": number ", i % width, " of the ", what, " of sample ", i / width, " is ",
                               numbers[i], "; it must be finite"));
      }
      result.mean[i % width] += static_cast<double>(numbers[i]) / static_cast<double>(n);
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const double error = static_cast<double>(numbers[i]) - result.mean[i % width];
      result.deviation[i % width] += error * error / static_cast<double>(n);
    }
    for (std::size_t k = 0; k < width; ++k) {
      // Below this it is rounding of the mean.
      const double least = 1e-12 * std::abs(result.mean[k]);
      const double deviation = std::sqrt(result.deviation[k]);
      result.deviation[k] = deviation > least ? deviation : 1.0;
    }
    return result;
  }

  void scale(const char* what, std::vector<U>& numbers, const Shape& one, const Scaling& scaling) const {
    const auto width = static_cast<std::size_t>(one.size());
    if (scaling.mean.size() != width || scaling.deviation.size() != width) {
      throw ShapeError(
          concat(source, ": a scaling of ", scaling.mean.size(), " features does not fit ", what, " of shape ", one));
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] =
          static_cast<U>((static_cast<double>(numbers[i]) - scaling.mean[i % width]) / scaling.deviation[i % width]);
    }
  }
};

}  // namespace meristem::data
