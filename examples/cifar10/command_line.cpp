#include "command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstddef>
#include <iostream>
#include <numeric>
#include <sstream>
#include <system_error>
#include <type_traits>

#include <meristem/core/error.hpp>
#include <meristem/core/text.hpp>

namespace cifar10 {

/// What an option accepts, in words ("a whole number", "from 1 to 9"), its default as text, and how it is stored.
struct Accepts {
  std::string kind, range, standard;
  std::function<bool(const std::string&)> store;  ///< false if the text is not accepted
};

namespace {

/// Characters to insert, remove or exchange, capitals apart, to make `b` of `a` (Levenshtein's distance).
std::size_t edits(const std::string& a, const std::string& b) {
  const auto same = [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  };
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (same(a[i], b[j]) ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, diagonal + 1, row[j] + 1});
    }
  }
  return row[b.size()];
}

/// The whole of `text` as a number from `least` to `most`; neither NaN nor infinity lies between them.
template <class Number>
std::optional<Number> parse_number(const std::string& text, Number least, Number most) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !(value >= least && value <= most)) return std::nullopt;
  return value;
}

/// A number for a `Number` or an optional one, which has no default of its own.
template <class Number, class Target>
Accepts number(Target& target, Number least, Number most) {
  std::ostringstream range, standard;
  range.precision(10);
  range << "from " << least << " to " << most;
  if constexpr (std::is_same_v<Target, Number>) standard << target;
  return {std::is_integral_v<Number> ? "a whole number " : "a number ", range.str(), standard.str(),
          [&target, least, most](const std::string& text) {
            const auto value = parse_number(text, least, most);
            if (value) target = *value;
            return value.has_value();
          }};
}

/// One of some names, for a string or an optional one, which has no default of its own.
template <class Target>
Accepts one_of(Target& target, const std::vector<std::string>& names) {
  std::string standard;
  if constexpr (std::is_same_v<Target, std::string>) standard = target;
  return {names.size() > 1 ? "one of " : "", meristem::listed(names), standard,
          [&target, names](const std::string& text) {
            if (std::find(names.begin(), names.end(), text) == names.end()) return false;
            target = text;
            return true;
          }};
}

/// A share above 0 and up to 1, as a decimal number or a fraction.
Accepts share(double& target, const std::string& standard) {
  return {"a share ", "above 0 and up to 1, such as 1/16 or 0.25", standard, [&target](const std::string& text) {
            const std::size_t slash = text.find('/');
            const auto numerator = parse_number(text.substr(0, slash), 0.0, 1e6);
            const auto denominator =
                slash == std::string::npos ? std::optional(1.0) : parse_number(text.substr(slash + 1), 0.0, 1e6);
            if (!numerator || !denominator || !(*numerator > 0.0 && *numerator <= *denominator)) return false;
            target = *numerator / *denominator;
            return true;
          }};
}

/// A number of units, or a fraction of the channels that the next layer puts out.
Accepts units(std::optional<Units>& target) {
  return {"a whole number ", "from 1 to 65536, or a share of the channels that the next layer puts out, such as 1/4",
          "", [&target](const std::string& text) {
            const std::size_t slash = text.find('/');
            const auto count = parse_number<std::int64_t>(text.substr(0, slash), 1, 65536);
            const auto of = slash == std::string::npos ? std::optional<std::int64_t>(0)
                                                       : parse_number<std::int64_t>(text.substr(slash + 1), 1, 65536);
            if (!count || !of || (*of > 0 && *count > *of)) return false;
            const std::int64_t common = *of > 0 ? std::gcd(*count, *of) : 1;
            target = Units{*count / common, *of / common};
            return true;
          }};
}

/// Different names of layers with only commas between.
Accepts layer_names(std::vector<std::string>& target) {
  return {"names of layers ", "such as stage1.block1.conv1, each once, only commas between", "",
          [&target](const std::string& text) {
            std::vector<std::string> given;
            for (std::size_t begin = 0; begin <= text.size();) {
              const std::size_t end = std::min(text.find(',', begin), text.size());
              const std::string name = text.substr(begin, end - begin);
              if (name.empty() || std::find(given.begin(), given.end(), name) != given.end()) return false;
              given.push_back(name);
              begin = end + 1;
            }
            target = given;
            return true;
          }};
}

