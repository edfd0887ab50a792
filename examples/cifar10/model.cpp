#include "model.hpp"

#include <utility>

namespace cifar10 {

Model model_of(const Saved& saved, ms::Context& ctx) {
  Model model{.net = saved.checkpoint.network(ctx), .input = saved.input, .growth = {}, .notes = {}};
  const auto option = [&](const char* name, const std::string& otherwise) {
    const auto found = saved.options.find(name);
    return found == saved.options.end() ? otherwise : found->second;
  };
  const std::string epochs = option("--epochs", "10");
  model.notes["model"] = option("--model", "resnet18");
  model.notes["training"] =
      ms::concat(epochs, epochs == "1" ? " epoch" : " epochs", ", growth by ", option("--method", "tiny"), ", seed ",
                 saved.checkpoint.seed(), "; so far ", ms::grouped(saved.checkpoint.steps()), " steps of ",
                 saved.checkpoint.optimizer_kind());
  std::string options;
  for (const auto& [name, value] : saved.options) {
    options += (options.empty() ? "" : " ") + name + (value.empty() ? "" : " " + value);
  }
  if (!options.empty()) model.notes["options"] = options;
  RunHistory history;
  history.restore(saved.history, saved.checkpoint.source());
  if (const std::string summary = history.summary(); !summary.empty()) model.notes["history"] = summary;
  model.growth = history.growth(saved.checkpoint.source());
  return model;
}

Model model_of(ms::io::Model<float> read, const std::string& path) {
  ms::io::ModelInfo& info = read.info;
  if (info.sample.rank() != 3 || info.class_names.empty() || info.normalization.mean.empty()) {
    throw ms::DataError(ms::concat(path,
                                   ": does not say what images it reads, how they are normalised or what its classes "
                                   "are called; save it with sample, class_names and normalization"));
  }
  Model model{.net = std::move(read.network),
              .input = {.height = info.sample[0],
                        .width = info.sample[1],
                        .channels = info.sample[2],
                        .classes = std::move(info.class_names),
                        .normalization = std::move(info.normalization)},
              .growth = std::move(info.history),
              .notes = std::move(info.notes)};
  model.input.check(path);
  return model;
}

Model load_any_model(const std::string& path, ms::Context& ctx) {
  return explained(model_wants, [&] {
    ms::io::Safetensors file = ms::io::Safetensors::read(path);
    const auto format = file.metadata().find("meristem.format");
    if (format == file.metadata().end()) {
      throw ms::DataError(ms::concat(path, ": holds tensors, but no network of this library"));
    }
    Model model = format->second == "meristem-model" ? model_of(ms::io::load_model<float>(ctx, file), path)
                                                     : model_of(Saved(ms::io::Checkpoint<float>(std::move(file))), ctx);
    const ms::Shape output = [&] {
      try {
        return model.net.output_shape(model.image());
      } catch (const ms::Error& error) {
        throw ms::DataError(ms::concat(path, ": its network does not take its images: ", error.message()));
      }
    }();
    if (output.rank() != 2 || output[1] != std::ssize(model.input.classes)) {
      throw ms::DataError(ms::concat(path, ": its network puts out ", output, " for ", model.input.classes.size(),
                                     " classes; take another file"));
    }
    return model;
  });
}

}  // namespace cifar10
