// Second moments of the patches of convolutions: S and S1, and N between patches and outputs (the names of M.
// Verbockhaven et al., "Growing tiny networks", TMLR 2024). Streaming and mergeable; maps are NHWC.
#pragma once

#include <meristem/grow/statistics/patch_covariance.hpp>
#include <meristem/grow/statistics/patch_cross_covariance.hpp>
#include <meristem/grow/statistics/patch_geometry.hpp>
