// JPEG files (ITU T.81), checked and written anew with nothing in them but what makes up the pixels, in the form in
// which stb_image understands it as libjpeg would.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/data/exif.hpp>
#include <meristem/data/png_file.hpp>

namespace meristem::data::detail {

/// Walks through the segments of a JPEG file.
class JpegWalk {
 public:
  JpegWalk(std::span<const std::uint8_t> bytes, const std::string& name) : bytes_(bytes), name_(&name) {}

  /// Throws DataError, which starts with the name, for a file that is damaged or of a kind that is not known here.
  [[nodiscard]] PlainFile run() {
    while (!done_) segment();
    if (components_.empty()) throw damaged("there is no image in it");
    if (scans_ == 0) throw damaged("there is no image data in it");
    std::vector<std::uint8_t>& out = plain_.bytes;
    out = {0xff, 0xd8};
    if (components_.size() > 1) {
      const auto transform = static_cast<std::uint8_t>(half_columns() ? 0 : colour_transform());
      out.insert(out.end(), {0xff, 0xee, 0, 14, 'A', 'd', 'o', 'b', 'e', 0, 100, 0, 0, 0, 0, transform});
    }
    out.insert(out.end(), body_.begin(), body_.end());
    return std::move(plain_);
  }

 private:
  struct Component {
    std::size_t id = 0, horizontal = 1, vertical = 1;
    bool scanned = false;
  };

  [[nodiscard]] DataError damaged(const std::string& how) const {
    return DataError(concat(*name_, ": damaged JPEG file (", how, "); copy it again or remove it"));
  }
  [[nodiscard]] DataError other(const std::string& kind) const {
    return DataError(
        concat(*name_, ": a JPEG file of a kind that is not read (", kind, "); convert it to a plain one"));
  }
  [[nodiscard]] std::size_t byte(std::size_t at) const { return at < bytes_.size() ? bytes_[at] : 0; }

  void append(std::size_t from, std::size_t length) {
    const auto part = bytes_.subspan(from, length);
    body_.insert(body_.end(), part.begin(), part.end());
  }

  /// Everything up to here is copied; the file ends without a marker that says so.
  void end_without_marker() {
    done_ = true;
    plain_.end_missing = true;
  }

  /// The next marker and what belongs to it.
  void segment() {
    while (at_ < bytes_.size() && bytes_[at_] != 0xff) ++at_;
    while (at_ < bytes_.size() && bytes_[at_] == 0xff) ++at_;
    if (at_ >= bytes_.size()) return end_without_marker();
    const std::size_t marker = bytes_[at_++];
    if (marker == 0xd9) {
      done_ = true;
      return;
    }
    // The next picture of a file of several, which follows where the end marker should be.
    if (marker == 0xd8 && scans_ > 0) return end_without_marker();
    if (marker == 0 || marker == 1 || (marker >= 0xd0 && marker <= 0xd8)) return;
    const std::size_t length = byte(at_) << 8 | byte(at_ + 1);
    if (length < 2) throw damaged("a segment is shorter than its length");
    if (length > bytes_.size() - std::min(bytes_.size(), at_)) throw damaged("it ends in the midst of a segment");
    const std::span<const std::uint8_t> content = bytes_.subspan(at_ + 2, length - 2);
    const std::size_t start = at_;
    at_ += length;
    if (marker == 0xc0 || marker == 0xc1 || marker == 0xc2) return frame(marker, start, content);
    if (marker == 0xda) return scan(start, content);
    if (marker == 0xc4) {
      huffman_tables(content);
    } else if (marker == 0xdd) {
      restart_interval_ = content.size() >= 2 ? big_endian(content.first(2)) : 0;
    } else if (marker != 0xdb) {
      return nothing_to_decode(marker, content);
    }
    body_.insert(body_.end(), {0xff, static_cast<std::uint8_t>(marker)});
    append(start, length);
  }

  /// A segment that is not copied: what it says is kept, what it means that is not known is refused.
  void nothing_to_decode(std::size_t marker, std::span<const std::uint8_t> content) {
    using namespace std::string_view_literals;
    if (marker == 0xc9 || marker == 0xca) throw other("arithmetic coding");
    if (marker == 0xc3) throw other("lossless");
    if (marker > 0xc4 && marker < 0xd0 && marker != 0xcc && marker != 0xc8) throw other("hierarchical or lossless");
    if (marker == 0xe0 && content.size() >= 14 && starts_with(content, "JFIF\0"sv)) jfif_ = true;
    if (marker == 0xee && content.size() >= 12 && starts_with(content, "Adobe"sv)) adobe_ = content[11];
    if (marker == 0xe1 && !exif_ && starts_with(content, "Exif\0"sv) && content.size() > 6) {
      exif_ = true;
      plain_.orientation = exif_orientation(content.subspan(6));
    }
    // Applications' own, comments, arithmetic conditioning and the number of lines, which is known.
    if (marker >= 0xe0 || marker == 0xcc || marker == 0xdc) return;
    throw damaged(concat("it has an unknown marker ", marker));
  }

