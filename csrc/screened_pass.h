// Worst cases on a table by way of a compact copy: the copy is read, the table only where it can matter.
//
// Where no loss of the copy is off by more than delta, an attack whose score on the copy is more than 2 delta below the
// best one is not the best on the table. What is left is looked up in the table, and compared with the copy.
#pragma once

#include <cstdint>
#include <functional>

#include "loss_table.h"

namespace mixsolve {

struct ScreenedRequest {
    int64_t first, last;    // samples
    int64_t n_queries;      // K >= 1
    const double* weights;  // (K, L)
    const double* slack;    // (K) 2 delta and what float32 scores may be off, in units of what the copy stores
    double table_scale, table_offset, copy_scale, copy_offset;  // losses are scale * stored + offset
    double delta;                                               // the most that a loss of the copy may be off
    int threads;
    std::function<bool()> interrupted;  // polled from the calling thread; true throws PassInterrupted
};

// Output buffers of the caller, for n = last - first samples; those of PassAnswer in passes.h.
struct ScreenedAnswer {
    double* per_sample;    // (K, n)
    int64_t* best_attack;  // (K, n)
    double* best_row;      // (K, n, L)
    int64_t rows_read;     // of the table
    int64_t bytes_read;    // of the table, in whole lines of 64
};

// What a loss looked up is worth to the answer.
enum class Screening : int { kSound = 0, kCopyNotFinite = 1, kLossNotFinite = 2, kBeyondDelta = 3 };

struct Finding {
    Screening kind;
    int64_t classifier, sample, attack;
    double loss, copy;
};

// One read of the copy, whose storage has at most 32 bits; scores on the table are float64. The same at any number of
// threads. The finding is the first in order of samples that spoils the answer, or kSound.
Finding screened_pass(const LossTable& table, const LossTable& copy, const ScreenedRequest& request,
                      ScreenedAnswer& answer);

}  // namespace mixsolve
