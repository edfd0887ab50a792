// What a checkpoint of this program holds beside the network and the optimiser.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
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
inline std::string fingerprint(const ms::data::ImageSet& set) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3; };
  for (const std::int64_t size : {set.size(), set.height, set.width, set.channels, set.classes()}) {
    add(static_cast<std::uint64_t>(size));
  }
  for (const std::int32_t label : set.labels) add(static_cast<std::uint64_t>(label));
  for (const std::uint8_t pixel : set.pixels) add(pixel);
  return std::to_string(hash);
}

/// What the network reads and what its answers mean.
struct ModelInput {
  std::int64_t height = 0, width = 0, channels = 0;
  std::vector<std::string> classes;
  ms::data::Normalization normalization;

  /// Throws DataError, which names the file, for numbers that cannot be.
  void check(const std::string& file) const {
    constexpr std::int64_t most = 65'536;
    if (height < 1 || width < 1 || channels < 1 || height > most || width > most || channels > most) {
      throw ms::DataError(ms::concat(file, ": reads images of ", height, " x ", width, " x ", channels,
                                     ", of which each must be from 1 to ", most, "; take another file"));
    }
    if (classes.empty()) throw ms::DataError(ms::concat(file, ": has no classes; take another file"));
    try {
      normalization.check(channels);
    } catch (const ms::DataError& error) {
      throw ms::DataError(ms::concat(file, ": ", error.message()));
    }
  }
};

inline ms::io::Json saved_state(const Progress& at, const std::map<std::string, std::string>& options,
                                const std::string& training, const std::string& testing, const std::string& history,
                                const ms::data::ImageSet& set) {
  return {{"program", "cifar10"},
          {"progress",
           {{"epoch", at.epoch},
            {"step", at.step},
            {"loss", at.training.loss},
            {"accuracy", at.training.accuracy},
            {"samples", at.training.samples},
            {"tested", at.tested},
            {"epoch_seconds", at.epoch_seconds},
            {"seconds", at.seconds},
            {"growing_seconds", at.growing_seconds},
            {"training_operations", at.training_operations},
            {"growing_operations", at.growing_operations},
            {"grower", at.grower}}},
          {"options", options},
          {"data", {{"training", training}, {"testing", testing}}},
          {"input",
           {{"height", set.height},
            {"width", set.width},
            {"channels", set.channels},
            {"classes", set.class_names},
            {"mean", set.normalization.mean},
            {"stddev", set.normalization.stddev}}},
          {"history", history}};
}

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

  explicit Saved(ms::io::Checkpoint<float> read) : checkpoint(std::move(read)) {
    const ms::io::Json& state = checkpoint.state();
    try {
      if (state.value("program", "") != "cifar10") {
        throw ms::DataError(
            ms::concat(checkpoint.source(), ": was saved by another program; give a file that --checkpoint wrote"));
      }
      const auto& p = state.at("progress");
      at.epoch = whole(p.at("epoch"));
      at.step = whole(p.at("step"));
      at.training = {p.at("loss"), p.at("accuracy"), whole(p.at("samples"))};
      at.tested = p.at("tested");
      at.epoch_seconds = p.at("epoch_seconds");
      at.seconds = p.at("seconds");
      at.growing_seconds = p.at("growing_seconds");
      at.training_operations = p.at("training_operations");
      at.growing_operations = p.at("growing_operations");
      at.grower = p.at("grower").get<std::vector<double>>();
      options = state.at("options").get<std::map<std::string, std::string>>();
      training = state.at("data").at("training");
      testing = state.at("data").at("testing");
      history = state.at("history");
      const auto& i = state.at("input");
      input = {.height = whole(i.at("height")),
               .width = whole(i.at("width")),
               .channels = whole(i.at("channels")),
               .classes = i.at("classes").get<std::vector<std::string>>(),
               .normalization = {.mean = i.at("mean").get<std::vector<double>>(),
                                 .stddev = i.at("stddev").get<std::vector<double>>()}};
    } catch (const ms::io::Json::exception& error) {
      throw ms::DataError(ms::concat(checkpoint.source(), ": the state of the run is damaged (", error.what(),
                                     "); take another checkpoint"));
    }
    if (at.epoch < 1) fail();
    input.check(checkpoint.source());
  }

 private:
  [[noreturn]] void fail() const {
    throw ms::DataError(
        ms::concat(checkpoint.source(), ": the state of the run has numbers that cannot be; take another checkpoint"));
  }
  /// A number of steps, samples or pixels.
  [[nodiscard]] std::int64_t whole(const ms::io::Json& number) const {
    constexpr std::int64_t most = std::int64_t{1} << 53;
    if (!number.is_number_unsigned() || number.get<std::uint64_t>() > std::uint64_t{most}) fail();
    return number.get<std::int64_t>();
  }
};

}  // namespace cifar10
