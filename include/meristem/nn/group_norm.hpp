// Group normalisation.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/group_norm.cuh>
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
  GroupNorm(Context& ctx, std::int64_t groups, std::int64_t channels, const Options& options = {})
      : NormLayer<T>(ctx, checked_shape(groups, channels, options)), groups_(groups), epsilon_(options.epsilon) {}

  [[nodiscard]] std::string_view kind() const override { return "GroupNorm"; }
  [[nodiscard]] std::int64_t groups() const noexcept { return groups_; }
  [[nodiscard]] double epsilon() const noexcept { return epsilon_; }

  /// Throws ArgumentError if the channels, once they have grown, are no multiple of the groups.
 protected:
  void describe(Description<T>& description) override {
    description.normalise(NormOver::groups, weight_, bias_, epsilon_, groups_);
    description.field("groups", groups_);
    description.field("channels", this->channels());
    description.field("epsilon", epsilon_);
  }

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override {
    Trace<T> trace;
    trace.storage = Tensor<T>(ctx, this->output_shape(input.shape()));
    trace.output = trace.storage.view();
    if (this->channels() % groups_ != 0) throw ArgumentError(misfit(this->label(), groups_, this->channels()));
    Tensor<T> mean(ctx, {input.extent(0), groups_}), inverse_deviation(ctx, {input.extent(0), groups_});
    kernels::group_norm_forward<T>(ctx, input, groups_, weight_.value, bias_.value, epsilon_, mean, inverse_deviation,
                                   trace.storage);
    trace.saved.push_back(std::move(mean));
    trace.saved.push_back(std::move(inverse_deviation));
    return trace;
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override {
    const bool wanted = pass.gradients != GradientMode::ignore;
    kernels::group_norm_backward<T>(ctx, input, groups_, trace.saved[0], trace.saved[1], weight_.value, output_gradient,
                                    this->accumulation(pass), wanted ? weight_.gradient.view() : View<T>(),
                                    wanted ? bias_.gradient.view() : View<T>(),
                                    pass.input_gradient ? output_gradient.view() : View<T>());
    if (!pass.input_gradient) return {};
    return output_gradient;
  }

 private:
  using WeightedLayer<T>::weight_;
  using WeightedLayer<T>::bias_;

  static std::string misfit(const std::string& label, std::int64_t groups, std::int64_t channels) {
    return concat(label, ": ", channels, " channels do not fall into ", groups,
                  " groups of equal size; choose a number of groups that divides the channels");
  }

  static Shape checked_shape(std::int64_t groups, std::int64_t channels, const Options& options) {
    if (channels < 0) throw ArgumentError(concat("GroupNorm: ", channels, " channels; they must be 0 or more"));
    if (groups < 1 || channels % groups != 0) throw ArgumentError(misfit("GroupNorm", groups, channels));
    if (!(options.epsilon > 0.0)) {
      throw ArgumentError(concat("GroupNorm: epsilon is ", options.epsilon, "; it must be positive"));
    }
    return {channels};
  }

  std::int64_t groups_;
  double epsilon_;
};

}  // namespace meristem::nn
