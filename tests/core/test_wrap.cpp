#include <meristem/core/wrap.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/blas.hpp>
#include <support/check.hpp>

namespace core_wrap_test {

namespace {

namespace ms = meristem;

/// Memory of the device that the library did not allocate, with a count of how often it was given back.
struct WrapForeign {
  double* data = nullptr;
  int freed = 0;

  explicit WrapForeign(const std::vector<double>& values) {
    const std::size_t bytes = values.size() * sizeof(double);
#if MERISTEM_GPU
    ms::check_cuda(cudaMalloc(reinterpret_cast<void**>(&data), bytes), "cudaMalloc");
    ms::check_cuda(cudaMemcpy(data, values.data(), bytes, cudaMemcpyDefault), "cudaMemcpy");
    // A copy from pageable memory may return before it has arrived.
    ms::check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
#else
    data = static_cast<double*>(std::malloc(bytes));
    std::memcpy(data, values.data(), bytes);
#endif
  }
  void free() {
    ++freed;
#if MERISTEM_GPU
    cudaFree(data);
#else
    std::free(data);
#endif
  }
  std::shared_ptr<void> owner() {
    return {data, [this](void*) { free(); }};
  }
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("wrap: a view of memory from elsewhere is read and written in place") {
  ms::Context ctx;
  WrapForeign foreign({1, 2, 3, 4, 5, 6});
  const auto view = ms::wrap(ctx, foreign.data, {2, 3});
  const auto constant = ms::wrap<const double>(ctx, foreign.data, {2, 3});
  CHECK(view.data_handle() == foreign.data);
  auto product = ms::zeros<double>(ctx, {2, 2});
  ms::gemm(ctx, ms::Transpose::no, ms::Transpose::yes, 1, constant, constant, 0, product.view());
  CHECK(ms::to_host(ctx, product) == std::vector<double>{14, 32, 32, 77});
  ms::copy(ctx, product.view(), ms::wrap(ctx, foreign.data + 2, {2, 2}));
  CHECK(ms::to_host(ctx, view) == std::vector<double>{1, 2, 14, 32, 32, 77});
  foreign.free();
}

TEST_CASE("wrap: every misuse is a sentence, and nothing is read") {
  ms::Context ctx;
  CHECK(ms::wrap<float>(ctx, nullptr, {3, 0}).empty());
  CHECK(support::message_of<ms::ShapeError>([&] {
          static_cast<void>(ms::wrap<float>(ctx, nullptr, {2, 3}));
        }) == "a view of shape (2, 3) needs data, but the pointer is null");
  constexpr std::int64_t big = std::int64_t{1} << 60;
  alignas(8) double number = 0.0;
  CHECK(support::message_of<ms::ShapeError>([&] { static_cast<void>(ms::wrap(ctx, &number, {big})); }) ==
        "the elements of shape (1152921504606846976), 8 bytes each, exceed 2^63 - 1 bytes");
  CHECK_THROWS_AS(static_cast<void>(ms::wrap(ctx, &number, {big, big, big})), ms::ShapeError);
  CHECK(support::contains(support::message_of<ms::ShapeError>([&] {
                            static_cast<void>(ms::wrap(ctx, reinterpret_cast<double*>(UINTPTR_MAX - 15), {3}));
                          }),
                          "ends beyond the last address; its shape or its pointer is wrong"));
  // Addresses where there is nothing: looking at them would end the program.
  const std::string misaligned = support::message_of<ms::ArgumentError>([&] {
    static_cast<void>(ms::wrap(ctx, reinterpret_cast<const double*>(std::uintptr_t{12}), {2, 3}));
  });
  CHECK(misaligned ==
        "a view of shape (2, 3) of elements of 8 bytes starts at address 0xc, which is not a multiple of 8; copy the "
        "elements to aligned memory first");
  CHECK(support::message_of<ms::ArgumentError>([&] {
          static_cast<void>(ms::adopt(ctx, std::make_shared<int>(0), reinterpret_cast<float*>(std::uintptr_t{6}), {1}));
        }).find("0x6, which is not a multiple of 4") != std::string::npos);
  CHECK_THROWS_AS(static_cast<void>(ms::adopt<float>(ctx, std::make_shared<int>(0), nullptr, {1})), ms::ShapeError);
  // 2^61 times 8 bytes wrap around to none; 2^59 of them end beyond the last address.
  for (const int power : {61, 59}) {
    const ms::Shape shape = {std::int64_t{1} << power};
    const auto at = reinterpret_cast<double*>(~std::uintptr_t{7} - (std::uintptr_t{1} << 61));
    const auto message = support::message_of<ms::ShapeError>([&] { static_cast<void>(ms::wrap(ctx, at, shape)); });
    CHECK(message.find(power == 61 ? "8 bytes each, exceed 2^63 - 1 bytes" : "ends beyond the last address") !=
          std::string::npos);
    CHECK_THROWS_AS(static_cast<void>(ms::adopt(ctx, std::make_shared<int>(0), at, shape)), ms::ShapeError);
  }
  WrapForeign foreign({1, 2, 3, 4, 5, 6});
  CHECK(
      support::message_of<ms::ArgumentError>([&] { static_cast<void>(ms::adopt(ctx, nullptr, foreign.data, {6})); }) ==
      "a tensor of shape (6) cannot share memory that has no owner; use wrap for a view of memory that you keep alive "
      "yourself");
  foreign.free();
}

TEST_CASE("wrap: a tensor that adopts memory lets its owner go once, with the tensor") {
  ms::Context ctx;
  const std::size_t before = ctx.memory()->in_use();
  WrapForeign foreign({1, 2, 3, 4, 5, 6});
  {
    auto tensor = ms::adopt(ctx, foreign.owner(), foreign.data, {2, 3});
    CHECK(tensor.data() == foreign.data);
    CHECK(ctx.memory()->in_use() == before);
    auto moved = std::move(tensor).reshape({6});
    CHECK(moved.data() == foreign.data);
    CHECK(tensor.empty());
    CHECK(ms::to_host(ctx, moved) == std::vector<double>{1, 2, 3, 4, 5, 6});
    const auto cloned = ms::clone(ctx, moved);
    CHECK(cloned.data() != foreign.data);
    CHECK(foreign.freed == 0);
  }
  CHECK(foreign.freed == 1);
  CHECK(ctx.memory()->in_use() == before);

  WrapForeign first({1, 2}), second({3, 4});
  auto tensor = ms::adopt(ctx, first.owner(), first.data, {2});
  tensor = ms::adopt(ctx, second.owner(), second.data, {2});
  CHECK(first.freed == 1);
  CHECK(second.freed == 0);
  tensor = ms::zeros<double>(ctx, {2});
  CHECK(second.freed == 1);
  CHECK(ms::to_host(ctx, tensor) == std::vector<double>{0, 0});
  tensor = {};
  CHECK(ctx.memory()->in_use() == before);

  auto shared = std::make_shared<std::vector<double>>(3, 1.0);
  CHECK(ms::adopt<double>(ctx, shared, nullptr, {0}).empty());
  CHECK(shared.use_count() == 1);
}

TEST_CASE("wrap: a tensor that adopts memory may outlive its context") {
  WrapForeign foreign({1, 2});
  {
    ms::Tensor<double> tensor;
    {
      ms::Context ctx;
      tensor = ms::adopt(ctx, foreign.owner(), foreign.data, {2});
    }
    CHECK(foreign.freed == 0);
    CHECK(tensor.size() == 2);
  }
  CHECK(foreign.freed == 1);
}

#if MERISTEM_GPU
TEST_CASE("wrap: memory of the host is refused on the GPU, managed and pinned memory taken") {
  ms::Context ctx;
  std::vector<float> host(6, 1.0f);
  const std::string message = support::message_of<ms::ArgumentError>([&] {
    static_cast<void>(ms::wrap(ctx, host.data(), {2, 3}));
  });
  CHECK(message.find("which is memory of the host, and GPU 0 cannot read it; copy the elements by from_host") !=
        std::string::npos);
  float* data = nullptr;
  ms::check_cuda(cudaMallocManaged(reinterpret_cast<void**>(&data), 6 * sizeof(float)), "cudaMallocManaged");
  CHECK(ms::wrap(ctx, data, {2, 3}).data_handle() == data);
  cudaFree(data);
  ms::check_cuda(cudaMallocHost(reinterpret_cast<void**>(&data), 6 * sizeof(float)), "cudaMallocHost");
  CHECK(ms::wrap(ctx, data, {2, 3}).data_handle() == data);
  cudaFreeHost(data);
}

TEST_CASE("context: runs on the caller's stream and leaves it alive") {
  cudaStream_t stream = nullptr;
  ms::check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  {
    ms::ContextOptions options;
    options.stream = stream;
    ms::Context ctx(options);
    CHECK(ctx.stream() == stream);
    // Ordered by the stream alone: the caller's copy, our kernel, the caller's copy back.
    const std::vector<float> values{1, 2, 3, 4};
    std::vector<float> result(4);
    auto x = ms::empty<float>(ctx, {2, 2});
    auto y = ms::empty<float>(ctx, {2, 2});
    cudaMemcpyAsync(x.data(), values.data(), 16, cudaMemcpyDefault, stream);
    ms::gemm(ctx, ms::Transpose::no, ms::Transpose::no, 1, x, x, 0, y.view());
    cudaMemcpyAsync(result.data(), y.data(), 16, cudaMemcpyDefault, stream);
    ms::check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    CHECK(result == std::vector<float>{7, 10, 15, 22});
  }
  CHECK(cudaStreamQuery(stream) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
}
#endif

TEST_SUITE_END();

}  // namespace core_wrap_test
