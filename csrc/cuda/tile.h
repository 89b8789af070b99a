// A tile: all classifiers of some rows, in the shared memory of one block of threads. The table is read into it once;
// scores, probabilities and moments of every query are then taken from it.
#pragma once

#include "arithmetic.h"
#include "shared_layout.h"

namespace mixsolve {
namespace cuda {

template <class Score, class Stored>
struct Tile {
    static constexpr int kTogether = 8;  // losses that a thread has under way, and terms of a partial sum

    const PassArguments& asked;
    Stored* losses;     // (L, tile.stride)
    Score* scores;      // (tile.rows) of one query
    Score* chance;      // (tile.rows) what the rows are weighted with in the moment
    Score* parts;       // (kThreads) of scores whose classifiers are shared between threads
    double* numbers;    // (5, kWarps) what warps tell each other
    int* rows;          // (kWarps)
    Score* deviations;  // (L, tile.stride) if there is a Hessian
    double* shift;      // (L) likewise: from the mean so far to that of the tile
    double* sums;       // in shared memory, or null

    MIXSOLVE_DEVICE explicit Tile(const PassArguments& asked_) : asked(asked_) {
        const SharedLayout at(asked.tile, asked.table.n_classifiers, sizeof(Stored), sizeof(Score));
        char* shared = shared_memory();
        losses = reinterpret_cast<Stored*>(shared);
        scores = reinterpret_cast<Score*>(shared + at.scores);
        chance = reinterpret_cast<Score*>(shared + at.chance);
        parts = reinterpret_cast<Score*>(shared + at.parts);
        numbers = reinterpret_cast<double*>(shared + at.numbers);
        rows = reinterpret_cast<int*>(shared + at.rows);
        deviations = reinterpret_cast<Score*>(shared + at.deviations);
        shift = reinterpret_cast<double*>(shared + at.shift);
        sums = asked.tile.sums_bytes > 0 ? reinterpret_cast<double*>(shared + at.sums) : nullptr;
    }

    MIXSOLVE_DEVICE int n_classifiers() const { return static_cast<int>(asked.table.n_classifiers); }
    MIXSOLVE_DEVICE Score loss(int classifier, int row) const {
        return static_cast<Score>(widen(losses[classifier * asked.tile.stride + row]));
    }

    // Threads side by side read neighbouring rows of one classifier, each thread several classifiers at a time, and
    // score them for the first query on the way. `place(row)` is where the row lies in the first classifier's plane.
    // Until `score` has ended, a thread may look at no other losses than those it loads.
    template <class Place>
    MIXSOLVE_DEVICE void load(int n_rows, const Place& place) {
        const int tile_rows = asked.tile.rows, side_by_side = tile_rows < kThreads ? tile_rows : kThreads;
        const int step = kThreads / side_by_side, first = thread() / side_by_side, count = n_classifiers();
        const int hop = step * asked.tile.stride;
        const int64_t jump = step * asked.table.stride_classifier;
        if (tile_rows < kThreads) parts[thread()] = 0;
#pragma unroll 1
        for (int row = thread() % side_by_side; row < n_rows; row += side_by_side) {
            const char* from = place(row) + first * asked.table.stride_classifier;
            const Score* weight = static_cast<const Score*>(asked.weights) + first;
            Stored* to = losses + first * asked.tile.stride + row;
            Score score = 0, sum = 0;
            int k = first;
#pragma unroll 1
            for (; k + (kTogether - 1) * step < count; k += kTogether * step) {
                Stored held[kTogether];
#pragma unroll
                for (int i = 0; i < kTogether; ++i, from += jump) held[i] = *reinterpret_cast<const Stored*>(from);
                sum = 0;
#pragma unroll
                for (int i = 0; i < kTogether; ++i, to += hop, weight += step) {
                    sum = multiply_add(*weight, static_cast<Score>(widen(held[i])), sum);
                    *to = held[i];
                }
                score += sum;
            }
            sum = 0;
#pragma unroll 1
            for (; k < count; k += step, from += jump, to += hop, weight += step) {
                const Stored one = *reinterpret_cast<const Stored*>(from);
                sum = multiply_add(*weight, static_cast<Score>(widen(one)), sum);
                *to = one;
            }
            score += sum;
            if (tile_rows < kThreads) {
                parts[thread()] = score;
            } else {
                keep(row, score);
            }
        }
    }

    // The scores of one query, NaN where one is not finite; those of the first are there, or in parts. Rows of equal
    // losses get equal scores: each is summed up in the same order. Ends with a barrier.
    MIXSOLVE_DEVICE void score(int64_t query, int n_rows) {
        const Score* weights = static_cast<const Score*>(asked.weights) + query * n_classifiers();
        const int tile_rows = asked.tile.rows;
        if (tile_rows >= kThreads) {
#pragma unroll 1
            for (int row = thread(); row < n_rows && query > 0; row += kThreads) {
                keep(row, partial_score(weights, row, 0, 1));
            }
        } else {
            const int sharing = kThreads / tile_rows, row = thread() % tile_rows;
            if (row < n_rows && query > 0) {
                parts[thread()] = partial_score(weights, row, thread() / tile_rows, sharing);
            }
            __syncthreads();
            if (thread() < n_rows) {
                Score sum = parts[thread()];
#pragma unroll 1
                for (int i = 1; i < sharing; ++i) sum += parts[i * tile_rows + thread()];
                keep(thread(), sum);
            }
        }
        __syncthreads();
    }

    // target[k] = target[k] shrink + grow sum_row chance[row] loss(k, row), in float64 beyond the rows of one tile.
    // A target belongs to the same thread at every call.
    MIXSOLVE_DEVICE void add_moments(int n_rows, double shrink, double grow, double* target) {
        const int lanes = asked.tile.moment_lanes, lane = thread() % lanes, count = n_classifiers();
#pragma unroll 1
        for (int first = 0; first < count; first += kThreads / lanes) {
            const int k = first + thread() / lanes;
            Score sum = 0;
            const Stored* at = losses + k * asked.tile.stride + lane;
            const Score* share = chance + lane;
            const int rows = k < count ? n_rows : 0;
#pragma unroll 4
            for (int row = lane; row < rows; row += lanes, at += lanes, share += lanes) {
                sum = multiply_add(*share, static_cast<Score>(widen(*at)), sum);
            }
            sum = sum_over(sum, lanes);
            if (k < count && lane == 0) target[k] = target[k] * shrink + grow * static_cast<double>(sum);
        }
    }

  private:
    MIXSOLVE_DEVICE void keep(int row, Score score) { scores[row] = score + (score - score); }

    // In sums of a few, which are added up: that keeps the rounding error of many classifiers small. The order is that
    // of `load`.
    MIXSOLVE_DEVICE Score partial_score(const Score* weights, int row, int first, int step) const {
        const int count = n_classifiers(), hop = step * asked.tile.stride;
        const Stored* at = losses + first * asked.tile.stride + row;
        const Score* weight = weights + first;
        Score score = 0;
#pragma unroll 1
        for (int begin = first; begin < count; begin += kTogether * step) {
            const int end = begin + kTogether * step < count ? begin + kTogether * step : count;
            Score sum = 0;
#pragma unroll 4
            for (int k = begin; k < end; k += step, at += hop, weight += step) {
                sum = multiply_add(*weight, static_cast<Score>(widen(*at)), sum);
            }
            score += sum;
        }
        return score;
    }
};

}  // namespace cuda
}  // namespace mixsolve
