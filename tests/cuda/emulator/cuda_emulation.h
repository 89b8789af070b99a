// Stands in for CUDA's headers where the kernels are compiled for the CPU: the part of the language they use.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "machine.h"

#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define MIXSOLVE_DEVICE inline
#define MIXSOLVE_KERNEL(name, Arguments) \
    {#name, reinterpret_cast<const void*>(&::emulator::invoke<Arguments, name>), sizeof(Arguments)}

#define threadIdx (::emulator::thread_index())
#define blockIdx (::emulator::block_index())
#define __syncthreads() ::emulator::barrier({__FILE__, __LINE__})
#define __shfl_xor_sync(mask, value, distance) ::emulator::exchange(mask, value, distance, {__FILE__, __LINE__})

namespace emulator {

template <class Arguments, void (*kernel)(Arguments)>
void invoke(const void* arguments) {
    kernel(*static_cast<const Arguments*>(arguments));
}

template <class T>
T exchange(unsigned mask, T value, int distance, Place place) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = exchange_bits(mask, bits, distance, place);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace emulator

namespace mixsolve {
namespace cuda {

inline char* shared_memory() { return ::emulator::shared_memory(); }

inline float bits_to_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
inline float half_to_float(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude < 0x400u) return std::copysign(static_cast<float>(magnitude) * 0x1p-24f, bits_to_float(sign));
    return bits_to_float(sign | ((magnitude << 13) + (112u << 23)));
}
// As the instruction does, numbers too small for the normal range become 0.
inline float exp2_approximate(float x) {
    const float y = ::emulator::disturbed(std::exp2(x));
    return y < 1.17549435e-38f ? 0.0f : y;
}

}  // namespace cuda
}  // namespace mixsolve
