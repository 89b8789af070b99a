#pragma once

#include <pybind11/pybind11.h>

#include "binary_rows.h"
#include "pass_arguments.h"

namespace mixsolve {

using Words = pybind11::array_t<uint64_t, pybind11::array::c_style>;

// The answer as Python sees it: (rows_read, None), or (rows_read, (offsets, fooled, attack, mass, group, leader)).
pybind11::tuple as_python(const BinaryRows& rows);

// (group, leader) of samples from their offsets and sets; `mass`, one per set, and `temperature`, one per sample, are
// arrays or None.
pybind11::tuple binary_groups(const Integers& offsets, const Words& fooled, const pybind11::object& mass,
                              const pybind11::object& temperature);

}  // namespace mixsolve
