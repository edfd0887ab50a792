// What the network answers to the test images, and pictures for people: answers right and wrong, the first filters.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <meristem/meristem.hpp>

#include "events.hpp"

namespace cifar10 {

namespace ms = meristem;

/// Softmax of one row of logits.
std::vector<float> probabilities(std::span<const float> logits);

void append_answers(ms::Context& ctx, ms::View<const float> logits, const ms::Tensor<std::int32_t>& labels,
                    std::vector<Answer>& answers);

/// `answers` are those to the images of `set`, in its order.
Pictures make_pictures(ms::Context& ctx, ms::nn::Layer<float>& net, const ms::data::ImageSet& set,
                       const std::vector<Answer>& answers);

}  // namespace cifar10
