#include "scan.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "dispatch.h"
#include "thread_pool.h"

namespace mixsolve {
namespace {

double loss_at(const char* data, Storage storage) {
    switch (storage) {
        case Storage::kFloat64: {
            double x;
            std::memcpy(&x, data, sizeof x);
            return x;
        }
        case Storage::kFloat32: {
            float x;
            std::memcpy(&x, data, sizeof x);
            return x;
        }
        case Storage::kFloat16: {
            uint16_t bits;
            std::memcpy(&bits, data, sizeof bits);
            const int exponent = (bits >> 10) & 0x1f, fraction = bits & 0x3ff;
            const double sign = bits & 0x8000 ? -1.0 : 1.0;
            if (exponent == 31) return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * INFINITY;
            return sign * (exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24));
        }
        case Storage::kBFloat16: {
            uint16_t bits;
            std::memcpy(&bits, data, sizeof bits);
            const uint32_t wide = static_cast<uint32_t>(bits) << 16;
            float x;
            std::memcpy(&x, &wide, sizeof x);
            return x;
        }
    }
    return 0;
}

constexpr int64_t kReadChunk = 1 << 20;

}  // namespace

OddLoss first_nonfinite(const LossTable& table) {
    const int64_t size = item_size(table.storage);
    for (int64_t k = 0; k < table.n_classifiers; ++k) {
        for (int64_t i = 0; i < table.n_samples; ++i) {
            const char* row = table.sample_data(i) + k * table.stride_classifier;
            for (int64_t j = 0; j < table.rows(i); ++j) {
                const double x = loss_at(row + j * size, table.storage);
                if (!std::isfinite(x)) return {k, i, j, x};
            }
        }
    }
    return {-1, -1, -1, 0};
}

LossRange extremes(const LossTable& table, int threads) {
    const int64_t size = item_size(table.storage);
    std::vector<LossRange> found(static_cast<size_t>(threads), LossRange{INFINITY, -INFINITY});
    std::atomic<int64_t> next{0};
    run_on_threads(
        threads,
        [&](int worker) {
            LossRange range{INFINITY, -INFINITY};
            for (int64_t i = next.fetch_add(1); i < table.n_samples; i = next.fetch_add(1)) {
                for (int64_t k = 0; k < table.n_classifiers; ++k) {
                    const char* row = table.sample_data(i) + k * table.stride_classifier;
                    for (int64_t j = 0; j < table.rows(i); ++j) {
                        const double x = loss_at(row + j * size, table.storage);
                        range.min = x < range.min ? x : range.min;
                        range.max = x > range.max ? x : range.max;
                    }
                }
            }
            found[static_cast<size_t>(worker)] = range;
        },
        [] {});
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
