// How a pass is cut into chunks and blocks: by the table's shape and by what is asked for, never by threads.
#pragma once

#include <algorithm>
#include <vector>

#include "kernel.h"

namespace mixsolve {

// Samples (as positions among those asked for) that one worker does in one go, with partial sums of its own.
struct Chunk {
    int64_t begin, end;
};

class Partition {
  public:
    Partition(const LossTable& table, const PassRequest& request, bool long_blocks);

    const std::vector<Chunk>& chunks() const { return chunks_; }
    int64_t rows() const { return rows_; }
    // Rows of each piece of a sample that is longer than a block.
    int piece_rows(int64_t sample_rows) const;

    int64_t sample(int64_t position) const { return samples_ ? samples_[position] : position; }

    // Fills `start` with the first rows of consecutive samples from `position` on that make up the next block, and
    // returns how many they are: 0 when the first of them is longer than a block.
    int next_block(int64_t position, int64_t end, int32_t* start, bool& contiguous) const;

  private:
    const LossTable& table_;
    const int64_t* samples_;
    std::vector<Chunk> chunks_;
    int64_t rows_ = 0;
    int block_rows_, piece_rows_;
    int block_samples_;  // for tables of equal samples
};

}  // namespace mixsolve
