#pragma once

#include <pybind11/pybind11.h>

namespace mixsolve {

void bind_files(pybind11::module_& module);

}  // namespace mixsolve
