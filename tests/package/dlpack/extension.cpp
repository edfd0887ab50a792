// A Python module that takes tensors over and gives tensors out by DLPack capsules, for round_trip.py.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <meristem/core/context.hpp>
#include <meristem/core/error.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/interop/dlpack.hpp>

namespace ms = meristem;
namespace interop = meristem::interop;

namespace {

ms::Context& context() {
  static ms::Context ctx;
  return ctx;
}

/// Tensors that were taken over, by the number that `take` gave them; null once they were let go.
std::vector<std::shared_ptr<ms::Tensor<float>>>& held() {
  static std::vector<std::shared_ptr<ms::Tensor<float>>> tensors;
  return tensors;
}

struct Scale {
  float* x;
  float factor;
  void operator()(std::int64_t i) const { x[i] *= factor; }
};

void destroy_capsule(PyObject* capsule) {
  // Whoever took the tensor over has renamed the capsule.
  if (PyCapsule_IsValid(capsule, "dltensor") == 0) return;
  interop::DlpackPtr(static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor")));
}

PyObject* to_capsule(interop::DlpackPtr tensor) {
  PyObject* capsule = PyCapsule_New(tensor.get(), "dltensor", destroy_capsule);
  if (capsule != nullptr) (void)tensor.release();
  return capsule;
}

/// Runs `body`; an error of the library becomes a Python exception.
template <class Body>
PyObject* guarded(const Body& body) {
  try {
    return body();
  } catch (const ms::Error& error) {
    PyErr_SetString(PyExc_ValueError, error.message().c_str());
    return nullptr;
  }
}

std::shared_ptr<ms::Tensor<float>>& held_tensor(PyObject* number) {
  const auto index = static_cast<std::size_t>(PyLong_AsLong(number));
  if (index >= held().size() || !held()[index]) throw ms::ArgumentError(ms::concat("no tensor ", index, " is held"));
  return held()[index];
}

PyObject* take(PyObject*, PyObject* capsule) {
  return guarded([&]() -> PyObject* {
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    if (managed == nullptr) return nullptr;
    held().push_back(std::make_shared<ms::Tensor<float>>(interop::from_dlpack<float>(context(), managed)));
    PyCapsule_SetName(capsule, "used_dltensor");
    return PyLong_FromSize_t(held().size() - 1);
  });
}

PyObject* let_go(PyObject*, PyObject* number) {
  return guarded([&]() -> PyObject* {
    held_tensor(number).reset();
    Py_RETURN_NONE;
  });
}

PyObject* scale(PyObject*, PyObject* arguments) {
  PyObject* number = nullptr;
  float factor = 0;
  if (PyArg_ParseTuple(arguments, "Of", &number, &factor) == 0) return nullptr;
  return guarded([&]() -> PyObject* {
    ms::Tensor<float>& tensor = *held_tensor(number);
    ms::for_each(context(), tensor.size(), Scale{tensor.data(), factor});
    Py_RETURN_NONE;
  });
}

PyObject* share(PyObject*, PyObject* number) {
  return guarded([&]() -> PyObject* {
    const auto tensor = held_tensor(number);
    return to_capsule(interop::to_dlpack(context(), tensor->view(), tensor));
  });
}

PyObject* counted(PyObject*, PyObject* arguments) {
  long long rows = 0, columns = 0;
  if (PyArg_ParseTuple(arguments, "LL", &rows, &columns) == 0) return nullptr;
  return guarded([&]() -> PyObject* {
    std::vector<double> values;
    for (long long i = 0; i < rows * columns; ++i) values.push_back(static_cast<double>(i));
    return to_capsule(interop::to_dlpack(context(), ms::from_host<double>(context(), {rows, columns}, values)));
  });
}

PyObject* bytes_in_use(PyObject*, PyObject*) { return PyLong_FromSize_t(context().memory()->in_use()); }

PyMethodDef methods[] = {
    {"take", take, METH_O, "take(capsule) -> number: takes a float32 tensor over"},
    {"let_go", let_go, METH_O, "let_go(number): lets go of a tensor that was taken over"},
    {"scale", scale, METH_VARARGS, "scale(number, factor): multiplies its elements, in place"},
    {"share", share, METH_O, "share(number) -> capsule: the tensor once more, still held"},
    {"counted", counted, METH_VARARGS,
     "counted(rows, columns) -> capsule: a float64 matrix 0, 1, 2, .. of the library"},
    {"bytes_in_use", bytes_in_use, METH_NOARGS, "bytes_in_use() -> int: of the library's own memory"},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "meristem_dlpack", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_meristem_dlpack() { return PyModule_Create(&module); }
