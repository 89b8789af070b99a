// Loads that convert the storage to the score type.
#pragma once

#include "sets.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

MIXSOLVE_INLINE float to_float(Float16 h) {
    const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16;
    const uint32_t rest = h.bits & 0x7fffu;
    if (rest >= 0x7c00u) return bit_cast<float>(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));
    // 2^112 * the bits read as a float: exact, subnormals included
    return bit_cast<float>(sign | bit_cast<uint32_t>(bit_cast<float>(rest << 13) * 5.192296858534828e33f));
}
MIXSOLVE_INLINE float to_float(BFloat16 b) { return bit_cast<float>(static_cast<uint32_t>(b.bits) << 16); }
MIXSOLVE_INLINE float to_float(UInt8 b) { return static_cast<float>(b.bits); }
MIXSOLVE_INLINE float to_float(float x) { return x; }
MIXSOLVE_INLINE double to_float(double x) { return x; }

template <class Score, class Stored>
struct Loader;

template <class T>
struct Loader<T, T> {
    static MIXSOLVE_INLINE Vec<T> full(const T* from) { return load(from); }
};

template <>
struct Loader<double, float> {
    static MIXSOLVE_INLINE Vec<double> full(const float* from) {
        typename VecOf<float, kVectorBytes / 2>::type half;
        __builtin_memcpy(&half, from, sizeof half);
        return __builtin_convertvector(half, Vec<double>);
    }
};

template <class Score>
struct Loader<Score, BFloat16> {
    static MIXSOLVE_INLINE Vec<Score> full(const BFloat16* from) {
#if defined(__AVX512F__)
        if constexpr (sizeof(Score) == 4) {  // word i to the upper half of lane i, zero below it, in one instruction
            const __m512i words = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
            const __m512i places =
                _mm512_slli_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 16);
            return bit_cast<Vec<Score>>(_mm512_maskz_permutexvar_epi16(0xAAAAAAAAu, places, words));
        }
#endif
        using Narrow = typename VecOf<uint16_t, 2 * kLanes<Score>>::type;
        using Wide = typename VecOf<uint32_t, 4 * kLanes<Score>>::type;
        using Floats = typename VecOf<float, 4 * kLanes<Score>>::type;
        Narrow bits;
        __builtin_memcpy(&bits, from, sizeof bits);
        const Wide shifted = __builtin_convertvector(bits, Wide) << 16;
        return __builtin_convertvector(bit_cast<Floats>(shifted), Vec<Score>);
    }
};

template <class Score>
struct Loader<Score, Float16> {
    static MIXSOLVE_INLINE Vec<Score> full(const Float16* from) {
        using Floats = typename VecOf<float, 4 * kLanes<Score>>::type;
        Floats x;
#if defined(__AVX512F__)
        if constexpr (sizeof(Score) == 4) {
            x = bit_cast<Floats>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
        } else {
            x = bit_cast<Floats>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
        }
#elif defined(__AVX2__)
        if constexpr (sizeof(Score) == 4) {
            x = bit_cast<Floats>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
        } else {
            x = bit_cast<Floats>(_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
        }
#else
        for (int lane = 0; lane < kLanes<Score>; ++lane) x[lane] = to_float(from[lane]);
#endif
        return __builtin_convertvector(x, Vec<Score>);
    }
};

template <class Score>
struct Loader<Score, UInt8> {
    static MIXSOLVE_INLINE Vec<Score> full(const UInt8* from) {
#if defined(__AVX512F__)
        if constexpr (sizeof(Score) == 4) {
            const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
            return bit_cast<Vec<Score>>(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)));
        } else {
            const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
            return bit_cast<Vec<Score>>(_mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(bytes)));
        }
#elif defined(__AVX2__)
        if constexpr (sizeof(Score) == 4) {
            const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
            return bit_cast<Vec<Score>>(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)));
        }
#endif
        Vec<Score> x;
        for (int lane = 0; lane < kLanes<Score>; ++lane) x[lane] = static_cast<Score>(from[lane].bits);
        return x;
    }
};

// `count` < kLanes elements, zero in the other lanes; nothing beyond them is touched.
template <class Score, class Stored>
MIXSOLVE_INLINE Vec<Score> load_first(const Stored* from, int64_t count) {
#if defined(__AVX512F__)
    if constexpr (sizeof(Stored) == 4 && sizeof(Score) == 4) {
        return bit_cast<Vec<Score>>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1u), from));
    } else if constexpr (sizeof(Stored) == 8) {
        return bit_cast<Vec<Score>>(_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << count) - 1u), from));
    } else if constexpr (sizeof(Stored) == 2) {
        Stored copy[16];
        const __m256i bits = _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << count) - 1u), from);
        __builtin_memcpy(copy, &bits, sizeof bits);
        return Loader<Score, Stored>::full(copy);
    } else if constexpr (sizeof(Stored) == 1) {
        Stored copy[16];
        const __m128i bits = _mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << count) - 1u), from);
        __builtin_memcpy(copy, &bits, sizeof bits);
        return Loader<Score, Stored>::full(copy);
    }
#elif defined(__AVX2__)
    if constexpr (sizeof(Stored) == 4 && sizeof(Score) == 4) {
        const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
        return bit_cast<Vec<Score>>(_mm256_maskload_ps(reinterpret_cast<const float*>(from), mask));
    }
#endif
    Vec<Score> x = splat(Score(0));
    for (int lane = 0; lane < count; ++lane) x[lane] = static_cast<Score>(to_float(from[lane]));
    return x;
}

// ---- the losses of one classifier: numbers, or flags where rows are sets -------------------------------------------

template <class Score, class Stored>
struct LossLoader {
    using Losses = Vec<Score>;
    static MIXSOLVE_INLINE Losses full(const Stored* from, int64_t) { return Loader<Score, Stored>::full(from); }
    static MIXSOLVE_INLINE Losses first(const Stored* from, int64_t count, int64_t) {
        return load_first<Score, Stored>(from, count);
    }
};
template <class Score, class Word>
struct LossLoader<Score, SetOf<Word>> {
    using Losses = Flags<Score>;
    static MIXSOLVE_INLINE Losses full(const SetOf<Word>* from, int64_t classifier) {
        return Sets<Score, Word>::full(from).of(classifier);
    }
    static MIXSOLVE_INLINE Losses first(const SetOf<Word>* from, int64_t count, int64_t classifier) {
        return Sets<Score, Word>::first(from, count).of(classifier);
    }
};
template <class Score, class Stored>
using LossesOf = typename LossLoader<Score, Stored>::Losses;

// Of a vector of rows in the plane of `classifier`, from `from` on.
template <class Score, class Stored>
MIXSOLVE_INLINE LossesOf<Score, Stored> losses_at(const Stored* from, int64_t classifier) {
    return LossLoader<Score, Stored>::full(from, classifier);
}
// `count` < kLanes of them, 0 in the other lanes; nothing beyond them is touched.
template <class Score, class Stored>
MIXSOLVE_INLINE LossesOf<Score, Stored> first_losses_at(const Stored* from, int64_t count, int64_t classifier) {
    return LossLoader<Score, Stored>::first(from, count, classifier);
}
template <class Stored>
MIXSOLVE_INLINE auto loss_of(Stored stored, int64_t) {
    return to_float(stored);
}
template <class Word>
MIXSOLVE_INLINE float loss_of(SetOf<Word> set, int64_t classifier) {
    return static_cast<float>(set.bits >> classifier & 1);
}

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
