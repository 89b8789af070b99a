#include "dense.h"

#include "cpu/dispatch.h"

namespace mixsolve {

const DenseKernel& dense_kernel() {
#if defined(MIXSOLVE_HAVE_X86_KERNELS)
    const std::string isa = current_isa();
    if (isa == "avx512") return avx512::dense;
    if (isa == "avx2") return avx2::dense;
#endif
    return baseline::dense;
}

}  // namespace mixsolve
