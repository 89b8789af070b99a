// A core as the interior point wants it: distinct rows only, as differences from the first of their sample, every
// sample scaled to unit range.
//
//     sum_i share_i max_j <w, row_ij>  =  offset + unit ( <w, linear> + sum_i weight_i max_j <w, difference_ij> )
//
// Differences keep what tells attacks apart when losses share a large offset; powers of two keep every digit.
#pragma once

#include <cstdint>
#include <vector>

#include "aligned.h"
#include "master.h"

namespace mixsolve {

struct CoreRows {
    explicit CoreRows(const CoreProblem& problem);

    int64_t n_classifiers, stride;      // stride: doubles from row to row, zero beyond the classifiers
    int64_t n_rows = 0, n_samples = 0;  // of samples with a weight and at least two distinct rows
    double all_rows = 0;                // over all processes
    const Combine& combine;
    Doubles rows;                 // (n_rows, stride), the first of every sample zero
    std::vector<int64_t> start;   // (n_samples + 1)
    std::vector<int64_t> origin;  // (n_rows) the row of the core
    std::vector<int64_t> sample;  // (n_samples) the sample of the core
    std::vector<int64_t> single;  // (samples of the core) the row that a sample without choice keeps, else -1
    std::vector<double> weight;   // (n_samples) > 0
    Doubles linear;               // (stride) >= 0 with a zero among the classifiers
    double unit;                  // of the objective
    double size;                  // largest absolute loss, over all processes

  private:
    void add_sample(const CoreProblem& problem, int64_t sample, double scale);
};

}  // namespace mixsolve
