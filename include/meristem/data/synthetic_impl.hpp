// Definitions of synthetic.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdlib>
#include <utility>

#include <algorithm>
#include <meristem/data/synthetic.hpp>

namespace meristem::data::detail {

inline constexpr int synthetic_side = 32;

inline constexpr int synthetic_classes = 10;

/// Lengths are in sixteenths of a pixel.
inline constexpr int subpixels = 16;

/// A shape of radius `radius` around (x, y), turned by 2 atan(turn / 64) and shifted in brightness.
struct SyntheticShape {
  int label;
  int x, y, radius, turn;
  std::array<int, 3> colour;

  /// How many of the 2 x 2 sample points of pixel (px, py) it covers.
  [[nodiscard]] int coverage(int px, int py) const;
};

MERISTEM_INLINE int Draws::range(int low, int high) {
  return low + static_cast<int>(philox_.below(next_++, static_cast<std::uint64_t>(high - low + 1)));
}

/// Philox stream of image `index` of a split (`purpose` 0) or of its labels (`purpose` 1).
MERISTEM_INLINE std::uint64_t synthetic_stream(Split split, std::uint64_t purpose, std::int64_t index) {
  return std::uint64_t{0x73796e} << 40 | std::uint64_t{split == Split::test} << 39 | purpose << 38 |
         static_cast<std::uint64_t>(index);
}

/// Class of image `index`: each run of ten images holds every class once, in random order.
MERISTEM_INLINE std::int32_t synthetic_label(std::uint64_t seed, Split split, std::int64_t index) {
  Draws draws(seed, synthetic_stream(split, 1, index / synthetic_classes));
  std::array<std::int32_t, synthetic_classes> order{};
  for (int i = 0; i < synthetic_classes; ++i) order[static_cast<std::size_t>(i)] = i;
  for (int i = synthetic_classes - 1; i > 0; --i) {
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(draws.range(0, i))]);
  }
  return order[static_cast<std::size_t>(index % synthetic_classes)];
}

/// Whether (u, v), measured from the centre with v downwards, lies in the shape of class `label` and radius r.
MERISTEM_INLINE bool in_shape(int label, int u, int v, int r) {
  const int au = std::abs(u), av = std::abs(v);
  const int largest = std::max(au, av);
  switch (label) {
    case 0:  // disc
      return u * u + v * v < r * r;
    case 1:  // ring
      return u * u + v * v < r * r && 25 * (u * u + v * v) > 9 * r * r;
    case 2:  // square
      return 8 * largest < 7 * r;
    case 3:  // frame
      return 8 * largest < 7 * r && 2 * largest > r;
    case 4:  // triangle, tip up
      return v > -r && 4 * v < 3 * r && 7 * au < 4 * (v + r);
    case 5:  // plus
      return largest < r && 10 * std::min(au, av) < 3 * r;
    case 6:  // saltire
      return 4 * largest < 3 * r && 5 * std::abs(au - av) < 2 * r;
    case 7:  // diamond
      return au + av < r + r / 8;
    case 8:  // three horizontal bars
      return largest < r && (5 * (v + r) / (2 * r)) % 2 == 0;
    default:  // three vertical bars
      return largest < r && (5 * (u + r) / (2 * r)) % 2 == 0;
  }
}

MERISTEM_INLINE int SyntheticShape::coverage(int px, int py) const {
  // (cosine, sine) = (64² - t², 128 t) / (64² + t²): a rotation in whole numbers.
  const int cosine = 64 * 64 - turn * turn, sine = 128 * turn, norm = 64 * 64 + turn * turn;
  int covered = 0;
  for (int sample = 0; sample < 4; ++sample) {
    const int dx = px * subpixels + (sample % 2 == 0 ? 4 : 12) - x;
    const int dy = py * subpixels + (sample / 2 == 0 ? 4 : 12) - y;
    if (std::max(std::abs(dx), std::abs(dy)) > 2 * radius) continue;
    covered += in_shape(label, (dx * cosine + dy * sine) / norm, (dy * cosine - dx * sine) / norm, radius);
  }
  return covered;
}

