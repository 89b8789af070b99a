// Vectors of the width of the instruction set this file is compiled for, on the compiler's vector extensions.
//
// Everything lives in a namespace named after the instruction set and nothing from the standard library's templates
// is used: a function compiled here with wide instructions must never be picked by the linker for another machine.
#pragma once

#include <cstdint>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#ifndef MIXSOLVE_ISA
#define MIXSOLVE_ISA baseline
#endif

#define MIXSOLVE_INLINE inline __attribute__((always_inline))
#define MIXSOLVE_UNROLL _Pragma("GCC unroll 16")
#define MIXSOLVE_NOINLINE __attribute__((noinline))  // a loop with registers of its own
#define MIXSOLVE_LAMBDA_INLINE __attribute__((always_inline))

namespace mixsolve {
namespace MIXSOLVE_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T, int Bytes = kVectorBytes>
struct VecOf {
    typedef T type __attribute__((vector_size(Bytes)));
};
template <class T>
using Vec = typename VecOf<T>::type;
template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// Sums in the score type are kept to so many additions per lane; what they add up to is added up in turn.
constexpr int kRunVectors = 16;

template <class T>
struct IntegerOf;
template <>
struct IntegerOf<float> {
    using type = int32_t;
    using bits = uint32_t;
};
template <>
struct IntegerOf<double> {
    using type = int64_t;
    using bits = uint64_t;
};
template <class T>
using Mask = Vec<typename IntegerOf<T>::type>;
template <class T>
using Bits = Vec<typename IntegerOf<T>::bits>;  // where sums may wrap around

template <class To, class From>
MIXSOLVE_INLINE To bit_cast(const From& from) {
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    To to;
    __builtin_memcpy(&to, &from, sizeof(To));
    return to;
}

template <class T>
MIXSOLVE_INLINE Vec<T> splat(T x) {
    return x - Vec<T>{};  // unlike x + 0 this is x, negative zero included: nothing is left to compute
}
template <class T>
MIXSOLVE_INLINE Vec<T> load(const T* from) {
    Vec<T> x;
    __builtin_memcpy(&x, from, sizeof x);
    return x;
}
template <class T>
MIXSOLVE_INLINE void store(T* to, Vec<T> x) {
    __builtin_memcpy(to, &x, sizeof x);
}
// Read from memory once, here, however many registers that takes.
template <class T>
MIXSOLVE_INLINE Vec<T> in_register(Vec<T> x) {
#if defined(__AVX512F__)
    asm("" : "+v"(x));
#elif defined(__SSE2__)
    asm("" : "+x"(x));
#endif
    return x;
}
// To be read from memory whenever it is needed, in place of taking up registers.
template <class T>
MIXSOLVE_INLINE const T* anew(const T* from) {
    asm volatile("" : "+r"(from));
    return from;
}
template <class T>
MIXSOLVE_INLINE Vec<T> lane_index() {
    Vec<T> x;
    for (int lane = 0; lane < kLanes<T>; ++lane) x[lane] = static_cast<T>(lane);
    return x;
}
// The first `count` lanes of `x`, the others of `rest`.
template <class T>
MIXSOLVE_INLINE Vec<T> first_lanes(Vec<T> x, int64_t count, Vec<T> rest) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
        return _mm512_mask_mov_ps(rest, static_cast<__mmask16>((1u << count) - 1u), x);
    } else {
        return _mm512_mask_mov_pd(rest, static_cast<__mmask8>((1u << count) - 1u), x);
    }
#else
    return lane_index<T>() < splat(static_cast<T>(count)) ? x : rest;
#endif
}
// The first `count` lanes of x, `rest` in the others.
template <class T>
MIXSOLVE_INLINE Vec<T> keep_first(Vec<T> x, int64_t count, T rest = T(0)) {
    return first_lanes<T>(x, count, splat(rest));
}
// `rest` in the first `count` lanes, those of x in the others.
template <class T>
MIXSOLVE_INLINE Vec<T> drop_first(Vec<T> x, int64_t count, T rest = T(0)) {
    return first_lanes<T>(splat(rest), count, x);
}

