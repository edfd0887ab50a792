// What a run did so far, as JSON: kept in checkpoints, drawn by the report.
#pragma once

#include <string>

#include <meristem/core/error.hpp>

#include "events.hpp"
#include "json_events.hpp"

namespace cifar10 {

class History final : public Listener {
 public:
  using Listener::on;
  void on(const DeviceChosen& event) override { keep("device", to_json(event)); }
  void on(const DataLoaded& event) override { keep("data", to_json(event)); }
  void on(const RunStarted& event) override { keep("run", to_json(event)); }
  void on(const EpochDone& event) override { all_["epochs"].push_back(to_json(event)); }
  void on(const GrowthDone& event) override { all_["growths"].push_back(to_json(event)); }
  void on(const RunEnded& event) override { all_["result"] = to_json(event); }

  [[nodiscard]] const Json& all() const { return all_; }
  [[nodiscard]] std::string text() const { return all_.dump(-1, ' ', false, Json::error_handler_t::replace); }

  /// Goes on from what `text` returned. Throws DataError, and changes nothing, for anything else; `name` is the file.
  void restore(const std::string& text, const std::string& name) {
    Json read = Json::parse(text, nullptr, false);
    const auto is_list = [&](const char* key) { return read.contains(key) && read[key].is_array(); };
    if (read.is_discarded() || !read.is_object() || !is_list("epochs") || !is_list("growths")) {
      throw meristem::DataError(
          meristem::concat(name, ": the history of the run is damaged; go on from another checkpoint"));
    }
    all_ = std::move(read);
  }

  /// In a few words: how far the run got, and how well it does; empty before the first epoch.
  [[nodiscard]] std::string summary() const {
    const Json& epochs = all_.at("epochs");
    if (epochs.empty()) return "";
    const Json accuracy = epochs.back().value(Json::json_pointer("/testing/accuracy"), Json());
    const std::string grown = std::to_string(all_.at("growths").size());
    return meristem::concat(
        epochs.size(), epochs.size() == 1 ? " epoch, " : " epochs, ", grown,
        grown == "1" ? " growth step" : " growth steps",
        accuracy.is_number() ? ", test accuracy " + fixed(100 * accuracy.get<double>(), 2) + " %" : std::string());
  }

 private:
  /// A run that goes on keeps how it started.
  void keep(const char* key, Json json) {
    if (!all_.contains(key)) all_[key] = std::move(json);
  }

  Json all_ = {{"epochs", Json::array()}, {"growths", Json::array()}};
};

}  // namespace cifar10
