#include "core_answer.h"

#include <algorithm>
#include <cmath>

#include "exact_sum.h"

namespace mixsolve {
namespace {

// Duals below this part of their sample's share are taken for zero: the largest that leaves the gap as asked for.
constexpr double kThresholds[] = {1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 0};

double sum_of(const double* x, int64_t n, double sum) {
    double rest = 0;
    for (int64_t k = 0; k < n; ++k) add_exactly(sum, rest, x[k]);
    return sum + rest;
}

}  // namespace

void Proof::write(const double* weights, const double* duals, CoreAnswer& answer) const {
    const int64_t n = problem_.n_classifiers;
    const double total = sum_of(weights, n, 0);
    for (int64_t k = 0; k < n; ++k) answer.weights[k] = weights[k] / total;
    *std::max_element(answer.weights, answer.weights + n) -= sum_of(answer.weights, n, -1);
    answer.value = value(answer.weights);
    for (const double threshold : kThresholds) {
        repair(duals, threshold, answer.duals);
        answer.lower_bound = lower_bound(answer.duals);
        if (answer.value - answer.lower_bound <= problem_.gap) break;
    }
    const bool met = answer.value - answer.lower_bound <= problem_.gap;
    if (met && answer.status != CoreStatus::kCancelled) answer.status = CoreStatus::kOptimal;
    if (!met && answer.status == CoreStatus::kOptimal) answer.status = CoreStatus::kStalled;
}

void Proof::without_choice(CoreAnswer& answer) const {
    const double* linear = core_.linear.data();
    std::fill_n(answer.weights, problem_.n_classifiers, 0.0);
    answer.weights[std::min_element(linear, linear + problem_.n_classifiers) - linear] = 1;
    repair(nullptr, 0, answer.duals);
    answer.value = value(answer.weights);
    answer.lower_bound = lower_bound(answer.duals);
    answer.iterations = 0;
    answer.status = answer.value - answer.lower_bound <= problem_.gap ? CoreStatus::kOptimal : CoreStatus::kStalled;
}

double Proof::value(const double* weights) const {
    const int64_t n = problem_.n_classifiers;
    double sum = 0, rest = 0;
    for (int64_t i = 0; i < problem_.n_samples; ++i) {
        if (!(problem_.share[i] > 0)) continue;
        double worst = -HUGE_VAL;
        for (int64_t r = problem_.offsets[i]; r < problem_.offsets[i + 1]; ++r) {
            double score = 0;
            for (int64_t k = 0; k < n; ++k) score += weights[k] * problem_.rows[r * n + k];
            worst = std::max(worst, score);
        }
        add_exactly(sum, rest, problem_.share[i] * worst);
    }
    sum += rest;
    Message(problem_.combine).add(&sum, 1).send();
    return sum;
}

double Proof::lower_bound(const double* duals) const {
    const int64_t n = problem_.n_classifiers;
    std::vector<double> sum(static_cast<size_t>(n), 0.0), rest(static_cast<size_t>(n), 0.0);
    for (int64_t r = 0; r < problem_.n_rows; ++r) {
        if (duals[r] == 0) continue;
        for (int64_t k = 0; k < n; ++k) add_exactly(sum[k], rest[k], duals[r] * problem_.rows[r * n + k]);
    }
    for (int64_t k = 0; k < n; ++k) sum[k] += rest[k];
    Message(problem_.combine).add(sum.data(), n).send();
    return *std::min_element(sum.begin(), sum.end());
}

void Proof::repair(const double* duals, double threshold, double* out) const {
    std::fill_n(out, problem_.n_rows, 0.0);
    for (int64_t i = 0; i < problem_.n_samples; ++i) {
        if (core_.single[i] >= 0) out[core_.single[i]] = problem_.share[i];
    }
    for (int64_t i = 0; i < core_.n_samples; ++i) {
        const int64_t begin = core_.start[i], end = core_.start[i + 1];
        const double least = threshold * core_.weight[i], share = problem_.share[core_.sample[i]];
        double total = 0;
        for (int64_t j = begin; j < end; ++j) total += duals[j] >= least ? duals[j] : 0;
        for (int64_t j = begin; j < end; ++j) {
            if (duals[j] >= least) out[core_.origin[j]] = duals[j] / total * share;
        }
    }
}

}  // namespace mixsolve
