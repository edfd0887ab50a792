#include "saved.hpp"

#include <utility>

namespace cifar10 {

std::string fingerprint(const ms::data::ImageSet& set) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3; };
  for (const std::int64_t size : {set.size(), set.height, set.width, set.channels, set.classes()}) {
    add(static_cast<std::uint64_t>(size));
  }
  for (const std::int32_t label : set.labels) add(static_cast<std::uint64_t>(label));
  for (const std::uint8_t pixel : set.pixels) add(pixel);
  return std::to_string(hash);
}

void ModelInput::check(const std::string& file) const {
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

ms::io::Json saved_state(const Progress& at, const std::map<std::string, std::string>& options,
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

Saved::Saved(ms::io::Checkpoint<float> read) : checkpoint(std::move(read)) {
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

void Saved::fail() const {
  throw ms::DataError(
      ms::concat(checkpoint.source(), ": the state of the run has numbers that cannot be; take another checkpoint"));
}

std::int64_t Saved::whole(const ms::io::Json& number) const {
  constexpr std::int64_t most = std::int64_t{1} << 53;
  if (!number.is_number_unsigned() || number.get<std::uint64_t>() > std::uint64_t{most}) fail();
  return number.get<std::int64_t>();
}

}  // namespace cifar10
