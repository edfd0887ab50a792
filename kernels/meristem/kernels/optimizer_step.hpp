// A step of an optimiser that lies ready on the device.
#pragma once

#include <cstddef>
#include <cstdint>

#include <meristem/core/context.hpp>
#include <meristem/core/tensor.hpp>

namespace meristem::kernels {

namespace optimizer_detail {
template <class Step>
class Table;
}

/// A step of all parameters in one launch, as `prepare_sgd` and `prepare_adamw` (kernels/optimizer.cuh) leave it on the
/// device: the pointers and hyper-parameters are there, not in the launch.
class OptimizerStep {
 public:
  /// What a launch is started with; the numbers that it reads may be others.
  struct Launch {
    const std::byte* table = nullptr;
    int entries = 0;
    std::int64_t chunks = 0;
    void (*start)(Context&, const Launch&, const std::int32_t* held) = nullptr;

    friend bool operator==(const Launch&, const Launch&) = default;
  };

  /// Takes the step. Nothing changes where `held`, a number in device memory, is not 0 when the device gets there.
  void start(Context& ctx, const std::int32_t* held = nullptr) const {
    if (launch_.chunks > 0) launch_.start(ctx, launch_, held);
  }

  /// Makes it a step of no parameters.
  void clear() noexcept { launch_ = {}; }

  [[nodiscard]] const Launch& launch() const noexcept { return launch_; }

 private:
  template <class Step>
  friend class optimizer_detail::Table;

  Tensor<std::byte> memory_;
  Launch launch_;
};

}  // namespace meristem::kernels
