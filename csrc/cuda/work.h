// What the kernels do. The pass reads the table, one block of threads to a chunk, and leaves partial sums; samples that
// several blocks share are settled next; the partial sums are added up last. Nothing is added atomically and the order
// of every sum is fixed by the table's shape.
#pragma once

#include "long_samples.h"
#include "short_samples.h"

namespace mixsolve {
namespace cuda {

template <class Score, class Stored, bool kHessian>
struct Work {
    const PassArguments& asked;
    Tile<Score, Stored>& tile;
    double* sums;     // (K, 1 + L) of this block
    double* records;  // (K, record) of a long sample

    MIXSOLVE_DEVICE void whole_samples(int64_t begin, int64_t end) {
#pragma unroll 1
        for (int64_t position = begin; position < end;) {
            const int64_t sample = asked.samples ? asked.samples[position] : position;
            if (asked.table.rows(sample) > asked.tile.rows) {
                LongSample<Score, Stored, kHessian> all{tile, asked, position, sample, records};
                all.read(0, asked.table.rows(sample));
#pragma unroll 1
                for (int64_t q = 0; q < asked.n_queries; ++q) {
                    const Query query{asked, q};
                    settle(query, position, query.record_in(records), asked.tile.moment_lanes, sums);
                    if (kHessian) settle_hessian(query, position, query.record_in(records), sums);
                }
                __syncthreads();
                ++position;
            } else {
                const int count = samples_that_fit(position, end);
                ShortSamples<Score, Stored, kHessian> samples{tile, asked, position, count, 0};
                samples.n_rows = samples.start(count);
                samples.answer(sums);
                position += count;
            }
        }
    }

