// One run: epochs of training steps, tests, growth in between, and a checkpoint of where it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <meristem/io/checkpoint.hpp>
#include <meristem/io/file.hpp>
#include <meristem/meristem.hpp>

#include "data.hpp"
#include "events.hpp"
#include "interrupt.hpp"
#include "network.hpp"
#include "options.hpp"
#include "pictures.hpp"
#include "run_history.hpp"
#include "saved.hpp"

namespace cifar10 {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The training images as growth sees them: before each batch the program may be asked to stop, and says it is alive.
ms::nn::BatchSource<float> watched(std::int64_t size, ms::data::ImageBatches<float> images, const Listeners& listeners);

class Session {
 public:
  /// `given` are the options as text, for checkpoints; `saved` is where to go on from, or null.
  Session(const Options& options, std::map<std::string, std::string> given, const Listeners& listeners,
          RunHistory& history, const Saved* saved);

  /// Returns the exit code: 1 if the last checkpoint could not be saved.
  [[nodiscard]] int run();

 private:
  static constexpr const char* growing = "growth";
  static constexpr const char* preparing = "preparation";

  void prepare();

  void make_grower();

  [[nodiscard]] NetworkState state() { return network_state(*net_, image_, sites_, width_names_); }

  /// Finds the layers that can grow, and names those that joined.
  void find_sites();

  /// Of one image.
  [[nodiscard]] std::int64_t work() const { return net_->multiply_adds(image_); }
  [[nodiscard]] double spent() const { return at_.training_operations + at_.growing_operations; }

  /// Throws ArgumentError if --max-operations do not suffice for the network that an automatic run starts with.
  void require_operations() const;

  void train();

  /// A step sees only what the one before it did to the weights. Throws NumericError, which names the parameter.
  void require_finite_weights();

  /// Maps take much memory; rows do not.
  [[nodiscard]] std::int64_t test_batch() const { return o_->is_mlp() ? 1'000 : o_->batch; }

  /// As train::evaluate, keeping the answers in `answers` if that is not null.
  ms::train::Metrics test(std::vector<Answer>* answers, const char* phase);

  [[nodiscard]] Pictures pictures_of(const std::vector<Answer>& answers);

  void test_epoch();

  [[nodiscard]] bool grows_now() const;
  /// Multiply-adds that the network of an automatic run may have after a growth step now, for all operations to
  /// suffice.
  [[nodiscard]] std::int64_t room() const;

  void grow();

  void next_epoch();

  void end();

  /// Before any time is spent on training. A checkpoint that is there is somebody's work, and a folder no file:
  /// ArgumentError. IoError where the file system lets nothing be written.
  void probe_checkpoint() const;

  void require_same_data() const;

  /// Writes a checkpoint if there is to be one. If that fails, whatever the reason, the last good one stays and
  /// training goes on. Throws NumericError for weights that are not finite: nothing is left to go on with.
  void save();

  void not_saved(const std::string& why);

  const Options* o_;
  std::map<std::string, std::string> given_;
  const Listeners* listeners_;
  RunHistory* history_;
  const Saved* saved_;
  ms::Context ctx_;
  std::chrono::steady_clock::time_point start_;
  Data data_;
  std::optional<ms::data::DeviceImages> train_images_, test_images_;
  std::optional<ms::nn::Sequential<float>> net_;
  std::unique_ptr<ms::optim::Optimizer<float>> optimizer_;
  ms::nn::CrossEntropy loss_;
  std::vector<ms::grow::Site<float>> sites_;
  std::vector<std::string> width_names_;
  std::optional<ms::grow::Grower<float>> grower_;
  std::optional<ms::optim::Schedule> schedule_;
  std::int64_t steps_ = 0;
  std::vector<std::int64_t> growth_epochs_;
  ms::Shape image_{1};
  Progress at_;
  bool grew_ = false;
  bool save_failed_ = false;
  std::string last_checkpoint_;
  std::vector<std::string> fingerprints_;
};

}  // namespace cifar10
