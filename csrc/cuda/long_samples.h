// Samples longer than a tile: tile by tile, with a running state that is merged as on the CPU. A sample that several
// blocks share leaves one record per piece, and the records are merged in order afterwards.
#pragma once

#include "../online_lse.h"
#include "moments.h"
#include "query.h"
#include "second_moments.h"
#include "tile_reader.h"

namespace mixsolve {
namespace cuda {

MIXSOLVE_DEVICE OnlineLse<double> state_in(const double* record) {
    return {record[kRecordMax], record[kRecordMass], record[kRecordExcess], record[kRecordTotal]};
}
MIXSOLVE_DEVICE void keep_state(const OnlineLse<double>& state, double* record) {
    record[kRecordMax] = state.max;
    record[kRecordMass] = state.mass;
    record[kRecordExcess] = state.excess;
    record[kRecordTotal] = state.total;
}

// Adds a finished sample to the sums of its block and hands its answers out. Each number of `sums` and `moment`
// belongs to the same thread as in Moments::add, where 2^`moment_bits` threads share a classifier.
MIXSOLVE_DEVICE void settle(const Query& query, int64_t position, const double* record, int moment_bits, double* sums) {
    const PassArguments& asked = query.asked;
    const int64_t sample = query.sample(position), n_classifiers = asked.table.n_classifiers;
    const double share = query.share(sample), *moment = record + kRecordHead, *best_row = moment + n_classifiers;
    const bool worst_case = query.worst_case();
    double* here = query.sums_in(sums);
    if (thread() == 0) {
        const double found =
            worst_case ? record[kRecordScore] : smoothed_maximum(state_in(record), query.temperature(sample));
        here[0] += share * found;
        if (asked.per_sample) asked.per_sample[query.answer(position)] = found;
        if (asked.best_attack) asked.best_attack[query.answer(position)] = static_cast<int64_t>(record[kRecordAttack]);
    }
    const double scale = worst_case ? share : share / record[kRecordMass];
    if ((thread() & ((1 << moment_bits) - 1)) != 0) return;
    for (int64_t k = thread() >> moment_bits; k < n_classifiers; k += kThreads >> moment_bits) {
        here[1 + k] += scale * moment[k];
        if (asked.best_row) query.best_row(position)[k] = best_row[k];
    }
}

// Likewise for the second moments; of every thread some entries.
MIXSOLVE_DEVICE void settle_hessian(const Query& query, int64_t position, double* record, double* sums) {
    if (!query.wants_hessian()) return;
    const int64_t sample = query.sample(position), L = query.asked.table.n_classifiers;
    const double scale = query.share(sample) * query.sharpness(sample) / record[kRecordMass];
    const double* second = query.second_in(record);
    double* target = query.hessian_in(sums);
    for (int64_t e = thread(); e < L * (L + 1) / 2; e += kThreads) target[e] += scale * second[e];
}

// Two masses a and b, relative to one maximum, whose means differ by d: the second moment about the common mean is the
// sum of those about their own means and this number times d d'.
MIXSOLVE_DEVICE double mass_between(double a, double b) { return a * b / (a + b); }

template <class Score, class Stored, Kind kKind>
struct LongSample {
    static constexpr bool kPlain = kKind == Kind::kPlain;
    static constexpr int kUnrolled =
        kPlain && sizeof(Score) == 4 ? 4 : 1;  // loops over rows, for which there are registers

    Tile<Score, Stored>& tile;
    const PassArguments& asked;
    int64_t position;
    double* records;  // of all queries

    MIXSOLVE_DEVICE int64_t sample() const { return !kPlain && asked.samples ? asked.samples[position] : position; }

    // Leaves in `records` what is known of the rows [first, last) of the sample; ends with a barrier.
    MIXSOLVE_DEVICE void read(int64_t first, int64_t last) {
        for (int i = thread(); i < asked.n_queries * asked.record_numbers; i += kThreads) records[i] = 0;
        TileReader<Score, Stored, kPlain> reader{tile, asked};
#pragma unroll 1
        for (bool opening = true; first < last; first += asked.tile.rows, opening = false) {
            const int n_rows = static_cast<int>(last - first < asked.tile.rows ? last - first : asked.tile.rows);
            const char* const here = asked.table.sample_data(sample()) + first * static_cast<int64_t>(sizeof(Stored));
            if (reader.loads_twice(n_rows)) {
                reader.load_twice(here, n_rows);
            } else {
                reader.load(n_rows, tile.lie_from(here), [=](int row) { return here + row * sizeof(Stored); });
            }
#pragma unroll 1
            for (int64_t q = 0; q < (kPlain ? 1 : asked.n_queries); ++q) {
                const Query query{asked, q};
                tile.template score<kKind>(q, n_rows);
                if (kKind == Kind::kAny && kHasGradient<Stored> && asked.kept_scores) keep_scores(first, n_rows);
                add_tile(query, first, n_rows, opening);
                __syncthreads();
            }
        }
    }

