// Reads the float64 .npy files of the reference cases: version 1.0, little-endian, C order.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <support/dense.hpp>

namespace support {

/// A one- or two-dimensional array as a matrix; one dimension becomes one row.
inline Dense read_npy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (bytes.size() < 10 || bytes.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) != 0) {
    throw std::runtime_error("not a readable .npy file of version 1.0: " + path);
  }
  const std::size_t header_size = static_cast<unsigned char>(bytes[8]) + 256u * static_cast<unsigned char>(bytes[9]);
  const std::string header = bytes.substr(10, header_size);
  if (header.find("'<f8'") == std::string::npos || header.find("'fortran_order': False") == std::string::npos) {
    throw std::runtime_error("not little-endian float64 in C order: " + path);
  }
  std::vector<std::int64_t> extents;
  std::size_t at = header.find('(') + 1;
  while (header[at] != ')') {
    std::size_t used = 0;
    extents.push_back(std::stoll(header.substr(at), &used));
    at += used;
    while (header[at] == ',' || header[at] == ' ') ++at;
  }
  if (extents.empty() || extents.size() > 2) throw std::runtime_error("expected one or two dimensions: " + path);
  Dense result(extents.size() == 2 ? extents[0] : 1, extents.back());
  if (bytes.size() != 10 + header_size + result.values.size() * sizeof(double)) {
    throw std::runtime_error("the size of the file contradicts its header: " + path);
  }
  std::memcpy(result.values.data(), bytes.data() + 10 + header_size, result.values.size() * sizeof(double));
  return result;
}

}  // namespace support
