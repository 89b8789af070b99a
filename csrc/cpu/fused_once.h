// Samples of many attacks and few classifiers, at temperature > 0: every loss is loaded once, and stays in a register
// until its part in the gradient is known. Lines of memory are wanted in the order in which they lie there.
#pragma once

#include "fused.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class Score, class Stored, int Planes>
struct FusedOnce {
    using Twice = Fused<Score, Stored, Planes>;
    using Losses = typename Twice::Losses;
    static constexpr bool kFits = 2 * Planes + 8 <= kRegisters;  // losses, moments, and what the exponential needs
    static constexpr int kWidth = Twice::kWidth;
    static constexpr int kTile = 32 * kWidth;        // rows added up before they are added to others
    static constexpr Score kMostExponent = 20;       // sums of losses up to 1e30 stay finite
    static constexpr int kSteepRun = 32;             // samples
    static constexpr int kFewestRows = 12 * kWidth;  // of a sample: what comes with each sample is more than in Fused

    // p_j = 2^(scale (z_j - shift)). The shift is the largest of the first scores that fill a vector, so that nothing
    // waits for all of them, and is raised where a later score would have an exponent above `kMostExponent`.
    struct Exponent {
        Vec<Score> scale, smallest, room, shift, ceiling;
        int raised = 0;

        explicit MIXSOLVE_INLINE Exponent(Score per_unit)
            : scale(splat(per_unit)),
              smallest(splat(smallest_argument(per_unit))),
              room(splat(kMostExponent / per_unit)),
              shift(splat(Twice::kLowest)),
              ceiling(shift) {}
        MIXSOLVE_INLINE void raise(Score to) {
            shift = splat(to);
            ceiling = shift + room;
            ++raised;
        }
        MIXSOLVE_INLINE Vec<Score> chance(Vec<Score> z) const { return exp2_scaled<Score>(z - shift, scale, smallest); }
    };
    // Over some rows of a sample, by lanes: sum_j p_j, the largest score, sum_j p_j row_j.
    struct Sums {
        Vec<Score> mass, highest, moment[Planes];

