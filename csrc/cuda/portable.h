// The part of CUDA that the kernels are written in. nvcc compiles it for a GPU; the tests compile the same kernels
// for the CPU, with their own `cuda_emulation.h`.
#pragma once

#include <cstdint>

#if defined(MIXSOLVE_EMULATED)
#include "cuda_emulation.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define MIXSOLVE_DEVICE __device__ __forceinline__
#define MIXSOLVE_KERNEL(name, Arguments) {#name, reinterpret_cast<const void*>(name), sizeof(Arguments)}

namespace mixsolve {
namespace cuda {

extern __shared__ double2 mixsolve_shared_memory[];
MIXSOLVE_DEVICE char* shared_memory() { return reinterpret_cast<char*>(mixsolve_shared_memory); }

MIXSOLVE_DEVICE float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
MIXSOLVE_DEVICE float half_to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
MIXSOLVE_DEVICE float bits_to_float(uint32_t bits) { return __uint_as_float(bits); }

}  // namespace cuda
}  // namespace mixsolve
#endif

namespace mixsolve {
namespace cuda {

MIXSOLVE_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
MIXSOLVE_DEVICE int64_t block() { return static_cast<int64_t>(blockIdx.x); }

template <class T>
MIXSOLVE_DEVICE T from_lane_xor(T x, int distance) {
    return __shfl_xor_sync(0xffffffffu, x, distance);
}

}  // namespace cuda
}  // namespace mixsolve
