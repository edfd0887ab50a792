// A run as a person at a terminal sees it: a bar while something goes on, lines for what is done. In a file or a pipe
// there are lines only.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <meristem/core/error.hpp>
#include <meristem/core/text.hpp>

#include "events.hpp"

namespace cifar10 {

std::string fixed(double value, int digits);

/// A number of floating-point operations with a prefix.
std::string operations(double count);

/// The hidden widths, or of very many layers their number and extremes.
std::string shown_widths(const std::vector<std::int64_t>& hidden);

inline std::string shown_size(const NetworkState& network) {
  return meristem::concat("hidden ", shown_widths(network.hidden), ", ", meristem::grouped(network.parameters),
                          " parameters");
}

/// Seconds as 4:07 or 1:02:03.
std::string clock(double seconds);

/// Throws IoError if what was written did not arrive, for instance because the disk is full.
void check_output();

class Console final : public Listener {
 public:
  using Listener::on;
  ~Console() override;

  void on(const DeviceChosen& event) override;

  void on(const DataLoaded& event) override;

  void on(const RunStarted& event) override;

  void on(const StepDone& event) override;

  void on(const StillBusy& event) override;

  void on(const EpochDone& event) override;

  void on(const GrowthDone& event) override;

  void on(const RunStopped& event) override;

  void on(const RunEnded& event) override;

  void on(const Warning& event) override;

 private:
  /// A line that begins with `word`; what is too long for the terminal goes on in the next.
  static void head(const std::string& word, const std::string& text);

  /// Whether the bar may be drawn: on a terminal, ten times a second.
  bool due(std::chrono::steady_clock::time_point now);

  void show(const std::string& text, int columns);

  void clear();

  static int longest_line(const std::string& text);

  /// The columns of the growth table that matter most, for terminals of 60 columns.
  static std::string narrow_table(const meristem::grow::GrowthReport& report);

  RunStarted started_;
  std::chrono::steady_clock::time_point drawn_, rate_since_, busy_since_;
  std::int64_t rate_epoch_ = 0, rate_images_ = 0, rate_steps_ = 0;
  std::string busy_with_;
  bool shown_ = false;
};

}  // namespace cifar10