// Whether some lane is all ones; the others are 0.
template <class T>
MIXSOLVE_INLINE bool any_of(Mask<T> mask) {
#if defined(__AVX512F__)
    const __m512i lanes = bit_cast<__m512i>(mask);
    return _mm512_test_epi32_mask(lanes, lanes) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8(bit_cast<__m256i>(mask)) != 0;
#else
    bool any = false;
    for (int lane = 0; lane < kLanes<T>; ++lane) any |= mask[lane] != 0;
    return any;
#endif
}

// ---- reductions over the lanes, in a fixed tree ---------------------------------------------------------------

#if defined(__AVX512F__)
MIXSOLVE_INLINE float lane_sum(Vec<float> x) { return _mm512_reduce_add_ps(x); }
MIXSOLVE_INLINE double lane_sum(Vec<double> x) { return _mm512_reduce_add_pd(x); }
MIXSOLVE_INLINE float lane_max(Vec<float> x) { return _mm512_reduce_max_ps(x); }
MIXSOLVE_INLINE double lane_max(Vec<double> x) { return _mm512_reduce_max_pd(x); }
MIXSOLVE_INLINE bool any_greater(Vec<float> a, Vec<float> b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
MIXSOLVE_INLINE bool any_greater(Vec<double> a, Vec<double> b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ) != 0; }
// Bit i says whether lane i is equal.
MIXSOLVE_INLINE unsigned equal_bits(Vec<float> a, Vec<float> b) { return _mm512_cmpeq_ps_mask(a, b); }
MIXSOLVE_INLINE unsigned equal_bits(Vec<double> a, Vec<double> b) { return _mm512_cmpeq_pd_mask(a, b); }
#elif defined(__AVX2__)
MIXSOLVE_INLINE float lane_sum(Vec<float> x) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
MIXSOLVE_INLINE double lane_sum(Vec<double> x) {
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
MIXSOLVE_INLINE float lane_max(Vec<float> x) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
MIXSOLVE_INLINE double lane_max(Vec<double> x) {
    const __m128d two = _mm_max_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_max_sd(two, _mm_unpackhi_pd(two, two)));
}
MIXSOLVE_INLINE bool any_greater(Vec<float> a, Vec<float> b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
}
MIXSOLVE_INLINE bool any_greater(Vec<double> a, Vec<double> b) {
    return _mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_GT_OQ)) != 0;
}
MIXSOLVE_INLINE unsigned equal_bits(Vec<float> a, Vec<float> b) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
}
MIXSOLVE_INLINE unsigned equal_bits(Vec<double> a, Vec<double> b) {
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_EQ_OQ)));
}
#else
template <class V>
MIXSOLVE_INLINE auto lane_sum(V x) {
    if constexpr (sizeof(x) == 4 * sizeof(x[0])) {
        return (x[0] + x[2]) + (x[1] + x[3]);
    } else {
        return x[0] + x[1];
    }
}
template <class V>
MIXSOLVE_INLINE auto lane_max(V x) {
    auto max = x[0];
    for (unsigned lane = 1; lane < sizeof(x) / sizeof(x[0]); ++lane) max = x[lane] > max ? x[lane] : max;
    return max;
}
template <class V>
MIXSOLVE_INLINE bool any_greater(V a, V b) {
    bool any = false;
    for (unsigned lane = 0; lane < sizeof(a) / sizeof(a[0]); ++lane) any |= a[lane] > b[lane];
    return any;
}
template <class V>
MIXSOLVE_INLINE unsigned equal_bits(V a, V b) {
    unsigned bits = 0;
    for (unsigned lane = 0; lane < sizeof(a) / sizeof(a[0]); ++lane)
        bits |= static_cast<unsigned>(a[lane] == b[lane]) << lane;
    return bits;
}
#endif

