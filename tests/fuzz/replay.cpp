// Gives every reader its seeds, and each seed damaged in many ways. Seeds called valid_* must be accepted, the others
// refused with a sentence; damage must be accepted or refused, nothing else. `replay <folder of seeds>`.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iterator>

#include "targets.hpp"

namespace {

/// 1 for accepted, 0 for refused.
int outcome(fuzz::Target target, fuzz::Bytes input) {
  try {
    target(input);
    return 1;
  } catch (const meristem::Error& error) {
    fuzz::require(error.message().size() > 10, "a refusal without a sentence");
    return 0;
  }
}

std::vector<std::uint8_t> read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

int main(int argc, char** argv) {
  const std::filesystem::path seeds = argc > 1 ? argv[1] : "seeds";
  int faults = 0;
  for (const auto& [name, target] : fuzz::targets()) {
    int accepted = 0, refused = 0, damaged = 0;
    std::vector<std::filesystem::path> files;
    if (std::filesystem::is_directory(seeds / name)) {
      for (const auto& entry : std::filesystem::directory_iterator(seeds / name)) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
      const std::vector<std::uint8_t> seed = read(file);
      try {
        const bool wanted = file.filename().string().starts_with("valid_"), got = outcome(target, seed) == 1;
        (got ? accepted : refused) += 1;
        if (wanted != got) {
          std::printf("%s: %s\n", file.c_str(),
                      got ? "accepted, though it must not be" : "refused, though it is valid");
          ++faults;
        }
        std::uint32_t state = 1;
        const auto random = [&](std::size_t bound) {
          state = state * 1664525 + 1013904223;
          return static_cast<std::size_t>(state >> 8) % std::max<std::size_t>(bound, 1);
        };
        for (int i = 0; i < 60; ++i, ++damaged) {
          std::vector<std::uint8_t> bytes = seed;
          if (i < 20) {
            bytes.resize(random(bytes.size() + 1));
          } else {
            // The header is where the sizes are.
            const std::size_t reach = i % 2 == 0 ? bytes.size() : std::min<std::size_t>(bytes.size(), 256);
            for (int k = 0; k < 1 + i % 3 && !bytes.empty(); ++k) {
              bytes[random(reach)] = static_cast<std::uint8_t>(random(256));
            }
          }
          (void)outcome(target, bytes);
        }
      } catch (const std::exception& error) {
        std::printf("%s: %s\n", file.c_str(), error.what());
        ++faults;
      }
    }
    std::printf("%-12s %3d accepted, %3d refused, %5d damaged\n", name.c_str(), accepted, refused, damaged);
    if (accepted == 0 || refused == 0) {
      std::printf("%s: has no seed of each sort\n", name.c_str());
      ++faults;
    }
  }
  return faults == 0 ? 0 : 1;
}
