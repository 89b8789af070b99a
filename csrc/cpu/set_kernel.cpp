// The kernels of tables whose rows are sets. Compiled once per instruction set; see simd.h for the rule about names.
#include "block_kernel.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

const Kernel* kernel_of_sets(Storage storage, bool float64_scores) {
    switch (storage) {
        case Storage::kBits16:
            return float64_scores ? BlockKernel<double, Set16>::table() : BlockKernel<float, Set16>::table();
        case Storage::kBits32:
            return float64_scores ? BlockKernel<double, Set32>::table() : BlockKernel<float, Set32>::table();
        case Storage::kBits64:
            return float64_scores ? BlockKernel<double, Set64>::table() : BlockKernel<float, Set64>::table();
        default:
            return nullptr;
    }
}

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
