// Numbers of sets of few classifiers, looked up in registers: a table of 32 for each five classifiers.
#pragma once

#include "sets.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

#if defined(__AVX512F__)
constexpr int kPartBits = 5;

template <int Planes>
struct SubsetTables {
    static constexpr int kParts = (Planes + kPartBits - 1) / kPartBits, kSubsets = 1 << kPartBits;
    Vec<float> low[kParts], high[kParts];  // of the subsets without and with the last classifier of a part

    // `number(part, sum)` is what is looked up for a subset whose weights add up to `sum`.
    template <class Number>
    MIXSOLVE_INLINE void fill(const double* weights, Number number) {
        for (int part = 0; part < kParts; ++part) {
            double sums[kSubsets] = {};
            float numbers[kSubsets];
            for (int subset = 0; subset < kSubsets; ++subset) {
                const int plane = part * kPartBits + (subset ? __builtin_ctz(static_cast<unsigned>(subset)) : 0);
                const double weight = plane < Planes ? weights[plane] : 0.0;
                sums[subset] = subset ? sums[subset & (subset - 1)] + weight : 0.0;
                numbers[subset] = static_cast<float>(number(part, sums[subset]));
            }
            low[part] = load(numbers);
            high[part] = load(numbers + kSubsets / 2);
        }
    }
    template <class Combine>
    MIXSOLVE_INLINE Vec<float> of(const Sets<float, uint16_t>& sets, Combine combine) const {
        const __m512i words = _mm512_cvtepu16_epi32(bit_cast<__m256i>(sets.words));
        Vec<float> all = part_of(0, words);
        MIXSOLVE_UNROLL
        for (int part = 1; part < kParts; ++part) {
            all = combine(all, part_of(part, _mm512_srli_epi32(words, static_cast<unsigned>(part * kPartBits))));
        }
        return all;
    }

  private:
    MIXSOLVE_INLINE Vec<float> part_of(int part, __m512i words) const {
        return _mm512_permutex2var_ps(low[part], words, high[part]);
    }
};
#endif

// Scores of rows that are sets, where they are looked up.
template <class Score, class Stored, int Planes>
struct SubsetSums {
    static constexpr bool kAreThere = false;
    void fill(const double*) {}
};
#if defined(__AVX512F__)
template <int Planes>
struct SubsetSums<float, Set16, Planes> {
    static constexpr bool kAreThere = true;
    SubsetTables<Planes> tables;

    void fill(const double* weights) {
        tables.fill(weights, [](int, double sum) { return sum; });
    }
    MIXSOLVE_INLINE Vec<float> of(const Set16* from, int count) const {
        using Words = Sets<float, uint16_t>;
        const Words words = count == kLanes<float> ? Words::full(from) : Words::first(from, count);
        return tables.of(words, [](Vec<float> a, Vec<float> b) { return a + b; });
    }
};
#endif

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
