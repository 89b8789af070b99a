// Dense building blocks for one instruction set; see dense.h. Compiled several times, like cpu/kernel.cpp.
#include <algorithm>

#include "cpu/simd.h"
#include "dense.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {
namespace {

using V = Vec<double>;
constexpr int P = kLanes<double>;
constexpr int kGroup = 3;  // panels of columns worked on together
constexpr int64_t kStride = (kPanelRows + 1) * P;

void dots(const double* rows, int64_t n, int64_t stride, const double* x, double* out) {
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
        V sum[4] = {};
        const double* row = rows + j * stride;
        for (int64_t k = 0; k < stride; k += P) {
            const V factor = load(x + k);
            for (int i = 0; i < 4; ++i) sum[i] = fma(load(row + i * stride + k), factor, sum[i]);
        }
        for (int i = 0; i < 4; ++i) out[j + i] = lane_sum(sum[i]);
    }
    for (; j < n; ++j) {
        V sum = {};
        for (int64_t k = 0; k < stride; k += P) sum = fma(load(rows + j * stride + k), load(x + k), sum);
        out[j] = lane_sum(sum);
    }
}

template <int Rows>
MIXSOLVE_INLINE void add_some_rows(const double* row, int64_t stride, const double* first, const double* second,
                                   double* const sum[2]) {
    V a[Rows], b[Rows];
    for (int i = 0; i < Rows; ++i) {
        a[i] = splat(first[i]);
        b[i] = splat(second[i]);
    }
    for (int64_t k = 0; k < stride; k += P) {
        V one = load(sum[0] + k), two = load(sum[1] + k);
        for (int i = 0; i < Rows; ++i) {
            const V x = load(row + i * stride + k);
            one = fma(a[i], x, one);
            two = fma(b[i], x, two);
        }
        store(sum[0] + k, one);
        store(sum[1] + k, two);
    }
}

void add_rows(const double* rows, int64_t n, int64_t stride, const double* const coefficient[2], double* const sum[2]) {
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
        add_some_rows<4>(rows + j * stride, stride, coefficient[0] + j, coefficient[1] + j, sum);
    }
    for (; j < n; ++j) add_some_rows<1>(rows + j * stride, stride, coefficient[0] + j, coefficient[1] + j, sum);
}

void step_rows(const StepRows& rows, int64_t n, StepSums& sums) {
    V primal = {}, dual = {}, r_dy = {}, dr_y = {}, dr_dy = {};
    int64_t j = 0;
    for (; j + P <= n; j += P) {
        const V lead = load(rows.lead + j), r = load(rows.r + j), y = load(rows.y + j);
        const V dr = lead + load(rows.p + j), dy = load(rows.e + j) - load(rows.d + j) * lead;
        store(rows.dr + j, dr);
        store(rows.dy + j, dy);
        primal = vmax(primal, -dr * load(rows.inverse_r + j));
        dual = vmax(dual, -dy * load(rows.inverse_y + j));
        r_dy = fma(r, dy, r_dy);
        dr_y = fma(dr, y, dr_y);
        dr_dy = fma(dr, dy, dr_dy);
    }
    sums.primal = std::max(sums.primal, lane_max(primal));
    sums.dual = std::max(sums.dual, lane_max(dual));
    sums.r_dy += lane_sum(r_dy);
    sums.dr_y += lane_sum(dr_y);
    sums.dr_dy += lane_sum(dr_dy);
    for (; j < n; ++j) {
        const double lead = rows.lead[j], dr = lead + rows.p[j], dy = rows.e[j] - rows.d[j] * lead;
        rows.dr[j] = dr;
        rows.dy[j] = dy;
        sums.primal = std::max(sums.primal, -dr * rows.inverse_r[j]);
        sums.dual = std::max(sums.dual, -dy * rows.inverse_y[j]);
        sums.r_dy += rows.r[j] * dy;
        sums.dr_y += dr * rows.y[j];
        sums.dr_dy += dr * dy;
    }
}

void invert(const double* x, int64_t n, double* out) {
    int64_t j = 0;
    for (; j + P <= n; j += P) store(out + j, splat(1.0) / load(x + j));
    for (; j < n; ++j) out[j] = 1 / x[j];
}

void add_scaled(double* y, double a, const double* x, int64_t n) {
    const V factor = splat(a);
    int64_t k = 0;
    for (; k + P <= n; k += P) store(y + k, fma(factor, load(x + k), load(y + k)));
    for (; k < n; ++k) y[k] += a * x[k];
}

void deviate(const double* x, double factor, double share, double* mean, int64_t n, double* panels, int64_t row) {
    const V scale = splat(factor), part = splat(share);
    double* out = panels + row * P;
    for (int64_t k = 0; k < n; k += P, out += kStride) {
        const V centre = load(mean + k), off = load(x + k) - centre;
        store(out, scale * off);
        store(mean + k, fma(part, off, centre));
    }
}

