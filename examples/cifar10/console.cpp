#include "console.hpp"

#include <sys/ioctl.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iomanip>
#include <iostream>
#include <sstream>

namespace cifar10 {

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

/// A loss in few characters, even one that is running away.
std::string shown_loss(double loss) {
  std::ostringstream text;
  if (loss < 1e4) text << std::fixed;
  text << std::setprecision(4) << loss;
  return text.str();
}

std::string operations(double count) {
  const char* const units[] = {" megaFLOP", " gigaFLOP", " teraFLOP", " petaFLOP"};
  int unit = 0;
  for (count *= 1e-6; count >= 1000.0 && unit < 3; count *= 1e-3) ++unit;
  return fixed(count, count < 10.0 ? 2 : count < 100.0 ? 1 : 0) + units[unit];
}

std::string shown_widths(const std::vector<std::int64_t>& hidden) {
  if (hidden.empty()) return "none";
  std::string text;
  for (const std::int64_t width : hidden) text += (text.empty() ? "" : "-") + std::to_string(width);
  const auto [least, most] = std::minmax_element(hidden.begin(), hidden.end());
  return text.size() <= 36 ? text : meristem::concat(hidden.size(), " layers of ", *least, " to ", *most);
}

std::string clock(double seconds) {
  const auto total = static_cast<std::int64_t>(std::clamp(std::ceil(seconds), 0.0, 1e9));
  const auto two = [](std::int64_t value) { return (value < 10 ? "0" : "") + std::to_string(value); };
  const std::int64_t hours = total / 3600, minutes = total / 60 % 60;
  return (hours > 0 ? std::to_string(hours) + ":" + two(minutes) : std::to_string(minutes)) + ":" + two(total % 60);
}

void check_output() {
  errno = 0;
  std::cout.flush();
  if (std::cout) return;
  const int reason = errno;
  std::cout.clear();
  throw meristem::IoError(
      meristem::concat("standard output cannot be written: ", reason ? std::strerror(reason) : "the device refuses",
                       "; send the output elsewhere"));
}

/// Columns of the terminal on standard output, 0 if it is none.
int terminal_columns() {
  const char* kind = std::getenv("TERM");
  if (!isatty(STDOUT_FILENO) || (kind && std::strcmp(kind, "dumb") == 0)) return 0;
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

Console::~Console() {
  clear();
  std::cout.flush();
}

void Console::on(const DeviceChosen& event) {
  clear();
  head("device", event.device);
}

void Console::on(const DataLoaded& event) {
  head("data", meristem::concat(event.description, ": ", meristem::grouped(event.training), " to train, ",
                                meristem::grouped(event.testing), " to test"));
  if (!event.remark.empty()) head("", event.remark);
}

void Console::on(const RunStarted& event) {
  started_ = event;
  head("network", meristem::concat(event.model, ", ", shown_size(event.network)));
  head("training",
       meristem::concat(meristem::grouped(event.epochs), event.epochs == 1 ? " epoch" : " epochs", " of ",
                        meristem::grouped(event.steps), event.steps == 1 ? " step; " : " steps; ", event.optimizer,
                        ", learning rate ", event.learning_rate,
                        event.held > 0  ? meristem::concat(" for ", event.held, event.held == 1 ? " epoch" : " epochs",
                                                           ", then falling to 0")
                        : event.falling ? " falling to 0"
                                        : "",
                        "; seed ", event.seed));
  head("growth", event.growth);
  if (!event.resumed_from.empty()) {
    head("resumed", meristem::concat("from ", event.resumed_from, " in epoch ", event.resumed_epoch, " after step ",
                                     event.resumed_step));
  }
  std::cout << '\n';
  check_output();
}

void Console::on(const StepDone& event) {
  const auto now = std::chrono::steady_clock::now();
  if (event.epoch != rate_epoch_ || rate_images_ == 0) {
    rate_epoch_ = event.epoch;
    rate_since_ = now;
    // The first step of an epoch starts the clock.
    rate_images_ = 1;
    rate_steps_ = 0;
    return;
  }
  rate_images_ += event.images;
  ++rate_steps_;
  if (!due(now)) return;
  const double seconds = std::chrono::duration<double>(now - rate_since_).count();
  const double left = seconds / static_cast<double>(rate_steps_) * static_cast<double>(event.steps - event.step);
  const auto rate = static_cast<std::int64_t>(static_cast<double>(rate_images_ - 1) / std::max(seconds, 1e-9));
  const std::string head = meristem::concat("epoch ", event.epoch, "/", event.epochs, " ");
  const std::string tail = meristem::concat(" ", event.step, "/", event.steps, "  ", clock(left), " left");
  std::string more = meristem::concat("  ", meristem::grouped(rate), " images/s");
  const std::string most = meristem::concat(more, "  loss ", shown_loss(event.epoch_so_far.loss), "  accuracy ",
                                            fixed(100 * event.epoch_so_far.accuracy, 1), " %");
  const int columns = terminal_columns() - 1;
  const auto room = [&](const std::string& text) {
    return columns - static_cast<int>(head.size() + tail.size() + text.size());
  };
  if (room(most) >= 12) more = most;
  if (room(more) < 8) more.clear();
  const int bar = std::min(room(more) - 2, 40);
  std::string text = head;
  if (bar >= 4) {
    const auto full = static_cast<std::size_t>(bar * event.step / event.steps);
    text += "[" + std::string(full, '=') + (full < static_cast<std::size_t>(bar) ? ">" : "") +
            std::string(static_cast<std::size_t>(bar) - std::min(full + 1, static_cast<std::size_t>(bar)), ' ') + "]";
  }
  show(text + tail + more, columns);
}

void Console::on(const StillBusy& event) {
  const auto now = std::chrono::steady_clock::now();
  if (event.what != busy_with_) {
    busy_with_ = event.what;
    busy_since_ = now;
  }
  if (!due(now)) return;
  const double seconds = std::chrono::duration<double>(now - busy_since_).count();
  // A clock that stands at 0:00 would look as if nothing went on.
  show(meristem::concat(event.what, " ...", seconds < 1 ? "" : " " + clock(std::floor(seconds))),
       terminal_columns() - 1);
}

void Console::on(const EpochDone& event) {
  clear();
  const std::string number = std::to_string(event.epoch), epochs = std::to_string(event.epochs);
  const std::string train = fixed(100 * event.training.accuracy, 2), test = fixed(100 * event.testing.accuracy, 2);
  std::ostringstream line;
  line << "epoch " << std::setw(static_cast<int>(epochs.size())) << number << '/' << epochs << "   loss "
       << shown_loss(event.training.loss) << "   accuracy " << train << " % train, " << test << " % test   "
       << meristem::grouped(event.network.parameters) << " parameters   " << fixed(event.seconds, 1) << " s";
  const int columns = terminal_columns();
  if (columns > 0 && static_cast<int>(line.str().size()) > columns) {
    line.str("");
    line << "epoch " << std::setw(static_cast<int>(epochs.size())) << number << '/' << epochs << "  loss "
         << shown_loss(event.training.loss) << "  test " << test << " %  " << fixed(event.seconds, 1) << " s";
  }
  std::cout << line.str() << '\n';
  check_output();
}

void Console::on(const GrowthDone& event) {
  clear();
  std::cout << "\ngrowth after epoch " << event.epoch << '\n';
  std::ostringstream table;
  table << event.report;
  if (terminal_columns() > 0 && longest_line(table.str()) > terminal_columns()) {
    std::cout << narrow_table(event.report);
  } else {
    std::cout << table.str();
  }
  const int columns = terminal_columns();
  const std::string now = event.report.added() == 0
                              ? "no layer grew"
                              : meristem::concat("now ", shown_size(event.network), ", test accuracy ",
                                                 fixed(100 * event.test_accuracy, 2), " %");
  std::cout << (columns > 0 ? meristem::wrapped(now, static_cast<std::size_t>(columns), 2) : "  " + now) << '\n';
  if (!event.over.empty()) std::cout << "  growth is over: " << event.over << '\n';
  std::cout << '\n';
  check_output();
}

void Console::on(const RunStopped& event) {
  clear();
  std::cout << '\n';
  head("stopped", meristem::concat("during ", event.phase, "; ",
                                   !event.checkpoint.empty() ? "go on with --resume " + event.checkpoint
                                   : event.saves             ? "nothing had been saved yet"
                                                             : "nothing was saved (--checkpoint FILE does)"));
  check_output();
}

void Console::on(const RunEnded& event) {
  clear();
  std::cout << '\n';
  head("result",
       meristem::concat("test accuracy ", fixed(100 * event.testing.accuracy, 2), " %, ", shown_size(event.network)));
  // Hidden widths alone are no news.
  const bool several = event.bought.size() > 1 || (!event.bought.empty() && event.bought[0].kind != "hidden widths");
  for (std::size_t i = 0; several && i < event.bought.size(); ++i) {
    const Bought& kind = event.bought[i];
    head(i == 0 ? "bought" : "",
         meristem::concat(
             kind.kind == "blocks" ? meristem::concat(kind.times, kind.times == 1 ? " block" : " blocks") : kind.kind,
             ": ", meristem::grouped(kind.units), kind.units == 1 ? " unit, " : " units, ",
             meristem::grouped(kind.parameters), " parameters, ", meristem::grouped(kind.multiply_adds),
             " multiply-adds an image, loss down by ", fixed(kind.decrease, 4), " all in all"));
  }
  std::string costs = fixed(event.seconds, 1) + " s";
  if (event.grew) costs += ", of which " + fixed(event.growing_seconds, 1) + " s growing";
  costs += "; " + operations(event.training_operations) + " of training";
  if (event.grew) costs += ", " + operations(event.growing_operations) + " of growing";
  head("", costs);
  check_output();
}

void Console::on(const Warning& event) {
  clear();
  std::cout.flush();
  std::cerr << "cifar10: " << event.text << '\n';
}

void Console::head(const std::string& word, const std::string& text) {
  constexpr std::size_t indent = 10;
  const auto columns = static_cast<std::size_t>(terminal_columns());
  const bool fits = columns == 0 || indent + text.size() <= columns;
  const std::string lines = fits ? std::string(indent, ' ') + text : meristem::wrapped(text, columns, indent);
  std::cout << word << lines.substr(word.size()) << '\n';
}

bool Console::due(std::chrono::steady_clock::time_point now) {
  if (now - drawn_ < std::chrono::milliseconds(100) || terminal_columns() == 0) return false;
  drawn_ = now;
  return true;
}

void Console::show(const std::string& text, int columns) {
  std::cout << '\r' << text.substr(0, static_cast<std::size_t>(std::max(columns, 0))) << "\x1b[K" << std::flush;
  shown_ = true;
}

void Console::clear() {
  if (shown_) std::cout << "\r\x1b[K";
  shown_ = false;
  busy_with_.clear();
}

int Console::longest_line(const std::string& text) {
  std::size_t longest = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) longest = std::max(longest, line.size());
  return static_cast<int>(longest);
}

std::string Console::narrow_table(const meristem::grow::GrowthReport& report) {
  const auto number = [](double value) {
    std::ostringstream text;
    text << std::setprecision(3) << value;
    return text.str();
  };
  std::ostringstream table;
  const auto line = [&](const std::string& name, const std::array<std::string, 4>& cells) {
    table << "  " << std::left << std::setw(20) << name << std::right << std::setw(10) << cells[0] << std::setw(9)
          << cells[1] << std::setw(9) << cells[2] << std::setw(9) << cells[3] << '\n';
  };
  line("layer", {"bottleneck", "units", "measured", "sec"});
  for (const auto& site : report.sites) {
    line(site.name, {std::isnan(site.bottleneck) ? "-" : number(site.bottleneck),
                     site.added > 0 ? meristem::concat(site.width, "+", site.added) : std::to_string(site.width),
                     site.added > 0 ? number(site.measured()) : "-", fixed(site.seconds, 1)});
    if (!site.note.empty()) table << meristem::wrapped(site.note, 58, 4) << '\n';
  }
  return table.str();
}

}  // namespace cifar10
