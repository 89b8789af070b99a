// Whole samples of one tile: a few neighbouring threads to each of them, several samples to a warp when they are short.
#pragma once

#include "../online_lse.h"
#include "moments.h"
#include "query.h"
#include "second_moments.h"
#include "tile.h"

namespace mixsolve {
namespace cuda {

template <class Score, class Stored, Kind kKind>
struct ShortSamples {
    static constexpr bool kPlain = kKind == Kind::kPlain;
    static constexpr int kMostFours = sizeof(Score) == 8 ? 2 : 4;  // that a thread's registers hold

    Tile<Score, Stored>& tile;
    const PassArguments& asked;
    int64_t position;  // of the first sample in the tile
    int n_samples;
    int n_rows;

    MIXSOLVE_DEVICE int start(int s) const {
        return !kPlain && asked.starts ? static_cast<int>(asked.starts[position + s] - asked.starts[position])
                                       : s * static_cast<int>(asked.table.n_attacks);
    }

    // Where a row of the tile lies in memory.
    MIXSOLVE_DEVICE const char* place(int row) const {
        int s = 0;
        if (!asked.contiguous) {
            s = !kPlain && asked.starts ? owner(row) : row / static_cast<int>(asked.table.n_attacks);
        }
        const int64_t sample = sample_at(position + s),
                      within = (row - start(s)) * static_cast<int64_t>(sizeof(Stored));
        if (kPlain) return asked.table.data + sample * asked.table.stride_sample + within;
        return asked.table.sample_data(sample) + within;
    }

    MIXSOLVE_DEVICE void answer(double* sums) {
        const char* const begin = place(0);
        const bool contiguous = asked.contiguous, wide = contiguous ? tile.is_aligned(begin) : asked.aligned_samples;
        tile.load(n_rows, wide, [=](int row) {
            if (contiguous) return begin + row * static_cast<int>(sizeof(Stored));
            return place(row);
        });
#pragma unroll 1
        for (int64_t q = 0; q < (kPlain ? 1 : asked.n_queries); ++q) {
            const Query query{asked, q};
            tile.template score<kKind>(q, n_rows);
            const Score value = weigh_rows(query);
            if (thread() % kWarpLanes == 0) tile.numbers[tile.warp] = static_cast<double>(value);
            __syncthreads();
            double* here = query.sums_in(sums);
            if (thread() == 0) {
                for (int warp = 0; warp < kWarps; ++warp) here[0] += tile.numbers[warp];
            }
            Moments<Score, Stored>{tile}.add(n_rows, 1.0, 1.0, here + 1);
            if (kKind == Kind::kHessian && query.wants_hessian()) add_hessian(query, query.hessian_in(sums));
            if constexpr (kKind == Kind::kAny && kHasGradient<Stored>) {
                if (asked.loss_gradient) tile.write_gradient(n_rows, asked.table.first_row(position));
            }
            __syncthreads();
        }
    }

  private:
    MIXSOLVE_DEVICE int64_t sample_at(int64_t at) const { return !kPlain && asked.samples ? asked.samples[at] : at; }

    // The threads of a sample, and its rows in the tile.
    struct Share {
        int64_t sample;
        int begin, count, lane, bits;
    };
    struct Level {
        Score temperature, per_unit;
    };
    MIXSOLVE_DEVICE static Level level_of(const Query& query, int64_t sample) {
        return {static_cast<Score>(query.temperature(sample)),
                static_cast<Score>(query.inverse_temperature(sample) * exponent_unit<Score>())};
    }