Accepts widths(std::optional<std::vector<std::int64_t>>& target) {
  return {"widths ", "from 1 to 65536, only commas between", "", [&target](const std::string& text) {
            std::vector<std::int64_t> given;
            for (std::size_t begin = 0; begin <= text.size();) {
              const std::size_t end = std::min(text.find(',', begin), text.size());
              const auto width = parse_number<std::int64_t>(text.substr(begin, end - begin), 1, 65536);
              if (!width) return false;
              given.push_back(*width);
              begin = end + 1;
            }
            target = given;
            return true;
          }};
}

/// Epochs in ascending order.
Accepts epochs(std::optional<std::vector<std::int64_t>>& target) {
  return {"epochs ", "in ascending order, such as 4,6 or 1-20", "", [&target](const std::string& text) {
            constexpr std::int64_t most = 1'000'000;
            std::vector<std::int64_t> given;
            for (std::size_t begin = 0; begin <= text.size();) {
              const std::size_t end = std::min(text.find(',', begin), text.size());
              const std::string part = text.substr(begin, end - begin);
              const std::size_t dash = part.find('-');
              const auto first = parse_number<std::int64_t>(part.substr(0, dash), 1, most);
              const auto last =
                  dash == std::string::npos ? first : parse_number<std::int64_t>(part.substr(dash + 1), 1, most);
              if (!first || !last || *last < *first || (!given.empty() && *first <= given.back())) return false;
              for (std::int64_t epoch = *first; epoch <= *last; ++epoch) given.push_back(epoch);
              begin = end + 1;
            }
            target = given;
            return true;
          }};
}

Accepts folder(std::string& target) {
  return {"the name of a folder", "", "", [&target](const std::string& text) {
            target = text;
            return !text.empty();
          }};
}

Accepts file(std::string& target) {
  Accepts accepts = folder(target);
  accepts.kind = "the name of a file";
  return accepts;
}

}  // namespace

CommandLine::~CommandLine() = default;

