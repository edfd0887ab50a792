// Growth of a whole network: measure the bottleneck of every site, choose units, decide which stay, edit, report.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include <meristem/grow/growth_step.hpp>
#include <meristem/grow/options.hpp>
#include <meristem/grow/policy/when.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/nn/batch.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::grow {

/// Grows a network in place, and its optimiser's state with it.
template <Real T>
class Grower {
 public:
  using Source = nn::BatchSource<T>;
  /// Called after each site with its report, which it may complete; where sites are compared, for all of them once the
  /// best has grown.
  using AfterSite = std::function<void(SiteReport&)>;

  /// The network may be moved meanwhile; the optimiser must outlive the Grower. Throws ArgumentError for an optimiser
  /// of another network, options outside their range or in contradiction to each other, names of sites that are none, a
  /// network without a site, a method that cannot serve a site, or a budget of parameters without room for a single
  /// unit.
  Grower(nn::Layer<T>& network, optim::Optimizer<T>& optimizer, const GrowerOptions& options = {});

  /// The layers that can grow; a block that joins brings its own, unless no widths grow.
  [[nodiscard]] const std::vector<Site<T>>& sites() const noexcept { return growing_.sites; }
  [[nodiscard]] const GrowerOptions& options() const noexcept { return growing_.options; }

  /// One growth step, measured on samples of `training_set`. Rejected growth leaves the network as it was to the last
  /// bit, and no growth draws random numbers from the context. Throws NumericError that names the site for statistics
  /// that are not finite, ArgumentError for a budget of multiply-adds without room for a single unit at the first step,
  /// for a rule that changed the order of the candidates and if the network is gone, DataError for a replay that finds
  /// other units than its history.
  GrowthReport grow(Context& ctx, const std::type_identity_t<Source>& training_set, const AfterSite& after_site = {});

  /// A growth step, if GrowerOptions::when says that one is due and growth is not over; ask once per epoch or step,
  /// whichever it counts. Where it depends on the bottleneck, the Grower measures that itself. Throws as `grow` and
  /// When.
  std::optional<GrowthReport> grow_when_due(Context& ctx, const std::type_identity_t<Source>& training_set,
                                            When::Progress now, const AfterSite& after_site = {});

  /// Why growth is over by GrowerOptions::when, in words; nothing as long as it is not. `grow` grows all the same.
  [[nodiscard]] std::optional<std::string> over() const { return growing_.options.when.over(); }

  /// What the network may cost from now on. If it is raised, growth steps that added nothing no longer count for
  /// `over`. Throws ArgumentError for a budget below 1.
  void set_budget(const Budget& budget);

  /// Measures every site and changes nothing: reports with ‖V_goal‖², D_W and Ψ. Throws as `grow`.
  [[nodiscard]] std::vector<SiteReport> probe(Context& ctx, const std::type_identity_t<Source>& training_set);

  /// The largest share of the desired update, Ψ / ‖V_goal‖², that a site cannot express; for When::bottleneck.
  [[nodiscard]] double unexpressed(Context& ctx, const std::type_identity_t<Source>& training_set);

  /// What it remembers from one growth step to the next, as plain numbers; for a checkpoint. All else follows from the
  /// network, the data and the options.
  [[nodiscard]] std::vector<double> state() const;
  /// Throws ArgumentError for numbers of a Grower of another number of sites or another GrowerOptions::when.
  void restore(const std::vector<double>& numbers);

 private:
  detail::Growing<T> growing_;
};

template <class Network, class Optimizer>
Grower(Network&, Optimizer&, const GrowerOptions&) -> Grower<typename Network::value_type>;

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/grower_impl.hpp>
#endif
