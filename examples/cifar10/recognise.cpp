#include "recognise.hpp"

#include <cstddef>
#include <system_error>

namespace cifar10::detail {

bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

/// Whether a folder holds one of the binary versions; a part of the files will do, the reader names what is missing.
bool has_cifar10(const std::filesystem::path& folder) {
  std::error_code ignored;
  for (const char* name : {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                           "data_batch_5.bin", "test_batch.bin"}) {
    if (std::filesystem::exists(folder / name, ignored)) return true;
  }
  return false;
}

bool has_cifar100(const std::filesystem::path& folder) {
  return is_file(folder / "train.bin") || is_file(folder / "test.bin");
}

/// What another distribution of CIFAR is called, or nothing.
std::string other_distribution(const std::filesystem::path& folder) {
  const auto has = [&](const char* name) { return is_file(folder / name); };
  if (has("data_batch_1") || has("batches.meta")) return "CIFAR-10 as pickled for Python";
  if (has("train") && has("test") && has("meta")) return "CIFAR-100 as pickled for Python";
  if (has("data_batch_1.mat") || has("batches.meta.mat")) return "CIFAR-10 for Matlab";
  if (has("train.mat") && has("test.mat") && has("meta.mat")) return "CIFAR-100 for Matlab";
  return "";
}

std::string unpacking(const std::filesystem::path& file) {
  const std::string name = ms::data::detail::small_letters(file.filename().string());
  for (const char* ending : {".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"}) {
    if (name.ends_with(ending)) return "tar -xf " + file.string();
  }
  if (name.ends_with(".zip")) return "unzip " + file.string();
  for (const char* ending : {".7z", ".rar", ".gz", ".bz2", ".xz"}) {
    if (name.ends_with(ending)) return "the program that made it";
  }
  return "";
}

void refuse_file(const std::filesystem::path& file) {
  const std::string name = file.string();
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  if (const std::string how = unpacking(file); !how.empty()) {
    throw ms::DataError(
        ms::concat(name, ": is an archive; unpack it (", how, ") and give the folder that comes out of it"));
  }
  const std::string ending = ms::data::detail::small_letters(file.extension().string());
  if (ending == ".bin" && (has_cifar10(folder) || has_cifar100(folder))) {
    throw ms::DataError(
        ms::concat(name, ": is one file of a data set; give the folder with all of them, --data ", folder.string()));
  }
  if (ending == ".jpg" || ending == ".jpeg" || ending == ".png") {
    throw ms::DataError(
        ms::concat(name, ": is a single picture; give a folder that holds a folder of pictures for each class"));
  }
  throw ms::DataError(ms::concat(name, ": is a file, not a folder; ", binary_version,
                                 ", or give a folder of JPEG or PNG files for each class"));
}

}  // namespace cifar10::detail

namespace cifar10 {

DataKind recognise(const std::filesystem::path& folder) {
  using ms::data::detail::content_of;
  const std::string name = folder.string();
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(folder, ignored);
  if (std::filesystem::is_regular_file(status)) detail::refuse_file(folder);
  if (!std::filesystem::is_directory(status) || detail::has_cifar10(folder)) return DataKind::cifar10;
  if (detail::has_cifar100(folder)) return DataKind::cifar100;
  if (const std::string other = detail::other_distribution(folder); !other.empty()) {
    throw ms::DataError(ms::concat(name, ": holds ", other, ", which is not read; ", detail::binary_version));
  }
  const ms::data::detail::FolderContent content = content_of(folder);
  for (const std::filesystem::path& inner : content.folders) {
    const bool ten = detail::has_cifar10(inner);
    if (ten || detail::has_cifar100(inner)) {
      throw ms::DataError(ms::concat(name, ": ", ten ? "CIFAR-10" : "CIFAR-100",
                                     " is one folder further down; give --data ", inner.string()));
    }
    if (const std::string other = detail::other_distribution(inner); !other.empty()) {
      throw ms::DataError(ms::concat(name, ": its folder ", inner.filename().string(), " holds ", other,
                                     ", which is not read; ", detail::binary_version));
    }
  }
  if (!content.folders.empty()) return DataKind::pictures;
  if (!content.pictures.empty()) {
    const std::filesystem::path above = std::filesystem::weakly_canonical(folder, ignored).parent_path();
    std::size_t classes = 0;
    if (!ignored && !above.empty() && std::filesystem::is_directory(above, ignored)) {
      try {
        for (const std::filesystem::path& beside : content_of(above).folders) {
          classes += content_of(beside).pictures.empty() ? 0 : 1;
        }
      } catch (const ms::IoError&) {
        // Folders beside it that may not be read are nobody's classes.
      }
    }
    const std::string remedy = classes > 1 ? ms::concat("if the folder is one of them, give the one above it, --data ",
                                                        (folder / "..").lexically_normal().string())
                                           : ms::concat("put those of a class into a folder with the class's name, ",
                                                        (folder / "CLASS/*.jpg").string());
    throw ms::DataError(ms::concat(name, ": its pictures have no classes; ", remedy));
  }
  for (std::filesystem::directory_iterator entry(folder, ignored), end; entry != end; entry.increment(ignored)) {
    if (ignored) break;
    const std::string how = detail::unpacking(entry->path());
    if (how.empty()) continue;
    throw ms::DataError(ms::concat(name, ": holds the archive ", entry->path().filename().string(), "; unpack it (",
                                   how, ") and give the folder that comes out of it"));
  }
  const std::string found =
      content.empty() ? "is empty"
                      : "holds only files that are not read (" + ms::data::detail::counted(content.others) + ")";
  throw ms::DataError(ms::concat(name, ": the folder ", found, "; ", detail::binary_version,
                                 ", or give a folder of JPEG or PNG files for each class"));
}

}  // namespace cifar10
