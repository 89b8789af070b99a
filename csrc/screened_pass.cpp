#include "screened_pass.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/loads.h"
#include "near_best.h"
#include "parallel.h"
#include "passes.h"

namespace mixsolve {
namespace {

constexpr int64_t kChunkRows = 1 << 15;  // about so many rows are a worker's at a time
constexpr int64_t kLine = 64;            // bytes that come from memory together
constexpr int64_t kGroup = 16;           // samples whose losses are under way from memory at once

NearBestKernel kernel_of(Storage storage) {
    NearBestKernel kernel = baseline::near_best_kernel(storage);
#if defined(MIXSOLVE_HAVE_X86_KERNELS)
    const std::string isa = current_isa();
    if (isa == "avx2") kernel = avx2::near_best_kernel(storage);
    if (isa == "avx512") kernel = avx512::near_best_kernel(storage);
#endif
    if (kernel == nullptr) throw std::invalid_argument("the storage of the copy has at most 32 bits");
    return kernel;
}

// Where chunks of consecutive samples begin and end, by the table's shape alone.
std::vector<int64_t> chunk_ends(const LossTable& table, int64_t first, int64_t last) {
    std::vector<int64_t> ends{first};
    int64_t rows = 0;
    for (int64_t i = first; i < last; ++i) {
        if (table.rows(i) > INT32_MAX) throw std::invalid_argument("a sample has at most 2^31 - 1 attacks");
        rows += table.rows(i);
        if (rows < kChunkRows && i + 1 < last) continue;
        ends.push_back(i + 1);
        rows = 0;
    }
    return ends;
}

double loss_at(const char* losses, Storage storage, int64_t row, int64_t classifier) {
    const auto read = [&](auto kind) {
        return static_cast<double>(baseline::loss_of(reinterpret_cast<const decltype(kind)*>(losses)[row], classifier));
    };
    switch (storage) {
        case Storage::kFloat64:
            return read(double());
        case Storage::kFloat32:
            return read(float());
        case Storage::kFloat16:
            return read(Float16());
        case Storage::kBFloat16:
            return read(BFloat16());
        case Storage::kUInt8:
            return read(UInt8());
        case Storage::kBits16:
            return read(Set16());
        case Storage::kBits32:
            return read(Set32());
        default:
            return read(Set64());
    }
}

// One worker's memory, and what it found.
struct Worker {
    std::vector<float> scores;
    std::vector<int32_t> near;
    std::vector<int32_t> candidates[kGroup];  // of each sample, rising
    std::vector<double> losses;               // (candidates, L) of one sample
    int64_t rows_read = 0, bytes_read = 0;
};

class Screen {
  public:
    Screen(const LossTable& table, const LossTable& copy, const ScreenedRequest& request, ScreenedAnswer& answer)
        : table_(table),
          copy_(copy),
          request_(request),
          answer_(answer),
          kernel_(kernel_of(copy.storage)),
          weights_(request.weights, request.weights + request.n_queries * table.n_classifiers),
          slack_(request.slack, request.slack + request.n_queries) {}

    // Answers for some samples, at most kGroup: all losses are asked for before the first one is needed.
    Finding samples(int64_t first, int64_t last, Worker& own) const {
        for (int64_t i = first; i < last; ++i) {
            std::vector<int32_t>& candidates = own.candidates[i - first];
            if (!find_candidates(i, candidates, own)) return {Screening::kCopyNotFinite, 0, i, 0, 0, 0};
            fetch(i, candidates);
        }
        for (int64_t i = first; i < last; ++i) {
            const std::vector<int32_t>& candidates = own.candidates[i - first];
            const Finding finding = look_up(i, candidates, own);
            if (finding.kind != Screening::kSound) return finding;
            choose(i, candidates, own.losses);
        }
        return {Screening::kSound, 0, 0, 0, 0, 0};
    }

  private:
    // The attacks that are near the best one for some query.
    bool find_candidates(int64_t i, std::vector<int32_t>& candidates, Worker& own) const {
        const int64_t n_rows = copy_.rows(i), room = n_rows + kNearBestRoom;
        if (static_cast<int64_t>(own.near.size()) < room) {
            own.scores.resize(static_cast<size_t>(room));
            own.near.resize(static_cast<size_t>(room));
        }
        candidates.clear();
        for (int64_t q = 0; q < request_.n_queries; ++q) {
            const int64_t count =
                kernel_(copy_.sample_data(i), copy_.stride_classifier, n_rows, copy_.n_classifiers,
                        &weights_[q * copy_.n_classifiers], slack_[q], own.scores.data(), own.near.data());
            if (count < 0) return false;
            candidates.insert(candidates.end(), own.near.begin(), own.near.begin() + count);
        }
        if (request_.n_queries > 1) {
            std::sort(candidates.begin(), candidates.end());
            candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
        }
        return true;
    }

