// Definitions of checkpoint.hpp.
#pragma once

#include <charconv>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>

#include <algorithm>
#include <meristem/io/checkpoint.hpp>

namespace meristem::io::detail {

inline constexpr std::string_view checkpoint_format = "meristem-checkpoint";

MERISTEM_INLINE std::string hexadecimal(std::uint64_t number) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + 16, number, 16).ptr;
  return std::string(digits, end);
}

[[nodiscard]] MERISTEM_INLINE Json growth_rate_json(const optim::GrowthRate& rate) {
  switch (rate.rule) {
    case optim::GrowthRate::Rule::constant:
      return {{"rule", "constant"}};
    case optim::GrowthRate::Rule::norm_ratio:
      return {{"rule", "norm_ratio"}};
    case optim::GrowthRate::Rule::rewarm:
      break;
  }
  return {{"rule", "rewarm"}, {"start", rate.start}, {"steps", rate.steps}};
}

/// Throws DataError for what `growth_rate_json` does not write.
[[nodiscard]] MERISTEM_INLINE optim::GrowthRate parse_growth_rate(const std::string& where, const Json& value) {
  const Members rate(where + ": growth_rate", value);
  const std::string rule = rate.text("rule");
  if (rule == "constant") return optim::constant_rate();
  if (rule == "norm_ratio") return optim::norm_ratio();
  if (rule != "rewarm") throw DataError(concat(where, ": there is no growth rate '", rule, "'"));
  const std::uint64_t steps = rate.whole("steps");
  try {
    return optim::rewarm(rate.real("start"), steps > INT64_MAX ? INT64_MAX : static_cast<std::int64_t>(steps));
  } catch (const ArgumentError& error) {
    throw DataError(concat(where, ": ", error.message()));
  }
}

[[nodiscard]] MERISTEM_INLINE Json first_steps_json(const optim::FirstSteps& steps) {
  Json axes = Json::array();
  for (const auto& [axis, along] : steps.axes) axes.push_back({{"axis", axis}, {"first_steps", along}});
  return {{"base", steps.base}, {"axes", std::move(axes)}};
}

/// Throws DataError unless they fit a parameter of this shape and an optimiser that has taken `taken` steps.
[[nodiscard]] MERISTEM_INLINE optim::FirstSteps parse_first_steps(const std::string& where, const Json& value,
                                                                  const std::vector<std::int64_t>& shape,
                                                                  std::int64_t taken) {
  const auto step_of = [&](const Json& number) {
    // What joined after the last step has its first one yet to come.
    if (!number.is_number_unsigned() || number.get<std::uint64_t>() > static_cast<std::uint64_t>(taken) + 1) {
      throw DataError(concat(where, ": a first step is no whole number up to ", taken, " + 1"));
    }
    return static_cast<std::int64_t>(number.get<std::uint64_t>());
  };
  const Members members(where, value);
  optim::FirstSteps result{.base = step_of(members.member("base"))};
  for (const Json& entry : members.list("axes")) {
    const Members axis(where + ": axes", entry);
    const std::uint64_t number = axis.whole("axis");
    const Json& steps = axis.list("first_steps");
    if (number >= shape.size() || static_cast<std::int64_t>(steps.size()) != shape[number]) {
      throw DataError(concat(where, ": the first steps of axis ", number, " do not fit the parameter"));
    }
    std::vector<std::int64_t>& along = result.axes[static_cast<int>(number)];
    if (!along.empty()) throw DataError(concat(where, ": axis ", number, " is listed twice"));
    for (const Json& step : steps) along.push_back(step_of(step));
  }
  return result;
}

/// Options of the optimisers that can be made again; null for others.
[[nodiscard]] MERISTEM_INLINE Json options_json(const std::vector<std::pair<std::string, nn::FieldValue>>& fields) {
  Json options = nullptr;
  for (const auto& [name, value] : fields) options[name] = field_json(value);
  return options;
}

}  // namespace meristem::io::detail

