// Definitions of shared_passes.hpp.
#pragma once

#include <chrono>
#include <cstddef>

#include <meristem/grow/measure/shared_passes.hpp>

namespace meristem::grow::detail {

template <Real T>
std::vector<Proposal> SharedPasses<T>::measure(Context& ctx, const std::vector<Site<T>>& sites,
                                               const MeasurementOptions& options, const ForEachBatch& for_each_batch,
                                               const Limit& limit) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::pair<nn::ParameterId, Tensor<double>>> kept;
  using One = SiteMeasurement<T>;
  std::vector<One> measurements;
  measurements.reserve(sites.size());
  std::vector<bool> reads_network_input(sites.size(), true);
  for (const Site<T>& site : sites) {
    const auto known = covariances_.find(site.producer.weight().id);
    measurements.emplace_back(
        ctx, site, options,
        [&limit, &site](std::int64_t taps, const Choice* found) { return limit(site, taps, found); },
        site.tied() || known == covariances_.end() ? nullptr : &known->second);
  }
  // All sites that want the same batches share a pass.
  const auto run = [&](typename One::Batches wanted) {
    // A stream is shown to each of its readers.
    std::vector<Site<T>> shown;
    std::vector<std::pair<std::size_t, std::size_t>> receivers;
    std::vector<std::size_t> indices;
    for (std::size_t i = 0; i < sites.size(); ++i) {
      if (measurements[i].wants() != wanted) continue;
      indices.push_back(i);
      for (std::size_t reader = 0; reader < sites[i].readers(); ++reader) {
        shown.push_back(sites[i].read_by(reader));
        receivers.emplace_back(i, reader);
      }
    }
    if (shown.empty()) return false;
    std::int64_t batches = 0;
    for_each_batch([&](const nn::BatchView<T>& batch) {
      if (batches++ > 0 && wanted == One::Batches::one) return;
      count(batch.inputs.shape());
      visit_sites<T>(ctx, *network_, shown, batch, loss_,
                     [&](Context&, std::size_t i, View<const T> unit, View<const T> consumer, View<const T> goal) {
                       const auto [at, reader] = receivers[i];
                       if (unit.data_handle() != batch.inputs.data_handle()) reads_network_input[at] = false;
                       measurements[at].update(ctx, unit, consumer, goal, reader);
                     });
    });
    for (const std::size_t i : indices) {
      const nn::ParameterId id = sites[i].producer.weight().id;
      Tensor<double> covariance;
      // No weight changes what enters the network: on the same samples its covariance stays what it is. That of a
      // stream is the mean over its readers, of which a block brings more.
      const bool keep = reads_network_input[i] && !sites[i].tied() && covariances_.find(id) == covariances_.end();
      measurements[i].finish_pass(ctx, keep ? &covariance : nullptr);
      if (keep && !covariance.empty()) kept.emplace_back(id, std::move(covariance));
    }
    return true;
  };
  while (run(One::Batches::all) || run(One::Batches::one)) continue;
  for (auto& [id, covariance] : kept) covariances_[id] = std::move(covariance);

  std::vector<Proposal> proposals;
  double solving = 0.0;
  for (One& m : measurements) {
    proposals.push_back(m.propose());
    solving += proposals.back().report.seconds;
  }
  // What the sites share is split evenly.
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double share = (seconds - solving) / static_cast<double>(proposals.size());
  for (Proposal& proposal : proposals) proposal.report.seconds += share;
  return proposals;
}

template <Real T>
void SharedPasses<T>::count(const Shape& inputs) {
  operations_ += 4.0 * static_cast<double>(network_->multiply_adds(inputs.with(0, 1))) * static_cast<double>(inputs[0]);
}

}  // namespace meristem::grow::detail
