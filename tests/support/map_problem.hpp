// Small networks with convolutions in double precision, with data and a loss, for tests of growth.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/measure/row_statistics.hpp>
#include <meristem/grow/measure/site_measurement.hpp>
#include <meristem/grow/measure/visit_sites.hpp>
#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/grow/units/recalibration.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/conv2d.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/nn/pooling.hpp>
#include <meristem/nn/residual.hpp>
#include <meristem/nn/sequential.hpp>
#include <support/check.hpp>

namespace support {

/// A network on random maps with a cross-entropy loss over its outputs, all of them flattened into classes.
struct MapProblem {
  using Net = ms::nn::Sequential<double>;

  ms::Context ctx{{.seed = 11}};
  Net net;
  std::int64_t n;
  ms::Tensor<double> x;
  ms::Tensor<std::int32_t> labels;
  ms::nn::CrossEntropy criterion{.label_smoothing = 0.05};

  /// `build` adds the layers; the last output has two axes.
  MapProblem(std::int64_t samples, const ms::Shape& map, const std::function<void(ms::Context&, Net&)>& build,
             std::uint64_t seed = 1)
      : n(samples) {
    build(ctx, net);
    const ms::Shape shape{samples, map[0], map[1], map[2]};
    x = ms::from_host<double>(ctx, shape, normal_values<double>(shape.size(), seed));
    const std::int64_t classes = net.output_shape(shape)[1];
    std::vector<std::int32_t> chosen;
    for (std::int64_t i = 0; i < n; ++i) chosen.push_back(static_cast<std::int32_t>((i / 2 + i * i) % classes));
    labels = ms::from_host<std::int32_t>(ctx, {n}, chosen);
  }

  /// Shows the sites of one forward and backward pass to `use`; returns the loss.
  double visit(const std::vector<ms::grow::Site<double>>& sites, const ms::grow::detail::SiteTaps<double>::Visit& use) {
    return ms::grow::visit_sites<double>(ctx, net, sites, {.inputs = x, .labels = labels}, criterion, use);
  }

  std::vector<double> outputs(ms::nn::Mode mode) {
    const auto trace = net.forward(ctx, x, {.mode = mode, .measuring = true});
    return ms::to_host(ctx, trace.output);
  }

  double loss() {
    const auto trace = net.forward(ctx, x, {.measuring = true});
    return criterion.operator()<double>(ctx, trace.output, labels.view(), false).mean;
  }

  double loss_with(const ms::grow::Edit<double>& edit) {
    ms::grow::detail::StagedEdit<double> staged(ctx, edit, net);
    staged.swap();
    const double value = loss();
    staged.swap();
    return value;
  }

  /// The proposal for a site, from all samples in batches of `batch`.
  ms::grow::detail::Proposal propose(const ms::grow::Site<double>& site, std::int64_t units,
                                     ms::grow::detail::MeasurementOptions options = {.damping = 0.0,
                                                                                     .significance = 0.0}) {
    using SiteMeasurement = ms::grow::detail::SiteMeasurement<double>;
    SiteMeasurement measurement(ctx, site, options, [units](std::int64_t, const ms::grow::Choice*) { return units; });
    using Maps = ms::View<const double>;
    while (measurement.wants() != SiteMeasurement::Batches::none) {
      visit({site}, [&](ms::Context&, std::size_t, Maps unit, Maps consumer, Maps goal) {
        measurement.update(ctx, unit, consumer, goal);
      });
      measurement.finish_pass(ctx);
    }
    return measurement.propose();
  }

  /// Grows a site for good, running statistics included.
  void insert(const ms::grow::Site<double>& site, const ms::grow::Insertion& insertion, double gamma) {
    ms::grow::detail::NormInputs<double> before, after;
    (void)net.forward(ctx, x, {.measuring = true, .taps = &before});
    ms::grow::apply<double>(ctx, ms::grow::make_edit(ctx, site, insertion, gamma), net);
    (void)net.forward(ctx, x, {.measuring = true, .taps = &after});
    ms::grow::follow_growth<double>(ctx, net, before, after);
  }
};

}  // namespace support
