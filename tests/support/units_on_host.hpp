// Units as plain numbers: grow::Insertion and grow::NumbersOfUnits with vectors in the place of tensors.
#pragma once

#include <cstdint>
#include <vector>

#include <meristem/grow/units/insertion.hpp>

namespace support {

struct HostInsertion {
  std::int64_t units = 0, inputs = 0, outputs = 0, consumer_inputs = 0;
  std::vector<double> fan_in = {}, fan_out = {}, move = {};
  std::int64_t taps = 1;
  std::vector<double> mean = {}, variance = {}, split = {}, norm_weight = {}, norm_shift = {};
  std::vector<std::vector<double>> rider_rows = {};
  std::vector<std::int64_t> copies = {};
  std::vector<double> fan_out_factor = {}, fan_in_factor = {};
  double consumer_factor = 1.0;
};

inline HostInsertion on_host(meristem::Context& ctx, const meristem::grow::Insertion& from) {
  const auto host = [&](const meristem::Tensor<double>& tensor) { return meristem::to_host(ctx, tensor); };
  HostInsertion to{from.units,
                   from.inputs,
                   from.outputs,
                   from.consumer_inputs,
                   host(from.fan_in),
                   host(from.fan_out),
                   host(from.move),
                   from.taps,
                   host(from.mean),
                   host(from.variance),
                   host(from.split),
                   host(from.norm_weight),
                   host(from.norm_shift),
                   {},
                   from.copies,
                   host(from.fan_out_factor),
                   host(from.fan_in_factor),
                   from.consumer_factor};
  for (const auto& rows : from.rider_rows) to.rider_rows.push_back(host(rows));
  return to;
}

/// A matrix of so many rows, or a vector where that is not what the numbers are.
inline meristem::Tensor<double> rows_on_device(meristem::Context& ctx, const std::vector<double>& numbers,
                                               std::int64_t rows) {
  const std::int64_t size = std::ssize(numbers);
  if (rows > 0 && size % rows == 0) return meristem::from_host<double>(ctx, {rows, size / rows}, numbers);
  return meristem::from_host<double>(ctx, {size}, numbers);
}

inline meristem::grow::Insertion on_device(meristem::Context& ctx, const HostInsertion& from) {
  const auto numbers = [&](const std::vector<double>& values) {
    return meristem::from_host<double>(ctx, {std::ssize(values)}, values);
  };
  meristem::grow::Insertion to;
  to.units = from.units;
  to.inputs = from.inputs;
  to.outputs = from.outputs;
  to.consumer_inputs = from.consumer_inputs;
  to.fan_in = rows_on_device(ctx, from.fan_in, from.units);
  to.fan_out = rows_on_device(ctx, from.fan_out, from.units);
  to.move = numbers(from.move);
  to.taps = from.taps;
  to.mean = numbers(from.mean);
  to.variance = numbers(from.variance);
  to.split = rows_on_device(ctx, from.split, from.units);
  to.norm_weight = numbers(from.norm_weight);
  to.norm_shift = numbers(from.norm_shift);
  for (const auto& rows : from.rider_rows) to.rider_rows.push_back(rows_on_device(ctx, rows, from.units));
  to.copies = from.copies;
  to.fan_out_factor = numbers(from.fan_out_factor);
  to.fan_in_factor = numbers(from.fan_in_factor);
  to.consumer_factor = from.consumer_factor;
  return to;
}

inline meristem::grow::Insertion copy_of(meristem::Context& ctx, const meristem::grow::Insertion& from) {
  return on_device(ctx, on_host(ctx, from));
}

struct HostNumbers {
  std::vector<double> fan_in, fan_out, mean, variance, weight, shift;
};

template <class T>
HostNumbers numbers_of_units(meristem::Context& ctx, const meristem::grow::Site<T>& site) {
  const auto there = meristem::grow::detail::numbers_of_units<T>(ctx, site);
  const auto host = [&](const meristem::Tensor<double>& tensor) { return meristem::to_host(ctx, tensor); };
  return {host(there.fan_in),        host(there.fan_out),     host(there.norm.mean),
          host(there.norm.variance), host(there.norm.weight), host(there.norm.shift)};
}

}  // namespace support
