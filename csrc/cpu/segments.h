// The work between the two loops over the losses: maxima, probabilities and values of the samples of one block.
#pragma once

#include <cmath>

#include "ahead.h"
#include "kernel.h"
#include "vector_math.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class Score>
MIXSOLVE_INLINE Score* weights(const Workspace& work) {
    return static_cast<Score*>(work.weights);
}
template <class Score>
MIXSOLVE_INLINE Score* buffer(void* rows, int q) {
    return static_cast<Score*>(rows) + q * kBufferRows;
}
// A block of hundreds of queries takes long: it is not only between blocks that an interruption is looked for.
inline bool abandoned(int64_t query, const Workspace& work) {
    return query > 0 && query % kQueriesBetweenPolls == 0 && work.abandoned(work.pass, work.caller);
}

// Whether log(share) is better taken from share - 1, summed up as expm1.
template <class Score>
MIXSOLVE_INLINE bool near_one(Score share) {
    return share > Score(kHighTemperatureShare) && share < Score(2);
}

template <class Score>
struct Segments {
    static constexpr int kWidth = kLanes<Score>;
    static constexpr Score kSmallestMass = sizeof(Score) == 4 ? Score(1e-18) : Score(1e-200);

    const Block& block;
    Workspace& work;
    int64_t query;
    const Score* scores;
    Score* probability;
    NextBlock next;

    Turn turn = {};

    // The same samples for another query.
    Segments of(int64_t other, Score* its_probability = nullptr, Turn its_turn = {}) const {
        return {block, work, other, nullptr, its_probability, {}, its_turn};
    }

    Score* numbers(int which) const { return static_cast<Score*>(work.segment) + which * kBufferRows; }
    Score* maximum() const { return numbers(0); }
    Score* mass() const { return numbers(1); }
    Score* excess() const { return numbers(2); }
    Score* total() const { return numbers(3); }  // filled once per block
    Score* factor() const { return numbers(4); }
    Score* smoothed() const { return numbers(5); }
    Score* weights() const { return numbers(6); }  // s_i N, filled once per block
    const Score* prior() const { return block.prior ? static_cast<const Score*>(work.prior) : nullptr; }
    Score* shift() const { return static_cast<Score*>(work.shift); }
    Score* inverse() const { return static_cast<Score*>(work.inverse); }

    int64_t sample(int segment) const {
        const int64_t position = block.position + segment;
        return work.request->samples ? work.request->samples[position] : position;
    }
    double temperature(int segment) const {
        const PassRequest& request = *work.request;
        return request.temperature_per_sample ? request.temperature[query * work.table->n_samples + sample(segment)]
                                              : request.temperature[query];
    }
    // s_i N: of the order of 1 whatever the number of samples.
    double weight(int segment) const {
        const double* weights = work.table->sample_weight;
        return weights ? weights[sample(segment)] * static_cast<double>(work.table->n_samples) : 1.0;
    }
    bool all_fill_a_vector() const {
        if (work.table->row_offsets == nullptr) return work.table->n_attacks >= kWidth;
        int fewest = kWidth;
        for (int s = 0; s < block.n_segments; ++s) {
            const int rows = block.start[s + 1] - block.start[s];
            fewest = rows < fewest ? rows : fewest;
        }
        return fewest >= kWidth;
    }
    bool short_samples() const { return block.n_rows < 2 * kWidth * block.n_segments; }

    // ---- per segment: the largest score and where it is ----

    void maxima() const {
        for (int s = 0; s < block.n_segments; ++s) {
            maximum()[s] = largest(block.start[s], block.start[s + 1]);
        }
    }
    MIXSOLVE_INLINE Score largest(int begin, int end) const {
        if (end - begin < kWidth) {
            Score max = scores[begin];
            for (int row = begin + 1; row < end; ++row) max = scores[row] > max ? scores[row] : max;
            return max;
        }
        Vec<Score> max = load(scores + end - kWidth);
        for (int row = begin; row < end - kWidth; row += kWidth) max = vmax(max, load(scores + row));
        return lane_max(max);
    }
    void best_attacks() const {
        for (int s = 0; s < block.n_segments; ++s) {
            const Vec<Score> max = splat(maximum()[s]);
            const int end = block.start[s + 1];
            work.best[s] = block.start[s];  // stays when a score is NaN, which the pass reports
            for (int row = block.start[s]; row < end; row += kWidth) {
                unsigned equal = equal_bits(load(scores + row), max);
                if (end - row < kWidth) equal &= (1u << (end - row)) - 1u;
                if (equal != 0) {
                    work.best[s] = row + __builtin_ctz(equal);
                    break;
                }
            }
        }
    }

