// The two loops that touch every loss: scores of a block's rows, and moments of its rows.
#pragma once

#include "loads.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

#if defined(__AVX512F__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

template <class Score, class Stored>
struct Rows {
    static constexpr int kWidth = kLanes<Score>;
    static constexpr int kChunkPlanes = 8;
    static constexpr int64_t kPlanesAhead = 16;  // whose lines stay in the second cache
    // A core can have few lines of memory under way: a burst of prefetches stalls it. So the lines of the next block
    // are asked for one by one beside the loads of this one, every other line while scoring, the others in the moments.
    // Where scores alone are asked for, or a block outgrows the core's own caches, lines fetched a block ahead would be
    // gone again: the scores fetch every line of planes not far ahead.
    // Where rows are sets all planes are the same lines, which the scores of the first one fetch.
    static constexpr int kVectorBytes = kWidth * static_cast<int>(sizeof(Stored));
    static constexpr int kVectorsPerLine = kVectorBytes < 64 ? 64 / kVectorBytes : 1;
    static constexpr int kPeriod = 2 * kVectorsPerLine;

    const char* data;
    int64_t plane_stride;
    int n_rows;
    int64_t n_planes;
    int64_t prefetch_bytes;  // distance to the block that comes next, 0 for none
    int64_t later_planes;    // the first planes of the next block, fetched beside the exponentials instead
    bool scores_fetch;       // every line, not every other one

    MIXSOLVE_INLINE const Stored* plane(int64_t k) const {
        return reinterpret_cast<const Stored*>(data + k * plane_stride);
    }

    MIXSOLVE_INLINE void prefetch(const Stored* here) const {
        __builtin_prefetch(reinterpret_cast<const char*>(here) + prefetch_bytes, 0, 1);
    }
    // Whether vector `v` of a tile of `tile` vectors that begins at `row` is one whose line is fetched in this phase.
    static MIXSOLVE_INLINE bool fetches(int tile, int row, int v, int phase) {
        return (tile % kPeriod == 0 ? v : row / kWidth + v) % kPeriod == phase;
    }

    // scores[q][row] = sum_k weights[q][k] losses[k][row]; false when one of them is not finite.
    //
    // Planes are taken in chunks whose sums are added up: that keeps the rounding error of hundreds of classifiers
    // small.
    template <int Queries>
    bool scores(const Score* const* weights, Score* const* out) const {
        Vec<Score> odd = splat(Score(0));
        for (int64_t first = 0; first < n_planes; first += kChunkPlanes) {
            odd += planes_ahead(first).template score_chunk<Queries>(first, weights, out);
        }
        return lane_sum(odd) == 0;
    }
    // The same rows, with prefetches as the chunk of planes from `first` on is to make them.
    Rows planes_ahead(int64_t first) const {
        Rows here = *this;
        if (kIsSet<Stored> || !scores_fetch || prefetch_bytes == 0 || n_planes < 2 * kPlanesAhead) return here;
        const int64_t target = first + kPlanesAhead;
        here.prefetch_bytes = target < n_planes ? kPlanesAhead * plane_stride
                                                : prefetch_bytes + (target - n_planes - first) * plane_stride;
        return here;
    }

    template <int Queries>
    MIXSOLVE_NOINLINE Vec<Score> score_chunk(int64_t first, const Score* const* weights, Score* const* out) const {
        constexpr int kTile = Queries == 1 ? 4 : 2 * kRegisters / 16;  // vectors of rows worked on together
        const int full = n_rows / kWidth * kWidth;
        const int64_t last = first + kChunkPlanes < n_planes ? first + kChunkPlanes : n_planes;
        Vec<Score> odd = splat(Score(0));  // 0 while every score is finite, else NaN
        int row = 0;
        for (; row + kTile * kWidth <= full; row += kTile * kWidth) {
            odd += score_tile<Queries, kTile>(first, last, row, weights, out);
        }
        for (; row < full; row += kWidth) odd += score_tile<Queries, 1>(first, last, row, weights, out);
        if (full < n_rows) odd += score_tail<Queries>(first, last, full, weights, out);
        return odd;
    }

    template <int Queries, int Tile>
    MIXSOLVE_INLINE Vec<Score> score_tile(int64_t first, int64_t last, int row, const Score* const* weights,
                                          Score* const* out) const {
        Vec<Score> sum[Queries][Tile];
        for (int q = 0; q < Queries; ++q)
            for (int v = 0; v < Tile; ++v) sum[q][v] = splat(Score(0));
        const Stored* from = plane(first) + row;
        for (int64_t k = first; k < last; ++k) {
            LossesOf<Score, Stored> losses[Tile];
            for (int v = 0; v < Tile; ++v) losses[v] = losses_at<Score>(from + v * kWidth, k);
            for (int q = 0; q < Queries; ++q) {
                const Vec<Score> weight = splat(weights[q][k]);
                for (int v = 0; v < Tile; ++v) sum[q][v] = fma(losses[v], weight, sum[q][v]);
            }
            if (kIsSet<Stored> ? k == 0 : k >= later_planes) {
                for (int v = 0; v < Tile; ++v) {
                    if (fetches(Tile, row, v, 0)) prefetch(from + v * kWidth);
                }
            }
            if (scores_fetch && !(kIsSet<Stored> && k > 0)) {
                for (int v = 0; v < Tile; ++v) {
                    if (fetches(Tile, row, v, kVectorsPerLine)) prefetch(from + v * kWidth);
                }
            }
            from = reinterpret_cast<const Stored*>(reinterpret_cast<const char*>(from) + plane_stride);
        }
        return add_scores<Queries, Tile>(first > 0, row, sum, out);
    }

