// One growth step of a network, in the making: what a Grower does with its parts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/measure/shared_passes.hpp>
#include <meristem/grow/measure/site_measurement.hpp>
#include <meristem/grow/options.hpp>
#include <meristem/grow/policy/budget.hpp>
#include <meristem/grow/policy/carry_out.hpp>
#include <meristem/grow/policy/decider.hpp>
#include <meristem/grow/policy/deciders.hpp>
#include <meristem/grow/policy/samples.hpp>
#include <meristem/grow/policy/streams.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/units/depth.hpp>
#include <meristem/grow/units/find_sites.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/nn/batch.hpp>
#include <meristem/optim/optimizer.hpp>

namespace meristem::grow::detail {

/// What a Grower keeps from one growth step to the next.
template <Real T>
struct Growing {
  nn::LayerHandle<T> network;
  optim::Optimizer<T>* optimizer;
  GrowerOptions options;
  SharedPasses<T> passes;
  std::vector<Site<T>> sites = {};
  std::size_t steps = 0;  // growth steps taken
  /// Of Where::round_robin: by the names of turns, how many growth steps were taken when they came last.
  std::map<std::string, std::size_t> turns = {};
  std::uint64_t remembered = 0;           // `fingerprint` of the samples that the passes remember something of
  std::optional<Shape> input_shape = {};  // of one sample
  InputShapes<T> shapes = {};             // of one sample, if costs depend on them
};

/// Sites that are measured in the same passes and decided on together, and what becomes of them.
template <Real T>
struct Turn {
  std::vector<Site<T>> sites = {};
  bool places = false;  ///< the places for blocks are measured beside them
  std::vector<Candidate> candidates = {};
  std::vector<Proposal> proposals = {};
};

/// That of the site or stream; empty for the places of blocks, which have one turn together.
template <Real T>
[[nodiscard]] const std::string& name_of_turn(const Site<T>& site) {
  return site.stream.empty() ? site.name : site.stream;
}
template <Real T>
[[nodiscard]] std::string name_of_turn(const Turn<T>& turn) {
  return turn.sites.empty() ? std::string() : name_of_turn(turn.sites.front());
}

/// Measures, decides and edits, turn by turn.
template <Real T>
class GrowthStep {
 public:
  using Source = nn::BatchSource<T>;

  /// Draws the samples, by the context's seed and the size of the training set. Throws DataError for an empty one.
  GrowthStep(Context& ctx, Growing<T>& grower, const Source& set);
  GrowthStep(const GrowthStep&) = delete;
  GrowthStep& operator=(const GrowthStep&) = delete;
  /// Takes out the blocks that did not join.
  ~GrowthStep();

  /// Who decides, and whose turn it is. Throws ArgumentError for a budget of multiply-adds without room at the first
  /// growth step, and as Replay.
  std::vector<Turn<T>> plan(GrowthReport& report);

  /// Measures the sites of a turn, and finds units. Throws NumericError that names the site.
  void measure(Turn<T>& turn);

  /// Which of the units found stay. `report`: of the turns before. Throws as `measure`, and ArgumentError for a rule
  /// that changed the order of the candidates.
  void decide(Turn<T>& turn, const GrowthReport& report);

  /// Chooses the amplitude of candidate `index`, and inserts its units if that is accepted.
  SiteReport edit(Turn<T>& turn, std::size_t index);

  /// Reports sites that were compared with the network's size once the best has grown.
  void report_size(GrowthReport& report) const;

  /// The growth step is taken.
  void finish(GrowthReport& report);

  /// Seconds that one sample takes.
  [[nodiscard]] double latency();

  /// Reports of all sites with what was measured; nothing is chosen.
  [[nodiscard]] std::vector<SiteReport> probe();

 private:
  /// By layer, which of its inputs each one was.
  using Inputs = std::map<const nn::Layer<T>*, std::vector<std::int64_t>>;

  /// Shapes of all layers' inputs, for what depends on the sizes of maps.
  void see_shapes();

  [[nodiscard]] nn::Layer<T>& network() const { return *grower_.network; }
  /// Of the network, without the empty blocks that are looked at.
  [[nodiscard]] std::int64_t parameters() const {
    return nn::parameter_count(network()) - (blocks_ ? blocks_->parameters() : 0);
  }
  /// Of one forward pass of one sample.
  [[nodiscard]] std::int64_t multiply_adds() const { return network().multiply_adds(*grower_.input_shape); }
  [[nodiscard]] bool work_counts() const {
    return options_.budget.limits_multiply_adds() || options_.where == Where::best_gain_per_flop ||
           !options_.rule.empty();
  }

  [[nodiscard]] Candidate candidate(const Site<T>& site) const;
  void set_costs(const Site<T>& site, std::int64_t taps, Candidate& candidate) const;
  /// Those of the sites that take part.
  [[nodiscard]] std::vector<Site<T>> considered(const std::vector<Site<T>>& sites) const;
  /// Which of the blocks that are looked at has the site, or how many there are.
  [[nodiscard]] std::size_t block_of(const Site<T>& site) const;

  /// Makes empty blocks, and adds the sites of those that take part to the turn, measured.
  void measure_places(Turn<T>& turn);

  /// Measures sites on as many samples as it takes.
  void measure_sites(const std::vector<Site<T>>& sites, std::vector<Candidate>& candidates,
                     std::vector<Proposal>& proposals);
  /// On the first `count` samples, those sites that `now` counts.
  void measure_on(std::int64_t count, const std::vector<std::size_t>& now, const std::vector<Site<T>>& sites,
                  std::vector<Candidate>& candidates, std::vector<Proposal>& proposals);
  std::vector<Proposal> run(const std::vector<Site<T>>& sites, const MeasurementOptions& options, std::int64_t count,
                            const typename SharedPasses<T>::Limit& limit);

  [[nodiscard]] MeasurementOptions measurement_options() const;
  /// Lets the method choose again for a proposal of units that belong together, at most so many this time.
  void choose_again(const Site<T>& site, std::int64_t most, Proposal& proposal);

  SiteReport insert(const Site<T>& site, Candidate& candidate, Proposal& proposal);
  SiteReport insert_block(const Site<T>& site, Candidate& candidate, Proposal& proposal);
  /// What norms read on the samples of the statistics, now that units are in.
  void see_norms(std::int64_t samples, NormInputs<T>& seen);
  /// Units of later sites may read what has grown now, or be read by it.
  void follow(Turn<T>& turn, std::size_t index, const Inputs& inputs, std::int64_t added);

  Context& ctx_;
  Growing<T>& grower_;
  const GrowerOptions& options_;
  const Source& set_;
  ChosenSamples samples_;
  std::shared_ptr<const Replay> replay_;
  Decider decider_;
  std::unique_ptr<EmptyBlocks<T>> blocks_;
  std::optional<std::string> turn_;  // that of Where::round_robin
  double operations_ = 0.0;
};

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/growth_step_impl.hpp>
#endif