    // ---- temperature > 0: probabilities times s_i N, and the values ----

    void soften() const {
        if (short_samples()) {
            exponentials_by_row();
        } else {
            exponentials_by_sample();
        }
        settle_masses();
        values_from_masses(0, block.n_segments);
        factors_from_masses();
        scale_probabilities();
        for (int row = block.n_rows; row < block.n_rows + kWidth; ++row) probability[row] = 0;
    }

    // Samples of many attacks: one temperature and one shift per inner loop.
    void exponentials_by_sample() const {
        const Score* u = prior();
        for (int s = 0; s < block.n_segments; ++s) {
            const int begin = block.start[s], end = block.start[s + 1];
            const Score per_unit = static_cast<Score>(kLog2E / temperature(s));
            const Vec<Score> scale = splat(per_unit), smallest = splat(smallest_argument(per_unit)),
                             max = splat(maximum()[s]);
            const Score* from = scores;
            Score* to = probability;
            Vec<Score> total_sum = splat(Score(0));
            int row = begin;
            while (row + kWidth <= end) {
                const int run_end = end - row < kRunVectors * kWidth ? end : row + kRunVectors * kWidth;
                Vec<Score> sum = splat(Score(0));
                for (; row + kWidth <= run_end; row += kWidth) {
                    Vec<Score> p = exp2_scaled<Score>(load(from + row) - max, scale, smallest);
                    if (u) p *= load(u + row);
                    store(to + row, p);
                    sum += p;
                    next.prefetch(row * next.item_size);
                }
                total_sum += sum;
            }
            if (row < end) {
                Vec<Score> p = exp2_scaled<Score>(load(from + row) - max, scale, smallest);
                if (u) p *= load(u + row);
                store(to + row, p);
                total_sum += keep_first<Score>(p, end - row);
            }
            mass()[s] = lane_sum(total_sum);
        }
    }

    // Samples of few attacks: shift and scale are spread over the rows first, then rows are treated alike.
    void exponentials_by_row() const {
        const Score* u = prior();
        const bool varying = work.request->temperature_per_sample;
        for (int s = 0; s < block.n_segments; ++s) spread(shift(), s, maximum()[s]);
        if (varying) {
            for (int s = 0; s < block.n_segments; ++s)
                spread(inverse(), s, static_cast<Score>(kLog2E / temperature(s)));
        }
        const Vec<Score> common = splat(static_cast<Score>(kLog2E / temperature(0)));
        const Vec<Score> common_smallest = splat(smallest_argument(common[0]));
        for (int row = 0; row < block.n_rows; row += kWidth) {
            const Vec<Score> scale = varying ? load(inverse() + row) : common;
            const Vec<Score> smallest =
                varying ? splat(MathConstants<Score>::kSmallestExponent) / scale : common_smallest;
            Vec<Score> p = exp2_scaled<Score>(load(scores + row) - load(shift() + row), scale, smallest);
            if (u) p *= load(u + row);
            store(probability + row, p);
        }
        for (int s = 0; s < block.n_segments; ++s)
            mass()[s] = sum_rows(probability, block.start[s], block.start[s + 1]);
    }
    MIXSOLVE_INLINE void spread(Score* rows, int s, Score x) const {
        for (int row = block.start[s]; row < block.start[s + 1]; row += kWidth) store(rows + row, splat(x));
    }
    MIXSOLVE_INLINE static Score sum_rows(const Score* x, int begin, int end) {
        Score sum = 0;
        if (end - begin < kWidth) {
            for (int row = begin; row < end; ++row) sum += x[row];
            return sum;
        }
        Vec<Score> sums = splat(Score(0)), run = sums;
        int row = begin;
        for (; row + kWidth <= end; row += kWidth) {
            if ((row - begin) % (kRunVectors * kWidth) == 0) {
                sums += run;
                run = splat(Score(0));
            }
            run += load(x + row);
        }
        if (row < end) run += keep_first<Score>(load(x + row), end - row);
        return lane_sum(sums + run);
    }

