// Where a training run stands, in one file: network, optimiser, random numbers and whatever the program adds.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/io/architecture.hpp>
#include <meristem/io/finite.hpp>
#include <meristem/io/format.hpp>
#include <meristem/io/json_text.hpp>
#include <meristem/io/safetensors.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/optimizer.hpp>
#include <meristem/optim/sgd.hpp>

namespace meristem::inline MERISTEM_BACKEND::io {

/// The version of checkpoints that is written, and the only one that is read.
inline constexpr std::int64_t checkpoint_version = 1;

namespace detail {

inline constexpr std::string_view checkpoint_format = "meristem-checkpoint";

[[nodiscard]] inline std::string hexadecimal(std::uint64_t number) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + 16, number, 16).ptr;
  return std::string(digits, end);
}

/// Options of the optimisers that can be made again; null for others.
template <Real T>
[[nodiscard]] Json optimizer_options(optim::Optimizer<T>& optimizer) {
  if (auto* sgd = dynamic_cast<optim::Sgd<T>*>(&optimizer)) {
    const optim::SgdOptions& o = sgd->options();
    return {{"learning_rate", o.learning_rate},
            {"momentum", o.momentum},
            {"dampening", o.dampening},
            {"weight_decay", o.weight_decay},
            {"nesterov", o.nesterov}};
  }
  if (auto* adamw = dynamic_cast<optim::AdamW<T>*>(&optimizer)) {
    const optim::AdamWOptions& o = adamw->options();
    return {{"learning_rate", o.learning_rate},
            {"beta1", o.beta1},
            {"beta2", o.beta2},
            {"epsilon", o.epsilon},
            {"weight_decay", o.weight_decay}};
  }
  return nullptr;
}

}  // namespace detail

/// Writes where training stands to `path`, so that the old file is there until the new one is complete: the network's
/// architecture, parameters and buffers with their ids, the optimiser's steps, learning rate, options and moments, the
/// Context's seed, random streams and ids, and `state`, whatever else the program needs to go on. Numbers in `state`
/// come back to the last bit, except NaN and infinities. Waits for the device. Throws IoError if the file cannot be
/// written, NumericError for a parameter or buffer that is not finite, and ArgumentError for a network that
/// `architecture` cannot write down or that is not the optimiser's; the old file then stays.
template <Real T>
void save_checkpoint(const std::string& path, Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer,
                     const Json& state = Json::object(), const LayerKinds<T>& kinds = {}) {
  if (&optimizer.network() != &network) {
    throw ArgumentError(concat(path, ": the optimiser is of another network; give the one that it trains"));
  }
  detail::require_finite<T>(ctx, network, path);
  Safetensors file;
  Json parameters = Json::array(), buffers = Json::array();
  network.visit_parameters([&](nn::Parameter<T>& parameter) {
    file.add<T>(ctx, "network." + parameter.name, parameter.value.view());
    const std::vector<Tensor<T>>& moments = optimizer.state(parameter.id);
    for (std::size_t i = 0; i < moments.size(); ++i) {
      file.add<T>(ctx, concat("optimizer.", i, ".", parameter.name), moments[i].view());
    }
    parameters.push_back(
        {{"name", parameter.name}, {"id", parameter.id}, {"decays", parameter.decays}, {"moments", moments.size()}});
  });
  network.visit_buffers([&](nn::Buffer<T>& buffer) {
    file.add<T>(ctx, "network." + buffer.name, buffer.value.view());
    buffers.push_back({{"name", buffer.name}, {"id", buffer.id}});
  });
  const Json run = {{"seed", ctx.seed()},
                    {"random_streams", ctx.random_streams()},
                    {"ids", ctx.ids()},
                    {"parameters", std::move(parameters)},
                    {"buffers", std::move(buffers)},
                    {"optimizer",
                     {{"kind", optimizer.kind()},
                      {"steps", optimizer.steps()},
                      {"learning_rate", optimizer.learning_rate()},
                      {"options", detail::optimizer_options(optimizer)}}}};
  auto& metadata = file.metadata();
  metadata["meristem.format"] = detail::checkpoint_format;
  metadata["meristem.format_version"] = std::to_string(checkpoint_version);
  metadata["meristem.version"] = detail::library_version();
  metadata["dtype"] = dtype_name<T>;
  metadata["architecture"] = architecture(network, kinds);
  metadata["run"] = json_text(run, path + ": the state of the run");
  metadata["state"] = json_text(state, path + ": the program's state");
  metadata["checksum"] = detail::hexadecimal(file.checksum("checksum"));
  file.write(path);
}

