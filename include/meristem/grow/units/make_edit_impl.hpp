// Definitions of make_edit.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <meristem/grow/units/make_edit.hpp>
#include <meristem/kernels/elementwise.cuh>

namespace meristem::grow::detail {

/// scale[k] brings a fan-in of length lengths[k] to the mean length of today's units, or to that of Kaiming's
/// initialisation if there are none.
struct FanInScale {
  const double *today, *lengths;
  std::int64_t width;
  double* scale;
  MERISTEM_HD void operator()(std::int64_t k) const {
    double sum = 0.0;
    for (std::int64_t unit = 0; unit < width; ++unit) sum += today[unit];
    const double norm = sum > 0.0 ? sum / static_cast<double>(width) : std::sqrt(2.0);
    scale[k] = lengths[k] > 0.0 ? norm / lengths[k] : 1.0;
  }
};

/// carried[k], the multiple of each unit that a stream carries whatever the amplitude: its fan-in times scale(k) behind
/// a norm of the source at the weights of its other channels.
struct CarriedScale {
  PerUnit scale, weight;
  const double* variance;
  double epsilon;
  double* carried;
  MERISTEM_HD void operator()(std::int64_t k) const {
    const double s = scale(k);
    carried[k] = weight(k) * s / std::sqrt(s * s * variance[k] + epsilon);
  }
};

/// Channels of a BatchNorm which, of scale(k) times the unit α_kᵀ[b 1], make factor(k) part(k) times the unit; where
/// weights and shifts are given, with these times the factor.
template <class T>
struct ChannelsOfUnits {
  PerUnit scale = {}, part = {}, factor = {};
  const double *mean = nullptr, *variance = nullptr;
  const double *given_weight = nullptr, *given_shift = nullptr, *given_mean = nullptr;
  double epsilon = 0.0;
  T *means = nullptr, *variances = nullptr, *weights = nullptr, *shifts = nullptr;
  MERISTEM_HD void operator()(std::int64_t k) const {
    const double s = scale(k), spread = s * s * variance[k];
    means[k] = static_cast<T>(given_mean ? given_mean[k] : s * mean[k]);
    variances[k] = static_cast<T>(spread);
    weights[k] =
        static_cast<T>(factor(k) * (given_weight ? given_weight[k] : part(k) / s * std::sqrt(spread + epsilon)));
    shifts[k] = static_cast<T>(factor(k) * (given_shift ? given_shift[k] : part(k) * mean[k]));
  }
};

/// change[i] of a value whose units along an axis have `inner` numbers each, which brings it to their factor times
/// itself: the sum of both rounds to the product.
template <class T>
struct ScaledChange {
  const T* value;
  const double* factors;
  UnitsAlong along;
  std::int64_t inner;
  T* change;
  MERISTEM_HD void operator()(std::int64_t i) const {
    const std::int64_t unit = along.unit_of(i / inner);
    change[i] = unit < 0 ? T(0) : static_cast<T>(factors[unit] * static_cast<double>(value[i])) - value[i];
  }
};

/// factor[c] of a norm's weights that makes up for its epsilon once its inputs are s times what they were.
template <class T>
struct EpsilonFactor {
  const T* variances;
  double s, epsilon;
  double* factor;
  MERISTEM_HD void operator()(std::int64_t c) const {
    const double variance = static_cast<double>(variances[c]);
    factor[c] = std::sqrt(s * s * variance + epsilon) / (s * std::sqrt(variance + epsilon));
  }
};

/// The parts of an edit that inserts units, one after the other.
template <Real T>
class EditOfUnits {
 public:
  EditOfUnits(Context& ctx, const Site<T>& site, const Insertion& insertion, Edit<T>& edit)
      : ctx_(ctx), site_(site), insertion_(insertion), edit_(edit), parts_(reader_parts(site, insertion)) {}

