// The CPU pass: chunks are handed to threads, each chunk is walked block by block, partial sums are added in order.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "../parallel.h"
#include "dispatch.h"
#include "float_mode.h"
#include "partition.h"
#include "scratch.h"

namespace mixsolve {
namespace {

constexpr size_t kMostTotals = 16 * 64;  // bytes of a vector for each of the few classifiers of the fused loops
constexpr auto kPollInterval = std::chrono::milliseconds(10);

class Pass {
  public:
    Pass(const LossTable& table, const PassRequest& request, PassAnswer& answer)
        : table_(table),
          request_(request),
          answer_(answer),
          kernel_(cpu_kernel(table.storage, request.float64_scores)),
          partition_(table, request, kernel_.has_long_blocks(table, request)),
          entries_(hessian_entries(table.n_classifiers)),
          coldest_(coldest_temperatures()),
          sums_(static_cast<size_t>(request.n_queries * (1 + table.n_classifiers) + request.n_hessians * entries_)),
          partials_(new double[partition_.chunks().size() * sums_]),
          threads_(std::min(request.threads, static_cast<int>(partition_.chunks().size()))),
          shares_(threads_) {}

    void run() {
        const auto work = [this](int worker) { serve(worker); };
        shares_.deal(static_cast<int64_t>(partition_.chunks().size()), threads_);
        next_poll_ = std::chrono::steady_clock::now() + kPollInterval;
        run_on_threads(threads_, work, [this] { poll(); });
        if (stopped_) throw PassInterrupted();
        add_up();
        answer_.finite = finite_ && sums_are_finite();
        answer_.bytes_read = partition_.rows() * table_.row_bytes();
    }

  private:
    void serve(int worker) {
        const IeeeArithmetic mode;
        Workspace work = workspace();
        work.caller = worker == 0;
        kernel_.prepare(work);
        int turn = 0;
        for (int64_t c; (c = shares_.take(worker, turn)) >= 0;) {
            work.value = partials_.get() + static_cast<size_t>(c) * sums_;
            std::fill(work.value, work.value + sums_, 0.0);
            work.gradient = work.value + request_.n_queries;
            work.hessian = work.gradient + request_.n_queries * table_.n_classifiers;
            walk(partition_.chunks()[static_cast<size_t>(c)], worker == 0, work);
            if (stopped_) break;
        }
        if (!work.finite) finite_ = false;
    }

    void walk(const Chunk& chunk, bool caller, Workspace& work) {
        int64_t position = chunk.begin;
        while (position < chunk.end && !stopped_) {
            if (caller) poll();
            bool contiguous;
            const int count = partition_.next_block(position, chunk.end, start_of(work), contiguous);
            if (count == 0) {
                long_sample(position, caller, work);
                ++position;
                continue;
            }
            const int64_t first = partition_.sample(position);
            Block block{table_.sample_data(first),
                        table_.stride_classifier,
                        start_of(work)[count],
                        0,
                        prior_of(table_.first_row(first)),
                        table_.prior_is_double,
                        count,
                        start_of(work),
                        position};
            block.prefetch_bytes = block.n_rows * item_size(table_.storage);
            if (!contiguous) pack(block);
            kernel_.block(block, work);
            position += count;
        }
        kernel_.end_chunk(work);
    }

    void long_sample(int64_t position, bool caller, Workspace& work) {
        const int64_t sample = partition_.sample(position), rows = table_.rows(sample),
                      size = item_size(table_.storage);
        const int64_t step = partition_.piece_rows(rows);
        int32_t start[2] = {0, 0};
        kernel_.begin_sample(work);
        for (int64_t row = 0; row < rows && !stopped_; row += step) {
            if (caller) poll();
            start[1] = static_cast<int32_t>(std::min(step, rows - row));
            const Block block{table_.sample_data(sample) + row * size,
                              table_.stride_classifier,
                              start[1],
                              step * size,
                              prior_of(table_.first_row(sample) + row),
                              table_.prior_is_double,
                              1,
                              start,
                              position};
            kernel_.piece(block, row, work);
        }
        if (!stopped_) kernel_.end_sample(position, work);
    }

