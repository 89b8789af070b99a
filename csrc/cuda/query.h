// One query as the samples see it, and where its answers go.
#pragma once

#include "arithmetic.h"

namespace mixsolve {
namespace cuda {

struct Query {
    const PassArguments& asked;
    int64_t number;

    MIXSOLVE_DEVICE int64_t sample(int64_t position) const {
        return asked.samples ? asked.samples[position] : position;
    }
    MIXSOLVE_DEVICE double temperature(int64_t sample) const { return asked.temperature[place(sample)]; }
    MIXSOLVE_DEVICE double inverse_temperature(int64_t sample) const {
        return asked.inverse_temperature[place(sample)];
    }
    // A query is at temperature 0 for all samples or for none.
    MIXSOLVE_DEVICE bool worst_case() const { return asked.temperature[place(0)] == 0; }

    // s_i N: of the order of 1 whatever the number of samples.
    MIXSOLVE_DEVICE double share(int64_t sample) const {
        const LossTable& table = asked.table;
        return table.sample_weight ? table.sample_weight[sample] * static_cast<double>(table.n_samples) : 1.0;
    }
    MIXSOLVE_DEVICE double prior(int64_t row) const {
        const LossTable& table = asked.table;
        if (!table.prior) return 1.0;
        return table.prior_is_double ? static_cast<const double*>(table.prior)[row]
                                     : static_cast<double>(static_cast<const float*>(table.prior)[row]);
    }

    // Into a block's sums, and a record's numbers.
    MIXSOLVE_DEVICE double* sums_in(double* sums) const { return sums + number * (1 + asked.table.n_classifiers); }
    MIXSOLVE_DEVICE double* hessian_in(double* sums) const {
        const int64_t L = asked.table.n_classifiers;
        return sums + asked.n_queries * (1 + L) + number * (L * (L + 1) / 2);
    }
    MIXSOLVE_DEVICE bool wants_hessian() const { return number < asked.n_hessians && !worst_case(); }
    // By what the second moments of a sample, with weights s_i N, are multiplied: c / t_i, of the order of 1.
    MIXSOLVE_DEVICE double sharpness(int64_t sample) const {
        return asked.coldest[number] * inverse_temperature(sample);
    }
    MIXSOLVE_DEVICE double* second_in(double* record) const {
        return record + asked.record_numbers - asked.table.n_classifiers * (asked.table.n_classifiers + 1) / 2;
    }
    MIXSOLVE_DEVICE double* record_in(double* records) const { return records + number * asked.record_numbers; }

    MIXSOLVE_DEVICE int64_t answer(int64_t position) const { return number * asked.n_positions + position; }
    MIXSOLVE_DEVICE double* best_row(int64_t position) const {
        return asked.best_row + answer(position) * asked.table.n_classifiers;
    }

  private:
    MIXSOLVE_DEVICE int64_t place(int64_t sample) const {
        return asked.temperature_stride > 0 ? number * asked.temperature_stride + sample : number;
    }
};

// When the best attack's prior is so small that attacks far below it may matter, exponents are shifted by the largest
// score + t log u instead, in float64. Rare, so every thread looks at all rows and writes those that are its own.
template <class Score>
struct Rescue {
    static MIXSOLVE_DEVICE bool needed(const Query& query, Score mass) {
        return query.asked.table.prior && mass < (sizeof(Score) == 4 ? Score(1e-18) : Score(1e-200));
    }

    Score max, mass;

    MIXSOLVE_DEVICE Rescue(const Query& query, int64_t sample, int64_t first_prior, const Score* scores, Score* chance,
                           int n_rows, int lane, int lanes) {
        const double t = query.temperature(sample);
        double highest = lowest<double>(), sum = 0;
        for (int row = 0; row < n_rows; ++row) {
            highest = larger(highest, static_cast<double>(scores[row]) / t + log(query.prior(first_prior + row)));
        }
        for (int row = 0; row < n_rows; ++row) {
            const double level = static_cast<double>(scores[row]) / t + log(query.prior(first_prior + row));
            const double p = exp(level - highest);
            if (row % lanes == lane) chance[row] = static_cast<Score>(p);
            sum += p;
        }
        max = static_cast<Score>(t * highest);
        mass = static_cast<Score>(sum);
    }
};

}  // namespace cuda
}  // namespace mixsolve