    void fetch(int64_t i, const std::vector<int32_t>& candidates) const {
        const int64_t item = item_size(table_.storage);
        for (int64_t k = 0; k < table_.planes(); ++k) {
            const char* const losses = table_.sample_data(i) + k * table_.stride_classifier;
            for (const int32_t j : candidates) __builtin_prefetch(losses + j * item);
        }
    }

    // The candidates' losses in the table; compares them with the copy.
    Finding look_up(int64_t i, const std::vector<int32_t>& candidates, Worker& own) const {
        const int64_t n = table_.n_classifiers, count = static_cast<int64_t>(candidates.size());
        const int64_t item = item_size(table_.storage);
        own.losses.resize(static_cast<size_t>(count * n));
        own.rows_read += count;
        for (int64_t k = 0; k < n; ++k) {
            const char* const losses = table_.sample_data(i) + k * table_.stride_classifier;
            const char* const stored = copy_.sample_data(i) + k * copy_.stride_classifier;
            int64_t line = -1;
            for (int64_t c = 0; c < count; ++c) {
                const int64_t j = candidates[c];
                const double loss =
                    request_.table_scale * loss_at(losses, table_.storage, j, k) + request_.table_offset;
                const double near = request_.copy_scale * loss_at(stored, copy_.storage, j, k) + request_.copy_offset;
                if (!std::isfinite(loss)) return {Screening::kLossNotFinite, k, i, j, loss, near};
                if (!(std::fabs(loss - near) <= request_.delta)) return {Screening::kBeyondDelta, k, i, j, loss, near};
                own.losses[c * n + k] = loss;
                if (k < table_.planes() && j * item / kLine != line) own.bytes_read += kLine;
                line = j * item / kLine;
            }
        }
        return {Screening::kSound, 0, 0, 0, 0, 0};
    }

    // Each query's best attack, the lowest index on ties.
    void choose(int64_t i, const std::vector<int32_t>& candidates, const std::vector<double>& losses) const {
        const int64_t n = table_.n_classifiers, count = static_cast<int64_t>(candidates.size());
        for (int64_t q = 0; q < request_.n_queries; ++q) {
            const double* const weights = request_.weights + q * n;
            int64_t best = 0;
            double most = -HUGE_VAL;
            for (int64_t c = 0; c < count; ++c) {
                double score = 0;
                for (int64_t k = 0; k < n; ++k) score += weights[k] * losses[c * n + k];
                best = score > most ? c : best;
                most = std::max(most, score);
            }
            const int64_t place = q * (request_.last - request_.first) + i - request_.first;
            answer_.per_sample[place] = most;
            answer_.best_attack[place] = candidates[best];
            std::copy_n(&losses[best * n], n, answer_.best_row + place * n);
        }
    }

    const LossTable& table_;
    const LossTable& copy_;
    const ScreenedRequest& request_;
    ScreenedAnswer& answer_;
    NearBestKernel kernel_;
    std::vector<float> weights_, slack_;
};

}  // namespace

Finding screened_pass(const LossTable& table, const LossTable& copy, const ScreenedRequest& request,
                      ScreenedAnswer& answer) {
    const Screen screen(table, copy, request, answer);
    const std::vector<int64_t> ends = chunk_ends(copy, request.first, request.last);
    const int64_t n_chunks = static_cast<int64_t>(ends.size()) - 1;
    std::vector<Finding> findings(static_cast<size_t>(n_chunks), {Screening::kSound, 0, 0, 0, 0, 0});
    std::vector<Worker> workers(static_cast<size_t>(request.threads));
    TaskRunner runner(request.threads, request.interrupted);
    runner.run(n_chunks, n_chunks < 2, [&](int64_t c, int worker) {
        for (int64_t i = ends[c]; i < ends[c + 1] && findings[c].kind == Screening::kSound; i += kGroup) {
            findings[c] = screen.samples(i, std::min(i + kGroup, ends[c + 1]), workers[worker]);
        }
    });
    if (runner.stopped()) throw PassInterrupted();
    answer.rows_read = answer.bytes_read = 0;
    for (const Worker& worker : workers) {
        answer.rows_read += worker.rows_read;
        answer.bytes_read += worker.bytes_read;
    }
    for (const Finding& finding : findings) {
        if (finding.kind != Screening::kSound) return finding;
    }
    return {Screening::kSound, 0, 0, 0, 0, 0};
}

}  // namespace mixsolve
