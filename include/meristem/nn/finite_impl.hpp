// Definitions of finite.hpp.
#pragma once

#include <string>

#include <meristem/core/error.hpp>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/finite.hpp>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/parameter.hpp>

namespace meristem::nn {

template <Real T>
void check_finite(Context& ctx, Layer<T>& network, const std::string& where) {
  const auto check = [&](const auto& tensor) {
    kernels::check_finite(ctx, tensor.value.view(), concat(where, ": ", tensor.name));
  };
  network.visit_parameters(check);
  network.visit_buffers(check);
}

template <Real T>
void check_gradients(Context& ctx, Layer<T>& network, const std::string& where) {
  network.visit_parameters([&](Parameter<T>& parameter) {
    kernels::check_finite(ctx, parameter.gradient.view(), concat(where, ": gradient of ", parameter.name));
  });
}

}  // namespace meristem::nn
