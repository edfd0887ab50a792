#include "options.hpp"

#include <meristem/core/error.hpp>

namespace cifar10 {

std::vector<std::int64_t> Options::growth_epochs() const {
  std::vector<std::int64_t> result;
  const auto add = [&](std::int64_t epoch) {
    if (epoch >= 1 && epoch < epochs && (result.empty() || result.back() < epoch)) result.push_back(epoch);
  };
  if (grow_after) {
    for (const std::int64_t epoch : *grow_after) add(epoch);
  } else if (automatic) {
    for (std::int64_t epoch = 1; epoch <= epochs / 2; ++epoch) add(epoch);
  } else if (is_mlp()) {
    for (std::int64_t step = 1; step <= 5; ++step) add(step * epochs * 2 / 15);
  } else {
    add(epochs / 2);
  }
  return result;
}

std::int64_t Options::hold_epochs() const {
  if (schedule != "hold-cosine") return 0;
  const std::vector<std::int64_t> growths = growth_epochs();
  return hold.value_or(growths.empty() ? 0 : growths.back());
}

void Options::settle(const std::map<std::string, std::string>& given) {
  if (!automatic) return;
  if (!given.contains("--epochs")) epochs = 20;
  channels = 4;
  grow = "all";
}

std::string as_ranges(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    std::size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(numbers[i]);
    if (last > i) text += (last > i + 1 ? "-" : ",") + std::to_string(numbers[last]);
    i = last;
  }
  return text;
}

std::string Options::growth_plan() const {
  using meristem::concat;
  if (method == "none") return "none";
  const std::vector<std::int64_t> when = growth_epochs();
  if (when.empty()) return "none: no growth step falls into these epochs (--epochs, --grow-after)";
  const char* const depth = grow == "all" ? "widths and depth, " : grow == "depth" ? "depth, " : "";
  const Units each = units_each_step();
  const std::string most = each.text() + (each.of > 0       ? " of what a layer feeds"
                                          : each.count == 1 ? " unit a layer"
                                                            : " units a layer");
  if (automatic) {
    return concat(method, ", widths and depth, from the smallest network, after each of epochs ", as_ranges(when),
                  " as long as ", max_operations, " operations allow");
  }
  return concat(method, ", ", depth, when.size(), when.size() == 1 ? " step" : " steps", ": after epoch",
                when.size() == 1 ? " " : "s ", as_ranges(when), ", ", least_significance() > 0.0 ? "at most " : "",
                most);
}

}  // namespace cifar10
