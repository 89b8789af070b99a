// exp, expm1 and log on vectors: polynomials within about one ulp on the ranges the pass needs.
#pragma once

#include <type_traits>

#include "simd.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class T>
struct MathConstants;

// `exp2_terms`: (2^f - 1) / f on [-1/2, 1/2], Chebyshev fits of relative error 8e-9 and 1.3e-17.
template <>
struct MathConstants<float> {
    static constexpr int kExpTerms = 6, kLogTerms = 5, kMantissaBits = 23;
    static constexpr uint32_t kExponentBias = 127;
    static constexpr float kSmallestExponent = -125.0f, kRoundToInteger = 12582912.0f;
    static constexpr float kExp2[kExpTerms] = {0.69314718802622878f, 0.24022650760568127f,  0.05550357114219078f,
                                               0.00961808255727785f, 0.001339086336467123f, 0.0001545316294512069f};
    static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440054690583e-4f;
};
template <>
struct MathConstants<double> {
    static constexpr int kExpTerms = 11, kLogTerms = 11, kMantissaBits = 52;
    static constexpr uint64_t kExponentBias = 1023;
    static constexpr double kSmallestExponent = -1021.0, kRoundToInteger = 6755399441055744.0;
    static constexpr double kExp2[kExpTerms] = {
        0.69314718055994530942,   0.2402265069591009822,     0.055504108664821594339,    0.0096181291076068885273,
        0.001333355814641693531,  0.00015403530441736050155, 0.000015252733829836118394, 1.3215442587921689653e-6,
        1.0178062445845773521e-7, 7.0725859492692236999e-9,  4.4549605981865183938e-10};
    static constexpr double kLn2High = 0.6931471803691238, kLn2Low = 1.9082149292705877e-10;
};

constexpr double kLog2E = 1.4426950408889634074;

// 2^x = scale + scale * rest for x <= 0, with |rest| <= 0.42; x is clamped where 2^x would be subnormal.
template <class T>
struct ScaledExp {
    Vec<T> scale, rest;
    MIXSOLVE_INLINE Vec<T> exp() const { return fma(scale, rest, scale); }
    MIXSOLVE_INLINE Vec<T> expm1() const { return fma(scale, rest, scale - T(1)); }
};

template <class T>
MIXSOLVE_INLINE ScaledExp<T> exp2_parts(Vec<T> x) {
    using C = MathConstants<T>;
    x = vmax(x, splat(C::kSmallestExponent));
    const Vec<T> whole = round_nearest(x);
    const Vec<T> fraction = x - whole;
    Vec<T> polynomial = splat(C::kExp2[C::kExpTerms - 1]);
    for (int term = C::kExpTerms - 2; term >= 0; --term) polynomial = fma(polynomial, fraction, splat(C::kExp2[term]));
    const Bits<T> exponent = bit_cast<Bits<T>>(__builtin_convertvector(whole, Mask<T>));
    return {bit_cast<Vec<T>>((exponent + C::kExponentBias) << C::kMantissaBits), polynomial * fraction};
}

