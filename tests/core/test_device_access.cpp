#include <meristem/core/device_access.hpp>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <vector>

#include <meristem/core/tensor.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace core_device_access_test {

namespace ms = meristem;

TEST_SUITE_BEGIN("unit");

#if !MERISTEM_GPU
// The signal that ends a child that runs `touch`, or 0.
template <class Touch>
int signal_of(const Touch& touch) {
  const pid_t child = fork();
  if (child == 0) {
    for (const int number : {SIGSEGV, SIGBUS}) std::signal(number, SIG_DFL);
    touch();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST_CASE("device access: where it is guarded the host reaches tensors by kernels and copies alone") {
  ms::Context ctx;
  auto x = ms::from_host<float>(ctx, {3}, std::vector<float>{1, 2, 3});
  ms::kernels::scale(ctx, 2.0f, x.view());
  CHECK(ms::to_host(ctx, x) == std::vector<float>{2, 4, 6});
  float* const data = x.data();
  const int expected = ms::detail::guards_device_memory ? SIGSEGV : 0;
  CHECK(signal_of([&] { *static_cast<volatile float*>(data) = 1.0f; }) == expected);
  CHECK(signal_of([&] { static_cast<void>(*static_cast<volatile float*>(data)); }) == expected);
  CHECK(signal_of([&] {
          const ms::detail::DeviceAccess access;
          *static_cast<volatile float*>(data) = 1.0f;
        }) == 0);
}
#endif

TEST_SUITE_END();

}  // namespace core_device_access_test
