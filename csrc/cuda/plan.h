// How a pass is cut into tiles and chunks: by the shape of the table and of the question alone, never by the device, so
// that equal input gives equal bits wherever it is run.
#pragma once

#include <vector>

#include "../passes.h"
#include "arguments.h"

namespace mixsolve {
namespace cuda {

// Sizes that decide the plan; the tests choose smaller ones, so that small tables are cut as large ones are.
struct PlanSizes {
    int64_t tile_bytes = 32 * 1024;         // of losses in shared memory
    int64_t most_tile_rows = 2048;          // half as many with float64 scores
    int64_t chunk_bytes = 256 * 1024;       // at least so many per block
    int64_t most_chunks = 8192;             // of whole samples
    int64_t piece_bytes = 1024 * 1024;      // a longer sample is cut into pieces
    int64_t shared_sums_bytes = 20 * 1024;  // beyond, sums stay in device memory
};

struct Plan {
    TileShape tile;
    int record_numbers;
    int64_t n_sums;   // per block
    int64_t n_whole;  // the first chunks
    bool has_records;
    std::vector<Chunk> chunks;
    std::vector<SplitSample> splits;
    int64_t rows;  // read in all
};

// `table` is seen from the host: its row offsets are in host memory.
// What is asked for beside sums. For derivatives by the losses every sample longer than a tile is split.
struct Wanted {
    bool best_row, loss_gradient;
};
Plan make_plan(const LossTable& table, const PassRequest& request, Wanted wanted, const PlanSizes& sizes);

}  // namespace cuda
}  // namespace mixsolve
