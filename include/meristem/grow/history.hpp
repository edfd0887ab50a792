// What growth decided, step by step, with the numbers behind it: in memory, as JSON lines, and as something to replay.
// io/history.hpp reads the lines back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/error.hpp>
#include <meristem/grow/report.hpp>

namespace meristem::grow {

/// All growth steps of a network.
struct History {
  std::vector<GrowthReport> steps;

  /// Adds one that was taken after so many epochs and steps of training.
  void add(std::int64_t epoch, std::int64_t step, GrowthReport report) {
    report.epoch = epoch;
    report.step = step;
    steps.push_back(std::move(report));
  }

  /// One line for every site of every growth step, the step's own numbers repeated in each. Keys as in SiteReport and
  /// GrowthReport; `growth` counts the growth steps, `sites` says of how many lines each consists. One in which a rule
  /// left out every site is a line of its own numbers alone, `sites` 0.
  void write_json_lines(std::ostream& out) const;

  /// The lines of growth step `index`, to append to a file as training goes on. Throws ArgumentError if there is none.
  [[nodiscard]] std::string json_lines(std::size_t index) const;

  /// Writes a file of JSON lines. Throws IoError.
  void save(const std::string& path) const;
};

namespace detail {

/// Calls use(key, member) for all that a history has of a site, in the order of a line.
template <class Report, class Use>
void for_each_member(Report& site, Use&& use) {
  use("site", site.name);
  use("width", site.width);
  use("asked", site.asked);
  use("found", site.found);
  use("added", site.added);
  use("samples", site.samples);
  use("goal_norm2", site.goal_norm2);
  use("bottleneck", site.bottleneck);
  use("best_move_decrease", site.best_move_decrease);
  use("threshold", site.threshold);
  use("damping", site.damping);
  use("ridge_used", site.ridge_used);
  use("lambda_error", site.lambda_error);
  use("gain", site.gain);
  use("slope", site.slope);
  use("gamma", site.gamma);
  use("predicted", site.predicted);
  use("loss_before", site.loss_before);
  use("loss_after", site.loss_after);
  use("evaluations", site.evaluations);
  use("parameters", site.parameters);
  use("multiply_adds", site.multiply_adds);
  use("accuracy", site.accuracy);
  use("seconds", site.seconds);
  use("stream", site.stream);
  use("block", site.block);
  use("new_parameters", site.new_parameters);
  use("new_multiply_adds", site.new_multiply_adds);
  use("note", site.note);
  use("lambda", site.lambda);
}

}  // namespace detail

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/history_impl.hpp>
#endif
