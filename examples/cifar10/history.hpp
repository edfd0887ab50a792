// What a run did so far, as JSON: kept in checkpoints, drawn by the report.
#pragma once

#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/error.hpp>
#include <meristem/grow/history.hpp>

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

  /// The growth steps as the library writes them, a line of JSON for each layer. Throws DataError, which names the
  /// file, for what this program would not have kept.
  [[nodiscard]] std::string growth(const std::string& name) const {
    constexpr std::int64_t most = 1'000'000'000;
    meristem::grow::History history;
    try {
      const std::int64_t steps = all_.value(Json::json_pointer("/run/steps"), std::int64_t{0});
      for (const Json& step : all_.at("growths")) {
        meristem::grow::GrowthReport report;
        report.method = step.at("method");
        report.where = step.value("where", "");
        for (const Json& site : step.at("sites")) report.sites.push_back(site_of(site));
        report.parameters = step.at("network").at("parameters");
        report.operations = real(step, "operations");
        report.seconds = real(step, "seconds");
        const std::int64_t epoch = step.at("epoch");
        if (epoch < 0 || epoch > most || steps < 0 || steps > most) {
          throw meristem::DataError(meristem::concat(name, ": the history of the run has a growth step after epoch ",
                                                     epoch, " of ", steps, " steps; take another checkpoint"));
        }
        history.add(epoch, epoch * steps, std::move(report));
      }
    } catch (const Json::exception& error) {
      throw meristem::DataError(
          meristem::concat(name, ": the history of the run is damaged (", error.what(), "); take another checkpoint"));
    }
    std::ostringstream lines;
    history.write_json_lines(lines);
    return lines.str();
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
  /// JSON has null for what is not finite.
  static double real(const Json& object, const char* key) {
    const auto found = object.find(key);
    if (found == object.end()) return 0.0;
    return found->is_null() ? std::numeric_limits<double>::quiet_NaN() : found->get<double>();
  }

  static meristem::grow::SiteReport site_of(const Json& site) {
    meristem::grow::SiteReport report;
    report.name = site.at("name");
    report.width = site.at("width");
    report.asked = site.value("asked", std::int64_t{0});
    report.found = site.value("found", std::int64_t{0});
    report.added = site.at("added");
    report.samples = site.value("samples", std::int64_t{0});
    report.goal_norm2 = real(site, "goal_norm2");
    report.bottleneck = real(site, "bottleneck");
    report.best_move_decrease = real(site, "best_move_decrease");
    for (const Json& lambda : site.at("lambda")) {
      report.lambda.push_back(lambda.is_null() ? std::numeric_limits<double>::quiet_NaN() : lambda.get<double>());
    }
    report.threshold = real(site, "threshold");
    report.lambda_error = real(site, "lambda_error");
    report.gain = real(site, "gain");
    report.slope = real(site, "slope");
    report.gamma = real(site, "gamma");
    report.predicted = real(site, "predicted");
    report.loss_before = real(site, "loss_before");
    report.loss_after = real(site, "loss_after");
    report.evaluations = site.at("evaluations");
    report.parameters = site.at("parameters");
    report.multiply_adds = site.value("multiply_adds", std::int64_t{0});
    report.accuracy = real(site, "accuracy");
    report.seconds = real(site, "seconds");
    report.note = site.at("note");
    return report;
  }

  /// A run that goes on keeps how it started.
  void keep(const char* key, Json json) {
    if (!all_.contains(key)) all_[key] = std::move(json);
  }

  Json all_ = {{"epochs", Json::array()}, {"growths", Json::array()}};
};

}  // namespace cifar10
