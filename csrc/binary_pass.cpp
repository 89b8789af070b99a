#include "binary_pass.h"

#include <algorithm>
#include <atomic>

#include "parallel.h"
#include "passes.h"

namespace mixsolve {
namespace {

constexpr int64_t kBits = 8, kSubsets = int64_t(1) << kBits;  // classifiers whose sums are looked up together

// For each of several mixtures the weight of every subset of kBits neighbouring classifiers.
class Sums {
  public:
    Sums(int64_t n_classifiers, int64_t n_queries, const double* weights)
        : parts_((n_classifiers + kBits - 1) / kBits), sums_(static_cast<size_t>(n_queries * parts_ * kSubsets), 0.0) {
        for (int64_t q = 0; q < n_queries; ++q) {
            for (int64_t k = 0; k < n_classifiers; ++k) {
                double* const part = &sums_[(q * parts_ + k / kBits) * kSubsets];
                const int64_t bit = int64_t(1) << k % kBits;
                for (int64_t subset = bit; subset < 2 * bit; ++subset) {  // of the classifiers up to this one
                    part[subset] = part[subset - bit] + weights[q * n_classifiers + k];
                }
            }
        }
    }

    // The first of n sets that weighs most.
    std::pair<int64_t, double> heaviest(int64_t query, const uint64_t* sets, int64_t n) const {
        const double* const sums = &sums_[query * parts_ * kSubsets];
        int64_t best = 0;
        double most = weight(sums, sets[0]);
        for (int64_t j = 1; j < n; ++j) {
            const double sum = weight(sums, sets[j]);
            best = sum > most ? j : best;
            most = std::max(most, sum);
        }
        return {best, most};
    }

  private:
    double weight(const double* sums, uint64_t set) const {
        double sum = sums[set % kSubsets];
        for (int64_t part = 1; part < parts_; ++part) sum += sums[part * kSubsets + (set >> part * kBits) % kSubsets];
        return sum;
    }

    int64_t parts_;
    std::vector<double> sums_;  // (queries, parts, subsets)
};

}  // namespace

bool binary_pass(const LossTable& table, const BinaryPassRequest& request, const BinaryPassAnswer& answer) {
    const int64_t n = table.n_classifiers, n_queries = request.n_queries, width = 1 + n;
    const Sums sums(n, n_queries, request.weights);
    const auto chunks = binary_chunks(table);
    std::vector<double> partial(chunks.size() * static_cast<size_t>(n_queries * width), 0.0);
    std::vector<std::vector<uint64_t>> sets(static_cast<size_t>(request.threads));
    std::atomic<bool> odd{false};
    TaskRunner runner(request.threads, request.interrupted);
    runner.run(static_cast<int64_t>(chunks.size()), false, [&](int64_t c, int worker) {
        const auto [begin, end] = chunks[c];
        std::vector<uint64_t>& own = sets[worker];
        own.resize(static_cast<size_t>(rows_between(table, begin, end)));
        if (odd || !pack_samples(table, begin, end, own.data())) {
            odd = true;
            return;
        }
        const uint64_t* of_sample = own.data();
        for (int64_t i = begin; i < end; of_sample += table.rows(i), ++i) {
            for (int64_t q = 0; q < n_queries; ++q) {
                const auto [best, most] = sums.heaviest(q, of_sample, table.rows(i));
                double* const out = &partial[(c * n_queries + q) * width];
                const double share = table.weight(i);
                out[0] += share * most;
                for (int64_t k = 0; k < n; ++k) out[1 + k] += (of_sample[best] >> k & 1) ? share : 0.0;
                if (answer.best_attack) answer.best_attack[q * table.n_samples + i] = best;
            }
        }
    });
    if (runner.stopped()) throw PassInterrupted();
    if (odd) return false;
    for (int64_t q = 0; q < n_queries; ++q) {
        answer.value[q] = 0;
        std::fill_n(answer.gradient + q * n, n, 0.0);
        for (size_t c = 0; c < chunks.size(); ++c) {
            const double* const part = &partial[(static_cast<int64_t>(c) * n_queries + q) * width];
            answer.value[q] += part[0];
            for (int64_t k = 0; k < n; ++k) answer.gradient[q * n + k] += part[1 + k];
        }
    }
    return true;
}

}  // namespace mixsolve
