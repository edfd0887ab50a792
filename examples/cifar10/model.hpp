// A trained network from a file: a checkpoint of this program, or a model file of the library.
#pragma once

#include <map>
#include <string>

#include <meristem/io/checkpoint.hpp>
#include <meristem/io/model.hpp>
#include <meristem/meristem.hpp>

#include "run_history.hpp"
#include "saved.hpp"

namespace cifar10 {

/// A network with what it reads and answers.
struct Model {
  ms::nn::Sequential<float> net;
  ModelInput input;
  std::string growth;                        ///< how it grew, as grow::History writes it
  std::map<std::string, std::string> notes;  ///< for people; of this program's: model, training, options, history

  /// The shape of a batch of one image.
  [[nodiscard]] ms::Shape image() const { return {1, input.height, input.width, input.channels}; }
};

/// What MODEL is to be, as the start of a sentence.
inline constexpr const char* model_wants = "MODEL takes a whole file that --checkpoint wrote, or a model file";

/// Throws IoError for a file that cannot be read, DataError for one that holds no network for images.
Model load_any_model(const std::string& path, ms::Context& ctx);

}  // namespace cifar10
