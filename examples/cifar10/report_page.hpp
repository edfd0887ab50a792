// The page that --report writes: one file of HTML with all it shows inside.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace cifar10 {

/// The page for a history (run_history.hpp) and the latest pictures: an object with `confusion` [label][answer],
/// `typical` and `mistaken` lists of {image, label, answers: [[class, probability], ...]}, `filter_layer`,
/// `filter_count` and `filters`. Images are data URIs. Missing parts are left out.
[[nodiscard]] std::string report_page(const nlohmann::ordered_json& history, const nlohmann::ordered_json& pictures);

}  // namespace cifar10
