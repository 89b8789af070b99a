// What is launched: the pass for every storage type, in its own precision and in float64.
#include "kernels.h"
#include "portable.h"
#include "work.h"

namespace mixsolve {
namespace cuda {

// Blocks that the registers of one processor hold at least: so many that nothing is spilt into memory.
constexpr int kBlocks = 2;

#define MIXSOLVE_PASS(type, Score, Stored)                                     \
    extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)            \
        mixsolve_plain_##type(const __grid_constant__ PassArguments asked) {   \
        pass<Score, Stored, Kind::kPlain>(asked);                              \
    }                                                                          \
    extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)            \
        mixsolve_pass_##type(const __grid_constant__ PassArguments asked) {    \
        pass<Score, Stored, Kind::kAny>(asked);                                \
    }                                                                          \
    extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)            \
        mixsolve_hessian_##type(const __grid_constant__ PassArguments asked) { \
        pass<Score, Stored, Kind::kHessian>(asked);                            \
    }

MIXSOLVE_PASS(float64, double, double)
MIXSOLVE_PASS(float32, float, float)
MIXSOLVE_PASS(float16, float, Float16)
MIXSOLVE_PASS(bfloat16, float, BFloat16)
MIXSOLVE_PASS(uint8, float, UInt8)
MIXSOLVE_PASS(float32_in_float64, double, float)
MIXSOLVE_PASS(float16_in_float64, double, Float16)
MIXSOLVE_PASS(bfloat16_in_float64, double, BFloat16)
MIXSOLVE_PASS(uint8_in_float64, double, UInt8)

#define MIXSOLVE_FINISH(type, Score, Stored)                                  \
    extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)           \
        mixsolve_finish_##type(const __grid_constant__ PassArguments asked) { \
        finish_gradient<Score, Stored>(asked);                                \
    }

MIXSOLVE_FINISH(float64, double, double)
MIXSOLVE_FINISH(float32, float, float)
MIXSOLVE_FINISH(float16, float, Float16)
MIXSOLVE_FINISH(bfloat16, float, BFloat16)
MIXSOLVE_FINISH(float32_in_float64, double, float)
MIXSOLVE_FINISH(float16_in_float64, double, Float16)
MIXSOLVE_FINISH(bfloat16_in_float64, double, BFloat16)

#define MIXSOLVE_GATHER(type, Stored)                                           \
    extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)             \
        mixsolve_gather_##type(const __grid_constant__ GatherArguments asked) { \
        gather<Stored>(asked);                                                  \
    }

MIXSOLVE_GATHER(float64, double)
MIXSOLVE_GATHER(float32, float)
MIXSOLVE_GATHER(float16, Float16)
MIXSOLVE_GATHER(bfloat16, BFloat16)
MIXSOLVE_GATHER(uint8, UInt8)

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    mixsolve_settle(const __grid_constant__ PassArguments asked) {
    settle_split(asked);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    mixsolve_reduce(const __grid_constant__ ReduceArguments asked) {
    reduce(asked);
}

#define MIXSOLVE_KERNELS(type)                                                                                    \
    {MIXSOLVE_KERNEL(mixsolve_plain_##type, PassArguments), MIXSOLVE_KERNEL(mixsolve_pass_##type, PassArguments), \
     MIXSOLVE_KERNEL(mixsolve_hessian_##type, PassArguments)}

// By storage type.
const Kernel& pass_kernel(Storage storage, bool float64_scores, Kind kind) {
    static const Kernel in_storage[][3] = {MIXSOLVE_KERNELS(float64), MIXSOLVE_KERNELS(float32),
                                           MIXSOLVE_KERNELS(float16), MIXSOLVE_KERNELS(bfloat16),
                                           MIXSOLVE_KERNELS(uint8)};
    static const Kernel in_float64[][3] = {MIXSOLVE_KERNELS(float64), MIXSOLVE_KERNELS(float32_in_float64),
                                           MIXSOLVE_KERNELS(float16_in_float64), MIXSOLVE_KERNELS(bfloat16_in_float64),
                                           MIXSOLVE_KERNELS(uint8_in_float64)};
    return (float64_scores ? in_float64 : in_storage)[static_cast<int>(storage)][static_cast<int>(kind)];
}
const Kernel& finish_kernel(Storage storage, bool float64_scores) {
    static const Kernel in_storage[] = {MIXSOLVE_KERNEL(mixsolve_finish_float64, PassArguments),
                                        MIXSOLVE_KERNEL(mixsolve_finish_float32, PassArguments),
                                        MIXSOLVE_KERNEL(mixsolve_finish_float16, PassArguments),
                                        MIXSOLVE_KERNEL(mixsolve_finish_bfloat16, PassArguments)};
    static const Kernel in_float64[] = {MIXSOLVE_KERNEL(mixsolve_finish_float64, PassArguments),
                                        MIXSOLVE_KERNEL(mixsolve_finish_float32_in_float64, PassArguments),
                                        MIXSOLVE_KERNEL(mixsolve_finish_float16_in_float64, PassArguments),
                                        MIXSOLVE_KERNEL(mixsolve_finish_bfloat16_in_float64, PassArguments)};
    return (float64_scores ? in_float64 : in_storage)[static_cast<int>(storage)];
}
const Kernel& gather_kernel(Storage storage) {
    static const Kernel kernels[] = {MIXSOLVE_KERNEL(mixsolve_gather_float64, GatherArguments),
                                     MIXSOLVE_KERNEL(mixsolve_gather_float32, GatherArguments),
                                     MIXSOLVE_KERNEL(mixsolve_gather_float16, GatherArguments),
                                     MIXSOLVE_KERNEL(mixsolve_gather_bfloat16, GatherArguments),
                                     MIXSOLVE_KERNEL(mixsolve_gather_uint8, GatherArguments)};
    return kernels[static_cast<int>(storage)];
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
