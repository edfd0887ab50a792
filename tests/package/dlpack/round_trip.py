"""round_trip.py numpy|torch: tensors from the library to NumPy or PyTorch and back, their memory and who frees it."""

import gc
import sys
import weakref

import meristem_dlpack as ms


class Exported:
    """What from_dlpack of both libraries asks for."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, **_):
        return self.capsule

    def __dlpack_device__(self):
        return (1, 0)


def expect(condition, what):
    if not condition:
        sys.exit(f"failed: {what}")


def refused(array, part):
    capsule = array.__dlpack__()
    try:
        ms.take(capsule)
    except ValueError as error:
        expect(part in str(error), f"the refusal says '{part}': {error}")
    else:
        sys.exit(f"failed: a tensor was taken that should be refused for '{part}'")
    expect('"dltensor"' in repr(capsule), "a refused capsule is left as it was")


class NumPy:
    def __init__(self):
        import numpy

        self.framework = numpy
        self.from_dlpack = numpy.from_dlpack
        self.float16 = numpy.float16

    def owner(self, array):
        return array

    def address(self, array):
        return array.ctypes.data

    def transposed(self, array):
        return array.T


class Torch:
    def __init__(self):
        import torch
        import torch.utils.dlpack

        self.framework = torch
        self.from_dlpack = lambda exported: torch.utils.dlpack.from_dlpack(exported.capsule)
        self.float16 = torch.float16

    def owner(self, array):
        return array.untyped_storage() if hasattr(array, "untyped_storage") else array.storage()

    def address(self, array):
        return array.data_ptr()

    def transposed(self, array):
        return array.t()


def main():
    try:
        other = {"numpy": NumPy, "torch": Torch}[sys.argv[1]]()
        getattr(other.framework, "float32"), getattr(other.framework.ones(1), "__dlpack__")
    except (ImportError, AttributeError) as error:
        print(f"skipped: {sys.executable} has no {sys.argv[1]} with DLPack ({error})")
        return
    framework = other.framework

    # In: the elements are shared, both ways.
    array = framework.ones((3, 4), dtype=framework.float32)
    number = ms.take(array.__dlpack__())
    ms.scale(number, 2.5)
    expect(float(array.sum()) == 30.0, "the library writes into the array it was given")
    expect(ms.bytes_in_use() == 0, "nothing was copied")

    # The array's memory outlives the array as long as the library holds the tensor.
    address = other.address(array)
    alive = weakref.finalize(array, lambda: None) if sys.argv[1] == "numpy" else None
    del array
    gc.collect()
    expect(alive is None or alive.alive, "the library keeps the array")
    again = other.from_dlpack(Exported(ms.share(number)))
    expect(other.address(again) == address, "in and out again is the same memory")
    ms.let_go(number)
    ms_sum = float(again.sum())
    expect(ms_sum == 30.0, "a share keeps the memory after the tensor was let go")
    expect(tuple(again.shape) == (3, 4) and again.dtype == framework.float32, "shape and type survive")
    del again
    gc.collect()
    expect(alive is None or not alive.alive, "the array goes with the last share")

    # Out: a tensor of the library lives as long as the array, and no longer.
    matrix = other.from_dlpack(Exported(ms.counted(5, 7)))
    expect(ms.bytes_in_use() > 0, "the tensor lives in the library's memory")
    expect(tuple(matrix.shape) == (5, 7) and matrix.dtype == framework.float64, "shape and type arrive")
    expect(all(float(matrix[i, j]) == 7 * i + j for i in range(5) for j in range(7)), "elements arrive in place")
    part = matrix[1:3]
    del matrix
    gc.collect()
    expect(float(part[1, 0]) == 14.0, "a part keeps the whole alive")
    del part
    gc.collect()
    expect(ms.bytes_in_use() == 0, "the tensor goes with the last array on it")

    # A capsule that nobody takes over frees its tensor; one that was taken over cannot be taken again.
    capsule = ms.counted(2, 2)
    del capsule
    gc.collect()
    expect(ms.bytes_in_use() == 0, "a capsule that nobody took frees its tensor")
    capsule = framework.zeros(4, dtype=framework.float32).__dlpack__()
    ms.let_go(ms.take(capsule))
    try:
        ms.take(capsule)
    except ValueError:
        pass
    else:
        sys.exit("failed: a capsule was taken twice")

    empty = ms.take(framework.zeros((0, 3), dtype=framework.float32).__dlpack__())
    expect(tuple(other.from_dlpack(Exported(ms.share(empty))).shape) == (0, 3), "an empty array goes round")
    ms.let_go(empty)

    zeros = framework.zeros((3, 4), dtype=framework.float32)
    refused(other.transposed(zeros), "row-major")
    refused(zeros[:, 1:3], "row-major")
    refused(framework.zeros(3, dtype=other.float16), "float16")
    refused(framework.zeros(3, dtype=framework.int64), "int64")
    refused(framework.zeros((1, 1, 1, 1, 1, 2), dtype=framework.float32), "6 axes")
    print(f"{sys.argv[1]} {framework.__version__}: passed")


main()
