// Attacks of one sample whose scores are near its best one: those that a compact copy of a table cannot tell from it.
#pragma once

#include <cstdint>

#include "loss_table.h"

namespace mixsolve {

// The indices, rising, of all attacks of one sample whose float32 scores are at least the best one less `slack`, and
// how many there are; -1 where a score is not finite. `scores` and `found` have room for `kNearBestRoom` entries more
// than there are attacks.
using NearBestKernel = int64_t (*)(const char* losses, int64_t plane_stride, int64_t n_rows, int64_t n_planes,
                                   const float* weights, float slack, float* scores, int32_t* found);

constexpr int64_t kNearBestRoom = 64;

// One of each per instruction set; null for storage of more than 32 bits.
namespace baseline {
NearBestKernel near_best_kernel(Storage storage);
}
#if defined(MIXSOLVE_HAVE_X86_KERNELS)
namespace avx2 {
NearBestKernel near_best_kernel(Storage storage);
}
namespace avx512 {
NearBestKernel near_best_kernel(Storage storage);
}
#endif

}  // namespace mixsolve