  private:
    MIXSOLVE_DEVICE int samples_that_fit(int64_t position, int64_t end) const {
        const int64_t left = end - position;
        if (!asked.starts) {
            const int64_t fit = asked.tile.rows / asked.table.n_attacks;
            return static_cast<int>(fit < left ? fit : left);
        }
        int low = 1, high = static_cast<int>(left < asked.tile.rows ? left : asked.tile.rows);
        while (low < high) {
            const int middle = (low + high + 1) / 2;
            if (asked.starts[position + middle] - asked.starts[position] <= asked.tile.rows) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return low;
    }
};

template <class Score, class Stored, bool kHessian>
MIXSOLVE_DEVICE void pass(const PassArguments& asked) {
    const Chunk chunk = asked.chunks[block()];
    const bool piece = chunk.last_row > 0;
    const int64_t n_sums = asked.n_sums;
    Tile<Score, Stored> tile(asked);
    double* const kept = piece ? nullptr : asked.sums + block() * n_sums;
    double* const record = asked.records ? asked.records + block() * asked.n_queries * asked.record_numbers : nullptr;
    Work<Score, Stored, kHessian> work{asked, tile, tile.sums ? tile.sums : kept,
                                       tile.sums ? tile.sums + n_sums : record};
    if (piece) {
        work.records = record;
        const int64_t sample = asked.samples ? asked.samples[chunk.begin] : chunk.begin;
        LongSample<Score, Stored, kHessian> some{tile, asked, chunk.begin, sample, record};
        some.read(chunk.first_row, chunk.last_row);
        return;
    }
    for (int64_t i = thread(); i < n_sums; i += kThreads) work.sums[i] = 0;
    work.whole_samples(chunk.begin, chunk.end);
    if (work.sums == kept) return;
    for (int64_t i = thread(); i < n_sums; i += kThreads) kept[i] = work.sums[i];
}

// Adds the second moments of `next` to those of `first`, whose moment is still without that of `next`.
MIXSOLVE_DEVICE void merge_second(const Query& query, const MergeFactors<double>& factors, double earlier,
                                  double* first, double* next) {
    const int64_t L = query.asked.table.n_classifiers;
    const double added = next[kRecordMass], between = mass_between(earlier * factors.first, added * factors.second);
    double* second = query.second_in(first);
    const double* other = query.second_in(next);
    const auto apart = [&](int64_t k) { return first[kRecordHead + k] / earlier - next[kRecordHead + k] / added; };
    for (int64_t e = thread(); e < L * (L + 1) / 2; e += kThreads) {
        const int64_t k = triangle_row(e), l = e - k * (k + 1) / 2;
        second[e] = second[e] * factors.first + other[e] * factors.second + between * apart(k) * apart(l);
    }
    __syncthreads();
}

// Merges the records of a sample's pieces, in their order, into the first one.
MIXSOLVE_DEVICE void merge_pieces(const Query& query, const SplitSample& split) {
    const PassArguments& asked = query.asked;
    const int64_t L = asked.table.n_classifiers, numbers = asked.n_queries * asked.record_numbers;
    double* const first = query.record_in(asked.records + split.first_chunk * numbers);
    const double inverse = query.inverse_temperature(query.sample(split.position));
    const bool worst_case = query.worst_case();
    OnlineLse<double> state = state_in(first);
    double score = first[kRecordScore], attack = first[kRecordAttack];
    for (int64_t piece = 1; piece < split.n_chunks; ++piece) {
        double* const next = first + piece * numbers;
        const bool beaten = next[kRecordScore] > score || next[kRecordScore] != next[kRecordScore];
        MergeFactors<double> factors{beaten ? 0.0 : 1.0, beaten ? 1.0 : 0.0};
        const double earlier = state.mass;
        if (!worst_case) factors = merge(state, state_in(next), inverse);
        if (query.wants_hessian()) merge_second(query, factors, earlier, first, next);
        score = beaten ? next[kRecordScore] : score;
        attack = beaten ? next[kRecordAttack] : attack;
        for (int64_t k = kRecordHead + thread(); k < kRecordHead + L; k += kThreads) {
            first[k] = first[k] * factors.first + next[k] * factors.second;
            if (asked.best_row && beaten) first[k + L] = next[k + L];
        }
        if (query.wants_hessian()) __syncthreads();
    }
    __syncthreads();  // all have read the first record's head
    if (thread() == 0) {
        keep_state(state, first);
        first[kRecordScore] = score;
        first[kRecordAttack] = attack;
    }
    __syncthreads();
}

MIXSOLVE_DEVICE void settle_split(const PassArguments& asked) {
    const SplitSample split = asked.splits[block()];
    double* const sums = asked.sums + (asked.n_whole + block()) * asked.n_sums;
    for (int64_t i = thread(); i < asked.n_sums; i += kThreads) sums[i] = 0;
#pragma unroll 1
    for (int64_t q = 0; q < asked.n_queries; ++q) {
        const Query query{asked, q};
        merge_pieces(query, split);
        double* records = asked.records + split.first_chunk * asked.n_queries * asked.record_numbers;
        settle(query, split.position, query.record_in(records), 1, sums);
        settle_hessian(query, split.position, query.record_in(records), sums);
    }
}

// Some columns side by side, the rows shared among the other threads; each adds up its own rows in order.
MIXSOLVE_DEVICE void reduce(const ReduceArguments& asked) {
    double* const parts = reinterpret_cast<double*>(shared_memory());
    const int lanes = asked.column_lanes, groups = kThreads / lanes;
    const int64_t column = block() * lanes + thread() % lanes;
    double sum = 0;
    if (column < asked.n_columns) {
#pragma unroll 8
        for (int64_t row = thread() / lanes; row < asked.n_rows; row += groups) {
            sum += asked.sums[row * asked.n_columns + column];
        }
    }
    parts[thread()] = sum;
    __syncthreads();
    if (thread() >= lanes || column >= asked.n_columns) return;
    for (int group = 1; group < groups; ++group) sum += parts[group * lanes + thread()];
    asked.out[column] = sum;
}

}  // namespace cuda
}  // namespace mixsolve
