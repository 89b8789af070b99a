// Where a block of threads keeps what in its shared memory.
#pragma once

#include "arguments.h"

namespace mixsolve {
namespace cuda {

// In bytes; the host asks for `bytes` of it.
struct SharedLayout {
    int scores, chance, parts, numbers, rows, deviations, shift, sums, bytes;

    MIXSOLVE_HOST_DEVICE SharedLayout(const TileShape& tile, int64_t n_classifiers, int item_size, int score_size) {
        scores = aligned(static_cast<int>(n_classifiers) * tile.stride * item_size);
        chance = aligned(scores + tile.rows * score_size);
        parts = aligned(chance + tile.rows * score_size);
        numbers = aligned(parts + tile.n_parts * tile.rows * score_size);
        rows = numbers + 5 * kWarps * 8;
        deviations = aligned(rows + kWarps * 4);
        const int wanted = tile.hessian ? static_cast<int>(n_classifiers) : 0;
        shift = aligned(deviations + wanted * tile.stride * score_size);
        sums = aligned(shift + wanted * 8);
        bytes = sums + tile.sums_bytes;
    }
    MIXSOLVE_HOST_DEVICE static int aligned(int bytes) { return (bytes + 15) / 16 * 16; }
};

}  // namespace cuda
}  // namespace mixsolve
