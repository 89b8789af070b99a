// Samples of many attacks and few classifiers, at one temperature > 0: every loss is loaded once, and stays in a
// register until its part in the gradient is known. Lines of memory are wanted in the order in which they lie there.
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
    static constexpr int kTile = 32 * kWidth;  // rows added up before they are added to others
    // Bits by which the largest exponent of a sample may differ from 0: sums of losses from 1e-30 to 1e30 stay normal.
    static constexpr Score kMostBits = 20, kFewestBits = -16;
    static constexpr Score kLowest = Twice::kLowest;

    // p_j = 2^(scale (z_j - shift)). The shift need not be the largest score of a sample, only near it: it is that of
    // a sample before, so that nothing waits for it.
    struct Exponent {
        Score per_unit, shift, least, most;
        Vec<Score> scale, smallest, shifts;

        explicit MIXSOLVE_INLINE Exponent(Score per_unit)
            : per_unit(per_unit), scale(splat(per_unit)), smallest(splat(smallest_argument(per_unit))) {
            aim(Score(0));
        }
        MIXSOLVE_INLINE void aim(Score at) {
            shift = at;
            shifts = splat(at);
            least = at + kFewestBits / per_unit;
            most = at + kMostBits / per_unit;
        }
        MIXSOLVE_INLINE bool suits(Score highest) const { return highest >= least && highest <= most; }
        MIXSOLVE_INLINE Vec<Score> chance(Vec<Score> z) const {
            return exp2_scaled<Score>(z - shifts, scale, smallest);
        }
    };
    // Over rows of a sample, by lanes: sum_j p_j, the largest score, sum_j p_j row_j.
    struct Sums {
        Vec<Score> mass, highest, moment[Planes];

        MIXSOLVE_INLINE void begin(Vec<Score> z, Vec<Score> chance, const Vec<Score> (&losses)[Planes]) {
            mass = chance;
            highest = z;
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] = chance * losses[p];
        }
        MIXSOLVE_INLINE void add(Vec<Score> z, Vec<Score> chance, const Vec<Score> (&losses)[Planes]) {
            mass += chance;
            highest = vmax(highest, z);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] = fma(chance, losses[p], moment[p]);
        }
        MIXSOLVE_INLINE void add(const Sums& other) {
            mass += other.mass;
            highest = vmax(highest, other.highest);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] += other.moment[p];
        }
    };

    const Rows<Score, Stored>& rows;
    const Segments<Score>& query;
    const Score* weights;

    // Adds the moments of the samples [first, last) to `gradient`; leaves shifts in the place of maxima, masses and
    // excesses in `query`. Shifts are handed on within runs of `run` samples, counted from the first of the block.
    MIXSOLVE_NOINLINE void soften(int first, int last, int run, double* gradient) const {
        for (int begin = first; begin < last; begin += run) {
            soften_run(begin, last - begin < run ? last : begin + run, gradient);
        }
        excesses(first, last);
    }

  private:
    // The largest scores, while they are of use.
    Score* highest() const { return query.factor(); }

    MIXSOLVE_NOINLINE void soften_run(int first, int last, double* gradient) const {
        const Losses table = Twice{rows, query, weights}.losses();
        const int32_t* const start = query.block.start;
        Exponent exponent(static_cast<Score>(kLog2E / query.temperature(0)));
        Vec<Score> total[Planes], losses[Planes];
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) total[p] = splat(Score(0));
        look(table, table.row(start[first]), losses);
        exponent.aim(lane_max(score(losses)));
        bool missed = false;
        int s = first;
        for (; (s = usual_samples(table, s, last, exponent, total)) < last; ++s) {
            Sums sums = sample(table, start[s], start[s + 1], exponent);
            if (!exponent.suits(lane_max(sums.highest))) {
                if (missed) break;
                missed = true;
                exponent.aim(lane_max(sums.highest));
                sums = sample(table, start[s], start[s + 1], exponent);
            }
            settle(s, exponent.shift, lane_max(sums.highest), sums, total);
        }
        for (int p = 0; p < Planes; ++p) gradient[p] += static_cast<double>(lane_sum(total[p]));
        if (s < last) look_twice(s, last, gradient);
    }
    MIXSOLVE_INLINE void settle(int s, Score shift, Score top, const Sums& sums, Vec<Score> (&total)[Planes]) const {
        const Score mass = lane_sum(sums.mass);
        query.maximum()[s] = shift;
        query.mass()[s] = mass;
        highest()[s] = top;
        const Vec<Score> factor = splat(query.weights()[s] / mass);
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) total[p] = fma(factor, sums.moment[p], total[p]);
    }
    // Where no term is far below the largest, a mass close to the number of attacks is that of a high temperature. Done
    // for many samples at once: numbers that have just been stored one by one cannot be loaded together without delay.
    MIXSOLVE_NOINLINE void excesses(int first, int last) const {
        const Twice twice{rows, query, weights};
        const Exponent exponent(static_cast<Score>(kLog2E / query.temperature(0)));
        for (int s = first; s < last; s += kWidth) {
            const Vec<Score> shift = load(query.maximum() + s), mass = load(query.mass() + s);
            const Vec<Score> enough = Score(kHighTemperatureShare) * load(query.total() + s);
            const Vec<Score> top = exp2_scaled<Score>(load(highest() + s) - shift, exponent.scale, exponent.smallest);
            store(query.excess() + s, mass - load(query.total() + s));
            const Mask<Score> high = (mass > enough) & (mass > enough * top);
            if (!any_of<Score>(high)) continue;
            for (int lane = 0; lane < kWidth && s + lane < last; ++lane) {
                if (high[lane]) {
                    query.excess()[s + lane] = twice.sum_expm1(s + lane, exponent.per_unit, shift[lane]);
                }
            }
        }
    }
    // Where the shift of one sample does not suit the next.
    MIXSOLVE_NOINLINE void look_twice(int first, int last, double* gradient) const {
        Vec<Score> total[Planes];
        for (int p = 0; p < Planes; ++p) total[p] = splat(Score(0));
        Twice{rows, query, weights}.soften(first, last, total, gradient);
        for (int p = 0; p < Planes; ++p) gradient[p] += static_cast<double>(lane_sum(total[p]));
        for (int s = first; s < last; ++s) highest()[s] = query.maximum()[s];
    }

    // ---- samples whose rows share vectors with the samples beside them ----

    // The samples from `first` on, up to one of several tiles, or in the last vector of the block, or whose scores are
    // not near the shift.
    MIXSOLVE_NOINLINE int usual_samples(const Losses& in_memory, int first, int last, Exponent exponent,
                                        Vec<Score> (&all)[Planes]) const {
        const Losses table = in_memory;
        const int32_t* const start = query.block.start;
        if (first >= last || !is_usual(start[first], start[first + 1])) return first;
        Vec<Score> total[Planes], losses[Planes];
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) total[p] = all[p];
        int s = first, before = start[s] % kWidth;  // rows of other samples in the vector in which this one begins
        look(table, table.row(start[s] - before), losses);
        Vec<Score> z = score(losses), chance = exponent.chance(z);
        while (true) {
            Sums sums;
            sums.begin(drop_first<Score>(z, before, kLowest), drop_first<Score>(chance, before), losses);
            const int end = start[s + 1], row = add_vectors(table, start[s] - before + kWidth, end, exponent, sums);
            before = end - row;
            look(table, table.row(row), losses);
            z = score(losses);
            chance = exponent.chance(z);
            sums.add(keep_first<Score>(z, before, kLowest), keep_first<Score>(chance, before), losses);
            const Score top = lane_max(sums.highest);
            if (!exponent.suits(top)) break;
            settle(s, exponent.shift, top, sums, total);
            ++s;
            if (s == last || !is_usual(start[s], start[s + 1])) break;
        }
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) all[p] = total[p];
        return s;
    }
    bool is_usual(int begin, int end) const {
        return end - begin <= kTile && end / kWidth * kWidth + kWidth <= rows.n_rows;
    }
    // The vectors from `row` on that end before `end`; returns the first row that is left.
    MIXSOLVE_INLINE int add_vectors(const Losses& table, int row, int end, const Exponent& exponent, Sums& sums) const {
        const char* from = table.row(row);
        int vector = 0;
        for (; row + kWidth <= end; row += kWidth, ++vector, from += kWidth * sizeof(Stored)) {
            fetch(from, vector);
            Vec<Score> losses[Planes];
            look(table, from, losses);
            const Vec<Score> z = score(losses);
            sums.add(z, exponent.chance(z), losses);
        }
        fetch(from, vector);
        return row;
    }

    // ---- other samples ----

    // Tile by tile: few rows are added up before they are added to others.
    MIXSOLVE_NOINLINE Sums sample(const Losses& in_memory, int begin, int end, Exponent exponent) const {
        const Losses table = in_memory;
        const Vec<Score> nothing[Planes] = {};
        Sums sums;
        sums.begin(splat(kLowest), splat(Score(0)), nothing);
        for (int row = begin; row < end;) {
            const int stop = end - row < kTile ? end : row + kTile;
            Sums tile;
            tile.begin(splat(kLowest), splat(Score(0)), nothing);
            row = add_vectors(table, row, stop, exponent, tile);
            if (row < stop) {
                Vec<Score> losses[Planes];
                MIXSOLVE_UNROLL
                for (int p = 0; p < Planes; ++p) losses[p] = table.template at<false>(table.row(row), p, stop - row);
                const Vec<Score> z = keep_first<Score>(score(losses), stop - row, kLowest);
                tile.add(z, exponent.chance(z), losses);  // chances beyond the last row are too small to count
                row = stop;
            }
            sums.add(tile);
        }
        return sums;
    }

    // ---- vectors ----

    static MIXSOLVE_INLINE void look(const Losses& table, const char* from, Vec<Score> (&losses)[Planes]) {
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) losses[p] = in_register<Score>(table.template at<true>(from, p, kWidth));
    }
    // The processor finds the next lines of few planes by itself: there, asking for them slows it down.
    MIXSOLVE_INLINE void fetch(const char* from, int vector) const {
        constexpr int kFollowed = 6, kAhead = 16384;
        constexpr int kPerLine = Rows<Score, Stored>::kVectorsPerLine;
        if (Planes <= kFollowed || vector % kPerLine != 0 || !query.turn.asks(vector / kPerLine)) return;
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) __builtin_prefetch(from + p * rows.plane_stride + kAhead, 0, 2);
    }
    // In two chains, which are half as long.
    MIXSOLVE_INLINE Vec<Score> score(const Vec<Score> (&losses)[Planes]) const {
        constexpr int kChain = Planes > 5 ? (Planes + 1) / 2 : Planes;
        const Score* const w = Planes > 5 ? anew(weights) : weights;
        Vec<Score> sum = losses[0] * splat(w[0]);
        MIXSOLVE_UNROLL
        for (int p = 1; p < kChain; ++p) sum = fma(losses[p], splat(w[p]), sum);
        if constexpr (kChain < Planes) {
            Vec<Score> more = losses[kChain] * splat(w[kChain]);
            MIXSOLVE_UNROLL
            for (int p = kChain + 1; p < Planes; ++p) more = fma(losses[p], splat(w[p]), more);
            sum += more;
        }
        return sum;
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
