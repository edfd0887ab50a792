// The version of the library. CMake reads it from here.
#pragma once

#define MERISTEM_VERSION_MAJOR 0
#define MERISTEM_VERSION_MINOR 1
#define MERISTEM_VERSION_PATCH 0

/// One number to compare in #if: 10000 * major + 100 * minor + patch.
#define MERISTEM_VERSION (MERISTEM_VERSION_MAJOR * 10000 + MERISTEM_VERSION_MINOR * 100 + MERISTEM_VERSION_PATCH)
