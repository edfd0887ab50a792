#include "json_events.hpp"

namespace cifar10 {

Json to_json(const NetworkState& network) {
  Json layers = Json::array();
  for (const LayerState& layer : network.layers) {
    layers.push_back({{"name", layer.name},
                      {"kind", layer.kind},
                      {"outputs", layer.outputs},
                      {"height", layer.height},
                      {"width", layer.width},
                      {"grows", layer.grows},
                      {"block", layer.block}});
  }
  return {{"hidden_names", network.hidden_names},
          {"hidden", network.hidden},
          {"parameters", network.parameters},
          {"layers", layers}};
}

Json to_json(const DataLoaded& event) {
  return {{"event", "data"},
          {"description", event.description},
          {"training", event.training},
          {"testing", event.testing},
          {"classes", event.classes},
          {"image", {event.height, event.width, event.channels}}};
}

Json to_json(const RunStarted& event) {
  Json json = {{"event", "run"},
               {"model", event.model},
               {"optimizer", event.optimizer},
               {"growth", event.growth},
               {"hidden_names", event.hidden_names},
               {"network", to_json(event.network)},
               {"epochs", event.epochs},
               {"steps", event.steps},
               {"learning_rate", event.learning_rate},
               {"falling", event.falling},
               {"held", event.held},
               {"seed", event.seed}};
  if (!event.resumed_from.empty()) {
    json["resumed"] = {{"from", event.resumed_from}, {"epoch", event.resumed_epoch}, {"step", event.resumed_step}};
  }
  return json;
}

Json to_json(const StepDone& event) {
  return {{"event", "step"},
          {"epoch", event.epoch},
          {"step", event.step},
          {"steps", event.steps},
          {"learning_rate", event.learning_rate},
          {"images", event.images},
          {"loss", event.batch.loss},
          {"accuracy", event.batch.accuracy}};
}

Json to_json(const EpochDone& event) {
  return {{"event", "epoch"},
          {"epoch", event.epoch},
          {"epochs", event.epochs},
          {"training", to_json(event.training)},
          {"testing", to_json(event.testing)},
          {"hidden", event.network.hidden},
          {"parameters", event.network.parameters},
          {"seconds", event.seconds}};
}

Json to_json(const meristem::grow::SiteReport& site) {
  return {{"name", site.name},
          {"width", site.width},
          {"asked", site.asked},
          {"found", site.found},
          {"added", site.added},
          {"samples", site.samples},
          {"goal_norm2", site.goal_norm2},
          {"bottleneck", site.bottleneck},
          {"best_move_decrease", site.best_move_decrease},
          {"unexpressed", site.unexpressed()},
          {"lambda", site.lambda},
          {"threshold", site.threshold},
          {"lambda_error", site.lambda_error},
          {"gain", site.gain},
          {"slope", site.slope},
          {"gamma", site.gamma},
          {"predicted", site.predicted},
          {"measured", site.measured()},
          {"loss_before", site.loss_before},
          {"loss_after", site.loss_after},
          {"evaluations", site.evaluations},
          {"parameters", site.parameters},
          {"multiply_adds", site.multiply_adds},
          {"accuracy", site.accuracy},
          {"seconds", site.seconds},
          {"stream", site.stream},
          {"block", site.block},
          {"new_parameters", site.new_parameters},
          {"new_multiply_adds", site.new_multiply_adds},
          {"note", site.note}};
}

Json to_json(const GrowthDone& event) {
  Json sites = Json::array();
  for (const auto& site : event.report.sites) {
    sites.push_back(to_json(site));
    const auto after = event.bottleneck_after.find(site.name);
    if (after != event.bottleneck_after.end()) sites.back()["bottleneck_after"] = after->second;
  }
  Json json = {{"event", "growth"},
               {"epoch", event.epoch},
               {"method", event.report.method},
               {"where", event.report.where},
               {"added", event.report.added()},
               {"sites", sites},
               {"network", to_json(event.network)},
               {"operations", event.report.operations},
               {"seconds", event.report.seconds}};
  if (event.report.added() > 0) json["test_accuracy"] = event.test_accuracy;
  if (!event.over.empty()) json["over"] = event.over;
  return json;
}

Json to_json(const RunEnded& event) {
  Json bought = Json::array();
  for (const Bought& kind : event.bought) {
    bought.push_back({{"kind", kind.kind},
                      {"times", kind.times},
                      {"units", kind.units},
                      {"parameters", kind.parameters},
                      {"multiply_adds", kind.multiply_adds},
                      {"decrease", kind.decrease}});
  }
  return {{"event", "result"},
          {"testing", to_json(event.testing)},
          {"network", to_json(event.network)},
          {"seconds", event.seconds},
          {"growing_seconds", event.growing_seconds},
          {"training_operations", event.training_operations},
          {"growing_operations", event.growing_operations},
          {"bought", bought}};
}

}  // namespace cifar10
