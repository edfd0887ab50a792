#include <meristem/core/arrival.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <support/check.hpp>

namespace core_arrival_test {

namespace {

using namespace meristem;  // for threadIdx
namespace ms = meristem;

/// sums[group] = Σ over the group's blocks and threads of (block + 1) (thread + 1), by the group's last block.
template <class T>
__global__ void sum_by_last_block(T* parts, unsigned* arrivals, T* sums) {
  T* const of_group = parts + blockIdx.y * gridDim.x * blockDim.x;
  of_group[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<T>((blockIdx.x + 1) * (threadIdx.x + 1));
  if (!ms::last_to_arrive(arrivals + blockIdx.y, gridDim.x) || threadIdx.x != 0) return;
  T sum = T(0);
  for (unsigned i = 0; i < gridDim.x * blockDim.x; ++i) sum += of_group[i];
  sums[blockIdx.y] += sum;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("arrival: the last block of each group sees what all wrote, launch after launch") {
  support::for_every_executor([](ms::Context& ctx) {
    for (const unsigned blocks : {1u, 2u, 37u}) {
      for (const unsigned groups : {1u, 3u, 70u}) {
        for (const unsigned threads : {1u, 33u}) {
          CAPTURE(blocks);
          CAPTURE(groups);
          CAPTURE(threads);
          ms::Tensor<double> parts(ctx, {groups, blocks, threads});
          auto sums = ms::zeros<double>(ctx, {groups});
          for (int repetition = 0; repetition < 2; ++repetition) {
            ms::launch<sum_by_last_block<double>>(ctx, ms::dim3(blocks, groups), threads, 0, parts.data(),
                                                  ctx.arrivals(groups), sums.data());
          }
          const double once = blocks * (blocks + 1) / 2.0 * threads * (threads + 1) / 2.0;
          CHECK(ms::to_host(ctx, sums) == std::vector<double>(groups, 2 * once));
        }
      }
    }
  });
}

TEST_SUITE_END();

}  // namespace core_arrival_test
