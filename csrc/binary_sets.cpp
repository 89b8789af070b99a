#include "binary_sets.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "parallel.h"
#include "passes.h"

namespace mixsolve {
namespace {

constexpr int64_t kBlockRows = 2048;     // whose sets stay in the first-level cache
constexpr int64_t kChunkRows = 1 << 14;  // about what a worker takes at a time

// Adds the losses of up to kBlockRows rows of some planes to the sets; false when one is neither 0 nor 1.
//
// Numbers are compared by their bits: what is left of 0 and -0 without the sign is 0. Bytes have none.
template <class Bits>
bool pack_block(const LossTable& table, const char* rows, int64_t n, Bits one, uint64_t* fooled) {
    constexpr int64_t kPlanes = 8 * static_cast<int64_t>(sizeof(Bits));
    Bits sets[kBlockRows];
    Bits odd = 0;
    for (int64_t first = 0; first < table.n_classifiers; first += kPlanes) {
        const int64_t planes = std::min(kPlanes, table.n_classifiers - first);
        std::memset(sets, 0, static_cast<size_t>(n) * sizeof(Bits));
        for (int64_t k = 0; k < planes; ++k) {
            const char* plane = rows + (first + k) * table.stride_classifier;
            const Bits bit = static_cast<Bits>(Bits(1) << k);
            for (int64_t j = 0; j < n; ++j) {
                Bits loss;
                std::memcpy(&loss, plane + j * static_cast<int64_t>(sizeof(Bits)), sizeof(Bits));
                const Bits is_one = loss == one ? static_cast<Bits>(~Bits(0)) : Bits(0);
                const Bits size = sizeof(Bits) == 1 ? loss : static_cast<Bits>(loss << 1);
                odd = static_cast<Bits>(odd | (size & static_cast<Bits>(~is_one)));
                sets[j] = static_cast<Bits>(sets[j] | (is_one & bit));
            }
        }
        for (int64_t j = 0; j < n; ++j) fooled[j] |= static_cast<uint64_t>(sets[j]) << first;
        if (odd) return false;
    }
    return true;
}

template <class Word>
bool widen(const char* rows, int64_t n, uint64_t* fooled) {
    std::copy_n(reinterpret_cast<const Word*>(rows), n, fooled);
    return true;
}

bool pack(const LossTable& table, const char* rows, int64_t n, uint64_t* fooled) {
    if (table.storage == Storage::kBits16) return widen<uint16_t>(rows, n, fooled);
    if (table.storage == Storage::kBits32) return widen<uint32_t>(rows, n, fooled);
    if (table.storage == Storage::kBits64) return widen<uint64_t>(rows, n, fooled);
    std::fill(fooled, fooled + n, 0);
    for (int64_t j = 0; j < n; j += kBlockRows) {
        const char* block = rows + j * item_size(table.storage);
        const int64_t size = std::min(kBlockRows, n - j);
        bool binary = false;
        switch (table.storage) {
            case Storage::kFloat64:
                binary = pack_block<uint64_t>(table, block, size, 0x3FF0000000000000u, fooled + j);
                break;
            case Storage::kFloat32:
                binary = pack_block<uint32_t>(table, block, size, 0x3F800000u, fooled + j);
                break;
            case Storage::kFloat16:
                binary = pack_block<uint16_t>(table, block, size, 0x3C00u, fooled + j);
                break;
            case Storage::kBFloat16:
                binary = pack_block<uint16_t>(table, block, size, 0x3F80u, fooled + j);
                break;
            default:
                binary = pack_block<uint8_t>(table, block, size, 1, fooled + j);
        }
        if (!binary) return false;
    }
    return true;
}

// Whether the rows of consecutive samples follow each other in every plane.
bool is_contiguous(const LossTable& table) {
    return table.row_offsets || table.stride_sample == table.n_attacks * item_size(table.storage);
}

}  // namespace

bool pack_samples(const LossTable& table, int64_t begin, int64_t end, uint64_t* sets) {
    if (is_contiguous(table)) return pack(table, table.sample_data(begin), rows_between(table, begin, end), sets);
    for (int64_t i = begin; i < end; ++i) {
        if (!pack(table, table.sample_data(i), table.rows(i), sets + rows_between(table, begin, i))) return false;
    }
    return true;
}

template <class Word>
bool pack_table(const LossTable& table, int threads, const std::function<bool()>& interrupted, Word* sets) {
    const bool one_line = is_contiguous(table);
    const int64_t all = rows_between(table, 0, table.n_samples), lines = one_line ? 1 : table.n_samples;
    const int64_t n = all / lines, pieces = (n + kChunkRows - 1) / kChunkRows;
    std::vector<std::vector<uint64_t>> scratch(static_cast<size_t>(threads), std::vector<uint64_t>(kChunkRows));
    std::atomic<bool> binary{true};
    TaskRunner runner(threads, interrupted);
    runner.run(lines * pieces, all < kChunkRows, [&](int64_t task, int worker) {
        const int64_t line = task / pieces, first = task % pieces * kChunkRows, count = std::min(kChunkRows, n - first);
        uint64_t* own = scratch[static_cast<size_t>(worker)].data();
        if (!pack(table, table.sample_data(line) + first * item_size(table.storage), count, own)) binary = false;
        std::copy_n(own, count, sets + line * n + first);
    });
    if (runner.stopped()) throw PassInterrupted();
    return binary;
}
template bool pack_table(const LossTable&, int, const std::function<bool()>&, uint16_t*);
template bool pack_table(const LossTable&, int, const std::function<bool()>&, uint32_t*);
template bool pack_table(const LossTable&, int, const std::function<bool()>&, uint64_t*);

std::vector<std::pair<int64_t, int64_t>> binary_chunks(const LossTable& table) {
    std::vector<std::pair<int64_t, int64_t>> chunks;
    int64_t begin = 0, rows = 0;
    for (int64_t i = 0; i < table.n_samples; ++i) {
        rows += table.rows(i);
        if (rows < kChunkRows && i + 1 < table.n_samples) continue;
        chunks.emplace_back(begin, i + 1);
        begin = i + 1;
        rows = 0;
    }
    return chunks;
}

int64_t rows_between(const LossTable& table, int64_t begin, int64_t end) {
    return begin == end ? 0 : table.first_row(end - 1) + table.rows(end - 1) - table.first_row(begin);
}

}  // namespace mixsolve
