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

const Kernel& pass_kernel(Storage storage, bool float64_scores, Kind kind);  // one block per chunk
// One block per piece of a split sample: its derivatives by the losses, which bytes do not have.
const Kernel& finish_kernel(Storage storage, bool float64_scores);
const Kernel& settle_kernel();                 // one block per split sample
const Kernel& reduce_kernel();                 // one block per `column_lanes` columns
const Kernel& gather_kernel(Storage storage);  // one thread per loss

}  // namespace cuda
}  // namespace mixsolve
