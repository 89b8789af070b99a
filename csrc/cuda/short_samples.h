// Whole samples of one tile: a few neighbouring threads to each of them, several samples to a warp when they are short.
#pragma once

#include "../online_lse.h"
#include "query.h"
#include "second_moments.h"
#include "tile.h"

namespace mixsolve {
namespace cuda {

template <class Score, class Stored, bool kHessian>
struct ShortSamples {
    Tile<Score, Stored>& tile;
    const PassArguments& asked;
    int64_t position;  // of the first sample in the tile
    int n_samples;
    int n_rows;

    MIXSOLVE_DEVICE int start(int s) const {
        return asked.starts ? static_cast<int>(asked.starts[position + s] - asked.starts[position])
                            : s * static_cast<int>(asked.table.n_attacks);
    }

    // Where a row of the tile lies in memory.
    MIXSOLVE_DEVICE const char* place(int row) const {
        int s = 0;
        if (!asked.contiguous) s = asked.starts ? owner(row) : row / static_cast<int>(asked.table.n_attacks);
        const int64_t sample = asked.samples ? asked.samples[position + s] : position + s;
        return asked.table.sample_data(sample) + (row - start(s)) * static_cast<int64_t>(sizeof(Stored));
    }

    MIXSOLVE_DEVICE void answer(double* sums) {
        tile.load(n_rows, [this](int row) { return place(row); });
#pragma unroll 1
        for (int64_t q = 0; q < asked.n_queries; ++q) {
            const Query query{asked, q};
            tile.score(q, n_rows);
            const double value = sum_over(weigh_rows(query), kWarpLanes);
            if (thread() % kWarpLanes == 0) tile.numbers[thread() / kWarpLanes] = value;
            __syncthreads();
            double* here = query.sums_in(sums);
            if (thread() == 0) {
                for (int warp = 0; warp < kWarps; ++warp) here[0] += tile.numbers[warp];
            }
            tile.add_moments(n_rows, 1.0, 1.0, here + 1);
            if (kHessian && query.wants_hessian()) add_hessian(query.hessian_in(sums));
            __syncthreads();
        }
    }

  private:
    // `scores` hold the weights of the products by now.
    MIXSOLVE_DEVICE void add_hessian(double* target) {
        SecondMoments<Score, Stored> moments{tile};
        moments.deviate(
            n_samples, asked.tile.sample_lanes, [this](int s) { return start(s); }, [](int, int, double) {});
        __syncthreads();
        moments.add_products(n_rows, tile.scores, 1.0, 1.0, [](int, int) { return 0.0; }, target);
    }

    // The last sample of the tile that starts at the row or before.
    MIXSOLVE_DEVICE int owner(int row) const {
        int low = 0, high = n_samples;
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            if (start(middle) <= row) {
                low = middle;
            } else {
                high = middle;
            }
        }
        return low;
    }

    // Fills `chance` with s_i N p_ij; returns this thread's share of sum_i s_i N f_i. The loop is as long for all
    // threads, since they exchange numbers in it.
    MIXSOLVE_DEVICE double weigh_rows(const Query& query) {
        const int lanes = asked.tile.sample_lanes, lane = thread() % lanes, together = kThreads / lanes;
        double value = 0;
#pragma unroll 1
        for (int first = 0; first < n_samples; first += together) {
            const int s = first + thread() / lanes;
            const bool mine = s < n_samples;
            const int begin = mine ? start(s) : 0, count = mine ? start(s + 1) - begin : 0;
            const int64_t sample = query.sample(mine ? position + s : position);
            const Score largest = largest_score(begin, count, lane, lanes);
            int best = 0;
            if (query.worst_case() || asked.best_attack || asked.best_row) {
                best = best_attack(begin, count, largest, lane, lanes);
            }
            const double share = query.share(sample);
            const Score found = query.worst_case() ? choose(begin, count, best, largest, share, lane, lanes)
                                                   : soften(query, sample, begin, count, largest, share, lane, lanes);
            if (!mine) continue;  // the exchanges are behind us
            hand_out(query, position + s, begin, best, found, lane, lanes);
            if (lane == 0) value += share * static_cast<double>(found);
        }
        return value;
    }

