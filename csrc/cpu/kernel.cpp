// The kernels of one instruction set. Compiled once for each; see simd.h for the rule about names.
#include "kernel.h"

#include "block_kernel.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

const Kernel* kernel(Storage storage, bool float64_scores) {
    switch (storage) {
        case Storage::kFloat64:
            return BlockKernel<double, double>::table();
        case Storage::kFloat32:
            return float64_scores ? BlockKernel<double, float>::table() : BlockKernel<float, float>::table();
        case Storage::kFloat16:
            return float64_scores ? BlockKernel<double, Float16>::table() : BlockKernel<float, Float16>::table();
        case Storage::kBFloat16:
            return float64_scores ? BlockKernel<double, BFloat16>::table() : BlockKernel<float, BFloat16>::table();
        case Storage::kUInt8:
            return float64_scores ? BlockKernel<double, UInt8>::table() : BlockKernel<float, UInt8>::table();
        default:
            return kernel_of_sets(storage, float64_scores);
    }
}

uint64_t read(const char* data, int64_t bytes, bool prefetch_ahead) {
    constexpr int kVectors = 8;
    using V = Vec<uint64_t>;
    V sum[kVectors] = {};
    const int64_t step = kVectors * kVectorBytes;
    int64_t at = 0;
    for (; at + step <= bytes; at += step) {
        if (prefetch_ahead) {
            for (int64_t line = 0; line < step; line += 64) __builtin_prefetch(data + at + line + 4096);
        }
        for (int v = 0; v < kVectors; ++v)
            sum[v] += load(reinterpret_cast<const uint64_t*>(data + at + v * kVectorBytes));
    }
    uint64_t total = 0;
    for (; at + 8 <= bytes; at += 8) {
        uint64_t word;
        __builtin_memcpy(&word, data + at, sizeof word);
        total += word;
    }
    for (int v = 0; v < kVectors; ++v) {
        for (int lane = 0; lane < kVectorBytes / 8; ++lane) total += sum[v][lane];
    }
    return total;
}

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
