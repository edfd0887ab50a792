// What a run did so far, as JSON: kept in checkpoints, drawn by the report.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <meristem/core/error.hpp>
#include <meristem/grow/history.hpp>

#include "events.hpp"
#include "json_events.hpp"

namespace cifar10 {

class RunHistory final : public Listener {
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
  void restore(const std::string& text, const std::string& name);

  /// The growth steps as the library writes them, a line of JSON for each layer. Throws DataError, which names the
  /// file, for what this program would not have kept.
  [[nodiscard]] std::string growth(const std::string& name) const;

  /// What each kind of growth brought so far; kinds that brought nothing are left out.
  [[nodiscard]] std::vector<Bought> bought() const;

  /// Names of the widths in the order in which they were told last; empty if none were.
  [[nodiscard]] std::vector<std::string> width_names() const;

  /// In a few words: how far the run got, and how well it does; empty before the first epoch.
  [[nodiscard]] std::string summary() const;

 private:
  /// JSON has null for what is not finite.
  static double real(const Json& object, const char* key);

  static meristem::grow::SiteReport site_of(const Json& site);

  /// A run that goes on keeps how it started.
  void keep(const char* key, Json json) {
    if (!all_.contains(key)) all_[key] = std::move(json);
  }

  Json all_ = {{"epochs", Json::array()}, {"growths", Json::array()}};
};

}  // namespace cifar10
