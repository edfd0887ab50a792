// Where a training run stands, in one file: network, optimiser, random numbers and whatever the program adds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/dtype.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/io/architecture.hpp>
#include <meristem/io/finite.hpp>
#include <meristem/io/format.hpp>
#include <meristem/io/json_text.hpp>
#include <meristem/io/safetensors.hpp>
#include <meristem/nn/finite.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/optimizer.hpp>
#include <meristem/optim/sgd.hpp>

namespace meristem::io {

/// The version of checkpoints that is written, and the only one that is read.
inline constexpr std::int64_t checkpoint_version = 2;

namespace detail {

[[nodiscard]] std::string hexadecimal(std::uint64_t number);

}  // namespace detail

/// Writes where training stands to `path`, so that the old file is there until the new one is complete: the network's
/// architecture, parameters and buffers with their ids, the optimiser's steps, rates, groups, options, moments and what
/// it knows of growth, the Context's seed, random streams and ids, and `state`, whatever else the program needs to go
/// on. Numbers in `state` come back to the last bit, except NaN and infinities. Waits for the device. Throws IoError if
/// the file cannot be written, NumericError that names the parameter or buffer for numbers that are not finite, and
/// ArgumentError for a network that `architecture` cannot write down or that is not the optimiser's; the old file is
/// still there then.
template <Real T>
void save_checkpoint(const std::string& path, Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer,
                     const Json& state = Json::object(), const LayerKinds<T>& kinds = {});

/// A checkpoint in memory, checked but for what only the network it describes can tell.
template <Real T>
class Checkpoint {
 public:
  /// Throws IoError if the file cannot be read; DataError if it is no checkpoint, of another version, truncated,
  /// altered, of another element type, or with a parameter or buffer that is not finite.
  explicit Checkpoint(const std::string& path) : Checkpoint(Safetensors::read(path)) {}

  /// As above, of a file that was read already.
  explicit Checkpoint(Safetensors file);

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
  /// not those of the architecture or have numbers that are not finite.
  [[nodiscard]] nn::Sequential<T> network(Context& ctx, const LayerKinds<T>& kinds = {}) const;

  /// An optimiser of the kind and with the options that were saved, without its moments: `restore` brings them. Throws
  /// ArgumentError for kinds that are not the library's: make those yourself.
  [[nodiscard]] std::unique_ptr<optim::Optimizer<T>> optimizer(nn::Layer<T>& network) const;

  /// Puts everything back: parameters, buffers, ids, moments, steps, rates, groups, random streams. `network` has the
  /// saved architecture, as one from `network(ctx)` has, and is the optimiser's. Gradients become 0. Training then goes
  /// on as it would have, bit by bit, on the same kind of device. Throws DataError if the network is another one or the
  /// optimiser of another kind, ArgumentError if the Context has another seed; nothing has changed then.
  void restore(Context& ctx, nn::Layer<T>& network, optim::Optimizer<T>& optimizer,
               const LayerKinds<T>& kinds = {}) const;

 private:
  struct Entry {
    std::string name;
    nn::ParameterId id = 0;
    bool decays = true;
    std::size_t moments = 0;
    optim::FirstSteps first_steps = {};
    optim::ParameterGroup group = {};
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
    std::vector<optim::FirstSteps> first_steps;

    void commit() noexcept;
  };

  [[nodiscard]] Staged stage(Context& ctx, nn::Layer<T>& network) const;

  Safetensors file_;
  Json state_;
  std::uint64_t seed_ = 0, random_streams_ = 0, ids_ = 0;
  std::vector<Entry> parameters_, buffers_;
  std::string optimizer_kind_;
  std::int64_t steps_ = 0;
  double learning_rate_ = 0.0;
  optim::GrowthRate growth_rate_;
  Json optimizer_options_;
};

/// Reads and checks a checkpoint; nothing else changes. Throws as Checkpoint's constructor.
template <Real T>
[[nodiscard]] Checkpoint<T> load_checkpoint(const std::string& path) {
  return Checkpoint<T>(path);
}

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/checkpoint_impl.hpp>
#endif
