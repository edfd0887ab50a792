#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include <meristem/data/loader.hpp>
#include <meristem/data/synthetic.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/models/resnet.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>

namespace train_known_run_test {

namespace ms = meristem;

// Losses that a build for the CPU computed: every device and BLAS has to arrive there. Sums of at most 16 images x
// 1,024 positions in another order differ by 16,384 unit roundoffs, 2e-12; the whitening and six steps may amplify that
// by a thousand. (OpenBLAS's kernels for AVX2 and AVX-512 differ by 1e-15.)
TEST_CASE("known run: a ResNet-18 trains, grows and trains on to these losses on every device") {
  ms::Context ctx({.seed = 3});
  const auto images = ms::data::synthetic({.images = 48, .seed = 1});
  auto net = ms::models::resnet18<double>(ctx, {.classes = 10, .width = 0.25, .channels = 4});
  ms::optim::Sgd<double> sgd(net, {.learning_rate = 0.02, .momentum = 0.9, .weight_decay = 5e-4});
  ms::grow::Grower<double> grower(net, sgd,
                                  {.where = ms::grow::Where::together,
                                   .how_many = ms::grow::HowMany::fixed(1),
                                   .statistics_samples = 32,
                                   .search_samples = 16,
                                   .batch_size = 16});
  std::vector<double> losses;
  for (int epoch = 0; epoch < 2; ++epoch) {
    for (const auto& batch : images.batches<double>(ctx, 16, {.shuffle = true, .epoch = epoch}))
      losses.push_back(ms::train::step<double>(ctx, net, batch, sgd).loss);
    if (epoch == 0) grower.grow(ctx, images);
    losses.push_back(ms::train::evaluate<double>(ctx, net, images).loss);
  }
  const std::vector<double> known = {2.70166783687784, 2.45066433922183, 2.37539713615644, 4.38819720715303,
                                     2.18619773568768, 2.20505863019074, 2.19050614168093, 7.8082325762354};
  REQUIRE(losses.size() == known.size());
  for (std::size_t i = 0; i < known.size(); ++i) CHECK(losses[i] == doctest::Approx(known[i]).epsilon(2e-9));
  CHECK(ms::nn::parameter_count(net) == 16160);
}

}  // namespace train_known_run_test
