// Samples of many attacks and few classifiers in one go: scores, exponentials and moments of a vector of attacks while
// its losses are at hand, so that memory is asked for evenly and nothing is written on the way.
//
// The exponents are shifted by the largest of the sample's first scores, not of all: any shift serves as long as
// nothing overflows. When a later score is too far above it, the sample is done again from its true maximum.
#pragma once

#include "rows.h"
#include "segments.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

#if defined(__AVX512F__)
constexpr int kMostFusedPlanes = 12;
#elif defined(__AVX2__)
constexpr int kMostFusedPlanes = 6;
#else
constexpr int kMostFusedPlanes = 0;
#endif

constexpr int kMostFusedSoftPlanes = kMostFusedPlanes < 4 ? kMostFusedPlanes : 4;

template <class Score, class Stored, int Planes>
struct Fused {
    static constexpr int kWidth = kLanes<Score>, kRun = 2 * kRunVectors * kWidth;
    static constexpr int kAhead = 4096;  // bytes of each plane: far enough for memory, near enough for the caches
    static constexpr Score kLargestExponent = 60;  // 2^60 times the attacks of a sample is no overflow

    const Rows<Score, Stored>& rows;
    const Segments<Score>& query;
    const Score* weights;

    template <bool Whole>
    MIXSOLVE_INLINE Vec<Score> losses(const char* from, int plane, int count) const {
        const Stored* here = reinterpret_cast<const Stored*>(from + plane * rows.plane_stride);
        return Whole ? Loader<Score, Stored>::full(here) : load_first<Score, Stored>(here, count);
    }
    template <bool Whole>
    MIXSOLVE_INLINE Vec<Score> score(const char* from, int count) const {
        Vec<Score> sum = losses<Whole>(from, 0, count) * splat(weights[0]);
        MIXSOLVE_UNROLL
        for (int p = 1; p < Planes; ++p) sum = fma(losses<Whole>(from, p, count), splat(weights[p]), sum);
        return sum;
    }
    const char* row_data(int row) const { return rows.data + row * static_cast<int64_t>(sizeof(Stored)); }

    // ---- temperature > 0 ----

