// Group normalisation.
#pragma once

#include <string>

#include <meristem/nn/weighted_layer.hpp>

namespace meristem::nn {

struct GroupNormOptions {
  double epsilon = 1e-5;  ///< added to the variance; positive
};

/// y = (x - mean) / √(variance + epsilon) · weight + bias, with mean and biased variance of each sample over all
/// positions (the axes between the first and the last) and the channels (last axis) of a group. Groups are neighbouring
/// channels of equal number; one group normalises whole samples, as many as channels each map. The channels may be 0.
/// The same in training and evaluation.
template <Real T>
class GroupNorm final : public NormLayer<T> {
 public:
  using Options = GroupNormOptions;

  /// weight 1, bias 0. Throws ArgumentError for a negative number of channels, for `groups` that do not divide it, and
  /// for an epsilon that is not positive.
  GroupNorm(Context& ctx, std::int64_t groups, std::int64_t channels, const Options& options = {});

  [[nodiscard]] std::string_view kind() const override { return "GroupNorm"; }
  [[nodiscard]] std::int64_t groups() const noexcept { return groups_; }
  [[nodiscard]] double epsilon() const noexcept { return epsilon_; }

  /// Throws ArgumentError if the channels, once they have grown, are no multiple of the groups.
 protected:
  void describe(Description<T>& description) override;

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override;

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override;

 private:
  using WeightedLayer<T>::weight_;
  using WeightedLayer<T>::bias_;

  static std::string misfit(const std::string& label, std::int64_t groups, std::int64_t channels);

  static Shape checked_shape(std::int64_t groups, std::int64_t channels, const Options& options);

  std::int64_t groups_;
  double epsilon_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/group_norm_impl.hpp>
#endif
