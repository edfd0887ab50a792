#include <meristem/core/tensor.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/memory.hpp>
#include <support/check.hpp>
#include <virtual_gpu/counts.hpp>

namespace core_tensor_test {

namespace {
namespace ms = meristem;
}

TEST_SUITE_BEGIN("unit");

TEST_CASE("tensor: host elements survive the round trip, odd sizes included") {
  ms::Context ctx;
  for (const std::int64_t n : {0, 1, 31, 33, 1000}) {
    const auto values = support::normal_values<float>(n * 3, 1);
    const auto tensor = ms::from_host<float>(ctx, {n, 3}, values);
    CHECK(tensor.shape() == ms::Shape{n, 3});
    CHECK(tensor.size() == n * 3);
    CHECK(tensor.empty() == (n == 0));
    support::check_same_bits(ms::to_host(ctx, tensor), values);
    support::check_same_bits(ms::to_host(ctx, tensor.view()), values);
  }
}

TEST_CASE("tensor: zeros clears memory that held something else") {
  ms::Context ctx;
  for (int repeat = 0; repeat < 2; ++repeat) {
    { const auto used = ms::from_host<double>(ctx, {100}, std::vector<double>(100, 5.0)); }
    const auto tensor = ms::zeros<double>(ctx, {100});
    CHECK(ms::to_host(ctx, tensor) == std::vector<double>(100, 0.0));
  }
  CHECK(ms::zeros<float>(ctx, {3, 0}).empty());
}

TEST_CASE("tensor: a default tensor is empty, one of rank 0 holds a number") {
  ms::Context ctx;
  const ms::Tensor<float> none;
  CHECK(none.empty());
  CHECK(none.data() == nullptr);
  CHECK(ms::to_host(ctx, none).empty());
  const auto number = ms::from_host<float>(ctx, {}, std::vector<float>{2.5f});
  CHECK(number.size() == 1);
  CHECK(ms::to_host(ctx, number) == std::vector<float>{2.5f});
}

TEST_CASE("tensor: sizes that nothing can hold are told, with the shape") {
  ms::Context ctx;
  constexpr std::int64_t big = std::int64_t{1} << 62;
  const auto refused = [&](const ms::Shape& shape) {
    return support::message_of<ms::ShapeError>([&] { ms::Tensor<float>(ctx, shape); });
  };
  CHECK(refused({big}) == "the elements of shape (4611686018427387904), 4 bytes each, exceed 2^63 - 1 bytes");
  CHECK(refused({big / 8, 1, 4, 2}) ==
        "the elements of shape (576460752303423488, 1, 4, 2), 4 bytes each, exceed 2^63 - 1 bytes");
  CHECK(refused({big, big}) ==
        "the number of elements of shape (4611686018427387904, 4611686018427387904) exceeds 2^63 - 1");
  CHECK_THROWS_AS((void)ms::zeros<double>(ctx, {big}), ms::ShapeError);
  CHECK_THROWS_AS((void)ms::from_host<double>(ctx, {big}, std::vector<double>{1.0}), ms::ShapeError);
  CHECK(ms::Tensor<float>(ctx, {big, 0, big}).empty());
}

#if !MERISTEM_ASAN
TEST_CASE("tensor: memory that ran out is told with shape and bytes, and the Context goes on") {
  ms::Context ctx;
  const auto kept = ms::from_host<float>(ctx, {3}, std::vector<float>{1, 2, 3});
  for (const std::int64_t elements : {std::int64_t{1} << 44, std::int64_t{1} << 59, (std::int64_t{1} << 61) - 1}) {
    const auto text = support::message_of<ms::MemoryError>([&] { ms::Tensor<float>(ctx, {elements}); });
    CHECK(support::contains(text, ms::concat("a tensor of shape (", elements, "): memory ran out: ", 4 * elements,
                                             " bytes were asked for, 256 are in use; take smaller batches")));
  }
  CHECK(ctx.memory()->in_use() == 256);
  CHECK(ms::to_host(ctx, kept) == std::vector<float>{1, 2, 3});
  CHECK_NOTHROW((void)ms::zeros<float>(ctx, {1000}));
}
#endif

TEST_CASE("tensor: moves and leaves nothing behind, copies only by name") {
  CHECK_FALSE(std::is_copy_constructible_v<ms::Tensor<float>>);
  CHECK_FALSE(std::is_copy_assignable_v<ms::Tensor<float>>);
  CHECK(std::is_nothrow_move_constructible_v<ms::Allocation>);
  ms::Context ctx;
  const std::vector<float> values{1, 2, 3};
  auto first = ms::from_host<float>(ctx, {3}, values);
  const float* data = first.data();
  ms::Tensor<float> second = std::move(first);
  CHECK(second.data() == data);
  CHECK(first.data() == nullptr);
  ms::Tensor<float> third = ms::zeros<float>(ctx, {1000});
  third = std::move(second);
  CHECK(third.data() == data);
  CHECK(ms::to_host(ctx, third) == values);
  CHECK(ctx.memory()->in_use() == ms::Memory::alignment);
}

TEST_CASE("tensor: clone and copy give equal elements in other memory") {
  ms::Context ctx;
  const auto values = support::normal_values<double>(35, 2);
  const auto tensor = ms::from_host<double>(ctx, {5, 7}, values);
  const auto twin = ms::clone(ctx, tensor);
  CHECK(twin.data() != tensor.data());
  CHECK(twin.shape() == tensor.shape());
  support::check_same_bits(ms::to_host(ctx, twin), values);
  auto target = ms::zeros<double>(ctx, {5, 7});
  ms::copy(ctx, tensor, target.view());
  support::check_same_bits(ms::to_host(ctx, target), values);
  auto rows = ms::zeros<double>(ctx, {2, 7});
  ms::copy(ctx, tensor.view().slice(0, 3, 5), rows.view());
  support::check_same_bits(ms::to_host(ctx, rows), std::vector<double>(values.begin() + 21, values.end()));
}

TEST_CASE("tensor: every misuse is a sentence") {
  ms::Context ctx;
  CHECK(support::message_of<ms::ShapeError>([&] {
          static_cast<void>(ms::from_host<float>(ctx, {2, 3}, std::vector<float>(5)));
        }) == "5 elements were given for a tensor of shape (2, 3), which holds 6");
  auto tensor = ms::zeros<float>(ctx, {4, 3});
  auto other = ms::zeros<float>(ctx, {3, 4});
  CHECK(support::message_of<ms::ShapeError>([&] { ms::copy(ctx, tensor, other.view()); }) ==
        "cannot copy (4, 3) to (3, 4)");
  const auto part = tensor.view().slice(1, 0, 2);
  CHECK(support::message_of<ms::ShapeError>([&] { static_cast<void>(ms::to_host(ctx, part)); }) ==
        "to_host needs contiguous elements; the view of shape (4, 2) is strided");
  CHECK(support::message_of<ms::ShapeError>([&] { ms::copy(ctx, part, part); }) ==
        "copy needs contiguous views; got shape (4, 2) with gaps");
}

#if MERISTEM_GPU
TEST_CASE("tensor: elements in pageable memory are not waited for, those in pinned memory are") {
  if (!virtual_gpu_counts) {
    MESSAGE("not counted: only the virtual GPU counts");
    return;
  }
  ms::Context ctx;
  const auto waits_for = [&](std::span<const float> elements) {
    const std::uint64_t before = virtual_gpu_counts().synchronizations;
    const auto tensor = ms::from_host<float>(ctx, {std::ssize(elements)}, elements);
    const std::uint64_t waits = virtual_gpu_counts().synchronizations - before;
    CHECK(ms::to_host(ctx, tensor) == std::vector<float>(elements.begin(), elements.end()));
    return waits;
  };
  const std::vector<float> pageable{1, 2, 3};
  CHECK(waits_for(pageable) == 0);
  float* pinned = nullptr;
  ms::check_cuda(cudaMallocHost(reinterpret_cast<void**>(&pinned), 3 * sizeof(float)), "cudaMallocHost");
  std::copy(pageable.begin(), pageable.end(), pinned);
  CHECK(waits_for(std::span<const float>(pinned, 3)) == 1);
  cudaFreeHost(pinned);
}
#endif

TEST_CASE("memory: counts what is in use and the peak, in blocks of the alignment") {
  ms::Context ctx;
  ms::Memory& memory = *ctx.memory();
  const std::size_t block = ms::Memory::alignment;
  CHECK(memory.in_use() == 0);
  {
    const ms::Tensor<float> one(ctx, {1});
    CHECK(memory.in_use() == block);
    CHECK(reinterpret_cast<std::uintptr_t>(one.data()) % block == 0);
    const ms::Tensor<unsigned char> exact(ctx, {static_cast<std::int64_t>(block)});
    CHECK(memory.in_use() == 2 * block);
    const ms::Tensor<unsigned char> above(ctx, {static_cast<std::int64_t>(block) + 1});
    CHECK(memory.in_use() == 4 * block);
    const ms::Tensor<float> none(ctx, {0, 9});
    CHECK(memory.in_use() == 4 * block);
  }
  CHECK(memory.in_use() == 0);
  CHECK(memory.peak() == 4 * block);
  memory.reset_peak();
  CHECK(memory.peak() == 0);
}

TEST_CASE("memory: blocks in use never overlap while others come and go") {
  ms::Context ctx;
  std::vector<ms::Tensor<float>> tensors;
  for (int i = 0; i < 200; ++i) {
    const std::int64_t size = 1 + (i * 37) % 300;
    tensors.push_back(ms::from_host<float>(ctx, {size}, std::vector<float>(std::size_t(size), float(i))));
    if (i % 3 == 2) tensors.erase(tensors.begin() + (i * 7) % std::int64_t(tensors.size()));
  }
  for (const auto& tensor : tensors) {
    const auto values = ms::to_host(ctx, tensor);
    for (const float value : values) REQUIRE(value == values[0]);
  }
  for (std::size_t i = 1; i < tensors.size(); ++i) {
    CHECK(ms::to_host(ctx, tensors[i - 1])[0] < ms::to_host(ctx, tensors[i])[0]);
  }
}

namespace {

/// Sets MERISTEM_MEMORY_CACHE, and puts back what it was.
class CacheSetting {
 public:
  explicit CacheSetting(const char* value) {
    if (const char* const old = std::getenv(name)) old_ = old;
    ::setenv(name, value, 1);
  }
  ~CacheSetting() { old_ ? ::setenv(name, old_->c_str(), 1) : ::unsetenv(name); }
  CacheSetting(const CacheSetting&) = delete;
  CacheSetting& operator=(const CacheSetting&) = delete;

