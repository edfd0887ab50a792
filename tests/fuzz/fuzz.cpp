// libFuzzer's entry; the environment variable FUZZ_TARGET names the reader.

#include <cstdio>
#include <cstdlib>

#include "targets.hpp"

namespace {

fuzz::Target chosen() {
  const char* name = std::getenv("FUZZ_TARGET");
  const auto found = fuzz::targets().find(name ? name : "");
  if (found != fuzz::targets().end()) return found->second;
  std::fprintf(stderr, "FUZZ_TARGET names no reader; it can be:");
  for (const auto& target : fuzz::targets()) std::fprintf(stderr, " %s", target.first.c_str());
  std::fprintf(stderr, "\n");
  std::exit(2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Target target = chosen();
  try {
    target({data, size});
  } catch (const meristem::Error&) {
  }
  return 0;
}
