// Sums of products of all pairs of classifiers over some rows, below and on the diagonal: D D' for deviations D.
//
// Classifiers are taken in groups of about equal size, and pairs of groups in tiles whose sums stay in registers. A
// tile adds its sums, lane by lane, to its place in memory.
#pragma once

#include "kernel.h"
#include "simd.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

#if defined(__AVX512F__)
constexpr int kTileSide = 5;  // 25 sums, 5 factors of the left side and one of the right: 31 registers
#else
constexpr int kTileSide = 3;
#endif

template <class Score>
struct Products {
    static constexpr int kWidth = kLanes<Score>;
    static constexpr int64_t kStride = kDeviationStride;

    int64_t n;          // classifiers
    Vec<Score>* total;  // (hessian_entries(n)) tile after tile

    int64_t groups() const { return (n + kTileSide - 1) / kTileSide; }
    int64_t first(int64_t group) const { return n * group / groups(); }

    // Adds the products over `rows` rows, a multiple of the width, of `deviations` (n, kStride).
    void add(const Score* deviations, int rows) const {
        Vec<Score>* to = total;
        for (int64_t a = 0; a < groups(); ++a) {
            const int64_t side = first(a + 1) - first(a);
            const Score* left = deviations + first(a) * kStride;
            for (int64_t b = 0; b < a; ++b) {
                const int64_t other = first(b + 1) - first(b);
                square<kTileSide>(side, other, left, deviations + first(b) * kStride, rows, to);
                to += side * other;
            }
            diagonal<kTileSide>(side, left, rows, to);
            to += side * (side + 1) / 2;
        }
    }

    // Calls take(entry, sum) for every entry of the packed lower triangle, and clears the sums.
    template <class Take>
    void hand_over(const Take& take) const {
        Vec<Score>* from = total;
        for (int64_t a = 0; a < groups(); ++a) {
            for (int64_t b = 0; b <= a; ++b) {
                for (int64_t i = first(a); i < first(a + 1); ++i) {
                    for (int64_t j = first(b); j < first(b + 1) && j <= i; ++j, ++from) {
                        take(i * (i + 1) / 2 + j, static_cast<double>(lane_sum(*from)));
                        *from = splat(Score(0));
                    }
                }
            }
        }
    }

  private:
    template <int Side>
    static void square(int64_t side, int64_t other, const Score* a, const Score* b, int rows, Vec<Score>* to) {
        if constexpr (Side > 1) {
            if (side < Side) return square<Side - 1>(side, other, a, b, rows, to);
        }
        square_of<Side, kTileSide>(other, a, b, rows, to);
    }
    template <int Side, int Other>
    static void square_of(int64_t other, const Score* a, const Score* b, int rows, Vec<Score>* to) {
        if constexpr (Other > 1) {
            if (other < Other) return square_of<Side, Other - 1>(other, a, b, rows, to);
        }
        tile<Side, Other, false>(a, b, rows, to);
    }
    template <int Side>
    static void diagonal(int64_t side, const Score* a, int rows, Vec<Score>* to) {
        if constexpr (Side > 1) {
            if (side < Side) return diagonal<Side - 1>(side, a, rows, to);
        }
        tile<Side, Side, true>(a, a, rows, to);
    }

    template <int Side, int Other, bool Diagonal>
    static MIXSOLVE_NOINLINE void tile(const Score* a, const Score* b, int rows, Vec<Score>* to) {
        Vec<Score> sum[Side][Other];
        MIXSOLVE_UNROLL
        for (int i = 0; i < Side; ++i) {
            MIXSOLVE_UNROLL
            for (int j = 0; j < Other; ++j) sum[i][j] = splat(Score(0));
        }
        for (int row = 0; row < rows; row += kWidth) {
            Vec<Score> left[Side];
            MIXSOLVE_UNROLL
            for (int i = 0; i < Side; ++i) left[i] = load(a + i * kStride + row);
            MIXSOLVE_UNROLL
            for (int j = 0; j < Other; ++j) {
                const Vec<Score> right = Diagonal ? left[j] : load(b + j * kStride + row);
                MIXSOLVE_UNROLL
                for (int i = Diagonal ? j : 0; i < Side; ++i) sum[i][j] = fma(left[i], right, sum[i][j]);
            }
        }
        MIXSOLVE_UNROLL
        for (int i = 0; i < Side; ++i) {
            MIXSOLVE_UNROLL
            for (int j = 0; j < (Diagonal ? i + 1 : Other); ++j) *to++ += sum[i][j];
        }
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
