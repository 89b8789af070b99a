// The loss table as every backend sees it: raw pointers, strides in bytes, no ownership.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace mixsolve {

// The numbers are shared with `mixsolve.table.Storage` and never change.
//
// The last three hold losses that are 0 or 1 as words: one word per attack row in place of a number per classifier and
// row, with bit k for classifier k and 0 in the bits that are left. All planes are then the same words, with a stride
// of 0 from one to the next: what is at losses[k, i, j] is the word of row (i, j), and the loss is its bit k.
enum class Storage : int {
    kFloat64 = 0,
    kFloat32 = 1,
    kFloat16 = 2,
    kBFloat16 = 3,
    kUInt8 = 4,
    kBits16 = 5,
    kBits32 = 6,
    kBits64 = 7
};

struct Float16 {
    uint16_t bits;
};
struct BFloat16 {
    uint16_t bits;
};
struct UInt8 {
    uint8_t bits;
};
template <class Word>
struct SetOf {  // of the classifiers that an attack fools
    Word bits;
};
using Set16 = SetOf<uint16_t>;
using Set32 = SetOf<uint32_t>;
using Set64 = SetOf<uint64_t>;

MIXSOLVE_HOST_DEVICE inline bool holds_sets(Storage storage) { return storage >= Storage::kBits16; }

MIXSOLVE_HOST_DEVICE inline int64_t item_size(Storage storage) {
    switch (storage) {
        case Storage::kFloat64:
        case Storage::kBits64:
            return 8;
        case Storage::kFloat32:
        case Storage::kBits32:
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

    // Planes that differ in memory, and the bytes of all losses of one row.
    MIXSOLVE_HOST_DEVICE int64_t planes() const { return holds_sets(storage) ? 1 : n_classifiers; }
    MIXSOLVE_HOST_DEVICE int64_t row_bytes() const { return planes() * item_size(storage); }
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
