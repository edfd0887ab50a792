// Removing units and blocks, the inverse of growth: what they were is kept, and putting them back restores the network.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/grow/units/edit.hpp>
#include <meristem/grow/units/layout.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::grow {

namespace detail {

/// Units that were taken out: the edit that puts them back where they were, and the optimiser's memory of them.
template <Real T>
struct RemovedSlices {
  Edit<T> restore = {};  ///< axis edits alone
  /// For each axis edit of `restore`, the slices of the optimiser's moments of that parameter, in the shape of `fresh`;
  /// none for buffers and for parameters without moments.
  std::vector<std::vector<Tensor<T>>> moments = {};
  /// For each axis edit of `restore`, the optimiser's first step of each index of `fresh`; none without an optimiser.
  std::vector<std::vector<std::int64_t>> first_steps = {};
};

/// A block that was taken out, where it stood, and the optimiser's memory of its parameters.
template <Real T>
struct RemovedBlock {
  struct Memory {
    nn::ParameterId id = 0;
    std::vector<Tensor<T>> moments = {};
    optim::FirstSteps first_steps = {};
    optim::ParameterGroup group = {};
  };
  std::string container = {};  ///< path name of the Sequential it stood in
  std::size_t position = 0;
  nn::LayerPtr<T> layer = nullptr;
  std::vector<Memory> memories = {};
};

}  // namespace detail

/// What was taken out of a network, with all it takes to put it back.
template <Real T>
struct Removed {
  std::string name = {};                 ///< path name of the site or of the block
  std::vector<std::int64_t> units = {};  ///< their indices before, ascending; empty for a block
  detail::RemovedSlices<T> slices = {};
  detail::RemovedBlock<T> block = {};
};

/// Takes units out of a site for good: rows of the producer, channels of the norm with their running statistics, inputs
/// of the consumer, and the optimiser's moments of all of these. Everything else keeps its bits, and parameters their
/// ids. Gradients shrink alike. Returns what it takes to grow them back. Throws ArgumentError for no units, units that
/// do not exist or repeat; nothing has changed then. A residual block without units adds what its last norm and bias
/// do; remove_block takes it out.
template <Real T>
Removed<T> prune(Context& ctx, const Site<T>& site, const std::vector<std::int64_t>& units, nn::Layer<T>& network,
                 optim::Optimizer<T>* optimizer = nullptr);

/// Takes a residual block out of a network for good, whatever its width, with what the optimiser remembers of it.
/// All other layers keep their names, parameters their ids and bits. Sites and places that were found before do not
/// hold any more, and a Grower has to be made anew. Throws ArgumentError if there is no such layer, if it is none that
/// adds something to its input, or if it does not stand in a Sequential.
template <Real T>
[[nodiscard]] Removed<T> remove_block(nn::Layer<T>& network, const std::string& name,
                                      optim::Optimizer<T>* optimizer = nullptr);

/// Puts back what was removed where it was: parameters, buffers and the optimiser's memory have the bits they had,
/// provided that nothing else changed in between, widths before and behind a block included; gradients of units are
/// zero. Moments of parameters that have got some in between, or lost theirs, start at zero, as those of units that
/// join now. Throws ShapeError if the site's shape has changed; ArgumentError if the Sequential of a block is gone or
/// has another layer of that name, and leaves `removed` as it is, and if the block was put back already.
template <Real T>
void put_back(Context& ctx, Removed<T>&& removed, nn::Layer<T>& network, optim::Optimizer<T>* optimizer = nullptr);

/// The `count` units with the smallest scores, ascending by index; of equal scores the first. Throws ArgumentError for
/// a count below 0 or beyond the number of scores.
[[nodiscard]] std::vector<std::int64_t> smallest_units(const std::vector<double>& scores, std::int64_t count);

/// For every unit of a site ‖fan-in‖ ‖fan-out‖, the bias left out; behind a norm, which takes the scale of the fan-in
/// away, |weight of its channel| ‖fan-out‖, and so for the readers of a stream that have a norm in front of them. It
/// does not change if a fan-in is scaled and the fan-out inversely.
template <Real T>
[[nodiscard]] std::vector<double> unit_norms(Context& ctx, const Site<T>& site);

/// For every unit k of a site its term ⟨ω_k, M1_k⟩, M1 = (1/n) B1 V_goalᵀ: by how much the loss rises to first order if
/// the unit's output is taken away, from all its readers, over the samples that `for_each_batch(use)` shows as
/// use(const BatchView&). Where the unit is linear that is its term of ⟨A, M⟩, A = Σ α_k ω_kᵀ. Its magnitude is the
/// score of P. Molchanov et al., "Pruning convolutional neural networks for resource efficient inference" (ICLR 2017).
/// Of a convolution the taps are summed. Runs as Pass::measuring and overwrites the parameters' gradients, nothing
/// else. Throws DataError without samples.
template <Real T, class ForEachBatch>
[[nodiscard]] std::vector<double> unit_contributions(Context& ctx, const Site<T>& site, nn::Layer<T>& network,
                                                     ForEachBatch&& for_each_batch, const nn::Objective& loss = {}) {
  const std::size_t width = static_cast<std::size_t>(site.width());
  std::vector<double> result(width, 0.0);
  double samples = 0.0;
  const nn::Pass<T> pass{.measuring = true};
  for_each_batch([&](const nn::BatchView<T>& batch) {
    const nn::Trace<T> trace = network.forward(ctx, batch.inputs, pass);
    nn::LossValue<T> value = loss(ctx, trace.output, batch);
    (void)network.backward(ctx, batch.inputs, trace, std::move(value.gradient), pass);
    const double count = static_cast<double>(batch.size());
    site.for_each_reader([&](const Reader<T>& reader) {
      const std::vector<T> weights = to_host(ctx, reader.consumer.weight().value);
      const std::vector<T> gradients = to_host(ctx, reader.consumer.weight().gradient);
      const detail::UnitsAlong along = detail::units_along(reader, site.width());
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const std::int64_t unit = along.unit_of(static_cast<std::int64_t>(i));
        if (unit < 0) continue;
        result[static_cast<std::size_t>(unit)] -=
            count * static_cast<double>(weights[i]) * static_cast<double>(gradients[i]);
      }
    });
    samples += count;
  });
  if (samples == 0.0) throw DataError(concat("pruning of ", site.name, ": no samples were shown"));
  for (double& value : result) value /= samples;
  return result;
}

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/prune_impl.hpp>
#endif
