// Definitions of map_statistics.hpp.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include <meristem/grow/measure/map_statistics.hpp>
#include <meristem/kernels/conv2d.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow::detail {

template <Real T>
void PooledPatches<T>::operator()(std::int64_t row, std::int64_t tap, std::int64_t c) const {
  const std::int64_t v = row % pooled.x, u = row / pooled.x % pooled.y, sample = row / pooled.size();
  const std::int64_t ky = tap / patch.kernel.x, kx = tap % patch.kernel.x;
  T sum = T(0);
  std::int64_t count = 0;
  for (std::int64_t a = 0; a < pool.kernel.y; ++a) {
    const std::int64_t hy = u * pool.stride.y - pool.padding.y + a * pool.dilation.y;
    if (hy < 0 || hy >= hidden.y) continue;
    const std::int64_t y = hy * patch.stride.y - patch.padding.y + ky * patch.dilation.y;
    for (std::int64_t b = 0; b < pool.kernel.x; ++b) {
      const std::int64_t hx = v * pool.stride.x - pool.padding.x + b * pool.dilation.x;
      if (hx < 0 || hx >= hidden.x) continue;
      ++count;
      const std::int64_t at = hx * patch.stride.x - patch.padding.x + kx * patch.dilation.x;
      if (y < 0 || y >= map.y || at < 0 || at >= map.x) continue;
      sum += x[((sample * map.y + y) * map.x + at) * channels + c];
    }
  }
  out[(row * patch.kernel.size() + tap) * channels + c] = count > 0 ? sum / static_cast<T>(count) : T(0);
}

/// weight = factor · the first columns of from (outputs, d), bias = factor · the last one if there is one more.
template <Real T>
struct SplitReadout {
  const double* from;
  std::int64_t d, features;
  double factor;
  T* weight;
  T* bias;
  MERISTEM_HD void operator()(std::int64_t o, std::int64_t i) const {
    const T value = static_cast<T>(factor * from[o * d + i]);
    (i < features ? weight[o * features + i] : bias[o]) = value;
  }
};

/// to(i, j) = factor · from(j, i)
struct ScaleTransposed {
  View<const double> from;
  double factor;
  View<double> to;
  MERISTEM_HD void operator()(std::int64_t i, std::int64_t j) const { to(i, j) = from(j, i) * factor; }
};

template <Real T>
MapStatistics<T>::MapStatistics(Context& ctx, const SiteShape& site, FanOut fan_out, const Options& options)
    : site_(site),
      // Every position of a flattened map is a place of its own.
      fan_out_(site.consumer.convolution ? fan_out : FanOut::full),
      options_(options),
      m1t_(zeros<double>(ctx, {(options.move_noise ? 2 : 1) * site.fan_out(), site.consumer_inputs()})),
      squares_(zeros<double>(ctx, {2})) {
  site.check();
  const std::int64_t q = site.fan_out();
  if (options.covariance) {
    const auto [rows, columns] = position_counts(site_.consumer_window(), site_.pooled(), fan_out_);
    s_.emplace(ctx, patch_features(), patch_window(), patch_map(), site.producer.bias, rows, columns);
  }
  if (options.goal) emplace_cross(ctx, q, m_);
  if (options.residual) emplace_cross(ctx, options.noise ? 2 * q : q, n_);
  if (options.fisher) fisher_.emplace(ctx, q, false);
  if (site.consumer.in == 0 || !options.consumer) return;
  if (site.consumer.convolution) {
    s1_maps_.emplace(ctx, site.consumer.in, site.consumer.window, site_.pooled(), site.consumer.bias);
  } else {
    s1_rows_.emplace(ctx, site.consumer.in, site.consumer.bias);
  }
}

template <Real T>
void MapStatistics<T>::update(Context& ctx, View<const T> unit_input, View<const T> consumer_input,
                              View<const T> goal) {
  require_maps(unit_input);
  const std::int64_t n = unit_input.extent(0);
  kernels::add_dot<const T, const T>(ctx, goal, goal, squares_.data());
  if (s_) {
    for_each_part(ctx, unit_input, goal, [&](View<const T> x, View<const T>) { s_->update(ctx, x); });
  }
  if (m_) for_each_part(ctx, unit_input, goal, [&](View<const T> x, View<const T> v) { m_->update(ctx, x, v); });
  if (fisher_) fisher_->update(ctx, goal, n);
  s1_ = {};
  if (s1_maps_) s1_maps_->update(ctx, consumer_input);
  if (s1_rows_) s1_rows_->update(ctx, consumer_input, n);
  if (options_.move_noise) {
    const Tensor<T> both = beside_random_signs<T>(ctx, goal, samples_);
    add_consumer_products<T>(ctx, site_, consumer_input, both.view(), m1t_);
  } else if (options_.consumer) {
    add_consumer_products(ctx, site_, consumer_input, goal, m1t_);
  }
  samples_ += n;
}

