// Memory that repeated work has to itself, and work that is recorded to be repeated.
#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include <meristem/core/graph.hpp>
#include <meristem/core/memory.hpp>
#include <meristem/core/tensor.hpp>
#include <support/check.hpp>

namespace core_graph_test {

namespace ms = meristem;
using support::contains;
using support::message_of;

TEST_SUITE_BEGIN("unit");

TEST_CASE("arena: the same work finds its memory at the same addresses, and nobody else does") {
  ms::Context ctx;
  ms::Memory::Arena arena(ctx.memory());
  const auto work = [&](std::vector<const void*>& places) {
    places.clear();
    const auto one = ms::empty<float>(ctx, {1000});
    places.push_back(one.data());
    for (int i = 0; i < 2; ++i) {
      const auto two = ms::empty<float>(ctx, {500});
      places.push_back(two.data());
    }
  };
  const std::size_t before = ctx.memory()->in_use();
  std::vector<const void*> places, again;
  CHECK(arena.run(true, [&] { work(places); }) == 0);
  CHECK(places[1] == places[2]);
  // What is idle there counts as in use.
  const std::size_t kept = ctx.memory()->in_use() - before;
  CHECK(kept >= 6000);
  {
    const auto other = ms::empty<float>(ctx, {1000}), another = ms::empty<float>(ctx, {500});
    for (const void* place : places) CHECK((place != other.data() && place != another.data()));
    CHECK(arena.run(false, [&] { work(again); }) == 0);
    CHECK(again == places);
  }
  CHECK(ctx.memory()->in_use() - before == kept);
  arena.clear();
  CHECK(ctx.memory()->in_use() == before);
}

TEST_CASE("arena: what is kept is told and no longer of it; one that may not grow says what it lacks") {
  ms::Context ctx;
  ms::Memory::Arena arena(ctx.memory());
  ms::Tensor<float> kept;
  const std::size_t before = ctx.memory()->in_use();
  CHECK(arena.run(true, [&] { kept = ms::empty<float>(ctx, {100}); }) == 1);
  kept = {};
  CHECK(ctx.memory()->in_use() == before);
  CHECK(contains(message_of<ms::MemoryError>([&] { arena.run(false, [&] { kept = ms::empty<float>(ctx, {100}); }); }),
                 "bytes are asked for that were not when the same work ran before"));
  kept = ms::empty<float>(ctx, {100});  // it is closed
}

#if MERISTEM_GPU

TEST_CASE("graph: what is recorded runs when it is launched, as often as that is") {
  ms::Context ctx({.seed = 3});
  ms::Memory::Arena arena(ctx.memory());
  const auto from = ms::from_host<float>(ctx, {3}, {1, 2, 3});
  auto to = ms::zeros<float>(ctx, {3});
  const auto shift = ms::zeros<std::uint64_t>(ctx, {1});
  const auto work = [&] {
    const auto between = ms::clone(ctx, from);
    (void)ctx.next_shifted_random_stream();
    (void)ctx.next_shifted_random_stream();
    CHECK(ctx.recording() == (ctx.random_shift() == shift.data()));
    ms::copy<float>(ctx, between, to);
  };
  arena.run(true, work);
  ms::detail::fill_bytes(ctx, to.data(), 0, 12);
  const ms::Graph graph(ctx, arena, shift.data(), work);
  CHECK(!ctx.recording());
  CHECK(ctx.random_streams() == 2);
  support::check_same_bits(ms::to_host(ctx, to), {0, 0, 0});
  (void)ctx.next_random_stream();
  for (int i = 0; i < 2; ++i) {
    CHECK(graph.random_shift(ctx) == 1 + 2 * static_cast<std::uint64_t>(i));
    graph.launch(ctx);
    support::check_same_bits(ms::to_host(ctx, to), {1, 2, 3});
    ms::detail::fill_bytes(ctx, to.data(), 0, 12);
  }
  CHECK(ctx.random_streams() == 7);
}

TEST_CASE("graph: what is given back while it is recorded is freed once, behind it") {
  ms::Context ctx({.seed = 3});
  ms::Memory::Arena arena(ctx.memory());
  const auto from = ms::from_host<float>(ctx, {3}, {1, 2, 3});
  auto to = ms::zeros<float>(ctx, {3}), other = ms::zeros<float>(ctx, {1000});
  const auto work = [&] { ms::copy<float>(ctx, ms::clone(ctx, from), to); };
  arena.run(true, work);
  const std::size_t before = ctx.memory()->in_use();
  const ms::Graph graph(ctx, arena, nullptr, [&] {
    work();
    other = {};
    CHECK(ctx.memory()->in_use() == before);
  });
  CHECK(before - ctx.memory()->in_use() >= 4000);
  for (int i = 0; i < 2; ++i) {
    ms::detail::fill_bytes(ctx, to.data(), 0, 12);
    graph.launch(ctx);
    support::check_same_bits(ms::to_host(ctx, to), {1, 2, 3});
  }
}

TEST_CASE("graph: what cannot be repeated is told, and the Context works on") {
  ms::Context ctx({.seed = 3});
  ms::Memory::Arena arena(ctx.memory());
  const auto x = ms::from_host<float>(ctx, {2}, {1, 2});
  ms::Tensor<float> kept;
  arena.run(true, [&] { (void)ms::clone(ctx, x); });
  const auto told = [&](const std::function<void()>& work) {
    const std::string text = message_of<ms::Error>([&] { const ms::Graph graph(ctx, arena, nullptr, work); });
    CHECK(!ctx.recording());
    CHECK(ctx.random_streams() == 0);
    support::check_same_bits(ms::to_host(ctx, ms::clone(ctx, x)), {1, 2});
    return text;
  };
  CHECK(contains(told([&] { ctx.synchronize(); }), "work that is recorded waits for the device"));
  CHECK(contains(told([&] { (void)ms::from_host<float>(ctx, {1}, {1}); }), "reads memory of the host"));
  CHECK(contains(told([&] {
                   (void)ctx.next_shifted_random_stream();
                   (void)ctx.next_random_stream();
                 }),
                 "draws a random stream by Context::next_random_stream"));
  CHECK(contains(told([&] { (void)ms::empty<float>(ctx, {5000}); }), "bytes are asked for that were not"));
  CHECK(contains(told([&] { kept = ms::clone(ctx, x); }), "keeps memory that it took"));
}

#endif

TEST_SUITE_END();

}  // namespace core_graph_test
