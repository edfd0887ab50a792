// Definitions of cifar.hpp.
#pragma once

#include <cstddef>
#include <fstream>
#include <system_error>
#include <vector>

#include <meristem/data/cifar.hpp>

namespace meristem::data::detail {

/// Twenty times the largest file that is published.
inline constexpr std::int64_t largest_cifar_file = std::int64_t{1} << 32;

MERISTEM_INLINE std::string CifarFormat::remedy() const {
  return concat("download the binary version (", archive, ") from https://www.cs.toronto.edu/~kriz/cifar.html, ",
                "unpack it and name the folder that holds its .bin files");
}

MERISTEM_INLINE std::filesystem::file_type file_type(const std::filesystem::path& path, const CifarFormat& format) {
  std::error_code error;
  const std::filesystem::file_type type = std::filesystem::status(path, error).type();
  if (type == std::filesystem::file_type::not_found) {
    throw IoError(concat(path.string(), ": no such file or folder; ", format.remedy()));
  }
  if (type == std::filesystem::file_type::none) {
    throw IoError(concat(path.string(), ": cannot be reached: ", error.message(), "; check the name and the rights"));
  }
  return type;
}

/// Number of records in `path`; checks that it is a readable, non-empty file of whole records.
MERISTEM_INLINE std::int64_t count_cifar_records(const std::filesystem::path& path, const CifarFormat& format) {
  if (file_type(path, format) != std::filesystem::file_type::regular) {
    throw IoError(concat(path.string(), ": not a file; ", format.remedy()));
  }
  std::error_code error;
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(path, error));
  if (error) throw IoError(concat(path.string(), ": its size cannot be read: ", error.message(), "; check the disk"));
  if (bytes == 0) throw DataError(concat(path.string(), ": the file is empty; ", format.remedy()));
  if (bytes > largest_cifar_file) {
    throw DataError(concat(path.string(), ": ", bytes >> 20, " MiB are too many for a file of ", format.name,
                           "; the limit is ", largest_cifar_file >> 20, " MiB; ", format.remedy()));
  }
  if (bytes % format.record_bytes() != 0) {
    throw DataError(concat(path.string(), ": truncated, or not the binary version of ", format.name, ": ", bytes,
                           " bytes are no multiple of the record size ", format.record_bytes(), "; ", format.remedy()));
  }
  return bytes / format.record_bytes();
}

/// Writes the image of a record, three planes, as NHWC.
MERISTEM_INLINE void interleave_planes(const std::uint8_t* planes, std::uint8_t* nhwc) {
  for (std::int64_t i = 0; i < cifar_plane; ++i) {
    for (std::int64_t c = 0; c < 3; ++c) nhwc[3 * i + c] = planes[c * cifar_plane + i];
  }
}

/// Appends the records of one file, whose number was counted before.
MERISTEM_INLINE void append_cifar_file(const std::filesystem::path& path, const CifarFormat& format,
                                       std::int64_t records, ImageSet& set) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw IoError(concat(path.string(), ": cannot be opened for reading; check its permissions"));
  std::vector<std::uint8_t> record(static_cast<std::size_t>(format.record_bytes()));
  for (std::int64_t r = 0; r < records; ++r) {
    if (!file.read(reinterpret_cast<char*>(record.data()), format.record_bytes())) {
      throw IoError(concat(path.string(), ": reading stopped at record ", r, " of ", records, "; check the disk, or ",
                           format.remedy()));
    }
    const std::int32_t label = record[static_cast<std::size_t>(format.label_at)];
    if (label >= set.classes()) {
      throw DataError(concat(path.string(), ": record ", r, " has label ", label, "; ", format.name,
                             " labels run from 0 to ", set.classes() - 1, "; ", format.remedy()));
    }
    set.labels.push_back(label);
    const std::size_t begin = set.pixels.size();
    set.pixels.resize(begin + static_cast<std::size_t>(cifar_image));
    interleave_planes(record.data() + format.label_bytes, set.pixels.data() + begin);
  }
}

