// When the singular value of a candidate unit stands out of sampling noise.
#pragma once

#include <cmath>
#include <cstdint>

#include <meristem/core/config.hpp>

namespace meristem::grow {

/// λ above which a unit is significant: c σ (√p + √q) / √n with σ² = residual_norm2 / q.
///
/// If V_proj (q, n) were noise independent of the inputs, the p×q entries of S^{-1/2} N would have variance σ²/n with
/// σ² = ‖V_proj‖²_F / (n q), and √p + √q times their deviation is the edge of such a matrix's singular values.
/// `residual_norm2` is the mean over samples, Ψ = (1/n) ‖V_proj‖²_F, hence σ² = Ψ / q. The largest singular value of
/// pure noise scatters about the edge: with c = 1 about one noise matrix in six reaches past it, with c = 1.25
/// practically none.
[[nodiscard]] inline double significance_threshold(double c, double residual_norm2, std::int64_t p, std::int64_t q,
                                                   std::int64_t samples) {
  if (q <= 0 || samples <= 0 || !(residual_norm2 > 0.0)) return 0.0;
  const double sigma = std::sqrt(residual_norm2 / static_cast<double>(q));
  return c * sigma * (std::sqrt(static_cast<double>(p)) + std::sqrt(static_cast<double>(q))) /
         std::sqrt(static_cast<double>(samples));
}

}  // namespace meristem::grow
