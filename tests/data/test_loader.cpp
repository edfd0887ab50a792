#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <meristem/core/context.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/data/loader.hpp>

namespace data_loader_test {

namespace ms = meristem;
using ms::data::Augmentation;
using ms::data::BatchOptions;
using ms::data::ImageSet;

static_assert(std::input_iterator<ms::data::Loader<float>::Iterator>);
static_assert(std::sentinel_for<std::default_sentinel_t, ms::data::Loader<double>::Iterator>);

template <class Set>
concept HasBatches = requires(Set&& set, ms::Context& ctx) {
  std::forward<Set>(set).batches(ctx, 1);
};
static_assert(HasBatches<const ImageSet&>);
static_assert(!HasBatches<ImageSet>, "the batches would outlive a temporary set");

namespace {

/// `size` images of 3 x 5 x 2. The first byte of image i is i and its label is i % 3, so that images can be told apart.
ImageSet numbered(int size) {
  ImageSet set;
  set.height = 3;
  set.width = 5;
  set.channels = 2;
  for (int i = 0; i < size; ++i) {
    set.labels.push_back(i % 3);
    for (int p = 0; p < 30; ++p) set.pixels.push_back(static_cast<std::uint8_t>(p == 0 ? i : (i * 31 + p * 17) % 256));
  }
  set.class_names = {"a", "b", "c"};
  set.normalization = {.mean = {0.25, 0.5}, .stddev = {0.2, 0.3}};
  set.source = "numbered";
  return set;
}

/// (pixel / 255 - mean) / stddev for every byte of the images at `indices`.
std::vector<double> normalized(const ImageSet& set, std::span<const std::int64_t> indices) {
  std::vector<double> result;
  for (const std::int64_t index : indices) {
    for (std::int64_t p = 0; p < 30; ++p) {
      const auto c = static_cast<std::size_t>(p % 2);
      const double pixel = set.pixels.at(static_cast<std::size_t>(index * 30 + p));
      result.push_back((pixel / 255 - set.normalization.mean[c]) / set.normalization.stddev[c]);
    }
  }
  return result;
}

/// All labels and all images of a pass, one batch after the other, and the batch sizes.
struct Pass {
  std::vector<std::int64_t> sizes;
  std::vector<std::int32_t> labels;
  std::vector<float> images;
};

Pass walk(ms::Context& ctx, const ImageSet& set, std::int64_t batch_size, const BatchOptions& options = {}) {
  Pass pass;
  for (const auto& batch : set.batches(ctx, batch_size, options)) {
    pass.sizes.push_back(batch.size());
    const auto labels = ms::to_host(ctx, batch.labels);
    const auto images = ms::to_host(ctx, batch.inputs);
    pass.labels.insert(pass.labels.end(), labels.begin(), labels.end());
    pass.images.insert(pass.images.end(), images.begin(), images.end());
  }
  return pass;
}

/// The images of a numbered set in the order of the pass, told by their first byte.
std::vector<int> identities(const Pass& pass) {
  std::vector<int> result;
  for (std::size_t i = 0; i < pass.images.size(); i += 30) {
    result.push_back(static_cast<int>(std::lround((pass.images[i] * 0.2 + 0.25) * 255)));
  }
  return result;
}

std::vector<int> ascending(int size) {
  std::vector<int> result(static_cast<std::size_t>(size));
  std::iota(result.begin(), result.end(), 0);
  return result;
}

std::string argument_complaint(ms::Context& ctx, const ImageSet& set, std::int64_t batch_size,
                               const BatchOptions& options = {}) {
  try {
    (void)set.batches(ctx, batch_size, options);
  } catch (const ms::ArgumentError& error) {
    return error.message();
  }
  return "no ArgumentError";
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("loader: batches hold the normalised images and their labels") {
  ms::Context ctx;
  const ImageSet set = numbered(7);
  std::int64_t first = 0;
  for (const auto& batch : set.batches<double>(ctx, 3)) {
    const std::int64_t count = std::min<std::int64_t>(3, 7 - first);
    CHECK(batch.inputs.shape() == ms::Shape{count, 3, 5, 2});
    CHECK(batch.labels.shape() == ms::Shape{count});
    std::vector<std::int64_t> indices(static_cast<std::size_t>(count));
    std::iota(indices.begin(), indices.end(), first);
    const auto expected = normalized(set, indices);
    const auto images = ms::to_host(ctx, batch.inputs);
    const auto labels = ms::to_host(ctx, batch.labels);
    for (std::size_t k = 0; k < images.size(); ++k) {
      INFO("batch from ", first, ", element ", k);
      // |value| < 4, three roundings.
      CHECK(std::abs(images[k] - expected.at(k)) <= 3 * 4 * std::numeric_limits<double>::epsilon());
    }
    for (std::size_t i = 0; i < labels.size(); ++i) CHECK(labels[i] == (first + static_cast<std::int64_t>(i)) % 3);
    first += count;
  }
  CHECK(first == 7);
}

TEST_CASE("loader: float32 images are the rounded float64 ones") {
  ms::Context ctx;
  const ImageSet set = numbered(4);
  const auto single = ms::to_host(ctx, set.batches<float>(ctx, 4).batch(0).inputs);
  const std::vector<std::int64_t> all = {0, 1, 2, 3};
  const auto expected = normalized(set, all);
  REQUIRE(single.size() == expected.size());
  // |value| < 4: one rounding to float32.
  for (std::size_t k = 0; k < single.size(); ++k) CHECK(std::abs(single[k] - expected[k]) <= 4 * 0x1p-24);
}

TEST_CASE("loader: batch sizes, with and without the last partial batch") {
  ms::Context ctx;
  const ImageSet set = numbered(10);
  using Sizes = std::vector<std::int64_t>;
  CHECK(walk(ctx, set, 4).sizes == Sizes{4, 4, 2});
  CHECK(walk(ctx, set, 4, {.drop_last = true}).sizes == Sizes{4, 4});
  CHECK(walk(ctx, set, 5).sizes == Sizes{5, 5});
  CHECK(walk(ctx, set, 5, {.drop_last = true}).sizes == Sizes{5, 5});
  CHECK(walk(ctx, set, 1).sizes == Sizes(10, 1));
  CHECK(walk(ctx, set, 10).sizes == Sizes{10});
  CHECK(walk(ctx, set, 99).sizes == Sizes{10});
  CHECK(walk(ctx, set, std::numeric_limits<std::int64_t>::max()).sizes == Sizes{10});
  CHECK(set.batches(ctx, 4).size() == 3);
  CHECK(set.batches(ctx, 4, {.drop_last = true}).size() == 2);
}

TEST_CASE("loader: every image comes once, in the order of the set or shuffled") {
  ms::Context ctx({.seed = 5});
  const ImageSet set = numbered(61);
  CHECK(identities(walk(ctx, set, 8)) == ascending(61));
  const Pass shuffled = walk(ctx, set, 8, {.shuffle = true});
  std::vector<int> seen = identities(shuffled);
  CHECK(seen != ascending(61));
  for (std::size_t i = 0; i < seen.size(); ++i) CHECK(shuffled.labels.at(i) == seen[i] % 3);
  std::sort(seen.begin(), seen.end());
  CHECK(seen == ascending(61));
}

TEST_CASE("loader: the order is a pure function of seed and epoch") {
  const ImageSet set = numbered(61);
  ms::Context ctx({.seed = 5}), same({.seed = 5}), other({.seed = 6});
  const auto order = [&](ms::Context& on, const BatchOptions& options) {
    return identities(walk(on, set, 8, options));
  };
  const auto reference = order(ctx, {.shuffle = true, .epoch = 2});
  CHECK(order(ctx, {.shuffle = true, .epoch = 2}) == reference);
  CHECK(order(same, {.shuffle = true, .epoch = 2}) == reference);
  CHECK(order(other, {.shuffle = true, .epoch = 2, .seed = 5}) == reference);
  CHECK(order(other, {.shuffle = true, .epoch = 2}) != reference);
  CHECK(order(ctx, {.shuffle = true, .epoch = 3}) != reference);
  CHECK(identities(walk(ctx, set, 17, {.shuffle = true, .epoch = 2})) == reference);

  const auto loader = set.batches(ctx, 8, {.shuffle = true, .epoch = 2});
  REQUIRE(loader.order().size() == 61);
  for (std::size_t i = 0; i < 61; ++i) CHECK(loader.order()[i] == reference[i]);
}

TEST_CASE("loader: shuffling puts every image everywhere equally often") {
  constexpr int size = 5, passes = 5000;
  std::vector<int> count(size * size);
  for (int epoch = 0; epoch < passes; ++epoch) {
    const auto order = ms::data::epoch_order(size, 1, epoch);
    for (std::size_t i = 0; i < size; ++i) ++count[i * size + static_cast<std::size_t>(order[i])];
  }
  // Six standard deviations of a binomial count: sqrt(5000 * 0.2 * 0.8) = 28.3.
  for (const int c : count) CHECK(std::abs(c - passes / size) < 6 * 28.3);
  CHECK(ms::data::epoch_order(0, 1, 0).empty());
  CHECK(ms::data::epoch_order(1, 1, 0) == std::vector<std::int64_t>{0});
}

TEST_CASE("loader: a batch does not depend on which were loaded before") {
  ms::Context ctx;
  const ImageSet set = numbered(20);
  const BatchOptions options{.shuffle = true, .epoch = 4, .augmentation = {.crop_padding = 2, .flip = true}};
  const auto loader = set.batches(ctx, 6, options);
  const Pass pass = walk(ctx, set, 6, options);
  for (const std::int64_t index : {3, 1, 2, 0, 3}) {
    const auto images = ms::to_host(ctx, loader.batch(index).inputs);
    const auto begin = pass.images.begin() + index * 6 * 30;
    CHECK(images == std::vector<float>(begin, begin + std::ssize(images)));
  }
  CHECK_THROWS_WITH_AS((void)loader.batch(4), doctest::Contains("batches: there is no batch 4 in a pass of 4"),
                       ms::ArgumentError);
  CHECK_THROWS_AS((void)loader.batch(-1), ms::ArgumentError);
}

TEST_CASE("loader: augmented images are those the draws describe, on any number of threads") {
  const ImageSet set = numbered(23);
  const BatchOptions options{.shuffle = true, .epoch = 3, .seed = 9, .augmentation = {.crop_padding = 2, .flip = true}};
  std::vector<float> first;
  for (const int threads : {1, 3}) {
    ms::Context ctx({.executor = {.threads = threads}});
    ImageSet augmented = set;
    for (int i = 0; i < 23; ++i) {
      options.augmentation.apply(options.augmentation.draw(9, 3, i), set.image(i).data(), 3, 5, 2,
                                 augmented.pixels.data() + i * 30);
    }
    const auto loader = set.batches(ctx, 7, options);
    const auto expected = normalized(augmented, loader.order());
    const Pass pass = walk(ctx, set, 7, options);
    REQUIRE(pass.images.size() == expected.size());
    // |value| < 4: one rounding to float32.
    for (std::size_t k = 0; k < expected.size(); ++k) CHECK(std::abs(pass.images[k] - expected[k]) <= 4 * 0x1p-24);
    if (first.empty()) first = pass.images;
    CHECK(pass.images == first);
  }
  ms::Context ctx({.seed = 9});
  CHECK(walk(ctx, set, 23, {.augmentation = options.augmentation}).images != walk(ctx, set, 23).images);
}

TEST_CASE("loader: bad arguments are named") {
  ms::Context ctx;
  const ImageSet set = numbered(10);
  CHECK(argument_complaint(ctx, set, 0) == "batches: the batch size is 0; it must be at least 1");
  CHECK(argument_complaint(ctx, set, -4) == "batches: the batch size is -4; it must be at least 1");
  CHECK(argument_complaint(ctx, set, 4, {.epoch = -1}) == "batches: the epoch is -1; it must be from 0 to 2^40 - 1");
  CHECK(argument_complaint(ctx, set, 4, {.augmentation = {.crop_padding = 3}}) ==
        "augmentation: crop_padding is 3 for images of 3 x 5; it must be less than both");
  CHECK(argument_complaint(ctx, set, 11, {.drop_last = true}) ==
        "batches: drop_last leaves no batch of 11 from the 10 images of numbered; choose a smaller batch size");
}

TEST_CASE("loader: a set without images or with numbers beyond the type is refused") {
  ms::Context ctx;
  ImageSet set = numbered(2);
  const ImageSet none = set.take(0);
  CHECK_THROWS_WITH_AS((void)none.batches(ctx, 1),
                       doctest::Contains("numbered: the data set is empty; it needs at least one image"),
                       ms::DataError);
  set.normalization.stddev[1] = 1e-40;
  CHECK_THROWS_WITH_AS(
      (void)set.batches<float>(ctx, 1),
      doctest::Contains(
          "normalization: channel 1 with mean 0.5 and stddev 1e-40 turns pixels into numbers beyond float32"),
      ms::DataError);
  CHECK_NOTHROW((void)set.batches<double>(ctx, 1));
}

TEST_SUITE_END();

}  // namespace data_loader_test