  /// The move of the readers' weights, which goes with γ.
  void add_moves() {
    if (insertion_.move.empty()) return;
    for (std::size_t i = 0; i < site_.readers(); ++i) {
      const Affine<T>& reader = site_.reader(i).consumer;
      if (parts_[i].move_size == 0) continue;
      const Shape shape{reader.out_features(), reader.inputs()};
      const View<const double> move(insertion_.move.data() + parts_[i].move_begin, shape);
      auto [weights, biases] = split_rows(reader, reader.weight().value.shape(), move, {});
      edit_.values.push_back({reader.weight().id, std::move(weights), whole});
      if (reader.has_bias()) edit_.values.push_back({reader.bias().id, std::move(biases), whole});
    }
  }

  /// What happens to today's units.
  void add_factors() {
    if (!insertion_.fan_in_factor.empty()) {
      if (nn::BatchNorm<T>* const norm = site_.producer.norm()) {
        scale(norm->weight(), insertion_.fan_in_factor, own());
        scale(norm->bias(), insertion_.fan_in_factor, own());
      } else {
        scale(site_.producer.weight(), insertion_.fan_in_factor, own(),
              site_.producer.weight().value.size() / std::max<std::int64_t>(width_, 1));
        if (site_.producer.has_bias()) scale(site_.producer.bias(), insertion_.fan_in_factor, own());
      }
    }
    if (!insertion_.fan_out_factor.empty()) {
      site_.for_each_reader([&](const Reader<T>& to) {
        scale(to.consumer.weight(), insertion_.fan_out_factor, units_along(to, width_));
      });
    }
    if (insertion_.consumer_factor == 1.0) return;
    const double s = insertion_.consumer_factor;
    const Tensor<double> once = from_host<double>(ctx_, {1}, {s}), twice = from_host<double>(ctx_, {1}, {s * s});
    const UnitsAlong all{1, 1, 0, 1};
    for (std::size_t i = 0; i < site_.readers(); ++i) {
      const Affine<T>& consumer = site_.reader(i).consumer;
      nn::BatchNorm<T>& norm = *consumer.norm();
      scale(consumer.weight(), once, all);
      if (consumer.has_bias()) scale(consumer.bias(), once, all);
      scale(norm.running_mean(), once, all);
      Tensor<double> weights(ctx_, {norm.channels()});
      for_each(ctx_, norm.channels(),
               EpsilonFactor<T>{norm.running_variance().value.data(), s, norm.epsilon(), weights.data()});
      scale(norm.running_variance(), twice, all);
      scale(norm.weight(), weights, {1, norm.channels(), 0, norm.channels()});
    }
  }

  /// Fan-ins, and channels of the norms that make the units.
  void add_fan_ins() {
    if (!site_.normed()) scales_ = per_unit(insertion_.split);
    if (site_.normed() && !given() && !copied()) fan_in_scales();
    const Affine<T>& producer = site_.producer;
    const double power = site_.normed() ? 0.0 : root;
    auto [rows, biases] = split_rows(producer, producer.weight().value.shape().with(0, units_),
                                     insertion_.fan_in.view().reshape({units_, insertion_.inputs}), scales_);
    append(producer.weight(), own(), std::move(rows), power);
    if (producer.has_bias()) append(producer.bias(), own(), std::move(biases), power);
    if (remade()) carried_scales();
    ChannelsOfUnits<T> channels;
    channels.scale = scales_;
    channels.mean = insertion_.mean.data();
    channels.variance = insertion_.variance.data();
    if (given()) channels.given_weight = insertion_.norm_weight.data();
    if (given()) channels.given_shift = insertion_.norm_shift.data();
    if (producer.norm()) {
      ChannelsOfUnits<T> made = channels;
      if (!remade()) made.factor = per_unit(insertion_.split);
      if (remade() && !given()) made.factor = carried_;
      append_channels(*producer.norm(), made, given() || remade() ? 0.0 : root);
    }
    // Norms in front of the readers make the unit of whatever multiple of it arrives.
    const std::vector<nn::BatchNorm<T>*> norms = site_.input_norms();
    for (std::size_t j = 0; j < norms.size(); ++j) {
      if (copied()) {
        append_idle(*norms[j], false, 0.0);
        continue;
      }
      ChannelsOfUnits<T> made = channels;
      made.scale = carried_;
      made.part = split_for(j, norms.size());
      if (producer.norm()) made.given_mean = made.given_shift;
      append_channels(*norms[j], made, given() ? 0.0 : root);
    }
  }

