// The part of the program that uses the GPU if nvcc compiles it, and the CPU if g++ or clang++ does. The namespace
// keeps the two apart: a program may have both.
#pragma once

#include <string>

#include <meristem/core/config.hpp>

namespace consume {
inline namespace MERISTEM_BACKEND {

/// A matrix times its transpose, and on what it was computed, in words.
std::string product();

}  // namespace MERISTEM_BACKEND
}  // namespace consume