        MIXSOLVE_INLINE void clear() {
            mass = splat(Score(0));
            highest = splat(Twice::kLowest);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] = mass;
        }
        MIXSOLVE_INLINE void multiply(Vec<Score> factor) {
            mass *= factor;
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] *= factor;
        }
    };
    struct Found {
        Score shift, mass;
        bool steep, high_temperature;
    };

    const Rows<Score, Stored>& rows;
    const Segments<Score>& query;
    const Score* weights;

    // As Fused::soften, but it leaves the shift of a sample in place of its maximum. Where a shift had to be raised,
    // the next samples are likely to need the same, and are looked at twice.
    MIXSOLVE_NOINLINE void soften(int first, int last, Vec<Score>* total, double* gradient) const {
        const Twice twice{rows, query, weights};
        const Losses table = twice.losses();
        const int32_t* const start = query.block.start;
        const bool one_temperature = !query.work.request->temperature_per_sample;
        Score scale = static_cast<Score>(kLog2E / query.temperature(first));
        Exponent exponent(scale);
        Vec<Score> moment[Planes];
        for (int s = first; s < last;) {
            if (!one_temperature) exponent = Exponent(scale = static_cast<Score>(kLog2E / query.temperature(s)));
            const Found found = sample(table, start[s], start[s + 1], exponent, moment);
            const Score all = static_cast<Score>(start[s + 1] - start[s]);
            query.maximum()[s] = found.shift;
            query.mass()[s] = found.mass;
            query.excess()[s] = found.high_temperature ? twice.sum_expm1(s, scale, found.shift) : found.mass - all;
            const Vec<Score> factor = splat(query.weights()[s] / found.mass);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) total[p] = fma(factor, moment[p], total[p]);
            if (s % kRunVectors == kRunVectors - 1 || s + 1 == query.block.n_segments) {
                for (int p = 0; p < Planes; ++p) {
                    gradient[p] += static_cast<double>(lane_sum(total[p]));
                    total[p] = splat(Score(0));
                }
            }
            ++s;
            if (found.steep && s < last) {
                const int stop = s + kSteepRun < last ? s + kSteepRun : last;
                twice.soften(s, stop, total, gradient);
                s = stop;
            }
        }
    }

  private:
    // What the usual case keeps in registers is not handed to functions that are called.
    MIXSOLVE_INLINE Found sample(const Losses& table, int begin, int end, Exponent exponent,
                                 Vec<Score> (&moment)[Planes]) const {
        if (end - begin > kTile) return long_sample(table, begin, end, exponent, moment);
        Sums sums;
        sums.clear();
        add_tile(table, begin, end, exponent, sums);
        return found(sums, exponent, end - begin, moment);
    }
    // Tile by tile: few rows are added up before they are added to others.
    MIXSOLVE_NOINLINE Found long_sample(const Losses& in_memory, int begin, int end, Exponent exponent,
                                        Vec<Score> (&moment)[Planes]) const {
        const Losses table = in_memory;
        Sums sums;
        sums.clear();
        for (int row = begin; row < end; row += kTile) {
            const Vec<Score> earlier = exponent.shift;
            Sums tile;
            tile.clear();
            add_tile(table, row, end - row < kTile ? end : row + kTile, exponent, tile);
            if (exponent.shift[0] > earlier[0]) sums.multiply(exponent.chance(earlier));
            sums.mass += tile.mass;
            sums.highest = vmax(sums.highest, tile.highest);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) sums.moment[p] += tile.moment[p];
        }
        return found(sums, exponent, end - begin, moment);
    }
    static MIXSOLVE_INLINE Found found(const Sums& sums, const Exponent& exponent, int n_rows,
                                       Vec<Score> (&moment)[Planes]) {
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) moment[p] = sums.moment[p];
        const Score mass = lane_sum(sums.mass), enough = Score(kHighTemperatureShare) * static_cast<Score>(n_rows);
        // Where no term is far below the largest, a mass close to the number of attacks is that of a high temperature.
        const bool high = mass > enough && mass > enough * exponent.chance(splat(lane_max(sums.highest)))[0];
        return {exponent.shift[0], mass, exponent.raised > 1, high};
    }
    MIXSOLVE_INLINE void add_tile(const Losses& table, int begin, int end, Exponent& exponent, Sums& sums) const {
        const char* from = table.row(begin);
        int row = begin, vector = 0;
        for (; row + kWidth <= end; row += kWidth, ++vector, from += kWidth * sizeof(Stored)) {
            fetch(from, vector);
            add_vector<true>(table, from, kWidth, exponent, sums);
        }
        if (row < end) add_vector<false>(table, from, end - row, exponent, sums);
    }
    // The processor finds the next lines of few planes by itself: there, asking for them slows it down.
    MIXSOLVE_INLINE void fetch(const char* from, int vector) const {
        constexpr int kFollowed = 6, kAhead = 16384;
        constexpr int kPerLine = Rows<Score, Stored>::kVectorsPerLine;
        if (Planes <= kFollowed || vector % kPerLine != 0 || !query.turn.asks(vector / kPerLine)) return;
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) __builtin_prefetch(from + p * rows.plane_stride + kAhead, 0, 2);
    }
    template <bool Whole>
    MIXSOLVE_INLINE void add_vector(const Losses& table, const char* from, int count, Exponent& exponent,
                                    Sums& sums) const {
        Vec<Score> losses[Planes];
        load_losses<Whole>(table, from, count, losses);
        Vec<Score> z = score(weights, losses);
        if (!Whole) z = keep_first<Score>(z, count, Twice::kLowest);
        if (__builtin_expect(any_greater(z, exponent.ceiling), false)) {
            const Vec<Score> earlier = exponent.shift;
            exponent.raise(lane_max(z));
            sums.multiply(exponent.chance(earlier));
        }
        add(losses, z, exponent, sums);
    }
    template <bool Whole>
    static MIXSOLVE_INLINE void load_losses(const Losses& table, const char* from, int count,
                                            Vec<Score> (&losses)[Planes]) {
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) losses[p] = in_register<Score>(table.template at<Whole>(from, p, count));
    }
    static MIXSOLVE_INLINE void add(const Vec<Score> (&losses)[Planes], Vec<Score> z, const Exponent& exponent,
                                    Sums& sums) {
        sums.highest = vmax(sums.highest, z);
        const Vec<Score> chance = exponent.chance(z);  // hardly any beyond the last row
        sums.mass += chance;
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) sums.moment[p] = fma(chance, losses[p], sums.moment[p]);
    }
    // In two chains, which are half as long.
    static MIXSOLVE_INLINE Vec<Score> score(const Score* weights, const Vec<Score> (&losses)[Planes]) {
        constexpr int kChain = Planes > 5 ? (Planes + 1) / 2 : Planes;
        if (Planes > 5) weights = anew(weights);
        Vec<Score> sum = losses[0] * splat(weights[0]);
        MIXSOLVE_UNROLL
        for (int p = 1; p < kChain; ++p) sum = fma(losses[p], splat(weights[p]), sum);
        if constexpr (kChain < Planes) {
            Vec<Score> more = losses[kChain] * splat(weights[kChain]);
            MIXSOLVE_UNROLL
            for (int p = kChain + 1; p < Planes; ++p) more = fma(losses[p], splat(weights[p]), more);
            sum += more;
        }
        return sum;
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
