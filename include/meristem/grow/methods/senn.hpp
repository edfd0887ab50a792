// SENN: units that raise the natural expansion score of the network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <meristem/grow/methods/common.hpp>
#include <meristem/grow/methods/method.hpp>
#include <meristem/grow/methods/tiny.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>

namespace meristem::grow {

namespace detail {

/// The natural expansion score η = gᵀ F⁻¹ g at one site, with the Fisher matrix F as a Kronecker product of second
/// moments of inputs and of output gradients.
struct NaturalScore {
  double current = 0.0;        ///< of today's weights: tr(M1ᵀ S1⁺ M1 E⁺)
  double added = 0.0;          ///< what `units` more units raise it by: Σ λ²
  std::vector<double> lambda;  ///< singular values of S⊥^{-1/2} N E^{-1/2}, descending
  std::int64_t units = 0;

  /// By which share the units raise the score.
  [[nodiscard]] double ratio() const { return added > 0.0 ? added / current : 0.0; }
};

class Senn final : public GrowthMethod {
 public:
  struct Options {
    double least_ratio = 0.01;
    UnitScale scale = UnitScale::copied;
    Route route = Route::cholesky;
  };

  explicit Senn(const Options& options);

  [[nodiscard]] std::string name() const override { return "senn"; }
  [[nodiscard]] Needs needs() const override { return tiny_.needs(); }

  [[nodiscard]] Choice choose(Context& ctx, const SiteMoments& site) const override;

 private:
  [[nodiscard]] static NaturalScore score_of(Context& ctx, const SiteMoments& site, const Choice& found);

  Options options_;
  Tiny tiny_;
};

}  // namespace detail

/// R. Mitchell, R. Menzenbach, K. Kersting, M. Mundt, "Self-expanding neural networks" (2023): units with the fan-ins
/// that raise the natural expansion score most, S⊥^{-1/2} u_k with the triplets of S⊥^{-1/2} N E^{-1/2}, at the scale
/// of today's weights, and fan-outs of zero; only where the score grows by more than `least_ratio` of itself.
///
/// The paper sets the thresholds of the score for each experiment; 0.01, the default of `least_ratio`, is this
/// library's own choice. Fan-ins are the best ones of the activation linearised at 0. Only width grows, not depth.
[[nodiscard]] inline Method senn(double least_ratio = 0.01, UnitScale scale = UnitScale::copied,
                                 Route route = Route::cholesky) {
  return std::make_shared<const detail::Senn>(
      detail::Senn::Options{.least_ratio = least_ratio, .scale = scale, .route = route});
}

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/methods/senn_impl.hpp>
#endif
