// The two loops over the losses of many classifiers, for one query.
//
// A run of rows in one plane is too short for the processor to notice that it should read ahead, so every line is asked
// for, and evenly: where the losses are looked at twice, half of the lines while scores are summed up and half in the
// moments, which find their losses in the caches. Planes are taken in groups of eight, whose loads stand side by side
// in the code: that alone reads from memory faster than a loop over the planes does.
#pragma once

#include "rows.h"
#include "segments.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class Score, class Stored>
struct ManyPlanes {
    using Planes = Rows<Score, Stored>;
    static constexpr int kWidth = Planes::kWidth, kVectorsPerLine = Planes::kVectorsPerLine;
    static constexpr int kGroup = Planes::kChunkPlanes;    // queries asked together are scored as alone
    static constexpr int64_t kAhead = 12;                  // planes asked for before they are needed, at least
    static constexpr int kBetween = 4;                     // planes asked for between the two loops
    static constexpr int kRun = 2 * kRunVectors * kWidth;  // rows summed up in the score type

    const Planes& rows;

    // scores[row] = sum_k weights[k] losses[k][row]; false when one of them is not finite. `once`: there will be no
    // moments.
    bool scores(bool once, const Score* weights, Score* out) const {
        Vec<Score> odd = splat(Score(0));
        for (int64_t k = 0; k < rows.n_planes; k += kGroup) {
            odd = once ? score_group<true>(k, weights, out) : score_group<false>(k, weights, out);
        }
        return lane_sum(odd) == 0;
    }

    // moment[k] += factor sum_row probability[row] losses[k][row]; probabilities beyond the last row must be 0.
    void moments(const Score* probability, double factor, double* moment) const {
        // From the last plane on: it is the one that the caches still hold.
        for (int64_t left = rows.n_planes; left > 0; left -= kGroup) {
            for (int row = 0; row < rows.n_rows; row += kRun) {
                moment_group(left, row, rows.n_rows - row < kRun ? rows.n_rows : row + kRun, probability, factor,
                             moment);
            }
        }
    }

    // What to ask for beside the exponentials.
    NextBlock next_planes() const {
        return {counted_on(asked(rows.n_planes) - kBetween), rows.plane_stride, sizeof(Stored), kBetween};
    }

  private:
    // Plane `k` of this block, counting on into the one that comes next.
    const char* counted_on(int64_t k) const {
        if (k < rows.n_planes) return rows.data + k * rows.plane_stride;
        if (rows.prefetch_bytes == 0) return rows.data;
        return rows.data + rows.prefetch_bytes + (k - rows.n_planes) * rows.plane_stride;
    }
    // The plane from which on to ask when both loops have gone through so many planes of this block: half as many.
    int64_t asked(int64_t planes) const {
        return rows.n_planes / 2 + kAhead + planes / 2 + (planes >= rows.n_planes ? kBetween : 0);
    }

    // The last group begins before `first` where planes are not a multiple of its size, with weights 0 for those that
    // were summed up already.
    template <bool Once>
    MIXSOLVE_NOINLINE Vec<Score> score_group(int64_t first, const Score* weights, Score* out) const {
        constexpr int kTile = kVectorBytes == 64 ? 4 : 2;
        const int64_t k = first + kGroup <= rows.n_planes ? first : rows.n_planes - kGroup;
        Vec<Score> weight[kGroup];
        for (int p = 0; p < kGroup; ++p) weight[p] = splat(k + p < first ? Score(0) : weights[k + p]);
        const char* ahead = counted_on(Once ? first + kAhead : asked(first));
        const int full = rows.n_rows / kWidth * kWidth;
        Vec<Score> odd = splat(Score(0));  // 0 while every score is finite, else NaN
        int row = 0;
        for (; row + kTile * kWidth <= full; row += kTile * kWidth) {
            odd += score_tile<Once, kTile>(k, row, ahead, weight, first > 0, out);
        }
        for (; row < full; row += kWidth) odd += score_tile<Once, 1>(k, row, ahead, weight, first > 0, out);
        if (full < rows.n_rows) {
            Vec<Score> sum = splat(Score(0));
            for (int p = 0; p < kGroup; ++p) {
                const Stored* from = reinterpret_cast<const Stored*>(rows.data + (k + p) * rows.plane_stride) + full;
                sum = fma(load_first<Score, Stored>(from, rows.n_rows - full), weight[p], sum);
                ask<Once>(p, ahead, full);
            }
            odd += add(sum, first > 0, out + full);
        }
        return odd;
    }

