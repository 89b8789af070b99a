// Whole samples of one tile: a few neighbouring threads to each of them, several samples to a warp when they are short.
#pragma once

#include "../online_lse.h"
#include "fours.h"
#include "moments.h"
#include "query.h"
#include "second_moments.h"
#include "tile_reader.h"

namespace mixsolve {
namespace cuda {

template <class Score, class Stored, Kind kKind>
struct ShortSamples {
    static constexpr bool kPlain = kKind == Kind::kPlain;
    // Attacks that a thread takes as one, and so many times that its registers hold.
    template <bool kWide>
    static constexpr int kSize = kWide || (kPlain && sizeof(Score) == 4) ? 4 : 1;
    static constexpr int kMostFours = sizeof(Score) == 8 || kKind == Kind::kHessian ? 2
                                      : kPlain && sizeof(Stored) == 4               ? 8
                                                                                    : 4;

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

    MIXSOLVE_DEVICE void load() {
        const bool contiguous = asked.contiguous;
        TileReader<Score, Stored, kPlain> reader{tile, asked};
        if (contiguous && reader.loads_twice(n_rows)) return reader.load_twice(place(0), n_rows);
        const auto where = [this](int row) {  // found anew each time: registers are scarce
            return asked.contiguous ? place(0) + row * static_cast<int>(sizeof(Stored)) : place(row);
        };
        reader.load(n_rows, contiguous ? tile.lie_from(place(0)) : asked.samples_lie, where);
    }

    MIXSOLVE_DEVICE void answer(double* sums) {
        load();
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
            const Score found = worst_case                     ? choose(here, best, largest, share)
                                : !kPlain && asked.table.prior ? soften<true, false>(query, level, here, share)
                                                               : soften_all(query, level, here, share);
            if (!mine) continue;  // the exchanges are behind us
            if (!kPlain) hand_out(query, at, here, best, found);
            value += share * found;
        }
        if (tile.warp * kWarpLanes >> bits >= n_samples) return 0;  // nor has another lane of this warp any
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

    // Without a prior. Only the plain kernel has the code for few attacks that are not a multiple of four.
    MIXSOLVE_DEVICE Score soften_all(const Query& query, const Level& level, const Share& here, Score share) {
        const bool few = asked.tile.fours > 0 && asked.tile.fours <= kMostFours;
        if (asked.tile.wide_samples) {
            return few ? soften_few<true>(query, level, here, share) : soften<false, true>(query, level, here, share);
        }
        if constexpr (kPlain && sizeof(Score) == 4) {
            if (few) return soften_few<false>(query, level, here, share);
        }
        return soften<false, false>(query, level, here, share);
    }

    // A score that is NaN makes the mass so.
    template <bool kPrior, bool kWide>
    MIXSOLVE_DEVICE Score soften(const Query& query, const Level& level, const Share& here, Score share) {
        using Mine = Fours<Score, kWide, kSize<kWide>>;
        const Mine fours(here);
        OnlineLse<Score> state{lowest<Score>(), 0, 0, static_cast<Score>(here.count)};
#pragma unroll 1
        for (int g = 0; g < fours.count; ++g) {
            const auto four = fours.load(tile.scores, g);
#pragma unroll
            for (int i = 0; i < kSize<kWide>; ++i) state.max = higher(state.max, four.number[i]);
        }
        state.max = highest_over(state.max, here.bits);
        Score total = 0;
#pragma unroll 1
        for (int g = 0; g < fours.count; ++g) {
            auto four = fours.load(tile.scores, g);
#pragma unroll
            for (int i = 0; i < kSize<kWide>; ++i) {
                const Score u = kPrior ? prior(query, here, fours.first + g * fours.step + i, fours.end) : Score(1);
                four.number[i] = u * exponential(four.number[i] - state.max, level.per_unit);
                state.mass += four.number[i];
                if (kPrior) total += u;
            }
            fours.store(tile.chance, g, four);
        }
        state.mass = sum_over(state.mass, here.bits);
        if (kPrior) state.total = sum_over(total, here.bits);
        state.excess = excess<kPrior, kWide>(query, here, state, level.per_unit);
        if (kPrior && here.count > 0 && Rescue<Score>::needed(query, state.mass)) {
            const Rescue<Score> rescued(query, here.sample, asked.table.first_row(here.sample),
                                        tile.scores + here.begin, tile.chance + here.begin, here.count, here.lane,
                                        1 << here.bits);
            state.max = rescued.max;
            state.mass = rescued.mass;
            state.excess = rescued.mass - state.total;
        }
        const Score factor = quotient(share, state.mass);
#pragma unroll 1
        for (int g = 0; g < fours.count; ++g) {
            auto four = fours.load(tile.chance, g);
#pragma unroll
            for (int i = 0; i < kSize<kWide>; ++i) four.number[i] *= factor;
            fours.store(tile.chance, g, four);
        }
        return smoothed_maximum(state, level.temperature);
    }

