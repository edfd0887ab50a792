// Small pictures inside a page: PNG, written by stb_image_write, as data URIs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cifar10 {

/// `pixels` is (height, width, channels) with 1 to 4 channels. Empty if there is nothing to draw.
[[nodiscard]] std::string png_data_uri(const std::vector<std::uint8_t>& pixels, std::int64_t height, std::int64_t width,
                                       std::int64_t channels);

}  // namespace cifar10
