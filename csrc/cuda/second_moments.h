// Second moments of a tile's rows about the means of their samples, for the Hessian. Deviations are formed before
// anything is squared: what all losses of a sample have in common cancels.
#pragma once

#include "query.h"
#include "tile.h"

namespace mixsolve {
namespace cuda {

// Entry e of a lower triangle, row after row, stands in this row.
MIXSOLVE_DEVICE int64_t triangle_row(int64_t e) {
    int64_t row = static_cast<int64_t>((sqrt(8.0 * static_cast<double>(e) + 1.0) - 1.0) / 2.0);
    while (row * (row + 1) / 2 > e) --row;
    while ((row + 1) * (row + 2) / 2 <= e) ++row;
    return row;
}

template <class Score, class Stored>
struct SecondMoments {
    static constexpr int kSide = 4;  // a thread multiplies so many classifiers by so many

    Tile<Score, Stored>& tile;

    // deviations(k, row) = loss(k, row) - the mean of its sample under `chance`; `mean_at(s, k, mean)` is told the
    // means. `start(s)` is the first row of sample s. All threads take part.
    template <class Start, class Mean>
    MIXSOLVE_DEVICE void deviate(int n_samples, int bits, const Start& start, const Mean& mean_at) {
        const int count = tile.n_classifiers(), pairs = count * n_samples, lanes = 1 << bits,
                  lane = thread() & (lanes - 1);
#pragma unroll 1
        for (int first = 0; first < pairs; first += kThreads >> bits) {
            const int pair = first + (thread() >> bits);
            const bool mine = pair < pairs;
            const int k = mine ? pair / n_samples : 0, s = pair % n_samples;
            const int begin = mine ? start(s) : 0, end = mine ? start(s + 1) : 0;
            const Score origin = mine ? tile.loss(k, begin) : 0;
            Score sum = 0, mass = 0;
            for (int row = begin + lane; row < end; row += lanes) {
                sum = multiply_add(tile.chance[row], tile.loss(k, row) - origin, sum);
                mass += tile.chance[row];
            }
            sum = sum_over(sum, bits);
            mass = sum_over(mass, bits);
            const Score mean = mass == 0 ? Score(0) : sum / mass;  // a sample of weight 0 counts for nothing
            for (int row = begin + lane; row < end; row += lanes) {
                tile.deviations[k * tile.asked.tile.stride + row] = tile.loss(k, row) - origin - mean;
            }
            if (mine && lane == 0) mean_at(s, k, static_cast<double>(origin) + static_cast<double>(mean));
        }
    }

    // target[k, l] = target[k, l] shrink + grow sum_row weight[row] deviations(k, row) deviations(l, row) + extra(k,
    // l), as a lower triangle. A target belongs to the same thread at every call.
    template <class Extra>
    MIXSOLVE_DEVICE void add_products(int n_rows, const Score* weight, double shrink, double grow, const Extra& extra,
                                      double* target) const {
        const int bits = tile.asked.tile.product_bits, lanes = 1 << bits, lane = thread() & (lanes - 1);
        const int sides = (tile.n_classifiers() + kSide - 1) / kSide, squares = sides * (sides + 1) / 2;
#pragma unroll 1
        for (int first = 0; first < squares; first += kThreads >> bits) {
            const int square = first + (thread() >> bits);
            const int up = static_cast<int>(triangle_row(square)), across = square - up * (up + 1) / 2;
            Score sum[kSide][kSide] = {};
            if (square < squares) multiply(n_rows, weight, up * kSide, across * kSide, lane, lanes, sum);
#pragma unroll
            for (int i = 0; i < kSide; ++i) {
#pragma unroll
                for (int j = 0; j < kSide; ++j) {
                    const double total = static_cast<double>(sum_over(sum[i][j], bits));
                    const int64_t k = up * kSide + i, l = across * kSide + j;
                    if (lane != 0 || square >= squares || k >= tile.n_classifiers() || l > k) continue;
                    double& entry = target[k * (k + 1) / 2 + l];
                    entry = entry * shrink + grow * total + extra(static_cast<int>(k), static_cast<int>(l));
                }
            }
        }
    }

  private:
    MIXSOLVE_DEVICE void multiply(int n_rows, const Score* weight, int up, int across, int lane, int lanes,
                                  Score (&sum)[kSide][kSide]) const {
        const int last = tile.n_classifiers() - 1, stride = tile.asked.tile.stride;
#pragma unroll 1
        for (int row = lane; row < n_rows; row += lanes) {
            Score left[kSide], right[kSide];
#pragma unroll
            for (int i = 0; i < kSide; ++i) {
                left[i] = weight[row] * tile.deviations[(up + i < last ? up + i : last) * stride + row];
                right[i] = tile.deviations[(across + i < last ? across + i : last) * stride + row];
            }
#pragma unroll
            for (int i = 0; i < kSide; ++i) {
#pragma unroll
                for (int j = 0; j < kSide; ++j) sum[i][j] = multiply_add(left[i], right[j], sum[i][j]);
            }
        }
    }
};

}  // namespace cuda
}  // namespace mixsolve
