// Definitions of layer.hpp.
#pragma once

#include <set>
#include <utility>

#include <meristem/kernels/elementwise.cuh>
#include <meristem/nn/layer.hpp>

namespace meristem::nn {

template <Real T>
void Trace<T>::keep_output() {
  storage = owner();
  children.clear();
  saved.clear();
}

template <Real T>
Tensor<T> Trace<T>::owner() {
  const auto holds = [&](const Tensor<T>& tensor) {
    const std::less<const T*> before;
    return !tensor.empty() && !before(output.data_handle(), tensor.data()) &&
           before(output.data_handle(), tensor.data() + tensor.size());
  };
  if (holds(storage)) return std::move(storage);
  for (Tensor<T>& tensor : saved) {
    if (holds(tensor)) return std::move(tensor);
  }
  for (Trace<T>& child : children) {
    child.output = output;
    Tensor<T> found = child.owner();
    if (!found.empty()) return found;
  }
  return {};
}

template <Real T>
Layer<T>::Layer(Layer&& other) noexcept
    : name_(std::move(other.name_)), named_(other.named_), place_(std::move(other.place_)) {
  if (place_) *place_ = this;
}

template <Real T>
auto Layer<T>::operator=(Layer&& other) noexcept -> Layer& {
  if (this == &other) return *this;
  if (place_) *place_ = nullptr;
  name_ = std::move(other.name_);
  named_ = other.named_;
  place_ = std::move(other.place_);
  if (place_) *place_ = this;
  return *this;
}

template <Real T>
void Layer<T>::set_name(const std::string& name) {
  rename(name);
  std::set<std::string> names;
  const auto check = [&](const auto& tensor) {
    if (names.insert(tensor.name).second) return;
    throw ArgumentError(concat(label(), ": two of its parameters or buffers are called '", tensor.name,
                               "'; make them with names that differ"));
  };
  visit_parameters(check);
  visit_buffers(check);
}

template <Real T>
std::string Layer<T>::label() const {
  // Layers may make it for checks that pass: no stream.
  std::string text(kind());
  if (!name_.empty()) text.insert(0, name_ + " (").push_back(')');
  return text;
}

template <Real T>
std::int64_t Layer<T>::multiply_adds(const Shape& input) const {
  (void)input;
  return 0;
}

template <Real T>
Tensor<T> Layer<T>::backward(Context& ctx, View<const T> input, const Trace<T>& trace, Tensor<T> output_gradient,
                             const Pass<T>& pass, Tensor<T> sum) {
  return run_backward(ctx, input, trace, output_gradient, pass, [&] {
    if (!pass.input_gradient || sum.empty()) return do_backward(ctx, input, trace, std::move(output_gradient), pass);
    if (sum.shape() != input.shape()) {
      throw ShapeError(concat(label(), ": backward got a sum of shape ", sum.shape(), " for an input of shape ",
                              input.shape(), "; make the shapes equal"));
    }
    return do_backward_onto(ctx, input, trace, std::move(output_gradient), pass, std::move(sum));
  });
}

template <Real T>
Tensor<T> Layer<T>::do_backward_onto(Context& ctx, View<const T> input, const Trace<T>& trace,
                                     Tensor<T> output_gradient, const Pass<T>& pass, Tensor<T> sum) {
  // To what was computed last: on the CPU that is still in its cache.
  Tensor<T> dx = do_backward(ctx, input, trace, std::move(output_gradient), pass);
  kernels::axpy<T>(ctx, T(1), sum, dx.view());
  return dx;
}

template <Real T>
Description<T> Layer<T>::description(bool with_fields) {
  Description<T> result(with_fields);
  describe(result);
  const auto check = [&](const auto& entry) {
    if (entry.rank == 0 || entry.rank == entry.tensor->value.rank()) return;
    throw ArgumentError(concat(label(), ": ", entry.rank, " axes of ", entry.tensor->name, " are described; it has ",
                               entry.tensor->value.rank()));
  };
  for (const auto& entry : result.parameters) check(entry);
  for (const auto& entry : result.buffers) check(entry);
  for (const auto& child : result.children) {
    if (!child.layer->is_called(name_, child.name)) child.layer->rename(path_of(child.name));
  }
  return result;
}

template <Real T>
void Layer<T>::visit_parameters(const std::function<void(Parameter<T>&)>& visit) {
  const Description<T> own = description();
  for (const auto& entry : own.parameters) visit(*entry.tensor);
  for (const auto& child : own.children) child.layer->visit_parameters(visit);
}

template <Real T>
void Layer<T>::visit_buffers(const std::function<void(Buffer<T>&)>& visit) {
  const Description<T> own = description();
  for (const auto& entry : own.buffers) visit(*entry.tensor);
  for (const auto& child : own.children) child.layer->visit_buffers(visit);
}

template <Real T>
std::vector<Layer<T>*> Layer<T>::children() {
  std::vector<Layer<T>*> result;
  for (const auto& child : description().children) result.push_back(child.layer);
  return result;
}

template <Real T>
void Layer<T>::require_trace(bool fits) const {
  if (fits) return;
  throw ArgumentError(concat(label(),
                             ": backward got a trace that its forward did not leave; give it the one that "
                             "forward returned for the same input"));
}

template <Real T>
void Layer<T>::rename(const std::string& name) {
  const std::string old = std::exchange(name_, name);
  named_ = true;
  const Description<T> own = description();
  const auto rename_tensor = [&](auto& tensor) {
    const std::string called =
        !old.empty() && tensor.name.starts_with(old + ".") ? tensor.name.substr(old.size() + 1) : tensor.name;
    tensor.name = path_of(called);
  };
  for (const auto& entry : own.parameters) rename_tensor(*entry.tensor);
  for (const auto& entry : own.buffers) rename_tensor(*entry.tensor);
}

template <Real T>
bool Layer<T>::is_called(std::string_view path, std::string_view own) const noexcept {
  if (!named_) return false;
  if (path.empty() || own.empty()) return name_ == (path.empty() ? own : path);
  return name_.size() == path.size() + 1 + own.size() && name_[path.size()] == '.' && name_.starts_with(path) &&
         name_.ends_with(own);
}

template <Real T>
auto Layer<T>::place() -> const std::shared_ptr<Layer*>& {
  if (!place_) place_ = std::make_shared<Layer*>(this);
  return place_;
}

template <Real T>
Layer<T>& LayerHandle<T>::operator*() const {
  if (*place_ == nullptr) {
    throw ArgumentError("the network is gone that an optimiser or a Grower was made for; make another for the new one");
  }
  return **place_;
}

template <Real T>
std::vector<Parameter<T>*> parameters(Layer<T>& layer) {
  std::vector<Parameter<T>*> result;
  layer.visit_parameters([&](Parameter<T>& parameter) { result.push_back(&parameter); });
  return result;
}

template <Real T>
bool contains(Layer<T>& network, const Layer<T>& part) {
  if (&network == &part) return true;
  for (Layer<T>* child : network.children()) {
    if (contains(*child, part)) return true;
  }
  return false;
}

template <Real T>
bool has_parameters(Layer<T>& layer) {
  const Description<T> told = layer.description();
  if (!told.parameters.empty()) return true;
  for (const auto& child : told.children) {
    if (has_parameters(*child.layer)) return true;
  }
  return false;
}

template <Real T>
std::int64_t parameter_count(Layer<T>& layer) {
  std::int64_t count = 0;
  layer.visit_parameters([&](Parameter<T>& parameter) { count += parameter.value.size(); });
  return count;
}

}  // namespace meristem::nn
