// stb's readers and writers, compiled once for all programs here.

#include <cstdlib>

#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
// What a damaged file does not fill is then the same every time.
#define STBI_MALLOC(size) std::calloc(1, size)
#define STBI_REALLOC(pointer, size) std::realloc(pointer, size)
#define STBI_FREE(pointer) std::free(pointer)
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>

#include "png.hpp"

namespace cifar10 {

std::string png_data_uri(const std::vector<std::uint8_t>& pixels, std::int64_t height, std::int64_t width,
                         std::int64_t channels) {
  if (pixels.empty()) return "";
  std::string bytes;
  const auto append = [](void* to, void* data, int size) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<std::size_t>(size));
  };
  stbi_write_png_to_func(append, &bytes, static_cast<int>(width), static_cast<int>(height), static_cast<int>(channels),
                         pixels.data(), static_cast<int>(width * channels));
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string uri = "data:image/png;base64,";
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned three = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      three = three << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) uri += i + k > bytes.size() ? '=' : digits[three >> (18 - 6 * k) & 63U];
  }
  return uri;
}

}  // namespace cifar10