/// A checkpoint in memory, checked but for what only the network it describes can tell.
template <Real T>
class Checkpoint {
 public:
  /// Throws IoError if the file cannot be read; DataError if it is no checkpoint, of another version, truncated,
  /// altered, of another element type, or with a parameter or buffer that is not finite.
  explicit Checkpoint(const std::string& path) : Checkpoint(Safetensors::read(path)) {}

  /// As above, of a file that was read already.
  explicit Checkpoint(Safetensors file) : file_(std::move(file)) {
    detail::require_format(file_, detail::checkpoint_format, checkpoint_version);
    if (file_.metadata("checksum") != detail::hexadecimal(file_.checksum("checksum"))) {
      throw DataError(concat(source(), ": its content does not match its checksum; it is damaged: take another one"));
    }
    detail::require_dtype<T>(file_);
    state_ = parse_json(file_.metadata("state"), source() + ": state");
    const std::string where = source() + ": run";
    const Json run = parse_json(file_.metadata("run"), where);
    const detail::Members members(where, run);
    seed_ = members.whole("seed");
    random_streams_ = members.whole("random_streams");
    ids_ = members.whole("ids");
    constexpr std::uint64_t most = std::uint64_t{1} << 62;
    if (random_streams_ > most || ids_ > most) {
      throw DataError(concat(where, ": ", random_streams_, " random streams or ", ids_, " ids cannot be"));
    }
    std::set<std::string> expected;
    std::set<nn::ParameterId> ids;
    const auto read_entry = [&](const Json& value, bool learned) {
      const detail::Members entry(where + ": parameters", value);
      Entry read{.name = entry.text("name"), .id = entry.whole("id")};
      if (read.id > ids_ || !ids.insert(read.id).second) {
        throw DataError(concat(where, ": the id ", read.id, " of '", read.name, "' cannot be"));
      }
      const auto expect = [&](const std::string& name) {
        (void)file_.template at<T>(name);
        if (!expected.insert(name).second) throw DataError(concat(where, ": '", name, "' is listed twice"));
      };
      expect("network." + read.name);
      detail::require_finite<T>(file_, "network." + read.name);
      if (learned) {
        read.decays = entry.flag("decays");
        read.moments = entry.whole("moments");
        for (std::size_t i = 0; i < read.moments; ++i) {
          const std::string name = concat("optimizer.", i, ".", read.name);
          expect(name);
          if (file_.at(name).shape != file_.at("network." + read.name).shape) {
            throw DataError(concat(source(), ": tensor '", name, "' has shape ", file_.at(name).shape_text(),
                                   ", its parameter ", file_.at("network." + read.name).shape_text()));
          }
        }
      }
      return read;
    };
    for (const Json& value : members.list("parameters")) parameters_.push_back(read_entry(value, true));
    for (const Json& value : members.list("buffers")) buffers_.push_back(read_entry(value, false));
    for (const auto& [name, tensor] : file_.tensors()) {
      if (expected.count(name) == 0) throw DataError(concat(source(), ": the tensor '", name, "' belongs to nothing"));
    }
    const detail::Members optimizer(where + ": optimizer", members.member("optimizer"));
    optimizer_kind_ = optimizer.text("kind");
    const std::uint64_t steps = optimizer.whole("steps");
    learning_rate_ = optimizer.real("learning_rate");
    if (steps > most || !(learning_rate_ >= 0.0) || !std::isfinite(learning_rate_)) {
      throw DataError(
          concat(where, ": the optimiser's steps (", steps, ") or learning rate (", learning_rate_, ") cannot be"));
    }
    steps_ = static_cast<std::int64_t>(steps);
    optimizer_options_ = optimizer.member("options");
  }

