#include "core_rows.h"

#include <algorithm>
#include <cmath>

#include "dense.h"
#include "exact_sum.h"

namespace mixsolve {
namespace {

constexpr double kLeastWeight = 1e-30;  // of a sample, so that no dual underflows

// A power of two of about the size of x, within what its inverse can hold.
double power_of_two(double x) {
    int exponent;
    std::frexp(x, &exponent);
    return std::ldexp(1.0, std::max(-1000, std::min(1000, exponent)));
}

// The distinct rows of a sample, the lowest index of equal ones, in rising order.
void distinct(const CoreProblem& problem, int64_t first, int64_t end, std::vector<int64_t>& kept) {
    const int64_t n = problem.n_classifiers;
    const auto row = [&](int64_t r) { return problem.rows + r * n; };
    kept.clear();
    for (int64_t r = first; r < end; ++r) kept.push_back(r);
    if (kept.size() == 1) return;
    std::sort(kept.begin(), kept.end(), [&](int64_t a, int64_t b) {
        const auto differ = std::mismatch(row(a), row(a) + n, row(b));
        return differ.first == row(a) + n ? a < b : *differ.first < *differ.second;
    });
    const auto equal = [&](int64_t a, int64_t b) { return std::equal(row(a), row(a) + n, row(b)); };
    kept.erase(std::unique(kept.begin(), kept.end(), equal), kept.end());
    std::sort(kept.begin(), kept.end());
}

}  // namespace

CoreRows::CoreRows(const CoreProblem& problem)
    : n_classifiers(problem.n_classifiers),
      stride(padded(problem.n_classifiers)),
      combine(problem.combine),
      single(static_cast<size_t>(problem.n_samples), -1),
      linear(static_cast<size_t>(2 * stride), 0.0) {
    size = 0;
    for (int64_t i = 0; i < problem.n_rows * n_classifiers; ++i) size = std::max(size, std::fabs(problem.rows[i]));
    Message(combine).add(&size, 1).send(1);
    const double scale = size > 0 ? power_of_two(size) : 1.0;
    rows.reserve(static_cast<size_t>(problem.n_rows * stride));
    origin.reserve(static_cast<size_t>(problem.n_rows));
    start.push_back(0);
    std::vector<int64_t> kept;
    for (int64_t i = 0; i < problem.n_samples; ++i) {
        if (problem.share[i] > 0) {
            distinct(problem, problem.offsets[i], problem.offsets[i + 1], kept);
            origin.insert(origin.end(), kept.begin(), kept.end());
            add_sample(problem, i, 1 / scale);
        } else {
            single[static_cast<size_t>(i)] = problem.offsets[i];
        }
    }
    n_samples = static_cast<int64_t>(sample.size());
    n_rows = start.back();
    for (int64_t k = 0; k < n_classifiers; ++k) linear[k] += linear[stride + k];
    linear.resize(static_cast<size_t>(stride));
    all_rows = static_cast<double>(n_rows);
    double objective = 0;
    for (double w : weight) objective += w;
    Message(combine).add(linear.data(), n_classifiers).add(&all_rows, 1).add(&objective, 1).send();
    const auto [low, high] = std::minmax_element(linear.begin(), linear.begin() + n_classifiers);
    const double least = *low;
    objective += *high - least;
    const double divisor = objective > 0 ? power_of_two(objective) : 1.0;
    for (int64_t k = 0; k < n_classifiers; ++k) linear[k] = (linear[k] - least) / divisor;
    for (double& w : weight) w = std::max(w / divisor, kLeastWeight);
    unit = scale * divisor;
}

void CoreRows::add_sample(const CoreProblem& problem, int64_t i, double scale) {
    const int64_t first = start.back(), count = static_cast<int64_t>(origin.size()) - first;
    const double* base = problem.rows + origin[first] * n_classifiers;
    for (int64_t k = 1; k < n_classifiers; ++k) {
        add_exactly(linear[k], linear[stride + k], problem.share[i] * (base[k] * scale - base[0] * scale));
    }
    if (count == 1) {
        single[static_cast<size_t>(i)] = origin.back();
        origin.pop_back();
        return;
    }
    rows.resize(static_cast<size_t>((first + count) * stride), 0.0);
    double* out = rows.data() + first * stride;
    double range = 0;
    for (int64_t j = 1; j < count; ++j) {
        const double* row = problem.rows + origin[first + j] * n_classifiers;
        for (int64_t k = 0; k < n_classifiers; ++k) {
            out[j * stride + k] = row[k] * scale - base[k] * scale;
            range = std::max(range, std::fabs(out[j * stride + k]));
        }
    }
    const double own = range > 0 ? power_of_two(range) : 1.0;
    for (int64_t x = 0; x < count * stride; ++x) out[x] /= own;
    start.push_back(first + count);
    sample.push_back(i);
    weight.push_back(problem.share[i] * own);
}

}  // namespace mixsolve
