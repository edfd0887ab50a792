// Keeps report.html up to date while a run goes on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <meristem/core/error.hpp>
#include <meristem/io/file.hpp>

#include "events.hpp"
#include "pictures.hpp"
#include "png.hpp"
#include "report_page.hpp"
#include "run_history.hpp"

namespace cifar10 {

/// Writes the page after every epoch, growth step and at the end, in one go, so that there is always a whole one. A
/// page that cannot be written is a warning; training goes on.
class Report final : public Listener {
 public:
  using Listener::on;
  /// Makes the folder. Throws ArgumentError if that fails or nothing can be written there. `history` must be told of
  /// events before this.
  Report(const std::filesystem::path& folder, const RunHistory& history, const Listeners& listeners);

  /// A run that failed before its first page leaves no folder that it made.
  ~Report() override {
    if (!written_) remove_folders();
  }

  void on(const Pictures& event) override;
  void on(const EpochDone&) override { write(); }
  void on(const GrowthDone&) override { write(); }
  void on(const RunEnded&) override { write(); }
  [[nodiscard]] bool wants_pictures() const override { return true; }

 private:
  /// Those that it made and that are empty.
  void remove_folders() const;

  static std::string uri(const Pictures::Image& image) {
    return png_data_uri(image.pixels, image.height, image.width, image.channels);
  }

  static Json examples(const std::vector<Pictures::Example>& all);

  void write();

  std::filesystem::path page_;
  const RunHistory* history_;
  const Listeners* listeners_;
  Json pictures_ = Json::object();
  std::vector<std::filesystem::path> made_;  ///< folders that were not there, the innermost first
  bool warned_ = false, written_ = false;
};

}  // namespace cifar10
