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

// Numbers side by side, aligned as they are large or to 16 bytes, in loads and stores as wide as that.
template <size_t kBytes>
struct WideType {
    using type = uint4;
};
template <>
struct WideType<8> {
    using type = uint2;
};
template <>
struct WideType<4> {
    using type = uint32_t;
};
template <class T>
MIXSOLVE_DEVICE T load_together(const void* from) {
    using Wide = typename WideType<sizeof(T)>::type;
    T numbers;
#pragma unroll
    for (size_t i = 0; i < sizeof(T) / sizeof(Wide); ++i) {
        const Wide words = static_cast<const Wide*>(from)[i];
        memcpy(reinterpret_cast<char*>(&numbers) + i * sizeof(Wide), &words, sizeof(Wide));
    }
    return numbers;
}
template <class T>
MIXSOLVE_DEVICE void store_together(void* to, const T& numbers) {
    using Wide = typename WideType<sizeof(T)>::type;
#pragma unroll
    for (size_t i = 0; i < sizeof(T) / sizeof(Wide); ++i) {
        Wide words;
        memcpy(&words, reinterpret_cast<const char*>(&numbers) + i * sizeof(Wide), sizeof(Wide));
        static_cast<Wide*>(to)[i] = words;
    }
}
MIXSOLVE_DEVICE float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
MIXSOLVE_DEVICE float reciprocal_approximate(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
MIXSOLVE_DEVICE float half_to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
MIXSOLVE_DEVICE uint16_t float_to_half(float x) { return __half_as_ushort(__float2half_rn(x)); }
MIXSOLVE_DEVICE float bits_to_float(uint32_t bits) { return __uint_as_float(bits); }
MIXSOLVE_DEVICE uint32_t float_to_bits(float x) { return __float_as_uint(x); }
MIXSOLVE_DEVICE double bits_to_double(uint32_t low, uint32_t high) {
    return __hiloint2double(static_cast<int>(high), static_cast<int>(low));
}
MIXSOLVE_DEVICE void double_to_bits(double x, uint32_t& low, uint32_t& high) {
    low = static_cast<uint32_t>(__double2loint(x));
    high = static_cast<uint32_t>(__double2hiint(x));
}

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
// What all lanes of a warp have the same of, such that the compiler sees it: what they do then together needs no
// provision for some of them missing.
template <class T>
MIXSOLVE_DEVICE T agreed(T x) {
    return __shfl_sync(0xffffffffu, x, 0);
}
MIXSOLVE_DEVICE int warp_number() { return agreed(thread() / 32); }
MIXSOLVE_DEVICE bool any_in_warp(bool holds) { return __any_sync(0xffffffffu, holds); }

}  // namespace cuda
}  // namespace mixsolve
