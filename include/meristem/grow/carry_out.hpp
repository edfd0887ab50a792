// From the proposal for a site to its growth: scale, amplitude, edit, running statistics.
#pragma once

#include <cmath>
#include <optional>
#include <utility>

#include <meristem/grow/amplitude.hpp>
#include <meristem/grow/edit.hpp>
#include <meristem/grow/insertion.hpp>
#include <meristem/grow/measurement.hpp>
#include <meristem/grow/normalize.hpp>
#include <meristem/grow/options.hpp>
#include <meristem/grow/recalibration.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/search.hpp>
#include <meristem/grow/site.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

/// Normalises the units of a proposal, chooses their amplitude on the samples that `show_batches(use)` shows as
/// use(inputs, labels), and inserts them if it is accepted; otherwise every bit stays. `recorded`: the amplitude to
/// take without a choice. Fills in what `report` says of amplitude and losses. Returns the floating-point operations of
/// the passes. Throws NumericError if the loss is not finite to begin with.
template <Real T, class ShowBatches>
double carry_out(Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer, const Site<T>& site,
                 const GrowerOptions& options, Proposal& proposal, std::optional<double> recorded,
                 ShowBatches&& show_batches, SiteReport& report) {
  bool has_norms = false;
  network.visit_buffers([&](nn::Buffer<T>&) { has_norms = true; });
  SearchPass<T> pass(network, *site.producer.layer(), options.search_memory);
  NormInputs<T> before, after;
  const auto loss_now = [&](NormInputs<T>* taps) {
    return pass(ctx, show_batches, options.loss, has_norms ? taps : nullptr);
  };
  const auto loss_at = [&](double gamma) {
    if (gamma == 0.0) return loss_now(&before);
    StagedEdit<T> staged(ctx, make_edit<T>(ctx, site, proposal.insertion, gamma), network);
    struct SwapBack {
      StagedEdit<T>& staged;
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
  if (recorded) gamma = recorded;
  LineSearchResult search;
  if (gamma) {
    // Member by member: nvcc 13 mixes up designated initialisers here.
    search.gamma = *gamma;
    search.loss_before = loss_at(0.0);
    search.loss_after = loss_at(*gamma);
    search.evaluations = 2;
    search.accepted = std::isfinite(search.loss_after);
  } else {
    LineSearchOptions search_options = options.line_search;
    search_options.largest *= static_cast<double>(proposal.positions);
    search = line_search(loss_at, search_options, report.slope);
  }
  report.loss_before = search.loss_before;
  report.loss_after = search.loss_after;
  report.gamma = search.gamma;
  report.predicted = search.gamma * report.slope;
  report.evaluations = search.evaluations;
  if (search.accepted) {
    apply<T>(ctx, make_edit<T>(ctx, site, proposal.insertion, search.gamma), network, &optimizer);
    if (has_norms && !proposal.preserves_function) {
      loss_now(&after);
      follow_growth(ctx, network, before, after);
    }
    report.added = proposal.insertion.units;
  } else {
    report.note = detail::joined(gamma ? concat("rejected: the loss at the amplitude ", *gamma, " is not finite")
                                       : "rejected: no amplitude lowers the loss enough",
                                 report.note);
    if (gamma) report.gamma = report.predicted = 0.0;
  }
  return 2.0 * static_cast<double>(pass.multiply_adds());
}

}  // namespace meristem::inline MERISTEM_BACKEND::grow
