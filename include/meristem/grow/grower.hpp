// Growth of a whole network: measure the bottleneck of every site, solve, choose the amplitude, insert.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/philox.hpp>
#include <meristem/grow/amplitude.hpp>
#include <meristem/grow/edit.hpp>
#include <meristem/grow/insertion.hpp>
#include <meristem/grow/measure.hpp>
#include <meristem/grow/measurement.hpp>
#include <meristem/grow/method.hpp>
#include <meristem/grow/recalibration.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/site.hpp>
#include <meristem/grow/statistics.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

/// Which sites a growth step considers.
enum class Where {
  all,        ///< every site in the order data flows, each measured after the ones before it have grown
  together,   ///< every site, all measured in the same passes, then grown in the order data flows
  best_gain,  ///< the one with the largest first-order decrease of the loss
};

struct Budget {
  std::int64_t parameters = std::numeric_limits<std::int64_t>::max();  ///< the network never exceeds it
};

struct GrowerOptions {
  Method method = tiny();
  Where where = Where::all;
  std::vector<std::string> sites = {};  ///< names of the layers that may grow, in any order; none means all that can
  FanOut fan_out = FanOut::full;        ///< of units that a convolution consumes
  std::int64_t max_units = 8;           ///< per site and growth step
  /// If positive, a site gets at most this share of its consumer's outputs, rounded up, in place of max_units.
  double max_unit_share = 0.0;
  double significance = 1.0;  ///< c of the threshold on λ; see SolveOptions
  std::int64_t statistics_samples = 10'000;
  std::int64_t search_samples = 1'000;  ///< fixed samples of the line search, apart from those of the statistics
  std::int64_t batch_size = 512;        ///< in measuring; it changes no result
  bool move_weights = true;             ///< apply δW as well as the units
  /// Added to the diagonals of S, S1 and E, in units of their mean, before units and moves are solved for. Without it,
  /// an input that is next to zero on almost every sample (a unit that is nearly dead) would receive a weight without
  /// bound.
  double damping = 1e-3;
  LineSearchOptions line_search = {};  ///< `largest` counts per position of a map
  Budget budget = {};
  nn::CrossEntropy loss = {};
};

/// Grows a network in place, and its optimiser's state with it.
template <Real T>
class Grower {
 public:
  /// Network and optimiser must outlive the Grower. Throws ArgumentError for options outside their range or a network
  /// without a site.
  Grower(nn::Layer<T>& network, optim::Optimizer<T>& optimizer, const GrowerOptions& options = {})
      : network_(&network), optimizer_(&optimizer), options_(options), measurer_(network, options.loss) {
    const auto at_least = [](const char* option, double value, double least) {
      if (!(value >= least)) {
        throw ArgumentError(concat("Grower: ", option, " is ", value, "; it must be at least ", least));
      }
    };
    at_least("max_units", static_cast<double>(options.max_units), 1);
    at_least("max_unit_share", options.max_unit_share, 0);
    at_least("significance", options.significance, 0);
    at_least("damping", options.damping, 0);
    at_least("statistics_samples", static_cast<double>(options.statistics_samples), 1);
    at_least("search_samples", static_cast<double>(options.search_samples), 1);
    at_least("batch_size", static_cast<double>(options.batch_size), 1);
    at_least("budget.parameters", static_cast<double>(options.budget.parameters), 1);
    for (const std::string& name : options.sites) (void)find_site(network, name);
    for (const Site<T>& site : find_sites(network)) {
      const auto& names = options.sites;
      if (names.empty() || std::find(names.begin(), names.end(), site.name) != names.end()) sites_.push_back(site);
    }
    if (sites_.empty()) {
      throw ArgumentError(
          "Grower: the network has no layer that can grow; it needs a Linear or Conv2d, at most one BatchNorm, "
          "activation, pooling and Flatten, and another Linear or Conv2d in a row");
    }
    for (const Site<T>& site : sites_) Measurement<T>::require_method(site, options.method);
    network.visit_buffers([&](nn::Buffer<T>&) { has_norms_ = true; });
  }

  [[nodiscard]] const std::vector<Site<T>>& sites() const noexcept { return sites_; }
  [[nodiscard]] const GrowerOptions& options() const noexcept { return options_; }