    void settle_masses() const {
        for (int s = 0; s < block.n_segments; ++s) {
            if (needs_rescue(s)) {
                rescue(s);
            } else if (near_one(mass()[s] / total()[s])) {
                excess()[s] = sum_expm1(s);
            }
        }
    }
    // f_i = max + t log(mass / total), by log1p(excess / total) where that is close to 0, of samples [first, last).
    void values_from_masses(int first, int last) const {
        const Score* t = temperatures(first, last);
        for (int s = first; s < last; s += kWidth) {
            const Vec<Score> all = load(total() + s), share = load(mass() + s) / all;
            const Mask<Score> high = (share > splat(Score(kHighTemperatureShare))) & (share < splat(Score(2)));
            Vec<Score> logarithm = log_positive<Score>(share);
            if (any_of<Score>(high)) {
                const Vec<Score> small = log1p_small<Score>(high ? load(excess() + s) / all : splat(Score(0)));
                logarithm = high ? small : logarithm;
            }
            store(smoothed() + s, fma(logarithm, load(t + s), load(maximum() + s)));
        }
        add_values(smoothed(), first, last);
    }
    void factors_from_masses() const {
        for (int s = 0; s < block.n_segments; s += kWidth) {
            store(factor() + s, load(weights() + s) / load(mass() + s));
        }
    }
    void values_from_maxima(int first, int last) const { add_values(maximum(), first, last); }
    // Adds s_i N f_i to the value of the chunk, in float64 and one by one, so that the sum does not depend on how
    // samples are cut into ranges; hands the f_i out.
    void add_values(const Score* values, int first, int last) const {
        const Score* const w = weights();
        double sum = work.value[query];
        for (int s = first; s < last; ++s) sum += static_cast<double>(values[s]) * static_cast<double>(w[s]);
        work.value[query] = sum;
        if (work.answer->per_sample == nullptr) return;
        double* out = work.answer->per_sample + query * work.request->n_samples + block.position;
        for (int s = first; s < last; ++s) out[s] = static_cast<double>(values[s]);
    }
    // Filled per query only when they vary.
    const Score* temperatures(int first, int last) const {
        Score* t = numbers(7);
        const bool varying = work.request->temperature_per_sample;
        for (int s = first; s < last; s += varying ? 1 : kWidth) {
            if (varying) {
                t[s] = static_cast<Score>(temperature(s));
            } else {
                store(t + s, splat(static_cast<Score>(temperature(0))));
            }
        }
        return t;
    }
    Score sum_expm1(int s) const {
        const int begin = block.start[s], end = block.start[s + 1];
        const Score scale = static_cast<Score>(kLog2E / temperature(s)), max = maximum()[s];
        const Score* u = prior();
        Vec<Score> sum = splat(Score(0)), run = sum;
        for (int row = begin; row < end; row += kWidth) {
            if ((row - begin) % (kRunVectors * kWidth) == 0) {
                sum += run;
                run = splat(Score(0));
            }
            Vec<Score> x = exp2_parts<Score>((load(scores + row) - max) * scale).expm1();
            if (u) x *= load(u + row);
            run += end - row < kWidth ? keep_first<Score>(x, end - row) : x;
        }
        return lane_sum(sum + run);
    }
    // Without a prior the best attack alone has mass 1: less means scores that are not finite, which the pass reports.
    bool needs_rescue(int s) const { return block.prior && mass()[s] < kSmallestMass; }
    // The best attack has a prior so small that the others, far below, may matter: shift by the largest
    // score + t log u instead. Rare, so in plain float64.
    void rescue(int s) const {
        const int begin = block.start[s], end = block.start[s + 1];
        const double t = temperature(s);
        double max = -INFINITY, sum = 0;
        for (int row = begin; row < end; ++row) {
            const double x = static_cast<double>(scores[row]) / t + ::log(exact_prior(row));
            max = x > max ? x : max;
        }
        for (int row = begin; row < end; ++row) {
            const double x = static_cast<double>(scores[row]) / t + ::log(exact_prior(row));
            const double p = ::exp(x - max);
            probability[row] = static_cast<Score>(p);
            sum += p;
        }
        maximum()[s] = static_cast<Score>(t * max);
        mass()[s] = static_cast<Score>(sum);
        excess()[s] = mass()[s] - total()[s];
    }
    // As the table holds it: a tiny one is 0 in float32.
    double exact_prior(int row) const {
        return block.prior_is_double ? reinterpret_cast<const double*>(block.prior)[row]
                                     : static_cast<double>(reinterpret_cast<const float*>(block.prior)[row]);
    }

    void scale_probabilities() const {
        if (block.n_segments == 1) return;  // the moment is scaled instead
        if (short_samples()) {
            for (int s = 0; s < block.n_segments; ++s) spread(shift(), s, factor()[s]);
            for (int row = 0; row < block.n_rows; row += kWidth) {
                store(probability + row, load(probability + row) * load(shift() + row));
            }
            return;
        }
        for (int s = 0; s < block.n_segments; ++s) {
            const int end = block.start[s + 1];
            int row = block.start[s];
            for (; row + kWidth <= end; row += kWidth) store(probability + row, load(probability + row) * factor()[s]);
            for (; row < end; ++row) probability[row] *= factor()[s];
        }
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
