// Trains a small network on CIFAR-10 and lets it grow: after every few epochs it measures what each layer cannot
// express, adds the units that express most of it, and prints what it found.

#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include <meristem/grow/methods/methods.hpp>
#include <meristem/meristem.hpp>

#include "classify.hpp"
#include "command_line.hpp"
#include "console.hpp"
#include "export.hpp"
#include "interrupt.hpp"
#include "json_events.hpp"
#include "options.hpp"
#include "report.hpp"
#include "run_history.hpp"
#include "saved.hpp"
#include "session.hpp"

namespace {

namespace ms = meristem;

/// The exit code.
int run(cifar10::Options& options, cifar10::CommandLine& command_line) {
  std::optional<cifar10::Saved> saved;
  if (!options.resume.empty()) {
    cifar10::explained(cifar10::resume_wants, [&] { saved.emplace(options.resume); });
    if (const auto exit_code = command_line.go_on(saved->options, options.resume)) return *exit_code;
  }
  cifar10::Listeners listeners;
  if (options.json) {
    listeners.add(std::make_unique<cifar10::JsonLines>());
  } else {
    listeners.add(std::make_unique<cifar10::Console>());
  }
  if (options.device) {
    listeners.tell(cifar10::DeviceChosen{ms::Context({.seed = options.seed}).device_name()});
    return 0;
  }
  auto history = std::make_unique<cifar10::RunHistory>();
  cifar10::RunHistory& past = *history;
  listeners.add(std::move(history));
  if (!options.report.empty()) listeners.add(std::make_unique<cifar10::Report>(options.report, past, listeners));
  return cifar10::Session(options, command_line.given(), listeners, past, saved ? &*saved : nullptr).run();
}

/// What `body` returns for the arguments after its name; errors of its own as sentences.
int subcommand(int (*body)(std::vector<std::string>), int argc, char** argv) {
  const std::string name = ms::concat("cifar10 ", argv[1], ": ");
  try {
    return body({argv + 2, argv + argc});
  } catch (const ms::Error& error) {
    std::cerr << name << error.message() << '\n';
  } catch (const std::exception& error) {
    std::cerr << name << error.what() << '\n';
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "classify") return subcommand(cifar10::classify, argc, argv);
  if (argc > 1 && std::string(argv[1]) == "export") return subcommand(cifar10::export_model, argc, argv);
  cifar10::Options options;
  std::vector<std::string> methods;
  for (const ms::grow::Method& method : ms::grow::all_methods()) methods.push_back(method->name());
  cifar10::CommandLine command_line(options, methods);
  if (const auto exit_code = command_line.parse(argc, argv)) return *exit_code;
  cifar10::interrupt::watch();
  const auto less_memory = [&] {
    return ms::concat("lower ", options.is_mlp() ? "--hidden" : "--channels",
                      ", --units, --batch or --max-parameters\n");
  };
  try {
    return run(options, command_line);
  } catch (const cifar10::Interrupted&) {
    return 130;
  } catch (const ms::ArgumentError& error) {
    std::cerr << "cifar10: " << error.message() << '\n';
    return 2;
  } catch (const ms::MemoryError& error) {
    std::cerr << "cifar10: " << error.message() << "; " << less_memory();
    return 1;
  } catch (const ms::Error& error) {
    std::cerr << "cifar10: " << error.message() << '\n';
    return 1;
  } catch (const std::bad_alloc&) {
    std::cerr << "cifar10: memory ran out; " << less_memory();
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "cifar10: " << error.what() << '\n';
    return 1;
  }
}
