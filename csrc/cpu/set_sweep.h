// Samples of many attacks on few classifiers whose rows are sets: one sweep. A row's exponential is a product of
// numbers that are looked up, and is added to the moments of the classifiers that the row fools.
#pragma once

#include "segments.h"
#include "subset_sums.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <int Planes>
struct SetSweep;

#if defined(__AVX512F__)
template <int Planes>
struct SetSweep {
    using Words = Sets<float, uint16_t>;
    static constexpr int kWidth = kLanes<float>;
    static constexpr int kTile = 32 * kWidth;  // rows that are summed up together
    static constexpr int kAhead = 4096;        // bytes

    const Rows<float, Set16>& rows;
    const Segments<float>& query;

    struct Sums {
        Vec<float> mass, moment[Planes];

        MIXSOLVE_INLINE void clear() {
            mass = splat(0.0f);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] = mass;
        }
        MIXSOLVE_INLINE void operator+=(const Sums& other) {
            mass += other.mass;
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] += other.moment[p];
        }
    };

    // Whether no power leaves the range of floats, and no logarithm of mass / total is lost to rounding near 0.
    bool suits() const {
        constexpr double kWidest = 120;  // exp(60) and exp(-60) leave room for sums and weights in floats
        if (query.work.request->temperature_per_sample) return false;
        double spread = 0;
        for (int p = 0; p < Planes; ++p) spread += ::fabs(weights()[p]);
        spread /= query.temperature(0);
        return spread >= 1 && spread <= kWidest;
    }

    // Adds the moments of the samples [first, last) to `total`, and to `gradient` every few samples and at the end of
    // the block; leaves shifts, masses and excesses in `query`.
    MIXSOLVE_NOINLINE void soften(int first, int last, Vec<float>* total, double* gradient) const {
        const int32_t* const start = query.block.start;
        float *const shifts = query.maximum(), *const mass = query.mass(), *const excess = query.excess();
        const float* const sample_weights = query.weights();
        float shift;
        const SubsetTables<Planes> powers = find_powers(shift);
        Vec<float> sums[Planes];
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) sums[p] = total[p];
        for (int s = first; s < last; ++s) {
            Sums sample;
            add_sample(powers, start[s], start[s + 1], sample);
            shifts[s] = shift;
            const float sum = lane_sum(sample.mass);
            mass[s] = sum;
            excess[s] = sum - static_cast<float>(start[s + 1] - start[s]);
            const Vec<float> factor = splat(sample_weights[s] / sum);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) sums[p] = fma(factor, sample.moment[p], sums[p]);
            if (s % kRunVectors == kRunVectors - 1 || s + 1 == query.block.n_segments) {
                MIXSOLVE_UNROLL
                for (int p = 0; p < Planes; ++p) {
                    gradient[p] += static_cast<double>(lane_sum(sums[p]));
                    sums[p] = splat(0.0f);
                }
            }
        }
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) total[p] = sums[p];
    }

  private:
    const double* weights() const { return query.work.request->weights + query.query * Planes; }

    // exp((score - shift) / t) in factors, with the middle of all scores that sets can have for the shift.
    SubsetTables<Planes> find_powers(float& shift) const {
        const double t = query.temperature(0);
        double middle[SubsetTables<Planes>::kParts] = {}, all = 0;
        for (int p = 0; p < Planes; ++p) middle[p / kPartBits] += weights()[p] / 2;
        for (const double part : middle) all += part;
        shift = static_cast<float>(all);
        SubsetTables<Planes> powers;
        powers.fill(weights(), [&](int part, double sum) { return ::exp((sum - middle[part]) / t); });
        return powers;
    }

    MIXSOLVE_INLINE void add_sample(const SubsetTables<Planes>& powers, int begin, int end, Sums& sample) const {
        const Set16* from = rows.plane(0) + begin;
        if (end - begin <= kTile) return add_tile(powers, from, end - begin, sample);
        Sums whole;
        whole.clear();
        for (int left = end - begin; left > 0; left -= kTile, from += kTile) {
            add_tile(powers, from, left < kTile ? left : kTile, sample);
            whole += sample;
        }
        sample = whole;
    }
    static MIXSOLVE_INLINE void add_tile(const SubsetTables<Planes>& powers, const Set16* from, int n_rows,
                                         Sums& sums) {
        const auto product = [](Vec<float> a, Vec<float> b) { return a * b; };
        sums.clear();
        int left = n_rows;
        for (; left >= kWidth; left -= kWidth, from += kWidth) {
            __builtin_prefetch(reinterpret_cast<const char*>(from) + kAhead, 0, 2);
            const Words words = Words::full(from);
            add(words, powers.of(words, product), sums);
        }
        if (left > 0) {
            const Words words = Words::first(from, left);
            add(words, keep_first<float>(powers.of(words, product), left), sums);
        }
    }
    static MIXSOLVE_INLINE void add(const Words& words, Vec<float> power, Sums& sums) {
        sums.mass += power;
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) sums.moment[p] = fma(words.of(p), power, sums.moment[p]);
    }
};
#endif

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
