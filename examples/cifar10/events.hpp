// What happens in a run, told to whoever shows it or keeps it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/measure/diagnosis.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/train/trainer.hpp>

namespace cifar10 {

/// One layer of the network as it is now.
struct LayerState {
  std::string name, kind;
  std::int64_t outputs = 0;  ///< channels or features
  std::int64_t height = 1;   ///< of the map it puts out
  std::int64_t width = 1;    ///< of the map it puts out
  bool grows = false;
  std::string block;  ///< the residual block around it, if there is one
};

/// The widths of the layers that can grow, the number of parameters and all layers with weights.
struct NetworkState {
  std::vector<std::string> hidden_names;  ///< of those layers; what joins comes last
  std::vector<std::int64_t> hidden;
  std::int64_t parameters = 0;
  std::vector<LayerState> layers;
};

struct DeviceChosen {
  std::string device;
};

struct DataLoaded {
  std::string description;  ///< such as "CIFAR-10 from DIR"
  std::string remark;       ///< how to get others, or empty
  std::int64_t training = 0, testing = 0;
  std::vector<std::string> classes;
  std::int64_t height = 0, width = 0, channels = 0;
};

struct RunStarted {
  std::string model, optimizer, growth;
  std::vector<std::string> hidden_names;  ///< layers that can grow
  NetworkState network;
  std::int64_t epochs = 0, steps = 0;  ///< steps of an epoch
  double learning_rate = 0.0;
  bool falling = false;   ///< whether the learning rate falls to 0
  std::int64_t held = 0;  ///< epochs before it does
  std::uint64_t seed = 0;
  std::string resumed_from;  ///< a checkpoint, or empty
  std::int64_t resumed_epoch = 0, resumed_step = 0;
};

struct StepDone {
  std::int64_t epoch = 0, epochs = 0, step = 0, steps = 0;
  std::int64_t images = 0;  ///< of this step
  double learning_rate = 0.0;
  meristem::train::Metrics batch, epoch_so_far;
};

/// Something that takes long besides training steps goes on: testing or growing.
struct StillBusy {
  std::string what;
};

struct EpochDone {
  std::int64_t epoch = 0, epochs = 0;
  meristem::train::Metrics training, testing;
  NetworkState network;
  double seconds = 0.0;
};

struct GrowthDone {
  std::int64_t epoch = 0;
  meristem::grow::GrowthReport report;
  NetworkState network;
  double test_accuracy = 0.0;
  std::string over;                                ///< why growth is over, or empty
  std::map<std::string, double> bottleneck_after;  ///< measured anew, if anyone wants pictures
};

struct CheckpointSaved {
  std::string path;
  std::int64_t epoch = 0, step = 0;
};

struct RunStopped {
  std::string phase;       ///< what the signal interrupted
  std::string checkpoint;  ///< where the run goes on from, or empty
  bool saves = false;      ///< whether it would have saved
};

/// What one kind of growth brought in a run.
struct Bought {
  std::string kind;        ///< `hidden widths`, `tied widths` or `blocks`
  std::int64_t times = 0;  ///< layers that grew, step by step; of blocks their number
  std::int64_t units = 0, parameters = 0, multiply_adds = 0;
  double decrease = 0.0;  ///< of the loss, added up, on the images of the line search
};

struct RunEnded {
  meristem::train::Metrics testing;
  NetworkState network;
  double seconds = 0.0, growing_seconds = 0.0;
  bool grew = false;  ///< whether growth was asked for
  double training_operations = 0.0, growing_operations = 0.0;
  std::vector<Bought> bought;
};

/// Something a person should know that does not stop the run.
struct Warning {
  std::string text;
};

/// What the network answers to one test image.
struct Answer {
  std::int32_t label = 0;
  std::vector<float> probabilities;
};

/// What a picture of the trained network needs.
struct Pictures {
  struct Image {
    std::vector<std::uint8_t> pixels;  ///< (height, width, channels)
    std::int64_t height = 0, width = 0, channels = 0;
  };
  struct Example {
    Image image;
    Answer answer;
  };
  std::vector<std::vector<std::int64_t>> confusion;  ///< [label][answer]
  std::vector<Example> typical, mistaken;
  std::string filter_layer;
  std::int64_t filter_count = 0;  ///< of which `filters` shows the first
  std::vector<Image> filters;
  std::vector<meristem::grow::Diagnosis> units;  ///< how they fare, by layer and growth step
  double learning_rate = 0.0;                    ///< of the last step
};

/// Whoever wants to know. What is not overridden is not of interest.
class Listener {
 public:
  Listener() = default;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  virtual ~Listener() = default;
  virtual void on(const DeviceChosen&) {}
  virtual void on(const DataLoaded&) {}
  virtual void on(const RunStarted&) {}
  virtual void on(const StepDone&) {}
  virtual void on(const StillBusy&) {}
  virtual void on(const EpochDone&) {}
  virtual void on(const GrowthDone&) {}
  virtual void on(const CheckpointSaved&) {}
  virtual void on(const RunStopped&) {}
  virtual void on(const RunEnded&) {}
  virtual void on(const Warning&) {}
  /// Told before EpochDone and RunEnded, if anyone wants them.
  virtual void on(const Pictures&) {}
  [[nodiscard]] virtual bool wants_pictures() const { return false; }
};

/// All listeners as one.
class Listeners {
 public:
  void add(std::unique_ptr<Listener> listener) { all_.push_back(std::move(listener)); }
  template <class Event>
  void tell(const Event& event) const {
    for (const auto& listener : all_) listener->on(event);
  }
  [[nodiscard]] bool want_pictures() const {
    for (const auto& listener : all_) {
      if (listener->wants_pictures()) return true;
    }
    return false;
  }

 private:
  std::vector<std::unique_ptr<Listener>> all_;
};

}  // namespace cifar10
