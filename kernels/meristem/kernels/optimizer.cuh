// One step of SGD or AdamW on a network's parameters, all of them in one launch.
//
// SGD (PyTorch's torch.optim.SGD; v is the momentum buffer):
//   g = gradient + weight_decay · w
//   v = momentum · v + (1 − dampening) · g          (only if momentum ≠ 0; PyTorch's first step is v = g)
//   w = w − learning_rate · (nesterov ? g + momentum · v : v)
// AdamW (Loshchilov and Hutter 2019, as torch.optim.AdamW; m, v: moments, t: step, starting at 1):
//   w = w − learning_rate · weight_decay · w
//   m = m + (1 − beta1)(g − m),  v = beta2 · v + (1 − beta2) g²
//   w = w − learning_rate / (1 − beta1ᵗ) · m / (√v / √(1 − beta2ᵗ) + epsilon)
//
// parameter and buffers are updated in place; the gradient is only read. All have the parameter's shape. Elements that
// joined by growth may take a step of their own: of several steps, element i takes steps[stage(i)].
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/core/view.hpp>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/optimizer_step.hpp>
#include <meristem/kernels/packs.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::kernels {

/// Hyper-parameters of one SGD step, named and bounded as in PyTorch.
struct SgdStep {
  double learning_rate = 0.1;
  double momentum = 0.0;
  double dampening = 0.0;
  double weight_decay = 0.0;
  /// Needs momentum > 0 and dampening 0.
  bool nesterov = false;
};

/// What a parameter takes part in a step of SGD with: sgd_step says more.
template <class T>
struct SgdParameter {
  std::vector<SgdStep> steps;      ///< one, or one for each growth stage
  View<const std::int32_t> stage;  ///< of every element; not read for one step
  View<const T> gradient;
  View<T> momentum_buffer;  ///< not touched if momentum is 0
  View<T> parameter;
};

/// Hyper-parameters of one AdamW step, named and bounded as in PyTorch.
struct AdamWStep {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 1e-2;
  /// Number of this step since the moments were zero, 1 for the first.
  std::int64_t step = 1;
};

/// What a parameter takes part in a step of AdamW with: adamw_step says more.
template <class T>
struct AdamWParameter {
  std::vector<AdamWStep> steps;    ///< one, or one for each growth stage
  View<const std::int32_t> stage;  ///< of every element; not read for one step
  View<const T> gradient;
  View<T> first_moment;
  View<T> second_moment;
  View<T> parameter;
};

