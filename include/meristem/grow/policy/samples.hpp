// How many samples the statistics of growth need: as many as it takes to tell units from noise.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/nn/batch.hpp>

namespace meristem::grow {

namespace detail {

/// Indices into a training set.
struct ChosenSamples {
  std::vector<std::int64_t> search, statistics;
};

}  // namespace detail

/// Samples for the line search, and others for the statistics; both from the two ends of one random order, a pure
/// function of the seed. At most a fifth of the set goes to the search. Of a set of one sample both get that.
[[nodiscard]] detail::ChosenSamples draw_samples(std::uint64_t seed, std::int64_t size, std::int64_t search_samples,
                                                 std::int64_t statistics_samples);

namespace detail {

/// Tells samples of one set from others, and from those of another set at the same indices: a hash of the indices and
/// of what a network reads of up to 16 of the samples, spread over all of them.
template <Real T>
[[nodiscard]] std::uint64_t fingerprint(Context& ctx, const nn::BatchSource<T>& set,
                                        std::span<const std::int64_t> indices);

}  // namespace detail

/// Samples at which a unit that explains a share f of the bottleneck, λ² = f Ψ, reaches the threshold of significance
/// c σ (√p + √q) / √n, where σ² = Ψ / q: n = c² (√p + √q)² / (f q). Throws ArgumentError for a share outside (0, 1].
[[nodiscard]] double samples_to_see(double share, double c, std::int64_t p, std::int64_t q);

namespace detail {

enum class Evidence {
  open,   ///< more samples may change the answer
  above,  ///< a significant unit, also if λ is overestimated by as much as noise can
  below,  ///< none, and not with all samples either
};

/// What the leading singular value says after n samples, at most `most` to come. `edge` is the largest singular value
/// that noise alone shows at n, c σ (√p + √q) / √n for c = 1; the threshold is c edge.
///
/// By Weyl's inequality noise moves each λ by at most its own largest singular value: λ - edge > c edge stays
/// significant. Signal and noise add up about in squares, so that without noise λ is about √(λ² - edge²), with the
/// tenth by which the edge itself scatters at most √(λ² - 0.9² edge²): if even that is below the threshold that all
/// samples would give, c edge √(n / most), and λ itself below today's, looking at more of them is in vain.
[[nodiscard]] Evidence judge(double lambda, double edge, double c, std::int64_t n, std::int64_t most);

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/samples_impl.hpp>
#endif
