// The fused loops for several queries at temperature > 0 at once: each loss is loaded once for all of them. For every
// query the arithmetic is that of Fused::soften, in the same order, so the bits are the same.
#pragma once

#include "fused.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class Score, class Stored, int Planes, int Queries>
struct FusedQueries {
    using One = Fused<Score, Stored, Planes>;
    static constexpr int kWidth = One::kWidth, kTile = One::kTile, kStride = kTile + kWidth;
    static constexpr int kColumns = kRegisters / 8;                          // vectors of rows scored together
    static constexpr int kGroup = (kRegisters * 3 / 4 - Queries) / Queries;  // planes whose moments fit the registers

    const Rows<Score, Stored>& rows;
    const Segments<Score>& any;
    const int64_t* queries;       // (Queries)
    const Score* const* weights;  // (Queries), (Planes) each
    Vec<Score>* const* totals;    // (Queries), (Planes) each
    double* const* gradients;     // (Queries), (Planes) each
    Score* chances;               // (Queries, kStride): scores, then chances of a tile

    struct Sample {
        Score scale[Queries], shift[Queries], mass[Queries];
        Vec<Score> masses[Queries], moment[Queries][Planes];
    };

    MIXSOLVE_NOINLINE void soften(int first, int last) const {
        const Block& block = any.block;
        const bool one_temperature = !any.work.request->temperature_per_sample;
        Sample sample;
        for (int s = first; s < last; ++s) {
            const int begin = block.start[s], end = block.start[s + 1];
            for (int q = 0; q < Queries && (s == first || !one_temperature); ++q) {
                sample.scale[q] = static_cast<Score>(kLog2E / any.of(queries[q]).temperature(s));
            }
            for (int row = begin; row < end; row += kTile) {
                const int rows_here = end - row < kTile ? end - row : kTile;
                tile(row, rows_here, row == begin, sample);
            }
            for (int q = 0; q < Queries; ++q) settle(q, s, static_cast<Score>(end - begin), sample);
            if (s % kRunVectors == kRunVectors - 1 || s + 1 == block.n_segments) flush();
        }
    }

