// A multi-layer perceptron with cross-entropy, and its gradients, in plain double loops.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include <meristem/nn/layer.hpp>
#include <support/check.hpp>

namespace support {

/// One parameter of any network, as the optimisers see it.
struct PlainParameter {
  std::vector<double> value, gradient;
  bool decays = true;
};

/// All parameters of a network, in its order.
template <class T>
std::vector<PlainParameter> plain_parameters(ms::Context& ctx, ms::nn::Layer<T>& network) {
  std::vector<PlainParameter> result;
  network.visit_parameters([&](ms::nn::Parameter<T>& parameter) {
    result.push_back({to_double(ms::to_host(ctx, parameter.value)), to_double(ms::to_host(ctx, parameter.gradient)),
                      parameter.decays});
  });
  return result;
}

/// tanh(x W1ᵀ + b1) W2ᵀ + b2 ..., with the parameters in the order weight, bias, weight, bias ...
struct PlainMlp {
  std::vector<std::int64_t> widths;  ///< inputs, hidden ..., classes
  std::vector<PlainParameter> parameters;

  struct Result {
    double loss = 0.0;
    std::int64_t correct = 0;
  };

  /// Mean loss over the samples; overwrites the gradients.
  Result run(const std::vector<double>& x, const std::vector<std::int32_t>& labels) {
    const std::size_t n = labels.size(), layers = widths.size() - 1;
    std::vector<std::vector<double>> inputs{x};
    for (std::size_t l = 0; l < layers; ++l) {
      const auto in = static_cast<std::size_t>(widths[l]), out = static_cast<std::size_t>(widths[l + 1]);
      const auto &w = parameters[2 * l].value, &b = parameters[2 * l + 1].value;
      std::vector<double> y(n * out);
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t o = 0; o < out; ++o) {
          double sum = b[o];
          for (std::size_t k = 0; k < in; ++k) sum += inputs[l][i * in + k] * w[o * in + k];
          y[i * out + o] = l + 1 < layers ? std::tanh(sum) : sum;
        }
      }
      inputs.push_back(y);
    }
    Result result;
    const auto classes = static_cast<std::size_t>(widths.back());
    const std::vector<double>& logits = inputs.back();
    std::vector<double> dy(n * classes);
    for (std::size_t i = 0; i < n; ++i) {
      double total = 0.0;
      std::size_t best = 0;
      for (std::size_t c = 0; c < classes; ++c) {
        total += std::exp(logits[i * classes + c]);
        if (logits[i * classes + c] > logits[i * classes + best]) best = c;
      }
      const auto label = static_cast<std::size_t>(labels[i]);
      result.loss += (std::log(total) - logits[i * classes + label]) / static_cast<double>(n);
      if (best == label) ++result.correct;
      for (std::size_t c = 0; c < classes; ++c) {
        dy[i * classes + c] =
            (std::exp(logits[i * classes + c]) / total - (c == label ? 1.0 : 0.0)) / static_cast<double>(n);
      }
    }
    for (std::size_t l = layers; l-- > 0;) {
      const auto in = static_cast<std::size_t>(widths[l]), out = static_cast<std::size_t>(widths[l + 1]);
      const auto& w = parameters[2 * l].value;
      auto &dw = parameters[2 * l].gradient, &db = parameters[2 * l + 1].gradient;
      dw.assign(out * in, 0.0);
      db.assign(out, 0.0);
      std::vector<double> dx(n * in, 0.0);
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t o = 0; o < out; ++o) {
          const double d = dy[i * out + o];
          db[o] += d;
          for (std::size_t k = 0; k < in; ++k) {
            dw[o * in + k] += d * inputs[l][i * in + k];
            dx[i * in + k] += d * w[o * in + k];
          }
        }
      }
      for (std::size_t i = 0; i < dx.size(); ++i) dx[i] *= 1.0 - inputs[l][i] * inputs[l][i];
      dy = dx;
    }
    return result;
  }
};

template <class T>
ms::nn::Batch<T> make_batch(ms::Context& ctx, const ms::Shape& shape, const std::vector<double>& x,
                            const std::vector<std::int32_t>& labels) {
  ms::nn::Batch<T> batch;
  batch.inputs = ms::from_host<T>(ctx, shape, std::vector<T>(x.begin(), x.end()));
  batch.labels = ms::from_host<std::int32_t>(ctx, {static_cast<std::int64_t>(labels.size())}, labels);
  return batch;
}

/// Every number of every parameter and gradient, in order: what must not change when something fails.
template <class T>
std::vector<T> all_numbers(ms::Context& ctx, ms::nn::Layer<T>& network) {
  std::vector<T> numbers;
  network.visit_parameters([&](ms::nn::Parameter<T>& parameter) {
    for (const ms::Tensor<T>* tensor : {&parameter.value, &parameter.gradient}) {
      const std::vector<T> values = ms::to_host(ctx, *tensor);
      numbers.insert(numbers.end(), values.begin(), values.end());
    }
  });
  return numbers;
}

}  // namespace support
