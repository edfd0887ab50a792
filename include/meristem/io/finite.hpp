// NaN and infinities are not read from files of networks.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/error.hpp>
#include <meristem/io/safetensors.hpp>

namespace meristem::io::detail {

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

}  // namespace meristem::io::detail