 private:
  static constexpr const char* name = "MERISTEM_MEMORY_CACHE";
  std::optional<std::string> old_;
};

/// Addresses of four tensors, some of which live at the same time.
std::set<const float*> addresses(ms::Context& ctx) {
  const ms::Tensor<float> a(ctx, {1000});
  std::set<const float*> result{a.data()};
  {
    const ms::Tensor<float> b(ctx, {3000}), c(ctx, {1000});
    result.insert({b.data(), c.data()});
  }
  const ms::Tensor<float> d(ctx, {2000});
  result.insert(d.data());
  return result;
}

std::uint64_t allocations_so_far() { return virtual_gpu_counts ? virtual_gpu_counts().allocations : 0; }

}  // namespace

TEST_CASE("memory: work that repeats itself is handed the same blocks again") {
  const CacheSetting setting("1");
  ms::Context ctx;
  const std::uint64_t before = allocations_so_far();
  const auto first = addresses(ctx);
  CHECK(first.size() == 4);
  if (MERISTEM_ASAN == 0) CHECK(addresses(ctx) == first);
  CHECK(ctx.memory()->in_use() == 0);
  if (virtual_gpu_counts) CHECK(allocations_so_far() - before == 4);
}

TEST_CASE("memory: without its cache each block is asked for by itself") {
  const CacheSetting setting("0");
  ms::Context ctx;
  const std::uint64_t before = allocations_so_far();
  (void)addresses(ctx);
  (void)addresses(ctx);
  CHECK(ctx.memory()->in_use() == 0);
  if (virtual_gpu_counts) CHECK(allocations_so_far() - before == 8);
}

TEST_CASE("memory: a tensor may outlive its context") {
  ms::Tensor<double> survivor;
  std::weak_ptr<ms::Memory> memory;
  {
    ms::Context ctx;
    survivor = ms::from_host<double>(ctx, {3}, std::vector<double>{1, 2, 3});
    memory = ctx.memory();
  }
  CHECK_FALSE(memory.expired());
  ms::Context later;
  CHECK(ms::to_host(later, survivor) == std::vector<double>{1, 2, 3});
  survivor = ms::Tensor<double>();
  CHECK(memory.expired());
}

TEST_SUITE_END();

}  // namespace core_tensor_test
