// A layer with kernels of its own: y = x / (1 + exp(-beta x)), elementwise, with a learned beta
// (P. Ramachandran, B. Zoph, Q. Le, "Searching for activation functions", 2017).
//
// With s = 1 / (1 + exp(-beta x)):  dy/dx = s + beta x s (1 - s),  dy/dbeta = x² s (1 - s).
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/nn/layer.hpp>

// Kernels need the library's namespace (or a using-directive for it), which keeps the two executors apart as well.
namespace meristem {
inline namespace MERISTEM_BACKEND {
namespace own_kernel {

/// y = x s, n elements, any grid.
template <class T>
__global__ void swish_forward(const T* x, const T* beta, T* y, std::int64_t n) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += threads) {
    y[i] = x[i] / (T(1) + std::exp(-beta[0] * x[i]));
  }
}

inline constexpr unsigned max_threads = 256;
inline constexpr std::int64_t chunk = 4096;  // elements of one block

/// dx = dy (s + beta x s (1 - s)), which may be dy; partial[block] = sum of dy x² s (1 - s) over the block's chunk, in
/// an order that depends on nothing but the block size. Any block size up to max_threads, one thread included.
template <class T>
__global__ void swish_backward(const T* x, const T* beta, const T* dy, T* dx, double* partial, std::int64_t n) {
  MERISTEM_SHARED(double, sums, [max_threads]);
  const std::int64_t begin = blockIdx.x * chunk;
  const std::int64_t end = begin + chunk < n ? begin + chunk : n;
  double sum = 0;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const T s = T(1) / (T(1) + std::exp(-beta[0] * x[i]));
    const T bend = x[i] * s * (T(1) - s), upstream = dy[i];
    sum += static_cast<double>(upstream * x[i] * bend);
    dx[i] = upstream * (s + beta[0] * bend);
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned step = 1; step < blockDim.x; step *= 2) {
    if (threadIdx.x % (2 * step) == 0 && threadIdx.x + step < blockDim.x) {
      sums[threadIdx.x] += sums[threadIdx.x + step];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}

/// gradient = sum of the partial sums, or gradient += that.
template <class T>
__global__ void swish_beta(const double* partial, unsigned blocks, bool accumulate, T* gradient) {
  double sum = accumulate ? static_cast<double>(gradient[0]) : 0;
  for (unsigned b = 0; b < blocks; ++b) sum += partial[b];
  gradient[0] = static_cast<T>(sum);
}

template <Real T>
class Swish final : public nn::Layer<T> {
 public:
  explicit Swish(Context& ctx, double beta = 1.0) : beta_(ctx, "beta", {1}, false) {
    beta_.value = from_host<T>(ctx, {1}, {static_cast<T>(beta)});
  }

  [[nodiscard]] std::string_view kind() const override { return "Swish"; }
  [[nodiscard]] Shape output_shape(const Shape& input) const override { return input; }
  [[nodiscard]] nn::Parameter<T>& beta() noexcept { return beta_; }

 private:
  /// s is 1/2 at 0, whatever beta. That is all growth has to know to grow the layers on both sides.
  void describe(nn::Description<T>& description) override {
    description.elementwise(0.5);
    description.parameter(beta_);
  }

  [[nodiscard]] nn::Trace<T> do_forward(Context& ctx, View<const T> input, const nn::Pass<T>&) override {
    nn::Trace<T> trace;
    trace.storage = Tensor<T>(ctx, input.shape());
    const unsigned threads = block_threads(ctx, max_threads);
    launch<swish_forward<T>>(ctx, blocks_for(input.size(), chunk), threads, 0, input.data_handle(),
                             std::as_const(beta_.value).data(), trace.storage.data(), input.size());
    trace.output = trace.storage.view();
    return trace;
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const nn::Trace<T>&, Tensor<T> output_gradient,
                                      const nn::Pass<T>& pass) override {
    const unsigned blocks = blocks_for(input.size(), chunk);
    Tensor<double> partial(ctx, {blocks});
    launch<swish_backward<T>>(ctx, blocks, block_threads(ctx, max_threads), 0, input.data_handle(),
                              std::as_const(beta_.value).data(), std::as_const(output_gradient).data(),
                              output_gradient.data(), partial.data(), input.size());
    if (pass.gradients != nn::GradientMode::ignore) {
      launch<swish_beta<T>>(ctx, 1, 1, 0, std::as_const(partial).data(), blocks,
                            pass.gradients == nn::GradientMode::accumulate, beta_.gradient.data());
    }
    if (!pass.input_gradient) return {};
    return output_gradient;
  }

  nn::Parameter<T> beta_;
};

}  // namespace own_kernel
}  // namespace MERISTEM_BACKEND
}  // namespace meristem