CommandLine::CommandLine(Options& o, std::vector<std::string> methods)
    : options_(&o),
      app_(std::make_unique<CLI::App>(
          "Trains a network on CIFAR-10 that starts small and grows where it lacks expressivity.", "cifar10")) {
  methods.push_back("none");
  constexpr std::int64_t billion = 1'000'000'000;
  app_->allow_extras();
  app_->get_formatter()->column_width(26);

  group_ = "Data";
  add("--data", "DIR", folder(o.data),
      "folder with the binary version of CIFAR-10 (data_batch_1.bin, ...) or CIFAR-100 (train.bin, test.bin), or "
      "with "
      "a folder of JPEG or PNG files for each class; without it ./cifar-10-batches-bin is read if it is there, and "
      "else procedural images are built in");
  add("--image-size", "N", number<std::int64_t>(o.image_size, 8, 512),
      "height and width to which the pictures of such a folder are brought", "32");
  add("--images", "N", number<std::int64_t>(o.images, 0, billion),
      "train on the first N images, of pictures on N drawn evenly from all classes; 0 takes all");

  group_ = "Network";
  add("--model", "NAME", one_of(o.model, {"resnet18", "resnet18-strided", "vgg", "mlp"}), "network to train");
  add("--width", "X", share(o.width, "1/16"),
      "share of the full width that a resnet's blocks have inside, or a vgg's layers have, at the start");
  add("--channels", "N", number<std::int64_t>(o.channels, 1, 4096),
      "channels of the first stage of a resnet or a full vgg; later stages have multiples of it");
  add("--hidden", "N,N,...", widths(o.hidden),
      "widths at the start: of the hidden layers of an mlp, or inside the eight blocks of a resnet", "8,8 with an mlp");
  add("--activation", "NAME", one_of(o.activation, {"relu", "gelu", "silu", "tanh", "selu", "identity"}),
      "activation function of an mlp", "relu");

  group_ = "Training";
  add("--epochs", "N", number<std::int64_t>(o.epochs, 1, 1'000'000), "passes over the training images");
  add("--batch", "N", number<std::int64_t>(o.batch, 1, 1'000'000), "images in a training step");
  add("--optimizer", "NAME", one_of(o.optimizer, {"sgd", "adamw"}), "optimiser");
  add("--learning-rate", "X", number(o.learning_rate, 0.0, 1e6), "peak learning rate",
      "for sgd 0.02 with an mlp, else 0.1; for adamw 0.001");
  add("--momentum", "X", number(o.momentum, 0.0, 1.0), "momentum of sgd");
  add("--weight-decay", "X", number(o.weight_decay, 0.0, 1e6), "weight decay");
  add("--schedule", "NAME", one_of(o.schedule, {"hold-cosine", "cosine", "constant"}),
      "learning rate over time: held at its peak, then falling to 0; falling from the start; or never");
  add("--hold", "N", number<std::int64_t>(o.hold, 1, 1'000'000), "epochs before the learning rate falls",
      "until the last growth step, with or without growth");
  add("--warm-up", "X", number(o.warm_up, 0.0, 1e6),
      "epochs after a growth step in which the new weights go from a tenth of the learning rate to all of it");
  add("--label-smoothing", "X", number(o.label_smoothing, 0.0, 0.99),
      "share of the target that is spread over all classes");
  app_->add_flag("--augment", o.augment, described("random crops (4 pixels of reflected padding) and horizontal flips"))
      ->disable_flag_override()
      ->group(group_);

  group_ = "Growth";
  add("--method", "NAME", one_of(o.method, methods),
      "how units are computed; none trains the starting network as it is");
  add("--grow", "NAME", one_of(o.grow, {"hidden", "all-widths", "depth", "all"}),
      "which widths: those of hidden layers, or those that skip connections tie together as well; depth: residual "
      "blocks that are not there yet; or all of it");
  app_->add_flag("--auto", o.automatic,
                 described("choose width and depth by growth: from the smallest network as far as the operations "
                           "given allow, in the first half of the epochs (20)"))
      ->disable_flag_override()
      ->group(group_);
  add("--max-operations", "X", number(o.max_operations, 0.0, 1e24),
      "floating-point operations of training and growing that an automatic run may spend, such as 1e15");
  add("--grow-where", "NAME",
      one_of(o.where, {"all", "together", "best", "best-per-parameter", "best-per-operation", "round-robin"}),
      "measure and grow all layers, one after the other; measure them together, which takes fewer passes, then grow "
      "them; grow the one layer that promises most, also by what it costs; or one in turn");
  add("--grow-layers", "NAME,...", layer_names(o.layers), "grow only these layers", "all that can grow");
  add("--fan-out", "NAME", one_of(o.fan_out, {"full", "centre"}),
      "what a unit feeds of the next convolution: all taps of its kernel or the one in the centre");
  add("--grow-after", "N,N-N,...", epochs(o.grow_after), "epochs after which to grow",
      "half of them; with an mlp five, evenly in the first two thirds");
  add("--units", "N", units(o.units), "units added to a layer in one growth step, fewer with a significance",
      "20 with an mlp, 1/4 in an automatic run, else 1/2");
  add("--significance", "X", number(o.significance, 0.0, 1000.0),
      "units weaker than this many times the noise are not added", "0");
  add("--damping", "X", number(o.damping, 0.0, 1e6),
      "added to each input's mean square before solving for units, in units of it", "chosen by cross-validation");
  add("--statistics-samples", "N", number<std::int64_t>(o.statistics_samples, 1, billion),
      "images measured in a growth step", "5000 with an mlp, else 2000");
  add("--search-samples", "N", number<std::int64_t>(o.search_samples, 1, billion),
      "images, apart from those, on which the line search compares losses", "1000 with an mlp, else 500");
  add("--max-parameters", "N", number<std::int64_t>(o.max_parameters, 0, 1000 * billion),
      "never grow beyond N parameters; 0 sets no limit");

  group_ = "Program";
  add("--checkpoint", "FILE", file(o.checkpoint),
      "save all it takes to go on into FILE after every epoch and growth step, and when Ctrl-C stops the program");
  add("--resume", "FILE", file(o.resume),
      "go on from a checkpoint as if the run had not stopped, with its options, and save there");
  add("--report", "DIR", folder(o.report), "keep a page of figures up to date: DIR/report.html");
  app_->add_flag("--json", o.json, described("print a line of JSON for everything that happens, in place of text"))
      ->disable_flag_override()
      ->group(group_);
  add("--seed", "N", number<std::uint64_t>(o.seed, 0, ~std::uint64_t{0}), "everything random follows from it");
  app_->add_flag("--device", o.device, described("tell what the program runs on, and stop"))
      ->disable_flag_override()
      ->group(group_);
  app_->set_help_flag("-h,--help", "show this text, and stop")->group(group_);
  app_->footer(
      "cifar10 classify MODEL IMAGE... tells what a saved network sees in pictures.\n"
      "cifar10 export MODEL --safetensors FILE --onnx FILE writes it for PyTorch and others.\n\n"
      "The growth table has a line for each layer that may grow:\n"
      "  bottleneck   mean square of the change that the loss asks of what the layer\n"
      "               feeds, as far as today's weights cannot express it\n"
      "  unexpressed  its share of the whole change asked for\n"
      "  units        width before + units added\n"
      "  gamma        amplitude of the growth, found by line search\n"
      "  predicted    decrease of the loss to first order in gamma\n"
      "  measured     decrease of the loss on the images of the line search\n"
      "  params       parameters of the network afterwards\n"
      "  accuracy     on the test images afterwards (mlp)\n"
      "  sec          seconds to measure, solve and insert");
}

