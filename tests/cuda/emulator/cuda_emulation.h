// Stands in for CUDA's headers where the kernels are compiled for the CPU: the part of the language they use.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "machine.h"
#include "memory.h"

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
#define __shfl_sync(mask, value, lane) ::emulator::of_lane(mask, value, lane, {__FILE__, __LINE__})
#define __any_sync(mask, holds) ::emulator::any_of(mask, holds, {__FILE__, __LINE__})

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

template <class T>
T of_lane(unsigned mask, T value, int lane, Place place) {
    for (int distance = 16; distance > 0; distance /= 2) {
        const T other = exchange(mask, value, distance, place);
        if ((thread_index().x & distance) != (lane & static_cast<unsigned>(distance))) value = other;
    }
    return value;
}
inline bool any_of(unsigned mask, bool holds, Place place) {
    for (int distance = 16; distance > 0; distance /= 2) holds |= exchange(mask, holds, distance, place);
    return holds;
}

}  // namespace emulator

namespace mixsolve {
namespace cuda {

inline char* shared_memory() { return ::emulator::shared_memory(); }

template <class T>
T load_together(const void* from) {
    T numbers;
    ::emulator::load(&numbers, from, sizeof numbers);
    return numbers;
}
template <class T>
void store_together(void* to, const T& numbers) {
    ::emulator::store(to, &numbers, sizeof numbers);
}

inline float bits_to_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
inline uint32_t float_to_bits(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline double bits_to_double(uint32_t low, uint32_t high) {
    const uint64_t bits = static_cast<uint64_t>(high) << 32 | low;
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
inline void double_to_bits(double x, uint32_t& low, uint32_t& high) {
    uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    low = static_cast<uint32_t>(bits);
    high = static_cast<uint32_t>(bits >> 32);
}
inline uint16_t float_to_half(float x) {
    const uint32_t sign = float_to_bits(x) >> 16 & 0x8000u;
    const float magnitude = std::fabs(x);
    if (!(magnitude < 65520.0f)) return static_cast<uint16_t>(sign | 0x7c00u);
    int exponent = -24;
    if (magnitude > 0)
        std::frexp(magnitude, &exponent);  // in units of the last place, of which subnormal numbers have the same
    const int place = exponent - 11 < -24 ? -24 : exponent - 11;
    const auto units = static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, -place)));
    return static_cast<uint16_t>(sign | (units + (static_cast<uint32_t>(place + 24) << 10)));
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
inline float reciprocal_approximate(float x) { return 1 / x; }

}  // namespace cuda
}  // namespace mixsolve
