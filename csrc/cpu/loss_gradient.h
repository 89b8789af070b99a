// The derivative of a value by the losses of some samples, per instruction set; loss_gradient.cpp walks the table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../passes.h"

namespace mixsolve {

// Samples [first, last) whose rows follow each other in every plane.
struct SampleRange {
    int64_t first, last;
    int64_t n_rows;
    void* scores;          // (n_rows + kScratchRows) in the score type
    void* chance;          // likewise
    const void* weights;   // (L) in the score type
    char* gradient;        // of the first row in the first plane
    int64_t plane_stride;  // bytes from plane to plane of the gradient
};

constexpr int64_t kScratchRows = 64;  // a vector may be written past the last row

// False when a score is not finite.
using LossGradientKernel = bool (*)(const LossTable&, const LossGradientRequest&, const SampleRange&);

namespace baseline {
LossGradientKernel loss_gradient_kernel(Storage storage, bool float64_scores);
}
#if defined(MIXSOLVE_HAVE_X86_KERNELS)
namespace avx2 {
LossGradientKernel loss_gradient_kernel(Storage storage, bool float64_scores);
}
namespace avx512 {
LossGradientKernel loss_gradient_kernel(Storage storage, bool float64_scores);
}
#endif

}  // namespace mixsolve