std::map<std::string, std::string> CommandLine::given() const {
  std::map<std::string, std::string> result = given_;
  for (const char* place : {"--data", "--report", "--checkpoint", "--resume"}) result.erase(place);
  if (options_->augment) result["--augment"] = "";
  if (options_->automatic) result["--auto"] = "";
  return result;
}

std::optional<int> CommandLine::go_on(const std::map<std::string, std::string>& saved, const std::string& file) {
  // The name may be that of an option that is set anew.
  const std::string checkpoint = file;
  const std::map<std::string, std::string> now = given();
  Options& o = *options_;
  const Options command = o;
  const auto apply = [&](const std::string& name, const std::string& text) {
    if (name == "--augment") return o.augment = true;
    if (name == "--auto") return o.automatic = true;
    const auto store = stores_.find(name);
    return store != stores_.end() && store->second(text);
  };
  o = Options{};
  for (const auto& [name, text] : saved) {
    if (!apply(name, text)) {
      throw meristem::DataError(meristem::concat(checkpoint, ": was saved with ", name, " ", text,
                                                 ", which this program does not know; use the one that saved it"));
    }
  }
  o.settle(saved);
  const auto before = settings(o);
  for (const auto& [name, text] : now) {
    apply(name, text);
    if (settings(o).at(name) == before.at(name)) continue;
    const std::string was = before.at(name);
    return refuse(meristem::concat(name, text.empty() ? "" : " ", text, " contradicts ", checkpoint, ", saved ",
                                   was.empty() ? "without it" : meristem::concat("with ", was), "; leave ", name,
                                   " out, or start anew without --resume"));
  }
  o.data = command.data;
  o.report = command.report;
  o.resume = command.resume;
  o.checkpoint = command.checkpoint.empty() ? command.resume : command.checkpoint;
  o.json = command.json;
  o.device = command.device;
  return std::nullopt;
}

