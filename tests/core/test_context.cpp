#include <meristem/core/context.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <meristem/core/blas.hpp>
#include <meristem/core/lapack.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/linear.hpp>

#include <support/check.hpp>

namespace core_context_test {

namespace {
namespace ms = meristem;
}

TEST_SUITE_BEGIN("unit");

TEST_CASE("context: keeps its options and stays where it is") {
  CHECK_FALSE(std::is_copy_constructible_v<ms::Context>);
  CHECK_FALSE(std::is_move_constructible_v<ms::Context>);
  ms::ContextOptions options;
  options.seed = 42;
  options.numerics.matmul = ms::MatmulPrecision::tf32;
  const ms::Context ctx(options);
  CHECK(ctx.seed() == 42);
  CHECK(ctx.options().numerics.matmul == ms::MatmulPrecision::tf32);
  CHECK(ctx.options().device == 0);
  CHECK_NOTHROW(ctx.synchronize());
}

TEST_CASE("context: float32 products are computed in full precision unless asked otherwise") {
  const ms::Context ctx;
  CHECK(ctx.seed() == 0);
  CHECK(ctx.options().numerics.matmul == ms::MatmulPrecision::full);
  CHECK_FALSE(ctx.executor().gpu_blocks);
}

TEST_CASE("context: TF32 is for dense layers, and products that do not ask for it are exact") {
  ms::ContextOptions options;
  options.numerics.matmul = ms::MatmulPrecision::tf32;
  ms::Context ctx(options);
  // 1 + 2^-12 has more than ten bits.
  const float x = 1.0f + 0x1p-12f;
  const auto a = ms::from_host<float>(ctx, {1, 1}, std::vector<float>{x});
  const auto b = ms::from_host<float>(ctx, {1, 1}, std::vector<float>{2.0f});
  const auto product = [&](auto... precision) {
    auto c = ms::zeros<float>(ctx, {1, 1});
    ms::gemm<float>(ctx, ms::Transpose::no, ms::Transpose::no, 1.0f, a.view(), b.view(), 0.0f, c.view(), precision...);
    return ms::to_host(ctx, c)[0];
  };
  CHECK(product(ms::MatmulPrecision::tf32) == (MERISTEM_GPU ? 2.0f : 2.0f * x));
  CHECK(product() == 2.0f * x);
  ms::nn::Linear<float> layer(ctx, 1, 1, {.bias = false});
  layer.weight().value = ms::from_host<float>(ctx, {1, 1}, std::vector<float>{2.0f});
  const auto trace = layer.forward(ctx, a, {});
  CHECK(ms::to_host(ctx, trace.output)[0] == (MERISTEM_GPU ? 2.0f : 2.0f * x));
}

TEST_CASE("context: memory that lies idle goes back") {
  ms::Context ctx;
  { const auto tensor = ms::zeros<float>(ctx, {1000}); }
  const auto kept = ms::from_host<float>(ctx, {2}, std::vector<float>{1, 2});
  const auto in_use = ctx.memory()->in_use();
  ctx.memory()->trim();
  CHECK(ctx.memory()->in_use() == in_use);
  CHECK(ms::to_host(ctx, kept) == std::vector<float>{1, 2});
  CHECK(ms::to_host(ctx, ms::zeros<float>(ctx, {1000})) == std::vector<float>(1000));
}

TEST_CASE("context: random streams are handed out in order and can be restored") {
  ms::Context ctx;
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 5; ++i) CHECK(seen.insert(ctx.next_random_stream()).second);
  CHECK(ctx.random_streams() == 5);
  const auto next = ctx.next_random_stream();
  ctx.set_random_streams(5);
  CHECK(ctx.next_random_stream() == next);
}

TEST_CASE("context: the executor can be changed later") {
  ms::Context ctx;
  ms::ExecutorOptions executor;
  executor.gpu_blocks = true;
  executor.order = ms::ThreadOrder::shuffled;
  executor.order_seed = 9;
  ctx.set_executor(executor);
  CHECK(ctx.executor().gpu_blocks);
  CHECK(ctx.executor().order == ms::ThreadOrder::shuffled);
  CHECK(ctx.executor().order_seed == 9);
}

#if !MERISTEM_GPU
TEST_CASE("context: the CPU is device 0, with as many threads as asked for") {
  ms::ContextOptions options;
  options.executor.threads = 3;
#if defined(_OPENMP)
  CHECK(ms::Context(options).threads() == 3);
  CHECK(ms::Context(options).device_name() == "CPU, 3 threads");
#endif
  CHECK(ms::Context().threads() >= 1);
  options.executor.threads = -1;
  CHECK(support::message_of<ms::ArgumentError>([&] { ms::Context ctx(options); }) ==
        "executor.threads is -1; it is 0 (all) or more");
  options.executor.threads = 0;
  options.device = 1;
  CHECK(support::message_of<ms::ArgumentError>([&] { ms::Context ctx(options); }) ==
        "device 1 does not exist: this program was compiled for the CPU, which is device 0; compile it with nvcc to "
        "use a GPU");
}
#else
TEST_CASE("context: a GPU that does not exist is refused, the first one named") {
  ms::ContextOptions options;
  options.device = 1000;
  CHECK(support::contains(support::message_of<ms::ArgumentError>([&] { ms::Context ctx(options); }),
                          "device 1000 does not exist; this machine has "));
  CHECK(support::contains(ms::Context().device_name(), "GPU 0: "));
}

TEST_CASE("context: its device is the calling thread's, whatever the thread and whichever was before") {
  int devices = 0;
  ms::check_cuda(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
  const auto use = [](ms::Context& ctx) {
    const auto a = ms::from_host<double>(ctx, {2, 2}, std::vector<double>{4, 1, 1, 3});
    auto c = ms::zeros<double>(ctx, {2, 2});
    ms::gemm<double>(ctx, ms::Transpose::no, ms::Transpose::no, 1.0, a.view(), a.view(), 0.0, c.view());
    ms::kernels::scale(ctx, 2.0, c.view());
    CHECK(ms::to_host(ctx, c) == std::vector<double>{34, 14, 14, 20});
    auto factor = ms::clone(ctx, a);
    CHECK(ms::try_potrf<double>(ctx, ms::Triangle::lower, factor.view()) == 0);
    int device = -1;
    ms::check_cuda(cudaGetDevice(&device), "cudaGetDevice");
    CHECK(device == ctx.options().device);
  };
  ms::ContextOptions last;
  last.device = devices - 1;
  ms::Context first, second(last);
  for (int i = 0; i < 2; ++i) {
    use(first);
    use(second);
  }
  std::thread([&] { use(second); }).join();
  use(first);
}
#endif

TEST_CASE("error: what() is the message and the line that threw it") {
  const ms::SolverError error("the sentence");
  CHECK(error.message() == "the sentence");
  CHECK(support::contains(error.what(), "the sentence ["));
  CHECK(support::contains(error.what(), "test_context.cpp:"));
  CHECK(error.where().line > 0);
}

TEST_SUITE_END();

}  // namespace core_context_test