template <Real T>
void MapStatistics<T>::merge(Context& ctx, const MapStatistics& other) {
  const auto join = [&](auto& mine, const auto& theirs) {
    if (mine.has_value() != theirs.has_value()) {
      throw ArgumentError(concat("site ", site_.name, ": cannot merge statistics gathered with different options"));
    }
    if (mine) mine->merge(ctx, *theirs);
  };
  if (seen_again_ == 0 && other.seen_again_ == 0) {
    s1_ = {};
    join(s_, other.s_);
    join(m_, other.m_);
    join(fisher_, other.fisher_);
    join(s1_maps_, other.s1_maps_);
    join(s1_rows_, other.s1_rows_);
    kernels::axpy<double>(ctx, 1.0, other.m1t_, m1t_.view());
    kernels::axpy<double>(ctx, 1.0, other.squares_.view().slice(0, 0, 1), squares_.view().slice(0, 0, 1));
    samples_ += other.samples_;
    return;
  }
  join(n_, other.n_);
  join(explained_, other.explained_);
  kernels::axpy<double>(ctx, 1.0, other.squares_.view().slice(0, 1, 2), squares_.view().slice(0, 1, 2));
  seen_again_ += other.seen_again_;
}

template <Real T>
Tensor<double> MapStatistics<T>::first_moment(Context& ctx) const {
  return clone(ctx, m1_);
}

template <Real T>
void MapStatistics<T>::find_move(Context& ctx, std::optional<double> damping, Route route) {
  if (samples_ == 0) throw ArgumentError(concat("site ", site_.name, ": no samples were shown; call update first"));
  const std::int64_t d = site_.consumer_inputs(), q = site_.fan_out();
  const bool halves = options_.move_noise;
  m1_ = Tensor<double>(ctx, {d, q});
  Tensor<double> noise(ctx, {halves ? d : 0, q});
  const auto mean = [&](std::int64_t first, Tensor<double>& to) {
    const View<const double> sum = std::as_const(m1t_).view().slice(0, first, first + (to.empty() ? 0 : q));
    return part(to.extent(0), q, ScaleTransposed{sum, 1.0 / static_cast<double>(samples_), to.view()});
  };
  for_each_of(ctx, mean(0, m1_), mean(halves ? q : 0, noise));
  move_.weights = zeros<double>(ctx, {q, d});
  damping_ = damping.value_or(usual_damping);
  const std::vector<double> squares = squares_later(ctx);
  const auto require_finite_goal = [&] {
    if (std::isfinite(squares[0])) return;
    throw NumericError(concat("site ", site_.name, ": the desired update (minus the gradient at ", site_.consumer_label,
                              ") is not finite, the sum of its squares is ", squares[0],
                              "; lower the learning rate if training diverged"));
  };
  if (d > 0) {
    try {
      detail::DampedMove found = damped_move(ctx, consumer_covariance(ctx), m1_, noise, damping, route, resolution());
      move_ = std::move(found.move);
      damping_ = found.damping;
    } catch (const NumericError&) {
      require_finite_goal();
      throw;
    }
  } else {
    ctx.synchronize();
  }
  require_finite_goal();
  minus_move_ = readout(ctx, move_.weights, -1.0);
  if (options_.joint && d > 0) {
    Tensor<double> s1 = consumer_covariance(ctx);
    damp(ctx, damping_, s1);
    whitening_ =
        readout(ctx, detail::whitening_rows(ctx, concat("site ", site_.name, ": S1"), s1, route, resolution()), 1.0);
    emplace_cross(ctx, whitening_.outputs, explained_);
  }
}

template <Real T>
void MapStatistics<T>::update_residual(Context& ctx, View<const T> unit_input, View<const T> consumer_input,
                                       View<const T> goal) {
  if (explained_) add_explained(ctx, unit_input, consumer_input);
  if (!n_) return;
  Tensor<T> residual(ctx, goal.shape());
  read(ctx, minus_move_, consumer_input, residual.view());
  Tensor<T> both;
  if (options_.noise) {
    both = add_beside_random_signs<T>(ctx, goal, residual.view(), seen_again_);
  } else {
    kernels::axpy<T>(ctx, T(1), goal, residual);
  }
  kernels::add_dot<T, T>(ctx, residual.view(), residual.view(), squares_.data() + 1);
  const View<const T> shown = options_.noise ? std::as_const(both).view() : std::as_const(residual).view();
  for_each_part(
      ctx, unit_input, shown, [&](View<const T> x, View<const T> v) { n_->update(ctx, x, v); },
      shown.extent(shown.rank() - 1));
  seen_again_ += unit_input.extent(0);
}

