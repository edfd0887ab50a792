// Definitions of insertion.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include <meristem/core/non_finite.hpp>
#include <meristem/grow/units/insertion.hpp>
#include <meristem/kernels/grow_copy.cuh>

namespace meristem::grow::detail {

/// scale[i] = (Σ w² / n)^{1/2} over the weights that are not 0, or 1.
template <class T>
struct WeightScale {
  const T* weights;
  std::int64_t channels;
  double* scale;
  MERISTEM_HD void operator()(std::int64_t i) const {
    double squares = 0.0, count = 0.0;
    for (std::int64_t c = 0; c < channels; ++c) {
      squares += static_cast<double>(weights[c]) * static_cast<double>(weights[c]);
      if (weights[c] != T(0)) count += 1.0;
    }
    scale[i] = squares > 0.0 ? std::sqrt(squares / count) : 1.0;
  }
};

/// squares[i] = Σ_j rows(i, j)²
template <class T>
struct SquaresOfRows {
  View<const T> rows;
  double* squares;
  MERISTEM_HD void operator()(std::int64_t i) const {
    double sum = 0.0;
    for (std::int64_t j = 0; j < rows.extent(1); ++j)
      sum += static_cast<double>(rows(i, j)) * static_cast<double>(rows(i, j));
    squares[i] = sum;
  }
};

struct Largest {
  const double* numbers;
  std::int64_t count;
  double* largest;
  MERISTEM_HD void operator()(std::int64_t) const {
    *largest = numbers[0];
    for (std::int64_t i = 1; i < count; ++i) *largest = numbers[i] > *largest ? numbers[i] : *largest;
  }
};

/// scale = (Σ squares / n)^{1/2} over those that are not 0, or 1.
struct RootOfMean {
  const double* squares;
  std::int64_t count;
  double* scale;
  MERISTEM_HD void operator()(std::int64_t) const {
    double sum = 0.0, n = 0.0;
    for (std::int64_t i = 0; i < count; ++i) {
      sum += squares[i];
      if (squares[i] != 0.0) n += 1.0;
    }
    *scale = sum > 0.0 ? std::sqrt(sum / n) : 1.0;
  }
};

/// split(k, j) = today_j / (γ square_k)^{1/2}, or 1 where that is none.
struct BalancedSplit {
  const double *today, *square;
  double gamma;
  View<double> split;
  MERISTEM_HD void operator()(std::int64_t k, std::int64_t j) const {
    const double factor = today[j] / std::sqrt(gamma * square[k]);
    split(k, j) = factor > 0.0 && factor - factor == 0.0 ? factor : 1.0;
  }
};

template <Real T>
std::vector<std::int64_t> reader_map(const Reader<T>& reader, std::int64_t width, std::int64_t places,
                                     std::int64_t units) {
  UnitsAlong along = units_along(reader, width);
  if (reader.flattened) along.places = places;
  return along.widened(units);
}

template <Real T>
std::vector<ReaderPart> reader_parts(const Site<T>& site, const Insertion& insertion) {
  std::vector<ReaderPart> parts;
  ReaderPart part;
  for (std::size_t i = 0; i < site.readers(); ++i) {
    const Reader<T>& reader = site.reader(i);
    const std::int64_t q = reader.consumer.out_features();
    part.begin += part.size;
    part.move_begin += part.move_size;
    part.taps = site.tied() ? reader.places(site.width()) : insertion.taps;
    part.size = part.taps * q;
    part.move_size = q * reader.consumer.inputs();
    parts.push_back(part);
  }
  return parts;
}

template <Real T>
void require_units_fit(const Site<T>& site, const Insertion& insertion) {
  // An empty layer does not tell how many positions a Flatten has.
  const bool any_taps = site.flattened && site.width() == 0;
  const std::int64_t taps = site.tied() ? 1 : any_taps ? insertion.taps : site.places(site.width());
  const bool centre = insertion.taps == 1 && site.consumer.is_convolution();
  const bool taps_fit = insertion.taps == taps || (!site.tied() && (centre || insertion.units == 0));
  std::int64_t outputs = site.tied() ? 0 : site.fan_out();
  if (site.tied()) {
    for (const ReaderPart& part : reader_parts(site, insertion)) outputs += part.size;
  }
  if (insertion.inputs != site.fan_in() || insertion.outputs != outputs || !taps_fit) {
    throw ShapeError(concat("site ", site.name, ": units with fan-in ", insertion.inputs, " and fan-out ",
                            insertion.outputs, insertion.taps > 1 ? concat(" at ", insertion.taps, " taps") : "",
                            " do not fit a site with fan-in ", site.fan_in(), " and fan-out ", outputs,
                            taps > 1 ? concat(" at ", taps, " taps") : "",
                            site.tied() ? ", that of all its readers one after the other" : ""));
  }
  if (insertion.fan_in.size() != insertion.units * insertion.inputs ||
      insertion.fan_out.size() != insertion.units * insertion.taps * insertion.outputs) {
    throw ShapeError(concat("site ", site.name, ": ", insertion.units, " units have ", insertion.fan_in.size(),
                            " numbers in fan_in and ", insertion.fan_out.size(), " in fan_out"));
  }
}

template <Real T>
void require_fit(const Site<T>& site, const Insertion& insertion) {
  require_units_fit(site, insertion);
  const auto refuse = [&](const auto&... words) { throw ShapeError(concat("site ", site.name, ": ", words...)); };
  if (!insertion.move.empty() && !site.tied() && insertion.consumer_inputs != site.consumer_inputs()) {
    refuse("a move of ", insertion.consumer_inputs, " weights per output does not fit ", site.consumer.layer()->label(),
           ", which has ", site.consumer_inputs());
  }
  const std::int64_t units = insertion.units, width = site.width(), norms = std::ssize(site.input_norms());
  const auto require = [&](const char* what, std::int64_t got, std::int64_t wanted) {
    if (got != wanted) refuse("the new units have ", got, " ", what, "; it needs ", wanted);
  };
  const auto optional = [&](const char* what, std::int64_t got, std::int64_t wanted) {
    if (got != 0) require(what, got, wanted);
  };
  const ReaderPart last = reader_parts(site, insertion).back();
  optional("numbers in move", insertion.move.size(), last.move_begin + last.move_size);
  if (site.producer.norm() || (norms > 0 && insertion.copies.empty())) {
    require("means", insertion.mean.size(), units);
    require("variances", insertion.variance.size(), units);
  }
  optional("numbers in split", insertion.split.size(), units * std::max<std::int64_t>(norms, 1));
  optional("numbers in norm_weight", insertion.norm_weight.size(), units);
  require("numbers in norm_shift", insertion.norm_shift.size(), insertion.norm_weight.size());
  optional("numbers in fan_out_factor", insertion.fan_out_factor.size(), width);
  optional("numbers in fan_in_factor", insertion.fan_in_factor.size(), width);
  optional("copies", std::ssize(insertion.copies), units);
  optional("riders with rows", std::ssize(insertion.rider_rows), std::ssize(site.riders));
  for (std::size_t i = 0; i < insertion.rider_rows.size(); ++i) {
    optional("numbers for a rider", insertion.rider_rows[i].size(), units * site.riders[i].inputs());
  }
  for (const std::int64_t unit : insertion.copies) {
    if (unit >= 0 && unit < width) continue;
    refuse("a new unit is a copy of unit ", unit, ", but there are ", width, "; units are counted from 0");
  }
  if (!insertion.fan_in_factor.empty() && (!site.riders.empty() || norms > 0)) {
    throw ArgumentError(
        concat("site ", site.name, ": fan_in_factor would scale what one source feeds the stream and not what ",
               norms > 0 ? "the norms in front of its readers give" : "the others do", "; leave it empty"));
  }
  for (std::size_t i = 0; i < site.readers() && insertion.consumer_factor != 1.0; ++i) {
    if (site.reader(i).consumer.norm()) continue;
    throw ArgumentError(concat("site ", site.name, ": consumer_factor is ", insertion.consumer_factor, ", but ",
                               site.reader(i).consumer.layer()->label(),
                               " has no BatchNorm behind it that would take it out"));
  }
}

template <Real T>
void require_numbers(Context& ctx, const Site<T>& site, const Insertion& insertion) {
  std::vector<std::pair<const char*, const Tensor<double>*>> all = {{"fan_in", &insertion.fan_in},
                                                                    {"fan_out", &insertion.fan_out},
                                                                    {"move", &insertion.move},
                                                                    {"mean", &insertion.mean},
                                                                    {"norm_weight", &insertion.norm_weight},
                                                                    {"norm_shift", &insertion.norm_shift},
                                                                    {"fan_out_factor", &insertion.fan_out_factor},
                                                                    {"fan_in_factor", &insertion.fan_in_factor}};
  for (const Tensor<double>& rows : insertion.rider_rows) all.emplace_back("rider_rows", &rows);
  const auto refuse = [&](const char* name, std::size_t at, double value, const char* range) {
    throw ArgumentError(
        concat("site ", site.name, ": ", name, "[", at, "] of the new units is ", value, "; it must be ", range));
  };
  meristem::detail::NonFiniteSearch<double> search(ctx, std::ssize(all));
  for (const auto& [name, numbers] : all) search.add(numbers->view().reshape({1, numbers->size()}));
  const auto found = search.found(ctx);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!found[i]) continue;
    const auto at = static_cast<std::size_t>(found[i]->column);
    refuse(all[i].first, at, to_host(ctx, *all[i].second)[at], "finite");
  }
  if (!std::isfinite(insertion.consumer_factor)) refuse("consumer_factor", 0, insertion.consumer_factor, "finite");
  const auto few = to_host(ctx, std::vector{insertion.variance.view(), insertion.split.view()});
  for (std::size_t i = 0; i < few[0].size(); ++i) {
    if (!(std::isfinite(few[0][i]) && few[0][i] >= 0.0)) refuse("variance", i, few[0][i], "finite and 0 or more");
  }
  for (std::size_t i = 0; i < few[1].size(); ++i) {
    if (!(std::isfinite(few[1][i]) && few[1][i] > 0.0)) refuse("split", i, few[1][i], "positive, and finite");
  }
}