    // Copies the samples of a block that are scattered in memory next to each other.
    void pack(Block& block) {
        const int64_t size = item_size(table_.storage), planes = table_.planes();
        const int64_t stride = (block.n_rows + 16) * size;
        const int64_t prior_size = table_.prior_is_double ? 8 : 4;
        std::vector<char>&packed = thread_scratch().packed, &packed_prior = thread_scratch().packed_prior;
        const auto room = static_cast<size_t>(stride * planes),
                   prior_room = static_cast<size_t>(block.n_rows * prior_size);
        if (packed.size() < room) packed.resize(room);
        if (packed_prior.size() < prior_room) packed_prior.resize(prior_room);
        for (int s = 0; s < block.n_segments; ++s) {
            const int64_t sample = partition_.sample(block.position + s);
            const int64_t rows = block.start[s + 1] - block.start[s];
            const char* from = table_.sample_data(sample);
            for (int64_t k = 0; k < planes; ++k) {
                std::memcpy(packed.data() + k * stride + block.start[s] * size, from + k * table_.stride_classifier,
                            static_cast<size_t>(rows * size));
            }
            if (block.prior) {
                std::memcpy(packed_prior.data() + block.start[s] * prior_size, prior_of(table_.first_row(sample)),
                            static_cast<size_t>(rows * prior_size));
            }
        }
        block.data = packed.data();
        block.plane_stride = planes == 1 ? 0 : stride;
        block.prefetch_bytes = 0;
        if (block.prior) block.prior = packed_prior.data();
    }

    const char* prior_of(int64_t row) const {
        if (!table_.prior) return nullptr;
        return static_cast<const char*>(table_.prior) + row * (table_.prior_is_double ? 8 : 4);
    }

    // Called from the caller's thread only: the callback may need the interpreter.
    void poll() {
        const auto now = std::chrono::steady_clock::now();
        if (now < next_poll_) return;
        next_poll_ = now + kPollInterval;
        if (request_.interrupted && request_.interrupted()) stopped_ = true;
    }

    void add_up() {
        std::fill(answer_.value, answer_.value + request_.n_queries, 0.0);
        std::fill(answer_.gradient, answer_.gradient + request_.n_queries * table_.n_classifiers, 0.0);
        const double scale = 1.0 / static_cast<double>(table_.n_samples);
        for (size_t c = 0; c < partition_.chunks().size(); ++c) {
            const double* sums = partials_.get() + c * sums_;
            for (int64_t q = 0; q < request_.n_queries; ++q) answer_.value[q] += sums[q];
            for (int64_t i = 0; i < request_.n_queries * table_.n_classifiers; ++i) {
                answer_.gradient[i] += sums[request_.n_queries + i];
            }
        }
        for (int64_t q = 0; q < request_.n_queries; ++q) answer_.value[q] *= scale;
        for (int64_t i = 0; i < request_.n_queries * table_.n_classifiers; ++i) answer_.gradient[i] *= scale;
        for (int64_t q = 0; q < request_.n_hessians; ++q) add_up_hessian(q, scale / coldest_[q]);
    }

    void add_up_hessian(int64_t query, double scale) {
        const int64_t n = table_.n_classifiers;
        std::vector<double> sum(entries_);
        for (size_t c = 0; c < partition_.chunks().size(); ++c) {
            const double* part = partials_.get() + (c + 1) * sums_ - (request_.n_hessians - query) * entries_;
            for (int64_t entry = 0; entry < entries_; ++entry) sum[entry] += part[entry];
        }
        double* out = answer_.hessian + query * n * n;
        for (int64_t i = 0, entry = 0; i < n; ++i) {
            for (int64_t j = 0; j <= i; ++j, ++entry) out[i * n + j] = out[j * n + i] = sum[entry] * scale;
        }
    }

    // Of each query with a Hessian; 1 at temperature 0, where there is none.
    std::vector<double> coldest_temperatures() const {
        std::vector<double> coldest;
        const int64_t per_query = request_.temperature_per_sample ? table_.n_samples : 1;
        for (int64_t q = 0; q < request_.n_hessians; ++q) {
            const double* t = request_.temperature + q * per_query;
            const double lowest = *std::min_element(t, t + per_query);
            coldest.push_back(lowest > 0 ? lowest : 1);
        }
        return coldest;
    }