  void frame(std::size_t marker, std::size_t start, std::span<const std::uint8_t> content) {
    if (!components_.empty()) throw damaged("it has two frame headers");
    if (content.size() < 6 || content.size() != 6 + 3 * std::size_t{content[5]}) {
      throw damaged("its frame header is of another length than it says");
    }
    progressive_ = marker == 0xc2;
    if (content[0] != 8) throw other(concat(unsigned{content[0]}, " bits a sample"));
    plain_.height = static_cast<std::int64_t>(big_endian(content.subspan(1, 2)));
    plain_.width = static_cast<std::int64_t>(big_endian(content.subspan(3, 2)));
    if (plain_.height == 0) throw other("its height follows the image");
    const std::size_t count = content[5];
    if (count != 1 && count != 3 && count != 4) throw other(concat(count, " colour components"));
    body_.insert(body_.end(), {0xff, static_cast<std::uint8_t>(marker)});
    const std::size_t header = body_.size();
    width_at_ = header + 5;
    append(start, content.size() + 2);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t sampling = content[7 + 3 * i];
      components_.push_back({content[6 + 3 * i], sampling >> 4, sampling & 15});
      if (sampling >> 4 == 0 || (sampling & 15) == 0) throw damaged("a component is sampled zero times");
      // By these stb_image would guess colours; several may be alike.
      body_[header + 8 + 3 * i] = static_cast<std::uint8_t>(i + 1);
    }
  }

  /// At most 255 codes (162 are the most that 8-bit images need; ITU T.81, K.3): stb_image before 2.29 writes past its
  /// table for more than 256, and takes the last of 256 for none.
  void huffman_tables(std::span<const std::uint8_t> content) {
    for (std::size_t at = 0; at < content.size();) {
      if (content.size() - at < 17) throw damaged("a Huffman table ends early");
      const std::size_t kind = content[at] >> 4, number = content[at] & 15;
      std::size_t codes = 0;
      for (std::size_t bits = 1; bits <= 16; ++bits) codes += content[at + bits];
      if (codes > 255 || kind > 1 || number > 3) throw damaged("a Huffman table is too large");
      if (codes > content.size() - at - 17) throw damaged("a Huffman table ends early");
      known_[kind][number] = true;
      any_table_ = true;
      at += 17 + codes;
    }
  }

  void scan(std::size_t start, std::span<const std::uint8_t> content) {
    if (components_.empty()) throw damaged("its image data comes before its frame header");
    const std::size_t count = content.empty() ? 0 : content[0];
    if (count < 1 || count > components_.size() || content.size() != 4 + 2 * count) {
      throw damaged("a scan header is of another length than it says");
    }
    body_.insert(body_.end(), {0xff, 0xda});
    const std::size_t header = body_.size();
    append(start, content.size() + 2);
    const bool first = content[1 + 2 * count] == 0, refines = content[3 + 2 * count] >> 4 != 0;
    std::vector<bool> taken(components_.size(), false);
    std::size_t last = 0;
    for (std::size_t i = 0; i < count; ++i) {
      std::size_t which = 0;
      while (which < components_.size() && (taken[which] || components_[which].id != content[1 + 2 * i])) ++which;
      if (which == components_.size()) throw damaged("a scan is of a component that the frame does not have");
      taken[which] = components_[which].scanned = true;
      last = which;
      body_[header + 3 + 2 * i] = static_cast<std::uint8_t>(which + 1);
      const std::size_t dc = content[2 + 2 * i] >> 4, ac = content[2 + 2 * i] & 15;
      const bool needs_dc = !progressive_ || (first && !refines), needs_ac = !progressive_ || !first;
      if (dc > 3 || ac > 3 || (needs_dc && !known_[0][dc]) || (needs_ac && !known_[1][ac])) {
        if (!any_table_) throw other("a frame of Motion JPEG, without its Huffman tables");
        throw damaged("a Huffman table is missing");
      }
    }
    ++scans_;
    entropy_coded(count == 1 ? blocks_of(components_[last]) : blocks_together());
  }