template <Real T>
Tensor<T> fan_out_slices(Context& ctx, const Site<T>& site, const Insertion& insertion, std::size_t reader,
                         PerUnit divisor) {
  const ReaderPart part = reader_parts(site, insertion)[reader];
  const FanOutPlaces places = fan_out_places(site.reader(reader), part.taps, insertion.units);
  const Shape& shape = site.reader(reader).consumer.weight().value.shape();
  const int last = shape.rank() - 1;
  Tensor<T> result = zeros<T>(
      ctx, shape.with(last, site.reader(reader).flattened ? places.places * insertion.units : insertion.units));
  if (result.empty()) return result;
  const View<const double> fan_out =
      insertion.fan_out.view().reshape({insertion.units, insertion.taps * insertion.outputs});
  for_each(ctx, insertion.units, part.size,
           ScatterFanOut<T>{fan_out.slice(1, part.begin, part.begin + part.size), places, divisor, result.data()});
  return result;
}

template <Real T>
void weight_scale(Context& ctx, const nn::BatchNorm<T>& norm, View<double> scale) {
  const Tensor<T>& weights = norm.weight().value;
  for_each(ctx, scale.size(), WeightScale<T>{weights.data(), weights.size(), scale.data_handle()});
}

template <Real T>
Tensor<double> weight_scales(Context& ctx, const std::vector<nn::BatchNorm<T>*>& norms) {
  Tensor<double> result(ctx, {std::ssize(norms)});
  for (std::int64_t i = 0; i < result.size(); ++i) {
    weight_scale(ctx, *norms[static_cast<std::size_t>(i)], result.view().slice(0, i, i + 1));
  }
  return result;
}

