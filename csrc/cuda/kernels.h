// The kernels by name, for the launcher.
#pragma once

#include <cstddef>

#include "arguments.h"

namespace mixsolve {
namespace cuda {

struct Kernel {
    const char* name;
    const void* entry;
    size_t argument_bytes;
};

const Kernel& pass_kernel(Storage storage, bool float64_scores, bool hessian);  // one block per chunk
const Kernel& settle_kernel();                                                  // one block per split sample
const Kernel& reduce_kernel();                                                  // one block per `column_lanes` columns

}  // namespace cuda
}  // namespace mixsolve