  void add_fan_outs() {
    const std::vector<nn::BatchNorm<T>*> norms = site_.input_norms();
    for (std::size_t i = 0; i < site_.readers(); ++i) {
      const Reader<T>& reader = site_.reader(i);
      // A reader without a norm, beside others with one, gets what the stream carries.
      const bool raw = remade() && !reader.input_norm && !given() && !copied();
      const auto norm =
          static_cast<std::size_t>(std::find(norms.begin(), norms.end(), reader.input_norm) - norms.begin());
      PerUnit divisor = norms.empty() ? per_unit(insertion_.split) : split_for(norm, norms.size());
      if (raw) divisor = carried_;
      append_columns(reader, parts_[i].taps, fan_out_slices(ctx_, site_, insertion_, i, divisor), raw ? whole : root);
    }
  }

  /// The new channels of a stream where its units come from elsewhere, and where they do not reach.
  void add_riders() {
    std::vector<nn::BatchNorm<T>*> earlier_norms;
    for (const Reader<T>& reader : site_.earlier) add_input_norm(reader, earlier_norms);
    for (std::size_t i = 0; i < site_.riders.size(); ++i) {
      const Affine<T>& rider = site_.riders[i];
      if (!copied() && rider.norm() && i < insertion_.rider_rows.size() && !insertion_.rider_rows[i].empty()) {
        auto [rows, biases] =
            split_rows(rider, rider.weight().value.shape().with(0, units_), insertion_.rider_rows[i].view(), {});
        append(rider.weight(), own(), std::move(rows), 0.0);
        if (rider.has_bias()) append(rider.bias(), own(), std::move(biases), 0.0);
      } else {
        append(rider.weight(), own(), copies_or_zeros(rider.weight().value), 0.0);
        if (rider.has_bias()) append(rider.bias(), own(), copies_or_zeros(rider.bias().value), 0.0);
      }
      if (rider.norm()) append_idle(*rider.norm(), false, 1.0);
    }
    // A constant 0, as a norm sees it in either mode.
    for (nn::BatchNorm<T>* const norm : earlier_norms) append_idle(*norm, true, 0.0);
    for (const Reader<T>& reader : site_.earlier) {
      const Tensor<T>& weight = reader.consumer.weight().value;
      const int last = weight.rank() - 1;
      const UnitsAlong along = units_along(reader, width_);
      std::vector<std::int64_t> from(static_cast<std::size_t>(along.places * units_), -1), whose;
      for (std::size_t at = 0; copied() && at < from.size(); ++at) {
        const auto place = static_cast<std::int64_t>(at) / units_;
        whose.push_back(insertion_.copies[at % static_cast<std::size_t>(units_)]);
        from[at] = place * along.stride + along.offset + whose.back();
      }
      Tensor<T> fresh = slices(ctx_, weight, last, from);
      if (copied() && !insertion_.fan_out_factor.empty()) {
        scale_columns<T>(ctx_, fresh.view().as_matrix(), slices(ctx_, insertion_.fan_out_factor, 0, whose));
      }
      append_columns(reader, along.places, std::move(fresh), 0.0);
    }
  }

 private:
  // What goes with γ and with √γ; the numbers are those of γ = 1.
  static constexpr double whole = 1.0, root = 0.5;

