// The statistics a growth step is computed from, and the check that they are what they claim to be.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/grow/solve/matrix_ops.hpp>

namespace meristem::grow {

/// Second moments at one place where hidden units can be added: between the layer with fan-in p that produces the
/// hidden units, and the layer with d inputs today and q outputs that consumes them.
///
/// B2 (p, n) holds the inputs of the first layer, B1 (d, n) those of the second, V (q, n) the desired update of the
/// second layer's pre-activation, minus the gradient of the SUMMED loss; a bias is a last coordinate that is 1.
/// Everything is a sum of per-sample outer products divided once by the number of samples. Symmetric matrices hold
/// both triangles. An empty hidden layer without bias has d = 0: s1, m1 and cross are then empty.
template <Real T>
struct Moments {
  Tensor<T> s1;              ///< S1 = (1/n) B1 B1ᵀ, (d, d)
  Tensor<T> m1;              ///< M1 = (1/n) B1 Vᵀ, (d, q): minus the weight gradient of the mean loss
  Tensor<T> s;               ///< S = (1/n) B2 B2ᵀ, (p, p)
  Tensor<T> m;               ///< M = (1/n) B2 Vᵀ, (p, q)
  Tensor<T> cross;           ///< P = (1/n) B2 B1ᵀ, (p, d)
  Tensor<T> fisher;          ///< E = (1/n) V Vᵀ, (q, q); may be empty
  double goal_norm2 = 0.0;   ///< (1/n) ‖V‖²_F
  std::int64_t samples = 0;  ///< n
  /// Relative error of the elements: the epsilon of the type they were accumulated in. 0: that of T.
  double resolution = 0.0;
  /// What error messages call this place; may be empty.
  std::string layer;
};

namespace detail {

struct Extents {
  std::int64_t p, d, q;
};

[[nodiscard]] inline std::string qualified(const std::string& layer, const char* name) {
  return layer.empty() ? std::string(name) : concat(layer, ": ", name);
}

/// Variances below this share of the largest are taken for zero.
inline constexpr double negligible_variance = 1e-20;

/// Throws ShapeError, NumericError or ArgumentError if the moments do not fit together.
template <Real T>
Extents require_moments(Context& ctx, const Moments<T>& moments, bool with_fisher);

/// As `damp`, of a matrix (p, p) whose diagonal is `variances`; they become the new diagonal.
template <Real T>
void damp_known(Context& ctx, double share, Tensor<T>& a, std::vector<double>& variances);

}  // namespace detail

/// Multiplies the diagonal of a second moment a (p, p) by 1 + share: a ridge in units of each element's own mean
/// square, so that scaling the elements scales the solution and changes nothing else. It is the remedy of ridge
/// regression (A. Hoerl, R. Kennard, 1970) for directions that the samples hardly show. An element whose mean square is
/// below 1e-20 of the largest, a ReLU that is all but dead, would receive a weight without bound: its rows and columns
/// become zero. Throws ArgumentError for a negative share, ShapeError unless a is square.
template <Real T>
void damp(Context& ctx, double share, Tensor<T>& a);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/solve/moments_impl.hpp>
#endif
