#include "scan.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

#include "../passes.h"
#include "dispatch.h"
#include "loads.h"
#include "thread_pool.h"

namespace mixsolve {
namespace {

constexpr int64_t kReadChunk = 1 << 20;
constexpr int64_t kRowsBetweenPolls = 1 << 19;  // a millisecond or so

// Asks every so many rows whether anybody still waits for the answer.
class Patience {
  public:
    explicit Patience(const std::function<bool()>& interrupted) : interrupted_(interrupted) {}
    bool ends_after(int64_t rows) {
        rows_ += rows;
        if (rows_ < kRowsBetweenPolls) return false;
        rows_ = 0;
        return interrupted_();
    }

  private:
    const std::function<bool()>& interrupted_;
    int64_t rows_ = 0;
};

// The losses of one classifier on one sample, as they are stored.
template <class Stored>
struct Row {
    static constexpr int kWidth = baseline::kLanes<decltype(baseline::loss_of(Stored{}, 0))>;
    using Real = decltype(baseline::loss_of(Stored{}, 0));

    const Stored* losses;
    int64_t n, classifier;

    Row(const LossTable& table, int64_t k, int64_t sample)
        : losses(reinterpret_cast<const Stored*>(table.sample_data(sample) + k * table.stride_classifier)),
          n(table.rows(sample)),
          classifier(k) {}

    baseline::Vec<Real> vector(int64_t j) const { return baseline::losses_at<Real>(losses + j, classifier); }
    Real loss(int64_t j) const { return baseline::loss_of(losses[j], classifier); }

    // Index of the first loss that is not finite, or n.
    int64_t first_odd() const {
        int64_t j = 0;
        for (; j + kWidth <= n; j += kWidth) {
            const auto x = vector(j);
            if (baseline::lane_sum(x - x) != 0) break;  // NaN
        }
        while (j < n && std::isfinite(loss(j))) ++j;
        return j;
    }

    void extend(LossRange& range) const {
        int64_t j = 0;
        if (n >= kWidth) {
            auto max = vector(0), min_negated = -max;
            for (; j + kWidth <= n; j += kWidth) {
                const auto x = vector(j);
                max = baseline::vmax(max, x);
                min_negated = baseline::vmax(min_negated, -x);
            }
            range.max = std::max(range.max, static_cast<double>(baseline::lane_max(max)));
            range.min = std::min(range.min, -static_cast<double>(baseline::lane_max(min_negated)));
        }
        for (; j < n; ++j) {
            const double x = static_cast<double>(loss(j));
            range = {std::min(range.min, x), std::max(range.max, x)};
        }
    }
};

// Calls `visit` with a number of the storage's type.
template <class Visit>
void with_type_of(Storage storage, const Visit& visit) {
    switch (storage) {
        case Storage::kFloat64:
            return visit(double{});
        case Storage::kFloat32:
            return visit(float{});
        case Storage::kFloat16:
            return visit(Float16{});
        case Storage::kBFloat16:
            return visit(BFloat16{});
        case Storage::kUInt8:
            return visit(UInt8{});
        case Storage::kBits16:
            return visit(Set16{});
        case Storage::kBits32:
            return visit(Set32{});
        case Storage::kBits64:
            return visit(Set64{});
    }
}

template <class Stored>
OddLoss first_odd(const LossTable& table, const std::function<bool()>& interrupted) {
    Patience patience(interrupted);
    for (int64_t k = 0; k < table.n_classifiers; ++k) {
        for (int64_t i = 0; i < table.n_samples; ++i) {
            const Row<Stored> row(table, k, i);
            const int64_t j = row.first_odd();
            if (j < row.n) return {k, i, j, static_cast<double>(row.loss(j))};
            if (patience.ends_after(row.n)) throw PassInterrupted();
        }
    }
    return {-1, -1, -1, 0};
}

}  // namespace

OddLoss first_nonfinite(const LossTable& table, const std::function<bool()>& interrupted) {
    OddLoss odd;
    with_type_of(table.storage, [&](auto stored) { odd = first_odd<decltype(stored)>(table, interrupted); });
    return odd;
}

LossRange extremes(const LossTable& table, int threads, const std::function<bool()>& interrupted) {
    std::vector<LossRange> found(static_cast<size_t>(threads), LossRange{INFINITY, -INFINITY});
    std::atomic<int64_t> next{0};
    std::atomic<bool> stopped{false};
    const auto poll = [&] { stopped = stopped || interrupted(); };
    const auto work = [&](int worker) {
        const std::function<bool()> stop = [&] {
            if (worker == 0) poll();
            return stopped.load();
        };
        Patience patience(stop);
        LossRange range{INFINITY, -INFINITY};
        for (int64_t i = next.fetch_add(1); i < table.n_samples * table.n_classifiers; i = next.fetch_add(1)) {
            const int64_t sample = i / table.n_classifiers, classifier = i % table.n_classifiers;
            with_type_of(table.storage,
                         [&](auto stored) { Row<decltype(stored)>(table, classifier, sample).extend(range); });
            if (patience.ends_after(table.rows(sample))) break;
        }
        found[static_cast<size_t>(worker)] = range;
    };
    run_on_threads(threads, work, poll);
    if (stopped) throw PassInterrupted();
    LossRange all = found[0];
    for (const LossRange& range : found) all = {std::min(all.min, range.min), std::max(all.max, range.max)};
    return all;
}

double read_seconds(const char* data, int64_t bytes, int threads, Reading how) {
    std::atomic<int64_t> next{0};
    std::atomic<uint64_t> sink{0};
    const auto start = std::chrono::steady_clock::now();
    run_on_threads(
        threads,
        [&](int) {
            std::vector<char> buffer(how == Reading::kCopy ? 1 << 16 : 0);
            uint64_t sum = 0;
            for (int64_t begin = next.fetch_add(kReadChunk); begin < bytes; begin = next.fetch_add(kReadChunk)) {
                const int64_t end = std::min(begin + kReadChunk, bytes);
                if (how == Reading::kCopy) {
                    for (int64_t at = begin; at < end; at += 1 << 16) {
                        std::memcpy(buffer.data(), data + at,
                                    static_cast<size_t>(std::min<int64_t>(1 << 16, end - at)));
                        sum += static_cast<unsigned char>(buffer[0]);
                    }
                } else {
                    sum += cpu_reader()(data + begin, (end - begin) / 64 * 64, how == Reading::kVectorPrefetch);
                }
            }
            sink += sum;
        },
        [] {});
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    return sink.load() == 1 ? std::nextafter(taken.count(), 1e9)
                            : taken.count();  // the sums are used: not optimised away
}

}  // namespace mixsolve
