// The two loops that touch every loss: scores of a block's rows, and moments of its rows.
#pragma once

#include "simd.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

#if defined(__AVX512F__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

MIXSOLVE_INLINE void prefetch(const void* address) { __builtin_prefetch(address, 0, 2); }

template <class Score, class Stored>
struct Rows {
    static constexpr int kWidth = kLanes<Score>;
    static constexpr int kRowsPerLine = 64 / static_cast<int>(sizeof(Stored));

    const char* data;
    int64_t plane_stride;
    int n_rows;
    int64_t n_planes;
    int64_t prefetch_bytes;

    MIXSOLVE_INLINE const Stored* plane(int64_t k) const {
        return reinterpret_cast<const Stored*>(data + k * plane_stride);
    }

    // scores[q][row] = sum_k weights[q][k] losses[k][row]; false when one of them is not finite.
    template <int Queries>
    bool scores(const Score* const* weights, Score* const* out) const {
        bool finite = true;
        int64_t k = 0;
        for (; k + 8 <= n_planes; k += 8) finite &= score_planes<Queries, 8>(k, weights, out);
        if (k + 4 <= n_planes) {
            finite &= score_planes<Queries, 4>(k, weights, out);
            k += 4;
        }
        if (k + 2 <= n_planes) {
            finite &= score_planes<Queries, 2>(k, weights, out);
            k += 2;
        }
        if (k < n_planes) finite &= score_planes<Queries, 1>(k, weights, out);
        return finite;
    }

    // Adds the share of planes k .. k + Planes to the scores: each share is summed on its own, which keeps the
    // rounding error of hundreds of classifiers small.
    template <int Queries, int Planes>
    bool score_planes(int64_t k, const Score* const* weights, Score* const* out) const {
        const Stored* from[Planes];
        for (int p = 0; p < Planes; ++p) from[p] = plane(k + p);
        const bool first = k == 0, last = k + Planes == n_planes;
        Vec<Score> odd = splat(Score(0));  // 0 while every score is finite, else NaN
        const auto add = [&](int row, const Vec<Score>(&losses)[Planes]) MIXSOLVE_LAMBDA_INLINE {
            for (int q = 0; q < Queries; ++q) {
                Vec<Score> sum = losses[0] * weights[q][k];
                for (int p = 1; p < Planes; ++p) sum = fma(losses[p], splat(weights[q][k + p]), sum);
                if (!first) sum += load(out[q] + row);
                store(out[q] + row, sum);
                if (last) odd += sum - sum;
            }
        };
        const int full = n_rows / kWidth * kWidth;
        for (int row = 0; row < full; row += kWidth) {
            Vec<Score> losses[Planes];
            for (int p = 0; p < Planes; ++p) {
                losses[p] = Loader<Score, Stored>::full(from[p] + row);
                if (row % kRowsPerLine == 0) prefetch(reinterpret_cast<const char*>(from[p] + row) + prefetch_bytes);
            }
            add(row, losses);
        }
        if (full < n_rows) {
            Vec<Score> losses[Planes];
            for (int p = 0; p < Planes; ++p) losses[p] = load_first<Score, Stored>(from[p] + full, n_rows - full);
            add(full, losses);
        }
        return lane_sum<Score>(odd) == 0;
    }

    // moment[q][k] += sum_row probability[q][row] losses[k][row]; probabilities beyond the last row must be 0.
    template <int Queries>
    void moments(const Score* const* probability, double* const* moment) const {
        constexpr int kPlanes = Queries == 1 ? 8 : (kRegisters / 2) / Queries;
        int64_t k = 0;
        for (; k + kPlanes <= n_planes; k += kPlanes) moment_planes<Queries, kPlanes>(k, probability, moment);
        for (; k + 2 <= n_planes; k += 2) moment_planes<Queries, 2>(k, probability, moment);
        if (k < n_planes) moment_planes<Queries, 1>(k, probability, moment);
    }

    template <int Queries, int Planes>
    void moment_planes(int64_t k, const Score* const* probability, double* const* moment) const {
        const Stored* from[Planes];
        for (int p = 0; p < Planes; ++p) from[p] = plane(k + p);
        Vec<Score> sum[Queries][Planes];
        for (int q = 0; q < Queries; ++q)
            for (int p = 0; p < Planes; ++p) sum[q][p] = splat(Score(0));
        const int full = n_rows / kWidth * kWidth;
        for (int row = 0; row < full; row += kWidth) {
            for (int p = 0; p < Planes; ++p) {
                const Vec<Score> losses = Loader<Score, Stored>::full(from[p] + row);
                for (int q = 0; q < Queries; ++q) sum[q][p] = fma(load(probability[q] + row), losses, sum[q][p]);
            }
        }
        if (full < n_rows) {
            for (int p = 0; p < Planes; ++p) {
                const Vec<Score> losses = load_first<Score, Stored>(from[p] + full, n_rows - full);
                for (int q = 0; q < Queries; ++q) sum[q][p] = fma(load(probability[q] + full), losses, sum[q][p]);
            }
        }
        for (int q = 0; q < Queries; ++q)
            for (int p = 0; p < Planes; ++p) moment[q][k + p] += static_cast<double>(lane_sum<Score>(sum[q][p]));
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