  /// What messages call the file.
  [[nodiscard]] const std::string& source() const noexcept { return file_.source(); }
  /// What the program gave to `save_checkpoint`.
  [[nodiscard]] const Json& state() const noexcept { return state_; }
  /// Of the Context that was saved; `restore` wants one of the same seed.
  [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }
  /// Steps that the optimiser had taken.
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  [[nodiscard]] const std::string& optimizer_kind() const noexcept { return optimizer_kind_; }
  [[nodiscard]] const std::string& architecture_text() const { return file_.metadata("architecture"); }

  /// The network as it was saved, with its weights, buffers and ids. Throws DataError if the tensors in the file are
  /// not those of the architecture.
  [[nodiscard]] nn::Sequential<T> network(Context& ctx, const LayerKinds<T>& kinds = {}) const {
    nn::Sequential<T> network = build<T>(ctx, architecture_text(), detail::build_options<T>(file_), kinds);
    stage(ctx, network).commit();
    ctx.set_ids(std::max(ctx.ids(), ids_));
    return network;
  }

  /// An optimiser of the kind and with the options that were saved, without its moments: `restore` brings them. Throws
  /// ArgumentError for kinds that are not the library's: make those yourself.
  [[nodiscard]] std::unique_ptr<optim::Optimizer<T>> optimizer(nn::Layer<T>& network) const {
    const detail::Members o(source() + ": optimizer options", optimizer_options_);
    try {
      if (optimizer_kind_ == "Sgd") {
        return std::make_unique<optim::Sgd<T>>(network, optim::SgdOptions{.learning_rate = o.real("learning_rate"),
                                                                          .momentum = o.real("momentum"),
                                                                          .dampening = o.real("dampening"),
                                                                          .weight_decay = o.real("weight_decay"),
                                                                          .nesterov = o.flag("nesterov")});
      }
      if (optimizer_kind_ == "AdamW") {
        return std::make_unique<optim::AdamW<T>>(network, optim::AdamWOptions{.learning_rate = o.real("learning_rate"),
                                                                              .beta1 = o.real("beta1"),
                                                                              .beta2 = o.real("beta2"),
                                                                              .epsilon = o.real("epsilon"),
                                                                              .weight_decay = o.real("weight_decay")});
      }
    } catch (const ArgumentError& error) {
      throw DataError(concat(source(), ": optimizer options: ", error.message()));
    }
    throw ArgumentError(concat(source(), ": its optimiser is of kind '", optimizer_kind_,
                               "', which only the program knows how to make; make one and call restore"));
  }

