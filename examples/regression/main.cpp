// Regression on a table: a network that starts with two hidden units and grows while it learns.
//
//   regression data.csv target-column [name of the file for the network]
#include <iostream>

#include <meristem/io.hpp>
#include <meristem/io/csv.hpp>
#include <meristem/meristem.hpp>
namespace ms = meristem;

int main(int argc, char** argv) try {
  if (argc < 3) throw ms::ArgumentError("usage: regression data.csv target-column [network file]");
  ms::Context ctx({.seed = 1});
  auto [train, test] = ms::io::read_csv(argv[1], {.targets = {argv[2]}}).split(0.8, 1);
  const auto inputs = train.measure_inputs(), targets = train.measure_targets();
  for (auto* set : {&train, &test}) {
    set->scale_inputs(inputs);
    set->scale_targets(targets);
  }

  auto net = ms::models::mlp<float>(ctx, {.inputs = train.input.size(), .hidden = {2}, .classes = 1});
  ms::optim::AdamW<float> adamw(net, {.learning_rate = 3e-3, .weight_decay = 0.1});
  const ms::nn::Objective loss = ms::nn::SquaredError{};
  ms::grow::Grower<float> grower(net, adamw, {.how_many = {.at_most = 4}, .loss = loss});
  for (int epoch = 1; epoch <= 60; ++epoch) {
    for (const auto& batch : train.batches<float>(ctx, 32, {.shuffle = true, .epoch = epoch})) {
      ms::train::step(ctx, net, batch, adamw, loss);
    }
    if (epoch % 10 != 0) continue;
    if (epoch <= 40) std::cout << grower.grow(ctx, train);
    std::cout << "epoch " << epoch << ", test: " << ms::train::evaluate(ctx, net, test, 1000, loss) << '\n';
  }
  if (argc > 3) ms::io::save_model<float>(argv[3], ctx, net, {.sample = train.input});
} catch (const ms::Error& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