    template <int Queries>
    Vec<Score> score_tail(int64_t first, int64_t last, int row, const Score* const* weights, Score* const* out) const {
        Vec<Score> sum[Queries][1];
        for (int q = 0; q < Queries; ++q) sum[q][0] = splat(Score(0));
        for (int64_t k = first; k < last; ++k) {
            const LossesOf<Score, Stored> losses = first_losses_at<Score>(plane(k) + row, n_rows - row, k);
            for (int q = 0; q < Queries; ++q) sum[q][0] = fma(losses, splat(weights[q][k]), sum[q][0]);
        }
        return add_scores<Queries, 1>(first > 0, row, sum, out);
    }

    // Returns NaN in some lane when a score is not finite, else 0.
    template <int Queries, int Tile>
    MIXSOLVE_INLINE static Vec<Score> add_scores(bool to_earlier, int row, Vec<Score> (&sum)[Queries][Tile],
                                                 Score* const* out) {
        Vec<Score> odd = splat(Score(0));
        for (int q = 0; q < Queries; ++q) {
            for (int v = 0; v < Tile; ++v) {
                Score* to = out[q] + row + v * kWidth;
                const Vec<Score> score = to_earlier ? load(to) + sum[q][v] : sum[q][v];
                store(to, score);
                odd += score - score;
            }
        }
        return odd;
    }

    // moment[q][k] += factor[q] sum_row probability[q][row] losses[k][row]; probabilities beyond the last row must be
    // 0.
    template <int Queries>
    void moments(const Score* const* probability, const double* factor, double* const* moment) const {
        constexpr int kMost = Queries == 1 ? 8 : kRegisters / 2 / Queries;
        // From the last plane on: it is the one that the caches still hold. Groups are of about equal size, since one
        // or two planes alone would wait for their own sums.
        for (int64_t left = n_planes; left > 0;) {
            const int64_t groups = (left + kMost - 1) / kMost, wanted = (left + groups - 1) / groups;
            left -= wanted;
            moment_group<Queries, kMost>(wanted, left, probability, factor, moment);
        }
    }

    template <int Queries, int Planes>
    MIXSOLVE_INLINE void moment_group(int64_t wanted, int64_t k, const Score* const* probability, const double* factor,
                                      double* const* moment) const {
        if constexpr (Planes > 1) {
            if (wanted < Planes) return moment_group<Queries, Planes - 1>(wanted, k, probability, factor, moment);
        }
        constexpr int kRun = 2 * kRunVectors * kWidth;
        for (int row = 0; row < n_rows; row += kRun) {
            moment_planes<Queries, Planes>(k, row, n_rows - row < kRun ? n_rows : row + kRun, probability, factor,
                                           moment);
        }
    }

    template <int Queries, int Planes>
    MIXSOLVE_NOINLINE void moment_planes(int64_t k, int begin, int end, const Score* const* probability,
                                         const double* factor, double* const* moment) const {
        // Few planes have few sums: several sets of them keep the multipliers busy.
        constexpr int kSets = Queries * Planes <= 2 ? 4 : Queries * Planes <= 4 ? 2 : 1;
        constexpr int kStep = kSets > kPeriod ? kSets : kPeriod;
        const char* from = reinterpret_cast<const char*>(plane(k));
        Vec<Score> sum[kSets][Queries][Planes];
        for (int u = 0; u < kSets; ++u)
            for (int q = 0; q < Queries; ++q)
                for (int p = 0; p < Planes; ++p) sum[u][q][p] = splat(Score(0));
        const Score* chance[Queries];
        for (int q = 0; q < Queries; ++q) chance[q] = probability[q];
        const int full = end / kWidth * kWidth;  // begin is a multiple of the width
        int row = begin;
        for (; row + kStep * kWidth <= full; row += kStep * kWidth) {
            for (int u = 0; u < kStep; ++u) {
                const bool fetched = scores_fetch || u % kPeriod != kVectorsPerLine;
                moment_rows<Queries, Planes>(k, from, row + u * kWidth, chance, fetched ? Planes : later_planes - k,
                                             sum[u % kSets]);
            }
        }
        for (; row < full; row += kWidth) moment_rows<Queries, Planes>(k, from, row, chance, Planes, sum[0]);
        if (full < end) {
            for (int p = 0; p < Planes; ++p) {
                const LossesOf<Score, Stored> losses = first_losses_at<Score>(plane(k + p) + full, end - full, k + p);
                for (int q = 0; q < Queries; ++q) sum[0][q][p] = fma(load(chance[q] + full), losses, sum[0][q][p]);
            }
        }
        for (int q = 0; q < Queries; ++q) {
            for (int p = 0; p < Planes; ++p) {
                for (int u = 1; u < kSets; ++u) sum[0][q][p] += sum[u][q][p];
                moment[q][k + p] += factor[q] * static_cast<double>(lane_sum(sum[0][q][p]));
            }
        }
    }

    template <int Queries, int Planes>
    MIXSOLVE_INLINE void moment_rows(int64_t k, const char* from, int row, const Score* const* chance,
                                     int64_t fetch_from, Vec<Score> (&sum)[Queries][Planes]) const {
        for (int p = 0; p < Planes; ++p) {
            const Stored* here = reinterpret_cast<const Stored*>(from + p * plane_stride) + row;
            const LossesOf<Score, Stored> losses = losses_at<Score>(here, k + p);
            if (p >= fetch_from) prefetch(here);
            for (int q = 0; q < Queries; ++q) sum[q][p] = fma(load(chance[q] + row), losses, sum[q][p]);
        }
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