  [[nodiscard]] bool given() const { return !insertion_.norm_weight.empty(); }
  [[nodiscard]] bool copied() const { return !insertion_.copies.empty(); }
  [[nodiscard]] bool remade() const { return !site_.input_norms().empty(); }

  /// Units along the axis of what they alone have.
  [[nodiscard]] UnitsAlong own() const { return {1, width_, 0, width_}; }

  /// The split for the norm of this number among `norms`; 1 for none.
  [[nodiscard]] PerUnit split_for(std::size_t norm, std::size_t norms) const {
    if (insertion_.split.empty() || norm == norms) return {};
    return {insertion_.split.data() + norm, static_cast<std::int64_t>(norms)};
  }

  /// Rows with the bias last, each times its factor, as weight of this shape and bias.
  [[nodiscard]] std::pair<Tensor<T>, Tensor<T>> split_rows(const Affine<T>& layer, const Shape& shape,
                                                           View<const double> rows, PerUnit factor) const {
    const std::int64_t n = rows.extent(0), features = layer.inputs() - (layer.has_bias() ? 1 : 0);
    std::pair<Tensor<T>, Tensor<T>> result{Tensor<T>(ctx_, shape), Tensor<T>(ctx_, {layer.has_bias() ? n : 0})};
    scaled_rows<T, double>(ctx_, rows.slice(1, 0, features), factor, result.first.view().reshape({n, features}));
    if (layer.has_bias()) {
      scaled_rows<T, double>(ctx_, rows.slice(1, features, features + 1), factor, result.second.view().reshape({n, 1}));
    }
    return result;
  }

  template <class Entry>
  void scale(const Entry& entry, const Tensor<double>& factors, const UnitsAlong& along, std::int64_t inner = 1) {
    Tensor<T> change(ctx_, entry.value.shape());
    for_each(ctx_, change.size(), ScaledChange<T>{entry.value.data(), factors.data(), along, inner, change.data()});
    edit_.values.push_back({entry.id, std::move(change)});
  }

  /// New slices along the first axis.
  template <class Entry>
  void append(const Entry& entry, const UnitsAlong& along, Tensor<T> fresh, double power) {
    edit_.axes.push_back({entry.id, 0, along.widened(units_), std::move(fresh), along.stride, power});
  }

  void append_norm(nn::BatchNorm<T>& norm, Tensor<T> weights, Tensor<T> shifts, Tensor<T> means, Tensor<T> variances,
                   double power = 0.0) {
    const UnitsAlong along = units_along(site_, norm);
    append(norm.weight(), along, std::move(weights), power);
    append(norm.bias(), along, std::move(shifts), power);
    append(norm.running_mean(), along, std::move(means), 0.0);
    append(norm.running_variance(), along, std::move(variances), 0.0);
  }

  void append_channels(nn::BatchNorm<T>& norm, ChannelsOfUnits<T> channels, double power) {
    Tensor<T> weights(ctx_, {units_}), shifts(ctx_, {units_}), means(ctx_, {units_}), variances(ctx_, {units_});
    channels.epsilon = norm.epsilon();
    channels.means = means.data();
    channels.variances = variances.data();
    channels.weights = weights.data();
    channels.shifts = shifts.data();
    for_each(ctx_, units_, channels);
    append_norm(norm, std::move(weights), std::move(shifts), std::move(means), std::move(variances), power);
  }

  /// Channels that copy today's, or read a constant 0: of weight 0 or as large as today's, and this variance.
  void append_idle(nn::BatchNorm<T>& norm, bool weighs, double variance) {
    const std::int64_t first = site_.offset_in(norm);
    Tensor<T> weights = copies_or_zeros(norm.weight().value, first);
    Tensor<T> variances = copies_or_zeros(norm.running_variance().value, first);
    if (!copied()) kernels::fill<T>(ctx_, static_cast<T>(variance), variances.view());
    if (!copied() && weighs) {
      Tensor<double> scale(ctx_, {units_, 1});
      weight_scale(ctx_, norm, scale.view());
      scaled_rows<T, double>(ctx_, scale.view(), {}, weights.view().reshape({units_, 1}));
    }
    append_norm(norm, std::move(weights), copies_or_zeros(norm.bias().value, first),
                copies_or_zeros(norm.running_mean().value, first), std::move(variances));
  }

