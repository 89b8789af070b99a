// What is done with the best attacks of a block's samples once they are found.
#pragma once

#include "rows.h"
#include "segments.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class Score, class Stored>
struct BestRows {
    static void hand_out(const Rows<Score, Stored>& rows, const Segments<Score>& query, int first, int last) {
        const Block& block = query.block;
        Workspace& work = query.work;
        if (work.answer->best_attack) {
            int64_t* out = work.answer->best_attack + query.query * work.request->n_samples + block.position;
            for (int s = first; s < last; ++s) out[s] = work.best[s] - block.start[s];
        }
        if (work.answer->best_row) {
            for (int s = first; s < last; ++s) {
                copy(rows, work.best[s], row(query.query, block.position + s, work));
            }
        }
    }

    // Adds them one by one: the sum does not depend on how samples are cut into blocks and ranges.
    static void add(const Rows<Score, Stored>& rows, const Segments<Score>& query, int first, int last) {
        const int32_t* const best = query.work.best;
        const Score* const weight = query.weights();
        double* gradient = query.work.gradient + query.query * rows.n_planes;
        int64_t k = 0;
        for (; k + 4 <= rows.n_planes; k += 4) add_planes<4>(rows, k, best, weight, first, last, gradient + k);
        for (; k < rows.n_planes; ++k) add_planes<1>(rows, k, best, weight, first, last, gradient + k);
    }
    template <int Planes>
    static MIXSOLVE_INLINE void add_planes(const Rows<Score, Stored>& rows, int64_t k, const int32_t* best,
                                           const Score* weight, int first, int last, double* gradient) {
        double sum[Planes];
        for (int p = 0; p < Planes; ++p) sum[p] = gradient[p];
        for (int s = first; s < last; ++s) {
            for (int p = 0; p < Planes; ++p) {
                const Score loss = static_cast<Score>(loss_of(rows.plane(k + p)[best[s]], k + p));
                sum[p] += static_cast<double>(weight[s] * loss);
            }
        }
        for (int p = 0; p < Planes; ++p) gradient[p] = sum[p];
    }

    static double* row(int64_t query, int64_t position, Workspace& work) {
        return work.answer->best_row + (query * work.request->n_samples + position) * work.table->n_classifiers;
    }
    static void copy(const Rows<Score, Stored>& rows, int row, double* out) {
        for (int64_t k = 0; k < rows.n_planes; ++k) out[k] = static_cast<double>(loss_of(rows.plane(k)[row], k));
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
