// Definitions of unit_path.hpp.
#pragma once

#include <array>
#include <utility>

#include <meristem/core/blas.hpp>
#include <meristem/grow/measure/unit_path.hpp>
#include <meristem/grow/units/layout.hpp>
#include <meristem/kernels/activation.cuh>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/pool.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow {

template <Real T>
detail::UnitPath<T>::UnitPath(Context& ctx, const Site<T>& site, const Insertion& insertion, std::size_t reader)
    : site_(site.read_by(reader)), units_(insertion.units) {
  detail::require_units_fit(site, insertion);
  taps_ = detail::reader_parts(site, insertion)[reader].taps;
  const std::int64_t bias = site.producer.has_bias() ? 1 : 0, features = insertion.inputs - bias;
  fan_in_ = Tensor<T>(ctx, site.producer.weight().value.shape().with(0, units_));
  bias_ = Tensor<T>(ctx, {bias * units_});
  const View<const double> rows = insertion.fan_in.view().reshape({units_, insertion.inputs});
  detail::scaled_rows<T, double>(ctx, rows.slice(1, 0, features), {}, fan_in_.view().reshape({units_, features}));
  if (bias) {
    detail::scaled_rows<T, double>(ctx, rows.slice(1, features, features + 1), {}, bias_.view().reshape({units_, 1}));
  }
  fan_out_ = detail::fan_out_slices(ctx, site, insertion, reader);
}

template <Real T>
Tensor<T> detail::UnitPath<T>::pre_activation(Context& ctx, View<const T> input) const {
  if (site_.producer.is_convolution()) {
    const Extent2 hidden = site_.producer.window().output({input.extent(1), input.extent(2)});
    Tensor<T> h(ctx, {input.extent(0), hidden.y, hidden.x, units_});
    kernels::conv2d_forward<T>(ctx, input, fan_in_, bias_.empty() ? View<const T>() : bias_.view(),
                               site_.producer.window(), h);
    return h;
  }
  Tensor<T> h(ctx, input.shape().with(input.rank() - 1, units_));
  gemm(ctx, Transpose::no, Transpose::yes, T(1), input.as_matrix(), fan_in_.view(), T(0), h.view().as_matrix());
  if (!bias_.empty()) kernels::add_bias<T>(ctx, bias_, h.view().as_matrix());
  return h;
}

template <Real T>
Tensor<T> detail::UnitPath<T>::backward_fan_out(Context& ctx, View<const T> goal, const Shape& hidden) const {
  Shape read = site_.pool ? site_.pool->output_shape(hidden) : hidden;
  if (site_.last_pool) read = site_.last_pool->output_shape(read);
  Tensor<T> z(ctx, read);
  if (site_.consumer.is_convolution()) {
    kernels::conv2d_backward_data<T>(ctx, goal, fan_out_, site_.consumer.window(), z);
  } else {
    const View<const T> v = goal.as_matrix();
    gemm(ctx, Transpose::no, Transpose::no, T(1), v, fan_out_.view(), T(0),
         z.view().reshape({v.extent(0), fan_out_.extent(1)}));
  }
  return z;
}

template <Real T>
Tensor<T> detail::UnitPath<T>::pooled(Context& ctx, Tensor<T> maps) const {
  return site_.pool ? pooled(ctx, std::move(maps), *site_.pool) : std::move(maps);
}

template <Real T>
Tensor<T> detail::UnitPath<T>::pooled(Context& ctx, Tensor<T> maps, nn::Layer<T>& by) const {
  const nn::Pass<T> pass{.measuring = true};
  return std::move(by.forward(ctx, maps, pass).storage);
}

template <Real T>
Tensor<T> detail::UnitPath<T>::through(Context& ctx, const Tensor<T>& h, T sign) const {
  Tensor<T> u = clone(ctx, h);
  kernels::scale<T>(ctx, sign, u.view());
  if (site_.pool_first) u = pooled(ctx, std::move(u));
  if (site_.activation == nn::Activation::relu) {
    kernels::activation_forward<T>(ctx, site_.activation, u, u);
  } else {
    kernels::scale<T>(ctx, static_cast<T>(site_.slope_at_zero()), u.view());
  }
  if (!site_.pool_first) u = pooled(ctx, std::move(u));
  if (site_.last_pool) u = pooled(ctx, std::move(u), *site_.last_pool);
  return u;
}