namespace meristem::io {

template <Real T>
void save_checkpoint(const std::string& path, Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer,
                     const Json& state, const LayerKinds<T>& kinds) {
  if (&optimizer.network() != &network) {
    throw ArgumentError(concat(path, ": the optimiser is of another network; give the one that it trains"));
  }
  nn::check_finite(ctx, network, path + " is not written");
  Safetensors file;
  Json parameters = Json::array(), buffers = Json::array();
  network.visit_parameters([&](nn::Parameter<T>& parameter) {
    file.add<T>(ctx, "network." + parameter.name, parameter.value.view());
    const std::vector<Tensor<T>>& moments = optimizer.state(parameter.id);
    for (std::size_t i = 0; i < moments.size(); ++i) {
      kernels::check_finite(ctx, moments[i].view(), concat(path, ": moment ", i, " of ", parameter.name));
      file.add<T>(ctx, concat("optimizer.", i, ".", parameter.name), moments[i].view());
    }
    const optim::ParameterGroup& group = optimizer.group(parameter.id);
    parameters.push_back({{"name", parameter.name},
                          {"id", parameter.id},
                          {"decays", parameter.decays},
                          {"moments", moments.size()},
                          {"first_steps", detail::first_steps_json(optimizer.first_steps(parameter.id))},
                          {"learning_rate_factor", group.learning_rate_factor},
                          {"weight_decay", group.weight_decay ? Json(*group.weight_decay) : Json(nullptr)}});
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
                      {"growth_rate", detail::growth_rate_json(optimizer.growth_rate())},
                      {"options", detail::options_json(optimizer.fields())}}}};
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

template <Real T>
Checkpoint<T>::Checkpoint(Safetensors file) : file_(std::move(file)) {
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
  const detail::Members optimizer(where + ": optimizer", members.member("optimizer"));
  optimizer_kind_ = optimizer.text("kind");
  const std::uint64_t steps = optimizer.whole("steps");
  learning_rate_ = optimizer.real("learning_rate");
  if (steps > most || !(learning_rate_ >= 0.0) || !std::isfinite(learning_rate_)) {
    throw DataError(
        concat(where, ": the optimiser's steps (", steps, ") or learning rate (", learning_rate_, ") cannot be"));
  }
  steps_ = static_cast<std::int64_t>(steps);
  growth_rate_ = detail::parse_growth_rate(where + ": optimizer", optimizer.member("growth_rate"));
  optimizer_options_ = optimizer.member("options");
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
        detail::require_finite<T>(file_, name);
        if (file_.at(name).shape != file_.at("network." + read.name).shape) {
          throw DataError(concat(source(), ": tensor '", name, "' has shape ", file_.at(name).shape_text(),
                                 ", its parameter ", file_.at("network." + read.name).shape_text()));
        }
      }
      const std::string place = concat(where, ": '", read.name, "'");
      read.first_steps =
          detail::parse_first_steps(place, entry.member("first_steps"), file_.at("network." + read.name).shape, steps_);
      read.group.learning_rate_factor = entry.real("learning_rate_factor");
      if (!entry.member("weight_decay").is_null()) read.group.weight_decay = entry.real("weight_decay");
      const auto require_rate = [&](double number) {
        if (number >= 0.0 && std::isfinite(number)) return;
        throw DataError(concat(place, ": a learning rate factor or weight decay of ", number, " cannot be"));
      };
      require_rate(read.group.learning_rate_factor);
      require_rate(read.group.weight_decay.value_or(0.0));
    }
    return read;
  };
  for (const Json& value : members.list("parameters")) parameters_.push_back(read_entry(value, true));
  for (const Json& value : members.list("buffers")) buffers_.push_back(read_entry(value, false));
  for (const auto& [name, tensor] : file_.tensors()) {
    if (expected.count(name) == 0) throw DataError(concat(source(), ": the tensor '", name, "' belongs to nothing"));
  }
}

template <Real T>
nn::Sequential<T> Checkpoint<T>::network(Context& ctx, const LayerKinds<T>& kinds) const {
  nn::Sequential<T> network = build<T>(ctx, architecture_text(), detail::build_options<T>(file_), kinds);
  stage(ctx, network).commit();
  ctx.set_ids(std::max(ctx.ids(), ids_));
  return network;
}

template <Real T>
std::unique_ptr<optim::Optimizer<T>> Checkpoint<T>::optimizer(nn::Layer<T>& network) const {
  const detail::Members o(source() + ": optimizer options", optimizer_options_);
  try {
    if (optimizer_kind_ == "Sgd") {
      return std::make_unique<optim::Sgd<T>>(network, optim::SgdOptions{.learning_rate = o.real("learning_rate"),
                                                                        .momentum = o.real("momentum"),
                                                                        .dampening = o.real("dampening"),
                                                                        .weight_decay = o.real("weight_decay"),
                                                                        .nesterov = o.flag("nesterov"),
                                                                        .growth_rate = growth_rate_});
    }
    if (optimizer_kind_ == "AdamW") {
      return std::make_unique<optim::AdamW<T>>(network, optim::AdamWOptions{.learning_rate = o.real("learning_rate"),
                                                                            .beta1 = o.real("beta1"),
                                                                            .beta2 = o.real("beta2"),
                                                                            .epsilon = o.real("epsilon"),
                                                                            .weight_decay = o.real("weight_decay"),
                                                                            .growth_rate = growth_rate_});
    }
  } catch (const ArgumentError& error) {
    throw DataError(concat(source(), ": optimizer options: ", error.message()));
  }
  throw ArgumentError(concat(source(), ": its optimiser is of kind '", optimizer_kind_,
                             "', which only the program knows how to make; make one and call restore"));
}

template <Real T>
void Checkpoint<T>::restore(Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer,
                            const LayerKinds<T>& kinds) const {
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
    staged.first_steps.push_back(entry.first_steps);
    // So that nothing is allocated later.
    (void)optimizer.state(entry.id);
  }
  staged.commit();
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    optimizer.state(parameters_[i].id) = std::move(staged.moments[i]);
    optimizer.first_steps(parameters_[i].id) = std::move(staged.first_steps[i]);
    optimizer.set_group(parameters_[i].id, parameters_[i].group);
  }
  optimizer.set_growth_rate(growth_rate_);
  optimizer.set_steps(steps_);
  optimizer.set_learning_rate(learning_rate_);
  ctx.set_random_streams(random_streams_);
  ctx.set_ids(std::max(ctx.ids(), ids_));
}

template <Real T>
void Checkpoint<T>::Staged::commit() noexcept {
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

template <Real T>
auto Checkpoint<T>::stage(Context& ctx, nn::Layer<T>& network) const -> Staged {
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

}  // namespace meristem::io