template <Real T>
Tensor<double> MapStatistics<T>::covariance(Context& ctx) {
  if (!s_)
    throw ArgumentError(concat("site ", site_.name, ": S was left out; ask for it when the statistics are made"));
  return s_->mean(ctx);
}

template <Real T>
Tensor<double> MapStatistics<T>::consumer_covariance(Context& ctx) {
  if (s1_.empty()) s1_ = mean_of_consumer(ctx);
  return clone(ctx, s1_);
}

template <Real T>
Tensor<double> MapStatistics<T>::mean_of_consumer(Context& ctx) {
  if (s1_maps_) return s1_maps_->mean(ctx);
  if (s1_rows_) return s1_rows_->mean(ctx);
  // An empty hidden layer leaves the bias, one at every position.
  const std::int64_t d = site_.consumer_inputs();
  const Extent2 outputs = site_.outputs();
  Tensor<double> result(ctx, {d, d});
  kernels::fill(ctx, static_cast<double>(outputs.size()), result.view());
  return result;
}

template <Real T>
void MapStatistics<T>::require_maps(View<const T> unit_input) const {
  const Shape wanted{unit_input.extent(0), site_.map.y, site_.map.x, site_.producer.in};
  if (unit_input.rank() == 4 && unit_input.shape() == wanted) return;
  throw ShapeError(concat("site ", site_.name, ": the producer's input has shape ", unit_input.shape(), "; maps of ",
                          site_.map, " with ", site_.producer.in, " channels were announced"));
}

template <Real T>
Shape MapStatistics<T>::weight_shape(std::int64_t outputs) const {
  const Extent2 kernel = site_.consumer.window.kernel;
  if (!site_.consumer.convolution) return {outputs, site_.consumer.in};
  return {outputs, kernel.y, kernel.x, site_.consumer.in};
}

template <Real T>
void MapStatistics<T>::emplace_cross(Context& ctx, std::int64_t outputs,
                                     std::optional<PatchCrossCovariance<T>>& cross) {
  cross.emplace(ctx, patch_features(), patch_window(), patch_map(), site_.producer.bias, outputs,
                site_.consumer_window(), fan_out_);
}

template <Real T>
auto MapStatistics<T>::readout(Context& ctx, const Tensor<double>& from, double factor) const -> Readout {
  const std::int64_t outputs = from.extent(0), d = site_.consumer_inputs();
  const std::int64_t features = d - (site_.consumer.bias ? 1 : 0);
  Readout result{Tensor<T>(ctx, weight_shape(outputs)), Tensor<T>(ctx, {(d - features) * outputs}), outputs};
  if (d > 0) {
    for_each(ctx, outputs, d,
             detail::SplitReadout<T>{from.data(), d, features, factor, result.weight.data(), result.bias.data()});
  }
  return result;
}

template <Real T>
void MapStatistics<T>::read(Context& ctx, const Readout& by, View<const T> consumer_input, View<T> out) const {
  const bool bias = site_.consumer.bias;
  if (site_.consumer.in == 0) {
    kernels::fill(ctx, T(0), out);
  } else if (site_.consumer.convolution) {
    kernels::conv2d_forward<T>(ctx, consumer_input, by.weight, bias ? by.bias.view() : View<const T>(),
                               site_.consumer.window, out);
    return;
  } else {
    gemm(ctx, Transpose::no, Transpose::yes, 1, consumer_input.as_matrix(), by.weight.view(), 0, out.as_matrix());
  }
  if (bias) kernels::add_bias<T>(ctx, by.bias, out.as_matrix());
}

template <Real T>
void MapStatistics<T>::add_explained(Context& ctx, View<const T> unit_input, View<const T> consumer_input) {
  const std::int64_t n = unit_input.extent(0), r = whitening_.outputs;
  const Extent2 outputs = site_.outputs();
  const std::int64_t at_once =
      std::max<std::int64_t>((std::int64_t{1} << 22) / std::max<std::int64_t>(outputs.size() * r, 1), 1);
  for (std::int64_t begin = 0; begin < n; begin += at_once) {
    const std::int64_t end = std::min(begin + at_once, n);
    const bool flat = !site_.consumer.convolution;
    Tensor<T> whitened(ctx, flat ? Shape{end - begin, r} : Shape{end - begin, outputs.y, outputs.x, r});
    read(ctx, whitening_, consumer_input.slice(0, begin, end), whitened.view());
    for_each_part(
        ctx, unit_input.slice(0, begin, end), whitened.view(),
        [&](View<const T> x, View<const T> v) { explained_->update(ctx, x, v); }, r);
  }
}

}  // namespace meristem::grow::detail
