// CUDA graphs: work that is recorded once and repeated as a whole.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/memory.hpp>

#if MERISTEM_GPU

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// Kernels, copies and library calls of a Context, recorded to be started together by one call. Whatever they read or
/// write must live as long; what the host computed for them is what it was.
class Graph {
 public:
  /// Records what `work()` starts; nothing runs. `work` takes its memory from `arena`, where it found all it needs
  /// before, and gives all back. Its random streams are numbered from where the Context is; kernels add the number at
  /// `random_shift`, in device memory (Context::next_shifted_random_stream). Throws ArgumentError, MemoryError,
  /// CudaError or what `work` threw if it cannot be recorded; the Context's random streams are as before then.
  template <class Work>
  Graph(Context& ctx, Memory::Arena& arena, const std::uint64_t* random_shift, Work&& work)
      : first_random_stream_(ctx.random_streams()) {
    const Recording recording(ctx, random_shift);
    const cudaStream_t stream = ctx.stream();
    std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DestroyRecorded> graph;
    const auto end = [&] {
      cudaGraph_t recorded = nullptr;
      const cudaError_t status = cudaStreamEndCapture(stream, &recorded);
      graph.reset(recorded);
      return status;
    };
    try {
      const std::size_t kept = arena.run(false, [&] {
        check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
        try {
          work();
        } catch (...) {
          end();
          cudaGetLastError();  // or the next launch would report it again
          throw;
        }
        check_cuda(end(), "cudaStreamEndCapture");
      });
      if (kept > 0) {
        throw ArgumentError("work that is recorded keeps memory that it took; it cannot be repeated then");
      }
    } catch (...) {
      ctx.set_random_streams(first_random_stream_);
      throw;
    }
    random_streams_ = ctx.random_streams() - first_random_stream_;
    ctx.set_random_streams(first_random_stream_);
    cudaGraphExec_t executable = nullptr;
    check_cuda(cudaGraphInstantiate(&executable, graph.get(), 0), "cudaGraphInstantiate");
    executable_.reset(executable);
  }

  /// What the number at `random_shift` has to be for the next launch.
  [[nodiscard]] std::uint64_t random_shift(const Context& ctx) const {
    return ctx.random_streams() - first_random_stream_;
  }

  /// Starts all of it, and takes as many random streams from the Context as the work took.
  void launch(Context& ctx) const {
    check_cuda(cudaGraphLaunch(executable_.get(), ctx.stream()), "cudaGraphLaunch");
    ctx.set_random_streams(ctx.random_streams() + random_streams_);
  }

 private:
  struct Recording {
    Recording(Context& of, const std::uint64_t* random_shift) : ctx(of) {
      ctx.recording_ = true;
      ctx.random_shift_ = random_shift;
    }
    ~Recording() {
      ctx.recording_ = false;
      ctx.random_shift_ = nullptr;
    }
    Context& ctx;
  };
  struct DestroyRecorded {
    void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
  };
  struct Destroy {
    void operator()(cudaGraphExec_t executable) const { cudaGraphExecDestroy(executable); }
  };

  std::uint64_t first_random_stream_, random_streams_ = 0;
  std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy> executable_;
};

}  // namespace MERISTEM_BACKEND
}  // namespace meristem

#endif