namespace optimizer_detail {

// Each functor keeps what differs between growth stages in `numbers`, and steps elements W i to W i + W - 1 by `step`.

template <class T>
struct PlainSgd {
  using Element = T;
  struct Numbers {
    T learning_rate;
    T weight_decay;
  };
  const T* gradient;
  T* parameter;
  Numbers numbers;
  template <int W>
  MERISTEM_HD void step(std::int64_t i) const {
    const detail::Pack<T, W> gradients = detail::load_pack<W>(gradient + i * W);
    detail::Pack<T, W> weights = detail::load_pack<W>(parameter + i * W);
    for (int k = 0; k < W; ++k) {
      const T w = weights.at[k];
      weights.at[k] = w - numbers.learning_rate * (gradients.at[k] + numbers.weight_decay * w);
    }
    detail::store_pack(weights, parameter + i * W);
  }
  MERISTEM_HD void operator()(std::int64_t i) const { step<1>(i); }
  [[nodiscard]] MERISTEM_HD bool aligned() const {
    return detail::is_aligned(gradient) && detail::is_aligned(parameter);
  }
};

template <class T>
struct MomentumSgd {
  using Element = T;
  struct Numbers {
    T learning_rate;
    T momentum;
    T gradient_share;
    T weight_decay;
    /// The update is update_gradient · g + update_buffer · v: (0, 1), or (1, momentum) with Nesterov.
    T update_gradient;
    T update_buffer;
  };
  const T* gradient;
  T* buffer;
  T* parameter;
  Numbers numbers;
  template <int W>
  MERISTEM_HD void step(std::int64_t i) const {
    const detail::Pack<T, W> gradients = detail::load_pack<W>(gradient + i * W);
    detail::Pack<T, W> weights = detail::load_pack<W>(parameter + i * W),
                       moments = detail::load_pack<W>(buffer + i * W);
    for (int k = 0; k < W; ++k) {
      const T w = weights.at[k];
      const T g = gradients.at[k] + numbers.weight_decay * w;
      const T v = numbers.momentum * moments.at[k] + numbers.gradient_share * g;
      moments.at[k] = v;
      weights.at[k] = w - numbers.learning_rate * (numbers.update_gradient * g + numbers.update_buffer * v);
    }
    detail::store_pack(moments, buffer + i * W);
    detail::store_pack(weights, parameter + i * W);
  }
  MERISTEM_HD void operator()(std::int64_t i) const { step<1>(i); }
  [[nodiscard]] MERISTEM_HD bool aligned() const {
    return detail::is_aligned(gradient) && detail::is_aligned(buffer) && detail::is_aligned(parameter);
  }
};

template <class T>
struct AdamW {
  using Element = T;
  struct Numbers {
    T keep;  ///< 1 − learning_rate · weight_decay
    T one_minus_beta1;
    T beta2;
    T one_minus_beta2;
    T step_size;   ///< learning_rate / (1 − beta1ᵗ)
    T correction;  ///< √(1 − beta2ᵗ)
    T epsilon;
  };
  const T* gradient;
  T* first_moment;
  T* second_moment;
  T* parameter;
  Numbers numbers;
  template <int W>
  MERISTEM_HD void step(std::int64_t i) const {
    const detail::Pack<T, W> gradients = detail::load_pack<W>(gradient + i * W);
    detail::Pack<T, W> first = detail::load_pack<W>(first_moment + i * W);
    detail::Pack<T, W> second = detail::load_pack<W>(second_moment + i * W);
    detail::Pack<T, W> weights = detail::load_pack<W>(parameter + i * W);
    for (int k = 0; k < W; ++k) {
      const T g = gradients.at[k];
      const T m = first.at[k] + numbers.one_minus_beta1 * (g - first.at[k]);
      const T v = numbers.beta2 * second.at[k] + numbers.one_minus_beta2 * g * g;
      first.at[k] = m;
      second.at[k] = v;
      weights.at[k] = numbers.keep * weights.at[k] -
                      numbers.step_size * m / (detail::square_root(v) / numbers.correction + numbers.epsilon);
    }
    detail::store_pack(first, first_moment + i * W);
    detail::store_pack(second, second_moment + i * W);
    detail::store_pack(weights, parameter + i * W);
  }
  MERISTEM_HD void operator()(std::int64_t i) const { step<1>(i); }
  [[nodiscard]] MERISTEM_HD bool aligned() const {
    return detail::is_aligned(gradient) && detail::is_aligned(first_moment) && detail::is_aligned(second_moment) &&
           detail::is_aligned(parameter);
  }
};

/// The same step with the numbers of each element's growth stage.
template <class Step>
struct ByStage {
  Step step;
  const typename Step::Numbers* table;
  const std::int32_t* stage;
  MERISTEM_HD void operator()(std::int64_t i) const {
    Step own = step;
    own.numbers = table[stage[i]];
    own(i);
  }
};

/// A parameter in the table from which a launch steps all of them.
template <class Step>
struct Entry {
  Step step;                              // with the numbers of the first stage
  const typename Step::Numbers* numbers;  // of every stage, or null where they are all the same
  const std::int32_t* stage;
  std::int64_t size;
  std::int64_t first_chunk;
};

/// Elements of a block.
inline constexpr std::int64_t chunk_elements = 4096;

/// Steps elements [first, last) with `step`, packs of W at a time; `first` is a multiple of W.
template <int W, class Step>
__device__ void step_range(const Step& step, std::int64_t first, std::int64_t last) {
#if !MERISTEM_GPU
  if (blockDim.x == 1) {
    meristem::detail::for_each_range(step, first, last);
    return;
  }
#endif
  if constexpr (W > 1) {
    for (std::int64_t i = first / W + threadIdx.x; i < last / W; i += blockDim.x) step.template step<W>(i);
    first = last / W * W;
  }
  for (std::int64_t i = first + threadIdx.x; i < last; i += blockDim.x) step(i);
}

/// A block steps one chunk of one parameter, unless it is held back.
template <class Step>
__global__ void step_chunks(const Entry<Step>* entries, int count, const std::int32_t* held) {
  if (held != nullptr && *held != 0) return;
  const std::int64_t chunk = blockIdx.x;
  int at = 0;
  for (int beyond = count; beyond - at > 1;) {
    const int middle = (at + beyond) / 2;
    (entries[middle].first_chunk <= chunk ? at : beyond) = middle;
  }
  const Entry<Step> entry = entries[at];
  const std::int64_t first = (chunk - entry.first_chunk) * chunk_elements;
  const std::int64_t last = first + chunk_elements < entry.size ? first + chunk_elements : entry.size;
  if (entry.numbers != nullptr) {
    step_range<1>(ByStage<Step>{entry.step, entry.numbers, entry.stage}, first, last);
  } else if (entry.step.aligned()) {
    step_range<detail::pack_size<typename Step::Element>>(entry.step, first, last);
  } else {
    step_range<1>(entry.step, first, last);
  }
}

/// The parameters of one step, and the numbers of their growth stages.
template <class Step>
class Table {
 public:
  using Numbers = typename Step::Numbers;