// a * b + c. Multiplications and additions are fused here and nowhere else (-ffp-contract=off), so that equal rows have
// equal scores wherever they stand in a block.
#if defined(__AVX512F__)
MIXSOLVE_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return _mm512_fmadd_ps(a, b, c); }
MIXSOLVE_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return _mm512_fmadd_pd(a, b, c); }
#elif defined(__AVX2__)
MIXSOLVE_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return _mm256_fmadd_ps(a, b, c); }
MIXSOLVE_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return _mm256_fmadd_pd(a, b, c); }
#elif defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF)
template <class V>
MIXSOLVE_INLINE V fma(V a, V b, V c) {
    for (unsigned lane = 0; lane < sizeof(V) / sizeof(a[0]); ++lane) {
        c[lane] =
            sizeof(a[0]) == 4 ? __builtin_fmaf(a[lane], b[lane], c[lane]) : __builtin_fma(a[lane], b[lane], c[lane]);
    }
    return c;
}
#else
template <class V>
MIXSOLVE_INLINE V fma(V a, V b, V c) {
    return a * b + c;
}
#endif

#if defined(__AVX512F__)
MIXSOLVE_INLINE Vec<float> square_root(Vec<float> x) { return _mm512_sqrt_ps(x); }
MIXSOLVE_INLINE Vec<double> square_root(Vec<double> x) { return _mm512_sqrt_pd(x); }
#elif defined(__AVX2__)
MIXSOLVE_INLINE Vec<float> square_root(Vec<float> x) { return _mm256_sqrt_ps(x); }
MIXSOLVE_INLINE Vec<double> square_root(Vec<double> x) { return _mm256_sqrt_pd(x); }
#else
template <class V>
MIXSOLVE_INLINE V square_root(V x) {
    for (unsigned lane = 0; lane < sizeof(V) / sizeof(x[0]); ++lane) {
        x[lane] = sizeof(x[0]) == 4 ? __builtin_sqrtf(static_cast<float>(x[lane])) : __builtin_sqrt(x[lane]);
    }
    return x;
}
#endif

#if defined(__AVX512F__)
MIXSOLVE_INLINE Vec<float> vmax(Vec<float> a, Vec<float> b) { return _mm512_max_ps(a, b); }
MIXSOLVE_INLINE Vec<double> vmax(Vec<double> a, Vec<double> b) { return _mm512_max_pd(a, b); }
MIXSOLVE_INLINE Vec<float> round_nearest(Vec<float> x) { return _mm512_roundscale_ps(x, 8); }
MIXSOLVE_INLINE Vec<double> round_nearest(Vec<double> x) { return _mm512_roundscale_pd(x, 8); }
#elif defined(__AVX2__)
MIXSOLVE_INLINE Vec<float> vmax(Vec<float> a, Vec<float> b) { return _mm256_max_ps(a, b); }
MIXSOLVE_INLINE Vec<double> vmax(Vec<double> a, Vec<double> b) { return _mm256_max_pd(a, b); }
MIXSOLVE_INLINE Vec<float> round_nearest(Vec<float> x) { return _mm256_round_ps(x, 8); }
MIXSOLVE_INLINE Vec<double> round_nearest(Vec<double> x) { return _mm256_round_pd(x, 8); }
#else
template <class V>
MIXSOLVE_INLINE V vmax(V a, V b) {
    return a > b ? a : b;
}
// Adding and taking away 1.5 * 2^(mantissa bits) rounds to the nearest integer; |x| < 2^21 here.
MIXSOLVE_INLINE Vec<float> round_nearest(Vec<float> x) { return (x + 12582912.0f) - 12582912.0f; }
MIXSOLVE_INLINE Vec<double> round_nearest(Vec<double> x) { return (x + 6755399441055744.0) - 6755399441055744.0; }
#endif

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
