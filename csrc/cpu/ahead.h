// What loops over the losses ask memory for ahead of time.
#pragma once

#include "kernel.h"
#include "simd.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

// The first planes of the block that comes next, fetched beside the exponentials.
struct NextBlock {
    const char* data;
    int64_t plane_stride;
    int64_t item_size;
    int n_planes;

    MIXSOLVE_INLINE void prefetch(int64_t offset) const {
        for (int p = 0; p < n_planes; ++p) __builtin_prefetch(data + p * plane_stride + offset, 0, 2);
    }
};

// Where several loops go over the same rows, one after the other, each asks memory for some of the lines to come: the
// first loop alone would wait for all of them.
struct Turn {
    int own = 0, last = 0;  // of 1, 2 or 4 turns, counted from 0

    MIXSOLVE_INLINE bool asks(int line) const { return (line & last) == own; }
    static Turn of(int64_t loop, int64_t loops) {
        const int last = loops >= 4 ? 3 : loops >= 2 ? 1 : 0;
        return {static_cast<int>(loop) & last, last};
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
