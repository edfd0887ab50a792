// An ONNX graph in memory and its bytes: the few messages of onnx.proto that are needed, in protobuf's wire format.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>

namespace meristem::io {

/// Fields of one protobuf message, one after the other (https://protobuf.dev/programming-guides/encoding).
class ProtobufMessage {
 public:
  ProtobufMessage& number(int field, std::int64_t value);
  ProtobufMessage& real(int field, float value);
  /// A string, raw bytes, or the bytes of a message inside.
  ProtobufMessage& bytes(int field, std::string_view value);
  ProtobufMessage& message(int field, const ProtobufMessage& inner) { return bytes(field, inner.bytes_); }
  [[nodiscard]] const std::string& text() const noexcept { return bytes_; }

 private:
  void varint(std::uint64_t value);

  std::string bytes_;
};

/// A node and its attributes.
struct OnnxNode {
  std::string type;  ///< of the operator, such as `Conv`
  std::string name;
  std::vector<std::string> inputs;
  std::string output;
  std::vector<std::pair<std::string, std::int64_t>> numbers = {};
  std::vector<std::pair<std::string, float>> reals = {};
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> lists = {};
};

/// A constant tensor of float32 or, for shapes, int64.
struct OnnxConstant {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values = {};
  std::vector<std::int64_t> numbers = {};
};

/// A value of float32 whose first extent, the batch, is open.
struct OnnxValue {
  std::string name;
  std::vector<std::int64_t> shape;  ///< without the batch
};

/// One input, one output, nodes in the order they run.
struct OnnxGraph {
  std::int64_t opset = 17;
  OnnxValue input, output;
  std::vector<OnnxNode> nodes;
  std::vector<OnnxConstant> constants;
  std::vector<std::pair<std::string, std::string>> metadata;

  /// The bytes of a ModelProto. Field numbers are those of onnx.proto.
  [[nodiscard]] std::string serialize(std::string_view producer, std::string_view version) const;

 private:
  [[nodiscard]] static ProtobufMessage encode(const OnnxNode& node);
  [[nodiscard]] static ProtobufMessage encode(const OnnxConstant& constant);
  [[nodiscard]] static ProtobufMessage encode(const OnnxValue& value);
};

}  // namespace meristem::io

#if !defined(MERISTEM_COMPILED)
#include <meristem/io/onnx_graph_impl.hpp>
#endif
