// A tile: all classifiers of some rows, in the shared memory of one block of threads. The table is read into it once;
// scores, probabilities and moments of every query are then taken from it.
#pragma once

#include "groups.h"

namespace mixsolve {
namespace cuda {

template <class Score, class Stored>
struct Tile {
    static constexpr int kTogether = 8;  // classifiers whose losses a thread has under way, and terms of a partial sum
    static constexpr int kRows = rows_together(sizeof(Stored), sizeof(Score));
    using Group = Words<kRows* static_cast<int>(sizeof(Stored))>;
    using Scores = Numbers<Score, kRows>;

    const PassArguments& asked;
    const int warp;            // of this thread
    const int own_row;         // the first that this thread reads
    const int own_classifier;  // likewise
    const int own_share;       // of the classifiers: so many
    Stored* losses;            // (L, tile.stride)
    Score* scores;             // (tile.rows) of one query
    Score* chance;             // (tile.rows) what the rows are weighted with in the moment
    Score* parts;              // (n_parts, tile.rows) of scores whose classifiers are shared between warps
    double* numbers;           // (5, kWarps) what warps tell each other
    int* rows;                 // (kWarps)
    Score* deviations;         // (L, tile.stride) if there is a Hessian
    double* shift;             // (L) likewise: from the mean so far to that of the tile

    MIXSOLVE_DEVICE explicit Tile(const PassArguments& asked_)
        : asked(asked_),
          warp(warp_number()),
          own_row((thread() & ((1 << asked_.tile.row_bits) - 1)) * kRows),
          own_classifier(thread() >> asked_.tile.row_bits),
          own_share((static_cast<int>(asked_.table.n_classifiers) - own_classifier + asked_.tile.step - 1) >>
                    (kThreadBits - asked_.tile.row_bits)) {
        const SharedLayout& at = asked.tile.at;
        char* shared = shared_memory();
        losses = reinterpret_cast<Stored*>(shared);
        scores = reinterpret_cast<Score*>(shared + at.scores);
        chance = reinterpret_cast<Score*>(shared + at.chance);
        parts = reinterpret_cast<Score*>(shared + at.parts);
        numbers = reinterpret_cast<double*>(shared + at.numbers);
        rows = reinterpret_cast<int*>(shared + at.rows);
        deviations = reinterpret_cast<Score*>(shared + at.deviations);
        shift = reinterpret_cast<double*>(shared + at.shift);
    }

    // In shared memory, or null.
    MIXSOLVE_DEVICE double* sums() const {
        return asked.tile.sums_bytes > 0 ? reinterpret_cast<double*>(shared_memory() + asked.tile.at.sums) : nullptr;
    }
    MIXSOLVE_DEVICE int n_classifiers() const { return static_cast<int>(asked.table.n_classifiers); }
    MIXSOLVE_DEVICE Score loss(int classifier, int row) const {
        return static_cast<Score>(widen(losses[classifier * asked.tile.stride + row]));
    }
    // How rows lie that follow each other from this address on.
    MIXSOLVE_DEVICE Lie lie_from(const char* address) const {
        const bool aligned = asked.aligned_planes && reinterpret_cast<uintptr_t>(address) % sizeof(Group) == 0;
        return aligned ? Lie::kAligned : asked.rows_lie;
    }

    // The scores of one query, NaN where one is not finite; those of the first are there, or in parts. Rows of equal
    // losses get equal scores: each is summed up in the same order. Ends with a barrier.
    template <Kind kKind>
    MIXSOLVE_DEVICE void score(int64_t query, int n_rows) {
        if (kKind != Kind::kPlain && query > 0) score_again(query, n_rows);
        const int n_parts = asked.tile.n_parts, tile_rows = asked.tile.rows;
        __syncthreads();
        if (n_parts == 0) return;
#pragma unroll 1
        for (int row = thread(); row < n_rows; row += kThreads) {
            Score sum = parts[row];
#pragma unroll 1
            for (int i = 1; i < n_parts; ++i) sum += parts[i * tile_rows + row];
            scores[row] = finite(sum);
        }
        __syncthreads();
    }

