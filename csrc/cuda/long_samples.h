// Samples longer than a tile: tile by tile, with a running state that is merged as on the CPU. A sample that several
// blocks share leaves one record per piece, and the records are merged in order afterwards.
#pragma once

#include "../online_lse.h"
#include "query.h"
#include "second_moments.h"
#include "tile.h"

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
// belongs to the same thread as in Tile::add_moments, where `moment_lanes` threads share a classifier.
MIXSOLVE_DEVICE void settle(const Query& query, int64_t position, const double* record, int moment_lanes,
                            double* sums) {
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
    if (thread() % moment_lanes != 0) return;
    for (int64_t k = thread() / moment_lanes; k < n_classifiers; k += kThreads / moment_lanes) {
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

template <class Score, class Stored, bool kHessian>
struct LongSample {
    Tile<Score, Stored>& tile;
    const PassArguments& asked;
    int64_t position;
    int64_t sample;
    double* records;  // of all queries

    // Leaves in `records` what is known of the rows [first, last) of the sample; ends with a barrier.
    MIXSOLVE_DEVICE void read(int64_t first, int64_t last) {
        for (int i = thread(); i < asked.n_queries * asked.record_numbers; i += kThreads) records[i] = 0;
        const char* data = asked.table.sample_data(sample);
#pragma unroll 1
        for (int64_t begin = first; begin < last; begin += asked.tile.rows) {
            const int n_rows = static_cast<int>(last - begin < asked.tile.rows ? last - begin : asked.tile.rows);
            tile.load(n_rows, [=](int row) { return data + (begin + row) * static_cast<int64_t>(sizeof(Stored)); });
#pragma unroll 1
            for (int64_t q = 0; q < asked.n_queries; ++q) {
                const Query query{asked, q};
                tile.score(q, n_rows);
                add_tile(query, begin, n_rows, begin == first);
                __syncthreads();
            }
        }
    }

  private:
    MIXSOLVE_DEVICE void add_tile(const Query& query, int64_t first_row, int n_rows, bool opening) {
        double* record = query.record_in(records);
        const Best<Score> best = best_of_tile(n_rows);
        const bool beaten = opening || static_cast<double>(best.score) > record[kRecordScore];
        double shrink, grow;
        if (query.worst_case()) {
            for (int row = thread(); row < n_rows; row += kThreads) tile.chance[row] = row == best.row ? 1 : 0;
            shrink = beaten ? 0 : 1;
            grow = beaten ? 1 : 0;
            __syncthreads();
        } else {
            merge_tile(query, record, first_row, n_rows, best.score, opening);
            shrink = tile.numbers[4 * kWarps];
            grow = tile.numbers[4 * kWarps + 1];
        }
        if (thread() == 0 && (beaten || best.score != best.score)) {
            record[kRecordScore] = static_cast<double>(best.score);
            record[kRecordAttack] = static_cast<double>(first_row + best.row);
        }
        double* moment = record + kRecordHead;
        if (kHessian && query.wants_hessian()) add_hessian(n_rows, shrink, grow, moment, query.second_in(record));
        tile.add_moments(n_rows, shrink, grow, moment);
        if (!asked.best_row || !beaten || thread() % asked.tile.moment_lanes != 0) return;
        const int step = kThreads / asked.tile.moment_lanes;
        for (int k = thread() / asked.tile.moment_lanes; k < tile.n_classifiers(); k += step) {
            moment[asked.table.n_classifiers + k] = static_cast<double>(tile.loss(k, best.row));
        }
    }

    // Before the tile enters the moment.
    MIXSOLVE_DEVICE void add_hessian(int n_rows, double shrink, double grow, const double* moment, double* second) {
        const double between = tile.numbers[4 * kWarps + 2], per_mass = tile.numbers[4 * kWarps + 3];
        double* const shift = tile.shift;
        SecondMoments<Score, Stored> moments{tile};
        moments.deviate(
            1, asked.tile.moment_lanes, [=](int s) { return s * n_rows; },
            [=](int, int k, double mean) { shift[k] = moment[k] * per_mass - mean; });
        __syncthreads();
        moments.add_products(
            n_rows, tile.chance, shrink, grow, [=](int k, int l) { return between * shift[k] * shift[l]; }, second);
    }

    // Known to all threads.
    MIXSOLVE_DEVICE Best<Score> best_of_tile(int n_rows) {
        Best<Score> best{lowest<Score>(), n_rows};
        for (int row = thread(); row < n_rows; row += kThreads) best = better(best, {tile.scores[row], row});
        best = best_over(best, kWarpLanes);
        if (thread() % kWarpLanes == 0) {
            tile.numbers[thread() / kWarpLanes] = static_cast<double>(best.score);
            tile.rows[thread() / kWarpLanes] = best.row;
        }
        __syncthreads();
        for (int warp = 0; warp < kWarps; ++warp) {
            best = better(best, {static_cast<Score>(tile.numbers[warp]), tile.rows[warp]});
        }
        return best;
    }

    // Fills `chance` with u exp((score - max) / t), merges the tile's state into the record's, and leaves in
    // `numbers` by what the moment so far and the one of this tile are multiplied. Ends with a barrier.
    MIXSOLVE_DEVICE void merge_tile(const Query& query, double* record, int64_t first_row, int n_rows, Score largest,
                                    bool opening) {
        OnlineLse<Score> here = soften(query, first_row, n_rows, largest);
        const int64_t first_prior = asked.table.first_row(sample) + first_row;
        if (Rescue<Score>::needed(query, here.mass)) {
            const Rescue<Score> rescued(query, sample, first_prior, tile.scores, tile.chance, n_rows, thread(),
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
            if (!opening) factors = merge(state, added, query.inverse_temperature(sample));
            keep_state(state, record);
            double* told = tile.numbers + 4 * kWarps;
            told[0] = factors.first;
            told[1] = factors.second;
            told[2] = opening ? 0 : mass_between(earlier * factors.first, added.mass * factors.second);
            told[3] = 1 / earlier;
        }
        __syncthreads();
    }

    // The state of the tile's rows, known to all threads.
    MIXSOLVE_DEVICE OnlineLse<Score> soften(const Query& query, int64_t first_row, int n_rows, Score largest) {
        const Score per_unit = static_cast<Score>(query.inverse_temperature(sample) * exponent_unit<Score>());
        const int64_t first_prior = asked.table.first_row(sample) + first_row;
        Score mass = 0, excess = 0, total = 0;
        for (int row = thread(); row < n_rows; row += kThreads) {
            const Exponential<Score> e = exponential(tile.scores[row] - largest, per_unit);
            const Score u = static_cast<Score>(query.prior(first_prior + row));
            tile.chance[row] = u * e.exp;
            mass += u * e.exp;
            excess += u * e.expm1;
            total += u;
        }
        mass = sum_over(mass, kWarpLanes);
        excess = sum_over(excess, kWarpLanes);
        total = sum_over(total, kWarpLanes);
        if (thread() % kWarpLanes == 0) {
            double* mine = tile.numbers + kWarps + thread() / kWarpLanes;
            mine[0] = static_cast<double>(mass);
            mine[kWarps] = static_cast<double>(excess);
            mine[2 * kWarps] = static_cast<double>(total);
        }
        __syncthreads();
        OnlineLse<Score> state{largest, 0, 0, 0};
        for (int warp = 0; warp < kWarps; ++warp) {
            state.mass += static_cast<Score>(tile.numbers[kWarps + warp]);
            state.excess += static_cast<Score>(tile.numbers[2 * kWarps + warp]);
            state.total += static_cast<Score>(tile.numbers[3 * kWarps + warp]);
        }
        return state;
    }
};

}  // namespace cuda
}  // namespace mixsolve