    // The scores make room for what the products of deviations are weighted with.
    MIXSOLVE_DEVICE void add_hessian(const Query& query, double* target) {
        for (int row = thread(); row < n_rows; row += kThreads) {
            const double sharpness = query.sharpness(sample_at(position + owner(row)));
            tile.scores[row] = tile.chance[row] * static_cast<Score>(sharpness);
        }
        SecondMoments<Score, Stored> moments{tile};
        moments.deviate(n_samples, asked.tile.sample_bits, [this](int s) { return start(s); }, [](int, int, double) {});
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

    // Fills `chance` with s_i N p_ij; returns this warp's share of sum_i s_i N f_i, of one tile in the score type. The
    // loop is as long for all threads of a warp, since they exchange numbers in it.
    MIXSOLVE_DEVICE Score weigh_rows(const Query& query) {
        const int bits = asked.tile.sample_bits, lane = thread() & ((1 << bits) - 1), together = kThreads >> bits;
        const bool worst_case = !kPlain && query.worst_case(), one_level = kPlain || asked.temperature_stride == 0;
        const bool wants_best = worst_case || (!kPlain && (asked.best_attack || asked.best_row));
        Level level = level_of(query, 0);
        Score value = 0;
#pragma unroll 1
        for (int first = tile.warp * kWarpLanes >> bits; first < n_samples; first += together) {
            const int s = first + (thread() % kWarpLanes >> bits);
            const bool mine = s < n_samples;
            const int begin = mine ? start(s) : 0, count = mine ? start(s + 1) - begin : 0;
            const int64_t at = mine ? position + s : position, sample = sample_at(at);
            const Share here{sample, begin, count, lane, bits};
            const Score share = static_cast<Score>(query.share(sample));
            if (!one_level) level = level_of(query, sample);
            const Score largest = wants_best ? largest_score(here) : Score(0);
            const int best = wants_best ? best_attack(here, largest) : 0;
            const Score found = worst_case                       ? choose(here, best, largest, share)
                                : !kPlain && asked.table.prior   ? soften<true, 1>(query, level, here, share)
                                : asked.tile.fours == 0          ? soften<false, 1>(query, level, here, share)
                                : asked.tile.fours <= 2          ? soften_few<2>(query, level, here, share)
                                : asked.tile.fours <= kMostFours ? soften_few<kMostFours>(query, level, here, share)
                                                                 : soften<false, 4>(query, level, here, share);
            if (!mine) continue;  // the exchanges are behind us
            if (!kPlain) hand_out(query, at, here, best, found);
            value += share * found;
        }
#pragma unroll
        for (int b = kWarpBits - 1; b >= 0; --b) {
            if (b >= bits) value += from_lane_xor(value, 1 << b);
        }
        return value;
    }

    // NaN if one of the scores is.
    MIXSOLVE_DEVICE Score largest_score(const Share& here) const {
        const int lanes = 1 << here.bits;
        Score largest = lowest<Score>();
        for (int j = here.lane; j < here.count; j += lanes) largest = larger(largest, tile.scores[here.begin + j]);
        return largest_over(largest, here.bits);
    }
    MIXSOLVE_DEVICE int best_attack(const Share& here, Score largest) const {
        int best = here.count;
        for (int j = here.lane; j < here.count && best == here.count; j += 1 << here.bits) {
            if (tile.scores[here.begin + j] == largest) best = j;
        }
#pragma unroll 1
        for (int distance = 1 << here.bits >> 1; distance > 0; distance /= 2) {
            const int other = from_lane_xor(best, distance);
            best = other < best ? other : best;
        }
        return best < here.count ? best : 0;  // NaN equals nothing
    }

    MIXSOLVE_DEVICE Score choose(const Share& here, int best, Score largest, Score share) {
        for (int j = here.lane; j < here.count; j += 1 << here.bits) {
            tile.chance[here.begin + j] = j == best ? share : Score(0);
        }
        return largest;
    }

    // A thread takes `kTogether` attacks as one. A score that is NaN makes the mass so.
    template <bool kPrior, int kTogether>
    MIXSOLVE_DEVICE Score soften(const Query& query, const Level& level, const Share& here, Score share) {
        using Some = Numbers<Score, kTogether>;
        const int first = kTogether * here.lane, step = kTogether << here.bits;
        const Score* const z = tile.scores + here.begin;
        Score* const p = tile.chance + here.begin;
        OnlineLse<Score> state{lowest<Score>(), 0, 0, static_cast<Score>(here.count)};
        for (int j = first; j < here.count; j += step) {
            const Some some = load_together<Some>(z + j);
#pragma unroll
            for (int i = 0; i < kTogether; ++i) state.max = higher(state.max, some.number[i]);
        }
        state.max = highest_over(state.max, here.bits);
        Score total = 0;
        for (int j = first; j < here.count; j += step) {
            Some some = load_together<Some>(z + j);
#pragma unroll
            for (int i = 0; i < kTogether; ++i) {
                const Score u = kPrior ? prior(query, here, j + i) : Score(1);
                some.number[i] = u * exponential(some.number[i] - state.max, level.per_unit);
                state.mass += some.number[i];
                if (kPrior) total += u;
            }
            store_together(p + j, some);
        }
        state.mass = sum_over(state.mass, here.bits);
        if (kPrior) state.total = sum_over(total, here.bits);
        state.excess = excess<kPrior, kTogether>(query, here, state, level.per_unit);
        if (kPrior && here.count > 0 && Rescue<Score>::needed(query, state.mass)) {
            const Rescue<Score> rescued(query, here.sample, asked.table.first_row(here.sample), z, p, here.count,
                                        here.lane, 1 << here.bits);
            state.max = rescued.max;
            state.mass = rescued.mass;
            state.excess = rescued.mass - state.total;
        }
        const Score factor = share / state.mass;
        for (int j = first; j < here.count; j += step) {
            Some some = load_together<Some>(p + j);
#pragma unroll
            for (int i = 0; i < kTogether; ++i) some.number[i] *= factor;
            store_together(p + j, some);
        }
        return smoothed_maximum(state, level.temperature);
    }

    // As `soften` does without a prior, of at most so many times four attacks a thread: they stay in its registers.
    template <int kFours>
    MIXSOLVE_DEVICE Score soften_few(const Query& query, const Level& level, const Share& here, Score share) {
        using Four = Numbers<Score, 4>;
        Four some[kFours];
        OnlineLse<Score> state{lowest<Score>(), 0, 0, static_cast<Score>(here.count)};
#pragma unroll
        for (int g = 0; g < kFours; ++g) {
            some[g] = {lowest<Score>(), lowest<Score>(), lowest<Score>(), lowest<Score>()};
            if (four(g, here) < here.count) some[g] = load_together<Four>(tile.scores + here.begin + four(g, here));
#pragma unroll
            for (int i = 0; i < 4; ++i) state.max = higher(state.max, some[g].number[i]);
        }
        state.max = highest_over(state.max, here.bits);
#pragma unroll
        for (int g = 0; g < kFours; ++g) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                some[g].number[i] = exponential(some[g].number[i] - state.max, level.per_unit);
                state.mass += some[g].number[i];
            }
        }
        state.mass = sum_over(state.mass, here.bits);
        state.excess = excess<false, 4>(query, here, state, level.per_unit);
        const Score factor = share / state.mass;
#pragma unroll
        for (int g = 0; g < kFours; ++g) {
#pragma unroll
            for (int i = 0; i < 4; ++i) some[g].number[i] *= factor;
            if (four(g, here) < here.count) store_together(tile.chance + here.begin + four(g, here), some[g]);
        }
        return smoothed_maximum(state, level.temperature);
    }
    // The first attack of a thread's g-th four.
    MIXSOLVE_DEVICE static int four(int g, const Share& here) { return 4 * (here.lane + (g << here.bits)); }

