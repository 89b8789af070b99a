// Attacks near the best one of a sample, for one instruction set; see near_best.h. Compiled several times, like
// cpu/kernel.cpp.
#include "cpu/loads.h"
#include "near_best.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {
namespace {

using V = Vec<float>;
constexpr int kWidth = kLanes<float>;
constexpr int kTile = 4;           // vectors of rows scored together
constexpr int kBytesAhead = 2048;  // of each plane

template <class Stored>
struct Scores {
    const char* losses;
    int64_t plane_stride, n_planes;
    const float* weights;

    const Stored* at(int64_t plane, int64_t row) const {
        return reinterpret_cast<const Stored*>(losses + plane * plane_stride) + row;
    }
    template <int Vectors>
    MIXSOLVE_INLINE void full(int64_t row, V (&z)[Vectors]) const {
        for (int v = 0; v < Vectors; ++v) z[v] = splat(0.0f);
        for (int64_t k = 0; k < n_planes; ++k) {
            const Stored* const here = at(k, row);
            const V weight = splat(weights[k]);
            __builtin_prefetch(reinterpret_cast<const char*>(here) + kBytesAhead);
            for (int v = 0; v < Vectors; ++v) {
                z[v] = fma(Loader<float, Stored>::full(here + v * kWidth), weight, z[v]);
            }
        }
    }
    MIXSOLVE_INLINE V first(int64_t row, int64_t count) const {
        V z = splat(0.0f);
        for (int64_t k = 0; k < n_planes; ++k) {
            z = fma(load_first<float, Stored>(at(k, row), count), splat(weights[k]), z);
        }
        return z;
    }
};

template <class Stored>
int64_t near_best(const char* losses, int64_t plane_stride, int64_t n_rows, int64_t n_planes, const float* weights,
                  float slack, float* scores, int32_t* found) {
    const float lowest = -__builtin_inff();
    const Scores<Stored> of{losses, plane_stride, n_planes, weights};
    V highest = splat(lowest), odd = splat(0.0f);  // odd: 0 while every score is finite, else NaN
    int64_t row = 0;
    for (; row + kTile * kWidth <= n_rows; row += kTile * kWidth) {
        V z[kTile];
        of.template full<kTile>(row, z);
        for (int v = 0; v < kTile; ++v) {
            store(scores + row + v * kWidth, z[v]);
            highest = vmax(highest, z[v]);
            odd += z[v] - z[v];
        }
    }
    for (; row + kWidth <= n_rows; row += kWidth) {
        V z[1];
        of.template full<1>(row, z);
        store(scores + row, z[0]);
        highest = vmax(highest, z[0]);
        odd += z[0] - z[0];
    }
    if (row < n_rows) {
        const V z = of.first(row, n_rows - row);
        odd += z - z;
        const V kept = keep_first<float>(z, n_rows - row, lowest);
        store(scores + row, kept);
        highest = vmax(highest, kept);
    }
    if (!(lane_sum(odd) == 0)) return -1;
    const float threshold = lane_max(highest) - slack;
    int64_t count = 0;
    for (row = 0; row < n_rows; row += kWidth) {
        if (!any_of<float>(load(scores + row) >= splat(threshold))) continue;
        const int64_t end = row + kWidth < n_rows ? row + kWidth : n_rows;
        for (int64_t j = row; j < end; ++j) {
            if (scores[j] >= threshold) found[count++] = static_cast<int32_t>(j);
        }
    }
    return count;
}

}  // namespace

NearBestKernel near_best_kernel(Storage storage) {
    switch (storage) {
        case Storage::kFloat32:
            return near_best<float>;
        case Storage::kFloat16:
            return near_best<Float16>;
        case Storage::kBFloat16:
            return near_best<BFloat16>;
        case Storage::kUInt8:
            return near_best<UInt8>;
        default:
            return nullptr;
    }
}

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