    MIXSOLVE_DEVICE Score largest_score(int begin, int count, int lane, int lanes) const {
        Score largest = lane < count ? tile.scores[begin + lane] : lowest<Score>();
        for (int j = lane + lanes; j < count; j += lanes) largest = larger(largest, tile.scores[begin + j]);
        return largest_over(largest, lanes);
    }
    MIXSOLVE_DEVICE int best_attack(int begin, int count, Score largest, int lane, int lanes) const {
        int best = count;
        for (int j = lane; j < count && best == count; j += lanes) {
            if (tile.scores[begin + j] == largest) best = j;
        }
#pragma unroll 1
        for (int distance = lanes / 2; distance > 0; distance /= 2) {
            const int other = from_lane_xor(best, distance);
            best = other < best ? other : best;
        }
        return best < count ? best : 0;  // NaN equals nothing
    }

    MIXSOLVE_DEVICE Score choose(int begin, int count, int best, Score largest, double share, int lane, int lanes) {
        for (int j = lane; j < count; j += lanes) tile.chance[begin + j] = j == best ? static_cast<Score>(share) : 0;
        return largest;
    }

    MIXSOLVE_DEVICE Score soften(const Query& query, int64_t sample, int begin, int count, Score largest, double share,
                                 int lane, int lanes) {
        const Score per_unit = static_cast<Score>(query.inverse_temperature(sample) * exponent_unit<Score>());
        const int64_t first_prior = asked.table.first_row(sample);
        OnlineLse<Score> state{largest, 0, 0, 0};
        for (int j = lane; j < count; j += lanes) {
            const Exponential<Score> e = exponential(tile.scores[begin + j] - largest, per_unit);
            const Score u = static_cast<Score>(query.prior(first_prior + j));
            tile.chance[begin + j] = u * e.exp;
            state.mass += u * e.exp;
            state.excess += u * e.expm1;
            state.total += u;
        }
        state.mass = sum_over(state.mass, lanes);
        state.excess = sum_over(state.excess, lanes);
        state.total = sum_over(state.total, lanes);
        if (count > 0 && Rescue<Score>::needed(query, state.mass)) {
            const Rescue<Score> rescued(query, sample, first_prior, tile.scores + begin, tile.chance + begin, count,
                                        lane, lanes);
            state.max = rescued.max;
            state.mass = rescued.mass;
            state.excess = rescued.mass - state.total;
        }
        const Score factor = static_cast<Score>(share) / state.mass;
        const bool hessian = kHessian && query.wants_hessian();
        const Score sharpness = hessian ? static_cast<Score>(query.sharpness(sample)) : Score(0);
        for (int j = lane; j < count; j += lanes) {
            tile.chance[begin + j] *= factor;
            if (hessian) tile.scores[begin + j] = tile.chance[begin + j] * sharpness;
        }
        return smoothed_maximum(state, static_cast<Score>(query.temperature(sample)));
    }

    MIXSOLVE_DEVICE void hand_out(const Query& query, int64_t at, int begin, int best, Score found, int lane,
                                  int lanes) const {
        if (lane == 0 && asked.per_sample) asked.per_sample[query.answer(at)] = static_cast<double>(found);
        if (lane == 0 && asked.best_attack) asked.best_attack[query.answer(at)] = best;
        if (!asked.best_row) return;
        double* out = query.best_row(at);
        for (int k = lane; k < tile.n_classifiers(); k += lanes) {
            out[k] = static_cast<double>(tile.loss(k, begin + best));
        }
    }
};

}  // namespace cuda
}  // namespace mixsolve
