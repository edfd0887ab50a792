// Growth of a whole network: measure the bottleneck of every site, solve, choose the amplitude, insert.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/grow/history.hpp>
#include <meristem/grow/measure/measurement.hpp>
#include <meristem/grow/measure/measurer.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/options.hpp>
#include <meristem/grow/policy/budget.hpp>
#include <meristem/grow/policy/carry_out.hpp>
#include <meristem/grow/policy/replay.hpp>
#include <meristem/grow/policy/samples.hpp>
#include <meristem/grow/policy/streams.hpp>
#include <meristem/grow/policy/when.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/units/depth.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/grow/units/prune.hpp>
#include <meristem/nn/batch.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::grow {

/// Grows a network in place, and its optimiser's state with it.
template <Real T>
class Grower {
 public:
  /// The network may be moved meanwhile; the optimiser must outlive the Grower. Throws ArgumentError for an optimiser
  /// of another network, options outside their range or in contradiction to each other, names of sites that are none, a
  /// network without a site, a method that cannot serve a site, or a budget of parameters without room for a single
  /// unit.
  Grower(nn::Layer<T>& network, optim::Optimizer<T>& optimizer, const GrowerOptions& options = {});

  /// The layers that can grow; a block that joins brings its own, unless no widths grow.
  [[nodiscard]] const std::vector<Site<T>>& sites() const noexcept { return sites_; }
  [[nodiscard]] const GrowerOptions& options() const noexcept { return options_; }

  /// One growth step, measured on samples of `training_set`. `after_site` is called after each site with its report,
  /// which it may complete. Rejected growth leaves the network as it was to the last bit, and no growth draws random
  /// numbers from the context. Throws NumericError that names the site for statistics that are not finite,
  /// ArgumentError for a budget of multiply-adds without room for a single unit at the first step and if the network is
  /// gone, DataError for a replay that finds other units than its history.
  GrowthReport grow(Context& ctx, const std::type_identity_t<nn::BatchSource<T>>& training_set,
                    const std::function<void(SiteReport&)>& after_site = {});

  /// A growth step, if GrowerOptions::when says that one is due and growth is not over; ask once per epoch or step,
  /// whichever it counts. Where it depends on the bottleneck, the Grower measures that itself. Throws as `grow` and
  /// When.
  std::optional<GrowthReport> grow_when_due(Context& ctx, const std::type_identity_t<nn::BatchSource<T>>& training_set,
                                            Progress now, const std::function<void(SiteReport&)>& after_site = {});

  /// Why growth is over by GrowerOptions::until, in words; nothing as long as it is not. `grow` grows all the same.
  [[nodiscard]] std::optional<std::string> over() const { return until_.over(options_.until); }

  /// What the network may cost from now on. If it is raised, growth steps that added nothing no longer count for
  /// `over`. Throws ArgumentError for a budget below 1.
  void set_budget(const Budget& budget);

  /// Measures every site and changes nothing: reports with ‖V_goal‖², D_W and Ψ. Throws as `grow`.
  [[nodiscard]] std::vector<SiteReport> probe(Context& ctx,
                                              const std::type_identity_t<nn::BatchSource<T>>& training_set);

  /// The largest share of the desired update, Ψ / ‖V_goal‖², that a site cannot express; for When::bottleneck.
  [[nodiscard]] double unexpressed(Context& ctx, const std::type_identity_t<nn::BatchSource<T>>& training_set);

  /// What it remembers from one growth step to the next, as plain numbers; for a checkpoint. All else follows from the
  /// network, the data and the options.
  [[nodiscard]] std::vector<double> state() const;
  /// Throws ArgumentError for numbers of a Grower of another number of sites or another GrowerOptions::when.
  void restore(const std::vector<double>& numbers);

 private:
  using Source = nn::BatchSource<T>;
  using AfterSite = std::function<void(SiteReport&)>;
  using MaxUnits = typename Measurer<T>::MaxUnits;

  /// Draws the fixed samples of the statistics and of the line search, once.
  void choose_samples(Context& ctx, const Source& set);

  /// What the measurer remembers holds for one number of samples.
  void use_samples(std::int64_t count);

  /// Shapes of all layers' inputs, for what depends on the sizes of maps. Throws ArgumentError if the budget of
  /// multiply-adds has no room at the first growth step.
  void see_shapes(Context& ctx, const Source& set);

  /// Of the network, without the empty blocks that are looked at.
  [[nodiscard]] std::int64_t parameters() const {
    return nn::parameter_count(*network_) - (blocks_ ? blocks_->parameters() : 0);
  }

  /// Which of the blocks that are looked at has the site, or how many there are.
  [[nodiscard]] std::size_t block_of(const Site<T>& site) const;

  /// What a block costs beside its units; nothing for a layer that is there. Multiply-adds only if shapes are known.
  [[nodiscard]] detail::UnitCost fixed_cost(const Site<T>& site, bool with_work) const;

  [[nodiscard]] std::vector<Site<T>> sites_at(const std::vector<std::size_t>& which) const;

  /// Of one forward pass of one sample.
  [[nodiscard]] std::int64_t multiply_adds() const { return network_->multiply_adds(*input_shape_); }