// h (rows x columns) += or -= a' b over `depth` rows of the panels.
template <int Rows, int Columns, bool Subtract>
MIXSOLVE_NOINLINE void tile(const double* a, const double* b, int64_t depth, double* h, int64_t stride) {
    V sum[Rows][Columns] = {};
    for (int64_t p = 0; p < depth; ++p) {
        V right[Columns];
        MIXSOLVE_UNROLL
        for (int v = 0; v < Columns; ++v) right[v] = load(b + v * kStride + p * P);
        MIXSOLVE_UNROLL
        for (int i = 0; i < Rows; ++i) {
            const V left = splat(a[p * P + i]);
            MIXSOLVE_UNROLL
            for (int v = 0; v < Columns; ++v) sum[i][v] = fma(left, right[v], sum[i][v]);
        }
    }
    MIXSOLVE_UNROLL
    for (int i = 0; i < Rows; ++i) {
        MIXSOLVE_UNROLL
        for (int v = 0; v < Columns; ++v) {
            double* at = h + i * stride + v * P;
            store(at, Subtract ? load(at) - sum[i][v] : load(at) + sum[i][v]);
        }
    }
}

template <int Rows, bool Subtract>
void tile_of(int columns, const double* a, const double* b, int64_t depth, double* h, int64_t stride) {
    if (columns == 3) return tile<Rows, 3, Subtract>(a, b, depth, h, stride);
    if (columns == 2) return tile<Rows, 2, Subtract>(a, b, depth, h, stride);
    tile<Rows, 1, Subtract>(a, b, depth, h, stride);
}

template <bool Subtract>
void products(const double* panels, int64_t depth, int64_t n, int64_t group, double* matrix, int64_t stride) {
    const int64_t n_panels = (n + P - 1) / P, first = group * kGroup;
    for (int64_t panel = first; panel < n_panels; ++panel) {
        const int64_t below = panel - first + 1, left = n - panel * P;
        const int columns = static_cast<int>(below < kGroup ? below : kGroup);
        const double *a = panels + panel * kStride, *b = panels + first * kStride;
        double* h = matrix + panel * P * stride + first * P;
        if (P > 2 && left <= 2) {
            tile_of<2, Subtract>(columns, a, b, depth, h, stride);
        } else if (P > 4 && left <= 4) {
            tile_of<4, Subtract>(columns, a, b, depth, h, stride);
        } else {
            tile_of<P, Subtract>(columns, a, b, depth, h, stride);
        }
    }
}

int64_t column_groups(int64_t n) { return ((n + P - 1) / P + kGroup - 1) / kGroup; }

void factor_block(double* block, int64_t n, int64_t stride, double tiny) {
    for (int64_t j = 0; j < n; ++j) {
        double* row = block + j * stride;
        for (int64_t i = 0; i < j; ++i) {
            const double* other = block + i * stride;
            double sum = row[i];
            for (int64_t k = 0; k < i; ++k) sum -= row[k] * other[k];
            row[i] = sum / other[i];
        }
        double pivot = row[j];
        for (int64_t k = 0; k < j; ++k) pivot -= row[k] * row[k];
        row[j] = pivot > tiny ? __builtin_sqrt(pivot) : 1e100;
    }
}

// The rows below a factored block, lane by lane: x L' = a, left in panels and in the matrix.
void solve_below(const double* block, double* below, int64_t n, int64_t width, int64_t stride, double* panels) {
    for (int64_t first = 0; first < n; first += P) {
        const int64_t rows = n - first < P ? n - first : P;
        double* panel = panels + first / P * kStride;
        for (int64_t p = 0; p < width; ++p) {
            for (int64_t lane = 0; lane < P; ++lane) {
                panel[p * P + lane] = lane < rows ? below[(first + lane) * stride + p] : 0.0;
            }
        }
        for (int64_t p = 0; p < width; ++p) {
            V x = load(panel + p * P);
            for (int64_t q = 0; q < p; ++q) x = fma(splat(-block[p * stride + q]), load(panel + q * P), x);
            store(panel + p * P, x * splat(1 / block[p * stride + p]));
        }
        for (int64_t lane = 0; lane < rows; ++lane) {
            for (int64_t p = 0; p < width; ++p) below[(first + lane) * stride + p] = panel[p * P + lane];
        }
    }
}

void cholesky(double* matrix, int64_t n, int64_t stride, double tiny, double* scratch) {
    for (int64_t begin = 0; begin < n; begin += kCholeskyBlock) {
        const int64_t width = n - begin < kCholeskyBlock ? n - begin : kCholeskyBlock, end = begin + width;
        double* block = matrix + begin * stride + begin;
        factor_block(block, width, stride, tiny);
        if (end == n) return;
        solve_below(block, block + width * stride, n - end, width, stride, scratch);
        for (int64_t group = 0; group < column_groups(n - end); ++group) {
            products<true>(scratch, width, n - end, group, matrix + end * stride + end, stride);
        }
    }
}

}  // namespace

extern const DenseKernel dense;
const DenseKernel dense = {dots,    add_rows,        step_rows,     invert,  add_scaled,
                           deviate, products<false>, column_groups, cholesky};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
