// The pass over a file: as `run_pass`, but the losses are read piece by piece, each into memory that stays in the cache
// of the processor that works on it at once.
#pragma once

#include "passes.h"
#include "plane_file.h"

namespace mixsolve {

struct FilePass {
    PlaneFile& file;
    const LossTable& table;      // without data: a plane is all its rows, one after the other
    int64_t first, last;         // the samples that are read
    int64_t piece_bytes;         // of the losses that a thread reads at once: whole samples, at least one
    const PassRequest& request;  // temperatures are of all samples; `samples` is null, n_samples is last - first
};

// The sums are over the samples that are read. They are added up in an order that follows from the table and
// piece_bytes alone. Throws CannotRead.
void run_file_pass(const FilePass& pass, PassAnswer& answer);

}  // namespace mixsolve
