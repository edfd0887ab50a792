// Readers for the binary versions of CIFAR-10 and CIFAR-100.
//
// A record is its label bytes (CIFAR-10: 1; CIFAR-100: coarse, then fine) followed by 3072 pixel bytes: the red, the
// green, then the blue plane of a 32 x 32 image, each row by row from the top. A. Krizhevsky, Learning Multiple Layers
// of Features from Tiny Images, 2009.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/data/image_set.hpp>

namespace meristem::data {

/// Which label of CIFAR-100: the 100 classes or the 20 groups of five.
enum class Cifar100Labels { fine, coarse };

namespace detail {

inline constexpr std::int64_t cifar_side = 32;
inline constexpr std::int64_t cifar_plane = cifar_side * cifar_side;
inline constexpr std::int64_t cifar_image = 3 * cifar_plane;

/// How the files of one CIFAR version are laid out and where to get them.
struct CifarFormat {
  std::string name;
  std::string archive;
  std::int64_t label_bytes;
  /// Which of the label bytes is the class.
  std::int64_t label_at;

  [[nodiscard]] std::int64_t record_bytes() const { return label_bytes + cifar_image; }
  [[nodiscard]] std::string remedy() const;
};

/// What `path` is; throws IoError if it does not exist or cannot be reached.
std::filesystem::file_type file_type(const std::filesystem::path& path, const CifarFormat& format);

}  // namespace detail

/// CIFAR-10 from `directory` (the unpacked `cifar-10-batches-bin`): `data_batch_1.bin` to `data_batch_5.bin` in that
/// order, or `test_batch.bin`. Files may hold any whole number of records. Both splits are normalised by the mean and
/// standard deviation of the 50,000 training images. Throws IoError for what is missing or unreadable, DataError for a
/// truncated, empty or larger file than 4 GiB or a label above 9.
[[nodiscard]] ImageSet cifar10(const std::filesystem::path& directory, Split split);

/// CIFAR-100 from `directory` (the unpacked `cifar-100-binary`): `train.bin` or `test.bin`, with the 100 fine or the 20
/// coarse labels. Otherwise as `cifar10`.
[[nodiscard]] ImageSet cifar100(const std::filesystem::path& directory, Split split,
                                Cifar100Labels labels = Cifar100Labels::fine);

}  // namespace meristem::data

#if !defined(MERISTEM_COMPILED)
#include <meristem/data/cifar_impl.hpp>
#endif
