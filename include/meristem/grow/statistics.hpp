// The statistics of one growth site, gathered while batches flow through the network.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <meristem/grow/accumulator.hpp>
#include <meristem/grow/moments.hpp>
#include <meristem/grow/site.hpp>
#include <meristem/kernels/reduce.cuh>
#include <meristem/nn/layer.hpp>
#include <meristem/nn/loss.hpp>

namespace meristem::inline MERISTEM_BACKEND::grow {

namespace detail {

/// Joins the products of B2 with the features of B1 and the sums of B2 into P, whose last column stands for the bias.
struct AppendColumn {
  const double* products;
  const double* sums;
  double* result;
  std::int64_t columns;
  MERISTEM_HD void operator()(std::int64_t row, std::int64_t column) const {
    result[row * (columns + 1) + column] = column < columns ? products[row * columns + column] : sums[row];
  }
};

}  // namespace detail

/// What to gather.
struct StatisticsOptions {
  bool fisher = false;     ///< E as well, for output-side preconditioning
  bool covariance = true;  ///< S; it may be left out where it is known already
  bool consumer = true;    ///< S1 and M1
  bool goal = true;        ///< M
  bool cross = true;       ///< P
};

/// Accumulates S1, M1, S, M, P and E of section "Definitions" in M. Verbockhaven et al., "Growing tiny networks" (TMLR
/// 2024): sums of per-sample outer products divided once by the number of samples. Streaming and mergeable.
template <Real T>
class SiteStatistics {
 public:
  /// For a unit with `unit_inputs` inputs that feeds a layer of `consumer_inputs` inputs and `outputs` outputs, biases
  /// not counted.
  SiteStatistics(Context& ctx, std::int64_t unit_inputs, bool unit_bias, std::int64_t consumer_inputs,
                 bool consumer_bias, std::int64_t outputs, const StatisticsOptions& options = {})
      : features_{unit_inputs, consumer_inputs, outputs} {
    if (options.covariance) s_.emplace(ctx, unit_inputs, unit_bias);
    if (options.consumer) {
      s1_.emplace(ctx, consumer_inputs, consumer_bias);
      m1_.emplace(ctx, consumer_inputs, consumer_bias, outputs);
    }
    if (options.goal) m_.emplace(ctx, unit_inputs, unit_bias, outputs);
    if (options.cross) {
      cross_.emplace(ctx, unit_inputs, unit_bias, consumer_inputs);
      if (consumer_bias) unit_sums_.emplace(ctx, unit_inputs, unit_bias, 1);
    }
    if (options.fisher) fisher_.emplace(ctx, outputs, false);
  }

  SiteStatistics(Context& ctx, const Site<T>& site, const StatisticsOptions& options = {})
      : SiteStatistics(ctx, site.producer.in_features(), site.producer.has_bias(), site.consumer.in_features(),
                       site.consumer.has_bias(), site.consumer.out_features(), options) {
    site_ = site.name;
  }

  /// Adds one batch. `unit_input` (n, ..., unit inputs) feeds the producer, `consumer_input` (n, ..., consumer inputs)
  /// the consumer; `goal` (n, ..., outputs) is the desired update, minus the gradient of the SUM loss at the consumer's
  /// output. The samples are the first axis; further axes are positions, which are summed. Throws ShapeError for shapes
  /// that do not fit and NumericError, before anything is added, for a goal that is not finite.
  void update(Context& ctx, View<const T> unit_input, View<const T> consumer_input, View<const T> goal) {
    const std::int64_t n = unit_input.extent(0);
    const std::array<View<const T>, 3> arrived{unit_input.as_matrix(), consumer_input.as_matrix(), goal.as_matrix()};
    const std::int64_t rows = arrived[2].extent(0);
    for (std::size_t i = 0; i < 3; ++i) {
      if (arrived[i].extent(0) == rows && arrived[i].extent(1) == features_[i]) continue;
      throw ShapeError(concat("SiteStatistics: unit input ", unit_input.shape(), ", consumer input ",
                              consumer_input.shape(), " and goal ", goal.shape(),
                              " must agree in all axes but the last,"
                              " which must be ",
                              features_[0], ", ", features_[1], " and ", features_[2]));
    }
    const double squares = kernels::sum_squares(ctx, goal);
    if (!std::isfinite(squares)) {
      kernels::check_finite(ctx, goal,
                            concat(site_.empty() ? "SiteStatistics" : concat("site ", site_),
                                   ": the desired update (minus the gradient at the consumer's output)"));
    }
    if (s_) s_->update(ctx, unit_input, n);
    if (s1_) s1_->update(ctx, consumer_input, n);
    if (m1_) m1_->update(ctx, consumer_input, goal, n);
    if (m_) m_->update(ctx, unit_input, goal, n);
    if (cross_) cross_->update(ctx, unit_input, consumer_input, n);
    if (unit_sums_) {
      if (ones_.size() < rows) {
        ones_ = Tensor<T>(ctx, {rows, 1});
        kernels::fill(ctx, T(1), ones_.view());
      }
      unit_sums_->update(ctx, unit_input, ones_.view().slice(0, 0, rows), n);
    }
    if (fisher_) fisher_->update(ctx, goal, n);
    goal_squares_ += squares;
    samples_ += n;
  }