    // The derivative by the losses, which has the rows from `begin` on where the table has those of the tile.
    MIXSOLVE_DEVICE void write_gradient(int n_rows, int64_t begin) const {
        const Score* weights = static_cast<const Score*>(asked.weights);
        auto* const out = reinterpret_cast<Stored*>(asked.loss_gradient) + begin;
        const Score scale = static_cast<Score>(asked.gradient_scale);
        const int all = kRows << asked.tile.row_bits, side = all < kThreads ? all : kThreads, count = n_classifiers();
#pragma unroll 1
        for (int row = thread() & (side - 1); row < n_rows; row += side) {
            const Score share = scale * chance[row];
#pragma unroll 1
            for (int k = thread() / side; k < count; k += kThreads / side) {
                narrow_to(out[k * asked.n_rows + row], share * weights[k]);
            }
        }
    }

    MIXSOLVE_DEVICE static void add_weighted(const Group& group, Score weight, Score (&sums)[kRows]) {
        Stored stored[kRows];
        unpack(group, stored);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            sums[r] = multiply_add(weight, static_cast<Score>(widen(stored[r])), sums[r]);
        }
    }

    // As many as come next in TileReader, so that the order of the sums is the same.
    MIXSOLVE_DEVICE static int next_count(int left) {
        return left >= kTogether ? kTogether : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    }

    // Adds up what the lanes of a warp have of a row, and leaves it to be added up over the warps.
    MIXSOLVE_DEVICE void tell(int row, int n_rows, Score (&score)[kRows]) {
        const int bits = asked.tile.row_bits;
        if (bits == kThreadBits) {  // nobody else has anything of these rows
#pragma unroll
            for (int r = 0; r < kRows; ++r) score[r] = finite(score[r]);
            put(scores, row, n_rows, score);
            return;
        }
#pragma unroll 1
        for (int distance = kWarpLanes / 2, least = 1 << bits; distance >= least; distance >>= 1) {
#pragma unroll
            for (int r = 0; r < kRows; ++r) score[r] += from_lane_xor(score[r], distance);
        }
        if (bits < kWarpBits && thread() % kWarpLanes >> bits > 0) return;
        put(parts + (bits < kWarpBits ? warp : own_classifier) * asked.tile.rows, row, n_rows, score);
    }

  private:
    // NaN where it is not finite.
    MIXSOLVE_DEVICE static Score finite(Score score) { return multiply_add(score, Score(0), score); }

    // Of a query that comes later, from the tile.
    MIXSOLVE_DEVICE void score_again(int64_t query, int n_rows) {
        const Score* const weights = static_cast<const Score*>(asked.weights) + query * n_classifiers();
#pragma unroll 1
        for (int begin = 0; begin < asked.tile.rows; begin += kThreads * kRows) {
            Score score[kRows] = {};
            score_rows(weights, begin + own_row, n_rows, score);
            tell(begin + own_row, n_rows, score);
        }
    }
    MIXSOLVE_DEVICE void score_rows(const Score* weights, int row, int n_rows, Score (&score)[kRows]) const {
        const Score* weight = weights + own_classifier;
        const Stored* at = losses + own_classifier * asked.tile.stride + row;
        int left = row < n_rows ? own_share : 0;
#pragma unroll 1
        while (left > 0) {
            const int count = next_count(left);
            Score sum[kRows] = {};
#pragma unroll 2
            for (int i = 0; i < count; ++i, at += asked.tile.hop, weight += asked.tile.step) {
                if (row + kRows <= n_rows) {
                    add_weighted(load_together<Group>(at), *weight, sum);
                    continue;
                }
#pragma unroll
                for (int r = 0; r < kRows; ++r) {
                    if (row + r < n_rows) sum[r] = multiply_add(*weight, static_cast<Score>(widen(at[r])), sum[r]);
                }
            }
#pragma unroll
            for (int r = 0; r < kRows; ++r) score[r] += sum[r];
            left -= count;
        }
    }

    MIXSOLVE_DEVICE static void put(Score* to, int row, int n_rows, const Score (&score)[kRows]) {
        if (row + kRows <= n_rows) {
            Scores together;
#pragma unroll
            for (int r = 0; r < kRows; ++r) together.number[r] = score[r];
            store_together(to + row, together);
            return;
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            if (row + r < n_rows) to[row + r] = score[r];
        }
    }
};

}  // namespace cuda
}  // namespace mixsolve
