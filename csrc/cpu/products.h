// Sums of products of all pairs of classifiers over some rows, below and on the diagonal: D W D', where D are
// deviations of the losses from a mean and W weights of the rows.
//
// Classifiers are taken in groups of about equal size, and pairs of groups in tiles whose sums stay in registers. Every
// sum has its place in memory, a vector of lanes.
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

// Deviations that were written down, multiplied by the roots of the weights.
template <class Score>
struct WrittenDeviations {
    static constexpr bool kGoesOn = false;  // a tile is added up by itself, then added to the sums
    static constexpr bool kFillsVectors = true;

    const Score* deviations;  // (n, kDeviationStride)
    int rows;

    struct Side {
        const Score* from;
        template <bool Whole>
        MIXSOLVE_INLINE Vec<Score> deviation(int k, int row, int) const {
            return load(from + k * kDeviationStride + row);
        }
    };
    int n_parts() const { return 1; }
    int n_rows(int) const { return rows; }
    Side side(int, int64_t first) const { return {deviations + first * kDeviationStride}; }
    MIXSOLVE_INLINE Vec<Score> weigh(Vec<Score> deviation, int, int) const { return deviation; }
};

template <class Score>
struct Products {
    static constexpr int kWidth = kLanes<Score>;

    int64_t n;          // classifiers
    Vec<Score>* total;  // (hessian_entries(n)) tile after tile

    int64_t groups() const { return (n + kTileSide - 1) / kTileSide; }
    int64_t first(int64_t group) const { return n * group / groups(); }

    // Adds the products of `rows`, which is one of the two kinds of rows with their deviations and weights.
    template <class Deviations>
    void add(const Deviations& rows) const {
        Vec<Score>* to = total;
        for (int64_t a = 0; a < groups(); ++a) {
            const int64_t side = first(a + 1) - first(a);
            for (int64_t b = 0; b < a; ++b) {
                const int64_t other = first(b + 1) - first(b);
                square<kTileSide>(side, other, rows, first(a), first(b), to);
                to += side * other;
            }
            diagonal<kTileSide>(side, rows, first(a), to);
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
    template <int Side, class Deviations>
    static void square(int64_t side, int64_t other, const Deviations& rows, int64_t a, int64_t b, Vec<Score>* to) {
        if constexpr (Side > 1) {
            if (side < Side) return square<Side - 1>(side, other, rows, a, b, to);
        }
        square_of<Side, kTileSide>(other, rows, a, b, to);
    }
    template <int Side, int Other, class Deviations>
    static void square_of(int64_t other, const Deviations& rows, int64_t a, int64_t b, Vec<Score>* to) {
        if constexpr (Other > 1) {
            if (other < Other) return square_of<Side, Other - 1>(other, rows, a, b, to);
        }
        tile<Side, Other, false>(rows, a, b, to);
    }
    template <int Side, class Deviations>
    static void diagonal(int64_t side, const Deviations& rows, int64_t a, Vec<Score>* to) {
        if constexpr (Side > 1) {
            if (side < Side) return diagonal<Side - 1>(side, rows, a, to);
        }
        tile<Side, Side, true>(rows, a, a, to);
    }

    template <int Side, int Other, bool Diagonal, class Deviations>
    static MIXSOLVE_NOINLINE void tile(const Deviations& rows, int64_t a, int64_t b, Vec<Score>* to) {
        Vec<Score> sum[Side][Other];
        MIXSOLVE_UNROLL
        for (int i = 0; i < Side; ++i) {
            MIXSOLVE_UNROLL
            for (int j = 0; j < Other; ++j) {
                const bool wanted = Deviations::kGoesOn && (!Diagonal || j <= i);
                sum[i][j] = wanted ? to[Diagonal ? i * (i + 1) / 2 + j : i * Other + j] : splat(Score(0));
            }
        }
        for (int part = 0; part < rows.n_parts(); ++part) {
            const auto left = rows.side(part, a), right = rows.side(part, b);
            const int n_rows = rows.n_rows(part);
            int row = 0;
            for (; row + kWidth <= n_rows; row += kWidth) {
                multiply<Side, Other, Diagonal, true>(rows, part, left, right, row, kWidth, sum);
            }
            if (!Deviations::kFillsVectors && row < n_rows) {
                multiply<Side, Other, Diagonal, false>(rows, part, left, right, row, n_rows - row, sum);
            }
        }
        MIXSOLVE_UNROLL
        for (int i = 0; i < Side; ++i) {
            MIXSOLVE_UNROLL
            for (int j = 0; j < (Diagonal ? i + 1 : Other); ++j, ++to) {
                *to = Deviations::kGoesOn ? sum[i][j] : *to + sum[i][j];
            }
        }
    }
    template <int Side, int Other, bool Diagonal, bool Whole, class Deviations, class OneSide>
    static MIXSOLVE_INLINE void multiply(const Deviations& rows, int part, const OneSide& left, const OneSide& right,
                                         int row, int count, Vec<Score> (&sum)[Side][Other]) {
        Vec<Score> own[Side], weighted[Side];
        MIXSOLVE_UNROLL
        for (int i = 0; i < Side; ++i) {
            own[i] = left.template deviation<Whole>(i, row, count);
            weighted[i] = rows.weigh(own[i], part, row);
        }
        MIXSOLVE_UNROLL
        for (int j = 0; j < Other; ++j) {
            const Vec<Score> other = Diagonal ? own[j] : right.template deviation<Whole>(j, row, count);
            MIXSOLVE_UNROLL
            for (int i = Diagonal ? j : 0; i < Side; ++i) sum[i][j] = fma(weighted[i], other, sum[i][j]);
        }
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
