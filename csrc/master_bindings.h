#pragma once

#include <pybind11/pybind11.h>

#include <functional>

namespace mixsolve {

using Interrupted = std::function<bool()>;

// Calls its second argument without the interpreter, with the question whether to stop; the first is a cancel token or
// None. Exceptions of signal handlers come out of it.
using RunInterruptibly = std::function<void(const pybind11::object&, const std::function<void(const Interrupted&)>&)>;

void bind_master(pybind11::module_& module, const RunInterruptibly& run);

}  // namespace mixsolve
