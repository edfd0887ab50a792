// Data sets of pictures: a folder for each class with JPEG and PNG files. stb_image has to be provided; see
// image_file.hpp.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/data/image_file.hpp>
#include <meristem/data/image_set.hpp>

namespace meristem::inline MERISTEM_BACKEND {
namespace data {

struct ImageFolderOptions {
  /// Size of the images in the set; the files may have any.
  std::int64_t height = 32;
  std::int64_t width = 32;
  /// Without folders train and test, one in so many files of a class is for testing.
  std::int64_t test_every = 6;
  /// Called before each file; what it throws ends the reading.
  std::function<void()> before_file = {};
};

/// A file that was left out; the reason begins with its name and ends with what to do.
struct UnreadableFile {
  std::filesystem::path path;
  std::string reason;
};

struct ImageFolder {
  ImageSet train, test;
  std::vector<UnreadableFile> unreadable;
};

namespace detail {

/// The folders in a folder, or its files that are called JPEG or PNG, hidden ones left out, by name.
[[nodiscard]] inline std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder, bool folders) {
  std::vector<std::filesystem::path> result;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  const std::filesystem::directory_iterator end;
  for (; !error && entry != end; entry.increment(error)) {
    const std::filesystem::path& path = entry->path();
    if (path.filename().string().starts_with('.')) continue;
    std::error_code unknown;
    if (folders) {
      if (entry->is_directory(unknown)) result.push_back(path);
      continue;
    }
    std::string extension = path.extension().string();
    for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (extension == ".jpg" || extension == ".jpeg" || extension == ".png") result.push_back(path);
  }
  if (error)
    throw IoError(concat(folder.string(), ": the folder cannot be read: ", error.message(), "; check its rights"));
  std::sort(result.begin(), result.end());
  return result;
}

inline void append_image(const std::filesystem::path& file, std::int32_t label, const ImageFolderOptions& options,
                         ImageSet& set, std::vector<UnreadableFile>& unreadable) {
  if (options.before_file) options.before_file();
  try {
    const Image image = resize_image(read_image(file), options.height, options.width);
    set.pixels.insert(set.pixels.end(), image.pixels.begin(), image.pixels.end());
    set.labels.push_back(label);
  } catch (const Error& error) {
    unreadable.push_back({file, error.message()});
  }
}

}  // namespace detail

/// The pictures in `root`: `root/<class>/*.jpg|jpeg|png`, of which every sixth of a class (by name, unreadable ones
/// counted) is for testing, or `root/train/<class>/...` and `root/test/<class>/...`. Classes are numbered by name; both
/// sets are normalised by the training images' own mean and standard deviation. Files that cannot be read are left out
/// and listed. Throws IoError if there is no such folder, DataError if one of the sets would be without an image or the
/// test set has a class of its own, ArgumentError for a size below 1 or test_every below 2.
[[nodiscard]] inline ImageFolder image_folder(const std::filesystem::path& root,
                                              const ImageFolderOptions& options = {}) {
  if (options.height < 1 || options.width < 1 || options.test_every < 2) {
    throw ArgumentError(concat("image_folder: images of ", options.height, " x ", options.width, ", one in ",
                               options.test_every,
                               " for testing; the size must be at least 1, and the last at least 2"));
  }
  std::error_code error;
  if (!std::filesystem::is_directory(root, error)) {
    throw IoError(
        concat(root.string(), ": no such folder; give one with a folder of JPEG or PNG files for each class"));
  }
  const bool split =
      std::filesystem::is_directory(root / "train", error) && std::filesystem::is_directory(root / "test", error);
  const std::filesystem::path training = split ? root / "train" : root;
  ImageFolder result;
  for (ImageSet* set : {&result.train, &result.test}) {
    set->height = options.height;
    set->width = options.width;
    set->channels = 3;
    set->source = concat("pictures in ", root.string(), set == &result.train ? " to train on" : " to test on");
  }
  const auto classes = detail::entries_of(training, true);
  for (std::size_t label = 0; label < classes.size(); ++label) {
    result.train.class_names.push_back(classes[label].filename().string());
    const auto files = detail::entries_of(classes[label], false);
    for (std::size_t i = 0; i < files.size(); ++i) {
      const bool tests = !split && static_cast<std::int64_t>(i + 1) % options.test_every == 0;
      detail::append_image(files[i], static_cast<std::int32_t>(label), options, tests ? result.test : result.train,
                           result.unreadable);
    }
  }
  result.test.class_names = result.train.class_names;
  if (split) {
    for (const std::filesystem::path& folder : detail::entries_of(root / "test", true)) {
      const auto& names = result.train.class_names;
      const auto at = std::find(names.begin(), names.end(), folder.filename().string());
      if (at == names.end()) {
        throw DataError(concat(folder.string(), ": the class has no folder in ", training.string(),
                               "; move it or add images to train on"));
      }
      for (const std::filesystem::path& file : detail::entries_of(folder, false)) {
        detail::append_image(file, static_cast<std::int32_t>(at - names.begin()), options, result.test,
                             result.unreadable);
      }
    }
  }
  for (const ImageSet* set : {&result.train, &result.test}) {
    if (!set->empty()) continue;
    const std::string first =
        result.unreadable.empty() ? "" : "; the first that cannot be read: " + result.unreadable[0].reason;
    throw DataError(concat(set->source, ": there is no image that can be read among ", result.train.classes(),
                           " classes; put JPEG or PNG files into a folder for each class, at least ",
                           options.test_every, " in one of them, or into train/CLASS and test/CLASS", first));
  }
  result.train.normalization = result.test.normalization = result.train.measure_normalization();
  return result;
}

}  // namespace data
}  // namespace meristem::inline MERISTEM_BACKEND
