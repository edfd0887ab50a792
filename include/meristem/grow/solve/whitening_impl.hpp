// Definitions of whitening.hpp.
#pragma once

#include <meristem/grow/solve/whitening.hpp>

namespace meristem::grow {

MERISTEM_INLINE std::vector<double> inverse_deviations(const std::vector<double>& variances) {
  std::vector<double> result(variances.size(), 1.0);
  for (std::size_t i = 0; i < variances.size(); ++i) {
    if (variances[i] > 0.0) result[i] = 1.0 / std::sqrt(variances[i]);
  }
  return result;
}

template <Real T>
Tensor<T> detail::Whitening<T>::times_transposed(Context& ctx, View<const T> b) const {
  if (kind_ == Kind::rows) return product(ctx, Transpose::yes, b, rank_);
  Tensor<T> result =
      inverse_scale_.empty() ? detail::converted<T, T>(ctx, b) : detail::with_scaled_columns<T>(ctx, b, inverse_scale_);
  trsm(ctx, Side::right, Triangle::lower, Transpose::yes, 1, matrix_.view(), result.view());
  return result;
}

template <Real T>
Tensor<T> detail::Whitening<T>::times_cross(Context& ctx, View<const T> y) const {
  if (kind_ == Kind::rows || inverse_scale_.empty()) {
    return times_transposed(ctx, detail::converted_transposed<T, T>(ctx, y).view());
  }
  Tensor<T> result(ctx, {y.extent(1), y.extent(0)});
  if (result.empty()) return result;
  for_each(ctx, result.extent(0), result.extent(1),
           detail::TransposeScaled<T>{y, inverse_scale_.data(), result.view()});
  trsm(ctx, Side::right, Triangle::lower, Transpose::yes, 1, matrix_.view(), result.view());
  return result;
}

template <Real T>
Tensor<T> detail::Whitening<T>::times_crosses(Context& ctx, View<const T> first, View<const T> second) const {
  using meristem::detail::matrix_of;
  Tensor<T> result(ctx, {2, first.extent(1), rank_});
  if (kind_ == Kind::rows || inverse_scale_.empty()) {
    copy<T>(ctx, times_cross(ctx, first), matrix_of(result.view(), 0));
    copy<T>(ctx, times_cross(ctx, second), matrix_of(result.view(), 1));
    return result;
  }
  const auto one = [&](View<const T> y, std::int64_t k) {
    return part(y.extent(1), rank_, detail::TransposeScaled<T>{y, inverse_scale_.data(), matrix_of(result.view(), k)});
  };
  for_each_of(ctx, one(first, 0), one(second, 1));
  if (!result.empty()) {
    trsm(ctx, Side::right, Triangle::lower, Transpose::yes, 1, matrix_.view(), result.view().as_matrix());
  }
  return result;
}

template <Real T>
Tensor<T> detail::Whitening<T>::times(Context& ctx, View<const T> y) const {
  if (kind_ == Kind::rows) return product(ctx, Transpose::no, y, order_);
  return times_taken(ctx, detail::converted<T, T>(ctx, y));
}

template <Real T>
Tensor<T> detail::Whitening<T>::times_taken(Context& ctx, Tensor<T> y) const {
  if (kind_ == Kind::rows) return product(ctx, Transpose::no, y.view(), order_);
  trsm(ctx, Side::right, Triangle::lower, Transpose::no, 1, matrix_.view(), y.view());
  if (!inverse_scale_.empty()) detail::scale_columns(ctx, y.view(), inverse_scale_);
  return y;
}

template <Real T>
detail::Whitening<T>::Whitening(Context& ctx, const std::vector<double>& inverse_scale, Kind kind)
    : kind_(kind),
      order_(static_cast<std::int64_t>(inverse_scale.size())),
      inverse_scale_(from_host<double>(ctx, {order_}, inverse_scale)) {}

template <Real T>
Tensor<T> detail::Whitening<T>::product(Context& ctx, Transpose transpose, View<const T> a,
                                        std::int64_t columns) const {
  Tensor<T> result(ctx, {a.extent(0), columns});
  gemm(ctx, Transpose::no, transpose, 1, a, matrix_.view(), 0, result.view());
  return result;
}

template <Real T>
void detail::Whitening<T>::remove_components(Context& ctx, View<T> z, View<T> w) {
  const std::int64_t k = z.extent(0);
  Tensor<T> gram(ctx, {k, k});
  syrk(ctx, Triangle::lower, Transpose::no, 1, z, 0, gram.view());
  // Channels whose scales differ by more than a double can resolve: w stays a solution, only not the shortest.
  if (try_potrf(ctx, Triangle::lower, gram.view()) != 0) return;
  trsm(ctx, Side::left, Triangle::lower, Transpose::no, 1, gram.view(), z);
  Tensor<T> components(ctx, {w.extent(0), k});
  gemm(ctx, Transpose::no, Transpose::yes, 1, w, z, 0, components.view());
  gemm(ctx, Transpose::no, Transpose::no, -1, components.view(), z, 1, w);
}

}  // namespace meristem::grow