    void settle(int q, int s, Score all, const Sample& sample) const {
        const Segments<Score> query = any.of(queries[q], q);
        const Score mass = lane_sum(sample.masses[q]);
        query.maximum()[s] = sample.shift[q];
        query.mass()[s] = mass;
        query.excess()[s] = mass - all;
        if (near_one(mass / all)) {
            query.excess()[s] = One{rows, query, weights[q]}.sum_expm1(s, sample.scale[q], sample.shift[q]);
        }
        const Vec<Score> factor = splat(query.weights()[s] / mass);
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) totals[q][p] = fma(factor, sample.moment[q][p], totals[q][p]);
    }
    void flush() const {
        for (int q = 0; q < Queries; ++q) {
            for (int p = 0; p < Planes; ++p) {
                gradients[q][p] += static_cast<double>(lane_sum(totals[q][p]));
                totals[q][p] = splat(Score(0));
            }
        }
    }

    void tile(int row, int n_rows, bool opening, Sample& sample) const {
        const char* from = rows.data + row * static_cast<int64_t>(sizeof(Stored));
        Score highest[Queries];
        scores(from, n_rows, highest);
        for (int q = 0; q < Queries; ++q) {
            if (opening) {
                sample.shift[q] = highest[q];
            } else if (highest[q] > sample.shift[q]) {
                const Vec<Score> factor = exp2_of(splat((sample.shift[q] - highest[q]) * sample.scale[q]));
                sample.shift[q] = highest[q];
                sample.masses[q] *= factor;
                for (int p = 0; p < Planes; ++p) sample.moment[q][p] *= factor;
            }
            const Vec<Score> mass = exponentials(q, n_rows, sample.scale[q], sample.shift[q]);
            sample.masses[q] = opening ? mass : sample.masses[q] + mass;
        }
        moment_groups<0>(from, n_rows, opening, sample);
    }

    MIXSOLVE_NOINLINE void scores(const char* from, int n_rows, Score (&highest)[Queries]) const {
        Vec<Score> max[Queries];
        for (int q = 0; q < Queries; ++q) max[q] = splat(One::kLowest);
        int row = 0;
        for (; row + kColumns * kWidth <= n_rows; row += kColumns * kWidth) {
            columns<kColumns, false>(from, row, kWidth, max);
        }
        last_columns<kColumns>(from, row, n_rows, max);
        for (int q = 0; q < Queries; ++q) highest[q] = lane_max(max[q]);
    }
    MIXSOLVE_INLINE const Stored* at(const char* from, int plane, int row) const {
        return reinterpret_cast<const Stored*>(from + plane * rows.plane_stride) + row;
    }

    // The last vector may be partly filled.
    template <int Columns>
    MIXSOLVE_INLINE void last_columns(const char* from, int row, int n_rows, Vec<Score> (&max)[Queries]) const {
        if constexpr (Columns > 0) {
            const int filled = n_rows - row - (Columns - 1) * kWidth;  // rows in the last of so many vectors
            if (filled == kWidth) {
                columns<Columns, false>(from, row, kWidth, max);
            } else if (filled > 0) {
                columns<Columns, true>(from, row, filled, max);
            } else {
                last_columns<Columns - 1>(from, row, n_rows, max);
            }
        }
    }
    template <int Columns, bool Partly>
    MIXSOLVE_INLINE void columns(const char* from, int row, int filled, Vec<Score> (&max)[Queries]) const {
        Vec<Score> z[Queries][Columns];
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) {
            Vec<Score> x[Columns];
            MIXSOLVE_UNROLL
            for (int c = 0; c < Columns; ++c) {
                const Stored* here = at(from, p, row + c * kWidth);
                x[c] = Partly && c == Columns - 1 ? load_first<Score, Stored>(here, filled)
                                                  : Loader<Score, Stored>::full(here);
                if (p % 2 == 0) fetch(from, p, row + c * kWidth);
            }
            MIXSOLVE_UNROLL
            for (int q = 0; q < Queries; ++q) {
                const Vec<Score> weight = splat(weights[q][p]);
                MIXSOLVE_UNROLL
                for (int c = 0; c < Columns; ++c) z[q][c] = p == 0 ? x[c] * weight : fma(x[c], weight, z[q][c]);
            }
        }
        MIXSOLVE_UNROLL
        for (int q = 0; q < Queries; ++q) {
            MIXSOLVE_UNROLL
            for (int c = 0; c < Columns; ++c) {
                if (Partly && c == Columns - 1) z[q][c] = keep_first<Score>(z[q][c], filled, One::kLowest);
                store(chances + q * kStride + row + c * kWidth, z[q][c]);
                max[q] = vmax(max[q], z[q][c]);
            }
        }
    }
    // A vector may be less than a line of memory.
    MIXSOLVE_INLINE void fetch(const char* from, int plane, int row) const {
        if (row / kWidth % Rows<Score, Stored>::kVectorsPerLine == 0) {
            __builtin_prefetch(reinterpret_cast<const char*>(at(from, plane, row)) + One::kAhead, 0, 2);
        }
    }

    MIXSOLVE_INLINE Vec<Score> exponentials(int q, int n_rows, Score scale, Score shift) const {
        const Vec<Score> scales = splat(scale), shifts = splat(shift), smallest = splat(smallest_argument(scale));
        Score* const here = chances + q * kStride;
        Vec<Score> sum = splat(Score(0));
        for (int row = 0; row < n_rows; row += kWidth) {
            const Vec<Score> chance = exp2_scaled<Score>(load(here + row) - shifts, scales, smallest);
            store(here + row, chance);
            sum += chance;
        }
        return sum;
    }

    template <int First>
    MIXSOLVE_INLINE void moment_groups(const char* from, int n_rows, bool opening, Sample& sample) const {
        if constexpr (First < Planes) {
            constexpr int kLeft = Planes - First, kGroups = (kLeft + kGroup - 1) / kGroup;
            constexpr int kHere = (kLeft + kGroups - 1) / kGroups;
            moments<First, kHere>(from, n_rows, opening, sample);
            moment_groups<First + kHere>(from, n_rows, opening, sample);
        }
    }
    template <int First, int Count>
    MIXSOLVE_NOINLINE void moments(const char* from, int n_rows, bool opening, Sample& sample) const {
        Vec<Score> sum[Queries][Count];
        MIXSOLVE_UNROLL
        for (int q = 0; q < Queries; ++q) {
            MIXSOLVE_UNROLL
            for (int p = 0; p < Count; ++p) sum[q][p] = splat(Score(0));
        }
        int row = 0;
        for (; row + kWidth <= n_rows; row += kWidth) {
            Vec<Score> chance[Queries];
            MIXSOLVE_UNROLL
            for (int q = 0; q < Queries; ++q) chance[q] = load(chances + q * kStride + row);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Count; ++p) {
                const Vec<Score> x = Loader<Score, Stored>::full(at(from, First + p, row));
                if ((First + p) % 2 == 1) fetch(from, First + p, row);
                MIXSOLVE_UNROLL
                for (int q = 0; q < Queries; ++q) sum[q][p] = fma(chance[q], x, sum[q][p]);
            }
        }
        if (row < n_rows) {
            for (int p = 0; p < Count; ++p) {
                const Vec<Score> x = load_first<Score, Stored>(at(from, First + p, row), n_rows - row);
                for (int q = 0; q < Queries; ++q) sum[q][p] = fma(load(chances + q * kStride + row), x, sum[q][p]);
            }
        }
        MIXSOLVE_UNROLL
        for (int q = 0; q < Queries; ++q) {
            MIXSOLVE_UNROLL
            for (int p = 0; p < Count; ++p) {
                Vec<Score>& moment = sample.moment[q][First + p];
                moment = opening ? sum[q][p] : moment + sum[q][p];
            }
        }
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