    // Moments of all samples of the block, added to `gradient`; maxima, masses and excesses are left in `query`.
    MIXSOLVE_NOINLINE void soften(double* gradient) const {
        const Block& block = query.block;
        Vec<Score> total[Planes], odd = splat(Score(0));
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) total[p] = splat(Score(0));
        Score next_shift = first_scores(0), scale = 0, smallest = 0, largest = 0;
        for (int s = 0; s < block.n_segments; ++s) {
            const int begin = block.start[s], end = block.start[s + 1];
            if (s == 0 || query.work.request->temperature_per_sample) {
                scale = static_cast<Score>(kLog2E / query.temperature(s));
                smallest = smallest_argument(scale);
                largest = kLargestExponent / scale;
            }
            Score shift = next_shift;
            if (s + 1 < block.n_segments) next_shift = first_scores(s + 1);  // early: nothing has to wait for it
            Vec<Score> moment[Planes], masses, highest;
            for (;;) {
                if (end - begin <= kRun) {
                    highest = moments(begin, end, scale, smallest, shift, masses, odd, moment);
                } else {  // through memory of its own, which leaves the usual case its registers
                    Vec<Score> sums[Planes], all_masses, all_odd = odd;
                    highest = long_moments(begin, end, scale, smallest, shift, all_masses, all_odd, sums);
                    masses = all_masses;
                    odd = all_odd;
                    MIXSOLVE_UNROLL
                    for (int p = 0; p < Planes; ++p) moment[p] = sums[p];
                }
                if (!any_greater(highest, splat(largest))) break;
                shift += lane_max(highest);
            }
            const Score mass = lane_sum(masses), all = static_cast<Score>(end - begin);
            query.maximum()[s] = shift;
            query.mass()[s] = mass;
            // A mean power near 1 is a chance hit of the shift unless the scores lie within about a temperature of it.
            const bool high = near_one(mass / all) && lane_max(highest) * scale < 2;
            query.excess()[s] = high ? excess(begin, end, scale, shift) : mass - all;
            const Vec<Score> factor = splat(query.weights()[s] / mass);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) total[p] = fma(factor, moment[p], total[p]);
            if (s % kRunVectors == kRunVectors - 1 || s + 1 == block.n_segments) {
                MIXSOLVE_UNROLL
                for (int p = 0; p < Planes; ++p) {
                    gradient[p] += static_cast<double>(lane_sum(total[p]));
                    total[p] = splat(Score(0));
                }
            }
        }
        if (lane_sum(odd) != 0) query.work.finite = false;
    }
    Score first_scores(int s) const { return lane_max(score<true>(row_data(query.block.start[s]), kWidth)); }

    // Run by run: see kRunVectors.
    MIXSOLVE_NOINLINE Vec<Score> long_moments(int begin, int end, Score scale, Score smallest, Score shift,
                                              Vec<Score>& masses, Vec<Score>& odd, Vec<Score> (&moment)[Planes]) const {
        Vec<Score> highest = moments(begin, begin + kRun, scale, smallest, shift, masses, odd, moment);
        for (int row = begin + kRun; row < end; row += kRun) {
            Vec<Score> more[Planes], more_mass;
            const int stop = end - row < kRun ? end : row + kRun;
            highest = vmax(highest, moments(row, stop, scale, smallest, shift, more_mass, odd, more));
            masses += more_mass;
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] += more[p];
        }
        return highest;
    }

    // sum_j p_j row_j and sum_j p_j with p_j = 2^(scale (z_j - shift)); returns the largest z_j - shift, by lanes.
    MIXSOLVE_INLINE Vec<Score> moments(int begin, int end, Score scale, Score smallest, Score shift, Vec<Score>& masses,
                                       Vec<Score>& odd, Vec<Score> (&moment)[Planes]) const {
        const Vec<Score> scales = splat(scale), lowest = splat(smallest), shifts = splat(shift);
        Vec<Score> sum = splat(Score(0)), highest = lowest;
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) moment[p] = splat(Score(0));
        const char* from = row_data(begin);
        int row = begin;
        for (; row + kWidth <= end; row += kWidth, from += kWidth * sizeof(Stored)) {
            const Vec<Score> z = score<true>(from, kWidth);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) __builtin_prefetch(from + p * rows.plane_stride + kAhead, 0, 2);
            odd += z - z;
            const Vec<Score> above = z - shifts;
            highest = vmax(highest, above);
            const Vec<Score> chance = exp2_negative<Score>(above, scales, lowest);
            sum += chance;
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] = fma(chance, losses<true>(from, p, kWidth), moment[p]);
        }
        if (row < end) {
            const int count = end - row;
            const Vec<Score> z = score<false>(from, count);
            odd += z - z;
            const Vec<Score> above = keep_first<Score>(z - shifts, count);
            highest = vmax(highest, above);
            const Vec<Score> chance = keep_first<Score>(exp2_negative<Score>(above, scales, lowest), count);
            sum += chance;
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] = fma(chance, losses<false>(from, p, count), moment[p]);
        }
        masses = sum;
        return highest;
    }

    // sum_j expm1((z_j - shift) / t), for a mass that is close to the number of attacks.
    MIXSOLVE_NOINLINE Score excess(int begin, int end, Score scale, Score shift) const {
        Vec<Score> sum = splat(Score(0)), run = sum;
        for (int row = begin; row < end; row += kWidth) {
            if ((row - begin) % (kRunVectors * kWidth) == 0) {
                sum += run;
                run = splat(Score(0));
            }
            const int count = end - row < kWidth ? end - row : kWidth;
            const Vec<Score> z =
                count == kWidth ? score<true>(row_data(row), kWidth) : score<false>(row_data(row), count);
            run += keep_first<Score>(exp2_parts<Score>((z - shift) * scale).expm1(), count);
        }
        return lane_sum(sum + run);
    }

    // ---- temperature 0 ----

    // The largest score of each sample and the first row that has it.
    MIXSOLVE_NOINLINE void best_attacks() const {
        using Index = typename IntegerOf<Score>::type;
        Vec<Score> odd = splat(Score(0));
        Mask<Score> lanes;
        for (int lane = 0; lane < kWidth; ++lane) lanes[lane] = lane;
        for (int s = 0; s < query.block.n_segments; ++s) {
            const int begin = query.block.start[s], end = query.block.start[s + 1];
            const char* from = row_data(begin);
            Vec<Score> max = score<true>(from, kWidth);
            odd += max - max;
            Mask<Score> where = lanes + static_cast<Index>(begin), here = where;
            int row = begin + kWidth;
            for (; row + kWidth <= end; row += kWidth) {
                from += kWidth * sizeof(Stored);
                here += static_cast<Index>(kWidth);
                const Vec<Score> z = score<true>(from, kWidth);
                odd += z - z;
                const Mask<Score> better = z > max;
                max = better ? z : max;
                where = better ? here : where;
            }
            if (row < end) {
                from += kWidth * sizeof(Stored);
                here += static_cast<Index>(kWidth);
                const Vec<Score> z = score<false>(from, end - row);
                odd += z - z;
                const Mask<Score> better = (z > max) & (lanes < static_cast<Index>(end - row));
                max = better ? z : max;
                where = better ? here : where;
            }
            query.maximum()[s] = lane_max(max);
            query.work.best[s] = first_of(where, equal_bits(max, splat(query.maximum()[s])), begin);
        }
        if (lane_sum(odd) != 0) query.work.finite = false;
    }
    static MIXSOLVE_INLINE int first_of(const Mask<Score>& where, unsigned lanes, int begin) {
        int best = lanes == 0 ? begin : static_cast<int>(where[__builtin_ctz(lanes)]);  // 0: a score is NaN
        for (unsigned left = lanes & (lanes - 1); left != 0; left &= left - 1) {
            const int other = static_cast<int>(where[__builtin_ctz(left)]);
            best = other < best ? other : best;
        }
        return best;
    }
};

// Calls `use(Fused<Score, Stored, L>)` for the table's number of classifiers.
template <class Score, class Stored, int Planes = kMostFusedSoftPlanes>
MIXSOLVE_INLINE void soften_fused(const Rows<Score, Stored>& rows, const Segments<Score>& query, const Score* weights,
                                  double* gradient) {
    if constexpr (Planes > 0) {
        if (rows.n_planes == Planes) {
            Fused<Score, Stored, Planes>{rows, query, weights}.soften(gradient);
        } else {
            soften_fused<Score, Stored, Planes - 1>(rows, query, weights, gradient);
        }
    }
}
template <class Score, class Stored, int Planes = kMostFusedPlanes>
MIXSOLVE_INLINE void best_attacks_fused(const Rows<Score, Stored>& rows, const Segments<Score>& query,
                                        const Score* weights) {
    if constexpr (Planes > 0) {
        if (rows.n_planes == Planes) {
            Fused<Score, Stored, Planes>{rows, query, weights}.best_attacks();
        } else {
            best_attacks_fused<Score, Stored, Planes - 1>(rows, query, weights);
        }
    }
}

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