  /// Adds a parameter of `size` elements; `step` has no numbers yet. Stages whose numbers are all the same are one.
  void add(Step step, const std::vector<Numbers>& stages, View<const std::int32_t> stage, std::int64_t size) {
    if (size == 0) return;
    step.numbers = stages[0];
    bool same = true;
    for (const Numbers& numbers : stages) same = same && std::memcmp(&numbers, &stages[0], sizeof(Numbers)) == 0;
    first_numbers_.push_back(same ? -1 : std::ssize(numbers_));
    if (!same) numbers_.insert(numbers_.end(), stages.begin(), stages.end());
    entries_.push_back({step, nullptr, stage.data_handle(), size, chunks_});
    chunks_ += (size - 1) / chunk_elements + 1;
  }

  /// Leaves it in `step`, in the memory of the table before where that is large enough.
  void upload(Context& ctx, OptimizerStep& step) {
    static_assert(sizeof(Entry<Step>) % alignof(Numbers) == 0);
    const std::size_t of_entries = entries_.size() * sizeof(Entry<Step>),
                      of_numbers = numbers_.size() * sizeof(Numbers);
    const auto bytes = static_cast<std::int64_t>(of_entries + of_numbers);
    if (step.memory_.size() < bytes) step.memory_ = empty<std::byte>(ctx, {bytes});
    std::byte* const device = step.memory_.data();
    const auto* const numbers = reinterpret_cast<const Numbers*>(device + of_entries);
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (first_numbers_[i] >= 0) entries_[i].numbers = numbers + first_numbers_[i];
    }
    std::vector<std::byte> host(of_entries + of_numbers);
    if (!entries_.empty()) std::memcpy(host.data(), entries_.data(), of_entries);
    if (!numbers_.empty()) std::memcpy(host.data() + of_entries, numbers_.data(), of_numbers);
    meristem::detail::copy_bytes(ctx, device, host.data(), host.size());
    meristem::detail::wait_for_source(ctx, host.data());
    step.launch_ = {device, static_cast<int>(entries_.size()), chunks_, &start};
  }

 private:
  static void start(Context& ctx, const OptimizerStep::Launch& launch, const std::int32_t* held) {
    meristem::launch<step_chunks<Step>>(ctx, blocks_for(launch.chunks, 1), block_threads(ctx, 256), 0,
                                        reinterpret_cast<const Entry<Step>*>(launch.table), launch.entries, held);
  }

