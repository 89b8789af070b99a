// What the instruction-set-specific kernels offer to pass.cpp: work on one block of rows for all queries.
//
// A block is a contiguous range of rows, present in every plane at the same distance. It either holds whole samples
// (its segments) or is a piece of one long sample. Blocks are small enough to stay in the core's caches, so the
// table is fetched from memory once however often the block is looked at.
#pragma once

#include <cstdint>

#include "../online_lse.h"
#include "../passes.h"

namespace mixsolve {

constexpr int kMaxBlockRows = 4096, kLongBlockRows = 65536;
constexpr int kBufferRows = kMaxBlockRows + 64;  // a vector may be written past the last row
constexpr int kQueryGroup = 4;                   // queries scored together
constexpr int kQueriesBetweenPolls = 16;
constexpr int kSegmentNumbers = 8;                     // see Segments::numbers
constexpr int kDeviationRows = 512;                    // rows whose products are summed together, see products.h
constexpr int kDeviationStride = kDeviationRows + 16;  // not a power of two: cache sets

// Whether the loops of many_planes.h answer a pass.
inline bool takes_many_planes(const LossTable& table, const PassRequest& request) {
    constexpr int64_t kFewest = 32;
    return request.n_queries == 1 && request.n_hessians == 0 && table.planes() >= kFewest;
}

struct Block {
    const char* data;      // first row in plane 0
    int64_t plane_stride;  // bytes
    int n_rows;
    int64_t prefetch_bytes;  // distance to the block that comes next, 0 for none
    const char* prior;       // of the first row, or null
    bool prior_is_double;
    int n_segments;        // whole samples, 1 for a piece
    const int32_t* start;  // (n_segments + 1) rows where they start
    int64_t position;      // of segment 0 among the samples asked for
};

// Long samples: what is known of one query after some pieces.
struct PieceState {
    OnlineLse<double> lse;
    double best_score;
    int64_t best_attack;  // -1 before the first piece
};

// Scratch of one worker, allocated once per pass. Score buffers are typed by the kernel.
struct Workspace {
    const LossTable* table;
    const PassRequest* request;
    const PassAnswer* answer;
    void* weights;         // (K, L) in the score type
    void* scores;          // (kQueryGroup, kBufferRows)
    void* probabilities;   // (kQueryGroup, kBufferRows)
    void* prior;           // (kBufferRows)
    void* shift;           // (kBufferRows)
    void* inverse;         // (kBufferRows)
    void* segment;         // (kSegmentNumbers, kBufferRows)
    int32_t* best;         // (kBufferRows): row of the best attack per segment
    PieceState* pieces;    // (K)
    void* totals;          // (K, L) vectors
    double* piece_moment;  // (K, L)
    double* value;         // (K) sums of this chunk, with weights s_i N
    double* gradient;      // (K, L)
    // Of queries whose Hessian is asked for, as packed lower triangles:
    double* hessian;        // (n_hessians, entries) sums of this chunk, with weights s_i N c / t_i
    double* piece_second;   // (n_hessians, entries)
    void* products;         // (n_hessians, entries) vectors
    void* deviations;       // (L, kDeviationStride)
    double* means;          // (2, L)
    const double* coldest;  // (n_hessians) c, the lowest temperature of a query
    int pending_tiles;
    bool finite;
    bool score_only;                             // every query is at temperature 0
    bool (*abandoned)(void* pass, bool caller);  // asked now and then; true: nobody waits for the rest of the block
    void* pass;
    bool caller;
};

struct Kernel {
    // Whether a block of many rows costs no more than several small ones: mostly each loss is looked at only once.
    bool (*has_long_blocks)(const LossTable&, const PassRequest&);
    void (*prepare)(Workspace&);              // convert the weights
    void (*block)(const Block&, Workspace&);  // whole samples
    void (*begin_sample)(Workspace&);         // a long sample, piece by piece
    void (*piece)(const Block&, int64_t first_attack, Workspace&);
    void (*end_sample)(int64_t position, Workspace&);
    void (*end_chunk)(Workspace&);
};

// One of each per instruction set. `kernel` is null when the storage is unknown; `read` adds up the 64-byte lines of a
// range, with vector loads only.
namespace baseline {
const Kernel* kernel(Storage storage, bool float64_scores);
const Kernel* kernel_of_sets(Storage storage, bool float64_scores);
uint64_t read(const char* data, int64_t bytes, bool prefetch_ahead);
}  // namespace baseline
#if defined(MIXSOLVE_HAVE_X86_KERNELS)
namespace avx2 {
const Kernel* kernel(Storage storage, bool float64_scores);
const Kernel* kernel_of_sets(Storage storage, bool float64_scores);
uint64_t read(const char* data, int64_t bytes, bool prefetch_ahead);
}  // namespace avx2
namespace avx512 {
const Kernel* kernel(Storage storage, bool float64_scores);
const Kernel* kernel_of_sets(Storage storage, bool float64_scores);
uint64_t read(const char* data, int64_t bytes, bool prefetch_ahead);
}  // namespace avx512
#endif

}  // namespace mixsolve
