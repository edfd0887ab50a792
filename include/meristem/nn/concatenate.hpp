// Branches whose outputs stand side by side along the features.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <meristem/nn/sequential.hpp>

namespace meristem::nn {

/// y = [a(x) | b(x) | ...] along the last axis (G. Huang et al., "Densely connected convolutional networks", 2017; C.
/// Szegedy et al., "Going deeper with convolutions", 2015). A branch is a layer, such as a Sequential; one without
/// layers passes the input on. Path names are `block.left.conv`.
template <Real T>
class Concatenate final : public Layer<T> {
 public:
  using value_type = T;

  [[nodiscard]] std::string_view kind() const override { return "Concatenate"; }

  /// Adds a branch behind those there are, under the rules of Sequential::add. Returns it.
  template <class L, class... Args>
  L& add(std::string name, Args&&... args) {
    auto branch = std::make_unique<L>(std::forward<Args>(args)...);
    L& result = *branch;
    append(std::move(name), std::move(branch));
    return result;
  }
  template <MERISTEM_LAYER_TEMPLATE L, class... Args>
  L<T>& add(std::string name, Args&&... args) {
    return add<L<T>>(std::move(name), std::forward<Args>(args)...);
  }
  /// Adds a branch made elsewhere, under the same rules.
  Layer<T>& append(std::string name, LayerPtr<T> branch);

  [[nodiscard]] std::size_t size() const noexcept { return branches_.size(); }
  /// Throws ArgumentError if there is no such branch.
  [[nodiscard]] Layer<T>& operator[](std::size_t index) { return owner_[index]; }

  /// Throws ArgumentError without a branch, and ShapeError where branches differ in more than their features.
  [[nodiscard]] Shape output_shape(const Shape& input) const override;

  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override;

 protected:
  void describe(Description<T>& description) override;

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>& pass) override;

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>& trace,
                                      Tensor<T> output_gradient, const Pass<T>& pass) override;

 private:
  Sequential<T> owner_;  // of the branches and their names; it never runs
  std::vector<Layer<T>*> branches_;
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/concatenate_impl.hpp>
#endif
