#include "binary_rows.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "binary_sets.h"
#include "parallel.h"
#include "passes.h"

namespace mixsolve {
namespace {

constexpr int64_t kFewClassifiers = 12;  // whose sets have a table in the first-level cache
constexpr int64_t kTrialChunks = 4;      // are scanned before the others, to see whether rows are alike
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct Chunk {
    int64_t begin, end;
    std::vector<int64_t> counts;  // sets of each sample
    std::vector<uint64_t> fooled;
    std::vector<int64_t> attack;
    std::vector<double> mass;
};

uint64_t mixed(uint64_t x) {
    x *= 0x9E3779B97F4A7C15u;
    return x ^ (x >> 29);
}

struct Set {
    uint64_t fooled;
    int64_t attack;
    double mass;
};

// Finds the distinct sets of one sample after another.
class Distinct {
  public:
    // Sets of few classifiers, without their mass: they are numbers into a short table.
    void of_few(const uint64_t* fooled, int64_t n) {
        sets_.clear();
        if (seen_.empty()) seen_.assign(size_t(1) << kFewClassifiers, 0);
        ++round_;
        for (int64_t j = 0; j < n; ++j) {
            if (seen_[fooled[j]] == round_) continue;
            seen_[fooled[j]] = round_;
            sets_.push_back({fooled[j], j, 0.0});
        }
    }

    void of(const uint64_t* fooled, int64_t n, const LossTable& table, int64_t first_row) {
        sets_.clear();
        if (slots_.empty()) slots_.assign(1 << 10, 0);
        ++round_;
        int64_t last = -1;
        for (int64_t j = 0; j < n; ++j) {
            if (last < 0 || sets_[static_cast<size_t>(last)].fooled != fooled[j]) last = place(fooled[j], j);
            sets_[static_cast<size_t>(last)].mass += prior(table, first_row + j);
        }
    }

    // Leaves the sets that are part of no other one.
    void maximal() {
        std::sort(sets_.begin(), sets_.end(), [](const Set& a, const Set& b) {
            const int many = __builtin_popcountll(a.fooled), few = __builtin_popcountll(b.fooled);
            return many != few ? many > few : a.fooled < b.fooled;
        });
        size_t kept = 0;
        for (const Set& set : sets_) {
            bool part = false;
            for (size_t i = 0; i < kept && !part; ++i) part = (set.fooled & ~sets_[i].fooled) == 0;
            if (!part) sets_[kept++] = set;
        }
        sets_.resize(kept);
    }

    const std::vector<Set>& sorted() {
        std::sort(sets_.begin(), sets_.end(), [](const Set& a, const Set& b) { return a.fooled < b.fooled; });
        return sets_;
    }

  private:
    static double prior(const LossTable& table, int64_t row) {
        if (!table.prior) return 1.0;
        return table.prior_is_double ? static_cast<const double*>(table.prior)[row]
                                     : static_cast<double>(static_cast<const float*>(table.prior)[row]);
    }

    // A slot holds the round in its high half and the set's place in its low half.
    int64_t place(uint64_t fooled, int64_t attack) {
        if (2 * sets_.size() >= slots_.size()) grow();
        const size_t mask = slots_.size() - 1;
        for (size_t at = mixed(fooled) & mask;; at = (at + 1) & mask) {
            if (slots_[at] >> 32 != round_) {
                slots_[at] = round_ << 32 | sets_.size();
                sets_.push_back({fooled, attack, 0.0});
                return static_cast<int64_t>(sets_.size()) - 1;
            }
            const uint64_t found = slots_[at] & 0xFFFFFFFFu;
            if (sets_[found].fooled == fooled) return static_cast<int64_t>(found);
        }
    }

    void grow() {
        slots_.assign(2 * slots_.size(), 0);
        round_ = 1;
        const size_t mask = slots_.size() - 1;
        for (size_t i = 0; i < sets_.size(); ++i) {
            size_t at = mixed(sets_[i].fooled) & mask;
            while (slots_[at]) at = (at + 1) & mask;
            slots_[at] = round_ << 32 | i;
        }
    }

