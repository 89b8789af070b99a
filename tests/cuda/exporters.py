"""Arrays that say they are on a CUDA device, in this process's memory: what libraries export, where there is no GPU."""

import ctypes

import numpy as np

DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

# What has been exported, by address, and what has been given back: freed by nobody, since a deleter that is running
# must not go.
LENT, GIVEN_BACK = {}, []


class DlTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class DlManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", DlTensor), ("manager", ctypes.c_void_p), ("deleter", DELETER))


class Dlpack:
    """Exports an array by DLPack.

    Attributes
    ----------
    streams : list of int
        What each importer asked for.
    deleted : int
        How many imported tensors have been given back.
    """

    def __init__(self, array, device=0, kind=2):
        self.array, self.device, self.kind = array, device, kind
        self.streams, self.deleted = [], 0

    def __dlpack_device__(self):
        return self.kind, self.device

    def __dlpack__(self, stream=None):
        self.streams.append(stream)
        array, n = self.array, self.array.ndim
        code = {"bfloat16": 4, "int64": 0, "uint8": 1, "bool": 6}.get(array.dtype.name, 2)
        shape = (ctypes.c_int64 * n)(*array.shape)
        strides = (ctypes.c_int64 * n)(*(step // array.itemsize for step in array.strides))
        begin = array.__array_interface__["data"][0]
        managed = DlManagedTensor()
        managed.tensor = DlTensor(
            begin, self.kind, self.device, n, code, 8 * array.itemsize, 1, shape, strides, 0
        )
        managed.deleter = DELETER(self._delete)
        LENT[ctypes.addressof(managed)] = (managed, shape, strides, self)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return new(ctypes.addressof(managed), b"dltensor", None)

    def _delete(self, address):
        self.deleted += 1
        GIVEN_BACK.append(LENT.pop(address))


class Interface:
    """Exports an array by the CUDA array interface alone."""

    def __init__(self, array, **others):
        self.array, self.others = array, others

    @property
    def __cuda_array_interface__(self):
        described = self.array.__array_interface__
        strides = None if self.array.flags.c_contiguous else self.array.strides
        return {
            "shape": self.array.shape,
            "typestr": self.array.dtype.str,
            "data": (described["data"][0], not self.array.flags.writeable),
            "strides": strides,
            "version": 3,
            **self.others,
        }


def misaligned(array):
    """The same numbers, one byte beside where their type may lie."""
    memory = np.zeros(array.nbytes + 1, dtype=np.uint8)
    moved = np.ndarray(array.shape, array.dtype, memory.data, offset=1)
    moved[...] = array
    return moved
