// The loss table as every backend sees it: raw pointers, strides in bytes, no ownership.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace mixsolve {

// The numbers are shared with `mixsolve.table.Storage` and never change.
enum class Storage : int { kFloat64 = 0, kFloat32 = 1, kFloat16 = 2, kBFloat16 = 3, kUInt8 = 4 };

struct Float16 {
    uint16_t bits;
};
struct BFloat16 {
    uint16_t bits;
};
struct UInt8 {  // bool among them
    uint8_t bits;
};

MIXSOLVE_HOST_DEVICE inline int64_t item_size(Storage storage) {
    switch (storage) {
        case Storage::kFloat64:
            return 8;
        case Storage::kFloat32:
            return 4;
        case Storage::kUInt8:
            return 1;
        default:
            return 2;
    }
}

struct LossTable {
    const char* data;  // losses[0, 0, 0]
    Storage storage;
    int64_t n_classifiers;        // L
    int64_t n_samples;            // N
    int64_t n_attacks;            // m, or -1 when ragged
    int64_t stride_classifier;    // bytes from one plane to the next
    int64_t stride_sample;        // bytes from one sample to the next; attacks are contiguous
    const int64_t* row_offsets;   // N + 1 entries when ragged, else null; ragged rows are contiguous within a plane
    const double* sample_weight;  // N entries that sum to 1, or null for uniform
    const void* prior;            // one plane, contiguous, in row order, or null for uniform
    bool prior_is_double;

    MIXSOLVE_HOST_DEVICE int64_t rows(int64_t sample) const {
        return row_offsets ? row_offsets[sample + 1] - row_offsets[sample] : n_attacks;
    }
    MIXSOLVE_HOST_DEVICE int64_t first_row(int64_t sample) const {
        return row_offsets ? row_offsets[sample] : sample * n_attacks;
    }
    MIXSOLVE_HOST_DEVICE const char* sample_data(int64_t sample) const {
        return row_offsets ? data + row_offsets[sample] * item_size(storage) : data + sample * stride_sample;
    }
    MIXSOLVE_HOST_DEVICE double weight(int64_t sample) const {
        return sample_weight ? sample_weight[sample] : 1.0 / static_cast<double>(n_samples);
    }
};

}  // namespace mixsolve