std::optional<int> CommandLine::parse(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
    const std::vector<std::string> extras = app_->remaining();
    if (extras.empty()) {
      if (const auto exit_code = clashes()) return exit_code;
      options_->settle(given_);
      return std::nullopt;
    }
    const std::string& first = extras.front();
    if (first.starts_with('-')) return refuse("there is no option " + first + instead_of(first));
    if (first == "classify") return refuse("classify comes first: cifar10 classify MODEL IMAGE...");
    if (first == "export") return refuse("export comes first: cifar10 export MODEL --safetensors FILE");
    for (const char* word : {"train", "fit", "run", "start"}) {
      if (first == word) return refuse("training needs no word; leave '" + first + "' out");
    }
    for (const char* word : {"test", "eval", "evaluate", "predict"}) {
      if (first == word) {
        return refuse("there is no command '" + first + "'; cifar10 classify MODEL IMAGE... asks a trained network");
      }
    }
    return refuse("'" + first + "' belongs to no option; leave it out, or give the name of its option before it");
  } catch (const CLI::Success& help) {
    return app_->exit(help);
  } catch (const CLI::ArgumentMismatch& mismatch) {
    // Its text starts with the option's name, a flag's without the dashes.
    const std::string text = mismatch.what(), name = text.substr(0, text.find_first_of(": "));
    const auto accepts = accepts_.find(name);
    if (accepts == accepts_.end()) return refuse("--" + name + " takes no value; leave out what follows the =");
    std::string given = "no value was given";
    for (int i = 1; i + 1 < argc; ++i) {
      if (argv[i] == name) given = meristem::concat("got '", argv[i + 1], "'");
    }
    return refuse(meristem::concat(name, ": ", given, "; give ", accepts->second));
  } catch (const CLI::ParseError& error) {
    return refuse(error.what());
  }
}

std::optional<int> CommandLine::clashes() {
  const auto given = [&](const char* name) { return app_->get_option(name)->count() > 0; };
  const Options& o = *options_;
  // With --resume the checkpoint says what the other options are.
  if (given("--resume")) return std::nullopt;
  if (given("--activation") && !o.is_mlp()) {
    return refuse("--activation belongs to --model mlp; " + o.model + " has relu: leave it out");
  }
  if (given("--hidden") && o.model == "vgg") {
    return refuse("--hidden does not belong to --model vgg; give its widths by --width and --channels");
  }
  if (given("--hidden") && !o.is_mlp() && o.hidden->size() != 8) {
    return refuse("--hidden: " + o.model + " has eight blocks; give a width for each, or --width for all");
  }
  if (given("--hidden") && given("--width") && !o.is_mlp()) {
    return refuse("--hidden and --width both give the widths inside the blocks; give one of them");
  }
  for (const char* name : {"--width", "--channels"}) {
    if (given(name) && o.is_mlp()) {
      return refuse(std::string(name) + " does not belong to --model mlp; give its widths by --hidden");
    }
  }
  if (o.is_mlp() && given("--fan-out")) {
    return refuse("--fan-out does not belong to --model mlp, which has no convolutions: leave it out");
  }
  if (o.hold && o.schedule != "hold-cosine") {
    return refuse("--hold does not belong to --schedule " + o.schedule + ": leave one of them out");
  }
  if (o.hold && *o.hold >= o.epochs) {
    return refuse(meristem::concat("--hold ", *o.hold, " leaves no epoch of ", o.epochs,
                                   " in which the learning rate falls; give less, or --schedule constant"));
  }
  if (o.automatic) {
    if (o.model != "resnet18") return refuse("--auto grows a resnet18; leave --model out");
    for (const char* name : {"--width", "--channels", "--hidden", "--grow", "--grow-where", "--grow-layers"}) {
      if (given(name)) return refuse(std::string("--auto chooses what ") + name + " gives; leave one of them out");
    }
    if (o.method == "none") return refuse("--auto grows, and --method none does not; give a method");
    // It buys by what units gain, of streams too.
    if (o.method != "tiny" && o.method != "tiny-eigen" && o.method != "firefly") {
      return refuse("--auto weighs what units gain, which --method " + o.method +
                    " does not measure for all layers; take tiny, tiny-eigen or firefly");
    }
    if (o.max_operations == 0.0) return refuse("--auto needs --max-operations, such as 1e15, to know how far to grow");
  } else if (given("--max-operations")) {
    return refuse("--max-operations belongs to --auto; give that too, or --max-parameters");
  }
  if (o.method == "none" && o.deepens()) return refuse("--grow " + o.grow + " needs a method; leave --method none out");
  if (o.deepens() && !o.layers.empty()) {
    return refuse("--grow-layers names layers that are there, and --grow " + o.grow + " adds others; give one of them");
  }
  if (o.optimizer != "sgd" && given("--momentum")) {
    return refuse("--momentum belongs to --optimizer sgd, not " + o.optimizer + "; leave it out");
  }
  return std::nullopt;
}

