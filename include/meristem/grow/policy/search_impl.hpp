// Definitions of search.hpp.
#pragma once

#include <meristem/grow/policy/search.hpp>

namespace meristem::grow {

template <Real T>
detail::SearchPass<T>::SearchPass(nn::Layer<T>& network, const nn::Layer<T>& changing, std::int64_t most_bytes)
    : network_(&network), bytes_left_(most_bytes) {
  nn::Sequential<T>* const sequence = network.description().sequential;
  for (std::size_t i = 0; sequence != nullptr && i < sequence->size(); ++i) {
    if (!holds((*sequence)[i], changing)) continue;
    sequence_ = sequence;
    start_ = i > 0 && sequence->takes_statistics(i - 1) ? i - 1 : i;
    return;
  }
}

template <Real T>
bool detail::SearchPass<T>::holds(nn::Layer<T>& layer, const nn::Layer<T>& wanted) {
  if (&layer == &wanted) return true;
  for (nn::Layer<T>* child : layer.children()) {
    if (holds(*child, wanted)) return true;
  }
  return false;
}

template <Real T>
void detail::SearchPass<T>::count_layers(std::size_t first, std::size_t last, const Shape& input,
                                         std::int64_t samples) {
  Shape shape = input.with(0, 1);
  for (std::size_t i = first; i < last; ++i) {
    nn::Layer<T>& layer = (*sequence_)[i];
    multiply_adds_ += samples * layer.multiply_adds(shape);
    shape = layer.output_shape(shape);
  }
}

}  // namespace meristem::grow
