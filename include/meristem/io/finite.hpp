// NaN and infinities are neither written into files of networks nor read from them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/io/safetensors.hpp>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/layer.hpp>

namespace meristem::inline MERISTEM_BACKEND::io::detail {

/// Throws NumericError, which names the file and the tensor, if a parameter or buffer of a network that is to be
/// written to `path` is not finite. Waits for the device.
template <Real T>
void require_finite(Context& ctx, nn::Layer<T>& network, const std::string& path) {
  const auto check = [&](const std::string& name, const Tensor<T>& value) {
    if (!value.empty()) kernels::check_finite(ctx, value.view(), concat(path, " is not written: ", name));
  };
  network.visit_parameters([&](nn::Parameter<T>& parameter) { check(parameter.name, parameter.value); });
  network.visit_buffers([&](nn::Buffer<T>& buffer) { check(buffer.name, buffer.value); });
}

/// Throws DataError, which names the file and the tensor, if an element of a stored tensor of elements T is not finite.
template <Real T>
void require_finite(const Safetensors& file, const std::string& name) {
  const StoredTensor& tensor = file.at<T>(name);
  for (std::size_t i = 0; i < tensor.bytes.size() / sizeof(T); ++i) {
    T value;
    std::memcpy(&value, tensor.bytes.data() + i * sizeof(T), sizeof(T));
    if (std::isfinite(value)) continue;
    throw DataError(concat(file.source(), ": tensor '", name, "': element ", i, " of ", tensor.shape_text(), " is ",
                           std::isnan(value) ? "nan" : (value > 0 ? "inf" : "-inf"),
                           "; the network cannot be used: take one that was saved before"));
  }
}

}  // namespace meristem::inline MERISTEM_BACKEND::io::detail
