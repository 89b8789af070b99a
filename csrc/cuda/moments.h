// The moments of a tile's rows, sum_row chance[row] loss(k, row), which become gradients.
#pragma once

#include "tile.h"

namespace mixsolve {
namespace cuda {

template <class Score, class Stored>
struct Moments {
    static constexpr int kRows = Tile<Score, Stored>::kRows;
    using Group = typename Tile<Score, Stored>::Group;
    using Scores = typename Tile<Score, Stored>::Scores;

    const Tile<Score, Stored>& tile;

    // target[k] = target[k] shrink + grow sum_row chance[row] loss(k, row), in float64 beyond the rows of one tile.
    // A target belongs to the same thread at every call.
    MIXSOLVE_DEVICE void add(int n_rows, double shrink, double grow, double* target) {
        const int bits = tile.asked.tile.moment_bits, lane = thread() & ((1 << bits) - 1), count = tile.n_classifiers();
        if (bits == 0) return add_own(n_rows, shrink, grow, target);
        const int whole = n_rows / kRows, warp_first = tile.warp * kWarpLanes >> bits;
        const int groups = (whole - lane + (1 << bits) - 1) >> bits;  // of this thread
#pragma unroll 1
        for (int first = 0; first + warp_first < count; first += kThreads >> bits) {
            const int k = first + (thread() >> bits);
            Score sums[kRows] = {};
            if (k < count) {
                const Stored* at = tile.losses + k * tile.asked.tile.stride + lane * kRows;
                const Score* share = tile.chance + lane * kRows;
                if (bits == kWarpBits) {
                    add_all<kRows << kWarpBits>(groups, at, share, sums);
                } else {
                    add_all<0>(groups, at, share, sums);
                }
                if (whole * kRows < n_rows) add_last(n_rows, k, lane, sums[0]);
            }
            const Score sum = sum_over(add_up(sums), bits);
            if (k < count && lane == 0) rescale(target[k], shrink, grow, sum);
        }
    }

  private:
    MIXSOLVE_DEVICE static void rescale(double& target, double shrink, double grow, Score sum) {
        target = target * shrink + grow * static_cast<double>(sum);
    }
    // Where every thread has classifiers of its own: some at a time, which the same chances weight.
    MIXSOLVE_DEVICE void add_own(int n_rows, double shrink, double grow, double* target) const {
        int k = thread(), left = (tile.n_classifiers() - k + kThreads - 1) >> kThreadBits;
#pragma unroll 1
        for (; left >= 4; left -= 4) add_some<4>(k, n_rows, shrink, grow, target);
        if (left & 2) add_some<2>(k, n_rows, shrink, grow, target);
        if (left & 1) add_some<1>(k, n_rows, shrink, grow, target);
    }
    template <int kCount>
    MIXSOLVE_DEVICE void add_some(int& k, int n_rows, double shrink, double grow, double* target) const {
        const Stored* at = tile.losses + k * tile.asked.tile.stride;
        Score sums[kCount][kRows] = {};
#pragma unroll 1
        for (int row = 0; row + kRows <= n_rows; row += kRows, at += kRows) {
            const Scores share = load_together<Scores>(tile.chance + row);
#pragma unroll
            for (int c = 0; c < kCount; ++c) {
                add_products(load_together<Group>(at + c * kThreads * tile.asked.tile.stride), share, sums[c]);
            }
        }
#pragma unroll
        for (int c = 0; c < kCount; ++c, k += kThreads) {
            if (n_rows % kRows > 0) add_last(n_rows, k, 0, sums[c][0]);
            rescale(target[k], shrink, grow, add_up(sums[c]));
        }
    }
    // The rows that are too few for a group.
    MIXSOLVE_DEVICE void add_last(int n_rows, int k, int lane, Score& sum) const {
#pragma unroll 1
        for (int row = n_rows / kRows * kRows + lane; row < n_rows; row += 1 << tile.asked.tile.moment_bits) {
            sum = multiply_add(tile.chance[row], tile.loss(k, row), sum);
        }
    }
    MIXSOLVE_DEVICE static Score add_up(const Score (&sums)[kRows]) {
        Score half[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) half[r] = sums[r];
#pragma unroll
        for (int width = kRows / 2; width > 0; width /= 2) {
#pragma unroll
            for (int r = 0; r < width; ++r) half[r] += half[r + width];
        }
        return half[0];
    }
    MIXSOLVE_DEVICE static void add_products(const Group& group, const Scores& factor, Score (&sums)[kRows]) {
        Stored stored[kRows];
        unpack(group, stored);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            sums[r] = multiply_add(factor.number[r], static_cast<Score>(widen(stored[r])), sums[r]);
        }
    }
    // The groups of one classifier that are a thread's, `kRows` rows each, so many rows apart; 0: as the shape says.
    template <int kHop>
    MIXSOLVE_DEVICE void add_all(int left, const Stored* at, const Score* share, Score (&sums)[kRows]) const {
#pragma unroll 1
        for (; left >= 4; left -= 4) add_groups<4, kHop>(at, share, sums);
        if (left & 2) add_groups<2, kHop>(at, share, sums);
        if (left & 1) add_groups<1, kHop>(at, share, sums);
    }
    template <int kCount, int kHop>
    MIXSOLVE_DEVICE void add_groups(const Stored*& at, const Score*& share, Score (&sums)[kRows]) const {
        const int hop = kHop > 0 ? kHop : kRows << tile.asked.tile.moment_bits;
#pragma unroll
        for (int i = 0; i < kCount; ++i, at += hop, share += hop) {
            add_products(load_together<Group>(at), load_together<Scores>(share), sums);
        }
    }
};

}  // namespace cuda
}  // namespace mixsolve
