// What the library knows about the element types of tensors.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>

#include <meristem/core/config.hpp>

namespace meristem {
inline namespace MERISTEM_BACKEND {

/// Types that networks compute in.
template <class T>
concept Real = std::same_as<T, float> || std::same_as<T, double>;

/// Name of an element type in messages and files, as NumPy spells it.
template <class T>
inline constexpr std::string_view dtype_name = "unknown";
template <>
inline constexpr std::string_view dtype_name<float> = "float32";
template <>
inline constexpr std::string_view dtype_name<double> = "float64";
template <>
inline constexpr std::string_view dtype_name<std::int32_t> = "int32";
template <>
inline constexpr std::string_view dtype_name<std::int64_t> = "int64";
template <>
inline constexpr std::string_view dtype_name<std::uint8_t> = "uint8";

}  // namespace MERISTEM_BACKEND
}  // namespace meristem
