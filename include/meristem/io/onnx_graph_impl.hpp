// Definitions of onnx_graph.hpp.
#pragma once

#include <cstddef>
#include <cstring>

#include <meristem/io/onnx_graph.hpp>

namespace meristem::io {

MERISTEM_INLINE ProtobufMessage& ProtobufMessage::number(int field, std::int64_t value) {
  varint(static_cast<std::uint64_t>(field) << 3);
  varint(static_cast<std::uint64_t>(value));
  return *this;
}

MERISTEM_INLINE ProtobufMessage& ProtobufMessage::real(int field, float value) {
  varint(static_cast<std::uint64_t>(field) << 3 | 5);
  char bytes[4];
  std::memcpy(bytes, &value, 4);
  bytes_.append(bytes, 4);
  return *this;
}

MERISTEM_INLINE ProtobufMessage& ProtobufMessage::bytes(int field, std::string_view value) {
  varint(static_cast<std::uint64_t>(field) << 3 | 2);
  varint(value.size());
  bytes_.append(value);
  return *this;
}

MERISTEM_INLINE void ProtobufMessage::varint(std::uint64_t value) {
  for (; value >= 128; value >>= 7) bytes_ += static_cast<char>(value | 128);
  bytes_ += static_cast<char>(value);
}

MERISTEM_INLINE std::string OnnxGraph::serialize(std::string_view producer, std::string_view version) const {
  ProtobufMessage graph;
  for (const OnnxNode& node : nodes) graph.message(1, encode(node));
  graph.bytes(2, "network");
  for (const OnnxConstant& constant : constants) graph.message(5, encode(constant));
  graph.message(11, encode(input)).message(12, encode(output));
  ProtobufMessage model;
  model.number(1, 8).bytes(2, producer).bytes(3, version).message(7, graph);
  model.message(8, ProtobufMessage().bytes(1, "").number(2, opset));
  for (const auto& [key, value] : metadata) model.message(14, ProtobufMessage().bytes(1, key).bytes(2, value));
  return model.text();
}

MERISTEM_INLINE ProtobufMessage OnnxGraph::encode(const OnnxNode& node) {
  ProtobufMessage message;
  for (const std::string& input : node.inputs) message.bytes(1, input);
  message.bytes(2, node.output).bytes(3, node.name).bytes(4, node.type);
  for (const auto& [name, value] : node.numbers) {
    message.message(5, ProtobufMessage().bytes(1, name).number(3, value).number(20, 2));
  }
  for (const auto& [name, value] : node.reals) {
    message.message(5, ProtobufMessage().bytes(1, name).real(2, value).number(20, 1));
  }
  for (const auto& [name, values] : node.lists) {
    ProtobufMessage attribute;
    attribute.bytes(1, name);
    for (const std::int64_t value : values) attribute.number(8, value);
    message.message(5, attribute.number(20, 7));
  }
  return message;
}

MERISTEM_INLINE ProtobufMessage OnnxGraph::encode(const OnnxConstant& constant) {
  ProtobufMessage message;
  for (const std::int64_t extent : constant.shape) message.number(1, extent);
  const bool reals = constant.numbers.empty();
  const void* const data = reals ? static_cast<const void*>(constant.values.data()) : constant.numbers.data();
  const std::size_t size = reals ? constant.values.size() * sizeof(float) : constant.numbers.size() * 8;
  return message.number(2, reals ? 1 : 7)
      .bytes(8, constant.name)
      .bytes(9, std::string_view(static_cast<const char*>(data), size));
}

MERISTEM_INLINE ProtobufMessage OnnxGraph::encode(const OnnxValue& value) {
  ProtobufMessage shape;
  shape.message(1, ProtobufMessage().bytes(2, "batch"));
  for (const std::int64_t extent : value.shape) shape.message(1, ProtobufMessage().number(1, extent));
  ProtobufMessage tensor;
  tensor.number(1, 1).message(2, shape);
  return ProtobufMessage().bytes(1, value.name).message(2, ProtobufMessage().message(1, tensor));
}

}  // namespace meristem::io