    std::vector<Set> sets_;
    std::vector<uint64_t> slots_;
    std::vector<uint64_t> seen_;  // the round in which a set was seen last
    uint64_t round_ = 0;
};

struct Worker {
    std::vector<uint64_t> fooled;
    Distinct distinct;
};

bool scan_chunk(const LossTable& table, bool maximal, Chunk& chunk, Worker& worker) {
    const int64_t first_row = table.first_row(chunk.begin);
    const int64_t n = rows_between(table, chunk.begin, chunk.end);
    worker.fooled.resize(static_cast<size_t>(n));
    uint64_t* fooled = worker.fooled.data();
    if (!pack_samples(table, chunk.begin, chunk.end, fooled)) return false;
    for (int64_t i = chunk.begin; i < chunk.end; ++i) {
        const int64_t row = table.first_row(i);
        const uint64_t* own = fooled + (row - first_row);
        if (maximal && table.n_classifiers <= kFewClassifiers) {
            worker.distinct.of_few(own, table.rows(i));
        } else {
            worker.distinct.of(own, table.rows(i), table, row);
        }
        if (maximal) worker.distinct.maximal();
        const std::vector<Set>& sets = worker.distinct.sorted();
        chunk.counts.push_back(static_cast<int64_t>(sets.size()));
        for (const Set& set : sets) {
            chunk.fooled.push_back(set.fooled);
            chunk.attack.push_back(set.attack);
            if (!maximal) chunk.mass.push_back(set.mass);
        }
    }
    return true;
}

std::vector<Chunk> cut(const LossTable& table) {
    std::vector<Chunk> chunks;
    for (const auto& [begin, end] : binary_chunks(table)) chunks.push_back({begin, end, {}, {}, {}, {}});
    return chunks;
}

uint64_t bits_of(double x) {
    uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

void join(const std::vector<Chunk>& chunks, BinaryRows& rows) {
    rows.offsets.push_back(0);
    for (const Chunk& chunk : chunks) {
        for (int64_t count : chunk.counts) rows.offsets.push_back(rows.offsets.back() + count);
        rows.fooled.insert(rows.fooled.end(), chunk.fooled.begin(), chunk.fooled.end());
        rows.attack.insert(rows.attack.end(), chunk.attack.begin(), chunk.attack.end());
        rows.mass.insert(rows.mass.end(), chunk.mass.begin(), chunk.mass.end());
    }
}

}  // namespace

void find_groups(const double* temperature, BinaryRows& rows) {
    const bool weighed = !rows.mass.empty();
    const auto alike = [&](int64_t a, int64_t b) {
        const int64_t i = rows.offsets[a], j = rows.offsets[b], n = rows.offsets[a + 1] - i;
        if (rows.offsets[b + 1] - j != n) return false;
        if (temperature && temperature[a] != temperature[b]) return false;
        return std::equal(&rows.fooled[i], &rows.fooled[i] + n, &rows.fooled[j]) &&
               (!weighed || std::equal(&rows.mass[i], &rows.mass[i] + n, &rows.mass[j]));
    };
    const auto hash = [&](int64_t sample) {
        uint64_t code = temperature ? mixed(bits_of(temperature[sample])) : 0;
        for (int64_t i = rows.offsets[sample]; i < rows.offsets[sample + 1]; ++i) {
            code = mixed(code ^ rows.fooled[i]);
            if (weighed) code = mixed(code ^ bits_of(rows.mass[i]));
        }
        return static_cast<size_t>(code);
    };
    std::unordered_map<int64_t, int64_t, decltype(hash), decltype(alike)> known(64, hash, alike);
    const auto n_samples = static_cast<int64_t>(rows.offsets.size()) - 1;
    for (int64_t i = 0; i < n_samples; ++i) {
        const auto [entry, is_new] = known.emplace(i, static_cast<int64_t>(rows.leader.size()));
        if (is_new) rows.leader.push_back(i);
        rows.group.push_back(entry->second);
    }
}

BinaryRows binary_rows(const LossTable& table, const BinaryRequest& request) {
    std::vector<Chunk> chunks = cut(table);
    const auto n_chunks = static_cast<int64_t>(chunks.size());
    TaskRunner runner(request.threads, request.interrupted);
    std::vector<Worker> workers(static_cast<size_t>(request.threads));
    // A chunk is left out only behind an odd one, so that the first odd one is scanned whatever the others do.
    std::atomic<int64_t> odd{kNever};
    const auto scan = [&](int64_t first, int64_t last) {
        runner.run(last - first, false, [&](int64_t number, int worker) {
            const int64_t c = first + number;
            if (c > odd || scan_chunk(table, request.maximal, chunks[c], workers[worker])) return;
            for (int64_t seen = odd; c < seen && !odd.compare_exchange_weak(seen, c);) {
            }
        });
        if (runner.stopped()) throw PassInterrupted();
    };
    BinaryRows rows{};
    const int64_t trial = std::min(kTrialChunks, n_chunks);
    scan(0, trial);
    rows.rows_read = rows_between(table, 0, chunks[trial - 1].end);
    size_t kept = 0;
    for (int64_t c = 0; c < trial; ++c) kept += chunks[c].fooled.size();
    const bool alike = trial == n_chunks || 2 * static_cast<int64_t>(kept) <= rows.rows_read;
    if (odd == kNever && alike) {
        scan(trial, n_chunks);
        rows.rows_read = rows_between(table, 0, table.n_samples);
    }
    if (odd != kNever) rows.rows_read = rows_between(table, 0, chunks[odd].end);
    if (odd != kNever || !alike) return rows;
    join(chunks, rows);
    find_groups(request.temperature, rows);
    rows.found = true;
    return rows;
}

}  // namespace mixsolve
