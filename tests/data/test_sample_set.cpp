#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/data/sample_set.hpp>
#include <support/check.hpp>

namespace data_sample_set_test {

namespace ms = meristem;
using ms::data::SampleSet;
using support::contains;
using support::message_of;

namespace {

/// Sample i has the inputs 10 i + (0 ... 5) as (2, 3), the label i and the targets (i, -i).
SampleSet<double> numbered(int count) {
  SampleSet<double> set{.inputs = {}, .input = {2, 3}, .target = {2}, .source = "numbered"};
  for (int i = 0; i < count; ++i) {
    for (int k = 0; k < 6; ++k) set.inputs.push_back(10 * i + k);
    set.labels.push_back(i);
    set.targets.push_back(i);
    set.targets.push_back(-i);
  }
  return set;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("sample set: batches hold the samples that were asked for, in the type of the network") {
  ms::Context ctx({.seed = 3});
  const auto set = numbered(5);
  CHECK(set.size() == 5);
  const std::vector<std::int64_t> indices{4, 0, 4};
  const auto batch = set.batch<float>(ctx, indices);
  CHECK(batch.inputs.shape() == ms::Shape{3, 2, 3});
  CHECK(batch.targets.shape() == ms::Shape{3, 2});
  CHECK(ms::to_host(ctx, batch.inputs) ==
        std::vector<float>{40, 41, 42, 43, 44, 45, 0, 1, 2, 3, 4, 5, 40, 41, 42, 43, 44, 45});
  CHECK(ms::to_host(ctx, batch.labels) == std::vector<std::int32_t>{4, 0, 4});
  CHECK(ms::to_host(ctx, batch.targets) == std::vector<float>{4, -4, 0, 0, 4, -4});

  std::multiset<std::int32_t> seen;
  std::vector<std::int64_t> sizes;
  for (const auto& one : set.batches<float>(ctx, 2, {.shuffle = true, .epoch = 1})) {
    sizes.push_back(one.size());
    for (const std::int32_t label : ms::to_host(ctx, one.labels)) seen.insert(label);
  }
  CHECK(sizes == std::vector<std::int64_t>{2, 2, 1});
  CHECK(seen == std::multiset<std::int32_t>{0, 1, 2, 3, 4});
}

TEST_CASE("sample set: a view looks at memory of one's own") {
  ms::Context ctx;
  std::vector<float> inputs{1, 2, 3, 4}, targets{5, 6};
  const ms::data::SampleView<float> view{
      .inputs = inputs, .input = {2}, .labels = {}, .targets = targets, .target = {}};
  CHECK(view.size() == 2);
  inputs[2] = 7;
  const std::vector<std::int64_t> second{1};
  const auto batch = view.batch(ctx, second);
  CHECK(ms::to_host(ctx, batch.inputs) == std::vector<float>{7, 4});
  CHECK(batch.targets.shape() == ms::Shape{1});
  CHECK(batch.labels.empty());
}

TEST_CASE("sample set: subsets and splits") {
  const auto set = numbered(10);
  const std::vector<std::int64_t> indices{3, 1};
  const auto some = set.subset(indices);
  CHECK(some.labels == std::vector<std::int32_t>{3, 1});
  CHECK(some.targets == std::vector<double>{3, -3, 1, -1});
  CHECK(some.inputs[0] == 30);
  const auto [train, test] = set.split(0.7, 5);
  CHECK(train.size() == 7);
  CHECK(test.size() == 3);
  std::set<std::int32_t> all(train.labels.begin(), train.labels.end());
  all.insert(test.labels.begin(), test.labels.end());
  CHECK(all.size() == 10);
  CHECK(set.split(0.7, 5).first.labels == train.labels);
  CHECK(set.split(0.7, 6).first.labels != train.labels);
}

TEST_CASE("sample set: scaling gives every feature mean 0 and deviation 1, but for those that never vary") {
  SampleSet<double> set{.inputs = {1, 1e8, 5, 3, 1e8 + 2, 5}, .input = {3}, .targets = {-1, 3}, .target = {}};
  const auto scaling = set.measure_inputs();
  CHECK(scaling.mean == std::vector<double>{2, 1e8 + 1, 5});
  CHECK(scaling.deviation == std::vector<double>{1, 1, 1});
  set.scale_inputs(scaling);
  CHECK(set.inputs == std::vector<double>{-1, -1, 0, 1, 1, 0});
  set.scale_targets(set.measure_targets());
  CHECK(set.targets == std::vector<double>{-1, 1});
}

TEST_CASE("sample set: what does not fit is told") {
  ms::Context ctx;
  auto set = numbered(4);
  const auto shape_error = [&] { return message_of<ms::ShapeError>([&] { (void)set.size(); }); };
  set.labels.pop_back();
  CHECK(contains(shape_error(), "numbered: there are inputs of 4 samples and labels of 3"));
  set = numbered(4);
  set.targets.pop_back();
  CHECK(contains(shape_error(), "numbered: 7 targets are no whole number of samples of shape (2)"));
  set = numbered(4);
  set.inputs.pop_back();
  CHECK(contains(shape_error(), "23 inputs"));
  set = numbered(4);
  const std::vector<std::int64_t> beyond{4};
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)set.batch<float>(ctx, beyond); }), "no sample 4"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)set.subset(beyond); }), "no sample 4"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)set.split(0.01); }), "empty"));
  CHECK(contains(message_of<ms::ArgumentError>([&] { (void)set.split(std::nan("")); }), "empty"));
  CHECK(contains(message_of<ms::ShapeError>([&] { set.scale_inputs({.mean = {1}, .deviation = {1}}); }), "1 features"));
  CHECK(
      contains(message_of<ms::DataError>([&] { (void)SampleSet<double>{.inputs = {}, .input = {1}}.measure_inputs(); }),
               "no inputs"));
  set.inputs[7] = std::numeric_limits<double>::infinity();
  CHECK(contains(message_of<ms::DataError>([&] { (void)set.measure_inputs(); }), "number 1 of the inputs of sample 1"));
  CHECK(contains(message_of<ms::ArgumentError>([&] {
                   for (const auto& batch : set.batches<double>(ctx, 2, {.augmentation = {.flip = true}})) (void)batch;
                 }),
                 "augmentation is for images"));
  const SampleSet<double> none{.inputs = {}, .input = {1}, .source = "nothing"};
  CHECK(contains(message_of<ms::DataError>([&] { (void)none.batches<double>(ctx, 2); }), "nothing is empty"));
}

TEST_SUITE_END();

}  // namespace data_sample_set_test
