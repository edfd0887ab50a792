// The options of the main program.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cifar10 {

/// How many units a layer gets in one growth step: a number, or a share of the channels that the next layer puts out.
struct Units {
  std::int64_t count = 0;  ///< units, or the numerator of the share
  std::int64_t of = 0;     ///< the denominator of the share, or 0

  [[nodiscard]] std::string text() const { return std::to_string(count) + (of > 0 ? "/" + std::to_string(of) : ""); }
};

struct Options {
  std::string data;
  std::optional<std::int64_t> image_size;
  std::int64_t images = 0;
  std::string model = "resnet18";
  double width = 1.0 / 16;
  std::int64_t channels = 16;
  std::optional<std::vector<std::int64_t>> hidden;
  std::optional<std::string> activation;
  std::int64_t epochs = 10;
  std::int64_t batch = 128;
  std::string optimizer = "sgd";
  std::optional<double> learning_rate;
  double momentum = 0.9;
  double weight_decay = 5e-4;
  std::string schedule = "hold-cosine";
  std::optional<std::int64_t> hold;  ///< epochs at the peak of the rate
  double warm_up = 1.0;              ///< epochs in which new weights go from a tenth of the rate to all of it
  double label_smoothing = 0.0;
  bool augment = false;
  std::string method = "tiny";
  std::string grow = "hidden";  ///< which widths, and whether depth
  bool automatic = false;       ///< grows from the smallest network until operations run out
  double max_operations = 0.0;  ///< of an automatic run, all in all
  std::string where = "together";
  std::vector<std::string> layers;
  std::string fan_out = "full";
  std::optional<std::vector<std::int64_t>> grow_after;
  std::optional<Units> units;
  std::optional<double> significance, damping;
  std::optional<std::int64_t> statistics_samples;
  std::optional<std::int64_t> search_samples;
  std::int64_t max_parameters = 0;
  std::uint64_t seed = 0;
  std::string checkpoint;  ///< where to save, or empty
  std::string resume, report;
  bool json = false;
  bool device = false;

  [[nodiscard]] bool is_mlp() const { return model == "mlp"; }
  [[nodiscard]] double peak_learning_rate() const {
    return learning_rate.value_or(optimizer != "sgd" ? 0.001 : is_mlp() ? 0.02 : 0.1);
  }

  /// Epochs after which the network grows, ascending; never after the last one, which would leave it untrained. By
  /// default a perceptron grows after each of the first two thirds, others once, after half of them.
  [[nodiscard]] std::vector<std::int64_t> growth_epochs() const;
  /// By default 20 for a perceptron, else half of what the next layer puts out; a quarter in each of many steps.
  [[nodiscard]] Units units_each_step() const {
    return units.value_or(is_mlp() ? Units{20} : automatic ? Units{1, 4} : Units{1, 2});
  }
  /// Epochs before the learning rate falls; with and without growth the same, so that runs can be compared.
  [[nodiscard]] std::int64_t hold_epochs() const;
  /// By default a perceptron takes what stands out of the noise, others the number that was asked for.
  [[nodiscard]] double least_significance() const { return significance.value_or(0.0); }

  [[nodiscard]] bool deepens() const { return grow == "depth" || grow == "all"; }
  /// What is left open gets the values of an automatic run, unless `given` names it.
  void settle(const std::map<std::string, std::string>& given);

  /// In words: when the network grows, and by how much.
  [[nodiscard]] std::string growth_plan() const;
};

/// Numbers in ascending order as `4,6` or `1-20`.
std::string as_ranges(const std::vector<std::int64_t>& numbers);

}  // namespace cifar10
