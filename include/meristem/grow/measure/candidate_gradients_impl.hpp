// Definitions of candidate_gradients.hpp.
#pragma once

#include <cstddef>

#include <meristem/core/blas.hpp>
#include <meristem/grow/measure/candidate_gradients.hpp>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow {

template <Real T>
detail::CandidatePass<T>::CandidatePass(Context& ctx, const Site<T>& site, const Insertion& insertion)
    : path_(ctx, site, insertion), taps_(insertion.taps), p_(insertion.inputs), q_(insertion.outputs) {
  const std::size_t units = static_cast<std::size_t>(insertion.units);
  sums_.gain.assign(units, 0.0);
  sums_.fan_in.assign(units * static_cast<std::size_t>(p_), 0.0);
  sums_.fan_out.assign(units * static_cast<std::size_t>(taps_ * q_), 0.0);
}

template <Real T>
void detail::CandidatePass<T>::update(Context& ctx, View<const T> unit_input, View<const T> goal) {
  const std::int64_t units = path_.units();
  samples_ += unit_input.extent(0);
  if (units == 0) return;
  const Tensor<T> h = path_.pre_activation(ctx, unit_input);
  Tensor<T> u = path_.through(ctx, h, T(1));
  const Tensor<T> z = path_.backward_fan_out(ctx, goal, h.shape());
  add_fan_out(ctx, u, goal);
  add_fan_in(ctx, unit_input, path_.backward_through(ctx, h, z));
  for_each(ctx, u.size(), detail::Multiply<T>{u.data(), z.data(), u.data()});
  const std::vector<T> gains = column_sums(ctx, u);
  for (std::size_t k = 0; k < gains.size(); ++k) sums_.gain[k] += static_cast<double>(gains[k]);
}

template <Real T>
GrowthMethod::Gradients detail::CandidatePass<T>::gradients() const {
  GrowthMethod::Gradients result = sums_;
  for (std::vector<double>* values : {&result.gain, &result.fan_in, &result.fan_out}) {
    for (double& value : *values) value /= static_cast<double>(samples_);
  }
  return result;
}

template <Real T>
std::vector<T> detail::CandidatePass<T>::column_sums(Context& ctx, const Tensor<T>& terms) const {
  Tensor<T> columns(ctx, {path_.units()});
  kernels::column_sums<T>(ctx, terms.view().as_matrix(), columns, kernels::Accumulate::overwrite);
  return to_host(ctx, columns);
}

template <Real T>
void detail::CandidatePass<T>::add_fan_out(Context& ctx, const Tensor<T>& u, View<const T> goal) {
  const Site<T>& site = path_.site();
  const std::int64_t units = path_.units();
  const Window& window = site.consumer.window();
  const std::int64_t places = site.consumer.is_convolution() ? window.kernel.size() : taps_;
  Tensor<T> products(ctx, {q_, places * units});
  if (site.consumer.is_convolution()) {
    kernels::conv2d_backward_weights<T>(ctx, u, goal, window, kernels::Accumulate::overwrite,
                                        products.view().reshape({q_, window.kernel.y, window.kernel.x, units}));
  } else {
    gemm(ctx, Transpose::yes, Transpose::no, 1, goal.as_matrix(),
         u.view().reshape({u.size() / (places * units), places * units}), 0, products.view());
  }
  const std::vector<T> values = to_host(ctx, products);
  const std::int64_t centre = window.kernel.y / 2 * window.kernel.x + window.kernel.x / 2;
  for (std::int64_t k = 0; k < units; ++k) {
    for (std::int64_t tap = 0; tap < taps_; ++tap) {
      const std::int64_t place = taps_ == places ? tap : centre;
      for (std::int64_t o = 0; o < q_; ++o) {
        sums_.fan_out[static_cast<std::size_t>((k * taps_ + tap) * q_ + o)] +=
            static_cast<double>(values[static_cast<std::size_t>((o * places + place) * units + k)]);
      }
    }
  }
}

template <Real T>
void detail::CandidatePass<T>::add_fan_in(Context& ctx, View<const T> unit_input, const Tensor<T>& dh) {
  const Site<T>& site = path_.site();
  const std::int64_t units = path_.units(), features = p_ - (site.producer.has_bias() ? 1 : 0);
  Tensor<T> products(ctx, {units, features});
  if (site.producer.is_convolution()) {
    kernels::conv2d_backward_weights<T>(ctx, unit_input, dh, site.producer.window(), kernels::Accumulate::overwrite,
                                        products.view().reshape(site.producer.weight().value.shape().with(0, units)));
  } else {
    gemm(ctx, Transpose::yes, Transpose::no, 1, dh.view().as_matrix(), unit_input.as_matrix(), 0, products.view());
  }
  const std::vector<T> values = to_host(ctx, products);
  const std::vector<T> biases = site.producer.has_bias() ? column_sums(ctx, dh) : std::vector<T>();
  for (std::int64_t k = 0; k < units; ++k) {
    for (std::int64_t i = 0; i < p_; ++i) {
      sums_.fan_in[static_cast<std::size_t>(k * p_ + i)] += static_cast<double>(
          i < features ? values[static_cast<std::size_t>(k * features + i)] : biases[static_cast<std::size_t>(k)]);
    }
  }
}

}  // namespace meristem::grow
