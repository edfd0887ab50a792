// Data sets of pictures: a folder for each class with JPEG and PNG files. stb_image has to be provided; see
// image_file.hpp.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/text.hpp>
#include <meristem/data/image_file.hpp>
#include <meristem/data/image_set.hpp>

namespace meristem::data {

struct ImageFolderOptions {
  /// Size of the images in the set; the files may have any. Both together at most 2^26 pixels.
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
  /// How many files are not called JPEG or PNG or lie where no pictures are looked for, by ending (`.webp`; empty for
  /// none). Hidden files and what systems leave behind do not count.
  std::map<std::string, std::int64_t> other_files;
  /// Folders in which no pictures are looked for: inside of classes, or beside train and test.
  std::vector<std::filesystem::path> other_folders;
};

namespace detail {

/// What is in a folder, by name. Hidden entries are left out, and what systems and archivers leave behind.
struct FolderContent {
  std::vector<std::filesystem::path> folders, pictures;
  std::map<std::string, std::int64_t> others;  ///< files that are no pictures, by ending

  [[nodiscard]] bool empty() const { return folders.empty() && pictures.empty() && others.empty(); }
};

[[nodiscard]] inline std::string small_letters(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

[[nodiscard]] inline bool left_behind(const std::string& name) {
  if (name.starts_with('.')) return true;
  for (const char* known :
       {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini"}) {
    if (name == known) return true;
  }
  return false;
}

/// Throws IoError if the folder cannot be read.
[[nodiscard]] inline FolderContent content_of(const std::filesystem::path& folder) {
  FolderContent content;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  const std::filesystem::directory_iterator end;
  for (; !error && entry != end; entry.increment(error)) {
    const std::filesystem::path& path = entry->path();
    if (left_behind(path.filename().string())) continue;
    std::error_code unknown;
    const std::string ending = small_letters(path.extension().string());
    if (entry->is_directory(unknown)) {
      content.folders.push_back(path);
    } else if (ending == ".jpg" || ending == ".jpeg" || ending == ".png") {
      content.pictures.push_back(path);
    } else {
      ++content.others[ending];
    }
  }
  if (error) {
    throw IoError(concat(folder.string(), ": the folder cannot be read: ", error.message(), "; check its rights"));
  }
  std::sort(content.folders.begin(), content.folders.end());
  std::sort(content.pictures.begin(), content.pictures.end());
  return content;
}

/// `6 .webp, 1 without an ending`.
[[nodiscard]] inline std::string counted(const std::map<std::string, std::int64_t>& files) {
  std::string text;
  for (const auto& [ending, count] : files) {
    text += concat(text.empty() ? "" : ", ", count, " ", ending.empty() ? "without an ending" : ending);
  }
  return text;
}

/// The names of at most `most` paths, such as `a, b and 7 more`.
[[nodiscard]] inline std::string names_of(const std::vector<std::filesystem::path>& paths, std::size_t most = 6) {
  std::string text;
  for (std::size_t i = 0; i < std::min(paths.size(), most); ++i) {
    const char* const between = i == 0 ? "" : i + 1 == paths.size() ? " and " : ", ";
    text += between + to_utf8(paths[i].filename().string());
  }
  if (paths.size() > most) text += concat(" and ", paths.size() - most, " more");
  return text;
}

/// What a folder without pictures holds, in a few words.
[[nodiscard]] inline std::string instead_of_pictures(const FolderContent& content) {
  if (content.empty()) return "empty";
  std::string text = counted(content.others);
  if (!content.folders.empty()) {
    text += concat(text.empty() ? "" : ", ", content.folders.size() == 1 ? "the folder " : "the folders ",
                   names_of(content.folders));
  }
  return text;
}

/// Whether a folder's name is that of a part of a data set: train, test1, valid.
[[nodiscard]] inline bool names_a_split(const std::filesystem::path& folder) {
  std::string name = small_letters(folder.filename().string());
  while (!name.empty() &&
         (std::isdigit(static_cast<unsigned char>(name.back())) || name.back() == '_' || name.back() == '-')) {
    name.pop_back();
  }
  for (const char* known : {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}) {
    if (name == known) return true;
  }
  return false;
}

/// The class folders in `folder` with what they hold. Throws DataError, which names them, for those without a picture.
[[nodiscard]] inline std::vector<std::pair<std::filesystem::path, FolderContent>> classes_in(
    const std::filesystem::path& folder, const FolderContent& inside) {
  std::vector<std::pair<std::filesystem::path, FolderContent>> classes;
  std::string without;
  std::size_t count = 0;
  for (const std::filesystem::path& path : inside.folders) {
    classes.emplace_back(path, content_of(path));
    if (!classes.back().second.pictures.empty()) continue;
    if (++count <= 6) {
      without += concat(without.empty() ? "" : ", ", to_utf8(path.filename().string()), " (",
                        instead_of_pictures(classes.back().second), ")");
    }
  }
  if (count == 0) return classes;
  if (count == classes.size()) {
    for (const auto& [path, content] : classes) {
      for (const std::filesystem::path& deeper : content.folders) {
        if (content_of(deeper).pictures.empty()) continue;
        throw DataError(concat(folder.string(), ": there is no picture in its ", count == 1 ? "folder " : "folders ",
                               names_of(inside.folders), ", but in folders of ", path.string(), "; if ",
                               names_of(content.folders), content.folders.size() == 1 ? " is a class" : " are classes",
                               ", give ", path.string()));
      }
    }
  }
  if (count > 6) without += concat(" and ", count - 6, " more");
  throw DataError(concat(
      folder.string(), ": ", count, " of ", classes.size(), count == 1 ? " class folders has" : " class folders have",
      " no JPEG or PNG file directly inside: ", without, "; put pictures there, or move such folders elsewhere"));
}

/// Appends the image in a file if it can be read, else the reason.
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

/// Throws DataError if `set` has no image of class `label`, whose folder is `folder`; the files from `first` on in the
/// list of unreadable ones are of it.
inline void require_readable(const std::filesystem::path& folder, std::int32_t label, const ImageSet& set,
                             const std::vector<UnreadableFile>& unreadable, std::size_t first) {
  if (!set.labels.empty() && set.labels.back() == label) return;
  throw DataError(concat(folder.string(), ": no picture of this class can be read", " (", unreadable.size() - first,
                         unreadable.size() - first == 1 ? " file is" : " files are",
                         " left out); the first: ", unreadable.size() > first ? unreadable[first].reason : "none"));
}

}  // namespace detail

/// The pictures in `root`: `root/<class>/*.jpg|jpeg|png`, of which every sixth of a class (by name, unreadable ones
/// counted) is for testing, or `root/train/<class>/...` and `root/test/<class>/...`, where `val`, `valid` and
/// `validation` are taken for `test` if that has no folders. Classes are numbered by name and called as their folders
/// are, in UTF-8; both sets are normalised by the training images' own mean and standard deviation. Files that cannot
/// be read are left out and listed, other files counted. Throws IoError if there is no such folder; DataError for a
/// class folder without a picture that can be read, for folders that are named as parts of a data set instead of
/// classes, if one of the sets would be without an image, or if the test set has a class of its own; ArgumentError for
/// a size below 1 or beyond 2^26 pixels, or test_every below 2.
[[nodiscard]] inline ImageFolder image_folder(const std::filesystem::path& root,
                                              const ImageFolderOptions& options = {}) {
  if (options.height < 1 || options.width < 1 || options.test_every < 2 ||
      options.height > largest_image_pixels / options.width) {
    throw ArgumentError(
        concat("image_folder: images of ", options.height, " x ", options.width, ", one in ", options.test_every,
               " for testing; the size must be at least 1 and at most 2^26 pixels, the last at least 2"));
  }
  std::error_code error;
  if (!std::filesystem::is_directory(root, error)) {
    throw IoError(
        concat(root.string(), ": no such folder; give one with a folder of JPEG or PNG files for each class"));
  }
  const detail::FolderContent in_root = detail::content_of(root);
  const auto folder_named = [&](const char* name) {
    return std::find(in_root.folders.begin(), in_root.folders.end(), root / name) != in_root.folders.end();
  };
  std::filesystem::path testing;
  for (const char* name : {"test", "val", "valid", "validation"}) {
    if (!testing.empty() || !folder_named("train") || !folder_named(name)) continue;
    if (!detail::content_of(root / name).folders.empty()) testing = root / name;
  }
  const bool split = !testing.empty();
  const std::filesystem::path training = split ? root / "train" : root;
  const detail::FolderContent in_training = split ? detail::content_of(training) : in_root;
  if (!split && !in_root.folders.empty() &&
      std::all_of(in_root.folders.begin(), in_root.folders.end(), detail::names_a_split)) {
    std::vector<std::filesystem::path> with_classes, without;
    for (const std::filesystem::path& folder : in_root.folders) {
      const detail::FolderContent content = detail::content_of(folder);
      if (!content.pictures.empty() || !content.folders.empty()) {
        (content.folders.empty() ? without : with_classes).push_back(folder);
      }
    }
    if (!without.empty() && !with_classes.empty()) {
      throw DataError(concat(root.string(), ": pictures of ", detail::names_of(without),
                             " lie in no folders of classes, so that they tell nothing; give ",
                             with_classes[0].string(), ", of which a part is then for testing"));
    }
    if (!without.empty()) {
      throw DataError(concat(root.string(), ": its only folders are ", detail::names_of(in_root.folders),
                             ", which are named as parts of a data set and not as classes; put the pictures of each "
                             "class into a folder of its own, ",
                             (root / "train/CLASS").string(), " and, if there are some, ",
                             (root / "test/CLASS").string()));
    }
  }

  ImageFolder result;
  for (ImageSet* set : {&result.train, &result.test}) {
    set->height = options.height;
    set->width = options.width;
    set->channels = 3;
    set->source = concat("pictures in ", root.string(), set == &result.train ? " to train on" : " to test on");
  }
  const auto pass_over = [&](const detail::FolderContent& content, bool pictures_too) {
    for (const auto& [ending, count] : content.others) result.other_files[ending] += count;
    if (!pictures_too) return;
    for (const std::filesystem::path& file : content.pictures) {
      ++result.other_files[detail::small_letters(file.extension().string())];
    }
  };
  pass_over(in_root, true);
  if (split) {
    pass_over(in_training, true);
    for (const std::filesystem::path& folder : in_root.folders) {
      if (folder != training && folder != testing) result.other_folders.push_back(folder);
    }
  }
  const auto pass_over_class = [&](const detail::FolderContent& content) {
    pass_over(content, false);
    result.other_folders.insert(result.other_folders.end(), content.folders.begin(), content.folders.end());
  };

  const auto classes = detail::classes_in(training, in_training);
  std::vector<std::string>& names = result.train.class_names;
  for (const auto& [folder, content] : classes) {
    const std::string name = to_utf8(folder.filename().string());
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      throw DataError(concat(training.string(), ": two of its folders are called '", name,
                             "', one in UTF-8 and one in Latin-1; put their pictures into one of them"));
    }
    names.push_back(name);
  }
  decltype(detail::classes_in(testing, in_training)) test_classes;
  if (split) {
    const detail::FolderContent in_testing = detail::content_of(testing);
    pass_over(in_testing, true);
    test_classes = detail::classes_in(testing, in_testing);
    for (const auto& [folder, content] : test_classes) {
      if (std::find(names.begin(), names.end(), to_utf8(folder.filename().string())) != names.end()) continue;
      throw DataError(concat(folder.string(), ": the class has no folder in ", training.string(),
                             "; move it or add images to train on"));
    }
  }

  for (std::size_t label = 0; label < classes.size(); ++label) {
    const auto& [folder, content] = classes[label];
    pass_over_class(content);
    const std::size_t unreadable = result.unreadable.size();
    for (std::size_t i = 0; i < content.pictures.size(); ++i) {
      const bool tests = !split && static_cast<std::int64_t>(i + 1) % options.test_every == 0;
      detail::append_image(content.pictures[i], static_cast<std::int32_t>(label), options,
                           tests ? result.test : result.train, result.unreadable);
    }
    detail::require_readable(folder, static_cast<std::int32_t>(label), result.train, result.unreadable, unreadable);
  }
  result.test.class_names = names;
  for (const auto& [folder, content] : test_classes) {
    pass_over_class(content);
    const std::size_t unreadable = result.unreadable.size();
    const auto label = static_cast<std::int32_t>(
        std::find(names.begin(), names.end(), to_utf8(folder.filename().string())) - names.begin());
    for (const std::filesystem::path& file : content.pictures) {
      detail::append_image(file, label, options, result.test, result.unreadable);
    }
    detail::require_readable(folder, label, result.test, result.unreadable, unreadable);
  }
  for (const ImageSet* set : {&result.train, &result.test}) {
    if (!set->empty()) continue;
    throw DataError(concat(set->source, ": there is no image that can be read among ", result.train.classes(),
                           " classes; put JPEG or PNG files into a folder for each class, at least ",
                           options.test_every, " in one of them, or into train/CLASS and test/CLASS"));
  }
  result.train.normalization = result.test.normalization = result.train.measure_normalization();
  return result;
}

}  // namespace meristem::data
