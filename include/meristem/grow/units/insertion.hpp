// From a solution of the growth problem to the edit that inserts it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/units/layout.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow {

/// New units and the move of today's weights that goes with them, in the memory of the Context, before their amplitude
/// is chosen. Of a stream with readers t, `taps` is 1, `outputs` is Σ taps_t q_t, and a fan-out is those of all
/// readers, each taps_t × q_t, one after the other, as are the moves of all readers, each q_t × d_t.
struct Insertion {
  std::int64_t units = 0;
  std::int64_t inputs = 0;           ///< p: numbers per unit in `fan_in`, the bias last if there is one
  std::int64_t outputs = 0;          ///< q: outputs of the consumer
  std::int64_t consumer_inputs = 0;  ///< d: numbers per output in `move`, the bias last if there is one
  Tensor<double> fan_in = {};        ///< α (units, inputs); of a convolution [ky][kx][in]
  Tensor<double> fan_out = {};       ///< ω (units, taps × outputs)
  Tensor<double> move = {};          ///< δW (outputs, consumer inputs), of a stream in one row; empty for none
  /// Weights by which an output of the consumer reads a unit: 1 between vectors, and for the centre tap alone of a
  /// convolution; the taps of its kernel; the positions of a flattened map.
  std::int64_t taps = 1;
  /// Mean and (biased) variance of α_kᵀ[b 1] over samples and positions (units); where a BatchNorm stands behind the
  /// units.
  Tensor<double> mean = {}, variance = {};

  /// Factors c_k (units) for what makes the unit (its fan-in, or weight and shift of the BatchNorm behind it), by which
  /// its fan-out is divided; empty for 1. With norms in front of a stream's readers (units, norms): one for each of
  /// Site::input_norms.
  Tensor<double> split = {};

  /// Weights and shifts (units) of the added channels of the BatchNorm, in place of those that make the normalised unit
  /// √γ α_kᵀ[b 1]; of all on the way from the source to the readers. The fan-in then goes in as it is.
  Tensor<double> norm_weight = {}, norm_shift = {};

  /// Of a stream: the rows of the new units in the other sources, in the order of Site::riders, each (units, inputs),
  /// the bias last; a rider without numbers gets rows of zeros. Behind a norm, whose new weights and shifts are 0, they
  /// are what training begins with; a rider without a norm gets zeros whatever stands here.
  std::vector<Tensor<double>> rider_rows = {};
  /// Today's unit that each new one copies, empty for none. In a stream the other sources then copy their rows and norm
  /// channels, and all readers that the units do not reach their weights, times `fan_out_factor`.
  std::vector<std::int64_t> copies = {};

  /// Factors (width) for today's units, empty for none: of the weights by which the consumer reads them; and of their
  /// fan-in, bias included, or of weight and shift of the BatchNorm behind it.
  Tensor<double> fan_out_factor = {}, fan_in_factor = {};
  /// Factor of the consumer's weights and bias today, which a BatchNorm directly behind it takes out again: its running
  /// statistics follow, and its weight makes up for its epsilon. Any other than 1 needs that BatchNorm.
  double consumer_factor = 1.0;
};

namespace detail {

/// The input axis of a reader, of so many places behind a Flatten: where its old indices go and where `units` are added
/// to `width`.
template <Real T>
[[nodiscard]] std::vector<std::int64_t> reader_map(const Reader<T>& reader, std::int64_t width, std::int64_t places,
                                                   std::int64_t units);

/// Where the numbers of one reader stand in those of an insertion; a hidden layer has one reader.
struct ReaderPart {
  std::int64_t taps = 1;
  std::int64_t begin = 0, size = 0;            ///< columns of `fan_out`
  std::int64_t move_begin = 0, move_size = 0;  ///< numbers of `move`
};

/// Of all readers, in their order.
template <Real T>
[[nodiscard]] std::vector<ReaderPart> reader_parts(const Site<T>& site, const Insertion& insertion);

/// Throws ShapeError unless the fan-ins and fan-outs were made for this site as it is.
template <Real T>
void require_units_fit(const Site<T>& site, const Insertion& insertion);

/// Throws ShapeError or ArgumentError unless the whole insertion was.
template <Real T>
void require_fit(const Site<T>& site, const Insertion& insertion);

/// Throws ArgumentError unless all numbers are finite, variances 0 or more, splits positive.
template <Real T>
void require_numbers(Context& ctx, const Site<T>& site, const Insertion& insertion);

/// ω / divisor in the order of the weight of a reader along its last axis, in the shape of that weight.
template <Real T>
[[nodiscard]] Tensor<T> fan_out_slices(Context& ctx, const Site<T>& site, const Insertion& insertion,
                                       std::size_t reader, PerUnit divisor = {});

/// scale = the root mean square of a norm's weights, those of 0 left out: channels that other sources of a stream
/// brought are at 0 until they are trained. 1 if there are none. Of all numbers in `scale`, which has no gaps.
template <Real T>
void weight_scale(Context& ctx, const nn::BatchNorm<T>& norm, View<double> scale);

/// That of each norm.
template <Real T>
[[nodiscard]] Tensor<double> weight_scales(Context& ctx, const std::vector<nn::BatchNorm<T>*>& norms);

/// The scale of a channel that the producer, which has a norm, brings (1): that of its norm; of a stream the largest
/// among its sources' norms, as one of a block that has just joined has next to no weights.
template <Real T>
[[nodiscard]] Tensor<double> source_scale(Context& ctx, const Site<T>& site);

}  // namespace detail

/// The split that brings every new unit, at amplitude γ, to the scale of today's: behind a BatchNorm the weight of its
/// channel to the root mean square of today's, or 1 if there are none, of a stream that of the source where it is
/// largest; without one its fan-in, biases aside, to the root mean square norm of today's. Empty where there is no
/// scale to bring it to: of streams without norms, of empty layers, and where the method gives the norm's weights.
template <Real T>
[[nodiscard]] Tensor<double> balanced_split(Context& ctx, const Site<T>& site, const Insertion& insertion,
                                            double gamma);

/// Leaves those units alone, in that order, and the move of today's weights. What units do together, like copies that
/// share a fan-out, does not follow. Throws ArgumentError for an index out of range.
void keep(Context& ctx, Insertion& insertion, const std::vector<std::int64_t>& units);

/// Takes units along that were found before another site gave their producer more inputs: these get weights of zero.
/// `map` tells for each input of the producer, the last axis of its weight, which one it was, or -1 for an added one.
template <Real T>
void follow_inputs(Context& ctx, const Site<T>& site, const std::vector<std::int64_t>& map, Insertion& insertion);

/// Takes units along that were found before another site gave one of the readers, `consumer`, `added` more outputs:
/// their weights there are zero, or those of the units they copy, and their moves are zero.
template <Real T>
void follow_outputs(Context& ctx, const Site<T>& site, const nn::Layer<T>* consumer, std::int64_t added,
                    Insertion& insertion);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/insertion_impl.hpp>
#endif