  std::vector<Entry<Step>> entries_;
  std::vector<std::ptrdiff_t> first_numbers_;
  std::vector<Numbers> numbers_;
  std::int64_t chunks_ = 0;
};

template <class T, class P>
void check_same(std::string_view function, std::string_view name, View<T> view, View<P> parameter) {
  if (view.shape() != parameter.shape()) {
    throw ShapeError(
        concat(function, ": ", name, " has shape ", view.shape(), ", but the parameter has ", parameter.shape()));
  }
  if (!view.is_contiguous()) {
    throw ShapeError(concat(function, ": ", name, " of shape ", view.shape(), " is strided; it must be contiguous"));
  }
}

// Written so that NaN is refused too.
inline void check_not_negative(std::string_view function, std::string_view name, double value) {
  if (!(value >= 0.0 && std::isfinite(value))) {
    throw ArgumentError(concat(function, ": ", name, " is ", value, "; it must be 0 or more, and finite"));
  }
}

inline void check_fraction(std::string_view function, std::string_view name, double value) {
  if (!(value >= 0.0 && value < 1.0)) {
    throw ArgumentError(concat(function, ": ", name, " is ", value, "; it must lie in [0, 1)"));
  }
}

/// Squares of the elements of one growth stage.
template <class T>
struct StageSquares : detail::SumOp {
  const T* x;
  const std::int32_t* stage_of;
  std::int32_t stage;
  StageSquares(const T* values, const std::int32_t* stages, std::int32_t number)
      : x(values), stage_of(stages), stage(number) {}
  MERISTEM_HD double term(std::int64_t i) const {
    const double value = static_cast<double>(x[i]);
    return stage_of[i] == stage ? value * value : 0.0;
  }
};

/// Throws unless there is a step for every element.
template <class Step, class P>
void check_stages(std::string_view function, std::span<const Step> steps, View<const std::int32_t> stage,
                  View<P> parameter) {
  if (steps.empty()) throw ArgumentError(concat(function, ": there are no steps; give one for each growth stage"));
  if (steps.size() > 1) check_same(function, "stage", stage, parameter);
}

inline void check_step(std::string_view function, const SgdStep& step) {
  check_not_negative(function, "learning_rate", step.learning_rate);
  check_not_negative(function, "momentum", step.momentum);
  check_not_negative(function, "weight_decay", step.weight_decay);
  if (!std::isfinite(step.dampening)) {
    throw ArgumentError(concat(function, ": dampening is ", step.dampening, "; it must be finite"));
  }
  if (step.nesterov && (step.momentum == 0.0 || step.dampening != 0.0)) {
    throw ArgumentError(concat(function, ": nesterov needs momentum > 0 and dampening 0; got momentum ", step.momentum,
                               " and dampening ", step.dampening));
  }
}

inline void check_step(std::string_view function, const AdamWStep& step) {
  check_not_negative(function, "learning_rate", step.learning_rate);
  check_fraction(function, "beta1", step.beta1);
  check_fraction(function, "beta2", step.beta2);
  check_not_negative(function, "epsilon", step.epsilon);
  check_not_negative(function, "weight_decay", step.weight_decay);
  if (step.step < 1) {
    throw ArgumentError(concat(function, ": step is ", step.step, "; steps are counted from 1"));
  }
}

}  // namespace optimizer_detail

/// Sum of the squares of the elements whose growth stage is `number`, squared and summed in double. Waits for the
/// device. Throws ShapeError unless both are contiguous and of equal shape.
template <class T>
[[nodiscard]] double stage_sum_squares(Context& ctx, View<T> x, View<const std::int32_t> stage, std::int32_t number) {
  optimizer_detail::check_same("stage_sum_squares", "x", x, x);
  optimizer_detail::check_same("stage_sum_squares", "stage", stage, x);
  return detail::reduce(
      ctx, optimizer_detail::StageSquares<std::remove_const_t<T>>(x.data_handle(), stage.data_handle(), number),
      x.size());
}

