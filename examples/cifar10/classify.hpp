// cifar10 classify: what a trained network says of pictures.
#pragma once

#include <string>
#include <vector>

#include <meristem/data/image_file.hpp>
#include <meristem/meristem.hpp>

#include "console.hpp"
#include "json_events.hpp"
#include "model.hpp"
#include "network.hpp"
#include "pictures.hpp"

namespace cifar10 {

/// `arguments` are those after "classify". Returns the exit code: 1 if a picture could not be read, 2 for wrong usage.
int classify(std::vector<std::string> arguments);

}  // namespace cifar10
