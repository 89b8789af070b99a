// The master of row generation: a primal-dual interior point for
//
//     min sum_i share_i v_i    v_i >= <w, row_ij> for the rows of sample i,    w in the simplex
//
// which eliminates the v_i one by one, so that the Newton system is only L x L.
#pragma once

#include <cstdint>
#include <functional>

#include "combine.h"

namespace mixsolve {

struct CoreProblem {
    int64_t n_rows, n_samples, n_classifiers;
    const double* rows;      // (n_rows, L) finite
    const int64_t* offsets;  // (n_samples + 1), rising from 0 to n_rows
    const double* share;     // (n_samples) >= 0, over all processes not all 0
    double gap;              // >= 0, in units of the losses
    int iteration_limit;
    int threads;
    std::function<bool()> interrupted;  // polled from the calling thread; true ends the solve
    Combine combine;                    // the core is that of all processes, of which this one holds some samples
};

enum class CoreStatus { kOptimal = 0, kStalled = 1, kIterationLimit = 2, kCancelled = 3 };

struct CoreAnswer {
    double* weights;     // (L) on the simplex
    double* duals;       // (n_rows) >= 0, adding up to the shares
    double value;        // sum_i share_i max_j <weights, row_ij>
    double lower_bound;  // min_k sum_r duals_r rows_rk
    int iterations;
    CoreStatus status;
};

// Every number is the same at any number of threads.
void solve_core(const CoreProblem& problem, CoreAnswer& answer);

}  // namespace mixsolve
