// What the kernels are given: plain structures, the same for nvcc and for the host's compiler. Every pointer is to
// memory of the device.
#pragma once

#include <cstdint>

#include "../loss_table.h"

namespace mixsolve {
namespace cuda {

constexpr int kThreads = 256, kThreadBits = 8, kWarpLanes = 32, kWarpBits = 5, kWarps = kThreads / kWarpLanes;

// How the rows lie that a thread reads together.
enum class Lie : int {
    kAligned = 0,     // side by side, such that one load takes them all
    kSideBySide = 1,  // each by a load of its own, from one address on
    kApart = 2,       // each at a place of its own
};

// The work of one block of threads: the samples at positions [begin, end), or some rows of the one at `begin`.
struct Chunk {
    int64_t begin, end;
    int64_t first_row, last_row;  // last_row > 0: a piece of one sample
};

// A sample whose pieces are worked on by several blocks, and the chunks that are its pieces.
struct SplitSample {
    int64_t position;
    int64_t first_chunk, n_chunks;
};

// Rows side by side that a thread reads as one, of 16 bytes of losses or 32 of scores at most.
MIXSOLVE_HOST_DEVICE constexpr int rows_together(int item_size, int score_size) {
    return 16 / (item_size > score_size / 2 ? item_size : score_size / 2);
}

// Of so many numbers that 2^bits threads share, a thread's: an odd number.
template <class Int>
MIXSOLVE_HOST_DEVICE constexpr Int odd_share(Int n, int bits) {
    return (n + (Int{1} << bits) - 1) >> bits | 1;
}

// Where a block keeps what in its shared memory, in bytes.
struct SharedLayout {
    int scores, chance, parts, numbers, rows, deviations, shift, sums;
    int bytes;  // in all
};

// How a block looks at its chunk: tile by tile, all classifiers of some rows at a time, in shared memory. Numbers of
// threads that share something are powers of two, of which the exponent is given.
struct TileShape {
    int rows;          // at most so many, of whole samples or of one long sample
    int stride;        // rows from one classifier to the next in shared memory, see plan.cpp
    int row_bits;      // threads that read the rows of a classifier
    int step;          // threads that share the classifiers of a row: from one classifier of a thread to its next
    int hop;           // so far that is in shared memory, in losses
    int64_t jump;      // and in the table, in bytes
    int n_parts;       // of a row's score, where more threads than those of one warp share its classifiers
    int sample_bits;   // threads that share a sample's attacks, a warp at most
    int moment_bits;   // threads that share a classifier's rows, a warp at most
    int product_bits;  // threads that share the rows of a square of the Hessian, a warp at most
    bool hessian;
    int samples;        // so many whole samples at most; 0: ragged
    int fours;          // times four attacks of a sample that a thread has at most; 0: ragged
    bool wide_samples;  // every sample is a multiple of four attacks
    int sums_bytes;     // of shared memory for sums and records; 0: they stay in device memory
    SharedLayout at;
};

// Of one query and one long sample, or one piece of it: `kRecordHead` numbers, the moment (L), the best row (L) if it
// is asked for, the second moments about the mean (a triangle) if a Hessian is.
constexpr int kRecordMax = 0, kRecordMass = 1, kRecordExcess = 2, kRecordTotal = 3, kRecordScore = 4, kRecordAttack = 5,
              kRecordHead = 6;

// What the code of a kernel has to reckon with.
enum class Kind : int {
    // The pass that solvers make most: one query at one temperature > 0, all samples of a rectangular table, no prior,
    // value and gradient only. Its kernel knows that nothing else can be asked for.
    kPlain = 0,
    kAny = 1,
    kHessian = 2,
};

struct PassArguments {
    LossTable table;
    const int64_t* samples;  // by position, or null for all
    const int64_t* starts;   // (n_positions + 1) rows before each position when ragged, else null
    int64_t n_positions;
    bool contiguous;      // rows follow each other in memory as they do by position
    bool aligned_planes;  // rows that may be read as one in one classifier may in all
    Lie samples_lie;      // the rows of a tile, unless contiguous
    Lie rows_lie;         // rows that follow each other, unless aligned

    int64_t n_queries;
    const void* weights;                // (K, L) in the score type
    const double* temperature;          // (K) or (K, N)
    const double* inverse_temperature;  // likewise; 0 at temperature 0
    int64_t temperature_stride;         // N when they are per sample, else 0
    int64_t n_hessians;                 // of the first queries
    const double* coldest;              // (n_hessians) the lowest temperature of each, 1 at temperature 0

    TileShape tile;
    const Chunk* chunks;        // one per block
    const SplitSample* splits;  // one per block of the kernel that settles them
    // (n_whole chunks + n_splits, n_sums), with weights s_i N: (K, 1 + L) values and gradients, and (n_hessians,
    // triangle) Hessians times the coldest temperature.
    double* sums;
    int64_t n_sums;
    int64_t n_whole;  // chunks of whole samples come first
    double* records;  // (n_chunks, K, record) or null when no sample is longer than a tile
    int record_numbers;

    double* per_sample;    // (K, n) or null
    int64_t* best_attack;  // (K, n) or null
    double* best_row;      // (K, n, L) or null

    // For the derivative by the losses of the only query, all samples asked for; null without it.
    char* loss_gradient;  // (L, n_rows) as the losses are stored
    int64_t n_rows;
    double gradient_scale;  // times weights s_i N
    double* kept_scores;    // (n_rows) of samples longer than a tile
};

struct GatherArguments {
    LossTable table;
    const int64_t* offsets;  // (n) bytes from the table's first loss to the row's loss under the first classifier
    int64_t n;
    double* out;  // (n, L)
};

struct ReduceArguments {
    const double* sums;  // (n_rows, n_columns)
    int64_t n_rows, n_columns;
    int column_lanes;  // columns per block, a power of two up to 32
    double* out;       // (n_columns)
};

}  // namespace cuda
}  // namespace mixsolve
