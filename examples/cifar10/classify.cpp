#include "classify.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <iomanip>
#include <iostream>
#include <map>
#include <numeric>

namespace cifar10 {

/// What the model is, for people.
void print_model_card(Model& model) {
  const ModelInput& input = model.input;
  const ms::Shape image = model.image();
  const NetworkState state = network_state(model.net, image, ms::grow::find_sites(model.net));
  const std::string classes = ms::listed(input.classes);
  const auto line = [](const std::string& name, const std::string& text) {
    std::cout << std::left << std::setw(10) << name << std::right << ms::wrapped(text, 90, 10).substr(10) << '\n';
  };
  std::map<std::string, std::string> notes = model.notes;
  notes.try_emplace("model", "a model file");
  notes["model"] += ", " + shown_size(state) + ", float32";
  for (const char* name : {"model", "training", "options", "history"}) {
    if (const auto note = notes.extract(name)) line(name, note.mapped());
  }
  for (const auto& [name, text] : notes) line("note", name + ": " + text);
  line("reads", ms::concat(input.height, " x ", input.width, " x ", input.channels,
                           "; other pictures are cropped to that shape and resized; ",
                           ms::grouped(model.net.multiply_adds(image)), " multiply-adds an image"));
  line("tells", ms::concat(input.classes.size(), input.classes.size() == 1 ? " class: " : " classes: ", classes));
  std::cout << "layers\n";
  for (const LayerState& layer : state.layers) {
    std::cout << "  " << std::left << std::setw(28) << layer.name << std::setw(8) << layer.kind << std::right
              << std::setw(7) << layer.outputs << (layer.kind == "Conv2d" ? " channels" : " units")
              << (layer.grows ? ", can grow" : "") << '\n';
  }
}

/// The network's probabilities for one picture.
std::vector<float> classify_image(ms::Context& ctx, ms::nn::Sequential<float>& net, const ModelInput& input,
                                  const ms::data::Image& picture) {
  const ms::data::Image sized = ms::data::resize_image(picture, input.height, input.width);
  ms::data::ImageSet one;
  one.pixels = sized.pixels;
  one.labels = {0};
  one.height = input.height;
  one.width = input.width;
  one.channels = 3;
  one.class_names = input.classes;
  one.normalization = input.normalization;
  one.source = "the picture";
  const auto loader = one.batches<float>(ctx, 1);
  const auto batch = loader.batch(0);
  const ms::nn::Trace<float> trace = ms::nn::infer<float>(ctx, net, batch.inputs);
  const std::vector<float> logits = to_host(ctx, trace.output);
  return probabilities(logits);
}

int classify(std::vector<std::string> arguments) {
  CLI::App app{"Tells what a network that --checkpoint saved sees in JPEG and PNG files of any size.",
               "cifar10 classify"};
  std::string model;
  std::vector<std::string> images;
  bool card = false, json = false;
  app.add_option("MODEL", model, "file that --checkpoint wrote, or a model file (export --safetensors)")
      ->type_name("FILE");
  app.add_option("IMAGE", images, "JPEG or PNG files")->type_name("FILE...");
  app.add_flag("--model-card", card, "tell what the model is")->disable_flag_override();
  app.add_flag("--json", json, "a line of JSON for each picture")->disable_flag_override();
  app.set_help_flag("-h,--help", "show this text, and stop");
  const auto refuse = [](const std::string& sentence) {
    std::cerr << "cifar10 classify: " << sentence << "\nRun cifar10 classify --help for the options.\n";
    return 2;
  };
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ExtrasError&) {
    std::string unknown = "an argument";
    for (const std::string& argument : arguments) {
      if (argument.starts_with("-")) unknown = argument;
    }
    return refuse("there is no option " + unknown + "; it has --model-card, --json and --help");
  } catch (const CLI::ArgumentMismatch& mismatch) {
    // Its text starts with the flag's name without the dashes.
    const std::string text = mismatch.what();
    return refuse("--" + text.substr(0, text.find(' ')) + " takes no value; leave out what follows the =");
  } catch (const CLI::ParseError& error) {
    return refuse(ms::concat(error.what(), "; give MODEL and the pictures after it"));
  }
  if (model.empty()) return refuse("MODEL is missing: give a file that --checkpoint wrote, and pictures after it");
  if (images.empty() && !card) return refuse("IMAGE is missing: give JPEG or PNG files after MODEL, or --model-card");

  ms::Context ctx;
  Model loaded = load_any_model(model, ctx);
  ms::nn::Sequential<float>& net = loaded.net;
  const ModelInput& input = loaded.input;
  if (input.channels != 3) {
    throw ms::DataError(ms::concat(model, ": reads images of ", input.channels,
                                   " channels; pictures have 3: give a model that was trained on colour images"));
  }
  if (card) print_model_card(loaded);
  bool failed = false;
  for (const std::string& path : images) {
    try {
      const std::vector<float> shares = classify_image(ctx, net, input, ms::data::read_image(path));
      std::vector<std::size_t> order(shares.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return shares[a] > shares[b]; });
      order.resize(std::min<std::size_t>(order.size(), 5));
      if (json) {
        Json line = {{"image", path}, {"answers", Json::array()}};
        for (const std::size_t c : order)
          line["answers"].push_back({{"class", input.classes[c]}, {"probability", shares[c]}});
        std::cout << line.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
      } else {
        std::cout << path << '\n';
        for (const std::size_t c : order) {
          std::cout << std::setw(8) << fixed(100.0 * static_cast<double>(shares[c]), 2) << " %  " << input.classes[c]
                    << '\n';
        }
      }
    } catch (const ms::NumericError&) {
      throw;
    } catch (const ms::Error& error) {
      std::cerr << "cifar10 classify: " << error.message() << '\n';
      failed = true;
    }
  }
  check_output();
  return failed ? 1 : 0;
}

}  // namespace cifar10
