// What a checkpoint of this program holds beside the network and the optimiser.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <meristem/io/checkpoint.hpp>
#include <meristem/meristem.hpp>

namespace cifar10 {

namespace ms = meristem;

/// Where a run is; with the network, the optimiser and the number of random streams taken, all it takes to go on.
struct Progress {
  std::int64_t epoch = 1;
  std::int64_t step = 0;        ///< batches of this epoch that are done
  ms::train::Metrics training;  ///< of them
  bool tested = false;          ///< whether this epoch was tested and told; growth comes next
  double epoch_seconds = 0.0;
  double seconds = 0.0, growing_seconds = 0.0;
  double training_operations = 0.0, growing_operations = 0.0;
  std::vector<double> grower;  ///< what the Grower remembers; empty without one
};

/// 64 bits that tell one set of images from another: FNV-1a over sizes, labels and pixels.
std::string fingerprint(const ms::data::ImageSet& set);

/// What the network reads and what its answers mean.
struct ModelInput {
  std::int64_t height = 0, width = 0, channels = 0;
  std::vector<std::string> classes;
  ms::data::Normalization normalization;

  /// Throws DataError, which names the file, for numbers that cannot be.
  void check(const std::string& file) const;
};

ms::io::Json saved_state(const Progress& at, const std::map<std::string, std::string>& options,
                         const std::string& training, const std::string& testing, const std::string& history,
                         const ms::data::ImageSet& set);

/// What `--resume` is to be given, as the start of a sentence.
inline constexpr const char* resume_wants = "--resume takes a whole file that --checkpoint wrote";

/// What `read` returns. If the content of a file is refused, the sentence starts with `wanted`.
template <class Read>
decltype(auto) explained(const std::string& wanted, Read read) {
  try {
    return read();
  } catch (const ms::DataError& error) {
    throw ms::DataError(ms::concat(wanted, "; ", error.message()));
  }
}

/// A checkpoint of this program, read and checked.
struct Saved {
  ms::io::Checkpoint<float> checkpoint;
  Progress at;
  std::map<std::string, std::string> options;
  std::string training, testing, history;
  ModelInput input;

  /// Throws IoError if the file cannot be read, DataError for any other file.
  explicit Saved(const std::string& path) : Saved(ms::io::load_checkpoint<float>(path)) {}

  explicit Saved(ms::io::Checkpoint<float> read);

 private:
  [[noreturn]] void fail() const;
  /// A number of steps, samples or pixels.
  [[nodiscard]] std::int64_t whole(const ms::io::Json& number) const;
};

}  // namespace cifar10