// 2^(d scale) for scale > 0, with d taken to be `smallest` where it is less. Adding 1.5 * 2^(mantissa bits) rounds to
// the nearest integer and leaves it in the low bits, from where a shift makes it an exponent.
template <class T>
MIXSOLVE_INLINE Vec<T> exp2_scaled(Vec<T> d, Vec<T> scale, Vec<T> smallest) {
    using C = MathConstants<T>;
    const Vec<T> magic = splat(C::kRoundToInteger);
    d = vmax(smallest, d);
    const Vec<T> shifted = fma(d, scale, magic);
    const Vec<T> fraction = fma(d, scale, magic - shifted);
    Vec<T> polynomial = splat(C::kExp2[C::kExpTerms - 1]);
    for (int term = C::kExpTerms - 2; term >= 0; --term) polynomial = fma(polynomial, fraction, splat(C::kExp2[term]));
    polynomial = fma(polynomial, fraction, splat(T(1)));
    return bit_cast<Vec<T>>(bit_cast<Bits<T>>(polynomial) + (bit_cast<Bits<T>>(shifted) << C::kMantissaBits));
}
#if defined(__AVX512F__)
// Sixteenths come from a table of the processor's own: 2^(n / 16) less the bits that n itself has at their place.
template <>
MIXSOLVE_INLINE Vec<float> exp2_scaled<float>(Vec<float> d, Vec<float> scale, Vec<float> smallest) {
    constexpr int kPlace = 19;
    const Vec<float> magic = splat(786432.0f);  // 1.5 * 2^19: what is added to it is rounded to sixteenths
    const __m512 roots = _mm512_setr_ps(
        1.0f, 1.0442737824274138f, 1.0905077326652577f, 1.1387886347566916f, 1.189207115002721f, 1.241857812073484f,
        1.2968395546510096f, 1.3542555469368927f, 1.4142135623730951f, 1.4768261459394993f, 1.5422108254079408f,
        1.6104903319492543f, 1.681792830507429f, 1.7562521603732995f, 1.8340080864093424f, 1.9152065613971474f);
    const Bits<float> table =
        bit_cast<Bits<float>>(roots) -
        (bit_cast<Bits<float>>(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)) << kPlace);
    d = vmax(smallest, d);
    const Vec<float> shifted = fma(d, scale, magic);
    const Vec<float> rest = fma(d, scale, magic - shifted);
    const __m512i n = bit_cast<__m512i>(shifted);
    const Bits<float> fraction = bit_cast<Bits<float>>(_mm512_permutexvar_epi32(n, bit_cast<__m512i>(table)));
    const Vec<float> root = bit_cast<Vec<float>>(fraction + (bit_cast<Bits<float>>(n) << kPlace));
    Vec<float> p = fma(rest, splat(0.05550410866f), splat(0.2402265070f));
    p = fma(rest, p, splat(0.6931471806f));
    return fma(root * rest, p, root);
}
#endif
// 2^x, down to where it would be subnormal.
template <class V>
MIXSOLVE_INLINE V exp2_of(V x) {
    using T = std::remove_reference_t<decltype(x[0])>;
    return exp2_scaled<T>(x, splat(T(1)), splat(MathConstants<T>::kSmallestExponent));
}
// The smallest d whose power is not subnormal: below it, the power stays what it is there.
template <class T>
MIXSOLVE_INLINE T smallest_argument(T scale) {
    return MathConstants<T>::kSmallestExponent / scale;
}

// log x for normal x > 0: x = 2^e m, m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)).
template <class T>
MIXSOLVE_INLINE Vec<T> log_positive(Vec<T> x) {
    using C = MathConstants<T>;
    const Bits<T> bits = bit_cast<Bits<T>>(x);
    const Bits<T> root_half = bit_cast<Bits<T>>(splat(T(0.70710678118654752440)));
    const Mask<T> exponent = bit_cast<Mask<T>>(bits - root_half) >> C::kMantissaBits;
    const Vec<T> mantissa = bit_cast<Vec<T>>(bits - (bit_cast<Bits<T>>(exponent) << C::kMantissaBits));
    const Vec<T> e = __builtin_convertvector(exponent, Vec<T>);
    const Vec<T> z = (mantissa - T(1)) / (mantissa + T(1));
    const Vec<T> z2 = z * z;
    Vec<T> series = splat(T(1) / T(2 * C::kLogTerms + 1));
    for (int term = C::kLogTerms - 1; term >= 1; --term) series = fma(series, z2, splat(T(1) / T(2 * term + 1)));
    const Vec<T> tail = z * z2 * series;
    return fma(e, splat(C::kLn2High), T(2) * z + fma(e, splat(C::kLn2Low), T(2) * tail));
}

// log(1 + y) for y >= -1/2, accurate for tiny y: log(u) y / (u - 1) with u = fl(1 + y).
template <class T>
MIXSOLVE_INLINE Vec<T> log1p_small(Vec<T> y) {
    const Vec<T> u = y + T(1);
    const Vec<T> step = u - T(1);
    const Mask<T> tiny = step == splat(T(0));
    return tiny ? y : log_positive<T>(u) * y / (tiny ? splat(T(1)) : step);
}

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
