// The inputs of all layers, read while a batch flows through a network.
#pragma once

#include <map>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/nn/layer.hpp>

namespace support {

/// What enters each layer of a pass.
class LayerInputs final : public meristem::nn::Taps<double> {
 public:
  void on_forward(meristem::Context& ctx, const meristem::nn::Layer<double>& layer,
                  meristem::View<const double> input) override {
    shapes[&layer] = input.shape();
    values[&layer] = meristem::to_host(ctx, input);
  }
  void on_backward(meristem::Context&, const meristem::nn::Layer<double>&, meristem::View<const double>,
                   meristem::View<const double>) override {}

  std::map<const meristem::nn::Layer<double>*, meristem::Shape> shapes;
  std::map<const meristem::nn::Layer<double>*, std::vector<double>> values;
};

}  // namespace support
