// Definitions of search.hpp.
#pragma once

#include <meristem/grow/policy/search.hpp>

namespace meristem::grow {

template <Real T>
detail::SearchPass<T>::SearchPass(nn::Layer<T>& network, const nn::Layer<T>& changing, std::int64_t most_bytes)
    : network_(&network), bytes_left_(most_bytes) {
  if (network.description().op != nn::Operator::sequence) return;
  const std::vector<nn::Layer<T>*> layers = network.children();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!holds(*layers[i], changing)) continue;
    layers_ = layers;
    start_ = i;
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
void detail::SearchPass<T>::count_rest(const Shape& flow, std::int64_t samples) {
  Shape shape = flow.with(0, 1);
  for (std::size_t i = start_; i < layers_.size(); ++i) {
    multiply_adds_ += samples * layers_[i]->multiply_adds(shape);
    shape = layers_[i]->output_shape(shape);
  }
}

}  // namespace meristem::grow
