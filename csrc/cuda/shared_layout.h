// Where a block of threads keeps what in its shared memory.
#pragma once

#include "arguments.h"

namespace mixsolve {
namespace cuda {

inline SharedLayout shared_layout(const TileShape& tile, int64_t n_classifiers, int item_size, int score_size) {
    const auto aligned = [](int bytes) { return (bytes + 15) / 16 * 16; };
    SharedLayout at;
    at.scores = aligned(static_cast<int>(n_classifiers) * tile.stride * item_size);
    at.chance = aligned(at.scores + tile.rows * score_size);
    at.parts = aligned(at.chance + tile.rows * score_size);
    at.numbers = aligned(at.parts + tile.n_parts * tile.rows * score_size);
    at.rows = at.numbers + 5 * kWarps * 8;
    at.deviations = aligned(at.rows + kWarps * 4);
    const int wanted = tile.hessian ? static_cast<int>(n_classifiers) : 0;
    at.shift = aligned(at.deviations + wanted * tile.stride * score_size);
    at.sums = aligned(at.shift + wanted * 8);
    at.bytes = at.sums + tile.sums_bytes;
    return at;
}

}  // namespace cuda
}  // namespace mixsolve
