// What a Grower is told.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <meristem/grow/history.hpp>
#include <meristem/grow/measure/map_statistics.hpp>
#include <meristem/grow/methods/methods.hpp>
#include <meristem/grow/policy/amplitude.hpp>
#include <meristem/grow/policy/budget.hpp>
#include <meristem/grow/policy/decider.hpp>
#include <meristem/grow/policy/how_many.hpp>
#include <meristem/grow/policy/when.hpp>
#include <meristem/grow/policy/where.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/loss.hpp>

namespace meristem::grow {

struct GrowerOptions {
  Method method = tiny();
  When when = {};  ///< read by Grower::grow_when_due and, for its ends, by Grower::over
  Where where = Where::all;
  /// Whether streams, which skip connections tie together, grow as well as hidden layers. The sources of a stream share
  /// its new channels: of the units of all of them those go in that lower the loss most.
  Widths widths = Widths::hidden;
  /// Whether residual blocks join at the places that `find_places` finds; an empty one is the identity. At most
  /// one does in a growth step: that of the place which is worth most, norms and biases paid for. Where the rule picks
  /// one site it competes with them all; where every site grows, its units have to gain more per parameter than theirs
  /// did on the whole; with round_robin the places have one turn together. What joined grows on in width, unless
  /// `sites` names others or `widths` is none. Another Grower of the same network has to be made anew then.
  bool depth = false;
  std::vector<std::string> sites = {};  ///< names of the layers that may grow, in any order; none means all that can
  FanOut fan_out = FanOut::full;        ///< of units that a convolution consumes; of streams always full
  HowMany how_many = {.at_most = 8};    ///< units per site and growth step
  std::int64_t statistics_samples = 10'000;  ///< at most
  /// If positive: start with so many and double them until it is clear whether a site has significant units.
  std::int64_t first_samples = 0;
  std::int64_t search_samples = 1'000;  ///< fixed samples of the line search, apart from those of the statistics
  /// In measuring and line search. Without BatchNorm it changes no result; a BatchNorm normalises each batch by its own
  /// statistics, as in training, and small batches make these noisy.
  std::int64_t batch_size = 512;
  bool move_weights = true;  ///< apply δW as well as the units; never to the readers of a stream
  /// The share by which S, S1 and E are damped (see `damp`) before units and moves are solved for: a few hundred
  /// samples say next to nothing about the directions of least variance, which S^{-1/2} weighs most. None chooses it
  /// site by site, by cross-validation.
  std::optional<double> damping = std::nullopt;
  Amplitude amplitude = {};
  /// What the line search may keep of the activations in front of the site, which growth there does not change.
  std::int64_t search_memory = std::int64_t{256} << 20;
  Budget budget = {};       ///< what the network may cost
  Decider rule = {};        ///< your own say in how many units which sites get
  nn::Objective loss = {};  ///< what the network is trained for
  /// Takes sites, numbers of units and amplitudes from a history, which alone decides then: growth step k from its
  /// event k. With the network, data, seed and other options of the run that wrote it, the network gets the same bits.
  std::shared_ptr<const History> replay = nullptr;
};

namespace detail {

/// Throws ArgumentError for options outside their range or in contradiction to each other.
void require_options(const GrowerOptions& options);

/// The sites that the options name. Throws ArgumentError for names that are none, also in target widths, and for a
/// network without a site.
template <Real T>
[[nodiscard]] std::vector<Site<T>> sites_of(nn::Layer<T>& network, const GrowerOptions& options);

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/options_impl.hpp>
#endif