/// Makes ready one SGD step of all `parameters` in one launch; equation at the top of this file. Of several steps, one
/// for each growth stage, element i takes steps[stage(i)]; all or none have momentum.
///
/// The caller starts with momentum buffers of zeros and, to have PyTorch's first step v = g, a dampening of 0 in it.
/// Stages are not checked; momentum buffers are overwritten with the new v. No parameter may be there twice. Throws
/// ShapeError for shapes that differ or strided views, ArgumentError for hyper-parameters out of range; `step` is as
/// before then.
template <class T>
void prepare_sgd(Context& ctx, std::type_identity_t<std::span<const SgdParameter<T>>> parameters, OptimizerStep& step) {
  namespace impl = optimizer_detail;
  constexpr std::string_view name = "sgd_step";
  const bool momentum = !parameters.empty() && !parameters[0].steps.empty() && parameters[0].steps[0].momentum != 0.0;
  impl::Table<impl::PlainSgd<T>> plain;
  impl::Table<impl::MomentumSgd<T>> with_momentum;
  for (const auto& [steps, stage, gradient, buffer, parameter] : parameters) {
    for (const SgdStep& one : steps) impl::check_step(name, one);
    impl::check_same(name, "the parameter", parameter, parameter);
    impl::check_same(name, "gradient", gradient, parameter);
    impl::check_stages(name, std::span<const SgdStep>(steps), stage, parameter);
    for (const SgdStep& one : steps) {
      if ((one.momentum != 0.0) != momentum) {
        throw ArgumentError(
            concat(name, ": some steps have momentum and some have none; give all or none of them one"));
      }
    }
    if (!momentum) {
      std::vector<typename impl::PlainSgd<T>::Numbers> numbers;
      for (const SgdStep& one : steps) {
        numbers.push_back({static_cast<T>(one.learning_rate), static_cast<T>(one.weight_decay)});
      }
      plain.add({gradient.data_handle(), parameter.data_handle(), {}}, numbers, stage, parameter.size());
      continue;
    }
    if (buffer.data_handle() == nullptr && !parameter.empty()) {
      throw ShapeError(concat(name, ": momentum is ", steps[0].momentum, ", so a momentum_buffer of shape ",
                              parameter.shape(), ", zero at the start, is needed; got an empty view"));
    }
    impl::check_same(name, "momentum_buffer", buffer, parameter);
    std::vector<typename impl::MomentumSgd<T>::Numbers> numbers;
    for (const SgdStep& one : steps) {
      numbers.push_back({static_cast<T>(one.learning_rate), static_cast<T>(one.momentum),
                         static_cast<T>(1.0 - one.dampening), static_cast<T>(one.weight_decay),
                         static_cast<T>(one.nesterov ? 1.0 : 0.0), static_cast<T>(one.nesterov ? one.momentum : 1.0)});
    }
    with_momentum.add({gradient.data_handle(), buffer.data_handle(), parameter.data_handle(), {}}, numbers, stage,
                      parameter.size());
  }
  if (momentum) {
    with_momentum.upload(ctx, step);
  } else {
    plain.upload(ctx, step);
  }
}

/// Takes such a step. Nothing changes where `held`, a number in device memory, is not 0 when the device gets there.
template <class T>
void sgd_step(Context& ctx, std::type_identity_t<std::span<const SgdParameter<T>>> parameters,
              const std::int32_t* held = nullptr) {
  OptimizerStep step;
  prepare_sgd<T>(ctx, parameters, step);
  step.start(ctx, held);
}

/// The same for one parameter.
template <class T>
void sgd_step(Context& ctx, std::span<const SgdStep> steps, View<const std::int32_t> stage,
              View<const std::type_identity_t<T>> gradient, View<std::type_identity_t<T>> momentum_buffer,
              View<T> parameter) {
  const SgdParameter<T> only{{steps.begin(), steps.end()}, stage, gradient, momentum_buffer, parameter};
  sgd_step<T>(ctx, std::span(&only, 1));
}

