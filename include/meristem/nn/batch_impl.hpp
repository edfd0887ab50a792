// Definitions of batch.hpp.
#pragma once

#include <utility>

#include <meristem/nn/batch.hpp>

namespace meristem::nn {

template <Real T>
Batch<T>::operator BatchView<T>() const {
  BatchView<T> view{.inputs = inputs, .labels = labels, .targets = targets, .extra = {}};
  for (const Tensor<T>& tensor : extra) view.extra.push_back(tensor);
  return view;
}

template <Real T>
Batch<T> copy_of(Context& ctx, const BatchView<T>& batch) {
  const auto copied = [&]<class U>(View<const U> view) {
    if (view.data_handle() == nullptr) return Tensor<U>();
    Tensor<U> tensor(ctx, view.shape());
    copy<U>(ctx, view, tensor);
    return tensor;
  };
  Batch<T> result;
  result.inputs = copied(batch.inputs);
  result.labels = copied(batch.labels);
  result.targets = copied(batch.targets);
  for (const View<const T>& view : batch.extra) result.extra.push_back(copied(view));
  return result;
}

template <Real T>
BatchSource<T>::BatchSource(std::int64_t size, std::function<Batch<T>(Context&, std::span<const std::int64_t>)> make)
    : size_(size), make_(std::move(make)) {
  if (size < 0) throw ArgumentError(concat("BatchSource: the size is ", size, "; it must not be negative"));
  if (!make_) throw ArgumentError("BatchSource: there is no function that makes batches");
}

template <Real T>
Batch<T> BatchSource<T>::batch(Context& ctx, std::span<const std::int64_t> indices) const {
  Batch<T> result = make_(ctx, indices);
  if (result.size() != std::ssize(indices)) {
    throw ShapeError(concat("BatchSource: a batch of ", indices.size(),
                            " samples was asked for; its inputs have shape ", result.inputs.shape()));
  }
  return result;
}

}  // namespace meristem::nn