  /// Copies the data of a scan of so many units, up to the next marker.
  void entropy_coded(std::size_t units) {
    const std::size_t begin = at_;
    std::size_t restarts = 0;
    for (; at_ < bytes_.size(); ++at_) {
      if (bytes_[at_] != 0xff) continue;
      std::size_t next = at_;
      while (next < bytes_.size() && bytes_[next] == 0xff) ++next;
      const std::size_t marker = byte(next);
      if (next == bytes_.size() || (marker != 0 && (marker < 0xd0 || marker > 0xd7))) break;
      restarts += marker != 0 ? 1 : 0;
      at_ = next;
    }
    append(begin, at_ - begin);
    // stb_image would show what lies in memory in place of what is missing.
    const std::size_t expected = restart_interval_ == 0 ? 0 : (units - 1) / restart_interval_;
    if (restarts < expected) {
      throw damaged(concat("of its image ", restarts, " of ", expected + 1, " parts are there"));
    }
    const bool complete = std::all_of(components_.begin(), components_.end(), [](const auto& c) { return c.scanned; });
    // Nothing of a sequential image follows its last scan, whatever else does.
    if (progressive_ || !complete) return;
    std::size_t next = at_;
    while (next < bytes_.size() && bytes_[next] == 0xff) ++next;
    if (byte(next) == 0xd9) {
      done_ = true;
    } else {
      end_without_marker();
    }
  }

  [[nodiscard]] std::size_t largest(std::size_t Component::*sampling) const {
    std::size_t most = 1;
    for (const Component& component : components_) most = std::max(most, component.*sampling);
    return most;
  }
  [[nodiscard]] static std::size_t parts(std::size_t whole, std::size_t part) { return (whole + part - 1) / part; }
  [[nodiscard]] std::size_t blocks_of(const Component& c) const {
    const auto width = static_cast<std::size_t>(plain_.width), height = static_cast<std::size_t>(plain_.height);
    return std::max<std::size_t>(1, parts(parts(width * c.horizontal, largest(&Component::horizontal)), 8) *
                                        parts(parts(height * c.vertical, largest(&Component::vertical)), 8));
  }
  [[nodiscard]] std::size_t blocks_together() const {
    const auto width = static_cast<std::size_t>(plain_.width), height = static_cast<std::size_t>(plain_.height);
    return std::max<std::size_t>(
        1, parts(width, 8 * largest(&Component::horizontal)) * parts(height, 8 * largest(&Component::vertical)));
  }

  /// Whether components have half the columns and all rows, of which stb_image makes a wrong column; the file then asks
  /// for them as they are, and for an even width: the columns are there.
  [[nodiscard]] bool half_columns() {
    if (components_.size() != 3 || plain_.width > 65'534) return false;
    bool any = false;
    for (std::size_t i = 0; i < 3; ++i) {
      const Component& c = components_[i];
      plain_.half_columns[i] =
          largest(&Component::horizontal) == 2 * c.horizontal && largest(&Component::vertical) == c.vertical;
      any = any || plain_.half_columns[i];
    }
    if (!any) return false;
    plain_.ycc = colour_transform() == 1;
    const std::int64_t even = plain_.width + plain_.width % 2;
    body_[width_at_] = static_cast<std::uint8_t>(even >> 8);
    body_[width_at_ + 1] = static_cast<std::uint8_t>(even);
    return true;
  }

  /// In Adobe's numbers, as libjpeg decides: 0 for RGB or CMYK, 1 for YCbCr, 2 for YCCK.
  [[nodiscard]] int colour_transform() const {
    if (components_.size() == 4) return adobe_ < 0 || adobe_ == 0 ? 0 : 2;
    if (jfif_) return 1;
    if (adobe_ >= 0) return adobe_ == 0 ? 0 : 1;
    return components_[0].id == 'R' && components_[1].id == 'G' && components_[2].id == 'B' ? 0 : 1;
  }

  std::span<const std::uint8_t> bytes_;
  const std::string* name_;
  std::size_t at_ = 2;
  PlainFile plain_;
  std::vector<std::uint8_t> body_;
  std::vector<Component> components_;
  bool progressive_ = false, jfif_ = false, exif_ = false, any_table_ = false, done_ = false;
  int adobe_ = -1;
  bool known_[2][4] = {};  // [DC, AC][table]
  std::size_t restart_interval_ = 0, width_at_ = 0;
  std::int64_t scans_ = 0;
};

/// What stb_image is given of a JPEG file, without its end: bytes of this kind, which no image needs, and the marker
/// follow.
[[nodiscard]] inline std::vector<std::uint8_t> with_end(std::vector<std::uint8_t> bytes, std::uint8_t filling) {
  bytes.insert(bytes.end(), 64, filling);
  bytes.insert(bytes.end(), {0xff, 0xd9});
  return bytes;
}

/// The most pixels that a JPEG file of so many bytes can hold: it spends a bit at least on a block of 64.
[[nodiscard]] inline std::int64_t most_jpeg_pixels(const PlainFile& plain) { return 1024 * std::ssize(plain.bytes); }

}  // namespace meristem::data::detail
