#pragma once

#include <pybind11/pybind11.h>

#include "binary_rows.h"

namespace mixsolve {

// The answer as Python sees it: (rows_read, None), or (rows_read, (offsets, fooled, attack, mass, group, leader)).
pybind11::tuple as_python(const BinaryRows& rows);

}  // namespace mixsolve
