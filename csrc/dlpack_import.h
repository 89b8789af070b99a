// Arrays of other libraries, taken over without a copy through DLPack.
#pragma once

#include <pybind11/pybind11.h>

namespace mixsolve {

// (array, storage, device type, device id): a NumPy view that keeps the exporter's memory alive. bfloat16 comes as
// uint16. The array of a tensor that is not in CPU memory is None. TypeError for types that the pass does not read as
// they are stored, such as integers and bool.
pybind11::tuple import_dlpack(const pybind11::object& exporter);

}  // namespace mixsolve
