// TINY: the units that express most of what today's weights cannot, from the statistics of one site.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/grow/methods/features.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>
#include <meristem/grow/solve/shrinkage.hpp>
#include <meristem/grow/solve/units.hpp>
#include <meristem/grow/solve/whitening.hpp>

namespace meristem::grow {

namespace detail {

/// W (r, q) with Wᵀ W = E⁺.
[[nodiscard]] Tensor<double> output_metric(Context& ctx, const SiteMoments& site);

class Tiny final : public GrowthMethod {
 public:
  struct Options {
    Route route = Route::cholesky;
    bool joint = false;    ///< units and the move of today's weights optimised together
    bool fisher = false;   ///< in the metric of the outputs' empirical Fisher matrix
    bool features = true;  ///< random features fill up where fewer units than asked for are significant
  };

  explicit Tiny(const Options& options) : options_(options) {}

  [[nodiscard]] std::string name() const override;

  [[nodiscard]] Needs needs() const override;

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override;

  [[nodiscard]] Tensor<double> features(Context& ctx, const SiteMoments& site, const Choice& choice) const override;
  void add_features(Context& ctx, const SiteMoments& site, const Tensor<double>& fan_ins,
                    const Moments<double>& moments, Choice& choice) const override {
    detail::add_features(ctx, site, fan_ins, moments, choice);
  }

 private:
  /// What is solved at one site, for whatever share of damping.
  class Problem {
   public:
    Problem(Context& ctx, const Options& options, const SiteMoments& site);

    [[nodiscard]] bool joint() const { return joint_; }

    /// The damping that cross-validation chooses.
    [[nodiscard]] ValidatedDamping validated_damping() const;

    /// S, or what today's weights leave of it, damped and whitened.
    [[nodiscard]] detail::WhitenedInputs<double> inputs(ValidatedDamping damping) const;

    /// Units for N, whose λ exceed `times_noise` times the largest one of its noise.
    [[nodiscard]] Units<double> units(const detail::WhitenedInputs<double>& inputs, std::int64_t most,
                                      double times_noise) const;

    /// δW*, or E⁺ δW*.
    [[nodiscard]] Tensor<double> move() const;

    /// move (q, d) -= Aᵀ P S1⁺ with A = Σ α_k ω_kᵀ, between vectors.
    void subtract_explained(const Units<double>& units, Tensor<double>& move) const;

   private:
    /// s -= C Cᵀ.
    void leave_unexplained(Tensor<double>& s) const;
    /// n (p, taps q) with its outputs in the metric, (p, taps r).
    [[nodiscard]] Tensor<double> in_metric(const Tensor<double>& n) const;

    Context& ctx_;
    const SiteMoments& site_;
    Options options_;
    bool joint_;
    Tensor<double> metric_;
  };

  /// a op(w), for `a` as rows of `columns` numbers.
  [[nodiscard]] static Tensor<double> times(Context& ctx, Transpose transpose, const Tensor<double>& a,
                                            std::int64_t columns, const Tensor<double>& w);

  Options options_;
};

}  // namespace detail

/// M. Verbockhaven, T. Rudkiewicz, S. Chevallier, G. Charpiat, "Growing tiny networks: spotting expressivity
/// bottlenecks and fixing them optimally" (TMLR 2024): units from the leading singular triplets of S^{-1/2} N, with the
/// best move of today's weights. These units are linear functions of the layer's inputs, to first order. Between
/// vectors with a ReLU, where fewer of them are significant than were asked for, random features fill up
/// (methods/features.hpp).
[[nodiscard]] inline Method tiny(Route route = Route::cholesky) {
  return std::make_shared<const detail::Tiny>(detail::Tiny::Options{.route = route});
}
/// Units and the move of today's weights optimised together, which the paper of TINY does one after the other:
/// S⊥ = S - P S1⁺ Pᵀ in the place of S, and the companion move δW* - Aᵀ P S1⁺. In maps every tap of a fan-out counts as
/// a sample of its own, as it does in S.
[[nodiscard]] inline Method tiny_joint(Route route = Route::cholesky) {
  return std::make_shared<const detail::Tiny>(detail::Tiny::Options{.route = route, .joint = true});
}
/// TINY preconditioned by the empirical Fisher matrix E of the outputs, after the paper and gromo, its authors'
/// library; in maps E adds up all positions: units from S^{-1/2} N E^{-1/2}, ω ← E^{-1/2} ω, δW = E⁺ δW*. Where taps of
/// a fan-out overlap, the units get the factor ⟨N, A⟩ / Q(A) as they do without the metric, with Q(A) in it.
[[nodiscard]] inline Method tiny_fisher() {
  return std::make_shared<const detail::Tiny>(detail::Tiny::Options{.fisher = true});
}

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/tiny_impl.hpp>
#endif
