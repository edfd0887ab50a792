// Definitions of stream_insertion.hpp.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include <meristem/grow/units/stream_insertion.hpp>

namespace meristem::grow::detail {

/// Numbers of one unit's fan-out to a reader.
template <Real T>
[[nodiscard]] std::int64_t fan_out_size(const Reader<T>& reader, std::int64_t width) {
  return reader.places(width) * reader.consumer.out_features();
}

template <Real T>
[[nodiscard]] std::int64_t move_size(const Reader<T>& reader) {
  return reader.consumer.out_features() * reader.consumer.inputs();
}

template <Real T>
void require_stream_fit(const Site<T>& site, const Insertion& insertion) {
  std::int64_t outputs = 0, moves = 0;
  for (std::size_t i = 0; i < site.readers(); ++i) {
    outputs += fan_out_size(site.reader(i), site.width());
    moves += move_size(site.reader(i));
  }
  const auto refuse = [&](const char* what, std::int64_t got, std::int64_t wanted) {
    throw ShapeError(concat("site ", site.name, ": the new units of the stream have ", got, " ", what, "; it needs ",
                            wanted, ", those of all its readers one after the other"));
  };
  if (insertion.taps != 1 || insertion.outputs != outputs) refuse("outputs", insertion.outputs, outputs);
  if (insertion.inputs != site.fan_in()) refuse("inputs", insertion.inputs, site.fan_in());
  const auto require = [&](const char* what, std::size_t got, std::int64_t wanted) {
    if (static_cast<std::int64_t>(got) != wanted) refuse(what, static_cast<std::int64_t>(got), wanted);
  };
  const std::int64_t units = insertion.units;
  require("numbers in fan_in", insertion.fan_in.size(), units * insertion.inputs);
  require("numbers in fan_out", insertion.fan_out.size(), units * outputs);
  const auto optional = [&](const char* what, std::size_t got, std::int64_t wanted) {
    if (got != 0) require(what, got, wanted);
  };
  optional("numbers in move", insertion.move.size(), moves);
  const std::int64_t norms = std::ssize(site.input_norms());
  if (site.producer.norm() || (norms > 0 && insertion.copies.empty())) {
    require("means", insertion.mean.size(), units);
    require("variances", insertion.variance.size(), units);
  }
  optional("numbers in split", insertion.split.size(), units * std::max<std::int64_t>(norms, 1));
  optional("numbers in norm_weight", insertion.norm_weight.size(), units);
  require("numbers in norm_shift", insertion.norm_shift.size(), std::ssize(insertion.norm_weight));
  optional("numbers in fan_out_factor", insertion.fan_out_factor.size(), site.width());
  optional("numbers in fan_in_factor", insertion.fan_in_factor.size(), site.width());
  optional("copies", insertion.copies.size(), units);
  optional("riders with rows", insertion.rider_rows.size(), std::ssize(site.riders));
  for (std::size_t i = 0; i < insertion.rider_rows.size(); ++i) {
    optional("numbers for a rider", insertion.rider_rows[i].size(), units * site.riders[i].inputs());
  }
  for (const std::int64_t unit : insertion.copies) {
    if (unit < 0 || unit >= site.width()) {
      throw ShapeError(concat("site ", site.name, ": a new unit is a copy of unit ", unit, ", but there are ",
                              site.width(), "; units are counted from 0"));
    }
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
Insertion part_of(const Site<T>& site, const Insertion& insertion, std::size_t index) {
  Insertion part = insertion;
  part.rider_rows.clear();
  part.copies.clear();
  if (!site.tied()) return part;
  std::int64_t before = 0, moves_before = 0;
  for (std::size_t i = 0; i < index; ++i) {
    before += fan_out_size(site.reader(i), site.width());
    moves_before += move_size(site.reader(i));
  }
  const Reader<T>& reader = site.reader(index);
  part.taps = reader.places(site.width());
  part.outputs = reader.consumer.out_features();
  part.consumer_inputs = reader.consumer.inputs();
  const std::int64_t size = part.taps * part.outputs;
  part.fan_out.clear();
  for (std::int64_t k = 0; k < insertion.units; ++k) {
    const auto begin = insertion.fan_out.begin() + k * insertion.outputs + before;
    part.fan_out.insert(part.fan_out.end(), begin, begin + size);
  }
  if (!insertion.move.empty()) {
    const auto begin = insertion.move.begin() + moves_before;
    part.move.assign(begin, begin + move_size(reader));
  }
  const std::vector<nn::BatchNorm<T>*> norms = site.input_norms();
  if (norms.empty() || insertion.split.empty()) return part;
  // Of the factors for each norm those of the one in front of this reader.
  const auto norm = std::find(norms.begin(), norms.end(), reader.input_norm);
  part.split.clear();
  for (std::int64_t k = 0; norm != norms.end() && k < insertion.units; ++k) {
    const std::ptrdiff_t at = k * std::ssize(norms) + (norm - norms.begin());
    part.split.push_back(insertion.split[static_cast<std::size_t>(at)]);
  }
  return part;
}

template <Real T>
std::vector<double> carried_scales(Context& ctx, const Site<T>& site, const Insertion& insertion,
                                   const std::vector<double>& scales) {
  if (!site.producer.norm()) return scales;
  const bool given = !insertion.norm_weight.empty();
  const double today = given ? 0.0 : weight_scale(ctx, *site.producer.norm());
  std::vector<double> carried;
  for (std::size_t k = 0; k < scales.size(); ++k) {
    const double deviation = std::sqrt(scales[k] * scales[k] * insertion.variance[k] + site.producer.norm()->epsilon());
    carried.push_back((given ? insertion.norm_weight[k] : today) * scales[k] / deviation);
  }
  return carried;
}

/// Today's slices of the copied units along the first axis.
template <Real T>
[[nodiscard]] std::vector<T> copied_slices(Context& ctx, const Tensor<T>& tensor, std::int64_t width,
                                           const std::vector<std::int64_t>& copies) {
  const std::int64_t each = tensor.size() / std::max<std::int64_t>(width, 1);
  const std::vector<T> today = to_host(ctx, tensor);
  std::vector<T> fresh;
  for (const std::int64_t unit : copies) {
    fresh.insert(fresh.end(), today.begin() + unit * each, today.begin() + (unit + 1) * each);
  }
  return fresh;
}

template <Real T>
void add_input_norms(Context& ctx, const Site<T>& site, const Insertion& insertion, const std::vector<double>& carried,
                     Edit<T>& edit) {
  const std::vector<nn::BatchNorm<T>*> norms = site.input_norms();
  const std::size_t units = static_cast<std::size_t>(insertion.units);
  const bool copied = !insertion.copies.empty(), given = !insertion.norm_weight.empty();
  const std::int64_t width = site.width();
  for (std::size_t j = 0; j < norms.size(); ++j) {
    nn::BatchNorm<T>& norm = *norms[j];
    std::vector<T> means, variances, weights, shifts;
    for (std::size_t k = 0; k < units && !copied; ++k) {
      const double scale = carried[k], mean = insertion.mean[k], variance = scale * scale * insertion.variance[k];
      const double split = insertion.split.empty() ? 1.0 : insertion.split[k * norms.size() + j];
      means.push_back(static_cast<T>(given && site.producer.norm() ? insertion.norm_shift[k] : scale * mean));
      variances.push_back(static_cast<T>(variance));
      weights.push_back(
          static_cast<T>(given ? insertion.norm_weight[k] : split / scale * std::sqrt(variance + norm.epsilon())));
      shifts.push_back(static_cast<T>(given ? insertion.norm_shift[k] : split * mean));
    }
    const double power = given || copied ? 0.0 : 0.5;
    const auto add = [&](const auto& tensor, const std::vector<T>& fresh, double with) {
      edit.axes.push_back({tensor.id, 0, appended(width, insertion.units),
                           from_host<T>(ctx, {insertion.units},
                                        copied ? copied_slices(ctx, tensor.value, width, insertion.copies) : fresh),
                           width, with});
    };
    add(norm.weight(), weights, power);
    add(norm.bias(), shifts, power);
    add(norm.running_mean(), means, 0.0);
    add(norm.running_variance(), variances, 0.0);
  }
}

template <Real T>
void add_riders(Context& ctx, const Site<T>& site, const Insertion& insertion, Edit<T>& edit) {
  const std::int64_t width = site.width(), units = insertion.units;
  const std::vector<std::int64_t> map = appended(width, units);
  const bool copied = !insertion.copies.empty();
  const auto add = [&](const auto& tensor, std::vector<T> fresh) {
    edit.axes.push_back({tensor.id, 0, map, from_host<T>(ctx, tensor.value.shape().with(0, units), fresh), width, 0.0});
  };
  // Copies of today's slices along the first axis, or one number.
  const auto slices_of = [&](const auto& tensor, double otherwise) {
    if (copied) return copied_slices(ctx, tensor.value, width, insertion.copies);
    return std::vector<T>(static_cast<std::size_t>(tensor.value.shape().with(0, units).size()),
                          static_cast<T>(otherwise));
  };
  const auto add_norm = [&](nn::BatchNorm<T>& norm, double weight, double shift, double variance) {
    add(norm.weight(), slices_of(norm.weight(), weight));
    add(norm.bias(), slices_of(norm.bias(), shift));
    add(norm.running_mean(), slices_of(norm.running_mean(), 0.0));
    add(norm.running_variance(), slices_of(norm.running_variance(), variance));
  };
  std::vector<nn::BatchNorm<T>*> earlier_norms;
  for (const Reader<T>& reader : site.earlier) add_input_norm(reader, earlier_norms);
  for (std::size_t i = 0; i < site.riders.size(); ++i) {
    const Affine<T>& rider = site.riders[i];
    std::vector<T> rows = slices_of(rider.weight(), 0.0);
    std::vector<T> biases = rider.has_bias() ? slices_of(rider.bias(), 0.0) : std::vector<T>();
    if (!copied && rider.norm() && i < insertion.rider_rows.size() && !insertion.rider_rows[i].empty()) {
      const std::int64_t inputs = rider.inputs(), features = inputs - (rider.has_bias() ? 1 : 0);
      rows.clear();
      biases.clear();
      for (std::int64_t at = 0; at < units * inputs; ++at) {
        (at % inputs < features ? rows : biases)
            .push_back(static_cast<T>(insertion.rider_rows[i][static_cast<std::size_t>(at)]));
      }
    }
    add(rider.weight(), std::move(rows));
    if (rider.has_bias()) add(rider.bias(), std::move(biases));
    if (!rider.norm()) continue;
    add_norm(*rider.norm(), 0.0, 0.0, 1.0);
  }
  // A constant 0, as a norm sees it in either mode.
  for (nn::BatchNorm<T>* norm : earlier_norms) add_norm(*norm, weight_scale(ctx, *norm), 0.0, 0.0);
  for (const Reader<T>& reader : site.earlier) {
    nn::Parameter<T>& weight = reader.consumer.weight();
    const int last = weight.value.rank() - 1;
    const std::int64_t columns = weight.value.extent(last), places = reader.flattened ? reader.places(width) : 1;
    std::vector<T> fresh(static_cast<std::size_t>(weight.value.shape().with(last, places * units).size()), T(0));
    const std::vector<T> today = copied ? to_host(ctx, weight.value) : std::vector<T>();
    // Rows of all other axes, and of each place of a flattened map.
    const std::int64_t rows = static_cast<std::int64_t>(fresh.size()) / std::max<std::int64_t>(units, 1);
    for (std::int64_t row = 0; copied && row < rows; ++row) {
      for (std::int64_t k = 0; k < units; ++k) {
        const std::int64_t unit = insertion.copies[static_cast<std::size_t>(k)];
        const double factor =
            insertion.fan_out_factor.empty() ? 1.0 : insertion.fan_out_factor[static_cast<std::size_t>(unit)];
        fresh[static_cast<std::size_t>(row * units + k)] =
            static_cast<T>(factor * static_cast<double>(today[static_cast<std::size_t>(row * width + unit)]));
      }
    }
    edit.axes.push_back({weight.id, last, reader_map(reader, width, places, units),
                         from_host<T>(ctx, weight.value.shape().with(last, places * units), fresh), columns, 0.0});
  }
}

}  // namespace meristem::grow::detail

namespace meristem::grow {

template <Real T>
void follow_outputs(Context& ctx, const Site<T>& site, const nn::Layer<T>* consumer, std::int64_t added,
                    Insertion& insertion) {
  if (insertion.units == 0) return;
  std::vector<std::vector<T>> today(site.readers());
  for (std::size_t i = 0; i < site.readers() && !insertion.copies.empty(); ++i) {
    const Affine<T>& reader = site.reader(i).consumer;
    if (reader.layer() == consumer) today[i] = to_host(ctx, reader.weight().value);
  }
  std::vector<double> fan_out, move;
  const std::int64_t width = site.width();
  std::int64_t at = 0, outputs = 0;
  const auto take = [&](const std::vector<double>& from, std::int64_t count, std::vector<double>& to) {
    to.insert(to.end(), from.begin() + at, from.begin() + at + count);
    at += count;
  };
  for (std::int64_t k = 0; k < insertion.units; ++k) {
    outputs = 0;
    for (std::size_t i = 0; i < site.readers(); ++i) {
      const Reader<T>& reader = site.reader(i);
      const std::int64_t q = reader.consumer.out_features();
      const std::int64_t before = q - (reader.consumer.layer() == consumer ? added : 0);
      const std::int64_t taps = site.tied() ? reader.places(width) : insertion.taps;
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        take(insertion.fan_out, before, fan_out);
        for (std::int64_t o = before; o < q; ++o) {
          double weight = 0.0;
          if (!today[i].empty()) {
            const std::int64_t unit = insertion.copies[static_cast<std::size_t>(k)];
            weight = static_cast<double>(today[i][static_cast<std::size_t>((o * taps + tap) * width + unit)]);
            if (!insertion.fan_out_factor.empty()) weight *= insertion.fan_out_factor[static_cast<std::size_t>(unit)];
          }
          fan_out.push_back(weight);
        }
      }
      outputs += site.tied() ? taps * q : q;
    }
  }
  at = 0;
  for (std::size_t i = 0; i < site.readers() && !insertion.move.empty(); ++i) {
    const Affine<T>& reader = site.reader(i).consumer;
    const std::int64_t more = reader.layer() == consumer ? added : 0, d = reader.inputs();
    take(insertion.move, (reader.out_features() - more) * d, move);
    move.insert(move.end(), static_cast<std::size_t>(more * d), 0.0);
  }
  insertion.outputs = outputs;
  insertion.fan_out = std::move(fan_out);
  insertion.move = std::move(move);
}

}  // namespace meristem::grow
