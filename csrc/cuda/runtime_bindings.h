// What Python may ask of the machine behind the module.
#pragma once

#include <pybind11/pybind11.h>

#include <functional>

namespace mixsolve {
namespace cuda {

void bind_runtime(pybind11::module_& module);
void run_without_interpreter(const std::function<void()>& call);

}  // namespace cuda
}  // namespace mixsolve