  private:
    // Until it is known what they amount to in the whole sample.
    MIXSOLVE_DEVICE void keep_scores(int64_t first_row, int n_rows) const {
        double* const to = asked.kept_scores + asked.table.first_row(sample()) + first_row;
        for (int row = thread(); row < n_rows; row += kThreads) to[row] = static_cast<double>(tile.scores[row]);
    }

    MIXSOLVE_DEVICE void add_tile(const Query& query, int64_t first_row, int n_rows, bool opening) {
        double* record = query.record_in(records);
        const Best<Score> best = kPlain ? Best<Score>{highest_of_tile(n_rows), 0} : best_of_tile(n_rows);
        const bool beaten = opening || (!kPlain && static_cast<double>(best.score) > record[kRecordScore]);
        double shrink, grow;
        if (!kPlain && query.worst_case()) {
            for (int row = thread(); row < n_rows; row += kThreads) tile.chance[row] = row == best.row ? 1 : 0;
            shrink = beaten ? 0 : 1;
            grow = beaten ? 1 : 0;
            __syncthreads();
        } else {
            merge_tile(query, record, first_row, n_rows, best.score, opening);
            shrink = tile.numbers[4 * kWarps];
            grow = tile.numbers[4 * kWarps + 1];
        }
        if (!kPlain && thread() == 0 && (beaten || best.score != best.score)) {
            record[kRecordScore] = static_cast<double>(best.score);
            record[kRecordAttack] = static_cast<double>(first_row + best.row);
        }
        double* moment = record + kRecordHead;
        if (kKind == Kind::kHessian && query.wants_hessian())
            add_hessian(n_rows, shrink, grow, moment, query.second_in(record));
        Moments<Score, Stored>{tile}.add(n_rows, shrink, grow, moment);
        if (!kPlain && asked.best_row && beaten) keep_row(best.row, moment + asked.table.n_classifiers);
    }

    // By the threads that `settle` hands it out by.
    MIXSOLVE_DEVICE void keep_row(int row, double* to) const {
        const int bits = asked.tile.moment_bits;
        if ((thread() & ((1 << bits) - 1)) != 0) return;
        for (int k = thread() >> bits; k < tile.n_classifiers(); k += kThreads >> bits) {
            to[k] = static_cast<double>(tile.loss(k, row));
        }
    }

    // Before the tile enters the moment.
    MIXSOLVE_DEVICE void add_hessian(int n_rows, double shrink, double grow, const double* moment, double* second) {
        const double between = tile.numbers[4 * kWarps + 2], per_mass = tile.numbers[4 * kWarps + 3];
        double* const shift = tile.shift;
        SecondMoments<Score, Stored> moments{tile};
        moments.deviate(
            1, asked.tile.moment_bits, [=](int s) { return s * n_rows; },
            [=](int, int k, double mean) { shift[k] = moment[k] * per_mass - mean; });
        __syncthreads();
        moments.add_products(
            n_rows, tile.chance, shrink, grow, [=](int k, int l) { return between * shift[k] * shift[l]; }, second);
    }

    // Few rows are the first warp's alone: what is said to be known to all threads is known to those of it then.
    MIXSOLVE_DEVICE static bool is_of_one_warp(int n_rows) { return kPlain && n_rows <= 8 * kWarpLanes; }
    MIXSOLVE_DEVICE static int sharing(int n_rows) { return is_of_one_warp(n_rows) ? kWarpLanes : kThreads; }
    MIXSOLVE_DEVICE static int own_first(int n_rows) { return thread() < sharing(n_rows) ? thread() : n_rows; }

    // Known to all threads. A score that is NaN is passed over, and makes the mass so.
    MIXSOLVE_DEVICE Score highest_of_tile(int n_rows) {
        Score highest = lowest<Score>();
#pragma unroll(kUnrolled)
        for (int row = own_first(n_rows); row < n_rows; row += sharing(n_rows))
            highest = higher(highest, tile.scores[row]);
        if (tile.warp < busy_warps(n_rows)) highest = highest_over(highest, kWarpBits);
        if (is_of_one_warp(n_rows)) return highest;
        Score* const told = told_by_warps(0);
        if (thread() % kWarpLanes == 0) told[tile.warp] = highest;
        __syncthreads();
        for (int warp = 0; warp < busy_warps(n_rows); ++warp) {
            highest = higher(highest, told[warp]);
        }
        return highest;
    }

