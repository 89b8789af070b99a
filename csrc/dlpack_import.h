// Arrays of other libraries, taken over without a copy through DLPack.
#pragma once

#include <pybind11/pybind11.h>

namespace mixsolve {

// (array, storage, device type, device id): a NumPy view that keeps the exporter's memory alive. bfloat16 comes as
// uint16. The array of a tensor that is not in CPU memory is None. TypeError for types that the pass does not read as
// they are stored, such as integers and bool.
pybind11::tuple import_dlpack(const pybind11::object& exporter);

// (owner, storage, device type, device id, pointer, shape, strides in bytes) of a tensor in the memory of any device,
// ready in the order of this stream, in the numbers of the array API.
pybind11::tuple import_device_dlpack(const pybind11::object& exporter, int64_t stream);

}  // namespace mixsolve
