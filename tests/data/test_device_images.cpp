#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <meristem/data/device_images.hpp>
#include <meristem/data/loader.hpp>
#include <support/check.hpp>

namespace data_device_images_test {

namespace ms = meristem;
using ms::data::Augmentation;
using ms::data::PadMode;
using support::message_of;

namespace {

ms::data::ImageSet noise(std::int64_t images, std::int64_t height, std::int64_t width, std::int64_t channels) {
  ms::data::ImageSet set;
  set.height = height;
  set.width = width;
  set.channels = channels;
  set.class_names = {"a", "b", "c"};
  set.source = "noise";
  for (std::int64_t c = 0; c < channels; ++c) {
    set.normalization.mean.push_back(0.3 + 0.1 * static_cast<double>(c));
    set.normalization.stddev.push_back(0.7 - 0.2 * static_cast<double>(c));
  }
  const ms::Philox random(1, 2);
  for (std::int64_t i = 0; i < images; ++i) set.labels.push_back(static_cast<std::int32_t>(i % 3));
  for (std::int64_t i = 0; i < images * set.image_bytes(); ++i) {
    set.pixels.push_back(static_cast<std::uint8_t>(random.below(static_cast<std::uint64_t>(i), 256)));
  }
  return set;
}

template <class T>
void check_same(ms::Context& ctx, const ms::nn::Batch<T>& actual, const ms::nn::Batch<T>& expected) {
  CHECK(actual.inputs.shape() == expected.inputs.shape());
  support::check_same_bits(ms::to_host(ctx, actual.inputs), ms::to_host(ctx, expected.inputs));
  CHECK(ms::to_host(ctx, actual.labels) == ms::to_host(ctx, expected.labels));
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE_TEMPLATE("device images: the batches of the set, bit by bit", T, float, double) {
  support::for_every_executor([](ms::Context& ctx) {
    for (const std::int64_t channels : {1, 3}) {
      const ms::data::ImageSet set = noise(23, 5, 7, channels);
      const ms::data::DeviceImages images(ctx, set);
      CHECK(images.size() == 23);
      for (const Augmentation& augmentation :
           {Augmentation{}, Augmentation{.crop_padding = 4}, Augmentation{.crop_padding = 3, .flip = true},
            Augmentation{.crop_padding = 4, .flip = true, .pad_mode = PadMode::reflect}}) {
        for (const std::int64_t epoch : {0, 7}) {
          const ms::data::BatchOptions options{
              .shuffle = epoch > 0, .epoch = epoch, .seed = 5, .augmentation = augmentation};
          const auto expected = set.batches<T>(ctx, 9, options), actual = images.batches<T>(ctx, 9, options);
          REQUIRE(actual.size() == expected.size());
          for (std::int64_t i = 0; i < actual.size(); ++i) check_same<T>(ctx, actual.batch(i), expected.batch(i));
        }
      }
      const std::vector<std::int64_t> some{22, 0, 3, 3};
      check_same<T>(ctx, images.batch<T>(ctx, some), set.batch<T>(ctx, some));
      const ms::nn::BatchSource<T> source(images);
      check_same<T>(ctx, source.batch(ctx, some), set.batch<T>(ctx, some));
    }
  });
}

TEST_CASE("device images: what does not fit is told as for the set") {
  ms::Context ctx;
  ms::data::ImageSet set = noise(4, 3, 3, 1);
  const ms::data::DeviceImages images(ctx, set);
  const std::vector<std::int64_t> beyond{0, 4};
  CHECK(message_of<ms::ArgumentError>([&] { (void)images.batch(ctx, beyond); }) ==
        "noise: there is no image 4 in a set of 4");
  CHECK(message_of<ms::ArgumentError>([&] { (void)images.batches(ctx, 2, {.augmentation = {.crop_padding = 3}}); }) ==
        "augmentation: crop_padding is 3 for images of 3 x 3; it must be less than both");
  ms::Context other;
  CHECK(message_of<ms::ArgumentError>([&] { (void)images.batch(other, std::vector<std::int64_t>{0}); }) ==
        "noise: the images are in the memory of another Context; make DeviceImages with this one");
  CHECK(ms::data::DeviceImages::fits(ctx, set) == (MERISTEM_GPU != 0));
  set.labels[1] = 3;
  CHECK(support::contains(message_of<ms::DataError>([&] { ms::data::DeviceImages(ctx, set); }), "image 1 has label 3"));
}

TEST_SUITE_END();

}  // namespace data_device_images_test
