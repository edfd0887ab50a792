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
  } else if (is_mlp()) {
    for (std::int64_t epoch = 1; epoch <= epochs * 2 / 3; ++epoch) add(epoch);
  } else {
    add(epochs / 3);
    add(epochs / 2);
  }
  return result;
}

std::int64_t Options::hold_epochs() const {
  const std::vector<std::int64_t> growths = growth_epochs();
  return schedule == "hold-cosine" && !growths.empty() ? growths.back() : 0;
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
  std::string most = "1/4 of what a layer feeds";
  if (is_mlp() || units) {
    const std::int64_t count = units.value_or(8);
    most = concat(count, count == 1 ? " unit" : " units", " a layer");
  }
  return concat(method, ", ", when.size(), when.size() == 1 ? " step" : " steps", ": after epoch",
                when.size() == 1 ? " " : "s ", as_ranges(when), ", ", least_significance() > 0.0 ? "at most " : "",
                most);
}

}  // namespace cifar10