    // As `soften` does without a prior, of at most `kMostFours` times four attacks a thread: they stay in its
    // registers.
    template <bool kWide>
    MIXSOLVE_DEVICE Score soften_few(const Query& query, const Level& level, const Share& here, Score share) {
        using Mine = Fours<Score, kWide, kSize<kWide>>;
        const Mine fours(here);
        const int count = asked.tile.fours;  // the same for all threads of the block
        typename Mine::Four four[kMostFours];
        OnlineLse<Score> state{lowest<Score>(), 0, 0, static_cast<Score>(here.count)};
#pragma unroll
        for (int g = 0; g < kMostFours; ++g) {
            if (g >= count) break;
            four[g] = fours.load(tile.scores, g);
#pragma unroll
            for (int i = 0; i < kSize<kWide>; ++i) state.max = higher(state.max, four[g].number[i]);
        }
        state.max = highest_over(state.max, here.bits);
#pragma unroll
        for (int g = 0; g < kMostFours; ++g) {
            if (g >= count) break;
#pragma unroll
            for (int i = 0; i < kSize<kWide>; ++i) {
                four[g].number[i] = exponential(four[g].number[i] - state.max, level.per_unit);
                state.mass += four[g].number[i];
            }
        }
        state.mass = sum_over(state.mass, here.bits);
        state.excess = excess<false, kWide>(query, here, state, level.per_unit);
        const Score factor = quotient(share, state.mass);
#pragma unroll
        for (int g = 0; g < kMostFours; ++g) {
            if (g >= count) break;
#pragma unroll
            for (int i = 0; i < kSize<kWide>; ++i) four[g].number[i] *= factor;
            fours.store(tile.chance, g, four[g]);
        }
        return smoothed_maximum(state, level.temperature);
    }

    // Of the attack at a place of the tile; 0 from `end` on.
    MIXSOLVE_DEVICE Score prior(const Query& query, const Share& here, int at, int end) const {
        return at < end ? static_cast<Score>(query.prior(asked.table.first_row(here.sample) + at - here.begin)) : 0;
    }

    // Looked at only where the mass is close to what it is without any difference between scores.
    template <bool kPrior, bool kWide>
    MIXSOLVE_DEVICE Score excess(const Query& query, const Share& here, const OnlineLse<Score>& state,
                                 Score per_unit) const {
        const bool high = state.mass > static_cast<Score>(kHighTemperatureShare) * state.total;
        if (!any_in_warp(high)) return 0;
        using Mine = Fours<Score, kWide, kSize<kWide>>;
        const Mine fours(here);
        Score sum = 0;
#pragma unroll 1
        for (int g = 0; g < fours.count; ++g) {
            const auto four = fours.load(tile.scores, g);
#pragma unroll
            for (int i = 0; i < kSize<kWide>; ++i) {
                const int at = fours.first + g * fours.step + i;
                const Score e = exponential_minus_one(four.number[i] - state.max, per_unit);
                if (at < fours.end) sum += kPrior ? prior(query, here, at, fours.end) * e : e;
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
