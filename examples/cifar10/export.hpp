// cifar10 export: a trained network as files for PyTorch, ONNX runtimes and other programs of the library.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <meristem/io/file.hpp>
#include <meristem/io/model.hpp>
#include <meristem/io/onnx.hpp>
#include <meristem/meristem.hpp>

#include "console.hpp"
#include "interrupt.hpp"
#include "model.hpp"
#include "network.hpp"

namespace cifar10 {

/// A file to write, and what it is.
struct ExportFile {
  std::string path, about;
  std::function<void(const std::string&)> write;
};

/// `arguments` are those after "export". Returns the exit code: 2 for wrong usage or a file that is there already,
/// 130 if it was interrupted. Throws Error for what else goes wrong, such as a place that cannot be written to; then,
/// and with any exit code but 0, nothing was written.
int export_model(std::vector<std::string> arguments);

}  // namespace cifar10