  /// Units that fit into the budget, and which budget limits them.
  [[nodiscard]] std::pair<std::int64_t, std::string> affordable(const Site<T>& site, std::int64_t taps) const;

  /// Proposals from passes over some samples. Throws NumericError that names the site.
  std::vector<Proposal> measured(Context& ctx, const Source& set, const std::vector<Site<T>>& sites,
                                 const MeasurementOptions& options, const std::vector<std::int64_t>& indices,
                                 const MaxUnits& max_units);

  /// Proposals for some sites, all from the same passes over the samples. `recorded`: their reports in a history.
  std::vector<Proposal> measure(Context& ctx, const Source& set, const std::vector<Site<T>>& sites,
                                const std::vector<const SiteReport*>& recorded = {});

  /// Proposals for `among[i]`, i in `now`, from the first `count` samples.
  std::vector<Proposal> measure_on(Context& ctx, const Source& set, const std::vector<Site<T>>& among,
                                   const std::vector<std::size_t>& now, const std::vector<const SiteReport*>& recorded,
                                   std::int64_t count);

  /// Grows sites in turn, each measured after the ones before it have grown; the sources of a stream together.
  void one_after_another(Context& ctx, const Source& set, const std::vector<std::size_t>& which, GrowthReport& report,
                         const AfterSite& after_site, const std::vector<const SiteReport*>& recorded = {});

  /// Grows sites that are all measured in the same passes, in the order data flows.
  void all_at_once(Context& ctx, const Source& set, const std::vector<std::size_t>& which, GrowthReport& report,
                   const AfterSite& after_site, const std::vector<const SiteReport*>& recorded = {});

  /// Grows the site that gains most by the rule, and reports all.
  void best_alone(Context& ctx, const Source& set, GrowthReport& report, const AfterSite& after_site);

  /// Of the proposals for some sites, leaves each stream the units that are worth most, or those that are recorded.
  void choose(const std::vector<std::size_t>& which, std::vector<Proposal>& proposals,
              const std::vector<const SiteReport*>& recorded) const;

  /// What the rule for where to grow compares.
  [[nodiscard]] double worth(const Site<T>& site, const Proposal& proposal) const;

  /// Whether multiply-adds are what is scarce, and not parameters.
  [[nodiscard]] bool short_of_work() const {
    const Budget none;
    return options_.budget.limits_multiply_adds() && options_.budget.parameters == none.parameters;
  }

  /// Slope per parameter, or per multiply-add, of everything that a proposal brings.
  [[nodiscard]] double per_cost(const Site<T>& site, const Proposal& proposal, bool by_work) const;

  /// Proposals for the first units of blocks that are not there, and the best of them.
  struct Places {
    std::vector<Proposal> proposals;
    std::size_t best = 0;
    double worth = 0.0;  ///< by the rule for where to grow where that picks one site, else for what it costs
  };

  /// Makes empty blocks for all places, or for that of a recorded block, and measures them. Throws ArgumentError if
  /// there is no such place, or for a method that cannot serve one.
  Places measure_places(Context& ctx, const Source& set, const SiteReport* recorded = nullptr);

  /// Gives the best place its units if `take`, and reports all; `why_not` says why the others get none.
  void grow_block(Context& ctx, const Source& set, Places places, bool take, const std::string& why_not,
                  GrowthReport& report, const AfterSite& after_site, const SiteReport* recorded = nullptr);

  /// After widths have grown: a block joins if its units are worth more for what they cost than theirs were.
  void deepen(Context& ctx, const Source& set, GrowthReport& report, const AfterSite& after_site);

  /// The growth step of a history that is next. Throws ArgumentError if there is none or it is not of this network.
  void replay_event(Context& ctx, const Source& set, GrowthReport& report, const AfterSite& after_site);

  /// Measures what the norms of a stream's riders read of its new units, on the samples of the statistics.
  void measure_riders(Context& ctx, const Source& set, const Site<T>& site, const SiteReport& report);

  /// Chooses the amplitude of a proposal and inserts it if that is accepted. `recorded`: its report in a history.
  SiteReport insert(Context& ctx, const Source& set, const Site<T>& site, Proposal proposal,
                    const std::vector<const SiteReport*>& recorded);

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  nn::LayerHandle<T> network_;
  optim::Optimizer<T>* optimizer_;
  GrowerOptions options_;
  Measurer<T> measurer_;
  HowMany how_many_;
  std::vector<Site<T>> sites_;
  std::unique_ptr<EmptyBlocks<T>> blocks_;  // during a growth step
  double operations_ = 0.0;
  std::int64_t chosen_from_ = -1;
  std::vector<std::int64_t> statistics_indices_;
  std::vector<std::int64_t> search_indices_;
  std::int64_t samples_in_use_ = -1;
  std::optional<Shape> input_shape_;  // of one sample
  detail::InputShapes<T> shapes_;     // of one sample, if costs depend on them
  std::size_t next_site_ = 0;         // whose turn it is, of `turns_of`
  std::size_t replayed_ = 0;          // growth steps of the history
  bool first_step_done_ = false;
  detail::UntilCount until_;
};

template <class Network, class Optimizer>
Grower(Network&, Optimizer&, const GrowerOptions&) -> Grower<typename Network::value_type>;

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/grower_impl.hpp>
#endif
