// The one header that brings in all of meristem/io: files of arrays, models and checkpoints. Needs nlohmann-json.
#pragma once

#include <meristem/io/architecture.hpp>
#include <meristem/io/checkpoint.hpp>
#include <meristem/io/file.hpp>
#include <meristem/io/history.hpp>
#include <meristem/io/json_text.hpp>
#include <meristem/io/model.hpp>
#include <meristem/io/npy.hpp>
#include <meristem/io/onnx.hpp>
#include <meristem/io/safetensors.hpp>
