// Numbers on the device: losses as they are stored, exponentials, maxima and sums over lanes.
#pragma once

#include <cmath>

#include "arguments.h"
#include "portable.h"

namespace mixsolve {
namespace cuda {

MIXSOLVE_DEVICE double widen(double x) { return x; }
MIXSOLVE_DEVICE float widen(float x) { return x; }
MIXSOLVE_DEVICE float widen(Float16 x) { return half_to_float(x.bits); }
// Beside the bits of 2^23 a byte is that number and the byte: cheaper than a conversion.
MIXSOLVE_DEVICE float widen(UInt8 x) { return bits_to_float(0x4b000000u | x.bits) - 8388608.0f; }
MIXSOLVE_DEVICE float widen(BFloat16 x) { return bits_to_float(static_cast<uint32_t>(x.bits) << 16); }

// A score or a product of losses rounds once per step, on every device alike.
MIXSOLVE_DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
MIXSOLVE_DEVICE double multiply_add(double a, double b, double c) { return fma(a, b, c); }

// Within two units in the last place, without provision for numbers that are very small or large.
MIXSOLVE_DEVICE double quotient(double a, double b) { return a / b; }
MIXSOLVE_DEVICE float quotient(float a, float b) {
    const float guess = reciprocal_approximate(b);
    return a * multiply_add(multiply_add(-b, guess, 1.0f), guess, guess);
}

// Of the types that losses have a derivative in.
template <class Stored>
constexpr bool kHasGradient = true;
template <>
constexpr bool kHasGradient<UInt8> = false;

MIXSOLVE_DEVICE void narrow_to(double& to, double x) { to = x; }
MIXSOLVE_DEVICE void narrow_to(float& to, double x) { to = static_cast<float>(x); }
MIXSOLVE_DEVICE void narrow_to(Float16& to, double x) { to.bits = float_to_half(static_cast<float>(x)); }
MIXSOLVE_DEVICE void narrow_to(BFloat16& to, double x) {
    const uint32_t bits = float_to_bits(static_cast<float>(x));
    to.bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// exp(x) and expm1(x) of x = behind * per_unit <= 0, where per_unit = exponent_unit<Score>() / temperature.
template <class Score>
MIXSOLVE_DEVICE double exponent_unit();
template <>
MIXSOLVE_DEVICE double exponent_unit<float>() {
    return 1.4426950408889634;  // log2(e): exponents are of 2
}
template <>
MIXSOLVE_DEVICE double exponent_unit<double>() {
    return 1.0;
}

MIXSOLVE_DEVICE double exponential(double behind, double per_unit) { return exp(behind * per_unit); }
MIXSOLVE_DEVICE float exponential(float behind, float per_unit) { return exp2_approximate(behind * per_unit); }

MIXSOLVE_DEVICE double exponential_minus_one(double behind, double per_unit) { return expm1(behind * per_unit); }
MIXSOLVE_DEVICE float exponential_minus_one(float behind, float per_unit) {
    // Within half a power of two of 1, where e - 1 cancels, the series of expm1 up to y^7 is exact to rounding.
    const float x = behind * per_unit, y = x * 0.693147181f;
    float series = 1.0f / 5040;
    series = multiply_add(series, y, 1.0f / 720);
    series = multiply_add(series, y, 1.0f / 120);
    series = multiply_add(series, y, 1.0f / 24);
    series = multiply_add(series, y, 1.0f / 6);
    series = multiply_add(series, y, 0.5f);
    series = multiply_add(series * y, y, y);
    return x > -0.5f ? series : exp2_approximate(x) - 1.0f;
}

template <class Score>
MIXSOLVE_DEVICE Score lowest();
template <>
MIXSOLVE_DEVICE float lowest<float>() {
    return -3.402823466e+38f;
}
template <>
MIXSOLVE_DEVICE double lowest<double>() {
    return -1.7976931348623157e+308;
}

// The larger one; a NaN beside a number is passed over.
MIXSOLVE_DEVICE float higher(float a, float b) { return fmaxf(a, b); }
MIXSOLVE_DEVICE double higher(double a, double b) { return fmax(a, b); }

// The larger one; NaN when either is.
template <class Score>
MIXSOLVE_DEVICE Score larger(Score a, Score b) {
    return b <= a || a != a ? a : b;
}

template <class Score>
struct Best {
    Score score;
    int row;
};

// The higher score, and of equal ones the lower row; NaN wins, so that it is seen.
template <class Score>
MIXSOLVE_DEVICE Best<Score> better(Best<Score> a, Best<Score> b) {
    if (a.score != a.score) return a;
    if (b.score < a.score || (b.score == a.score && a.row <= b.row)) return a;
    return b;
}

// Over 2^bits neighbouring threads; all of them get the answer, and all lanes of the warp take part.
template <class T>
MIXSOLVE_DEVICE T sum_over(T x, int bits) {
#pragma unroll
    for (int b = kWarpBits - 1; b >= 0; --b) {
        if (b < bits) x += from_lane_xor(x, 1 << b);
    }
    return x;
}
template <class T>
MIXSOLVE_DEVICE T largest_over(T x, int bits) {
#pragma unroll
    for (int b = kWarpBits - 1; b >= 0; --b) {
        if (b < bits) x = larger(x, from_lane_xor(x, 1 << b));
    }
    return x;
}
template <class T>
MIXSOLVE_DEVICE T highest_over(T x, int bits) {
#pragma unroll
    for (int b = kWarpBits - 1; b >= 0; --b) {
        if (b < bits) x = higher(x, from_lane_xor(x, 1 << b));
    }
    return x;
}
template <class Score>
MIXSOLVE_DEVICE Best<Score> best_over_warp(Best<Score> x) {
#pragma unroll
    for (int b = kWarpBits - 1; b >= 0; --b)
        x = better(x, {from_lane_xor(x.score, 1 << b), from_lane_xor(x.row, 1 << b)});
    return x;
}

}  // namespace cuda
}  // namespace mixsolve
