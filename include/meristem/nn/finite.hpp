// Whether a network's numbers are numbers.
#pragma once

#include <string>

#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/layer.hpp>

namespace meristem::nn {

/// Throws NumericError, which starts with `where` and names the parameter or buffer, if one of the network's numbers is
/// NaN or infinite. Reads all of them and waits for the device.
template <Real T>
void check_finite(Context& ctx, Layer<T>& network, const std::string& where) {
  const auto check = [&](const auto& tensor) {
    kernels::check_finite(ctx, tensor.value.view(), concat(where, ": ", tensor.name));
  };
  network.visit_parameters(check);
  network.visit_buffers(check);
}

/// The same for the gradients of the parameters, for a training loop that wants to know before it steps.
template <Real T>
void check_gradients(Context& ctx, Layer<T>& network, const std::string& where) {
  network.visit_parameters([&](Parameter<T>& parameter) {
    kernels::check_finite(ctx, parameter.gradient.view(), concat(where, ": gradient of ", parameter.name));
  });
}

}  // namespace meristem::nn
