// Definitions of diagnosis.hpp.
#pragma once

#include <cmath>
#include <cstddef>
#include <map>
#include <utility>

#include <meristem/grow/measure/diagnosis.hpp>
#include <meristem/kernels/reduce.cuh>

namespace meristem::grow::detail {

template <Real T>
void ConsumerInputs<T>::on_forward(Context& ctx, const nn::Layer<T>& layer, View<const T> input) {
  for (std::size_t i = 0; i < sites_->size(); ++i) {
    if ((*sites_)[i].consumer.layer() != &layer) continue;
    const View<const T> rows = input.as_matrix();
    Tensor<T> products(ctx, rows.shape()), sums(ctx, {rows.extent(1)});
    for_each(ctx, rows.size(), Multiply<T>{rows.data_handle(), rows.data_handle(), products.data()});
    kernels::column_sums<T>(ctx, products.view(), sums, kernels::Accumulate::overwrite);
    const std::vector<T> values = to_host(ctx, sums);
    squares[i].assign(values.begin(), values.end());
  }
}

/// Σ v² over the numbers of each index of one axis.
[[nodiscard]] MERISTEM_INLINE std::vector<double> squares_along(const Shape& shape, int axis,
                                                                const std::vector<double>& values) {
  std::int64_t inner = 1;
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  std::vector<double> result(static_cast<std::size_t>(shape[axis]), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    result[static_cast<std::size_t>(static_cast<std::int64_t>(i) / inner % shape[axis])] += values[i] * values[i];
  }
  return result;
}

/// The same for the units, of which the axis may hold several positions each, and others beside them.
[[nodiscard]] MERISTEM_INLINE std::vector<double> by_unit(const std::vector<double>& numbers, const UnitsAlong& along) {
  std::vector<double> result(static_cast<std::size_t>(along.width), 0.0);
  for (std::size_t i = 0; i < numbers.size() && along.width > 0; ++i) {
    const std::int64_t unit = along.unit_of(static_cast<std::int64_t>(i));
    if (unit >= 0) result[static_cast<std::size_t>(unit)] += numbers[i];
  }
  return result;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
std::vector<Diagnosis> diagnose(Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer,
                                const std::vector<Site<T>>& sites, const std::type_identity_t<nn::BatchView<T>>& batch,
                                const nn::Objective& loss) {
  detail::ConsumerInputs<T> taps(sites);
  const nn::Pass<T> pass{.measuring = true, .taps = &taps};
  const nn::Trace<T> trace = network.forward(ctx, batch.inputs, pass);
  nn::LossValue<T> value = loss(ctx, trace.output, batch);
  (void)network.backward(ctx, batch.inputs, trace, std::move(value.gradient), pass);

  const auto host = [&](const Tensor<T>& tensor) {
    const std::vector<T> values = to_host(ctx, tensor);
    return std::vector<double>(values.begin(), values.end());
  };
  std::vector<Diagnosis> result;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const Site<T>& site = sites[i];
    const std::int64_t width = site.width();
    const detail::UnitsAlong own{1, width, 0, width}, read = detail::units_along<T>(site, width);
    const auto squares = [&](const nn::Parameter<T>& parameter, int axis, const Tensor<T>& of) {
      return detail::by_unit(detail::squares_along(parameter.value.shape(), axis, host(of)), axis == 0 ? own : read);
    };
    const nn::Parameter<T>&in = site.producer.weight(), &out = site.consumer.weight();
    const int last = out.value.rank() - 1;
    const std::vector<double> in_squares = squares(in, 0, in.value), in_gradients = squares(in, 0, in.gradient),
                              out_squares = squares(out, last, out.value),
                              out_gradients = squares(out, last, out.gradient),
                              seen = detail::by_unit(taps.squares[i], read);
    nn::BatchNorm<T>* const norm = site.producer.norm() ? site.producer.norm() : site.input_norm;
    const std::vector<double> weights =
        norm ? host(norm->weight().value) : std::vector<double>(static_cast<std::size_t>(width), 1.0);
    const std::vector<std::int64_t> first = optimizer.first_steps(in.id).along(0, width);

    struct Sums {
      Diagnosis stage;
      double in = 0.0, in_gradient = 0.0, out = 0.0, out_gradient = 0.0, weight = 0.0;
    };
    std::map<std::int64_t, Sums> stages;
    for (std::size_t k = 0; k < static_cast<std::size_t>(width); ++k) {
      Sums& sums = stages[first[k]];
      ++sums.stage.units;
      sums.stage.fan_in_norm += std::sqrt(in_squares[k]);
      sums.stage.fan_out_norm += std::sqrt(out_squares[k]);
      sums.stage.dead += seen[k] == 0.0 ? 1.0 : 0.0;
      sums.in += in_squares[k];
      sums.in_gradient += in_gradients[k];
      sums.out += out_squares[k];
      sums.out_gradient += out_gradients[k];
      const double weight = weights[k + (norm ? static_cast<std::size_t>(site.offset_in(*norm)) : 0)];
      sums.weight += weight * weight;
    }
    for (auto& [step, sums] : stages) {
      Diagnosis& stage = sums.stage;
      const double units = static_cast<double>(stage.units);
      stage.site = site.name;
      stage.first_step = step;
      stage.fan_in_norm /= units;
      stage.fan_out_norm /= units;
      stage.dead /= units;
      stage.norm_weight = std::sqrt(sums.weight / units);
      const auto ratio = [](double of, double by) { return by > 0.0 ? std::sqrt(of / by) : 0.0; };
      stage.relative_gradient = ratio(sums.in_gradient, sums.in);
      stage.fan_out_gradient = ratio(sums.out_gradient, sums.out);
      result.push_back(stage);
    }
  }
  return result;
}

}  // namespace meristem::grow
