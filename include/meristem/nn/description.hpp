// What a layer says of itself, once: what it computes, its tensors and what their axes are indexed by, the layers
// inside, and the fields from which its kind can be made again. Growth, files, exports and names follow from it.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <meristem/core/dtype.hpp>
#include <meristem/core/shape.hpp>
#include <meristem/core/window.hpp>
#include <meristem/kernels/activation.cuh>
#include <meristem/nn/parameter.hpp>

namespace meristem::nn {

using kernels::Activation;

/// What a layer does to the features of its input, which its last axis indexes.
enum class Operator {
  other,        ///< not told: growth stops at the layer, and it is exported by what io::LayerKinds says of its kind
  affine,       ///< y = x Wᵀ + b on the last axis, or a convolution
  elementwise,  ///< one function for every element
  normalise,    ///< mean and variance are replaced by learned ones
  pool,         ///< maxima or means over positions, channel by channel
  flatten,      ///< all axes behind the batch become one
  slice,        ///< some of the numbers of each row, in a shape of their own
  identity,     ///< nothing, in evaluation and in measuring passes
  sequence,     ///< the layers inside, one after the other
  sum,          ///< the layers inside, each on the same input, added up
  concatenate,  ///< the layers inside, each on the same input, their features side by side
};

/// What an axis of a parameter or buffer is indexed by. All axes indexed by the same features have one width, and grow
/// and shrink together.
enum class Axis {
  none,     ///< something else, such as the taps of a window
  in,       ///< the input's features
  out,      ///< the output's features
  channel,  ///< features that are the input's and the output's
};

/// Where a normalisation takes mean and variance.
enum class NormOver {
  batch,   ///< of each channel over the batch, running ones in evaluation
  row,     ///< of each row: the last axis
  groups,  ///< of each sample and group of neighbouring channels
};

enum class Pooling { maximum, mean };

/// A value of a field: true or false, a whole number, a real number, a text, or a list of values.
struct FieldValue {
  using List = std::vector<FieldValue>;
  std::variant<bool, std::int64_t, double, std::string, List> value;

  FieldValue(std::same_as<bool> auto flag) : value(flag) {}
  template <std::integral Number>
  requires(!std::same_as<Number, bool>) FieldValue(Number number) : value(static_cast<std::int64_t>(number)) {}
  FieldValue(std::floating_point auto number) : value(static_cast<double>(number)) {}
  FieldValue(std::string_view text) : value(std::string(text)) {}
  FieldValue(const char* text) : value(std::string(text)) {}
  FieldValue(List list) : value(std::move(list)) {}
  /// [rows, columns]
  FieldValue(Extent2 extent) : value(List{extent.y, extent.x}) {}
};

template <Real T>
class Layer;
template <Real T>
class BatchNorm;
template <Real T>
class Sequential;

/// Filled in by Layer::describe, read from Layer::description.
template <Real T>
class Description {
 public:
  /// A parameter or buffer and what its axes are indexed by.
  template <class Tensor>
  struct Entry {
    Tensor* tensor;
    std::array<Axis, Shape::max_rank> axes;
    int rank;  ///< of `axes`

    /// The axis of this role, or -1.
    [[nodiscard]] int axis_of(Axis role) const {
      for (int axis = 0; axis < rank; ++axis) {
        if (axes[static_cast<std::size_t>(axis)] == role) return axis;
      }
      return -1;
    }
  };
  struct Child {
    std::string name;  ///< what its path adds to that of the layer around it
    Layer<T>* layer;
  };

  /// Without fields it is cheap to make, as often as parameters are visited.
  explicit Description(bool with_fields = false) : with_fields_(with_fields) {}

  /// y = x Wᵀ + b with W (out, in) on the last axis, or a convolution with W (out, rows, columns, in) and a window of
  /// that size; the bias, (out), may be null. Such a layer gains and loses units. Throws ArgumentError for a window
  /// that is not the weight's.
  void affine(Parameter<T>& weight_, Parameter<T>* bias_ = nullptr, const Window& window_ = {});
  /// One of the library's functions on every element.
  void elementwise(Activation function);
  /// A function σ of one's own on every element. If σ(0) = 0 and σ has a derivative there, σ'(0) lets the layers before
  /// and after it grow.
  void elementwise(std::optional<double> slope = {});
  /// act((x - mean) / √(variance + epsilon) · weight + bias), channel by channel. Of groups `groups_` tells how many. A
  /// norm over the batch tells its running mean and variance as buffers, in this order.
  void normalise(NormOver over_, Parameter<T>& weight_, Parameter<T>& bias_, double epsilon_, std::int64_t groups_ = 1,
                 Activation function = Activation::identity);
  /// Over a sliding window, or over the whole map without one.
  void pool(Pooling pooling_, const std::optional<Window>& window_ = {});
  void flatten() { op = Operator::flatten; }
  /// Numbers `first_` to `first_ + shape_.size() - 1` of each row, in this shape; the fields first and shape.
  void slice(std::int64_t first_, const Shape& shape_);
  void identity() { op = Operator::identity; }
  /// Its layers are told by `child`, in the order they run.
  void sequence() { op = Operator::sequence; }
  /// The features of the branches side by side, each told by `child`, in this order.
  void concatenate() { op = Operator::concatenate; }
  /// act(sum of the branches), each told by `child`.
  void sum(Activation function = Activation::identity);

