// Dense float64 building blocks of the master, compiled once per instruction set and chosen at run time.
//
// Matrices are row-major. A product X'X is formed from X in *panels*: `lanes` columns beside each other, row after row,
//     panels[(column / lanes) * panel_stride + row * lanes + column % lanes],
// so that the innermost loop reads memory in order. Every entry of a product is summed over the rows in their order.
#pragma once

#include <cstdint>

namespace mixsolve {

constexpr int64_t kPanelRows = 128;  // X is cut into so many rows at most; panels lie one more apart (cache sets)
constexpr int64_t kRowAlign = 8;     // row strides are multiples of it
constexpr int64_t kCholeskyBlock = 64;

inline int64_t padded(int64_t n) { return (n + kRowAlign - 1) / kRowAlign * kRowAlign; }

// How far a step of the slacks r and duals y goes, and what it makes of sum (r + a dr)(y + b dy).
struct StepSums {
    double primal = 0, dual = 0;  // 1 / the largest steps that keep r and y >= 0; `combine` takes them for an array
    double r_dy = 0, dr_y = 0, dr_dy = 0;
};

// Rows of the interior point as step_rows needs them; see row_system.h.
struct StepRows {
    const double *r, *y, *inverse_r, *inverse_y, *d, *p;
    const double* e;
    const double* lead;  // dv - <row, dw>
    double *dr, *dy;     // dy may be e
};

struct DenseKernel {
    // out[j] = <rows_j, x>, for n rows of `stride` doubles, zero beyond their end.
    void (*dots)(const double* rows, int64_t n, int64_t stride, const double* x, double* out);

    // sum_c += sum_j coefficient_c[j] rows_j for both c at once.
    void (*add_rows)(const double* rows, int64_t n, int64_t stride, const double* const coefficient[2],
                     double* const sum[2]);

    // dr = lead + p and dy = e - d lead for n rows, and what they come to is added to `sums`.
    void (*step_rows)(const StepRows& rows, int64_t n, StepSums& sums);

    // out = 1 / x.
    void (*invert)(const double* x, int64_t n, double* out);

    // y += a x.
    void (*add_scaled)(double* y, double a, const double* x, int64_t n);

    // One row of panels: panels[row] = factor (x - mean), then mean += share (x - mean).
    void (*deviate)(const double* x, double factor, double share, double* mean, int64_t n, double* panels, int64_t row);

    // matrix (padded(n) rows) += X'X in the columns of the `column_group`-th group, on and below the diagonal (and a
    // little above).
    void (*add_products)(const double* panels, int64_t rows, int64_t n, int64_t column_group, double* matrix,
                         int64_t stride);
    int64_t (*column_groups)(int64_t n);

    // The lower triangle in place. A pivot of at most `tiny` is taken for infinite: its unknown will be 0.
    // `scratch` holds panels_size(n) doubles.
    void (*cholesky)(double* matrix, int64_t n, int64_t stride, double tiny, double* scratch);
};

inline int64_t panels_size(int64_t n) { return padded(n) * (kPanelRows + 1); }  // doubles, for any number of lanes

const DenseKernel& dense_kernel();  // of the instruction set in use, see cpu/dispatch.h

namespace baseline {
extern const DenseKernel dense;
}
#if defined(MIXSOLVE_HAVE_X86_KERNELS)
namespace avx2 {
extern const DenseKernel dense;
}
namespace avx512 {
extern const DenseKernel dense;
}
#endif

}  // namespace mixsolve
