// How close to the machine's GEMM rate are convolutions and their gradients, one by one and all those of ResNet-18?
//
// Rows: what is computed, the path, and the shape: batch, height = width of the input, channels in and out, kernel,
// stride; padding kernel/2. Operations are 2·n·OH·OW·out·ky·kx·in, products with padding included; bytes the two maps
// and the weight.
// `resnet18` is every convolution of the CIFAR ResNet-18 (strided 3×3, 1×1 shortcuts) at a width for its first stage:
// forward and both gradients, without the gradient at the images; `scratch_MB` is the peak memory beyond its tensors.
// On the CPU the implicit GEMM kernels are for tests only and are not measured.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include <meristem/kernels/conv2d.cuh>

#include "main.hpp"

namespace {

namespace ms = meristem;
namespace mk = meristem::kernels;
using bench::context;
using bench::normal_matrix;

enum class Pass { forward, data, weights };

struct Convolution {
  Convolution(std::int64_t n, std::int64_t map, std::int64_t in, std::int64_t out, std::int64_t kernel,
              std::int64_t stride)
      : window{kernel, stride, kernel / 2, 1} {
    ms::Context& ctx = context();
    const std::int64_t output = window.output(map).x;
    x = normal_matrix({n, map, map, in}, 1);
    weight = normal_matrix({out, kernel, kernel, in}, 2);
    y = normal_matrix({n, output, output, out}, 3);
    dx = ms::empty<float>(ctx, x.shape());
    dweight = ms::empty<float>(ctx, weight.shape());
    work = {2.0 * static_cast<double>(y.size() * kernel * kernel * in), bench::bytes_of(x, weight, y)};
  }

  void run(Pass pass, mk::ConvPath path) {
    ms::Context& ctx = context();
    if (pass == Pass::forward) mk::conv2d_forward<float>(ctx, x, weight, {}, window, y, path);
    if (pass == Pass::data) mk::conv2d_backward_data<float>(ctx, y, weight, window, dx, path);
    if (pass == Pass::weights) {
      mk::conv2d_backward_weights<float>(ctx, x, y, window, mk::Accumulate::overwrite, dweight, path);
    }
  }

  ms::Window window;
  ms::Tensor<float> x, weight, y, dx, dweight;
  bench::Work work;
};

void conv2d(benchmark::State& state, Pass pass, mk::ConvPath path) {
  Convolution convolution(state.range(0), state.range(1), state.range(2), state.range(3), state.range(4),
                          state.range(5));
  bench::measure(state, convolution.work, [&] { convolution.run(pass, path); });
}

void resnet18(benchmark::State& state, mk::ConvPath path) {
  const std::int64_t n = state.range(0), width = state.range(1);
  std::vector<Convolution> convolutions;
  convolutions.emplace_back(n, 32, 3, width, 3, 1);
  for (int i = 0; i < 4; ++i) convolutions.emplace_back(n, 32, width, width, 3, 1);
  for (std::int64_t stage = 1; stage < 4; ++stage) {
    const std::int64_t in = width << (stage - 1), out = width << stage, map = 32 >> (stage - 1);
    convolutions.emplace_back(n, map, in, out, 3, 2);
    convolutions.emplace_back(n, map, in, out, 1, 2);
    for (int i = 0; i < 3; ++i) convolutions.emplace_back(n, map / 2, out, out, 3, 1);
  }
  bench::Work work;
  for (const Convolution& convolution : convolutions) {
    const int passes = &convolution == &convolutions[0] ? 2 : 3;
    work.operations += passes * convolution.work.operations;
    work.bytes += passes * convolution.work.bytes;
  }
  bench::flush_caches();
  ms::Memory& memory = *context().memory();
  memory.reset_peak();
  const std::size_t before = memory.in_use();
  bench::measure(state, work, [&] {
    for (Convolution& convolution : convolutions) convolution.run(Pass::forward, path);
    for (std::size_t i = convolutions.size(); i-- > 0;) {
      convolutions[i].run(Pass::weights, path);
      if (i > 0) convolutions[i].run(Pass::data, path);
    }
  });
  state.counters["scratch_MB"] = static_cast<double>(memory.peak() - before) * 1e-6;
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->Apply(bench::rows)->ArgNames({"n", "map", "in", "out", "k", "s"});
  bench->Args({128, 32, 3, 16, 3, 1})->Args({128, 32, 3, 64, 3, 1});
  for (const std::int64_t width : {1, 4, 16, 64}) {
    for (std::int64_t stage = 0; stage < 4; ++stage) {
      bench->Args({128, 32 >> stage, width << stage, width << stage, 3, 1});
    }
  }
  bench->Args({128, 32, 16, 32, 3, 2})->Args({128, 32, 64, 128, 3, 2});
  bench->Args({128, 32, 16, 32, 1, 2})->Args({128, 32, 64, 128, 1, 2})->Args({128, 32, 64, 64, 1, 1});
}

void widths(benchmark::internal::Benchmark* bench) {
  bench->Apply(bench::rows)->ArgNames({"n", "width"});
  for (const std::int64_t width : {1, 4, 16, 64}) bench->Args({128, width});
}

BENCHMARK_CAPTURE(conv2d, forward_blas, Pass::forward, mk::ConvPath::blas)->Apply(shapes);
BENCHMARK_CAPTURE(conv2d, data_blas, Pass::data, mk::ConvPath::blas)->Apply(shapes);
BENCHMARK_CAPTURE(conv2d, weights_blas, Pass::weights, mk::ConvPath::blas)->Apply(shapes);
BENCHMARK_CAPTURE(resnet18, blas, mk::ConvPath::blas)->Apply(widths);
#if MERISTEM_GPU
BENCHMARK_CAPTURE(conv2d, forward_kernel, Pass::forward, mk::ConvPath::kernel)->Apply(shapes);
BENCHMARK_CAPTURE(conv2d, data_kernel, Pass::data, mk::ConvPath::kernel)->Apply(shapes);
BENCHMARK_CAPTURE(conv2d, weights_kernel, Pass::weights, mk::ConvPath::kernel)->Apply(shapes);
BENCHMARK_CAPTURE(resnet18, kernel, mk::ConvPath::kernel)->Apply(widths);
#endif

}  // namespace
