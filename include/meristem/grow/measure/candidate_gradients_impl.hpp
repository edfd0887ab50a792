// Definitions of candidate_gradients.hpp.
#pragma once

#include <meristem/core/blas.hpp>
#include <meristem/grow/measure/candidate_gradients.hpp>
#include <meristem/grow/units/layout.hpp>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow::detail {

/// sums(k, i) += terms(k, i)
template <class T>
struct AddTerms {
  View<const T> terms;
  View<double> sums;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t i) const { sums(k, i) += static_cast<double>(terms(k, i)); }
};

template <Real T>
CandidatePass<T>::CandidatePass(Context& ctx, const Site<T>& site, const Insertion& insertion, std::size_t reader)
    : path_(ctx, site, insertion, reader),
      gain_(zeros<double>(ctx, {insertion.units, 1})),
      fan_in_(zeros<double>(ctx, {insertion.units, insertion.inputs})),
      fan_out_(zeros<double>(ctx, {insertion.units, path_.taps() * path_.site().fan_out()})) {}

template <Real T>
void CandidatePass<T>::update(Context& ctx, View<const T> unit_input, View<const T> goal) {
  samples_ += unit_input.extent(0);
  if (path_.units() == 0) return;
  const Tensor<T> h = path_.pre_activation(ctx, unit_input);
  Tensor<T> u = path_.through(ctx, h, T(1));
  const Tensor<T> z = path_.backward_fan_out(ctx, goal, h.shape());
  add_fan_out(ctx, u, goal);
  add_fan_in(ctx, unit_input, path_.backward_through(ctx, h, z));
  for_each(ctx, u.size(), Multiply<T>{u.data(), z.data(), u.data()});
  add_column_sums(ctx, u, gain_.view());
}

template <Real T>
GrowthMethod::Gradients CandidatePass<T>::gradients(Context& ctx) const {
  const auto mean = [&](const Tensor<double>& sum) {
    Tensor<double> result = clone(ctx, sum);
    divide(ctx, static_cast<double>(samples_), result.view());
    return result;
  };
  return {to_host(ctx, mean(gain_)), mean(fan_in_), mean(fan_out_)};
}

template <Real T>
void CandidatePass<T>::add_column_sums(Context& ctx, const Tensor<T>& terms, View<double> sums) const {
  Tensor<T> columns(ctx, {path_.units()});
  kernels::column_sums<T>(ctx, terms.view().as_matrix(), columns, kernels::Accumulate::overwrite);
  for_each(ctx, path_.units(), 1, AddTerms<T>{columns.view().reshape({path_.units(), 1}), sums});
}

template <Real T>
void CandidatePass<T>::add_fan_out(Context& ctx, const Tensor<T>& u, View<const T> goal) {
  const Site<T>& site = path_.site();
  const Window& window = site.consumer.window();
  const std::int64_t units = path_.units(), q = site.fan_out();
  const FanOutPlaces places = fan_out_places(site, path_.taps(), units);
  const std::int64_t columns = places.places * units;
  Tensor<T> products(ctx, {q, columns});
  if (site.consumer.is_convolution()) {
    kernels::conv2d_backward_weights<T>(ctx, u, goal, window, kernels::Accumulate::overwrite,
                                        products.view().reshape({q, window.kernel.y, window.kernel.x, units}));
  } else {
    gemm(ctx, Transpose::yes, Transpose::no, 1, goal.as_matrix(), u.view().reshape({u.size() / columns, columns}), 0,
         products.view());
  }
  for_each(ctx, units, fan_out_.extent(1), GatherFanOut<T>{products.data(), places, fan_out_.view(), true});
}

template <Real T>
void CandidatePass<T>::add_fan_in(Context& ctx, View<const T> unit_input, const Tensor<T>& dh) {
  const Site<T>& site = path_.site();
  const bool bias = site.producer.has_bias();
  const std::int64_t units = path_.units(), features = fan_in_.extent(1) - (bias ? 1 : 0);
  Tensor<T> products(ctx, {units, features});
  if (site.producer.is_convolution()) {
    kernels::conv2d_backward_weights<T>(ctx, unit_input, dh, site.producer.window(), kernels::Accumulate::overwrite,
                                        products.view().reshape(site.producer.weight().value.shape().with(0, units)));
  } else {
    gemm(ctx, Transpose::yes, Transpose::no, 1, dh.view().as_matrix(), unit_input.as_matrix(), 0, products.view());
  }
  for_each(ctx, units, features, AddTerms<T>{products.view(), fan_in_.view().slice(1, 0, features)});
  if (bias) add_column_sums(ctx, dh, fan_in_.view().slice(1, features, features + 1));
}

}  // namespace meristem::grow::detail