std::map<std::string, std::string> CommandLine::settings(const Options& o) {
  using meristem::concat;
  const auto list = [](const auto& values) {
    std::string text;
    for (const auto& value : values) text += concat(text.empty() ? "" : ",", value);
    return text;
  };
  const auto exact = [](double value) {
    char digits[40];
    return std::string(digits, std::to_chars(digits, digits + sizeof digits, value, std::chars_format::general).ptr);
  };
  return {{"--image-size", concat(o.image_size.value_or(32))},
          {"--images", concat(o.images)},
          {"--model", o.model},
          {"--width", exact(o.width)},
          {"--channels", concat(o.channels)},
          {"--hidden", o.hidden     ? list(*o.hidden)
                       : o.is_mlp() ? "8,8"
                                    : "its default"},
          {"--activation", o.activation.value_or("relu")},
          {"--epochs", concat(o.epochs)},
          {"--batch", concat(o.batch)},
          {"--optimizer", o.optimizer},
          {"--learning-rate", exact(o.peak_learning_rate())},
          {"--momentum", exact(o.momentum)},
          {"--weight-decay", exact(o.weight_decay)},
          {"--schedule", o.schedule},
          {"--hold", o.hold ? concat(*o.hold) : "its default"},
          {"--warm-up", exact(o.warm_up)},
          {"--label-smoothing", exact(o.label_smoothing)},
          {"--augment", o.augment ? "it" : ""},
          {"--method", o.method},
          {"--grow", o.grow},
          {"--auto", o.automatic ? "it" : ""},
          {"--max-operations", exact(o.max_operations)},
          {"--grow-where", o.where},
          {"--grow-layers", o.layers.empty() ? "its default" : list(o.layers)},
          {"--fan-out", o.fan_out},
          {"--grow-after", as_ranges(o.growth_epochs())},
          {"--units", o.units_each_step().text()},
          {"--significance", exact(o.least_significance())},
          {"--damping", o.damping ? exact(*o.damping) : "its default"},
          {"--statistics-samples", concat(o.statistics_samples.value_or(o.is_mlp() ? 5'000 : 2'000))},
          {"--search-samples", concat(o.search_samples.value_or(o.is_mlp() ? 1'000 : 500))},
          {"--max-parameters", concat(o.max_parameters)},
          {"--seed", concat(o.seed)}};
}

void CommandLine::add(const std::string& name, const std::string& placeholder, const Accepts& accepts,
                      const std::string& description, const std::string& standard) {
  const std::string wanted = accepts_[name] = accepts.kind + accepts.range;
  const std::string otherwise = standard.empty() ? accepts.standard : standard;
  std::string help = description;
  if (!otherwise.empty()) help += " (" + accepts.range + "; default " + otherwise + ")";
  stores_[name] = accepts.store;
  const CLI::callback_t store = [=, this](const CLI::results_t& given) {
    given_[name] = given.back();
    if (accepts.store(given.back())) return true;
    throw CLI::ValidationError(name, meristem::concat("got '", given.back(), "'; give ", wanted));
  };
  app_->add_option(name, store, described(help))
      ->type_name(placeholder)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
      ->group(group_);
}

std::string CommandLine::instead_of(const std::string& given) const {
  std::string text = given.substr(0, given.find('='));
  text.erase(0, text.find_first_not_of('-'));
  for (char& c : text) c = c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (const std::string hint = hint_for_other_programs(text); !hint.empty()) return hint;
  std::vector<std::string> begun;
  std::string closest;
  // One slip, in longer names two or three; what is further away is another word.
  std::size_t least = std::max<std::size_t>(1, text.size() / 4) + 1;
  for (const CLI::Option* option : app_->get_options()) {
    for (const std::string& name : option->get_lnames()) {
      if (text == "no-" + name) return "; --" + name + " is off unless it is given: leave it out";
      if (text.size() > 2 && name.starts_with(text)) begun.push_back(name);
      const std::size_t distance = edits(text, name);
      if (distance < least) {
        least = distance;
        closest = name;
      }
    }
  }
  if (closest.empty() && begun.size() == 1) closest = begun[0];
  return closest.empty() ? "" : "; did you mean --" + closest + "?";
}

std::string CommandLine::hint_for_other_programs(const std::string& name) {
  struct Known {
    std::string names;  ///< with a blank around each
    std::string hint;
  };
  static const std::vector<Known> all = {
      {" batch-size batchsize bs b train-batch-size mini-batch-size ", "--batch"},
      {" lr learningrate base-lr init-lr initial-lr max-lr ", "--learning-rate"},
      {" wd weightdecay l2 ", "--weight-decay"},
      {" arch a architecture net network backbone model-name ", "--model"},
      {" opt optim ", "--optimizer"},
      {" scheduler lr-scheduler lr-schedule sched ", "--schedule"},
      {" num-epochs n-epochs max-epochs nb-epochs total-epochs ", "--epochs"},
      {" dataset data-dir data-path data-root datadir root train-dir ", "--data"},
      {" img-size imgsz input-size resolution crop-size ", "--image-size"},
      {" num-samples max-samples train-size subset limit ", "--images"},
      {" smoothing ", "--label-smoothing"},
      {" aug augmentation data-augmentation ", "--augment"},
      {" hidden-size hidden-sizes hidden-dim hidden-units ", "--hidden"},
      {" save save-path save-dir save-model ckpt output out o ", "--checkpoint"},
      {" load restore resume-from load-checkpoint pretrained finetune ", "--resume"},
      {" log-dir logdir tensorboard wandb plot ", "--report"},
      {" random-seed manual-seed ", "--seed"},
      {" max-params params ", "--max-parameters"},
      {" grow-method growth-method ", "--method"},
      {" workers num-workers j threads num-threads ",
       "pictures are read before training starts, and OMP_NUM_THREADS=N in the environment sets the threads: leave "
       "it "
       "out"},
      {" dropout drop drop-rate dropout-rate ",
       "the networks here have no dropout: leave it out, or give --weight-decay or --label-smoothing"},
      {" gpu gpus gpu-id cuda no-cuda devices ",
       "the program cifar10_cuda runs on the GPU, cifar10 on the CPU: start that, and leave the option out"},
      {" amp fp16 bf16 half precision dtype ", "training is in float32 always: leave it out"},
      {" num-classes n-classes nb-classes classes ", "the data says how many classes there are: leave it out"},
      {" evaluate eval test predict inference ",
       "every epoch is tested, and cifar10 classify MODEL IMAGE... asks a trained network: leave it out"},
      {" print-freq log-interval log-every verbose v ",
       "every epoch is printed, and with --json every step: leave it out"},
  };
  for (const Known& known : all) {
    if (known.names.find(" " + name + " ") == std::string::npos) continue;
    return known.hint.starts_with("--") ? "; did you mean " + known.hint + "?" : "; " + known.hint;
  }
  return "";
}

int CommandLine::refuse(const std::string& sentence) {
  std::cerr << "cifar10: " << sentence << "\nRun cifar10 --help for the options.\n";
  return 2;
}

}  // namespace cifar10
