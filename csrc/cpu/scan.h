// Reads of the table that answer no query: the first loss that is not finite, the range of the losses, and the speed
// at which memory can be read at all, the yardstick of the benchmarks.
#pragma once

#include <cstdint>
#include <functional>

#include "../loss_table.h"

namespace mixsolve {

struct OddLoss {
    int64_t classifier, sample, attack;  // classifier -1: every loss is finite
    double value;
};

// In the order (classifier, sample, attack). Both scans poll `interrupted` from the caller's thread and throw
// PassInterrupted when it says so.
OddLoss first_nonfinite(const LossTable& table, const std::function<bool()>& interrupted);

struct LossRange {
    double min, max;
};
LossRange extremes(const LossTable& table, int threads, const std::function<bool()>& interrupted);

enum class Reading { kVector, kVectorPrefetch, kCopy };

// Seconds to read `bytes` at `data` once with `threads` threads: vector loads, vector loads with software prefetch, or
// memcpy into a small buffer.
double read_seconds(const char* data, int64_t bytes, int threads, Reading how);

}  // namespace mixsolve