  /// A learned tensor and its axes; one without axes has none that features index. In a fixed order.
  void parameter(Parameter<T>& tensor, std::initializer_list<Axis> axes = {}) { append(parameters, tensor, axes); }
  /// A tensor that is saved but not learned.
  void buffer(Buffer<T>& tensor, std::initializer_list<Axis> axes = {}) { append(buffers, tensor, axes); }
  /// A layer inside, under a name that no other layer and no parameter here has. With an empty name it has the path of
  /// the layer around it.
  void child(std::string name, Layer<T>& layer) { children.push_back({std::move(name), &layer}); }

  /// A field of the kind, such as a width: with all of them io::LayerKinds makes such a layer again.
  template <class V>
  void field(std::string_view name, const V& value) {
    if (with_fields_) fields.emplace_back(std::string(name), FieldValue(value));
  }
  /// The fields kernel, stride, padding and dilation.
  void window_fields(const Window& w);
  /// A field that lists the layers inside a Sequential.
  void layers_field(std::string_view name, Layer<T>& sequence) {
    if (with_fields_) lists.emplace_back(std::string(name), &sequence);
  }

  /// The window of a pooling on a map of this size.
  [[nodiscard]] Window window_on(Extent2 map) const { return global ? Window{.kernel = map, .stride = map} : window; }

  /// Whether it has the parameters and buffers of its operator and no others.
  [[nodiscard]] bool plain() const noexcept;

  /// Whether the features may be put into another order before the layer as well as behind it, its parameters with
  /// them.
  [[nodiscard]] bool keeps_order() const noexcept;

  Operator op = Operator::other;
  std::string kind;  ///< in files, if not Layer::kind
  Parameter<T>* weight = nullptr;
  Parameter<T>* bias = nullptr;
  Window window;        ///< of an affine layer or a pooling
  bool global = false;  ///< a pooling of whole maps
  Pooling pooling = Pooling::maximum;
  std::int64_t first = 0;  ///< of a slice
  Shape shape;             ///< of a slice
  NormOver over = NormOver::batch;
  double epsilon = 0.0;
  std::int64_t groups = 1;
  /// The function itself, or that at the end of a normalisation or sum; none for a function of one's own.
  std::optional<Activation> activation;
  std::optional<double> slope_at_zero;
  BatchNorm<T>* batch_norm = nullptr;   ///< the layer, if it is one: it can add a residual, and growth adds channels
  Sequential<T>* sequential = nullptr;  ///< the layer, if it is one: layers can be put in and taken out
  /// Of a sum: the norm at the end of a branch that does the addition, so that its activation is that of the sum.
  BatchNorm<T>* adding = nullptr;
  std::vector<Entry<Parameter<T>>> parameters;
  std::vector<Entry<Buffer<T>>> buffers;
  std::vector<Child> children;
  std::vector<std::pair<std::string, FieldValue>> fields;
  std::vector<std::pair<std::string, Layer<T>*>> lists;

 private:
  template <class Tensor>
  static void append(std::vector<Entry<Tensor>>& entries, Tensor& tensor, std::initializer_list<Axis> axes) {
    if (axes.size() > Shape::max_rank) {
      throw ArgumentError(
          concat(tensor.name, ": ", axes.size(), " axes are described; a tensor has at most ", int{Shape::max_rank}));
    }
    if (entries.empty()) entries.reserve(2);  // of most layers all
    Entry<Tensor>& entry = entries.emplace_back(Entry<Tensor>{&tensor, {}, static_cast<int>(axes.size())});
    std::copy(axes.begin(), axes.end(), entry.axes.begin());
  }

  bool with_fields_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/description_impl.hpp>
#endif