  /// New slices along the first axis: those of today's units that the new ones copy, or zeros. Unit 0 is at `first`.
  [[nodiscard]] Tensor<T> copies_or_zeros(const Tensor<T>& today, std::int64_t first = 0) const {
    if (!copied()) return zeros<T>(ctx_, today.shape().with(0, units_));
    std::vector<std::int64_t> from = insertion_.copies;
    for (std::int64_t& index : from) index += first;
    return slices(ctx_, today, 0, from);
  }

  /// New columns of a reader's weight.
  void append_columns(const Reader<T>& reader, std::int64_t places, Tensor<T> fresh, double power) {
    const nn::Parameter<T>& weight = reader.consumer.weight();
    const int last = weight.value.rank() - 1;
    edit_.axes.push_back({weight.id, last, reader_map(reader, width_, places, units_), std::move(fresh),
                          weight.value.extent(last), power});
  }

  /// Before a BatchNorm, which takes the scale of fan-ins away again, they get the mean norm of today's.
  void fan_in_scales() {
    const Affine<T>& producer = site_.producer;
    const std::int64_t features = producer.inputs() - (producer.has_bias() ? 1 : 0);
    const Tensor<double> today =
        row_lengths<T>(ctx_, std::as_const(producer.weight().value).view().reshape({width_, features}));
    const Tensor<double> lengths =
        row_lengths<double>(ctx_, insertion_.fan_in.view().reshape({units_, insertion_.inputs}).slice(1, 0, features));
    own_scales_ = Tensor<double>(ctx_, {units_});
    for_each(ctx_, units_, FanInScale{today.data(), lengths.data(), width_, own_scales_.data()});
    scales_ = per_unit(own_scales_);
  }

  void carried_scales() {
    carried_ = scales_;
    const nn::BatchNorm<T>* const norm = site_.producer.norm();
    if (!norm || insertion_.variance.empty()) return;
    const Tensor<double> today = source_scale(ctx_, site_);
    own_carried_ = Tensor<double>(ctx_, {units_});
    const PerUnit weight = given() ? per_unit(insertion_.norm_weight) : PerUnit{today.data(), 0};
    for_each(ctx_, units_,
             CarriedScale{scales_, weight, insertion_.variance.data(), norm->epsilon(), own_carried_.data()});
    carried_ = per_unit(own_carried_);
  }

  Context& ctx_;
  const Site<T>& site_;
  const Insertion& insertion_;
  Edit<T>& edit_;
  std::vector<ReaderPart> parts_;
  std::int64_t units_ = insertion_.units, width_ = site_.width();
  Tensor<double> own_scales_, own_carried_;
  PerUnit scales_, carried_;  // of fan-ins, and of what a stream carries
};

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
Edit<T> make_edit(Context& ctx, const Site<T>& site, const Insertion& insertion, double gamma) {
  detail::require_fit(site, insertion);
  if (!(gamma >= 0.0 && std::isfinite(gamma))) {
    throw ArgumentError(concat("site ", site.name, ": the amplitude is ", gamma, "; it must be 0 or more, and finite"));
  }
  detail::require_numbers(ctx, site, insertion);
  Edit<T> edit;
  edit.gamma = gamma;
  detail::EditOfUnits<T> parts(ctx, site, insertion, edit);
  parts.add_moves();
  if (insertion.units == 0) return edit;
  parts.add_factors();
  parts.add_fan_ins();
  parts.add_fan_outs();
  if (site.tied()) parts.add_riders();
  return edit;
}

}  // namespace meristem::grow
