// Definitions of safetensors.hpp.
#pragma once

#include <array>

#include <meristem/io/safetensors.hpp>

namespace meristem::io::detail {

struct StoredType {
  std::string_view name;
  std::int64_t bytes;
};

/// Element types of the format that take whole bytes.
inline constexpr std::array<StoredType, 18> stored_types = {{{"F64", 8},
                                                             {"C64", 8},
                                                             {"F32", 4},
                                                             {"F16", 2},
                                                             {"BF16", 2},
                                                             {"F8_E4M3", 1},
                                                             {"F8_E5M2", 1},
                                                             {"F8_E8M0", 1},
                                                             {"F8_E4M3FNUZ", 1},
                                                             {"F8_E5M2FNUZ", 1},
                                                             {"I64", 8},
                                                             {"I32", 4},
                                                             {"I16", 2},
                                                             {"I8", 1},
                                                             {"U64", 8},
                                                             {"U32", 4},
                                                             {"U16", 2},
                                                             {"U8", 1}}};

MERISTEM_INLINE std::int64_t stored_bytes(std::string_view dtype) {
  if (dtype == "BOOL") return 1;
  for (const StoredType& type : stored_types) {
    if (type.name == dtype) return type.bytes;
  }
  return 0;
}

}  // namespace meristem::io::detail

namespace meristem::io {

MERISTEM_INLINE std::string StoredTensor::shape_text() const {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + ")";
}

MERISTEM_INLINE const std::string& Safetensors::metadata(const std::string& name) const {
  const auto found = metadata_.find(name);
  if (found == metadata_.end()) throw DataError(concat(source_, ": its metadata has no entry '", name, "'"));
  return found->second;
}

MERISTEM_INLINE const StoredTensor& Safetensors::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw DataError(concat(source_, ": there is no tensor '", name, "' in it"));
  return found->second;
}

MERISTEM_INLINE void Safetensors::write(const std::string& path) const {
  std::vector<const std::pair<const std::string, StoredTensor>*> order;
  for (const auto& entry : tensors_) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return detail::stored_bytes(a->second.dtype) > detail::stored_bytes(b->second.dtype);
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata_.empty()) header["__metadata__"] = metadata_;
  std::size_t offset = 0;
  for (const auto* entry : order) {
    const StoredTensor& tensor = entry->second;
    header[entry->first] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw ArgumentError(concat(path, ": a name or a string of the metadata is not UTF-8; the format wants UTF-8"));
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > max_header) {
    throw ArgumentError(concat(path, ": the header would take ", text.size(), " bytes; the format allows ", max_header,
                               "; keep less in the metadata"));
  }
  const std::uint64_t length = text.size();
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  for (const auto* entry : order) file.write(entry->second.bytes);
  file.commit();
}

MERISTEM_INLINE std::uint64_t Safetensors::checksum(const std::string& except) const {
  std::uint64_t hash = 0xcbf29ce484222325u;
  // FNV-1a on words of eight bytes; the shift carries a change of the upper bits down.
  const auto mix = [&hash](std::uint64_t word) {
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 32;
  };
  const auto add_bytes = [&mix](std::span<const std::byte> bytes) {
    mix(bytes.size());
    for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
      std::uint64_t word;
      std::memcpy(&word, bytes.data(), 8);
      mix(word);
    }
    std::uint64_t rest = 0;
    if (!bytes.empty()) std::memcpy(&rest, bytes.data(), bytes.size());
    mix(rest);
  };
  const auto add_text = [&](std::string_view text) { add_bytes(std::as_bytes(std::span(text.data(), text.size()))); };
  for (const auto& [name, value] : metadata_) {
    if (name == except) continue;
    add_text(name);
    add_text(value);
  }
  for (const auto& [name, tensor] : tensors_) {
    add_text(name);
    add_text(tensor.dtype);
    mix(tensor.shape.size());
    for (const std::int64_t extent : tensor.shape) mix(static_cast<std::uint64_t>(extent));
    add_bytes(tensor.bytes);
  }
  return hash;
}

}  // namespace meristem::io