/// The same step for every element.
template <class T>
void sgd_step(Context& ctx, const SgdStep& step, View<const std::type_identity_t<T>> gradient,
              View<std::type_identity_t<T>> momentum_buffer, View<T> parameter) {
  sgd_step<T>(ctx, std::span<const SgdStep>(&step, 1), View<const std::int32_t>(), gradient, momentum_buffer,
              parameter);
}

/// Makes ready one AdamW step of all `parameters` in one launch; equation at the top of this file. Both moments start
/// at zero. Of several steps, one for each growth stage, element i takes steps[stage(i)]; stages are not checked. No
/// parameter may be there twice. Throws ShapeError for shapes that differ or strided views, ArgumentError for
/// hyper-parameters out of range; `step` is as before then.
template <class T>
void prepare_adamw(Context& ctx, std::type_identity_t<std::span<const AdamWParameter<T>>> parameters,
                   OptimizerStep& step) {
  namespace impl = optimizer_detail;
  constexpr std::string_view name = "adamw_step";
  impl::Table<impl::AdamW<T>> table;
  for (const auto& [steps, stage, gradient, first_moment, second_moment, parameter] : parameters) {
    for (const AdamWStep& one : steps) impl::check_step(name, one);
    impl::check_same(name, "the parameter", parameter, parameter);
    impl::check_same(name, "gradient", gradient, parameter);
    impl::check_same(name, "first_moment", first_moment, parameter);
    impl::check_same(name, "second_moment", second_moment, parameter);
    impl::check_stages(name, std::span<const AdamWStep>(steps), stage, parameter);
    std::vector<typename impl::AdamW<T>::Numbers> numbers;
    for (const AdamWStep& one : steps) {
      const double t = static_cast<double>(one.step);
      numbers.push_back({static_cast<T>(1.0 - one.learning_rate * one.weight_decay), static_cast<T>(1.0 - one.beta1),
                         static_cast<T>(one.beta2), static_cast<T>(1.0 - one.beta2),
                         static_cast<T>(one.learning_rate / (1.0 - std::pow(one.beta1, t))),
                         static_cast<T>(std::sqrt(1.0 - std::pow(one.beta2, t))), static_cast<T>(one.epsilon)});
    }
    table.add(
        {gradient.data_handle(), first_moment.data_handle(), second_moment.data_handle(), parameter.data_handle(), {}},
        numbers, stage, parameter.size());
  }
  table.upload(ctx, step);
}

/// Takes such a step. `held` as in sgd_step.
template <class T>
void adamw_step(Context& ctx, std::type_identity_t<std::span<const AdamWParameter<T>>> parameters,
                const std::int32_t* held = nullptr) {
  OptimizerStep step;
  prepare_adamw<T>(ctx, parameters, step);
  step.start(ctx, held);
}

/// The same for one parameter.
template <class T>
void adamw_step(Context& ctx, std::span<const AdamWStep> steps, View<const std::int32_t> stage,
                View<const std::type_identity_t<T>> gradient, View<std::type_identity_t<T>> first_moment,
                View<std::type_identity_t<T>> second_moment, View<T> parameter) {
  const AdamWParameter<T> only{{steps.begin(), steps.end()}, stage, gradient, first_moment, second_moment, parameter};
  adamw_step<T>(ctx, std::span(&only, 1));
}

/// The same step for every element.
template <class T>
void adamw_step(Context& ctx, const AdamWStep& step, View<const std::type_identity_t<T>> gradient,
                View<std::type_identity_t<T>> first_moment, View<std::type_identity_t<T>> second_moment,
                View<T> parameter) {
  adamw_step<T>(ctx, std::span<const AdamWStep>(&step, 1), View<const std::int32_t>(), gradient, first_moment,
                second_moment, parameter);
}

}  // namespace meristem::kernels
