// The interface of growth methods: which statistics of a site a method reads, and the units it makes of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/grow/solve/moments.hpp>
#include <meristem/grow/solve/units.hpp>
#include <meristem/grow/units/insertion.hpp>

namespace meristem::grow {

/// Statistics that a method reads; nothing else is gathered. Symbols as in grow/solve/moments.hpp.
struct Needs {
  bool inputs = false;    ///< S
  bool consumer = false;  ///< S1 and M1, and the best move δW* that follows from them
  bool goal = false;      ///< M
  bool residual = false;  ///< N, the cross moment with what δW* leaves; brings `consumer` along
  bool noise = false;     ///< what N would be if it were noise; beside N
  bool joint = false;     ///< how today's inputs of the consumer explain the unit's inputs; brings `consumer` along
  bool fisher = false;    ///< E
  Route route = Route::cholesky;  ///< by which δW* is found
};

/// What was measured at one site, all in double precision in the context's memory; matrices that the method did not ask
/// for are empty. A fan-out has `taps` weights for each output: 1 between vectors, the kernel's of a convolution
/// (FanOut::full), the positions of a flattened map. Columns of M and N: [tap][output]; fan-ins: [ky][kx][in], the bias
/// last.
///
/// Of a stream with readers t, N = [N_1 | N_2 | ...] side by side, M, its noise and the fan-outs alike: `taps` is 1 and
/// `outputs` Σ taps_t q_t. S is the mean of the readers' (the same for all between vectors), `move` holds the moves of
/// all readers one after the other, sums of squares and decreases are sums over readers, S1 and M1 the first one's.
struct SiteMoments {
  std::string name;                  ///< of the site
  std::int64_t inputs = 0;           ///< p
  std::int64_t outputs = 0;          ///< q
  std::int64_t consumer_inputs = 0;  ///< d
  std::int64_t taps = 1;
  std::int64_t all_taps = 1;           ///< the same with FanOut::full
  std::int64_t positions = 1;          ///< outputs of the consumer per sample, per channel
  std::int64_t width = 0;              ///< units today
  std::int64_t before = 0, after = 0;  ///< what the consumer reads beside them, at each position
  bool unit_bias = false;              ///< whether the last of the p inputs is the constant 1
  bool consumer_bias = false;
  bool spatial = false;        ///< maps, not vectors
  double slope_at_zero = 1.0;  ///< σ'(0) of the activation; of a ReLU the right-hand one
  bool relu = false;           ///< a ReLU, which lets no gradient pass at 0
  bool homogeneous = false;    ///< σ(c h) = c σ(h) for positive c
  bool norm = false;           ///< a BatchNorm stands behind the units
  bool consumer_norm = false;  ///< a BatchNorm stands directly behind the consumer
  bool tied =
      false;  ///< scales of fan-ins do not last: others feed the same units, or their readers' norms take them out

  Moments<double> moments;      ///< S, S1, M1, M (p, taps q), E and, for vectors, P; not damped
  Tensor<double> n;             ///< N (p, taps q)
  Tensor<double> centred_goal;  ///< M of inputs less their mean, behind a BatchNorm; beside M
  Tensor<double> noise;         ///< N with a random sign for each sample
  /// C (p, taps r) with C Cᵀ = Σ_e P_e S1⁺ P_eᵀ, the sum over taps e: what today's inputs of the consumer explain of S.
  Tensor<double> explained;
  BestMove<double> move;    ///< δW*
  double bottleneck = 0.0;  ///< Ψ; 0 unless S1 and M1 were gathered

  /// Of today's units, in the layout of Insertion with all taps even for FanOut::centre, and their channels in the norm
  /// behind the producer; gathered when it is read.
  detail::LazyNumbers today;

