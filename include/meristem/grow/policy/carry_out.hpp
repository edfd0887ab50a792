// From the proposal for a site to its growth: scale, amplitude, edit, running statistics.
#pragma once

#include <cmath>
#include <optional>
#include <utility>

#include <meristem/grow/measure/site_measurement.hpp>
#include <meristem/grow/options.hpp>
#include <meristem/grow/policy/amplitude.hpp>
#include <meristem/grow/policy/normalize.hpp>
#include <meristem/grow/policy/search.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/make_edit.hpp>
#include <meristem/grow/units/recalibration.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::grow {

/// Share of the first amplitude of a search at which units go in that lower the loss at none.
inline constexpr double vanishing_share = 0x1p-10;

/// Normalises the units of a proposal, chooses their amplitude on the samples that `show_batches(use)` shows as
/// use(const BatchView&), and inserts them if it is accepted; otherwise every bit stays. `decided`: the amplitude to
/// take without a choice. With `keep_units` the units go in all the same where no amplitude lowers the loss, at one
/// that next to nothing depends on. Fills in what `report` says of amplitude and losses. Returns the floating-point
/// operations of the passes. Throws NumericError if the loss is not finite to begin with.
template <Real T, class ShowBatches>
double carry_out(Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer, const Site<T>& site,
                 const GrowerOptions& options, detail::Proposal& proposal, std::optional<double> decided,
                 bool keep_units, ShowBatches&& show_batches, SiteReport& report) {
  bool has_norms = false;
  network.visit_buffers([&](nn::Buffer<T>&) { has_norms = true; });
  detail::SearchPass<T> pass(network, site.first_layer(), options.search_memory);
  detail::NormInputs<T> before, after;
  const auto loss_now = [&](detail::NormInputs<T>* taps) {
    return pass(ctx, show_batches, options.loss, has_norms ? taps : nullptr);
  };
  const double loss_before = loss_now(&before);
  std::optional<Edit<T>> edit;  // one for all amplitudes
  std::optional<detail::StagedEdit<T>> trial;
  const auto loss_at = [&](double gamma) {
    if (gamma == 0.0) return loss_before;
    if (!trial) {
      edit = make_edit<T>(ctx, site, proposal.insertion, gamma);
      trial.emplace(ctx, *edit, network, nullptr, detail::Follow::nothing);
    } else {
      trial->set_amplitude(ctx, gamma);
    }
    detail::StagedEdit<T>& staged = *trial;
    struct SwapBack {
      detail::StagedEdit<T>& staged;
      ~SwapBack() { staged.swap(); }
    };
    staged.swap();
    const SwapBack restore{staged};
    return loss_now(nullptr);
  };
  const double factor = normalize<T>(ctx, network, site, options.amplitude, show_batches, proposal.insertion);
  if (factor != 1.0) report.slope = proposal.move_slope + factor * (report.slope - proposal.move_slope);
  std::optional<double> gamma = options.amplitude.fixed;
  if (!gamma && !proposal.search_amplitude) gamma = 1.0;
  if (decided) gamma = decided;
  // Member by member: nvcc 13 mixes up designated initialisers here.
  Amplitude search_options = options.amplitude;
  search_options.fixed = std::nullopt;
  search_options.largest *= static_cast<double>(proposal.positions);
  const double first = detail::first_amplitude(search_options, loss_before, report.slope);
  const auto split = [&](double at) {
    if (!options.amplitude.balanced || !proposal.search_amplitude) return;
    proposal.insertion.split = balanced_split<T>(ctx, site, proposal.insertion, at);
    if (!proposal.insertion.split.empty()) edit.reset();
  };
  if (!proposal.homogeneous) split(first);
  detail::LineSearchResult search;
  bool vanishing = false;
  if (gamma) {
    search.gamma = *gamma;
    search.loss_before = loss_before;
    search.loss_after = loss_at(*gamma);
    search.evaluations = 2;
    search.accepted = std::isfinite(search.loss_after);
  } else {
    search = line_search(loss_at, report.slope, search_options);
    if (!search.accepted && keep_units) {
      vanishing = true;
      search.gamma = first * vanishing_share;
      search.loss_after = loss_at(search.gamma);
      ++search.evaluations;
      search.accepted = std::isfinite(search.loss_after);
    }
  }
  report.loss_before = search.loss_before;
  report.loss_after = search.loss_after;
  report.gamma = search.gamma;
  report.predicted = search.gamma * report.slope;
  report.evaluations = search.evaluations;
  if (search.accepted) {
    trial.reset();
    // The function is that of the search whatever the split.
    if (proposal.homogeneous && search.gamma > 0.0) split(search.gamma);
    if (!edit) edit = make_edit<T>(ctx, site, proposal.insertion, search.gamma);
    edit->gamma = search.gamma;
    apply<T>(ctx, *edit, network, &optimizer);
    if (has_norms && !proposal.preserves_function) {
      loss_now(&after);
      follow_growth(ctx, network, before, after, site.tied_norms(), *edit);
    }
    report.added = proposal.insertion.units;
    if (vanishing) {
      report.note =
          detail::joined("no amplitude lowers the loss enough: the units went in at a vanishing one", report.note);
    }
  } else {
    report.note = detail::joined(gamma ? concat("rejected: the loss at the amplitude ", *gamma, " is not finite")
                                       : "rejected: no amplitude lowers the loss enough",
                                 report.note);
    if (gamma) report.gamma = report.predicted = 0.0;
  }
  return 2.0 * static_cast<double>(pass.multiply_adds());
}

}  // namespace meristem::grow
