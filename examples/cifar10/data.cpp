#include "data.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

namespace cifar10 {

/// Files that were left out, as a person wants to read it.
std::string left_out(const std::vector<ms::data::UnreadableFile>& files) {
  constexpr std::size_t shown = 10;
  std::string text =
      ms::concat(files.size(), files.size() == 1 ? " file was" : " files were", " left out; mend or remove them:");
  for (std::size_t i = 0; i < std::min(files.size(), shown); ++i) text += "\n  " + files[i].reason;
  if (files.size() > shown) text += ms::concat("\n  and ", files.size() - shown, " more");
  return text;
}

/// What lies in a folder of pictures and is not read, as a person wants to read it; empty if there is nothing.
std::string passed_over(const ms::data::ImageFolder& read) {
  std::string text = ms::data::detail::counted(read.other_files);
  if (!text.empty()) text = "files that are no pictures of a class: " + text;
  if (!read.other_folders.empty()) {
    text += ms::concat(text.empty() ? "" : "; ", read.other_folders.size() == 1 ? "the folder " : "folders: ",
                       ms::data::detail::names_of(read.other_folders));
  }
  return text.empty() ? "" : "not read are " + text;
}

/// The classes with their numbers of images, or the first of very many.
std::string shown_classes(const ms::data::ImageSet& set) {
  constexpr std::size_t shown = 20;
  std::vector<std::int64_t> count(set.class_names.size());
  for (const std::int32_t label : set.labels) ++count[static_cast<std::size_t>(label)];
  std::string text = "classes:";
  for (std::size_t i = 0; i < std::min(count.size(), shown); ++i) {
    text += ms::concat(i == 0 ? " " : ", ", set.class_names[i], " (", count[i], ")");
  }
  if (count.size() > shown) text += ms::concat(" and ", count.size() - shown, " more");
  return text;
}

Data load(const Options& o, const Listeners& listeners) {
  Data data;
  const std::filesystem::path here = "./cifar-10-batches-bin";
  std::error_code ignored;
  const bool built_in = o.data.empty() && !std::filesystem::is_directory(here, ignored);
  const std::filesystem::path folder = o.data.empty() ? here : std::filesystem::path(o.data);
  const DataKind kind = built_in ? DataKind::cifar10 : recognise(folder);
  const bool pictures = kind == DataKind::pictures;
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
    if (const std::string others = passed_over(read); !others.empty()) listeners.tell(Warning{others});
    data.train = std::move(read.train);
    data.test = std::move(read.test);
    if (data.train.classes() < 2) {
      throw ms::DataError(ms::concat(folder.string(), ": '", data.train.class_names.front(),
                                     "' is its only class; put pictures of at least two into folders"));
    }
    // By name they come class by class: the first images would be those of the first classes.
    if (o.images > 0 && o.images < data.train.size()) data.train = data.train.take_evenly(o.images);
    data.description = ms::concat("pictures in ", folder.string(), ", ", data.train.classes(), " classes");
    data.remark = shown_classes(data.train);
  } else if (kind == DataKind::cifar100) {
    data.train = ms::data::cifar100(folder, ms::data::Split::train);
    data.test = ms::data::cifar100(folder, ms::data::Split::test);
    data.description = "CIFAR-100 from " + folder.string();
  } else {
    data.train = ms::data::cifar10(folder, ms::data::Split::train);
    data.test = ms::data::cifar10(folder, ms::data::Split::test);
    data.description = "CIFAR-10 from " + folder.string();
  }
  if (o.images > 0 && o.images < data.train.size()) data.train = data.train.take(o.images);
  return data;
}

DataLoaded loaded(const Data& data) {
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
