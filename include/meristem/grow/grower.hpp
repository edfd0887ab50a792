// Growth of a whole network: measure the bottleneck of every site, solve, choose the amplitude, insert.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/philox.hpp>
#include <meristem/grow/amplitude.hpp>
#include <meristem/grow/edit.hpp>
#include <meristem/grow/insertion.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/site.hpp>
#include <meristem/grow/solver.hpp>
#include <meristem/grow/statistics.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

/// Which new units, and how they are computed.
struct Method {
  std::string name;
  Route route = Route::cholesky;
  bool joint = false;
  bool fisher = false;
};

/// The units of M. Verbockhaven et al., "Growing tiny networks" (TMLR 2024), with the best move of today's weights.
[[nodiscard]] inline Method tiny(Route route = Route::cholesky) {
  return {route == Route::cholesky ? "tiny" : "tiny-eigen", route, false, false};
}
/// Units and the move of today's weights optimised together.
[[nodiscard]] inline Method tiny_joint(Route route = Route::cholesky) { return {"tiny-joint", route, true, false}; }
/// TINY preconditioned by the empirical Fisher matrix of the outputs.
[[nodiscard]] inline Method tiny_fisher() { return {"tiny-fisher", Route::cholesky, false, true}; }

/// Which sites a growth step considers.
enum class Where {
  all,        ///< every site in the order data flows, each measured after the ones before it have grown
  best_gain,  ///< the one with the largest first-order decrease of the loss
};

struct Budget {
  std::int64_t parameters = std::numeric_limits<std::int64_t>::max();  ///< the network never exceeds it
};

