// Rows of 0/1 losses as sets: bit k says whether the attack fools classifier k.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "loss_table.h"

namespace mixsolve {

constexpr int64_t kMostBinaryClassifiers = 64;  // a set is one word

// The sets of the samples [begin, end), one after the other; false when some loss is neither 0 nor 1.
bool pack_samples(const LossTable& table, int64_t begin, int64_t end, uint64_t* sets);

// The sets of all rows, in order, into words that have a bit for every classifier; false when some loss is neither 0
// nor
// 1. For words of 16, 32 and 64 bits. Throws PassInterrupted when `interrupted`, polled from the calling thread, is
// true.
template <class Word>
bool pack_table(const LossTable& table, int threads, const std::function<bool()>& interrupted, Word* sets);

// Consecutive samples of about so many rows as a worker takes at a time: [begin, end), by the table's shape alone.
std::vector<std::pair<int64_t, int64_t>> binary_chunks(const LossTable& table);

int64_t rows_between(const LossTable& table, int64_t begin, int64_t end);

}  // namespace mixsolve
