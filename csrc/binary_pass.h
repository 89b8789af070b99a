// Mixtures against a table of 0/1 losses at temperature 0, from the sets that its rows are.
#pragma once

#include <cstdint>
#include <functional>

#include "binary_sets.h"

namespace mixsolve {

struct BinaryPassRequest {
    int64_t n_queries;      // K >= 1
    const double* weights;  // (K, L)
    int threads;
    std::function<bool()> interrupted;  // polled from the calling thread; true throws PassInterrupted
};

// Output buffers of the caller: those of PassAnswer in passes.h.
struct BinaryPassAnswer {
    double* value;         // (K)
    double* gradient;      // (K, L)
    int64_t* best_attack;  // (K, N) or null
};

// Value, gradient and best attacks (lowest index on ties) in float64, by one read; the same at any number of threads.
// False when some loss is neither 0 nor 1.
bool binary_pass(const LossTable& table, const BinaryPassRequest& request, const BinaryPassAnswer& answer);

}  // namespace mixsolve