MERISTEM_INLINE void read_cifar(const std::filesystem::path& directory, const std::vector<std::string>& files,
                                const CifarFormat& format, ImageSet& set) {
  if (file_type(directory, format) != std::filesystem::file_type::directory) {
    throw IoError(concat(directory.string(), ": not a folder; ", format.remedy()));
  }
  std::vector<std::int64_t> records;
  std::int64_t total = 0;
  for (const std::string& file : files) {
    records.push_back(count_cifar_records(directory / file, format));
    total += records.back();
  }
  set.height = set.width = cifar_side;
  set.channels = 3;
  set.labels.reserve(static_cast<std::size_t>(total));
  set.pixels.reserve(static_cast<std::size_t>(total * cifar_image));
  for (std::size_t i = 0; i < files.size(); ++i) append_cifar_file(directory / files[i], format, records[i], set);
  set.check();
}

}  // namespace meristem::data::detail

namespace meristem::data {

MERISTEM_INLINE ImageSet cifar10(const std::filesystem::path& directory, Split split) {
  ImageSet set;
  set.source = concat("CIFAR-10 ", to_string(split), " set in ", directory.string());
  set.class_names = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
  set.normalization = {.mean = {0.491400, 0.482158, 0.446531}, .stddev = {0.247032, 0.243485, 0.261588}};
  std::vector<std::string> files = {"test_batch.bin"};
  if (split == Split::train) {
    files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"};
  }
  detail::read_cifar(directory, files, {"CIFAR-10", "cifar-10-binary.tar.gz", 1, 0}, set);
  return set;
}

MERISTEM_INLINE ImageSet cifar100(const std::filesystem::path& directory, Split split, Cifar100Labels labels) {
  const bool fine = labels == Cifar100Labels::fine;
  ImageSet set;
  set.source = concat("CIFAR-100 ", to_string(split), " set in ", directory.string());
  if (fine) {
    set.class_names = {
        "apple",      "aquarium_fish", "baby",         "bear",       "beaver",      "bed",         "bee",
        "beetle",     "bicycle",       "bottle",       "bowl",       "boy",         "bridge",      "bus",
        "butterfly",  "camel",         "can",          "castle",     "caterpillar", "cattle",      "chair",
        "chimpanzee", "clock",         "cloud",        "cockroach",  "couch",       "crab",        "crocodile",
        "cup",        "dinosaur",      "dolphin",      "elephant",   "flatfish",    "forest",      "fox",
        "girl",       "hamster",       "house",        "kangaroo",   "keyboard",    "lamp",        "lawn_mower",
        "leopard",    "lion",          "lizard",       "lobster",    "man",         "maple_tree",  "motorcycle",
        "mountain",   "mouse",         "mushroom",     "oak_tree",   "orange",      "orchid",      "otter",
        "palm_tree",  "pear",          "pickup_truck", "pine_tree",  "plain",       "plate",       "poppy",
        "porcupine",  "possum",        "rabbit",       "raccoon",    "ray",         "road",        "rocket",
        "rose",       "sea",           "seal",         "shark",      "shrew",       "skunk",       "skyscraper",
        "snail",      "snake",         "spider",       "squirrel",   "streetcar",   "sunflower",   "sweet_pepper",
        "table",      "tank",          "telephone",    "television", "tiger",       "tractor",     "train",
        "trout",      "tulip",         "turtle",       "wardrobe",   "whale",       "willow_tree", "wolf",
        "woman",      "worm"};
  } else {
    set.class_names = {"aquatic_mammals",
                       "fish",
                       "flowers",
                       "food_containers",
                       "fruit_and_vegetables",
                       "household_electrical_devices",
                       "household_furniture",
                       "insects",
                       "large_carnivores",
                       "large_man-made_outdoor_things",
                       "large_natural_outdoor_scenes",
                       "large_omnivores_and_herbivores",
                       "medium_mammals",
                       "non-insect_invertebrates",
                       "people",
                       "reptiles",
                       "small_mammals",
                       "trees",
                       "vehicles_1",
                       "vehicles_2"};
  }
  set.normalization = {.mean = {0.507076, 0.486549, 0.440918}, .stddev = {0.267334, 0.256438, 0.276150}};
  detail::read_cifar(directory, {split == Split::train ? "train.bin" : "test.bin"},
                     {"CIFAR-100", "cifar-100-binary.tar.gz", 2, fine ? 1 : 0}, set);
  return set;
}

}  // namespace meristem::data
