#include "export.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <system_error>
#include <utility>

namespace cifar10 {

/// A sentence about a name under which no file is to be written; empty if all is well. Throws IoError for a place where
/// none can be.
std::string place_problem(const std::string& option, const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return ms::concat(option, " ", path, ": is a folder; give the name of a file in it");
  }
  if (std::filesystem::exists(path, ignored)) {
    return ms::concat(option, " ", path, ": the file is there already; choose another name, or remove it");
  }
  try {
    const ms::io::AtomicFile probe(path);
  } catch (const ms::IoError& error) {
    throw ms::IoError(ms::concat(option, ": ", error.message(), "; choose a place that can be written to"));
  }
  return "";
}

/// Writes all of the files, or none: those that were written go if a later one fails.
void write_together(const std::vector<ExportFile>& files) {
  std::vector<std::string> written;
  try {
    for (const ExportFile& file : files) {
      file.write(file.path);
      written.push_back(file.path);
      interrupt::check("export");
    }
  } catch (...) {
    std::error_code ignored;
    for (const std::string& path : written) std::filesystem::remove(path, ignored);
    throw;
  }
}

/// How others have to hand images over, and what they get.
void print_interface(const ModelInput& input) {
  const auto list = [](const std::vector<double>& numbers) {
    std::ostringstream text;
    text.precision(6);
    for (const double& number : numbers) text << (&number == numbers.data() ? "" : ", ") << number;
    return text.str();
  };
  const std::string classes = ms::listed(input.classes);
  const auto line = [](const std::string& name, const std::string& text) {
    std::cout << name << ms::wrapped(text, 90, 10).substr(name.size()) << '\n';
  };
  line("reads", ms::concat("(batch, ", input.channels, ", ", input.height, ", ", input.width,
                           ") in PyTorch and ONNX: pixels / 255, channel by channel less ",
                           list(input.normalization.mean), ", divided by ", list(input.normalization.stddev)));
  line("tells", ms::concat("(batch, ", input.classes.size(), "), before softmax: ", classes));
}

int export_model(std::vector<std::string> arguments) {
  CLI::App app{ms::wrapped("Writes a network that --checkpoint saved for other programs: as a model file (safetensors, "
                           "with architecture, classes, normalisation and growth history), for ONNX runtimes, or both.",
                           85),
               "cifar10 export"};
  app.get_formatter()->column_width(26);
  std::string model, safetensors, onnx, layout;
  const auto text = [&](const char* name, std::string& target, const char* about, const char* placeholder) {
    return app.add_option(name, target, ms::wrapped(about, 54))
        ->type_name(placeholder)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  };
  text("MODEL", model, "file that --checkpoint wrote, or a model file", "FILE");
  const CLI::Option* const wants_safetensors = text("--safetensors", safetensors, "model file to write", "FILE");
  const CLI::Option* const wants_layout =
      text("--layout", layout,
           "names and order of its weights: pytorch, as in the state_dict of the equivalent module (default), or "
           "meristem, as in memory",
           "NAME");
  const CLI::Option* const wants_onnx = text("--onnx", onnx, "ONNX file to write", "FILE");
  app.set_help_flag("-h,--help", "show this text, and stop");
  const auto refuse = [](const std::string& sentence) {
    std::cerr << "cifar10 export: " << sentence << "\nRun cifar10 export --help for the options.\n";
    return 2;
  };
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ExtrasError&) {
    const std::vector<std::string> extras = app.remaining();
    const std::string unknown = extras.empty() ? "an argument" : extras.front();
    if (unknown.starts_with("-")) {
      return refuse("there is no option " + unknown + "; it has --safetensors, --layout, --onnx and --help");
    }
    return refuse("'" + unknown + "' is one argument too many; give one MODEL, and files to write by their options");
  } catch (const CLI::ArgumentMismatch& mismatch) {
    const std::string problem = mismatch.what(), name = problem.substr(0, problem.find_first_of(": "));
    return refuse(name + ": no value was given; give " +
                  (name == "--layout" ? "one of pytorch, meristem" : "the name of a file"));
  } catch (const CLI::ParseError& error) {
    return refuse(ms::concat(error.what(), "; give MODEL and the files to write"));
  }
  if (model.empty()) return refuse("MODEL is missing: give a file that --checkpoint wrote, or a model file");
  for (const auto& [option, path] : {std::pair{wants_safetensors, &safetensors}, std::pair{wants_onnx, &onnx}}) {
    if (option->count() > 0 && path->empty()) {
      return refuse(option->get_name() + ": got ''; give the name of a file");
    }
  }
  if (safetensors.empty() && onnx.empty()) {
    return refuse("there is nothing to write: give --safetensors FILE, --onnx FILE or both");
  }
  std::error_code ignored;
  if (!safetensors.empty() &&
      std::filesystem::weakly_canonical(safetensors, ignored) == std::filesystem::weakly_canonical(onnx, ignored)) {
    return refuse("--safetensors and --onnx both name " + onnx + "; give each a file of its own");
  }
  if (wants_layout->count() == 0) layout = "pytorch";
  if (layout != "pytorch" && layout != "meristem") {
    return refuse("--layout: got '" + layout + "'; give one of pytorch, meristem");
  }
  if (wants_layout->count() > 0 && safetensors.empty()) {
    return refuse("--layout belongs to --safetensors; ONNX has one layout: leave it out, or give --safetensors FILE");
  }

  for (const auto& [option, path] : {std::pair{"--safetensors", safetensors}, std::pair{"--onnx", onnx}}) {
    const std::string problem = path.empty() ? "" : place_problem(option, path);
    if (problem.empty()) continue;
    std::cerr << "cifar10 export: " << problem << '\n';
    return 2;
  }

  ms::Context ctx;
  Model loaded = load_any_model(model, ctx);
  const ModelInput& input = loaded.input;
  const ms::io::ModelInfo info{.sample = {input.height, input.width, input.channels},
                               .class_names = input.classes,
                               .normalization = input.normalization,
                               .history = loaded.growth,
                               .notes = loaded.notes};
  std::vector<ExportFile> files;
  if (!safetensors.empty()) {
    const bool torch = layout == "pytorch";
    files.push_back({safetensors, torch ? "weights in PyTorch's layout" : "weights in this library's layout",
                     [&ctx, &loaded, &info, torch](const std::string& path) {
                       ms::io::save_model<float>(path, ctx, loaded.net, info,
                                                 torch ? ms::io::ModelLayout::pytorch : ms::io::ModelLayout::meristem);
                     }});
  }
  if (!onnx.empty()) {
    files.push_back({onnx, "ONNX, from 'input' to 'output'",
                     [&](const std::string& path) { ms::io::save_onnx<float>(path, ctx, loaded.net, info); }});
  }
  interrupt::watch();
  try {
    write_together(files);
  } catch (const Interrupted&) {
    return 130;
  }

  const NetworkState state = network_state(loaded.net, loaded.image(), ms::grow::find_sites(loaded.net));
  const auto kind = loaded.notes.find("model");
  std::cout << "model     " << (kind == loaded.notes.end() ? "a model file" : kind->second) << ", " << shown_size(state)
            << '\n';
  for (const ExportFile& file : files) {
    std::cout << "wrote     " << file.path << ": " << file.about << ", "
              << ms::grouped(static_cast<std::int64_t>(std::filesystem::file_size(file.path))) << " bytes\n";
  }
  print_interface(input);
  check_output();
  return 0;
}

}  // namespace cifar10