    // Known to all threads.
    MIXSOLVE_DEVICE Best<Score> best_of_tile(int n_rows) {
        Best<Score> best{lowest<Score>(), n_rows};
        for (int row = thread(); row < n_rows; row += kThreads) best = better(best, {tile.scores[row], row});
        if (tile.warp < busy_warps(n_rows)) best = best_over_warp(best);
        if (thread() % kWarpLanes == 0) {
            tile.numbers[tile.warp] = static_cast<double>(best.score);
            tile.rows[tile.warp] = best.row;
        }
        __syncthreads();
        for (int warp = 0; warp < busy_warps(n_rows); ++warp) {
            best = better(best, {static_cast<Score>(tile.numbers[warp]), tile.rows[warp]});
        }
        return best;
    }

    // Fills `chance` with u exp((score - max) / t), merges the tile's state into the record's, and leaves in
    // `numbers` by what the moment so far and the one of this tile are multiplied. Ends with a barrier.
    MIXSOLVE_DEVICE void merge_tile(const Query& query, double* record, int64_t first_row, int n_rows, Score largest,
                                    bool opening) {
        OnlineLse<Score> here = soften(query, first_row, n_rows, largest);
        const int64_t first_prior = asked.table.first_row(sample()) + first_row;
        if (!kPlain && Rescue<Score>::needed(query, here.mass)) {
            const Rescue<Score> rescued(query, sample(), first_prior, tile.scores, tile.chance, n_rows, thread(),
                                        kThreads);
            here.max = rescued.max;
            here.mass = rescued.mass;
            here.excess = rescued.mass - here.total;
        }
        if (thread() == 0) {
            const OnlineLse<double> added{static_cast<double>(here.max), static_cast<double>(here.mass),
                                          static_cast<double>(here.excess), static_cast<double>(here.total)};
            OnlineLse<double> state = opening ? added : state_in(record);
            const double earlier = state.mass;
            MergeFactors<double> factors{0, 1};
            if (!opening) factors = merge(state, added, query.inverse_temperature(sample()));
            keep_state(state, record);
            double* told = tile.numbers + 4 * kWarps;
            told[0] = factors.first;
            told[1] = factors.second;
            if constexpr (kKind == Kind::kHessian) {
                told[2] = opening ? 0 : mass_between(earlier * factors.first, added.mass * factors.second);
                told[3] = 1 / earlier;
            }
        }
        __syncthreads();
    }

    MIXSOLVE_DEVICE static Score prior(const Query& query, int64_t row) {
        return kPlain ? Score(1) : static_cast<Score>(query.prior(row));
    }

    // The state of the tile's rows, known to all threads.
    MIXSOLVE_DEVICE OnlineLse<Score> soften(const Query& query, int64_t first_row, int n_rows, Score largest) {
        const Score per_unit = static_cast<Score>(query.inverse_temperature(sample()) * exponent_unit<Score>());
        const int64_t first_prior = asked.table.first_row(sample()) + first_row;
        Score mass = 0, total = 0;
#pragma unroll(kUnrolled)
        for (int row = own_first(n_rows); row < n_rows; row += sharing(n_rows)) {
            const Score u = prior(query, first_prior + row);
            tile.chance[row] = u * exponential(tile.scores[row] - largest, per_unit);
            mass += tile.chance[row];
            total += u;
        }
        OnlineLse<Score> state{largest, sum_over_block(mass, 1, n_rows), 0, static_cast<Score>(n_rows)};
        if (!kPlain && asked.table.prior) state.total = sum_over_block(total, 3, n_rows);
        // Elsewhere the difference loses nothing.
        state.excess = state.mass - state.total;
        if (!any_in_warp(state.mass > static_cast<Score>(kHighTemperatureShare) * state.total)) return state;
        Score excess = 0;
#pragma unroll(kUnrolled)
        for (int row = own_first(n_rows); row < n_rows; row += sharing(n_rows)) {
            const Score u = prior(query, first_prior + row);
            excess += u * exponential_minus_one(tile.scores[row] - largest, per_unit);
        }
        state.excess = sum_over_block(excess, 2, n_rows);
        return state;
    }

    MIXSOLVE_DEVICE Score* told_by_warps(int which) const {
        return reinterpret_cast<Score*>(tile.numbers + which * kWarps);
    }
    MIXSOLVE_DEVICE static int busy_warps(int n_rows) {
        if (is_of_one_warp(n_rows)) return 1;
        return n_rows < kThreads ? (n_rows + kWarpLanes - 1) / kWarpLanes : kWarps;
    }

    // Known to all threads. `which` of the numbers of warps it goes through.
    MIXSOLVE_DEVICE Score sum_over_block(Score x, int which, int n_rows) {
        Score* const told = told_by_warps(which);
        if (tile.warp < busy_warps(n_rows)) x = sum_over(x, kWarpBits);
        if (is_of_one_warp(n_rows)) return x;
        if (thread() % kWarpLanes == 0) told[tile.warp] = x;
        __syncthreads();
        Score sum = 0;
        for (int warp = 0; warp < busy_warps(n_rows); ++warp) sum += told[warp];
        return sum;
    }
};

}  // namespace cuda
}  // namespace mixsolve
