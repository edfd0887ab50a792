// What a folder given by --data holds, judged by names alone; and for what people have instead, sentences that say what
// it is and what to do.
#pragma once

#include <filesystem>
#include <string>

#include <meristem/data/image_folder.hpp>
#include <meristem/meristem.hpp>

namespace cifar10 {

namespace ms = meristem;

enum class DataKind { cifar10, cifar100, pictures };

namespace detail {

inline constexpr const char* binary_version =
    "download the binary version (cifar-10-binary.tar.gz) from https://www.cs.toronto.edu/~kriz/cifar.html, unpack it "
    "and give the folder that holds its .bin files";

/// How an archive of this name is unpacked, or nothing for other files.
std::string unpacking(const std::filesystem::path& file);

}  // namespace detail

/// Throws DataError for what is neither CIFAR in its binary version nor folders with pictures; what is missing
/// altogether is left to the reader of CIFAR-10.
DataKind recognise(const std::filesystem::path& folder);

}  // namespace cifar10