/// Draws image `index` of class `label` into 32 x 32 x 3 bytes.
MERISTEM_INLINE void draw_synthetic(const SyntheticOptions& options, std::int64_t index, std::int32_t label,
                                    std::uint8_t* image) {
  Draws draws(options.seed, synthetic_stream(options.split, 0, index));
  constexpr int side = synthetic_side, middle = side * subpixels / 2;

  std::array<int, 3> ground, slope_x, slope_y;
  for (std::size_t c = 0; c < 3; ++c) {
    ground[c] = draws.range(80, 175);
    slope_x[c] = draws.range(-32, 32);
    slope_y[c] = draws.range(-32, 32);
  }
  // Patches first, then the shape on top of them.
  std::array<SyntheticShape, 4> shapes;
  for (std::size_t i = 0; i + 1 < shapes.size(); ++i) {
    SyntheticShape& patch = shapes[i];
    patch = {draws.range(0, 1) * 2, draws.range(0, 2 * middle), draws.range(0, 2 * middle), draws.range(24, 56), 0, {}};
    for (int& colour : patch.colour) colour = draws.range(30, 225);
  }
  SyntheticShape& object = shapes.back();
  object.label = label;
  object.x = middle + draws.range(-80, 80);
  object.y = middle + draws.range(-80, 80);
  object.radius = draws.range(104, 176);
  object.turn = draws.range(-10, 10);
  const int polarity = draws.range(0, 1) * 2 - 1;
  const int contrast = draws.range(40, 96);
  for (std::size_t c = 0; c < 3; ++c) object.colour[c] = ground[c] + polarity * contrast + draws.range(-20, 20);

  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      std::array<int, 3> colour;
      for (std::size_t c = 0; c < 3; ++c) {
        colour[c] = ground[c] + (slope_x[c] * (2 * x - side + 1) + slope_y[c] * (2 * y - side + 1)) / (2 * side);
      }
      for (const SyntheticShape& shape : shapes) {
        const int covered = shape.coverage(x, y);
        for (std::size_t c = 0; c < 3; ++c) {
          colour[c] = (colour[c] * (4 - covered) + shape.colour[c] * covered) / 4;
        }
      }
      for (std::size_t c = 0; c < 3; ++c) {
        *image++ = static_cast<std::uint8_t>(std::clamp(colour[c] + draws.range(-28, 28), 0, 255));
      }
    }
  }
}

}  // namespace meristem::data::detail

namespace meristem::data {

MERISTEM_INLINE ImageSet synthetic(const SyntheticOptions& options) {
  constexpr std::int64_t most = std::int64_t{1} << 31;
  if (options.images < 1) {
    throw ArgumentError(concat("synthetic: ", options.images, " images were asked for; at least 1 is needed"));
  }
  if (options.images > most) {
    throw ArgumentError(concat("synthetic: ", options.images, " images were asked for; at most ", most, " are drawn"));
  }
  ImageSet set;
  set.source = concat("built-in synthetic ", to_string(options.split), " set");
  set.class_names = {"disc", "ring", "square", "frame", "triangle", "plus", "saltire", "diamond", "bars", "columns"};
  set.height = set.width = detail::synthetic_side;
  set.channels = 3;
  set.normalization = {.mean = {0.5, 0.5, 0.5}, .stddev = {0.175, 0.175, 0.175}};
  set.labels.resize(static_cast<std::size_t>(options.images));
  set.pixels.resize(static_cast<std::size_t>(options.images * set.image_bytes()));
  for (std::int64_t first = 0; first < options.images; first += 512) {
    if (options.before_some) options.before_some();
    const std::int64_t end = std::min<std::int64_t>(first + 512, options.images);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static)
#endif
    for (std::int64_t i = first; i < end; ++i) {
      const std::int32_t label = detail::synthetic_label(options.seed, options.split, i);
      set.labels[static_cast<std::size_t>(i)] = label;
      detail::draw_synthetic(options, i, label, set.pixels.data() + i * set.image_bytes());
    }
  }
  return set;
}

}  // namespace meristem::data