template <Real T>
Tensor<T> detail::UnitPath<T>::backward_through(Context& ctx, const Tensor<T>& h, const Tensor<T>& z) const {
  Tensor<T> gradient = clone(ctx, z);
  if (site_.last_pool) {
    Tensor<T> u = clone(ctx, h);
    if (site_.pool_first) u = pooled(ctx, std::move(u));
    activate(ctx, u);
    if (!site_.pool_first) u = pooled(ctx, std::move(u));
    gradient = unpooled(ctx, u, std::move(gradient), *site_.last_pool);
  }
  if (site_.pool_first) {
    const Tensor<T> before = pooled(ctx, clone(ctx, h));
    activate_backward(ctx, before, gradient);
    return unpooled(ctx, h, std::move(gradient));
  }
  if (site_.pool) {
    Tensor<T> u = clone(ctx, h);
    activate(ctx, u);
    gradient = unpooled(ctx, u, std::move(gradient));
  }
  activate_backward(ctx, h, gradient);
  return gradient;
}

template <Real T>
Tensor<T> detail::UnitPath<T>::contribution(Context& ctx, const Tensor<T>& h) const {
  const Tensor<T> u = averaged(ctx, h);
  if (site_.consumer.is_convolution()) {
    const Window& window = site_.consumer.window();
    const Extent2 outputs = window.output({u.extent(1), u.extent(2)});
    Tensor<T> move(ctx, {u.extent(0), outputs.y, outputs.x, site_.fan_out()});
    kernels::conv2d_forward<T>(ctx, u, fan_out_, View<const T>(), window, move);
    return move;
  }
  const std::int64_t rows = u.size() / fan_out_.extent(1);
  Tensor<T> move(ctx, {rows, site_.fan_out()});
  gemm(ctx, Transpose::no, Transpose::yes, T(1), u.view().reshape({rows, fan_out_.extent(1)}), fan_out_.view(), T(0),
       move.view());
  return move;
}

template <Real T>
void detail::UnitPath<T>::activate(Context& ctx, Tensor<T>& u) const {
  if (site_.activation == nn::Activation::relu) {
    kernels::activation_forward<T>(ctx, site_.activation, u, u);
  } else {
    kernels::scale<T>(ctx, static_cast<T>(site_.slope_at_zero()), u.view());
  }
}

template <Real T>
void detail::UnitPath<T>::activate_backward(Context& ctx, const Tensor<T>& before, Tensor<T>& gradient) const {
  if (site_.activation == nn::Activation::relu) {
    kernels::activation_backward<T>(ctx, site_.activation, before, gradient, gradient);
  } else {
    kernels::scale<T>(ctx, static_cast<T>(site_.slope_at_zero()), gradient.view());
  }
}

template <Real T>
Tensor<T> detail::UnitPath<T>::unpooled(Context& ctx, const Tensor<T>& maps, Tensor<T> gradient) const {
  return site_.pool ? unpooled(ctx, maps, std::move(gradient), *site_.pool) : std::move(gradient);
}

template <Real T>
Tensor<T> detail::UnitPath<T>::unpooled(Context& ctx, const Tensor<T>& maps, Tensor<T> gradient,
                                        nn::Layer<T>& by) const {
  const nn::Pass<T> pass{.input_gradient = true, .measuring = true};
  const nn::Trace<T> trace = by.forward(ctx, maps, pass);
  Tensor<T> shaped(ctx, trace.output.shape());
  copy<T>(ctx, gradient.view().reshape(shaped.shape()), shaped.view());
  return by.backward(ctx, maps, trace, std::move(shaped), pass);
}

template <Real T>
Tensor<T> detail::UnitPath<T>::averaged(Context& ctx, const Tensor<T>& maps) const {
  Tensor<T> result = clone(ctx, maps);
  for (nn::Layer<T>* const pool : std::array{site_.pool, site_.last_pool}) {
    if (!pool) continue;
    if (pool->description().pooling == nn::Pooling::mean) {
      result = pooled(ctx, std::move(result), *pool);
      continue;
    }
    const Shape& shape = result.shape();
    const Extent2 map(shape[1], shape[2]);
    const Window window = pool->description().window_on(map);
    const Extent2 positions = window.output(map);
    Tensor<T> means(ctx, {shape[0], positions.y, positions.x, shape[3]});
    kernels::average_pool_forward<T>(ctx, result, window, means);
    result = std::move(means);
  }
  return result;
}

}  // namespace meristem::grow
