// Reads the rows of a tile from the table, once.
#pragma once

#include "tile.h"

namespace mixsolve {
namespace cuda {

// `kPlain`: in the plain kernel, which has registers to spare.
template <class Score, class Stored, bool kPlain>
struct TileReader {
    static constexpr int kTogether = Tile<Score, Stored>::kTogether, kRows = Tile<Score, Stored>::kRows;
    static constexpr int kStep = kThreads * kRows;
    using Group = typename Tile<Score, Stored>::Group;

    Tile<Score, Stored>& tile;
    const PassArguments& asked;

    // Threads side by side read neighbouring rows of one classifier, each thread `kRows` rows of several classifiers,
    // and score them for the first query on the way. `place(row)` is where the row lies in the first classifier's
    // plane. Until `score` has ended, a thread may look at no other losses than those it loads.
    template <class Place>
    MIXSOLVE_DEVICE void load(int n_rows, Lie lie, const Place& place) {
#pragma unroll 1
        for (int begin = 0; begin < n_rows; begin += kStep) {
            Score score[kRows] = {};
            load_rows(begin + tile.own_row, n_rows, lie, place, score);
            tile.tell(begin + tile.own_row, n_rows, score);
        }
    }

    // Likewise of few classifiers, rows that follow each other and fill more than three quarters of the largest tile:
    // each thread reads twice as many at a time. What is beyond the last row is 0.
    MIXSOLVE_DEVICE bool loads_twice(int n_rows) const {
        return kPlain && kRows <= 4 && sizeof(Score) == 4 && asked.tile.rows == 2 * kStep && 2 * n_rows > 3 * kStep &&
               tile.n_classifiers() < kTogether;
    }
    MIXSOLVE_DEVICE void load_twice(const char* begin, int n_rows) {
        if (n_rows % kRows == 0 && tile.lie_from(begin) == Lie::kAligned) {
            load_twice<true>(begin, n_rows);
        } else {
            load_twice<false>(begin, n_rows);
        }
    }

  private:
    template <class Place>
    MIXSOLVE_DEVICE void load_rows(int row, int n_rows, Lie lie, const Place& place, Score (&score)[kRows]) {
        const Score* weight = static_cast<const Score*>(asked.weights) + tile.own_classifier;
        Stored* to = tile.losses + tile.own_classifier * asked.tile.stride + row;
        const int here = n_rows - row, left = here > 0 ? tile.own_share : 0;
        if (left <= 0) return;
        if (lie == Lie::kApart) return read_apart(row, here, left, place, to, weight, score);
        const char* const from = place(row) + tile.own_classifier * asked.table.stride_classifier;
        if (lie == Lie::kAligned && here >= kRows) {
            read_all<true>(kRows, left, from, to, weight, score);
        } else {
            read_all<false>(here, left, from, to, weight, score);
        }
    }
    template <bool kWide>
    MIXSOLVE_DEVICE void read_all(int here, int left, const char* from, Stored* to, const Score* weight,
                                  Score (&score)[kRows]) {
#pragma unroll 1
        for (; left >= kTogether; left -= kTogether) read<kTogether, kWide>(here, from, to, weight, score);
        if (left & 4) read<4, kWide>(here, from, to, weight, score);
        if (left & 2) read<2, kWide>(here, from, to, weight, score);
        if (left & 1) read<1, kWide>(here, from, to, weight, score);
    }

    // So many classifiers, in a partial sum of their own: that keeps the rounding error of many classifiers small.
    template <int kCount, bool kWide>
    MIXSOLVE_DEVICE void read(int here, const char*& from, Stored*& to, const Score*& weight, Score (&score)[kRows]) {
        const TileShape& shape = asked.tile;
        constexpr bool kAll = kWide || (kPlain && kRows <= 4 && sizeof(Score) == 4);
        constexpr int kAtOnce = kAll ? kCount : 1;  // that registers hold
        Score sum[kRows] = {};
#pragma unroll 1
        for (int done = 0; done < kCount; done += kAtOnce) {
            Group held[kAtOnce];
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i, from += shape.jump) {
                held[i] = kWide ? load_together<Group>(from) : load_some(from, here);
            }
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i, to += shape.hop, weight += shape.step) {
                Tile<Score, Stored>::add_weighted(held[i], *weight, sum);
                store_together(to, held[i]);
            }
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r) score[r] += sum[r];
    }

