// The pass: the one seam between the mathematics and the machine.
//
// Given a loss table and K queries (weights, temperature), read the table once and answer, for each query,
//     value     sum_i s_i f_i            f_i = max_j <w, l_ij>                              at temperature 0
//                                        f_i = t log( sum_j u_ij exp(<w, l_ij> / t) )       at temperature t > 0
//     gradient  sum_i s_i sum_j p_ij l_ij       p_i the softmax of the scores, or the best attack at temperature 0
//     Hessian   sum_i (s_i / t) sum_j p_ij (l_ij - mean_i) (l_ij - mean_i)', on request; 0 at temperature 0
// and per sample, on request, f_i, the best attack (lowest index on ties) and its row.
// Each backend implements `run_pass`; the specification is mixsolve/reference.py.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>

#include "loss_table.h"

namespace mixsolve {

struct PassRequest {
    int64_t n_queries;          // K >= 1
    int64_t n_hessians;         // of so many queries, the first ones, the Hessian is asked for
    const double* weights;      // (K, L), any finite numbers
    const double* temperature;  // (K) or, per sample, (K, N): a query is all 0 or all > 0
    bool temperature_per_sample;
    const int64_t* samples;  // sorted indices, or null for all samples
    int64_t n_samples;       // how many are asked for
    bool float64_scores;     // scores, exponentials and block sums in float64 whatever the storage
    int threads;
    std::function<bool()> interrupted;  // polled from the calling thread; true stops the pass
};

// Output buffers of the caller; the optional ones may be null. `n` is request.n_samples.
struct PassAnswer {
    double* value;         // (K)
    double* gradient;      // (K, L)
    double* hessian;       // (n_hessians, L, L) or null
    double* per_sample;    // (K, n) or null
    int64_t* best_attack;  // (K, n) or null
    double* best_row;      // (K, n, L) or null
    int64_t bytes_read;
    bool finite;  // false: some score or sum was not finite, the numbers mean nothing
};

struct PassInterrupted : std::runtime_error {
    PassInterrupted() : std::runtime_error("the pass was interrupted") {}
};

// A symmetric matrix is summed up as its lower triangle, row after row.
constexpr int64_t hessian_entries(int64_t n_classifiers) { return n_classifiers * (n_classifiers + 1) / 2; }

void run_pass(const LossTable& table, const PassRequest& request, PassAnswer& answer);

// The derivative of one query's value by every loss, w_k s_i p_ij, times a number: what a backward pass hands on. The
// table is read once, and as much is written.
struct LossGradientRequest {
    const double* weights;      // (L)
    const double* temperature;  // (1) or, per sample, (N): all 0 or all > 0
    bool temperature_per_sample;
    double scale;
    bool float64_scores;
    int threads;
    std::function<bool()> interrupted;
};

// `gradient` is (L, rows), contiguous, stored as the losses are. False: some score was not finite.
bool loss_gradient(const LossTable& table, const LossGradientRequest& request, char* gradient);

}  // namespace mixsolve
