// Stores that round numbers of the score type to the storage's, ties to even.
#pragma once

#include "loads.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

MIXSOLVE_INLINE void narrow_to(BFloat16& to, float x) {
    const uint32_t bits = bit_cast<uint32_t>(x);
    to.bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
MIXSOLVE_INLINE void narrow_to(Float16& to, float x) {
    const uint32_t bits = bit_cast<uint32_t>(x), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude >= 0x477ff000u) {  // rounds to 65,536 or more
        to.bits = static_cast<uint16_t>(sign | 0x7c00u);
    } else if (magnitude < 0x38800000u) {  // subnormal: adding 1/2 leaves the multiples of 2^-24 in the low bits
        to.bits = static_cast<uint16_t>(sign | (bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u));
    } else {
        const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
        to.bits = static_cast<uint16_t>(sign | (rounded >> 13));
    }
}
MIXSOLVE_INLINE void narrow_to(float& to, double x) { to = static_cast<float>(x); }
MIXSOLVE_INLINE void narrow_to(float& to, float x) { to = x; }
MIXSOLVE_INLINE void narrow_to(double& to, double x) { to = x; }
MIXSOLVE_INLINE void narrow_to(BFloat16& to, double x) { narrow_to(to, static_cast<float>(x)); }
MIXSOLVE_INLINE void narrow_to(Float16& to, double x) { narrow_to(to, static_cast<float>(x)); }

template <class Score, class Stored>
MIXSOLVE_INLINE void store_narrowed(Stored* to, Vec<Score> x) {
    if constexpr (sizeof(Score) == sizeof(Stored)) {
        __builtin_memcpy(to, &x, sizeof x);
        return;
    }
    for (int lane = 0; lane < kLanes<Score>; ++lane) narrow_to(to[lane], x[lane]);
}
#if defined(__AVX512F__)
template <>
MIXSOLVE_INLINE void store_narrowed<float, Float16>(Float16* to, Vec<float> x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__)
template <>
MIXSOLVE_INLINE void store_narrowed<float, Float16>(Float16* to, Vec<float> x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
#endif

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
