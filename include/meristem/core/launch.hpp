// The two ways to run work on the device: `launch` for kernels, `for_each` for functors over an index space.
#pragma once

#include <meristem/core/for_each.hpp>
#include <meristem/core/launch_kernel.hpp>
