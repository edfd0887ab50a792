#include "run_history.hpp"

#include <cstdint>
#include <limits>
#include <sstream>

namespace cifar10 {

void RunHistory::restore(const std::string& text, const std::string& name) {
  Json read = Json::parse(text, nullptr, false);
  const auto is_list = [&](const char* key) { return read.contains(key) && read[key].is_array(); };
  if (read.is_discarded() || !read.is_object() || !is_list("epochs") || !is_list("growths")) {
    throw meristem::DataError(
        meristem::concat(name, ": the history of the run is damaged; go on from another checkpoint"));
  }
  all_ = std::move(read);
}

std::string RunHistory::growth(const std::string& name) const {
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

std::vector<Bought> RunHistory::bought() const {
  std::vector<Bought> kinds{{.kind = "hidden widths"}, {.kind = "tied widths"}, {.kind = "blocks"}};
  for (const Json& step : all_.at("growths")) {
    for (const Json& json : step.at("sites")) {
      const meristem::grow::SiteReport site = site_of(json);
      if (site.added == 0) continue;
      Bought& kind = kinds[!site.block.empty() ? 2 : !site.stream.empty() ? 1 : 0];
      ++kind.times;
      kind.units += site.added;
      kind.parameters += site.new_parameters;
      kind.multiply_adds += site.new_multiply_adds;
      kind.decrease += site.measured();
    }
  }
  std::erase_if(kinds, [](const Bought& kind) { return kind.times == 0; });
  return kinds;
}

std::vector<std::string> RunHistory::width_names() const {
  const Json& growths = all_.at("growths");
  for (const Json* told :
       {growths.empty() ? nullptr : &growths.back(), all_.contains("run") ? &all_.at("run") : nullptr}) {
    const Json::json_pointer names(
        told && told->contains("event") && told->at("event") == "run" ? "/hidden_names" : "/network/hidden_names");
    if (told && told->contains(names)) return told->at(names).get<std::vector<std::string>>();
  }
  return {};
}

std::string RunHistory::summary() const {
  const Json& epochs = all_.at("epochs");
  if (epochs.empty()) return "";
  const Json accuracy = epochs.back().value(Json::json_pointer("/testing/accuracy"), Json());
  const std::string grown = std::to_string(all_.at("growths").size());
  return meristem::concat(
      epochs.size(), epochs.size() == 1 ? " epoch, " : " epochs, ", grown,
      grown == "1" ? " growth step" : " growth steps",
      accuracy.is_number() ? ", test accuracy " + fixed(100 * accuracy.get<double>(), 2) + " %" : std::string());
}

double RunHistory::real(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return 0.0;
  return found->is_null() ? std::numeric_limits<double>::quiet_NaN() : found->get<double>();
}

meristem::grow::SiteReport RunHistory::site_of(const Json& site) {
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
  report.stream = site.value("stream", "");
  report.block = site.value("block", "");
  report.new_parameters = site.value("new_parameters", std::int64_t{0});
  report.new_multiply_adds = site.value("new_multiply_adds", std::int64_t{0});
  report.note = site.at("note");
  return report;
}

}  // namespace cifar10
