#include "pictures.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace cifar10 {

std::vector<float> probabilities(std::span<const float> logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  std::vector<float> result;
  double sum = 0.0;
  for (const float logit : logits) {
    result.push_back(std::exp(logit - largest));
    sum += static_cast<double>(result.back());
  }
  for (float& value : result) value = static_cast<float>(static_cast<double>(value) / sum);
  return result;
}

void append_answers(ms::Context& ctx, ms::View<const float> logits, const ms::Tensor<std::int32_t>& labels,
                    std::vector<Answer>& answers) {
  const std::size_t classes = static_cast<std::size_t>(logits.extent(1));
  const std::vector<float> rows = to_host(ctx, logits);
  const std::vector<std::int32_t> truths = to_host(ctx, labels);
  for (std::size_t i = 0; i < truths.size(); ++i) {
    answers.push_back({truths[i], probabilities(std::span(rows).subspan(i * classes, classes))});
  }
}

std::size_t likeliest(const Answer& answer) {
  return static_cast<std::size_t>(std::max_element(answer.probabilities.begin(), answer.probabilities.end()) -
                                  answer.probabilities.begin());
}

/// The first layer's filters, each stretched to the range 0 to 255; of a linear layer, its rows as images.
void add_filters(ms::Context& ctx, ms::nn::Layer<float>& layer, const ms::data::ImageSet& set, Pictures& pictures) {
  if (!pictures.filters.empty()) return;
  for (ms::nn::Layer<float>* child : layer.children()) add_filters(ctx, *child, set, pictures);
  if (!pictures.filters.empty() || (layer.kind() != "Conv2d" && layer.kind() != "Linear")) return;
  const ms::nn::Parameter<float>& weight = *ms::nn::parameters(layer).front();
  const ms::Shape shape = weight.value.shape();
  const bool maps = shape.rank() == 4;
  const std::int64_t height = maps ? shape[1] : set.height, width = maps ? shape[2] : set.width,
                     channels = set.channels;
  if (shape[0] == 0 || shape.size() / shape[0] != height * width * channels) return;
  const std::vector<float> values = to_host(ctx, weight.value);
  const std::size_t each = static_cast<std::size_t>(height * width * channels);
  constexpr std::int64_t most = 48;
  pictures.filter_layer = layer.name();
  pictures.filter_count = shape[0];
  for (std::int64_t f = 0; f < std::min(shape[0], most); ++f) {
    const auto filter = std::span(values).subspan(static_cast<std::size_t>(f) * each, each);
    const auto [least, largest] = std::minmax_element(filter.begin(), filter.end());
    // Zero stays grey.
    const float reach = std::max({std::abs(*least), std::abs(*largest), 1e-12f});
    Pictures::Image image{.pixels = {}, .height = height, .width = width, .channels = channels};
    for (const float value : filter) {
      image.pixels.push_back(static_cast<std::uint8_t>(std::lround(127.5f + 127.5f * value / reach)));
    }
    pictures.filters.push_back(std::move(image));
  }
}

Pictures make_pictures(ms::Context& ctx, ms::nn::Layer<float>& net, const ms::data::ImageSet& set,
                       const std::vector<Answer>& answers) {
  Pictures pictures;
  const std::size_t classes = static_cast<std::size_t>(set.classes());
  pictures.confusion.assign(classes, std::vector<std::int64_t>(classes, 0));
  std::vector<std::size_t> wrong;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const std::size_t truth = static_cast<std::size_t>(answers[i].label), answer = likeliest(answers[i]);
    ++pictures.confusion[truth][answer];
    if (answer != truth) wrong.push_back(i);
  }
  const auto example = [&](std::size_t i) {
    const auto pixels = set.image(static_cast<std::int64_t>(i));
    return Pictures::Example{{{pixels.begin(), pixels.end()}, set.height, set.width, set.channels}, answers[i]};
  };
  for (std::size_t i = 0; i < std::min<std::size_t>(answers.size(), 12); ++i) pictures.typical.push_back(example(i));
  const auto surer = [&](std::size_t a, std::size_t b) {
    return answers[a].probabilities[likeliest(answers[a])] > answers[b].probabilities[likeliest(answers[b])];
  };
  const std::size_t shown = std::min<std::size_t>(wrong.size(), 12);
  std::partial_sort(wrong.begin(), wrong.begin() + static_cast<std::ptrdiff_t>(shown), wrong.end(), surer);
  for (std::size_t i = 0; i < shown; ++i) pictures.mistaken.push_back(example(wrong[i]));
  add_filters(ctx, net, set, pictures);
  return pictures;
}

}  // namespace cifar10
