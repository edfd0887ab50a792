// Fully connected layer: y = x Wᵀ + b.
#pragma once

#include <string_view>

#include <meristem/nn/init.hpp>
#include <meristem/nn/weighted_layer.hpp>

namespace meristem::nn {

struct LinearOptions {
  bool bias = true;
  Init init = Init::kaiming_uniform;
};

/// y[..., out] = Σ_in x[..., in] W[out][in] + b[out]: acts on the last axis, whatever stands before it. Widths of 0 are
/// allowed on either side: growth may start from an empty hidden layer.
template <Real T>
class Linear final : public WeightedLayer<T> {
 public:
  using Options = LinearOptions;

  /// Throws ArgumentError for a negative width.
  Linear(Context& ctx, std::int64_t in_features, std::int64_t out_features, const Options& options = {});

  [[nodiscard]] std::string_view kind() const override { return "Linear"; }
  [[nodiscard]] std::int64_t in_features() const { return weight_.value.extent(1); }
  [[nodiscard]] std::int64_t out_features() const { return weight_.value.extent(0); }

  [[nodiscard]] Shape output_shape(const Shape& input) const override;

  [[nodiscard]] std::int64_t multiply_adds(const Shape& input) const override {
    return Shape({input.with(0, 1).size(), out_features()}).size();
  }

 protected:
  void describe(Description<T>& description) override;

  [[nodiscard]] Trace<T> do_forward(Context& ctx, View<const T> input, const Pass<T>&) override;

  [[nodiscard]] Tensor<T> do_backward(Context& ctx, View<const T> input, const Trace<T>&, Tensor<T> output_gradient,
                                      const Pass<T>& pass) override;

 private:
  using WeightedLayer<T>::weight_;
  using WeightedLayer<T>::bias_;

  static Shape checked_shape(std::int64_t in_features, std::int64_t out_features);
};

}  // namespace meristem::nn

#if !defined(MERISTEM_COMPILED)
#include <meristem/nn/linear_impl.hpp>
#endif
