// Losses that are bits of words: for a vector of rows the flags of one classifier, which choose what is added.
#pragma once

#include "../loss_table.h"
#include "simd.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

// Losses that are 0 or 1, one per lane. Sums of products with them are those of fma() with the numbers 0 and 1.
template <class Score>
struct Flags;

#if defined(__AVX512F__)
template <>
struct Flags<float> {
    __mmask16 lanes;
    MIXSOLVE_INLINE operator Vec<float>() const { return _mm512_maskz_mov_ps(lanes, _mm512_set1_ps(1)); }
};
template <>
struct Flags<double> {
    __mmask8 lanes;
    MIXSOLVE_INLINE operator Vec<double>() const { return _mm512_maskz_mov_pd(lanes, _mm512_set1_pd(1)); }
};
MIXSOLVE_INLINE Vec<float> operator*(Flags<float> a, Vec<float> b) { return _mm512_maskz_mov_ps(a.lanes, b); }
MIXSOLVE_INLINE Vec<double> operator*(Flags<double> a, Vec<double> b) { return _mm512_maskz_mov_pd(a.lanes, b); }
MIXSOLVE_INLINE Vec<float> fma(Flags<float> a, Vec<float> b, Vec<float> c) {
    return _mm512_mask_add_ps(c, a.lanes, c, b);
}
MIXSOLVE_INLINE Vec<double> fma(Flags<double> a, Vec<double> b, Vec<double> c) {
    return _mm512_mask_add_pd(c, a.lanes, c, b);
}
#else
template <class Score>
struct Flags {
    Mask<Score> lanes;  // all ones or 0
    MIXSOLVE_INLINE operator Vec<Score>() const { return *this * splat(Score(1)); }
};
template <class Score>
MIXSOLVE_INLINE Vec<Score> operator*(Flags<Score> a, Vec<Score> b) {
    return bit_cast<Vec<Score>>(a.lanes & bit_cast<Mask<Score>>(b));
}
template <class Score>
MIXSOLVE_INLINE Vec<Score> fma(Flags<Score> a, Vec<Score> b, Vec<Score> c) {
    return c + a * b;
}
#endif
template <class Score>
MIXSOLVE_INLINE Vec<Score> fma(Vec<Score> a, Flags<Score> b, Vec<Score> c) {
    return fma(b, a, c);
}

template <class Stored>
constexpr bool kIsSet = false;
template <class Word>
constexpr bool kIsSet<SetOf<Word>> = true;

// The words of as many rows as a vector of scores has lanes.
template <class Score, class Word>
struct Sets {
    typedef Word type __attribute__((vector_size(kLanes<Score> * sizeof(Word))));
    type words;

    static MIXSOLVE_INLINE Sets full(const SetOf<Word>* from) {
        Sets x;
        __builtin_memcpy(&x.words, from, sizeof x.words);
        return x;
    }
    // `count` < kLanes rows, 0 in the other lanes; nothing beyond them is touched.
    static MIXSOLVE_INLINE Sets first(const SetOf<Word>* from, int64_t count) {
        Sets x;
#if defined(__AVX512F__)
        if constexpr (sizeof x.words == 32 && sizeof(Word) == 2) {
            const __m256i words = _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << count) - 1u), from);
            __builtin_memcpy(&x.words, &words, sizeof x.words);
            return x;
        }
#endif
        x.words = type{};
        for (int64_t row = 0; row < count; ++row) x.words[row] = from[row].bits;
        return x;
    }

    MIXSOLVE_INLINE Flags<Score> of(int64_t classifier) const {
        const Word bit = static_cast<Word>(Word(1) << classifier);
#if defined(__AVX512F__)
        if constexpr (sizeof(Word) == 2 && sizeof(Score) == 4) {
            return {_mm256_test_epi16_mask(bit_cast<__m256i>(words), _mm256_set1_epi16(static_cast<short>(bit)))};
        } else if constexpr (sizeof(Word) == 2) {
            return {_mm_test_epi16_mask(bit_cast<__m128i>(words), _mm_set1_epi16(static_cast<short>(bit)))};
        } else if constexpr (sizeof(Word) == 4 && sizeof(Score) == 4) {
            return {_mm512_test_epi32_mask(bit_cast<__m512i>(words), _mm512_set1_epi32(static_cast<int>(bit)))};
        } else if constexpr (sizeof(Word) == 4) {
            return {_mm256_test_epi32_mask(bit_cast<__m256i>(words), _mm256_set1_epi32(static_cast<int>(bit)))};
        } else {
            const __m512i wanted = _mm512_set1_epi64(static_cast<long long>(bit));
            __m512i part[sizeof words / 64];
            __builtin_memcpy(part, &words, sizeof words);
            if constexpr (sizeof(Score) == 8) {
                return {_mm512_test_epi64_mask(part[0], wanted)};
            } else {
                const __mmask16 low = _mm512_test_epi64_mask(part[0], wanted);
                return {static_cast<__mmask16>(_mm512_test_epi64_mask(part[1], wanted) << 8 | low)};
            }
        }
#else
        return {__builtin_convertvector((words & bit) != 0, Mask<Score>)};
#endif
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
