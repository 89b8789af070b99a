// What is launched: the pass for every storage type, in its own precision and in float64.
#include "kernels.h"
#include "portable.h"
#include "work.h"

namespace mixsolve {
namespace cuda {

// Blocks that the registers of one processor hold at least: so many that nothing is spilt into memory.
constexpr int kBlocks = 2;

#define MIXSOLVE_PASS(name, Score, Stored)                          \
    extern "C" __global__ void __launch_bounds__(kThreads, kBlocks) \
        name(const __grid_constant__ PassArguments asked) {         \
        pass<Score, Stored>(asked);                                 \
    }

MIXSOLVE_PASS(mixsolve_pass_float64, double, double)
MIXSOLVE_PASS(mixsolve_pass_float32, float, float)
MIXSOLVE_PASS(mixsolve_pass_float16, float, Float16)
MIXSOLVE_PASS(mixsolve_pass_bfloat16, float, BFloat16)
MIXSOLVE_PASS(mixsolve_pass_float32_in_float64, double, float)
MIXSOLVE_PASS(mixsolve_pass_float16_in_float64, double, Float16)
MIXSOLVE_PASS(mixsolve_pass_bfloat16_in_float64, double, BFloat16)

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    mixsolve_settle(const __grid_constant__ PassArguments asked) {
    settle_split(asked);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    mixsolve_reduce(const __grid_constant__ ReduceArguments asked) {
    reduce(asked);
}

const Kernel& pass_kernel(Storage storage, bool float64_scores) {
    static const Kernel in_storage[] = {
        MIXSOLVE_KERNEL(mixsolve_pass_float64, PassArguments), MIXSOLVE_KERNEL(mixsolve_pass_float32, PassArguments),
        MIXSOLVE_KERNEL(mixsolve_pass_float16, PassArguments), MIXSOLVE_KERNEL(mixsolve_pass_bfloat16, PassArguments)};
    static const Kernel in_float64[] = {MIXSOLVE_KERNEL(mixsolve_pass_float64, PassArguments),
                                        MIXSOLVE_KERNEL(mixsolve_pass_float32_in_float64, PassArguments),
                                        MIXSOLVE_KERNEL(mixsolve_pass_float16_in_float64, PassArguments),
                                        MIXSOLVE_KERNEL(mixsolve_pass_bfloat16_in_float64, PassArguments)};
    return (float64_scores ? in_float64 : in_storage)[static_cast<int>(storage)];
}
const Kernel& settle_kernel() {
    static const Kernel kernel = MIXSOLVE_KERNEL(mixsolve_settle, PassArguments);
    return kernel;
}
const Kernel& reduce_kernel() {
    static const Kernel kernel = MIXSOLVE_KERNEL(mixsolve_reduce, ReduceArguments);
    return kernel;
}

}  // namespace cuda
}  // namespace mixsolve