struct GrowerOptions {
  Method method = tiny();
  Where where = Where::all;
  std::int64_t max_units = 8;  ///< per site and growth step
  double significance = 1.0;   ///< c of the threshold on λ; see SolveOptions
  std::int64_t statistics_samples = 10'000;
  std::int64_t search_samples = 1'000;  ///< fixed samples of the line search, apart from those of the statistics
  std::int64_t batch_size = 512;        ///< in measuring; it changes no result
  bool move_weights = true;             ///< apply δW as well as the units
  /// Added to the diagonals of S, S1 and E, in units of their mean, before units and moves are solved for. Without it,
  /// an input that is next to zero on almost every sample (a unit that is nearly dead) would receive a weight without
  /// bound.
  double damping = 1e-3;
  LineSearchOptions line_search = {};
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
      : network_(&network), optimizer_(&optimizer), options_(options), sites_(find_sites(network)) {
    const auto at_least = [](const char* option, double value, double least) {
      if (!(value >= least)) {
        throw ArgumentError(concat("Grower: ", option, " is ", value, "; it must be at least ", least));
      }
    };
    at_least("max_units", static_cast<double>(options.max_units), 1);
    at_least("significance", options.significance, 0);
    at_least("damping", options.damping, 0);
    at_least("statistics_samples", static_cast<double>(options.statistics_samples), 1);
    at_least("search_samples", static_cast<double>(options.search_samples), 1);
    at_least("batch_size", static_cast<double>(options.batch_size), 1);
    at_least("budget.parameters", static_cast<double>(options.budget.parameters), 1);
    if (sites_.empty()) {
      throw ArgumentError(
          "Grower: the network has no layer that can grow; it needs a Linear, at most one activation, "
          "and another Linear in a row");
    }
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
    report.method = options_.method.name;
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
        if (i == best) {
          report.sites.push_back(insert(ctx, training_set, sites_[i], std::move(proposals[i])));
          if (after_site) after_site(report.sites.back());
        } else {
          proposals[i].report.note = "another site promises more";
          report.sites.push_back(std::move(proposals[i].report));
        }
      }
      for (SiteReport& site : report.sites) site.parameters = nn::parameter_count(*network_);
    }
    report.parameters = nn::parameter_count(*network_);
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  }

 private:
  struct Proposal {
    SiteReport report;
    Insertion insertion;
  };

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
    covariances_.clear();
  }

  /// Calls `use(inputs, labels)` for every batch of the statistics.
  template <class Set, class Use>
  void for_each_batch(Context& ctx, const Set& set, const std::vector<std::int64_t>& indices, Use&& use) {
    const auto chosen = set.subset(indices);
    for (const auto& batch : chosen.template batches<T>(ctx, options_.batch_size)) {
      use(View<const T>(batch.images), View<const std::int32_t>(batch.labels));
    }
  }

  /// Statistics and solution of some sites, all from one pass over the samples.
  template <class Set>
  std::vector<Proposal> measure(Context& ctx, const Set& set, const std::vector<std::size_t>& which) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<Site<T>> sites;
    std::vector<SiteStatistics<T>> statistics;
    std::vector<bool> reads_network_input(which.size(), true);
    for (const std::size_t i : which) {
      sites.push_back(sites_[i]);
      const bool known = covariances_.count(sites.back().producer->weight().id) > 0;
      statistics.emplace_back(ctx, sites.back(),
                              StatisticsOptions{.fisher = options_.method.fisher, .covariance = !known});
    }
    for_each_batch(ctx, set, statistics_indices_, [&](View<const T> inputs, View<const std::int32_t> labels) {
      visit_sites<T>(ctx, *network_, sites, inputs, labels, options_.loss,
                     [&](Context&, std::size_t i, View<const T> unit, View<const T> consumer, View<const T> goal) {
                       statistics[i].update(ctx, unit, consumer, goal);
                       if (unit.data_handle() != inputs.data_handle()) reads_network_input[i] = false;
                     });
    });
    const double gathering = seconds_since(start);

    std::vector<Proposal> proposals;
    for (std::size_t i = 0; i < sites.size(); ++i) {
      const auto solving = std::chrono::steady_clock::now();
      const nn::ParameterId id = sites[i].producer->weight().id;
      const auto known = covariances_.find(id);
      Moments<double> moments = statistics[i].moments(ctx, known == covariances_.end() ? nullptr : &known->second);
      // No weight changes what enters the network: on the same samples its covariance stays what it is.
      if (reads_network_input[i] && known == covariances_.end()) covariances_[id] = clone(ctx, moments.s);
      proposals.push_back(propose(ctx, set, sites[i], moments));
      proposals.back().report.seconds = seconds_since(solving) + gathering / static_cast<double>(sites.size());
    }
    return proposals;
  }

  /// Solves for one site. Damps the moments.
  template <class Set>
  Proposal propose(Context& ctx, const Set& set, const Site<T>& site, Moments<double>& moments) {
    const Tensor<double> s1 = clone(ctx, moments.s1);
    moments.layer = site.name;
    damp(ctx, options_.damping, moments.s);
    damp(ctx, options_.damping, moments.s1);
    if (options_.method.fisher) damp(ctx, options_.damping, moments.fisher);
    const std::int64_t parameters = nn::parameter_count(*network_);
    const std::int64_t affordable =
        std::max<std::int64_t>(options_.budget.parameters - parameters, 0) / site.parameters_per_unit();
    const std::int64_t wanted = std::min(options_.max_units, affordable);
    const Solution<double> solution = solve(ctx, moments,
                                            SolveOptions{.route = options_.method.route,
                                                         .joint = options_.method.joint,
                                                         .fisher = options_.method.fisher,
                                                         .max_units = wanted,
                                                         .significance = options_.significance});
    Proposal proposal;
    SiteReport& report = proposal.report;
    report.name = site.name;
    report.width = site.width();
    report.goal_norm2 = moments.goal_norm2;
    report.best_move_decrease =
        best_move<double>(ctx, s1, View<const double>(moments.m1), {}, moments.resolution).decrease;
    report.bottleneck = std::max(0.0, moments.goal_norm2 - report.best_move_decrease);
    report.lambda = solution.lambda;
    report.threshold = solution.threshold;
    report.gain = solution.gain;
    report.parameters = parameters;
    report.note = wanted == 0 ? concat("the budget of ", options_.budget.parameters, " parameters leaves no room")
                              : solution.note;

    Insertion& insertion = proposal.insertion;
    insertion.units = solution.units;
    insertion.inputs = site.fan_in();
    insertion.outputs = site.fan_out();
    insertion.consumer_inputs = site.consumer_inputs();
    if (solution.units == 0) return proposal;
    insertion.fan_in = to_host(ctx, solution.fan_in);
    insertion.fan_out = to_host(ctx, solution.fan_out);
    double slope = kernels::slope_at_zero(site.activation) * solution.first_order_gain;
    if (site.activation == nn::Activation::relu) {
      OneSidedGains<T> gains(ctx, site, insertion);
      for_each_batch(ctx, set, statistics_indices_, [&](View<const T> inputs, View<const std::int32_t> labels) {
        visit_sites<T>(ctx, *network_, {site}, inputs, labels, options_.loss,
                       [&](Context&, std::size_t, View<const T> unit, View<const T>, View<const T> goal) {
                         gains.update(ctx, unit, goal);
                       });
      });
      slope = choose_signs(gains, insertion);
    }
    if (options_.move_weights) {
      insertion.move = to_host(ctx, solution.best_move);
      slope += solution.returned_move_decrease;
    }
    report.slope = slope;
    return proposal;
  }

  /// Chooses the amplitude of a proposal and inserts it if the line search accepts.
  template <class Set>
  SiteReport insert(Context& ctx, const Set& set, const Site<T>& site, Proposal proposal) {
    SiteReport report = std::move(proposal.report);
    if (proposal.insertion.units == 0) return report;
    const auto start = std::chrono::steady_clock::now();
    const auto search_set = set.subset(search_indices_);
    const auto batch = search_set.template batches<T>(ctx, search_set.size()).batch(0);
    const auto loss_now = [&] {
      const nn::Pass<T> pass{.mode = nn::Mode::training};
      const nn::Trace<T> trace = network_->forward(ctx, batch.images, pass);
      return options_.loss.template operator()<T>(ctx, trace.output, batch.labels, false).mean;
    };
    const auto loss_at = [&](double gamma) {
      if (gamma == 0.0) return loss_now();
      StagedEdit<T> staged(ctx, make_edit<T>(ctx, site, proposal.insertion, gamma), *network_);
      struct SwapBack {
        StagedEdit<T>& staged;
        ~SwapBack() { staged.swap(); }
      };
      staged.swap();
      const SwapBack restore{staged};
      return loss_now();
    };
    const LineSearchResult search = line_search(loss_at, options_.line_search);
    report.loss_before = search.loss_before;
    report.loss_after = search.loss_after;
    report.gamma = search.gamma;
    report.predicted = search.gamma * report.slope;
    report.evaluations = search.evaluations;
    if (search.accepted) {
      apply<T>(ctx, make_edit<T>(ctx, site, proposal.insertion, search.gamma), *network_, optimizer_);
      report.added = proposal.insertion.units;
      report.parameters = nn::parameter_count(*network_);
    } else {
      report.note = "rejected: no amplitude lowers the loss enough";
    }
    report.seconds += seconds_since(start);
    return report;
  }

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  nn::Layer<T>* network_;
  optim::Optimizer<T>* optimizer_;
  GrowerOptions options_;
  std::vector<Site<T>> sites_;
  std::int64_t chosen_from_ = -1;
  std::vector<std::int64_t> statistics_indices_;
  std::vector<std::int64_t> search_indices_;
  std::map<nn::ParameterId, Tensor<double>> covariances_;
};

template <class Network, class Optimizer>
Grower(Network&, Optimizer&, const GrowerOptions&) -> Grower<typename Network::value_type>;

}  // namespace meristem::inline MERISTEM_BACKEND::grow