  /// One growth step. `training_set` has size(), subset(indices) and batches<T>(ctx, batch size), whose batches have
  /// images and labels; data::ImageSet does. `after_site` is called after each site with its report, which it may
  /// complete. Rejected growth leaves the network as it was to the last bit.
  template <class Set>
  GrowthReport grow(Context& ctx, const Set& training_set, const std::function<void(SiteReport&)>& after_site = {}) {
    const auto start = std::chrono::steady_clock::now();
    choose_samples(ctx, training_set);
    GrowthReport report;
    report.method = options_.method.name();
    operations_ = 0.0;
    if (options_.where == Where::all) {
      for (std::size_t i = 0; i < sites_.size(); ++i) {
        report.sites.push_back(insert(ctx, training_set, sites_[i], measure(ctx, training_set, {i}).front()));
        if (after_site) after_site(report.sites.back());
      }
    } else {
      std::vector<std::size_t> every(sites_.size());
      for (std::size_t i = 0; i < every.size(); ++i) every[i] = i;
      std::vector<Proposal> proposals = measure(ctx, training_set, every);
      std::size_t best = 0;
      for (std::size_t i = 0; i < proposals.size(); ++i) {
        if (proposals[i].report.slope > proposals[best].report.slope) best = i;
      }
      for (std::size_t i = 0; i < proposals.size(); ++i) {
        if (options_.where == Where::together || i == best) {
          const std::vector<std::int64_t> inputs = detail::consumer_map(sites_[i], proposals[i].insertion);
          report.sites.push_back(insert(ctx, training_set, sites_[i], std::move(proposals[i])));
          // In a chain, the next site's units read what has grown now.
          for (std::size_t next = i + 1; next < sites_.size() && report.sites.back().added > 0; ++next) {
            if (sites_[next].producer.layer() == sites_[i].consumer.layer()) {
              follow_inputs(sites_[next], inputs, proposals[next].insertion);
            }
          }
          if (after_site) after_site(report.sites.back());
        } else {
          proposals[i].report.note = "another site promises more";
          report.sites.push_back(std::move(proposals[i].report));
        }
      }
      if (options_.where == Where::best_gain) {
        for (SiteReport& site : report.sites) site.parameters = nn::parameter_count(*network_);
      }
    }
    report.parameters = nn::parameter_count(*network_);
    report.operations = operations_;
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  }

 private:
  /// Draws the fixed samples of the statistics and of the line search, once.
  template <class Set>
  void choose_samples(Context& ctx, const Set& set) {
    if (set.size() == chosen_from_) return;
    if (set.size() < 1) throw DataError("Grower: the training set is empty; growth needs samples to measure on");
    std::vector<std::int64_t> order(static_cast<std::size_t>(set.size()));
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
    const Philox random(ctx.seed(), std::uint64_t{0x67726f77} << 32);
    for (std::size_t i = order.size() - 1; i > 0; --i) {
      std::swap(order[i], order[static_cast<std::size_t>(random.below(i, i + 1))]);
    }
    const std::int64_t search = std::min(options_.search_samples, std::max<std::int64_t>(set.size() / 2, 1));
    const std::int64_t rest = std::max<std::int64_t>(set.size() - search, 1);
    search_indices_.assign(order.begin(), order.begin() + search);
    statistics_indices_.assign(order.end() - std::min(options_.statistics_samples, rest), order.end());
    chosen_from_ = set.size();
    measurer_.forget_samples();
  }

  /// Calls `use(inputs, labels)` for every batch of the statistics.
  template <class Set, class Use>
  void for_each_batch(Context& ctx, const Set& set, const std::vector<std::int64_t>& indices, Use&& use) {
    const auto chosen = set.subset(indices);
    for (const auto& batch : chosen.template batches<T>(ctx, options_.batch_size)) {
      use(View<const T>(batch.images), View<const std::int32_t>(batch.labels));
    }
  }

  /// Proposals for some sites, all from the same passes over the samples.
  template <class Set>
  std::vector<Proposal> measure(Context& ctx, const Set& set, const std::vector<std::size_t>& which) {
    std::vector<Site<T>> sites;
    for (const std::size_t i : which) sites.push_back(sites_[i]);
    const std::int64_t parameters = nn::parameter_count(*network_);
    std::vector<Proposal> proposals = measurer_.measure(
        ctx, sites,
        MeasurementOptions{.method = options_.method,
                           .fan_out = options_.fan_out,
                           .damping = options_.damping,
                           .significance = options_.significance,
                           .move_weights = options_.move_weights},
        [&](const typename Measurer<T>::Batch& use) { for_each_batch(ctx, set, statistics_indices_, use); },
        [&](const Site<T>& site, std::int64_t taps) {
          return std::min(wanted_units(site), affordable_units(site, taps, parameters));
        });
    operations_ += measurer_.take_operations();
    for (std::size_t i = 0; i < proposals.size(); ++i) {
      SiteReport& report = proposals[i].report;
      report.parameters = parameters;
      if (affordable_units(sites[i], proposals[i].taps, parameters) == 0) {
        report.note = concat("the budget of ", options_.budget.parameters, " parameters leaves no room");
      }
    }
    return proposals;
  }

