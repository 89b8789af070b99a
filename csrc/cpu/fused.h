// Samples of many attacks and few classifiers: tile by tile, scores and then exponentials and moments while the losses
// are at hand. Memory is asked for evenly, and what is between the two loops stays in the first cache.
#pragma once

#include "rows.h"
#include "segments.h"
#include "subset_sums.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

#if defined(__AVX512F__)
constexpr int kMostFusedPlanes = 12;
#elif defined(__AVX2__)
constexpr int kMostFusedPlanes = 6;
#else
constexpr int kMostFusedPlanes = 0;
#endif

template <class Score, class Stored, int Planes>
struct Fused {
    static constexpr int kWidth = kLanes<Score>;
    static constexpr int kTile = (Planes <= 4 ? 8 : 32) * kWidth;  // rows whose losses stay in the first cache
    static constexpr int kAhead = 8192;  // bytes of each plane: far enough for memory, near enough for the caches
    static constexpr Score kLowest = -__builtin_inff();

    // Copies of what the loops need: nothing that they store can change it.
    struct Losses {
        const char* data;
        int64_t stride;
        Vec<Score> weights[Planes];
        SubsetSums<Score, Stored, Planes> sums;  // in the place of the weights
        Turn turn;

        MIXSOLVE_INLINE const char* row(int row) const { return data + row * static_cast<int64_t>(sizeof(Stored)); }
        template <bool Whole>
        MIXSOLVE_INLINE LossesOf<Score, Stored> at(const char* from, int plane, int count) const {
            const Stored* here = reinterpret_cast<const Stored*>(from + plane * stride);
            return Whole ? losses_at<Score>(here, plane) : first_losses_at<Score>(here, count, plane);
        }
        template <bool Whole>
        MIXSOLVE_INLINE Vec<Score> score(const char* from, int count) const {
            if constexpr (decltype(sums)::kAreThere)
                return sums.of(reinterpret_cast<const Stored*>(from), Whole ? kWidth : count);
            Vec<Score> sum = at<Whole>(from, 0, count) * weights[0];
            MIXSOLVE_UNROLL
            for (int p = 1; p < Planes; ++p) sum = fma(at<Whole>(from, p, count), weights[p], sum);
            return sum;
        }
        // Half of the planes are fetched beside the scores, the others beside the moments: a burst would stall the
        // core.
        template <int Half>
        MIXSOLVE_INLINE void fetch(const char* from, int vector) const {
            constexpr int kPerLine = Rows<Score, Stored>::kVectorsPerLine;
            if (vector % kPerLine != 0 || !turn.asks(vector / kPerLine)) return;
            MIXSOLVE_UNROLL
            for (int p = Half; p < Planes; p += 2) __builtin_prefetch(from + p * stride + kAhead, 0, 2);
        }
    };

    struct Tile {
        int begin, end;  // rows of one sample
        Score* scores;   // a vector may be stored past the last one
        Score maximum;
    };

    const Rows<Score, Stored>& rows;
    const Segments<Score>& query;
    const Score* weights;

