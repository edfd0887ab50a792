#include <meristem/core/context.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <type_traits>

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
