// Layers one after the other.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/nn/batch_norm.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::nn {

template <Real T>
class Conv2d;

/// Runs its layers in order. Layers are named when added; the names of a network's parameters are the path to them.
template <Real T>
class Sequential final : public Layer<T> {
 public:
  using value_type = T;

  [[nodiscard]] std::string_view kind() const override { return "Sequential"; }

  /// Appends a layer under a name that is unique among its siblings. Returns the layer. Throws ArgumentError for a
  /// name that is empty, taken or has a dot in it, and for a layer with two parameters of one name.
  template <class L, class... Args>
  L& add(std::string name, Args&&... args) {
    check_name(name);
    auto layer = std::make_unique<L>(std::forward<Args>(args)...);
    L& result = *layer;
    append(std::move(name), std::move(layer));
    return result;
  }
  /// The same for a template of layers, which gets this network's type of numbers: `net.add<nn::Linear>("fc", ctx, 8,
  /// 4)`.
  template <MERISTEM_LAYER_TEMPLATE L, class... Args>
  L<T>& add(std::string name, Args&&... args) {
    return add<L<T>>(std::move(name), std::forward<Args>(args)...);
  }

  /// Appends a layer made elsewhere, under the same rules.
  Layer<T>& append(std::string name, LayerPtr<T> layer);

  /// Puts a layer before the one at `position`, or at the end for size(), under the same rules. The other layers keep
  /// their names. Traces that forward left before do not fit any more. Throws ArgumentError also for a position beyond
  /// the end.
  Layer<T>& insert(std::size_t position, std::string name, LayerPtr<T> layer);

  /// Takes the layer of that name out. It keeps its path name, the other layers theirs. Throws ArgumentError if there
  /// is none.
  [[nodiscard]] LayerPtr<T> extract(std::string_view name);

  /// Where the layer of that name stands. Throws ArgumentError if there is none.
  [[nodiscard]] std::size_t position(std::string_view name) const;

  /// Keeps a name for something else than a layer: `what` completes "'name' is".
  void reserve_name(std::string name, std::string what);

  [[nodiscard]] std::size_t size() const noexcept { return layers_.size(); }
  /// Throws ArgumentError if there is no such layer.
  [[nodiscard]] Layer<T>& operator[](std::size_t index);

  [[nodiscard]] Shape output_shape(const Shape& input) const override;

  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override;

  /// `forward` of layers `first` to `last - 1` alone, whose traces are the first ones then. `next` gets the statistics
  /// that the layer before a BatchNorm took for it, if that is layer `last`; null: it need not.
  [[nodiscard]] Trace<T> forward_range(std::size_t first, std::size_t last, Context& ctx, View<const T> input,
                                       const Pass<T>& pass, BatchMoments<T>* next = nullptr);

  /// Whether in training mode layer `index` takes the statistics for a BatchNorm behind it. Passes that are cut between
  /// the two may round otherwise than a whole one.
  [[nodiscard]] bool takes_statistics(std::size_t index) { return normalised(index).norm != nullptr; }

  /// `backward` of the first `count` layers alone, onto `sum` if there is one; `output_gradient` is that at the output
  /// of the last of them. The trace may have more of them.
  [[nodiscard]] Tensor<T> backward_first(std::size_t count, Context& ctx, View<const T> input, const Trace<T>& trace,
                                         Tensor<T> output_gradient, const Pass<T>& pass, Tensor<T> sum = {});

  /// The first layer that has parameters, or size(): the layers before it need no backward unless the input gradient is
  /// wanted.
  [[nodiscard]] std::size_t first_with_work() const;

 protected:
  void describe(Description<T>& description) override;

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) override {
    return forward_range(0, layers_.size(), ctx, input, pass);
  }

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override {
    return backward_first(layers_.size(), ctx, input, trace, std::move(output_gradient), pass);
  }

  [[nodiscard]] Tensor<T> do_backward_onto(Context& ctx, View<const T> input, const Trace<T>& trace,
                                           Tensor<T> output_gradient, const Pass<T>& pass, Tensor<T> sum) override {
    return backward_first(layers_.size(), ctx, input, trace, std::move(output_gradient), pass, std::move(sum));
  }

 private:
  struct Child {
    std::string name;
    LayerPtr<T> layer;
  };

  void check_name(const std::string& name) const;

  /// A convolution and the BatchNorm directly behind it, which takes its channels.
  struct Normalised {
    Conv2d<T>* conv = nullptr;
    BatchNorm<T>* norm = nullptr;
  };
  /// Layer `index` and the next one, if they are such a pair.
  [[nodiscard]] Normalised normalised(std::size_t index);

  /// Runs layer `index`. `moments` are those of its input, if the layer before took them, and become those of its
  /// output, if it takes them for a BatchNorm that follows before layer `end`.
  [[nodiscard]] Trace<T> run(std::size_t index, std::size_t end, Context& ctx, View<const T> input, const Pass<T>& pass,
                             BatchMoments<T>& moments);

  std::vector<Child> layers_;
  std::string reserved_, reserved_for_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/sequential_impl.hpp>
#endif