    MIXSOLVE_DEVICE Score prior(const Query& query, const Share& here, int j) const {
        return static_cast<Score>(query.prior(asked.table.first_row(here.sample) + j));
    }

    // Looked at only where the mass is close to what it is without any difference between scores.
    template <bool kPrior, int kTogether>
    MIXSOLVE_DEVICE Score excess(const Query& query, const Share& here, const OnlineLse<Score>& state,
                                 Score per_unit) const {
        using Some = Numbers<Score, kTogether>;
        const bool high = state.mass > static_cast<Score>(kHighTemperatureShare) * state.total;
        if (!any_in_warp(high)) return 0;
        Score sum = 0;
        for (int j = kTogether * here.lane; j < here.count; j += kTogether << here.bits) {
            const Some some = load_together<Some>(tile.scores + here.begin + j);
#pragma unroll
            for (int i = 0; i < kTogether; ++i) {
                const Score e = exponential_minus_one(some.number[i] - state.max, per_unit);
                sum += kPrior ? prior(query, here, j + i) * e : e;
            }
        }
        return sum_over(sum, here.bits);
    }

    MIXSOLVE_DEVICE void hand_out(const Query& query, int64_t at, const Share& here, int best, Score found) const {
        if (here.lane == 0 && asked.per_sample) asked.per_sample[query.answer(at)] = static_cast<double>(found);
        if (here.lane == 0 && asked.best_attack) asked.best_attack[query.answer(at)] = best;
        if (!asked.best_row) return;
        double* out = query.best_row(at);
        for (int k = here.lane; k < tile.n_classifiers(); k += 1 << here.bits) {
            out[k] = static_cast<double>(tile.loss(k, here.begin + best));
        }
    }
};

}  // namespace cuda
}  // namespace mixsolve