    template <bool kWide>
    MIXSOLVE_DEVICE void load_twice(const char* begin, int n_rows) {
        const int left = tile.n_classifiers(), here = n_rows - kStep - tile.own_row;  // of the later ones
        const char* from = begin + tile.own_row * static_cast<int>(sizeof(Stored));
        const Score* weight = static_cast<const Score*>(asked.weights);
        Stored* to = tile.losses + tile.own_row;
        Score first[kRows] = {}, second[kRows] = {};
        if (left & 4) read_twice<4, kWide>(here, from, to, weight, first, second);
        if (left & 2) read_twice<2, kWide>(here, from, to, weight, first, second);
        if (left & 1) read_twice<1, kWide>(here, from, to, weight, first, second);
        tile.tell(tile.own_row, 2 * kStep, first);
        tile.tell(tile.own_row + kStep, 2 * kStep, second);
    }
    template <int kCount, bool kWide>
    MIXSOLVE_DEVICE void read_twice(int here, const char*& from, Stored*& to, const Score*& weight,
                                    Score (&first)[kRows], Score (&second)[kRows]) {
        Group held[kCount], more[kCount];
#pragma unroll
        for (int i = 0; i < kCount; ++i, from += asked.tile.jump) {
            const char* const other = from + kStep * sizeof(Stored);
            held[i] = kWide ? load_together<Group>(from) : load_some(from, kRows);
            more[i] = !kWide ? load_some(other, here) : here > 0 ? load_together<Group>(other) : Group{};
        }
#pragma unroll
        for (int i = 0; i < kCount; ++i, to += asked.tile.stride, ++weight) {
            const Score factor = *weight;
            Tile<Score, Stored>::add_weighted(held[i], factor, first);
            Tile<Score, Stored>::add_weighted(more[i], factor, second);
            store_together(to, held[i]);
            store_together(to + kStep, more[i]);
        }
    }
    // Rows that lie side by side, not as a wide load wants them; 0 beyond the last one.
    MIXSOLVE_DEVICE static Group load_some(const char* from, int here) {
        Stored stored[kRows] = {};
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            if (r < here) stored[r] = reinterpret_cast<const Stored*>(from)[r];
        }
        return pack(stored);
    }

    // Row by row, where rows do not lie side by side; a few at a time, whose places registers hold.
    template <class Place>
    MIXSOLVE_DEVICE void read_apart(int row, int here, int left, const Place& place, Stored* to, const Score* weight,
                                    Score (&score)[kRows]) {
        constexpr int kSome = kRows < 4 ? kRows : 4;
#pragma unroll
        for (int first = 0; first < kRows; first += kSome) {
            Score some[kSome] = {};
            read_some_apart(row + first, here - first, left, place, to + first, weight, some);
#pragma unroll
            for (int r = 0; r < kSome; ++r) score[first + r] += some[r];
        }
    }
    template <class Place, int kSome>
    MIXSOLVE_DEVICE void read_some_apart(int row, int here, int left, const Place& place, Stored* to,
                                         const Score* weight, Score (&score)[kSome]) {
        const TileShape& shape = asked.tile;
        const char* from[kSome];
#pragma unroll
        for (int r = 0; r < kSome; ++r) {
            from[r] = r < here ? place(row + r) + tile.own_classifier * asked.table.stride_classifier : nullptr;
        }
#pragma unroll 1
        while (left > 0) {
            const int count = Tile<Score, Stored>::next_count(left);
            Score sum[kSome] = {};
#pragma unroll 1
            for (int i = 0; i < count; ++i, to += shape.hop, weight += shape.step) {
#pragma unroll
                for (int r = 0; r < kSome; ++r) {
                    if (r >= here) continue;
                    const Stored one = *reinterpret_cast<const Stored*>(from[r]);
                    sum[r] = multiply_add(*weight, static_cast<Score>(widen(one)), sum[r]);
                    to[r] = one;
                    from[r] += shape.jump;
                }
            }
#pragma unroll
            for (int r = 0; r < kSome; ++r) score[r] += sum[r];
            left -= count;
        }
    }
};

}  // namespace cuda
}  // namespace mixsolve
