// The derivative of a value by the losses: ranges of samples are handed to threads, each is read and written once.
#include "loss_gradient.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "../parallel.h"
#include "dispatch.h"

namespace mixsolve {
namespace {

constexpr int64_t kRangeRows = 4096;

// Samples that follow each other in memory, few enough for a core's caches; a long sample is a range of its own.
std::vector<int64_t> cut(const LossTable& table) {
    const bool contiguous = table.row_offsets || table.stride_sample == table.n_attacks * item_size(table.storage);
    std::vector<int64_t> starts{0};
    for (int64_t sample = 1; sample < table.n_samples; ++sample) {
        const int64_t rows = table.first_row(sample) + table.rows(sample) - table.first_row(starts.back());
        if (!contiguous || rows > kRangeRows) starts.push_back(sample);
    }
    starts.push_back(table.n_samples);
    return starts;
}

template <class Score>
std::vector<char> convert_weights(const LossTable& table, const double* weights) {
    std::vector<char> memory(static_cast<size_t>(table.n_classifiers) * sizeof(Score));
    auto* to = reinterpret_cast<Score*>(memory.data());
    for (int64_t k = 0; k < table.n_classifiers; ++k) to[k] = static_cast<Score>(weights[k]);
    return memory;
}

}  // namespace

bool loss_gradient(const LossTable& table, const LossGradientRequest& request, char* gradient) {
    const LossGradientKernel kernel = cpu_loss_gradient_kernel(table.storage, request.float64_scores);
    const std::vector<int64_t> starts = cut(table);
    const std::vector<char> weights = request.float64_scores ? convert_weights<double>(table, request.weights)
                                                             : convert_weights<float>(table, request.weights);
    const int64_t n_rows = table.row_offsets ? table.row_offsets[table.n_samples] : table.n_samples * table.n_attacks;
    const int64_t size = item_size(table.storage), n_ranges = static_cast<int64_t>(starts.size()) - 1;
    std::vector<std::vector<char>> scratch(static_cast<size_t>(request.threads));
    std::atomic<bool> finite{true};

    TaskRunner runner(request.threads, request.interrupted);
    runner.run(n_ranges, n_rows * table.n_classifiers < 1 << 16, [&](int64_t number, int worker) {
        const int64_t first = starts[number], last = starts[number + 1], first_row = table.first_row(first);
        const int64_t rows = table.first_row(last - 1) + table.rows(last - 1) - first_row;
        const size_t bytes = static_cast<size_t>(rows + kScratchRows) * sizeof(double);
        std::vector<char>& memory = scratch[static_cast<size_t>(worker)];
        if (memory.size() < 2 * bytes) memory.resize(2 * bytes);
        const SampleRange range{
            first,        last, rows, memory.data(), memory.data() + bytes, weights.data(), gradient + first_row * size,
            n_rows * size};
        if (!kernel(table, request, range)) finite = false;
    });
    if (runner.stopped()) throw PassInterrupted();
    return finite;
}

}  // namespace mixsolve
