#include <doctest/doctest.h>

#include <vector>

#include <meristem/nn/pooling.hpp>
#include <meristem/nn/sequential.hpp>
#include <support/check.hpp>
#include <support/gradient_check.hpp>

namespace nn_pooling_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("pooling layers: gradients agree with finite differences") {
  ms::Context ctx;
  // Normal numbers: no two of a window are within the step of each other, or the maximum would have a kink there.
  for (const auto& options : {ms::nn::PoolOptions{}, ms::nn::PoolOptions{.kernel = 3, .stride = 2, .padding = 1},
                              ms::nn::PoolOptions{.kernel = {2, 3}, .stride = 1, .dilation = {2, 1}}}) {
    ms::nn::MaxPool2d<double> max(options);
    support::check_gradients(ctx, max, {2, 6, 4, 3}, 10);
    ms::nn::AveragePool2d<double> average(options);
    support::check_gradients(ctx, average, {2, 6, 4, 3}, 11);
  }
  ms::nn::GlobalAveragePool<double> global;
  support::check_gradients(ctx, global, {2, 3, 4, 5}, 12);
}

TEST_CASE("pooling layers: shapes, and windows side by side unless a stride is given") {
  CHECK(ms::nn::MaxPool2d<float>().window() == ms::Window{.kernel = 2, .stride = 2});
  CHECK(ms::nn::MaxPool2d<float>({.kernel = {3, 2}}).window() == ms::Window{.kernel = {3, 2}, .stride = {3, 2}});
  CHECK(ms::nn::AveragePool2d<float>({.kernel = 3, .stride = 1}).window() == ms::Window{.kernel = 3, .stride = 1});
  CHECK(ms::nn::MaxPool2d<float>().output_shape({2, 5, 4, 7}) == ms::Shape{2, 2, 2, 7});
  CHECK(ms::nn::AveragePool2d<float>({.kernel = 3, .stride = 2, .padding = 1}).output_shape({1, 8, 8, 0}) ==
        ms::Shape{1, 4, 4, 0});
  CHECK(ms::nn::GlobalAveragePool<float>().output_shape({0, 8, 8, 3}) == ms::Shape{0, 3});
  CHECK(ms::nn::MaxPool2d<float>().multiply_adds({1, 8, 8, 3}) == 0);
}

TEST_CASE("pooling layers: values of a small map, and no gradient where none is wanted") {
  ms::Context ctx;
  const auto x = ms::from_host<float>(ctx, {1, 2, 2, 2}, std::vector<float>{1, 10, 2, 20, 3, 30, 4, 40});
  const auto run = [&](ms::nn::Layer<float>& layer) {
    const auto trace = layer.forward(ctx, x, {});
    CHECK(layer.backward(ctx, x, trace, ms::zeros<float>(ctx, trace.output.shape()), {}).empty());
    return ms::to_host(ctx, trace.output);
  };
  ms::nn::MaxPool2d<float> max;
  ms::nn::AveragePool2d<float> average;
  ms::nn::GlobalAveragePool<float> global;
  CHECK(run(max) == std::vector<float>{4, 40});
  CHECK(run(average) == std::vector<float>{2.5f, 25});
  CHECK(run(global) == std::vector<float>{2.5f, 25});
  // At the corners only one element of four is inside the map.
  ms::nn::AveragePool2d<float> padded({.kernel = 2, .padding = 1});
  CHECK(run(padded) == std::vector<float>{1, 10, 2, 20, 3, 30, 4, 40});
}

TEST_CASE("pooling layers: misfits are told with name, shapes and remedy") {
  ms::nn::Sequential<float> net;
  auto& pool = net.add<ms::nn::MaxPool2d<float>>("pool1");
  auto& global = net.add<ms::nn::GlobalAveragePool<float>>("pool");
  CHECK(message_of<ms::ShapeError>([&] {
          (void)pool.output_shape({2, 1, 4, 3});
        }) ==
        "pool1 (MaxPool2d): the kernel 2x2 spans 2x2, more than the map of 1x4 with padding 0x0; use a smaller kernel, "
        "more padding or a larger map");
  CHECK(message_of<ms::ShapeError>([&] {
          (void)global.output_shape({2, 16});
        }) ==
        "pool (GlobalAveragePool): input of shape (2, 16) is no batch of maps; maps have four axes: (images, rows, "
        "columns, channels)");
  CHECK(message_of<ms::ShapeError>([&] {
          (void)global.output_shape({2, 0, 3, 4});
        }) == "pool (GlobalAveragePool): maps of 0x3 have no mean; got (2, 0, 3, 4)");
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::nn::AveragePool2d<float>({.kernel = 0}); }),
                 "AveragePool2d: the kernel is 0x0"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { ms::nn::MaxPool2d<float>({.kernel = 2, .stride = 0}); }),
                 "MaxPool2d: the stride is 0x0"));
  ms::nn::AveragePool2d<float> padded({.kernel = 2, .padding = 2});
  CHECK(contains(message_of<ms::ShapeError>([&] {
                   (void)padded.output_shape({1, 4, 4, 1});
                 }),
                 "AveragePool2d: a window of 2x2 with padding 2x2"));
}

TEST_SUITE_END();

}  // namespace nn_pooling_test
