// What the kernels do. The pass reads the table, one block of threads to a chunk, and leaves partial sums; samples that
// several blocks share are settled next; the partial sums are added up last. Nothing is added atomically and the order
// of every sum is fixed by the table's shape.
#pragma once

#include "long_samples.h"
#include "short_samples.h"

namespace mixsolve {
namespace cuda {

template <class Score, class Stored, Kind kKind>
struct Work {
    static constexpr bool kPlain = kKind == Kind::kPlain;

    const PassArguments& asked;
    Tile<Score, Stored>& tile;

    // Found anew where they are needed: registers are scarce in between.
    MIXSOLVE_DEVICE const Chunk& chunk() const { return asked.chunks[block()]; }
    MIXSOLVE_DEVICE int n_samples() const { return static_cast<int>(agreed(chunk().end) - agreed(chunk().begin)); }
    MIXSOLVE_DEVICE bool is_piece() const { return agreed(chunk().last_row) > 0; }
    // (K, 1 + L) of this block, unless a piece.
    MIXSOLVE_DEVICE double* sums_kept() const { return asked.sums + block() * asked.n_sums; }
    MIXSOLVE_DEVICE double* sums() const { return tile.sums() ? tile.sums() : sums_kept(); }
    // (K, record) of a long sample.
    MIXSOLVE_DEVICE double* records() const {
        if (tile.sums() && !is_piece()) return tile.sums() + asked.n_sums;
        return asked.records + block() * asked.n_queries * asked.record_numbers;
    }

    MIXSOLVE_DEVICE void samples() {
#pragma unroll 1
        for (int done = 0; done < n_samples();) {
            const int64_t position = agreed(chunk().begin) + done;
            const int64_t sample = !kPlain && asked.samples ? asked.samples[position] : position;
            const int64_t rows = kPlain ? asked.table.n_attacks : asked.table.rows(sample);
            if (is_piece() || rows > asked.tile.rows) {
                const bool piece = is_piece();
                LongSample<Score, Stored, kKind> all{tile, asked, position, records()};
                all.read(piece ? agreed(chunk().first_row) : 0, piece ? agreed(chunk().last_row) : rows);
                if (piece) return;
                settle_all(position);
                ++done;
            } else {
                const int count = samples_that_fit(position, n_samples() - done);
                ShortSamples<Score, Stored, kKind> some{tile, asked, position, count, 0};
                some.n_rows = some.start(count);
                some.answer(sums());
                done += count;
            }
        }
    }

  private:
    MIXSOLVE_DEVICE void settle_all(int64_t position) {
#pragma unroll 1
        for (int64_t q = 0; q < (kPlain ? 1 : asked.n_queries); ++q) {
            const Query query{asked, q};
            settle(query, position, query.record_in(records()), asked.tile.moment_bits, sums());
            if (kKind == Kind::kHessian) settle_hessian(query, position, query.record_in(records()), sums());
        }
        __syncthreads();
    }
    MIXSOLVE_DEVICE int samples_that_fit(int64_t position, int left) const {
        if (kPlain || !asked.starts) return asked.tile.samples < left ? asked.tile.samples : left;
        int low = 1, high = left < asked.tile.rows ? left : asked.tile.rows;
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

template <class Score, class Stored, Kind kKind>
MIXSOLVE_DEVICE void pass(const PassArguments& asked) {
    Tile<Score, Stored> tile(asked);
    Work<Score, Stored, kKind> work{asked, tile};
    const bool whole = !work.is_piece();
#pragma unroll 1
    for (int64_t i = thread(); i < asked.n_sums && whole; i += kThreads) work.sums()[i] = 0;
    work.samples();
    if (work.is_piece() || !tile.sums()) return;
#pragma unroll 1
    for (int64_t i = thread(); i < asked.n_sums; i += kThreads) work.sums_kept()[i] = tile.sums()[i];
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
        settle(query, split.position, query.record_in(records), 0, sums);
        settle_hessian(query, split.position, query.record_in(records), sums);
    }
}

// The derivative by the losses of one piece of a split sample, whose records have been merged by now.
template <class Score, class Stored>
MIXSOLVE_DEVICE void finish_gradient(const PassArguments& asked) {
    const int64_t number = asked.n_whole + block();
    const Chunk chunk = asked.chunks[number];
    int64_t split = 0;
    while (asked.splits[split].first_chunk + asked.splits[split].n_chunks <= number) ++split;
    const Query query{asked, 0};
    const double* const record = asked.records + asked.splits[split].first_chunk * asked.record_numbers;
    const double inverse = query.inverse_temperature(chunk.begin);
    const Score* const weights = static_cast<const Score*>(asked.weights);
    const double factor = asked.gradient_scale * query.share(chunk.begin) / record[kRecordMass];
    const int64_t first = asked.table.first_row(chunk.begin), n_classifiers = asked.table.n_classifiers;
    auto* const out = reinterpret_cast<Stored*>(asked.loss_gradient) + first;
#pragma unroll 1
    for (int64_t row = chunk.first_row + thread(); row < chunk.last_row; row += kThreads) {
        double chance = 0;
        if (query.worst_case()) {
            if (static_cast<double>(row) == record[kRecordAttack]) {
                chance = asked.gradient_scale * query.share(chunk.begin);
            }
        } else {
            const double behind = (asked.kept_scores[first + row] - record[kRecordMax]) * inverse;
            chance = factor * query.prior(first + row) * exp(behind);
        }
#pragma unroll 1
        for (int64_t k = 0; k < n_classifiers; ++k) {
            narrow_to(out[k * asked.n_rows + row], static_cast<Score>(chance) * weights[k]);
        }
    }
}

// Losses of cited rows, in float64.
template <class Stored>
MIXSOLVE_DEVICE void gather(const GatherArguments& asked) {
    const int64_t place = block() * kThreads + thread(), n_classifiers = asked.table.n_classifiers;
    if (place >= asked.n * n_classifiers) return;
    const int64_t row = place / n_classifiers, k = place - row * n_classifiers;
    const char* from = asked.table.data + asked.offsets[row] + k * asked.table.stride_classifier;
    asked.out[place] = static_cast<double>(widen(*reinterpret_cast<const Stored*>(from)));
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