template <Real T>
Tensor<double> source_scale(Context& ctx, const Site<T>& site) {
  std::vector<nn::BatchNorm<T>*> norms{site.producer.norm()};
  for (const Affine<T>& rider : site.riders) {
    if (rider.norm()) norms.push_back(rider.norm());
  }
  Tensor<double> scales = weight_scales(ctx, norms);
  if (scales.size() == 1) return scales;
  Tensor<double> result(ctx, {1});
  for_each(ctx, 1, Largest{scales.data(), scales.size(), result.data()});
  return result;
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
Tensor<double> balanced_split(Context& ctx, const Site<T>& site, const Insertion& insertion, double gamma) {
  if (!insertion.norm_weight.empty()) return {};
  if (!site.normed()) {
    // Those of a stream come with rows of other sources, which have no scale of their own.
    const std::int64_t width = site.width(), inputs = insertion.inputs - (site.producer.has_bias() ? 1 : 0);
    if (site.tied() || width == 0 || inputs == 0 || insertion.units == 0) return {};
    Tensor<double> squares(ctx, {width}), today(ctx, {1}), square(ctx, {insertion.units}),
        split(ctx, {insertion.units, 1});
    const View<const T> weight = std::as_const(site.producer.weight().value).view();
    const View<const double> fan_in = insertion.fan_in.view();
    for_each(ctx, width, detail::SquaresOfRows<T>{weight.reshape({width, weight.size() / width}), squares.data()});
    for_each(ctx, insertion.units,
             detail::SquaresOfRows<double>{fan_in.reshape({insertion.units, insertion.inputs}).slice(1, 0, inputs),
                                           square.data()});
    for_each(ctx, 1, detail::RootOfMean{squares.data(), width, today.data()});
    for_each(ctx, insertion.units, 1, detail::BalancedSplit{today.data(), square.data(), gamma, split.view()});
    return split;
  }
  if (insertion.variance.empty()) return {};
  const std::vector<nn::BatchNorm<T>*> norms = site.input_norms();
  const Tensor<double> today = norms.empty() ? detail::source_scale(ctx, site) : detail::weight_scales(ctx, norms);
  Tensor<double> split(ctx, {insertion.variance.size(), today.size()});
  for_each(ctx, split.extent(0), split.extent(1),
           detail::BalancedSplit{today.data(), insertion.variance.data(), gamma, split.view()});
  return split;
}

MERISTEM_INLINE void keep(Context& ctx, Insertion& insertion, const std::vector<std::int64_t>& units) {
  for (const std::int64_t unit : units) {
    if (unit < 0 || unit >= insertion.units) {
      throw ArgumentError(concat("keep: there is no unit ", unit, " among ", insertion.units));
    }
  }
  const auto pick = [&](Tensor<double>& numbers) {
    if (!numbers.empty()) numbers = detail::slices(ctx, numbers, 0, units);
  };
  for (Tensor<double>* numbers : {&insertion.fan_in, &insertion.fan_out, &insertion.mean, &insertion.variance,
                                  &insertion.split, &insertion.norm_weight, &insertion.norm_shift}) {
    pick(*numbers);
  }
  for (Tensor<double>& rows : insertion.rider_rows) pick(rows);
  const std::vector<std::int64_t> copies = std::exchange(insertion.copies, {});
  for (const std::int64_t unit : units) {
    if (!copies.empty()) insertion.copies.push_back(copies[static_cast<std::size_t>(unit)]);
  }
  insertion.units = std::ssize(units);
}

template <Real T>
void follow_inputs(Context& ctx, const Site<T>& site, const std::vector<std::int64_t>& map, Insertion& insertion) {
  const std::int64_t bias = site.producer.has_bias() ? 1 : 0, taps = site.producer.window().kernel.size();
  const std::int64_t channels = (insertion.inputs - bias) / taps;
  std::vector<std::int64_t> columns;
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    for (const std::int64_t from : map) columns.push_back(from < 0 ? -1 : tap * channels + from);
  }
  if (bias) columns.push_back(insertion.inputs - 1);
  insertion.fan_in = detail::slices(ctx, insertion.fan_in, 1, columns);
  insertion.inputs = std::ssize(columns);
}