  /// Adds everything another one has seen.
  void merge(Context& ctx, const SiteStatistics& other) {
    if (s_.has_value() != other.s_.has_value() || fisher_.has_value() != other.fisher_.has_value() ||
        s1_.has_value() != other.s1_.has_value() || m_.has_value() != other.m_.has_value() ||
        cross_.has_value() != other.cross_.has_value()) {
      throw ArgumentError("SiteStatistics: cannot merge statistics gathered with different options");
    }
    if (s_) s_->merge(ctx, *other.s_);
    if (s1_) s1_->merge(ctx, *other.s1_);
    if (m1_) m1_->merge(ctx, *other.m1_);
    if (m_) m_->merge(ctx, *other.m_);
    if (cross_) cross_->merge(ctx, *other.cross_);
    if (unit_sums_) unit_sums_->merge(ctx, *other.unit_sums_);
    if (fisher_) fisher_->merge(ctx, *other.fisher_);
    goal_squares_ += other.goal_squares_;
    samples_ += other.samples_;
  }

  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }

  /// The finished moments. `known_covariance` stands in for S where that was not gathered. Throws ArgumentError before
  /// the first sample, or where S is neither gathered nor given.
  [[nodiscard]] Moments<double> moments(Context& ctx, const Tensor<double>* known_covariance = nullptr) {
    if (samples_ == 0) throw ArgumentError("SiteStatistics: moments of no samples were asked for; call update first");
    if (!s_ && known_covariance == nullptr) {
      throw ArgumentError("SiteStatistics: S was not gathered; pass the known covariance of the unit's inputs");
    }
    Moments<double> result = gathered(ctx);
    if (!s_) result.s = clone(ctx, *known_covariance);
    return result;
  }

  /// The finished moments as far as they were gathered; others are empty. Throws ArgumentError before the first sample.
  [[nodiscard]] Moments<double> gathered(Context& ctx) {
    if (samples_ == 0) throw ArgumentError("SiteStatistics: moments of no samples were asked for; call update first");
    Moments<double> result;
    if (s_) result.s = s_->mean(ctx);
    if (s1_) result.s1 = s1_->mean(ctx);
    if (m1_) result.m1 = m1_->mean(ctx);
    if (m_) result.m = m_->mean(ctx);
    if (cross_) result.cross = cross_->mean(ctx);
    if (unit_sums_) {
      const Tensor<double> products = std::move(result.cross);
      const Tensor<double> sums = unit_sums_->mean(ctx);
      const std::int64_t p = products.extent(0), columns = products.extent(1);
      result.cross = Tensor<double>(ctx, {p, columns + 1});
      if (p > 0) {
        for_each(ctx, p, columns + 1, detail::AppendColumn{products.data(), sums.data(), result.cross.data(), columns});
      }
    }
    if (fisher_) result.fisher = fisher_->mean(ctx);
    result.goal_norm2 = goal_squares_ / static_cast<double>(samples_);
    result.samples = samples_;
    // Products of one stretch are summed in T.
    result.resolution = static_cast<double>(std::numeric_limits<T>::epsilon());
    return result;
  }

 private:
  std::array<std::int64_t, 3> features_;  // of the unit's input, the consumer's input and the goal
  std::string site_;
  std::optional<Covariance<T>> s_, s1_;
  std::optional<CrossCovariance<T>> m1_, m_, cross_, unit_sums_;
  std::optional<Covariance<T>> fisher_;
  Tensor<T> ones_;
  double goal_squares_ = 0.0;
  std::int64_t samples_ = 0;
};

/// Hands the inputs of producers and consumers and the desired update to `visit` while a batch flows back through the
/// network. Connect it to a Pass as its taps.
template <Real T>
class SiteTaps final : public nn::Taps<T> {
 public:
  /// site index, input of the producer, input of the consumer, desired update (all valid during the call)
  using Visit = std::function<void(Context&, std::size_t, View<const T>, View<const T>, View<const T>)>;

  SiteTaps(const std::vector<Site<T>>& sites, Visit visit)
      : sites_(&sites), visit_(std::move(visit)), unit_inputs_(sites.size()) {}

  void on_forward(Context&, const nn::Layer<T>& layer, View<const T> input) override {
    for (std::size_t i = 0; i < sites_->size(); ++i) {
      if ((*sites_)[i].producer.layer() == &layer) unit_inputs_[i] = input;
    }
  }

  void on_backward(Context& ctx, const nn::Layer<T>& layer, View<const T> input,
                   View<const T> output_gradient) override {
    for (std::size_t i = 0; i < sites_->size(); ++i) {
      if ((*sites_)[i].consumer.layer() != &layer) continue;
      // Backward carries the gradient of the mean loss; V_goal belongs to the sum over the batch.
      Tensor<T> goal = zeros<T>(ctx, output_gradient.shape());
      kernels::axpy<T>(ctx, -static_cast<T>(output_gradient.extent(0)), output_gradient, goal);
      visit_(ctx, i, unit_inputs_[i], input, goal);
    }
  }

 private:
  const std::vector<Site<T>>* sites_;
  Visit visit_;
  std::vector<View<const T>> unit_inputs_;
};

/// Runs one batch forward and backward without touching parameters, gradients or running statistics, and shows every
/// site to `visit`.
/// Returns the mean loss of the batch.
template <Real T, class Loss, class Target>
double visit_sites(Context& ctx, nn::Layer<T>& network, const std::vector<Site<T>>& sites, View<const T> inputs,
                   const Target& targets, const Loss& loss, typename SiteTaps<T>::Visit visit) {
  SiteTaps<T> taps(sites, std::move(visit));
  const nn::Pass<T> pass{
      .mode = nn::Mode::training, .gradients = nn::GradientMode::ignore, .measuring = true, .taps = &taps};
  const nn::Trace<T> trace = network.forward(ctx, inputs, pass);
  nn::LossValue<T> value = loss.template operator()<T>(ctx, trace.output, targets);
  (void)network.backward(ctx, inputs, trace, std::move(value.gradient), pass);
  return value.mean;
}

}  // namespace meristem::inline MERISTEM_BACKEND::grow
