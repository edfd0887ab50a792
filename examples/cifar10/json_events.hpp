// Events as JSON: a line for each (--json), and all that the report and a checkpoint keep of a run.
#pragma once

#include <iostream>
#include <nlohmann/json.hpp>

#include "console.hpp"
#include "events.hpp"

namespace cifar10 {

using Json = nlohmann::ordered_json;

inline Json to_json(const meristem::train::Metrics& metrics) {
  return {{"loss", metrics.loss}, {"accuracy", metrics.accuracy}, {"images", metrics.samples}};
}

Json to_json(const NetworkState& network);

inline Json to_json(const DeviceChosen& event) { return {{"event", "device"}, {"device", event.device}}; }

Json to_json(const DataLoaded& event);

Json to_json(const RunStarted& event);

Json to_json(const StepDone& event);

Json to_json(const EpochDone& event);

Json to_json(const meristem::grow::SiteReport& site);

Json to_json(const GrowthDone& event);

inline Json to_json(const CheckpointSaved& event) {
  return {{"event", "checkpoint"}, {"path", event.path}, {"epoch", event.epoch}, {"step", event.step}};
}

inline Json to_json(const RunStopped& event) {
  return {{"event", "stopped"}, {"phase", event.phase}, {"checkpoint", event.checkpoint}};
}

Json to_json(const RunEnded& event);

/// One line an event on standard output, for programs; messages go to standard error.
class JsonLines final : public Listener {
 public:
  using Listener::on;
  void on(const DeviceChosen& event) override { print(event); }
  void on(const DataLoaded& event) override { print(event); }
  void on(const RunStarted& event) override { print(event); }
  void on(const StepDone& event) override { print(event); }
  void on(const EpochDone& event) override { print(event); }
  void on(const GrowthDone& event) override { print(event); }
  void on(const CheckpointSaved& event) override { print(event); }
  void on(const RunStopped& event) override { print(event); }
  void on(const RunEnded& event) override { print(event); }
  void on(const Warning& event) override { std::cerr << "cifar10: " << event.text << '\n'; }

 private:
  template <class Event>
  static void print(const Event& event) {
    // File names need not be UTF-8.
    std::cout << to_json(event).dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
    check_output();
  }
};

}  // namespace cifar10