  std::optional<double> damping;  ///< of S; none: to be chosen from N and its noise
  double consumer_damping = 0.0;  ///< of S1, by which δW* was found, and of E
  double significance = 1.0;      ///< c of the threshold on λ; with 0, or without `noise`, every unit counts
  bool move_weights = true;       ///< whether the move of today's weights is wanted
  std::int64_t max_units = 8;     ///< as GrowerOptions::how_many
};

/// Units a method has found for a site, before their amplitude is chosen.
struct Choice {
  /// Sizes other than `units` are filled in by the caller, and so are the mean and variance behind a BatchNorm where
  /// they are empty.
  Insertion insertion;
  std::vector<double> lambda;  ///< scores of all candidates, descending
  double threshold = 0.0;      ///< score below which a candidate is noise
  double damping = 0.0;        ///< of S, see `damp`
  double ridge_used = 0.0;     ///< what the factor of S needed beside it, see SolveOptions
  double gain = 0.0;           ///< score of the units together, Σ λ² for singular values
  /// ⟨A, M⟩ of the units if it is known; else it is measured, in one more pass.
  std::optional<double> first_order_gain;
  double move_decrease = 0.0;  ///< ⟨δW, M1ᵀ⟩ of the move that belongs to the choice
  /// The move in the insertion is δW*, from which what the units do within the span of today's weights is to be taken
  /// off: δW = δW* - (Σ_e A_eᵀ P_e) S1⁺.
  bool companion = false;
  /// Where what a unit does depends on its sign, take the better one.
  bool choose_signs = true;
  /// For taps that overlap: take ⟨N, A⟩ / Q(A) times A, where `gain` is ⟨N, A⟩.
  bool rescale = false;
  /// The metric (q, q) in which Q(A) measures what the units add to an output; empty for the plain norm.
  Tensor<double> output_metric;
  /// The fan-out has `site.all_taps` taps whatever was asked for: it is a copy of fan-outs that have.
  bool all_taps = false;
  /// False: the units go in as they are, at γ = 1.
  bool search_amplitude = true;
  /// The network's outputs stay what they are, in training and evaluation mode, up to rounding.
  bool preserves_function = false;
  /// The units belong together, as pairs that cancel or copies that share a fan-out: for fewer the method chooses anew.
  bool together = false;
  std::string note;  ///< why there are no units, or what was out of the ordinary
};

/// Says in the choice's note that fewer units than asked for can be told apart, min(p, taps q) or the rank of what
/// their scores come from, where that is so.
inline void note_rank(const SiteMoments& site, Choice& choice) {
  const std::int64_t units = choice.insertion.units, possible = std::min(site.inputs, site.taps * site.outputs);
  const auto index = static_cast<std::size_t>(units);
  const bool exhausted = units > 0 && index < choice.lambda.size() && choice.lambda[index] <= 1e-7 * choice.lambda[0];
  if (units >= site.max_units || site.max_units == unlimited || (site.max_units <= possible && !exhausted)) return;
  choice.note += concat(choice.note.empty() ? "" : "; ", "asked for ", site.max_units, " units, of which ", units,
                        " are significant: there are at most ", exhausted ? units : possible);
}

/// A growth method. It sees the statistics of one site at a time and never the network; it is const, so that one object
/// serves all sites.
class GrowthMethod {
 public:
  /// First-order gradients of what candidate units gain: of D_k = (1/n) Σ u(α_kᵀ[b 1]) ω_kᵀ v, in the layout of
  /// Insertion.
  struct Gradients {
    std::vector<double> gain;  ///< D_k
    Tensor<double> fan_in, fan_out;
  };

  virtual ~GrowthMethod() = default;

  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual Needs needs() const = 0;
  /// Units for a site, at most `site.max_units` of them. Finding none is an answer: `note` says why.
  [[nodiscard]] virtual Choice choose(Context& ctx, const SiteMoments& site) const = 0;

  /// Fan-ins (K, p) whose units' outputs are of interest beside a choice, between vectors with a ReLU: their moments go
  /// to `add_features` then. None, if the choice is complete.
  [[nodiscard]] virtual Tensor<double> features(Context& ctx, const SiteMoments& site, const Choice& choice) const {
    (void)ctx, (void)site, (void)choice;
    return {};
  }
  /// Adds units to a choice, at most up to `site.max_units`. In `moments` what the units of `fan_ins` put out stands in
  /// the place of a unit's inputs: S (K, K), M (K, q), P (K, d) and E (q, q).
  virtual void add_features(Context& ctx, const SiteMoments& site, const Tensor<double>& fan_ins,
                            const Moments<double>& moments, Choice& choice) const {
    (void)ctx, (void)site, (void)fan_ins, (void)moments, (void)choice;
  }

  /// Passes over the samples that candidates are shown to; `choose` returns the first ones, any number if there are
  /// passes.
  [[nodiscard]] virtual int candidate_passes() const { return 0; }
  /// Called after each of them, `pass` = 0 ... candidate_passes() - 1, with the candidates' gradients there; the last
  /// call has to cut them to at most `site.max_units`.
  virtual void refine(Context& ctx, const SiteMoments& site, const Gradients& gradients, int pass,
                      Choice& choice) const {
    (void)ctx, (void)site, (void)gradients, (void)pass, (void)choice;
  }
};

/// A growth method as a value: one of the library's, or `std::make_shared<YourMethod>(...)`.
using Method = std::shared_ptr<const GrowthMethod>;

}  // namespace meristem::grow