    template <bool Once, int Tile>
    MIXSOLVE_INLINE Vec<Score> score_tile(int64_t k, int row, const char* ahead, const Vec<Score>* weight,
                                          bool to_earlier, Score* out) const {
        const char* from = rows.data + k * rows.plane_stride;
        Vec<Score> sum[Tile];
        for (int v = 0; v < Tile; ++v) sum[v] = splat(Score(0));
        MIXSOLVE_UNROLL
        for (int p = 0; p < kGroup; ++p) {
            const Stored* here = reinterpret_cast<const Stored*>(from + p * rows.plane_stride) + row;
            MIXSOLVE_UNROLL
            for (int v = 0; v < Tile; ++v) {
                sum[v] = fma(Loader<Score, Stored>::full(here + v * kWidth), weight[p], sum[v]);
                if (v % kVectorsPerLine == 0) ask<Once>(p, ahead, row + v * kWidth);
            }
        }
        Vec<Score> odd = splat(Score(0));
        for (int v = 0; v < Tile; ++v) odd += add(sum[v], to_earlier, out + row + v * kWidth);
        return odd;
    }
    // Asks for the line of a row in the plane that is `p` planes ahead, or in half as many planes.
    template <bool Every>
    MIXSOLVE_INLINE void ask(int p, const char* ahead, int row) const {
        if (!Every && p % 2 != 0) return;
        __builtin_prefetch(reinterpret_cast<const Stored*>(ahead + (Every ? p : p / 2) * rows.plane_stride) + row, 0,
                           1);
    }
    static MIXSOLVE_INLINE Vec<Score> add(Vec<Score> sum, bool to_earlier, Score* to) {
        const Vec<Score> score = to_earlier ? load(to) + sum : sum;
        store(to, score);
        return score - score;
    }

    MIXSOLVE_NOINLINE void moment_group(int64_t left, int begin, int end, const Score* probability, double factor,
                                        double* moment) const {
        const int64_t k = left < kGroup ? 0 : left - kGroup;
        const char *from = rows.data + k * rows.plane_stride, *ahead = counted_on(asked(2 * rows.n_planes - left));
        Vec<Score> sum[kGroup];
        for (int p = 0; p < kGroup; ++p) sum[p] = splat(Score(0));
        const int full = end / kWidth * kWidth;  // begin is a multiple of the width
        int row = begin;
        for (; row + kVectorsPerLine * kWidth <= full; row += kVectorsPerLine * kWidth) {
            MIXSOLVE_UNROLL
            for (int v = 0; v < kVectorsPerLine; ++v) {
                const Vec<Score> chance = load(probability + row + v * kWidth);
                MIXSOLVE_UNROLL
                for (int p = 0; p < kGroup; ++p) {
                    const Stored* here =
                        reinterpret_cast<const Stored*>(from + p * rows.plane_stride) + row + v * kWidth;
                    sum[p] = fma(Loader<Score, Stored>::full(here), chance, sum[p]);
                    if (v == 0) ask<false>(p, ahead, row);
                }
            }
        }
        for (; row < end; row += kWidth) {
            const Vec<Score> chance = load(probability + row);
            for (int p = 0; p < kGroup; ++p) {
                const Stored* here = reinterpret_cast<const Stored*>(from + p * rows.plane_stride) + row;
                const Vec<Score> losses = row + kWidth <= end ? Loader<Score, Stored>::full(here)
                                                              : load_first<Score, Stored>(here, end - row);
                sum[p] = fma(losses, chance, sum[p]);
                ask<false>(p, ahead, row);
            }
        }
        for (int p = 0; p < kGroup && k + p < left; ++p)
            moment[k + p] += factor * static_cast<double>(lane_sum(sum[p]));
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