  [[nodiscard]] std::int64_t wanted_units(const Site<T>& site) const {
    if (options_.max_unit_share == 0.0) return options_.max_units;
    return static_cast<std::int64_t>(std::ceil(options_.max_unit_share * static_cast<double>(site.fan_out())));
  }

  [[nodiscard]] std::int64_t affordable_units(const Site<T>& site, std::int64_t taps, std::int64_t parameters) const {
    return std::max<std::int64_t>(options_.budget.parameters - parameters, 0) / site.parameters_per_unit(taps);
  }

  /// Chooses the amplitude of a proposal and inserts it if the line search accepts.
  template <class Set>
  SiteReport insert(Context& ctx, const Set& set, const Site<T>& site, Proposal proposal) {
    SiteReport report = std::move(proposal.report);
    if (proposal.insertion.units == 0) return report;
    // Others may have grown since the site was measured.
    const std::int64_t taps =
        site.spatial() ? std::max(proposal.insertion.taps, site.consumer.window().kernel.size()) : 1;
    if (proposal.insertion.units > affordable_units(site, taps, nn::parameter_count(*network_))) {
      report.note = concat("the budget of ", options_.budget.parameters, " parameters has no room for its ",
                           proposal.insertion.units, " units");
      report.parameters = nn::parameter_count(*network_);
      return report;
    }
    const auto start = std::chrono::steady_clock::now();
    NormInputs<T> before, after;
    const auto loss_now = [&](NormInputs<T>* taps) { return search_loss(ctx, set, has_norms_ ? taps : nullptr); };
    const auto loss_at = [&](double gamma) {
      if (gamma == 0.0) return loss_now(&before);
      StagedEdit<T> staged(ctx, make_edit<T>(ctx, site, proposal.insertion, gamma), *network_);
      struct SwapBack {
        StagedEdit<T>& staged;
        ~SwapBack() { staged.swap(); }
      };
      staged.swap();
      const SwapBack restore{staged};
      return loss_now(nullptr);
    };
    LineSearchOptions search_options = options_.line_search;
    search_options.largest *= static_cast<double>(proposal.positions);
    const LineSearchResult search = proposal.search_amplitude ? line_search(loss_at, search_options, report.slope)
                                                              : LineSearchResult{.accepted = true,
                                                                                 .gamma = 1.0,
                                                                                 .loss_before = loss_at(0.0),
                                                                                 .loss_after = loss_at(1.0),
                                                                                 .evaluations = 2};
    report.loss_before = search.loss_before;
    report.loss_after = search.loss_after;
    report.gamma = search.gamma;
    report.predicted = search.gamma * report.slope;
    report.evaluations = search.evaluations;
    if (search.accepted) {
      apply<T>(ctx, make_edit<T>(ctx, site, proposal.insertion, search.gamma), *network_, optimizer_);
      if (has_norms_ && !proposal.preserves_function) {
        loss_now(&after);
        follow_growth(ctx, *network_, before, after);
      }
      report.added = proposal.insertion.units;
    } else {
      report.note = "rejected: no amplitude lowers the loss enough";
    }
    report.parameters = nn::parameter_count(*network_);
    report.seconds += seconds_since(start);
    return report;
  }

  /// Mean loss over the samples of the line search, computed as training computes it.
  template <class Set>
  double search_loss(Context& ctx, const Set& set, nn::Taps<T>* taps) {
    const nn::Pass<T> pass{.measuring = true, .taps = taps};
    double total = 0.0;
    for_each_batch(ctx, set, search_indices_, [&](View<const T> inputs, View<const std::int32_t> labels) {
      count_pass(inputs.shape(), 1.0);
      const nn::Trace<T> trace = network_->forward(ctx, inputs, pass);
      total += static_cast<double>(inputs.extent(0)) *
               options_.loss.template operator()<T>(ctx, trace.output, labels, false).mean;
    });
    return total / static_cast<double>(search_indices_.size());
  }

  /// `directions`: forward is one, backward without the weights' gradients another.
  void count_pass(const Shape& inputs, double directions) {
    operations_ += 2.0 * directions * static_cast<double>(network_->multiply_adds(inputs.with(0, 1))) *
                   static_cast<double>(inputs[0]);
  }

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  nn::Layer<T>* network_;
  optim::Optimizer<T>* optimizer_;
  GrowerOptions options_;
  Measurer<T> measurer_;
  std::vector<Site<T>> sites_;
  bool has_norms_ = false;
  double operations_ = 0.0;
  std::int64_t chosen_from_ = -1;
  std::vector<std::int64_t> statistics_indices_;
  std::vector<std::int64_t> search_indices_;
};

template <class Network, class Optimizer>
Grower(Network&, Optimizer&, const GrowerOptions&) -> Grower<typename Network::value_type>;

}  // namespace meristem::inline MERISTEM_BACKEND::grow