    MIXSOLVE_INLINE Losses losses() const {
        Losses found;
        found.data = rows.data;
        found.stride = rows.plane_stride;
        found.turn = query.turn;
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) found.weights[p] = splat(weights[p]);
        found.sums.fill(query.work.request->weights + query.query * Planes);
        return found;
    }

    // ---- temperature > 0 ----

    // Adds the moments of the samples [first, last) to `total`, and to `gradient` every few samples and at the end of
    // the block; leaves maxima, masses and excesses in `query`.
    //
    // The scores of a tile are computed before the exponentials of the tile before it, so that neither waits for the
    // other. A loss that is not finite makes its moment so, and the pass looks at the gradients.
    MIXSOLVE_NOINLINE void soften(int first, int last, Vec<Score>* total, double* gradient) const {
        const Losses table = losses();
        const int32_t* const start = query.block.start;
        const bool one_temperature = !query.work.request->temperature_per_sample;
        Score *const maxima = query.maximum(), *const mass = query.mass(), *const excess = query.excess();
        const Score* const sample_weights = query.weights();
        Score scale = static_cast<Score>(kLog2E / query.temperature(0));
        Vec<Score> sums[Planes];
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) sums[p] = total[p];
        Tile tile = scores(table, start[first], start[first + 1], query.probability);
        for (int s = first; s < last; ++s) {
            if (!one_temperature) scale = static_cast<Score>(kLog2E / query.temperature(s));
            Vec<Score> moment[Planes], masses;
            Score maximum;
            if (tile.end == start[s + 1]) {
                const Tile here = tile;
                if (s + 1 < last) tile = scores(table, here.end, start[s + 2], other(here));
                maximum = here.maximum;
                masses = moments(table, here, scale, maximum, moment);
            } else {  // through memory of its own, which leaves the usual case its registers
                Vec<Score> long_moment[Planes];
                maximum = long_moments(table, s, last, scale, tile, masses, long_moment);
                MIXSOLVE_UNROLL
                for (int p = 0; p < Planes; ++p) moment[p] = long_moment[p];
            }
            const Score sum = lane_sum(masses), all = static_cast<Score>(start[s + 1] - start[s]);
            maxima[s] = maximum;
            mass[s] = sum;
            excess[s] = near_one(sum / all) ? sum_expm1(s, scale, maximum) : sum - all;
            const Vec<Score> factor = splat(sample_weights[s] / sum);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) sums[p] = fma(factor, moment[p], sums[p]);
            if (s % kRunVectors == kRunVectors - 1 || s + 1 == query.block.n_segments) {
                MIXSOLVE_UNROLL
                for (int p = 0; p < Planes; ++p) {
                    gradient[p] += static_cast<double>(lane_sum(sums[p]));
                    sums[p] = splat(Score(0));
                }
            }
        }
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) total[p] = sums[p];
    }
    Score* other(const Tile& tile) const { return query.probability + (tile.scores == query.probability) * 2 * kTile; }

    // The tile that begins at row `begin` of a sample that ends at `sample_end`.
    static MIXSOLVE_INLINE Tile scores(const Losses& table, int begin, int sample_end, Score* out) {
        const int end = sample_end - begin < kTile ? sample_end : begin + kTile;
        const char* from = table.row(begin);
        Vec<Score> highest = splat(kLowest);
        int vector = 0;
        for (int row = begin; row + kWidth <= end; row += kWidth, ++vector, from += kWidth * sizeof(Stored)) {
            highest = vmax(highest, score_vector<true>(table, from, vector, kWidth, out));
        }
        const int left = end - begin - vector * kWidth;
        if (left > 0) highest = vmax(highest, score_vector<false>(table, from, vector, left, out));
        return {begin, end, out, lane_max(highest)};
    }

    template <bool Whole>
    static MIXSOLVE_INLINE Vec<Score> score_vector(const Losses& table, const char* from, int vector, int count,
                                                   Score* out) {
        table.template fetch<0>(from, vector);
        Vec<Score> z = table.template score<Whole>(from, count);
        if (!Whole) z = keep_first<Score>(z, count, kLowest);
        store(out + vector * kWidth, z);
        return z;
    }

    // sum_j p_j row_j and sum_j p_j over a tile, with p_j = 2^(scale (z_j - shift)), by lanes.
    static MIXSOLVE_INLINE Vec<Score> moments(const Losses& table, const Tile& tile, Score scale, Score shift,
                                              Vec<Score> (&moment)[Planes]) {
        const Vec<Score> scales = splat(scale), shifts = splat(shift), smallest = splat(smallest_argument(scale));
        const char* from = table.row(tile.begin);
        Vec<Score> sum = splat(Score(0));
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) moment[p] = sum;
        int vector = 0;
        for (int row = tile.begin; row + kWidth <= tile.end; row += kWidth, ++vector, from += kWidth * sizeof(Stored)) {
            const Vec<Score> chance =
                exp2_scaled<Score>(load(tile.scores + vector * kWidth) - shifts, scales, smallest);
            add_vector<true>(table, from, vector, kWidth, chance, moment);
            sum += chance;
        }
        const int left = tile.end - tile.begin - vector * kWidth;
        if (left > 0) {  // chances beyond the last row are too small to count
            const Vec<Score> chance =
                exp2_scaled<Score>(load(tile.scores + vector * kWidth) - shifts, scales, smallest);
            add_vector<false>(table, from, vector, left, chance, moment);
            sum += chance;
        }
        return sum;
    }

    template <bool Whole>
    static MIXSOLVE_INLINE void add_vector(const Losses& table, const char* from, int vector, int count,
                                           Vec<Score> chance, Vec<Score> (&moment)[Planes]) {
        table.template fetch<1>(from, vector);
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) moment[p] = fma(chance, table.template at<Whole>(from, p, count), moment[p]);
    }

    // Sample `s` of several tiles, the first of which is `tile`; leaves there the tile that comes after the sample.
    MIXSOLVE_NOINLINE Score long_moments(Losses table, int s, int last, Score scale, Tile& tile, Vec<Score>& masses,
                                         Vec<Score> (&moment)[Planes]) const {
        const int32_t* const start = query.block.start;
        Score shift = kLowest;
        for (bool opening = true, done = false; !done; opening = false) {
            const Tile here = tile;
            done = here.end == start[s + 1];
            if (!done || s + 1 < last) tile = scores(table, here.end, start[done ? s + 2 : s + 1], other(here));
            if (opening) {
                shift = here.maximum;
                masses = moments(table, here, scale, shift, moment);
                continue;
            }
            if (here.maximum > shift) {
                const Vec<Score> factor = exp2_of(splat((shift - here.maximum) * scale));
                shift = here.maximum;
                masses *= factor;
                MIXSOLVE_UNROLL
                for (int p = 0; p < Planes; ++p) moment[p] *= factor;
            }
            Vec<Score> more[Planes];
            masses += moments(table, here, scale, shift, more);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] += more[p];
        }
        return shift;
    }

    // sum_j expm1((z_j - shift) / t), for a mass that is close to the number of attacks.
    MIXSOLVE_NOINLINE Score sum_expm1(int s, Score scale, Score shift) const {
        const Losses table = losses();
        const int begin = query.block.start[s], end = query.block.start[s + 1];
        Vec<Score> sum = splat(Score(0)), run = sum;
        for (int row = begin; row < end; row += kWidth) {
            if ((row - begin) % (kRunVectors * kWidth) == 0) {
                sum += run;
                run = splat(Score(0));
            }
            const int count = end - row < kWidth ? end - row : kWidth;
            const char* from = table.row(row);
            const Vec<Score> z =
                count == kWidth ? table.template score<true>(from, kWidth) : table.template score<false>(from, count);
            run += keep_first<Score>(exp2_parts<Score>((z - shift) * scale).expm1(), count);
        }
        return lane_sum(sum + run);
    }

    // ---- temperature 0 ----

    // The largest score of each of the samples [first, last), and the first row that has it.
    MIXSOLVE_NOINLINE void best_attacks(int first, int last) const {
        using Index = typename IntegerOf<Score>::type;
        const Losses table = losses();
        const int32_t* const start = query.block.start;
        Score* const maxima = query.maximum();
        int32_t* const best = query.work.best;
        Vec<Score> odd = splat(Score(0));
        Mask<Score> lanes;
        for (int lane = 0; lane < kWidth; ++lane) lanes[lane] = lane;
        for (int s = first; s < last; ++s) {
            const int begin = start[s], end = start[s + 1];
            const char* from = table.row(begin);
            Vec<Score> max = table.template score<true>(from, kWidth);
            odd += max - max;
            Mask<Score> where = lanes + static_cast<Index>(begin), here = where;
            int row = begin + kWidth;
            for (; row + kWidth <= end; row += kWidth) {
                from += kWidth * sizeof(Stored);
                here += static_cast<Index>(kWidth);
                const Vec<Score> z = table.template score<true>(from, kWidth);
                odd += z - z;
                const Mask<Score> better = z > max;
                max = better ? z : max;
                where = better ? here : where;
            }
            if (row < end) {
                from += kWidth * sizeof(Stored);
                here += static_cast<Index>(kWidth);
                const Vec<Score> z = table.template score<false>(from, end - row);
                odd += z - z;
                const Mask<Score> better = (z > max) & (lanes < static_cast<Index>(end - row));
                max = better ? z : max;
                where = better ? here : where;
            }
            maxima[s] = lane_max(max);
            best[s] = first_of(where, equal_bits(max, splat(maxima[s])), begin);
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

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
