#include "device.hpp"

#include <execinfo.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <utility>

#include "counts.hpp"

namespace virtual_gpu {

namespace {

struct Problems {
  std::map<std::string, int> seen;
  std::string untaken;  // a line each
  bool failure = false;
};

// Never destroyed: objects of the program may use the device when it ends.
Problems& problems() {
  static auto* const instance = new Problems;
  return *instance;
}

void end_with_problems() {
  if (problems().untaken.empty()) return;
  std::fprintf(stderr, "virtual GPU: the program had problems\n%s", problems().untaken.c_str());
  std::fflush(nullptr);
  _exit(70);
}

}  // namespace

void problem(const std::string& what) {
  static const int registered = std::atexit(end_with_problems);
  static_cast<void>(registered);
  problems().failure = true;
  if (++problems().seen[what] > 1) return;
  problems().untaken += what + '\n';
  std::fflush(stdout);
  std::fprintf(stderr, "virtual GPU: %s\n", what.c_str());
}

bool take_failure() { return std::exchange(problems().failure, false); }

namespace memory {

namespace {

constexpr u64 base = 0x300000000000, page = 4096;

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::abort();
}

void on_segmentation_fault(int, siginfo_t* information, void*);

struct Memory {
  u64 other = 0;  // the usable mapping
  u64 used = 0;
  u64 generation = 1;
  std::map<u64, std::pair<u64, Kind>> live;  // begin: bytes asked for
  std::map<std::pair<u64, Kind>, std::deque<u64>> idle;
  Shadow* shadows = nullptr;

  Memory() {
    const int file = memfd_create("device memory", 0);
    if (file < 0 || ftruncate(file, capacity) != 0) give_up("virtual GPU: device memory");
    constexpr int flags = MAP_SHARED | MAP_NORESERVE;
    void* const seen = mmap(reinterpret_cast<void*>(base), capacity, PROT_NONE, flags | MAP_FIXED_NOREPLACE, file, 0);
    void* const usable = mmap(nullptr, capacity, PROT_READ | PROT_WRITE, flags, file, 0);
    if (seen == MAP_FAILED || usable == MAP_FAILED) give_up("virtual GPU: device memory");
    other = reinterpret_cast<u64>(usable);
    if (looks_for_races) {
      void* const marks = mmap(nullptr, capacity / 4 * sizeof(Shadow), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (marks == MAP_FAILED) give_up("virtual GPU: marks of device memory");
      shadows = static_cast<Shadow*>(marks);
    }
    struct sigaction action {};
    action.sa_sigaction = on_segmentation_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
  }
};

Memory& device() {
  static auto* const instance = new Memory;
  return *instance;
}

u64 pages(u64 bytes) { return (bytes + page - 1) / page * page; }

// The program goes on with the page open, so that the test that did this fails and others run.
void on_segmentation_fault(int, siginfo_t* information, void*) {
  const u64 address = reinterpret_cast<u64>(information->si_addr);
  if (!is_device(information->si_addr)) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  problem("host code touches device memory");
  void* frames[40];
  backtrace_symbols_fd(frames, backtrace(frames, 40), STDERR_FILENO);
  mprotect(reinterpret_cast<void*>(address / page * page), page, PROT_READ | PROT_WRITE);
}

}  // namespace

u64 alias() { return device().other - base; }
u64 generation() { return device().generation; }

bool is_device(const void* pointer) {
  const u64 address = reinterpret_cast<u64>(pointer);
  return address >= base && address < base + capacity;
}

// Released blocks are reused first in, first out, so that a pointer kept for too long seldom finds other data.
void* allocate(std::size_t bytes, Kind kind) {
  Memory& d = device();
  const u64 size = pages(bytes);
  auto& idle = d.idle[{size, kind}];
  u64 begin;
  if (!idle.empty()) {
    begin = idle.front();
    idle.pop_front();
  } else {
    if (bytes > capacity - d.used || size + page > capacity - d.used) return nullptr;
    begin = base + d.used;
    d.used += size + page;  // nobody's page behind it
    if (kind != Kind::device) mprotect(reinterpret_cast<void*>(begin), size, PROT_READ | PROT_WRITE);
  }
  d.live[begin] = {bytes, kind};
  ++d.generation;
  std::memset(reinterpret_cast<void*>(begin + alias()), 0xff, size);
  if (d.shadows) std::memset(static_cast<void*>(shadow(begin)), 0, size / 4 * sizeof(Shadow));
  void* const pointer = reinterpret_cast<void*>(begin);
  if (kind != Kind::device) mark_written(pointer, bytes);  // the host's writes are not seen
  return pointer;
}

bool release(void* pointer) {
  Memory& d = device();
  const auto block = d.live.find(reinterpret_cast<u64>(pointer));
  if (block == d.live.end()) return false;
  const auto [bytes, kind] = block->second;
  std::memset(static_cast<char*>(pointer) + alias(), 0xff, pages(bytes));
  d.idle[{pages(bytes), kind}].push_back(block->first);
  d.live.erase(block);
  ++d.generation;
  return true;
}

std::optional<Allocation> find(u64 address) {
  const auto& live = device().live;
  auto block = live.upper_bound(address);
  if (block == live.begin()) return std::nullopt;
  --block;
  const Allocation result{block->first, block->first + block->second.first, block->second.second};
  return address < result.end ? std::optional(result) : std::nullopt;
}

char* usable(const void* pointer, u64 bytes, const std::string& what) {
  char* const host = static_cast<char*>(const_cast<void*>(pointer));
  if (!is_device(pointer)) return host;
  const u64 address = reinterpret_cast<u64>(pointer);
  const auto block = find(address);
  if (bytes > 0 && (!block || address + bytes > block->end)) {
    problem(what + ": " + std::to_string(bytes) + " bytes of device memory do not lie in one live allocation" +
            (block ? ", which ends after " + std::to_string(block->end - address) : std::string()));
    return nullptr;
  }
  return host + alias();
}

Shadow* shadow(u64 address) { return device().shadows ? device().shadows + (address - base) / 4 : nullptr; }

void mark_written(const void* pointer, u64 bytes) {
  if (!device().shadows || bytes == 0 || !is_device(pointer)) return;
  const u64 address = reinterpret_cast<u64>(pointer);
  for (Shadow* s = shadow(address); s <= shadow(address + bytes - 1); ++s) s->written = true;
}

bool is_written(const void* pointer, u64 bytes) {
  if (!device().shadows || bytes == 0 || !is_device(pointer)) return true;
  const u64 address = reinterpret_cast<u64>(pointer);
  for (const Shadow* s = shadow(address); s <= shadow(address + bytes - 1); ++s) {
    if (!s->written) return false;
  }
  return true;
}

}  // namespace memory
}  // namespace virtual_gpu

extern "C" const char* virtual_gpu_take_problems() {
  static std::string taken;
  taken = std::exchange(virtual_gpu::problems().untaken, {});
  virtual_gpu::problems().seen.clear();
  virtual_gpu::problems().failure = false;
  return taken.c_str();
}