    // Finite scores may still add up to more than their type holds.
    bool sums_are_finite() const {
        const auto finite = [](double x) { return std::isfinite(x); };
        return std::all_of(answer_.value, answer_.value + request_.n_queries, finite) &&
               std::all_of(answer_.gradient, answer_.gradient + request_.n_queries * table_.n_classifiers, finite) &&
               std::all_of(answer_.hessian,
                           answer_.hessian + request_.n_hessians * table_.n_classifiers * table_.n_classifiers, finite);
    }

    static int32_t* start_of(Workspace& work) { return work.best + kBufferRows; }

    Workspace workspace() {
        const size_t rows = kBufferRows * sizeof(double), queries = static_cast<size_t>(request_.n_queries);
        const size_t moments = queries * static_cast<size_t>(table_.n_classifiers) * sizeof(double);
        Arena& memory = thread_scratch().arena;
        memory.reset(rows * (2 * kQueryGroup + 3 + kSegmentNumbers) + 2 * kBufferRows * sizeof(int32_t) + 2 * moments +
                     queries * sizeof(PieceState) + queries * kMostTotals + hessian_bytes() + 1024);
        Workspace work{};
        work.table = &table_;
        work.request = &request_;
        work.answer = &answer_;
        work.weights = memory.take(moments);
        work.scores = memory.take(rows * kQueryGroup);
        work.probabilities = memory.take(rows * kQueryGroup);
        work.prior = memory.take(rows);
        work.shift = memory.take(rows);
        work.inverse = memory.take(rows);
        work.segment = memory.take(rows * kSegmentNumbers);
        work.best = static_cast<int32_t*>(memory.take(2 * kBufferRows * sizeof(int32_t)));
        work.pieces = static_cast<PieceState*>(memory.take(queries * sizeof(PieceState)));
        work.totals = memory.take(queries * kMostTotals);
        work.piece_moment = static_cast<double*>(memory.take(moments));
        if (request_.n_hessians > 0) take_hessian(memory, work);
        work.finite = true;
        work.abandoned = [](void* pass, bool caller) {
            auto* self = static_cast<Pass*>(pass);
            if (caller) self->poll();
            return self->stopped_.load();
        };
        work.pass = this;
        return work;
    }

    static constexpr size_t kMostVector = 64;  // bytes

    size_t hessian_bytes() const {
        if (request_.n_hessians == 0) return 0;
        const size_t n = static_cast<size_t>(table_.n_classifiers);
        return static_cast<size_t>(request_.n_hessians * entries_) * (kMostVector + sizeof(double)) +
               n * (kDeviationStride + 2) * sizeof(double) + 256;
    }
    void take_hessian(Arena& memory, Workspace& work) const {
        const size_t sums = static_cast<size_t>(request_.n_hessians * entries_),
                     n = static_cast<size_t>(table_.n_classifiers);
        work.products = memory.take(sums * kMostVector);
        work.piece_second = static_cast<double*>(memory.take(sums * sizeof(double)));
        work.deviations = memory.take(n * kDeviationStride * sizeof(double));
        work.means = static_cast<double*>(memory.take(2 * n * sizeof(double)));
        work.coldest = coldest_.data();
    }

    const LossTable& table_;
    const PassRequest& request_;
    PassAnswer& answer_;
    const Kernel& kernel_;
    Partition partition_;
    int64_t entries_;              // of a Hessian
    std::vector<double> coldest_;  // (n_hessians)
    size_t sums_;
    std::unique_ptr<double[]> partials_;  // of the chunks; each is cleared when it is begun
    int threads_;
    Shares shares_;  // of the chunks
    std::atomic<bool> stopped_{false}, finite_{true};
    std::chrono::steady_clock::time_point next_poll_;
};

}  // namespace

void run_pass(const LossTable& table, const PassRequest& request, PassAnswer& answer) {
    Pass(table, request, answer).run();
}

}  // namespace mixsolve
