// Where a network can grow: a hidden layer between the layer that produces it and the one that consumes it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <meristem/nn/activation.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/sequential.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

/// A hidden layer that can take more units. A unit is a row of the producer's weight (its fan-in) and a column of the
/// consumer's weight (its fan-out).
template <Real T>
struct Site {
  std::string name;  ///< path name of the producer
  nn::Linear<T>* producer = nullptr;
  nn::Linear<T>* consumer = nullptr;
  nn::Activation activation = nn::Activation::identity;

  /// Units today.
  [[nodiscard]] std::int64_t width() const { return producer->out_features(); }
  /// p: inputs of one unit, the bias included.
  [[nodiscard]] std::int64_t fan_in() const { return producer->in_features() + (producer->has_bias() ? 1 : 0); }
  /// d: inputs of the consumer, the bias included.
  [[nodiscard]] std::int64_t consumer_inputs() const {
    return consumer->in_features() + (consumer->has_bias() ? 1 : 0);
  }
  /// q: outputs of the consumer.
  [[nodiscard]] std::int64_t fan_out() const { return consumer->out_features(); }
  /// Learned scalars that one unit adds.
  [[nodiscard]] std::int64_t parameters_per_unit() const { return fan_in() + fan_out(); }
};

/// All sites of a network, in the order data flows: every Linear, followed by at most one activation, followed by a
/// Linear.
template <Real T>
[[nodiscard]] std::vector<Site<T>> find_sites(nn::Layer<T>& network) {
  std::vector<Site<T>> sites;
  nn::Linear<T>* producer = nullptr;
  nn::Activation activation = nn::Activation::identity;
  for (nn::Layer<T>* layer : network.children()) {
    if (auto* linear = dynamic_cast<nn::Linear<T>*>(layer)) {
      if (producer) sites.push_back({producer->name(), producer, linear, activation});
      producer = linear;
      activation = nn::Activation::identity;
    } else if (auto* function = dynamic_cast<nn::ActivationLayer<T>*>(layer)) {
      if (activation != nn::Activation::identity) producer = nullptr;
      activation = function->function();
    } else {
      producer = nullptr;
      std::vector<Site<T>> inner = find_sites(*layer);
      sites.insert(sites.end(), inner.begin(), inner.end());
    }
  }
  return sites;
}

}  // namespace meristem::inline MERISTEM_BACKEND::grow
