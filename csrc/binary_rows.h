// Tables of 0/1 losses as sets: a row is the set of classifiers that an attack fools.
//
// One read of the table finds the distinct sets of every sample. Where only the worst case matters the sets that are
// part of another one are left out, and samples with equal sets are one group; where a prior matters, equal sets add
// theirs up, and the samples of a group agree in the prior of every set and in temperature too.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "binary_sets.h"

namespace mixsolve {

struct BinaryRequest {
    bool maximal;               // leave out sets that are part of another one, and the prior
    const double* temperature;  // (N): samples of one group agree in it; null when all agree
    int threads;
    std::function<bool()> interrupted;  // polled from the calling thread; true throws PassInterrupted
};

struct BinaryRows {
    bool found;         // false: a loss is neither 0 nor 1, or hardly any rows are alike; the rest is then empty
    int64_t rows_read;  // up to where that was seen; the same at any number of threads
    std::vector<int64_t> offsets;  // (N + 1) sample i owns the sets offsets[i] .. offsets[i + 1] - 1
    std::vector<uint64_t> fooled;  // the sets, rising within a sample; bit k is classifier k
    std::vector<int64_t> attack;   // first attack of the sample that fools the set
    std::vector<double> mass;      // prior of the attacks that fool the set, or how many they are without a prior
    std::vector<int64_t> group;    // (N) numbered by their first sample
    std::vector<int64_t> leader;   // (groups) the first sample of each
};

BinaryRows binary_rows(const LossTable& table, const BinaryRequest& request);

// Numbers the groups of samples with equal sets, prior (if there is one) and temperature (if they have their own):
// fills in `group` and `leader` from what else is known of the rows.
void find_groups(const double* temperature, BinaryRows& rows);

}  // namespace mixsolve
