#include "report.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <system_error>

namespace cifar10 {

Report::Report(const std::filesystem::path& folder, const RunHistory& history, const Listeners& listeners)
    : page_(folder / "report.html"), history_(&history), listeners_(&listeners) {
  std::error_code error;
  const auto missing = [](const std::filesystem::path& part) {
    std::error_code ignored;
    return std::filesystem::symlink_status(part, ignored).type() == std::filesystem::file_type::not_found;
  };
  for (std::filesystem::path part = folder; !part.empty() && missing(part); part = part.parent_path()) {
    made_.push_back(part);
  }
  std::filesystem::create_directories(folder, error);
  if (error) {
    remove_folders();
    throw meristem::IoError(meristem::concat("--report ", folder.string(),
                                             ": the folder cannot be made: ", error.message(), "; choose another"));
  }
  try {
    const meristem::io::AtomicFile probe(page_.string());
  } catch (const meristem::IoError& refusal) {
    remove_folders();
    throw meristem::IoError(
        meristem::concat("--report: ", refusal.message(), ", or choose a folder that can be written to"));
  }
}

void Report::on(const Pictures& event) {
  pictures_ = Json::object();
  pictures_["confusion"] = event.confusion;
  pictures_["typical"] = examples(event.typical);
  pictures_["mistaken"] = examples(event.mistaken);
  pictures_["filter_layer"] = event.filter_layer;
  pictures_["filter_count"] = event.filter_count;
  pictures_["filters"] = Json::array();
  for (const auto& filter : event.filters) pictures_["filters"].push_back(uri(filter));
  pictures_["learning_rate"] = event.learning_rate;
  pictures_["units"] = Json::array();
  for (const auto& stage : event.units) {
    pictures_["units"].push_back({{"name", stage.site},
                                  {"first_step", stage.first_step},
                                  {"units", stage.units},
                                  {"fan_in_norm", stage.fan_in_norm},
                                  {"fan_out_norm", stage.fan_out_norm},
                                  {"norm_weight", stage.norm_weight},
                                  {"relative_gradient", stage.relative_gradient},
                                  {"fan_out_gradient", stage.fan_out_gradient},
                                  {"dead", stage.dead}});
  }
}

void Report::remove_folders() const {
  std::error_code ignored;
  for (const std::filesystem::path& part : made_) std::filesystem::remove(part, ignored);
}

Json Report::examples(const std::vector<Pictures::Example>& all) {
  Json list = Json::array();
  for (const auto& example : all) {
    const std::vector<float>& shares = example.answer.probabilities;
    std::vector<std::size_t> order(shares.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return shares[a] > shares[b]; });
    order.resize(std::min<std::size_t>(order.size(), 3));
    Json answers = Json::array();
    for (const std::size_t answer : order) answers.push_back(Json::array({answer, shares[answer]}));
    list.push_back({{"image", uri(example.image)}, {"label", example.answer.label}, {"answers", answers}});
  }
  return list;
}

void Report::write() {
  try {
    meristem::io::write_file(page_.string(), report_page(history_->all(), pictures_));
    warned_ = false;
    written_ = true;
  } catch (const meristem::IoError& error) {
    if (!warned_) listeners_->tell(Warning{error.message() + " (training goes on without the report)"});
    warned_ = true;
  }
}

}  // namespace cifar10