  /// Puts everything back: parameters, buffers, ids, moments, steps, learning rate, random streams. `network` has the
  /// saved architecture, as one from `network(ctx)` has, and is the optimiser's. Gradients become 0. Training then goes
  /// on as it would have, bit by bit, on the same kind of device. Throws DataError if the network is another one or the
  /// optimiser of another kind, ArgumentError if the Context has another seed; nothing has changed then.
  void restore(Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer,
               const LayerKinds<T>& kinds = {}) const {
    if (&optimizer.network() != &network) {
      throw ArgumentError(concat(source(), ": the optimiser is of another network; give the one that it trains"));
    }
    if (ctx.seed() != seed_) {
      throw ArgumentError(concat(source(), ": was saved with seed ", seed_, ", the Context has seed ", ctx.seed(),
                                 "; give the Context the saved seed, or training would go on differently"));
    }
    if (optimizer_kind_ != optimizer.kind()) {
      throw DataError(concat(source(), ": has the state of a ", optimizer_kind_, " optimiser; got ", optimizer.kind()));
    }
    if (architecture(network, kinds) != architecture_text()) {
      throw DataError(concat(source(),
                             ": the network differs from the one that was saved; take the one that "
                             "network(ctx) of the checkpoint gives"));
    }
    Staged staged = stage(ctx, network);
    for (const Entry& entry : parameters_) {
      std::vector<Tensor<T>> moments;
      for (std::size_t i = 0; i < entry.moments; ++i) {
        moments.push_back(file_.template tensor<T>(ctx, concat("optimizer.", i, ".", entry.name)));
      }
      staged.moments.push_back(std::move(moments));
      // So that nothing is allocated later.
      (void)optimizer.state(entry.id);
    }
    staged.commit();
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      optimizer.state(parameters_[i].id) = std::move(staged.moments[i]);
    }
    optimizer.set_steps(steps_);
    optimizer.set_learning_rate(learning_rate_);
    ctx.set_random_streams(random_streams_);
    ctx.set_ids(std::max(ctx.ids(), ids_));
  }

 private:
  struct Entry {
    std::string name;
    nn::ParameterId id = 0;
    bool decays = true;
    std::size_t moments = 0;
  };

  /// What is to be put into a network, all of it allocated.
  struct Staged {
    struct Value {
      nn::Parameter<T>* parameter;
      nn::Buffer<T>* buffer;
      const Entry* entry;
      Tensor<T> value, gradient;
    };
    std::vector<Value> values;
    std::vector<std::vector<Tensor<T>>> moments;

    void commit() noexcept {
      for (Value& v : values) {
        if (v.parameter != nullptr) {
          v.parameter->id = v.entry->id;
          v.parameter->decays = v.entry->decays;
          v.parameter->value = std::move(v.value);
          v.parameter->gradient = std::move(v.gradient);
        } else {
          v.buffer->id = v.entry->id;
          v.buffer->value = std::move(v.value);
        }
      }
    }
  };

  [[nodiscard]] Staged stage(Context& ctx, nn::Layer<T>& network) const {
    Staged staged;
    std::size_t parameters = 0, buffers = 0;
    const auto next = [&](const std::string& name, const Shape& shape, const std::vector<Entry>& entries,
                          std::size_t& count) -> const Entry& {
      if (count == entries.size() || entries[count].name != name) {
        throw DataError(
            concat(source(), ": the architecture has '", name, "', the list of parameters ",
                   count == entries.size() ? "ends before it" : "'" + entries[count].name + "' in its place"));
      }
      (void)file_.template at<T>("network." + name, shape);
      return entries[count++];
    };
    network.visit_parameters([&](nn::Parameter<T>& parameter) {
      const Entry& entry = next(parameter.name, parameter.value.shape(), parameters_, parameters);
      staged.values.push_back({&parameter, nullptr, &entry, file_.template tensor<T>(ctx, "network." + entry.name),
                               zeros<T>(ctx, parameter.value.shape())});
    });
    network.visit_buffers([&](nn::Buffer<T>& buffer) {
      const Entry& entry = next(buffer.name, buffer.value.shape(), buffers_, buffers);
      staged.values.push_back(
          {nullptr, &buffer, &entry, file_.template tensor<T>(ctx, "network." + entry.name), Tensor<T>()});
    });
    if (parameters != parameters_.size() || buffers != buffers_.size()) {
      throw DataError(concat(source(), ": lists more parameters or buffers than its architecture has"));
    }
    return staged;
  }

  Safetensors file_;
  Json state_;
  std::uint64_t seed_ = 0, random_streams_ = 0, ids_ = 0;
  std::vector<Entry> parameters_, buffers_;
  std::string optimizer_kind_;
  std::int64_t steps_ = 0;
  double learning_rate_ = 0.0;
  Json optimizer_options_;
};

/// Reads and checks a checkpoint; nothing else changes. Throws as Checkpoint's constructor.
template <Real T>
[[nodiscard]] Checkpoint<T> load_checkpoint(const std::string& path) {
  return Checkpoint<T>(path);
}

}  // namespace meristem::inline MERISTEM_BACKEND::io
