// The images to train and test on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include <meristem/data/image_folder.hpp>
#include <meristem/meristem.hpp>

#include "events.hpp"
#include "interrupt.hpp"
#include "options.hpp"

namespace cifar10 {

namespace ms = meristem;

struct Data {
  ms::data::ImageSet train, test;
  std::string description, remark;
};

/// True for a folder with images in folders, and without the files of CIFAR-10.
inline bool is_image_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (std::filesystem::exists(folder / "data_batch_1.bin", ignored)) return false;
  for (std::filesystem::directory_iterator entry(folder, ignored), end; entry != end; entry.increment(ignored)) {
    if (ignored) break;
    if (entry->is_directory(ignored) && !entry->path().filename().string().starts_with('.')) return true;
  }
  return false;
}

/// Throws DataError for folders in which someone may well have put CIFAR-10 or pictures, but not as they are read.
inline void require_known_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  const std::string name = folder.string();
  if (!std::filesystem::is_directory(folder, ignored) ||
      std::filesystem::exists(folder / "data_batch_1.bin", ignored)) {
    return;
  }
  if (std::filesystem::exists(folder / "cifar-10-batches-bin/data_batch_1.bin", ignored)) {
    throw ms::DataError(ms::concat(name, ": CIFAR-10 is one folder further down; give --data ",
                                   (folder / "cifar-10-batches-bin").string()));
  }
  if (!is_image_folder(folder) && !ms::data::detail::entries_of(folder, false).empty()) {
    throw ms::DataError(
        ms::concat(name, ": its pictures have no classes; put those of a class into a folder with the class's name, ",
                   (folder / "CLASS/*.jpg").string()));
  }
}

/// Files that were left out, as a person wants to read it.
inline std::string left_out(const std::vector<ms::data::UnreadableFile>& files) {
  constexpr std::size_t shown = 10;
  std::string text =
      ms::concat(files.size(), files.size() == 1 ? " file was" : " files were", " left out; mend or remove them:");
  for (std::size_t i = 0; i < std::min(files.size(), shown); ++i) text += "\n  " + files[i].reason;
  if (files.size() > shown) text += ms::concat("\n  and ", files.size() - shown, " more");
  return text;
}

inline Data load(const Options& o, const Listeners& listeners) {
  Data data;
  const std::filesystem::path here = "./cifar-10-batches-bin";
  std::error_code ignored;
  const bool built_in = o.data.empty() && !std::filesystem::is_directory(here, ignored);
  const std::filesystem::path folder = o.data.empty() ? here : std::filesystem::path(o.data);
  if (!built_in) require_known_folder(folder);
  const bool pictures = !built_in && is_image_folder(folder);
  if (o.image_size && !pictures) {
    throw ms::ArgumentError(
        "--image-size belongs to --data with a folder of JPEG and PNG files; other images are 32 x 32: leave it out");
  }
  const auto still = [&](const char* what) {
    return [&listeners, what] {
      interrupt::check("preparation");
      listeners.tell(StillBusy{what});
    };
  };
  if (built_in) {
    // They show how the program works: a run shall take minutes, also with convolutions.
    const std::int64_t images = o.is_mlp() ? 20'000 : 5'000;
    data.train = ms::data::synthetic(
        {.images = images, .seed = 1, .split = ms::data::Split::train, .before_some = still("drawing images")});
    data.test = ms::data::synthetic(
        {.images = images / 5, .seed = 1, .split = ms::data::Split::test, .before_some = still("drawing images")});
    data.description = "built-in procedural images";
    data.remark = "(for CIFAR-10 give --data DIR; there is no " + here.string() + " here)";
  } else if (pictures) {
    const std::int64_t side = o.image_size.value_or(32);
    ms::data::ImageFolder read =
        ms::data::image_folder(folder, {.height = side, .width = side, .before_file = still("reading pictures")});
    if (!read.unreadable.empty()) listeners.tell(Warning{left_out(read.unreadable)});
    data.train = std::move(read.train);
    data.test = std::move(read.test);
    if (data.train.classes() < 2) {
      throw ms::DataError(ms::concat(folder.string(), ": '", data.train.class_names.front(),
                                     "' is its only class; put pictures of at least two into folders"));
    }
    data.description = ms::concat("pictures in ", folder.string(), ", ", data.train.classes(), " classes");
  } else {
    data.train = ms::data::cifar10(folder, ms::data::Split::train);
    data.test = ms::data::cifar10(folder, ms::data::Split::test);
    data.description = "CIFAR-10 from " + folder.string();
  }
  if (o.images > 0 && o.images < data.train.size()) data.train = data.train.take(o.images);
  return data;
}

/// What there is to tell of it.
inline DataLoaded loaded(const Data& data) {
  return {.description = data.description,
          .remark = data.remark,
          .training = data.train.size(),
          .testing = data.test.size(),
          .classes = data.train.class_names,
          .height = data.train.height,
          .width = data.train.width,
          .channels = data.train.channels};
}

}  // namespace cifar10
