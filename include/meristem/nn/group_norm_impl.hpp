// Definitions of group_norm.hpp.
#pragma once

#include <cmath>
#include <utility>

#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/group_norm.cuh>
#include <meristem/nn/group_norm.hpp>

namespace meristem::nn {

template <Real T>
GroupNorm<T>::GroupNorm(Context& ctx, std::int64_t groups, std::int64_t channels, const Options& options)
    : NormLayer<T>(ctx, checked_shape(groups, channels, options)), groups_(groups), epsilon_(options.epsilon) {}

template <Real T>
void GroupNorm<T>::describe(Description<T>& description) {
  description.normalise(NormOver::groups, weight_, bias_, epsilon_, groups_);
  description.field("groups", groups_);
  description.field("channels", this->channels());
  description.field("epsilon", epsilon_);
}

template <Real T>
Trace<T> GroupNorm<T>::do_forward(Context& ctx, View<const T> input, const Pass<T>&) {
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

template <Real T>
Tensor<T> GroupNorm<T>::do_backward(Context& ctx, View<const T> input, const Trace<T>& trace, Tensor<T> output_gradient,
                                    const Pass<T>& pass) {
  const bool wanted = pass.gradients != GradientMode::ignore;
  kernels::group_norm_backward<T>(ctx, input, groups_, trace.saved[0], trace.saved[1], weight_.value, output_gradient,
                                  this->accumulation(pass), wanted ? weight_.gradient.view() : View<T>(),
                                  wanted ? bias_.gradient.view() : View<T>(),
                                  pass.input_gradient ? output_gradient.view() : View<T>());
  if (!pass.input_gradient) return {};
  return output_gradient;
}

template <Real T>
std::string GroupNorm<T>::misfit(const std::string& label, std::int64_t groups, std::int64_t channels) {
  return concat(label, ": ", channels, " channels do not fall into ", groups,
                " groups of equal size; choose a number of groups that divides the channels");
}

template <Real T>
Shape GroupNorm<T>::checked_shape(std::int64_t groups, std::int64_t channels, const Options& options) {
  if (channels < 0) throw ArgumentError(concat("GroupNorm: ", channels, " channels; they must be 0 or more"));
  if (groups < 1 || channels % groups != 0) throw ArgumentError(misfit("GroupNorm", groups, channels));
  if (!(options.epsilon > 0.0 && std::isfinite(options.epsilon))) {
    throw ArgumentError(concat("GroupNorm: epsilon is ", options.epsilon, "; it must be positive, and finite"));
  }
  return {channels};
}

}  // namespace meristem::nn