template <Real T>
void follow_outputs(Context& ctx, const Site<T>& site, const nn::Layer<T>* consumer, std::int64_t added,
                    Insertion& insertion) {
  if (insertion.units == 0) return;
  std::vector<std::int64_t> columns, fresh, rows;  // of fan-outs, of today's for the added ones, and of moves
  std::int64_t at = 0, number = 0, outputs = 0;
  const std::vector<detail::ReaderPart> parts = detail::reader_parts(site, insertion);
  for (std::size_t i = 0; i < site.readers(); ++i) {
    const Affine<T>& reader = site.reader(i).consumer;
    const std::int64_t q = reader.out_features(), taps = parts[i].taps;
    const std::int64_t before = q - (reader.layer() == consumer ? added : 0);
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      for (std::int64_t o = 0; o < q; ++o) {
        columns.push_back(o < before ? at++ : -1);
        if (o >= before) fresh.push_back(parts[i].begin + tap * q + o);
      }
    }
    outputs += site.tied() ? taps * q : q;
    for (std::int64_t k = 0; k < q * reader.inputs(); ++k) rows.push_back(k < before * reader.inputs() ? number++ : -1);
  }
  Tensor<double> fan_out(ctx, {insertion.units, std::ssize(columns)}), today;
  if (!insertion.copies.empty()) {
    const Tensor<double> copied = detail::slices(ctx, detail::numbers_of_units(ctx, site).fan_out, 0, insertion.copies);
    today = detail::slices(ctx, copied, 1, fresh);
    if (!insertion.fan_out_factor.empty()) {
      const Tensor<double> factors = detail::slices(ctx, insertion.fan_out_factor, 0, insertion.copies);
      detail::scaled_rows<double, double>(ctx, today.view(), detail::per_unit(factors), today.view());
    }
  }
  kernels::grow_copy<double>(ctx, insertion.fan_out, 1, columns, today.empty() ? View<const double>() : today.view(),
                             fan_out);
  insertion.fan_out = std::move(fan_out);
  insertion.outputs = outputs;
  if (insertion.move.empty()) return;
  const std::int64_t d = site.tied() ? std::ssize(rows) : site.consumer_inputs();
  insertion.move =
      detail::slices(ctx, std::move(insertion.move).reshape({number}), 0, rows).reshape({std::ssize(rows) / d, d});
}

}  // namespace meristem::grow
