#include "partition.h"

#include <numeric>

namespace mixsolve {
namespace {

constexpr int64_t kMostChunks = 256, kFewestChunks = 16, kMinChunkBytes = 1 << 19;
constexpr int64_t kPartialSums = 1 << 23;  // doubles that the chunks of a pass of very many queries may take
constexpr int kLineRows = 16;              // rows are counted in whole vectors of the widest kind
constexpr int kSmallRun = 256;             // shorter runs of rows are copied together rather than visited one by one

// Long runs of rows in each plane are what memory likes best, so a block of many classifiers fills half of the second
// cache, or outgrows it; a block of few classifiers stays within the first.
int rows_per_block(const LossTable& table, const PassRequest& request) {
    constexpr int64_t kFirstCache = 32768, kHalfSecondCache = 1 << 19, kFewest = 1024, kMost = 4096;
    static_assert(kMost <= kMaxBlockRows, "a block must fit the buffers");
    const int64_t fewest =
        takes_many_planes(table, request) ? std::clamp(kHalfSecondCache / table.row_bytes(), kFewest, kMost) : kFewest;
    return static_cast<int>(std::clamp(kFirstCache / table.row_bytes(), fewest, kMost) / kLineRows * kLineRows);
}

int64_t most_chunks(const LossTable& table, const PassRequest& request) {
    const int64_t affordable = kPartialSums / (request.n_queries * (table.n_classifiers + 1) +
                                               request.n_hessians * hessian_entries(table.n_classifiers));
    return std::min(std::max(affordable, kFewestChunks), kMostChunks);
}

}  // namespace

Partition::Partition(const LossTable& table, const PassRequest& request, bool long_blocks)
    : table_(table),
      samples_(request.samples),
      block_rows_(long_blocks ? kLongBlockRows : rows_per_block(table, request)),
      piece_rows_(rows_per_block(table, request)) {
    const int64_t n = request.n_samples;
    if (!table.row_offsets) {
        rows_ = n * table.n_attacks;
    } else if (!samples_) {
        rows_ = table.row_offsets[n];
    } else {
        for (int64_t i = 0; i < n; ++i) rows_ += table.rows(samples_[i]);
    }
    block_samples_ = 0;
    int whole = 1;  // so many samples fill whole vectors
    if (!table.row_offsets && table.n_attacks <= block_rows_) {
        block_samples_ = static_cast<int>(std::min<int64_t>(block_rows_ / table.n_attacks, kMaxBlockRows));
        whole = kLineRows / static_cast<int>(std::gcd<int64_t>(table.n_attacks, kLineRows));
        if (block_samples_ >= whole) block_samples_ -= block_samples_ % whole;
    }

    const int64_t bytes = rows_ * table.row_bytes();
    const int64_t wanted =
        std::min(std::max<int64_t>(bytes / kMinChunkBytes, 1), std::min(most_chunks(table, request), n));
    // Small blocks at the ends of chunks are slow, unless chunks have few blocks at all.
    const bool many_blocks = !long_blocks && rows_ >= 4 * wanted * block_rows_;
    const int64_t unit = many_blocks && block_samples_ > whole ? block_samples_ : whole;
    for (int64_t c = 0, begin = 0; c < wanted && begin < n; ++c) {
        int64_t end = n * (c + 1) / wanted;
        if (table.row_offsets && !samples_) {  // equal rows, not equal samples
            const int64_t row = static_cast<int64_t>(static_cast<double>(rows_) * static_cast<double>(c + 1) /
                                                     static_cast<double>(wanted));
            end = std::upper_bound(table.row_offsets, table.row_offsets + n, row) - table.row_offsets;
        } else if (block_samples_ > 0 && c + 1 < wanted) {
            end = std::max<int64_t>(end / unit * unit, begin);
        }
        if (c + 1 == wanted) end = n;
        if (end > begin) chunks_.push_back({begin, end});
        begin = std::max(begin, end);
    }
}

int Partition::piece_rows(int64_t sample_rows) const {
    const int64_t pieces = (sample_rows + piece_rows_ - 1) / piece_rows_;
    const int64_t rows = (sample_rows + pieces - 1) / pieces;
    return static_cast<int>((rows + kLineRows - 1) / kLineRows * kLineRows);
}

int Partition::next_block(int64_t position, int64_t end, int32_t* start, bool& contiguous) const {
    const int64_t size = item_size(table_.storage);
    int64_t rows = 0;
    int count = 0;
    contiguous = true;
    const char* next = nullptr;
    start[0] = 0;
    while (position + count < end) {
        const int64_t i = sample(position + count), m = table_.rows(i);
        if (rows + m > block_rows_ || (block_samples_ > 0 && count == block_samples_)) break;
        const char* data = table_.sample_data(i);
        // The prior lies in the order of the samples, whatever the order of the losses.
        if (next && (data != next || i != sample(position + count - 1) + 1)) {
            if (rows >= kSmallRun || m >= kSmallRun) break;
            contiguous = false;
        }
        rows += m;
        start[++count] = static_cast<int32_t>(rows);
        next = data + m * size;
    }
    return count;
}

}  // namespace mixsolve
