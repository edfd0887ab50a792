#include <meristem/interop/dlpack.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <support/check.hpp>

namespace interop_dlpack_test {

namespace {

namespace ms = meristem;

/// A tensor as another library would export it, on memory of that library, with a count of deleter calls.
struct DlpackProducer {
  ms::Context memory;
  ms::Tensor<float> elements;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  DLManagedTensor managed{};
  int deleted = 0;

  explicit DlpackProducer(std::vector<std::int64_t> shape_)
      : elements(ms::from_host<float>(memory, {24}, support::normal_values<float>(24, 3))), shape(std::move(shape_)) {
    managed.dl_tensor.data = elements.data();
    managed.dl_tensor.device = {MERISTEM_GPU ? kDLCUDA : kDLCPU, 0};
    managed.dl_tensor.ndim = static_cast<int>(shape.size());
    managed.dl_tensor.dtype = {kDLFloat, 32, 1};
    managed.dl_tensor.shape = shape.data();
    managed.manager_ctx = this;
    managed.deleter = [](DLManagedTensor* self) { ++static_cast<DlpackProducer*>(self->manager_ctx)->deleted; };
  }
  DlpackProducer(const DlpackProducer&) = delete;
  DlpackProducer& operator=(const DlpackProducer&) = delete;

  DLTensor& tensor() { return managed.dl_tensor; }
  void set_strides(std::vector<std::int64_t> values) {
    strides = std::move(values);
    managed.dl_tensor.strides = strides.data();
  }
};

/// The message of the refusal; the elements must be left alone and the tensor with its producer.
template <class Failure, class T = float>
std::string dlpack_refusal(DlpackProducer& producer) {
  ms::Context ctx;
  // Whoever reads an element now ends the program.
  void* const data = producer.tensor().data;
  if (data != nullptr) producer.tensor().data = reinterpret_cast<void*>(std::uintptr_t{4096});
  const std::string message =
      support::message_of<Failure>([&] { static_cast<void>(ms::interop::from_dlpack<T>(ctx, &producer.managed)); });
  producer.tensor().data = data;
  CHECK(producer.deleted == 0);
  return message;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("dlpack: a view shares the producer's memory and owns nothing") {
  ms::Context ctx;
  DlpackProducer producer({2, 3, 4});
  const auto view = ms::interop::view_of_dlpack<float>(ctx, producer.tensor());
  CHECK(view.data_handle() == producer.elements.data());
  CHECK(view.shape() == ms::Shape{2, 3, 4});
  support::check_same_bits(ms::to_host(ctx, view), support::normal_values<float>(24, 3));
  CHECK(ms::interop::view_of_dlpack<const float>(ctx, producer.tensor()).data_handle() == producer.elements.data());
  CHECK(producer.deleted == 0);
}

TEST_CASE("dlpack: an imported tensor calls the deleter once, when the last of it goes") {
  DlpackProducer producer({4, 6});
  {
    ms::Context ctx;
    auto tensor = ms::interop::from_dlpack<float>(ctx, &producer.managed);
    CHECK(tensor.data() == producer.elements.data());
    CHECK(ctx.memory()->in_use() == 0);
    auto moved = std::move(tensor).reshape({24});
    tensor = ms::zeros<float>(ctx, {1});
    CHECK(producer.deleted == 0);
    support::check_same_bits(ms::to_host(ctx, moved), support::normal_values<float>(24, 3));
  }
  CHECK(producer.deleted == 1);
}

TEST_CASE("dlpack: offsets, strides of axes with one index, rank 0, empty tensors, no deleter") {
  ms::Context ctx;
  DlpackProducer offset({5, 1, 4});
  offset.tensor().byte_offset = 16;
  offset.set_strides({4, 77, 1});
  const auto view = ms::interop::view_of_dlpack<float>(ctx, offset.tensor());
  CHECK(view.data_handle() == offset.elements.data() + 4);
  CHECK(view.shape() == ms::Shape{5, 1, 4});
  CHECK(view.is_contiguous());

  DlpackProducer number({});
  number.tensor().shape = nullptr;
  CHECK(ms::interop::view_of_dlpack<float>(ctx, number.tensor()).shape() == ms::Shape{});

  DlpackProducer none({3, 0, 2});
  none.tensor().data = nullptr;
  none.set_strides({9, 9, 9});
  CHECK(ms::interop::from_dlpack<float>(ctx, &none.managed).shape() == ms::Shape{3, 0, 2});
  CHECK(none.deleted == 1);

  DlpackProducer forever({24});
  forever.managed.deleter = nullptr;
  CHECK(ms::interop::from_dlpack<float>(ctx, &forever.managed).size() == 24);
}

TEST_CASE("dlpack: what is not taken is refused before an element is read, and stays with its producer") {
  using ms::ArgumentError, ms::ShapeError;
  const std::string own = MERISTEM_GPU ? "GPU 0" : "CPU 0";
  {
    DlpackProducer other({24});
    other.tensor().device = {MERISTEM_GPU ? kDLCPU : kDLCUDA, 0};
    CHECK(dlpack_refusal<ArgumentError>(other) == std::string("DLPack: the tensor lies on ") +
                                                      (MERISTEM_GPU ? "CPU 0" : "GPU 0") + ", the Context runs on " +
                                                      own + "; move the tensor there first");
    other.tensor().device = {MERISTEM_GPU ? kDLCUDA : kDLCPU, 1};
    CHECK(dlpack_refusal<ArgumentError>(other).find(MERISTEM_GPU ? "lies on GPU 1," : "lies on CPU 1,") !=
          std::string::npos);
    other.tensor().device = {kDLROCM, 2};
    CHECK(dlpack_refusal<ArgumentError>(other).find("lies on device 2 of DLPack's type 10,") != std::string::npos);
  }
  {
    DlpackProducer typed({24});
    const std::pair<DLDataType, const char*> types[] = {{{kDLFloat, 16, 1}, "float16"},
                                                        {{kDLBfloat, 16, 1}, "bfloat16"},
                                                        {{kDLInt, 32, 1}, "int32"},
                                                        {{kDLUInt, 32, 1}, "uint32"},
                                                        {{kDLComplex, 64, 1}, "complex64"},
                                                        {{kDLFloat, 32, 4}, "float32 x 4 lanes"},
                                                        {{99, 8, 1}, "type with code 99 and 8 bits"}};
    for (const auto& [type, name] : types) {
      typed.tensor().dtype = type;
      CHECK(dlpack_refusal<ArgumentError>(typed) ==
            std::string("DLPack: the tensor's elements are ") + name +
                ", float32 was asked for; convert it first, or ask for its own type");
    }
    typed.tensor().dtype = {kDLFloat, 32, 1};
    CHECK(dlpack_refusal<ArgumentError, std::int64_t>(typed).find("are float32, int64 was asked for") !=
          std::string::npos);
  }
  {
    DlpackProducer axes({1, 1, 1, 1, 1, 24});
    CHECK(dlpack_refusal<ShapeError>(axes) ==
          "DLPack: the tensor has 6 axes; 0 to 5 are taken; merge some of them first");
    axes.tensor().ndim = -1;
    CHECK(dlpack_refusal<ShapeError>(axes).find("has -1 axes") != std::string::npos);
    axes.tensor().ndim = 2;
    axes.tensor().shape = nullptr;
    CHECK(dlpack_refusal<ShapeError>(axes) == "DLPack: the tensor has 2 axes, but its shape is a null pointer");
  }
  {
    DlpackProducer shaped({3, -8});
    CHECK(dlpack_refusal<ShapeError>(shaped) == "extent 1 of a shape is -8; extents are 0 or more");
    shaped.shape = {std::int64_t{1} << 40, std::int64_t{1} << 40};
    shaped.tensor().shape = shaped.shape.data();
    CHECK(dlpack_refusal<ShapeError>(shaped).find("exceeds 2^63 - 1") != std::string::npos);
  }
  {
    DlpackProducer strided({3, 4});
    for (const auto& strides : {std::vector<std::int64_t>{1, 3}, {8, 2}, {4, 0}, {-4, 1}, {4, -1}, {5, 1}}) {
      strided.set_strides(strides);
      const int axis = strides[1] == 1 ? 0 : 1;
      CHECK(dlpack_refusal<ShapeError>(strided) ==
            ms::concat("DLPack: axis ", axis, " of the tensor of shape (3, 4) has stride ",
                       strides[static_cast<std::size_t>(axis)], ", a row-major array without gaps has ",
                       axis == 0 ? 4 : 1,
                       " there; make it contiguous first (numpy.ascontiguousarray, torch.Tensor.contiguous)"));
    }
  }
  {
    DlpackProducer lost({3, 4});
    lost.tensor().data = nullptr;
    CHECK(dlpack_refusal<ShapeError>(lost) == "DLPack: a tensor of shape (3, 4) needs data, but the pointer is null");
    DlpackProducer misaligned({3, 4});
    misaligned.tensor().byte_offset = 6;
    CHECK(dlpack_refusal<ArgumentError>(misaligned).find("which is not a multiple of 4") != std::string::npos);
    // Sums and products that wrap around.
    DlpackProducer offset({3, 4});
    offset.tensor().byte_offset = UINT64_MAX - 7;
    CHECK(dlpack_refusal<ShapeError>(offset) ==
          "DLPack: the tensor's elements would begin 18446744073709551608 bytes behind its address, beyond the end of "
          "memory; ask who exported it");
    DlpackProducer large({std::int64_t{1} << 62});
    CHECK(dlpack_refusal<ShapeError>(large) ==
          "a view of shape (4611686018427387904) of elements of 4 bytes would reach "
          "beyond the end of memory; check the shape");
  }
  ms::Context ctx;
  CHECK(support::message_of<ArgumentError>([&] { static_cast<void>(ms::interop::from_dlpack<float>(ctx, nullptr)); }) ==
        "DLPack: the pointer to the tensor is null; hand over what to_dlpack or a capsule holds");
}

TEST_CASE("dlpack: an exported tensor lives until the deleter is called, its context need not") {
  DLManagedTensor* managed = nullptr;
  std::shared_ptr<ms::Memory> memory;
  const auto values = support::normal_values<double>(6, 5);
  {
    ms::Context ctx;
    memory = ctx.memory();
    auto tensor = ms::from_host<double>(ctx, {3, 2}, values);
    const double* data = tensor.data();
    managed = ms::interop::to_dlpack(ctx, std::move(tensor)).release();
    CHECK(managed->dl_tensor.data == data);
  }
  const DLTensor& exported = managed->dl_tensor;
  CHECK(exported.device.device_type == (MERISTEM_GPU ? kDLCUDA : kDLCPU));
  CHECK(exported.device.device_id == 0);
  CHECK(exported.ndim == 2);
  CHECK(exported.dtype.code == kDLFloat);
  CHECK(exported.dtype.bits == 64);
  CHECK(exported.dtype.lanes == 1);
  CHECK(exported.shape[0] == 3);
  CHECK(exported.shape[1] == 2);
  CHECK(exported.strides[0] == 2);
  CHECK(exported.strides[1] == 1);
  CHECK(exported.byte_offset == 0);
  CHECK(memory->in_use() > 0);
  {
    // Another user of the library takes it.
    ms::Context other;
    const auto imported = ms::interop::from_dlpack<double>(other, managed);
    support::check_same_bits(ms::to_host(other, imported), values);
    CHECK(memory->in_use() > 0);
  }
  CHECK(memory->in_use() == 0);
}

TEST_CASE("dlpack: a view is exported with its strides and the share in its owner") {
  ms::Context ctx;
  const auto tensor = std::make_shared<ms::Tensor<std::int32_t>>(ms::zeros<std::int32_t>(ctx, {4, 6}));
  {
    const ms::interop::DlpackPtr exported = ms::interop::to_dlpack(ctx, tensor->view().slice(1, 2, 5), tensor);
    CHECK(tensor.use_count() == 2);
    CHECK(exported->dl_tensor.data == tensor->data() + 2);
    CHECK(exported->dl_tensor.shape[1] == 3);
    CHECK(exported->dl_tensor.strides[0] == 6);
    CHECK(exported->dl_tensor.dtype.code == kDLInt);
    CHECK_THROWS_AS(static_cast<void>(ms::interop::from_dlpack<std::int32_t>(ctx, exported.get())), ms::ShapeError);
    CHECK(tensor.use_count() == 2);
  }
  CHECK(tensor.use_count() == 1);
  const auto none = ms::interop::to_dlpack(ctx, ms::Tensor<std::uint8_t>());
  CHECK(none->dl_tensor.ndim == 1);
  CHECK(none->dl_tensor.shape[0] == 0);
  CHECK(
      support::message_of<ms::ArgumentError>(
          [&] { static_cast<void>(ms::interop::to_dlpack(ctx, tensor->view(), nullptr)); }) ==
      "DLPack: a view of shape (4, 6) cannot be exported without the owner of its memory, such as a shared_ptr to its "
      "tensor");
}

TEST_SUITE_END();

}  // namespace interop_dlpack_test
