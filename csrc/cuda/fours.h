// How the threads of a sample share its attacks among them: some at a time, four where registers hold them.
#pragma once

#include "groups.h"

namespace mixsolve {
namespace cuda {

// The threads of a sample, and its rows in the tile.
struct Share {
    int64_t sample;
    int begin, count, lane, bits;
};

// A thread's attacks in fours: those of all threads by turns if `kWide`, else all of a thread's side by side, an
// odd number of them, so that neighbours look into different banks of shared memory.
template <class Score, bool kWide, int kSize>
struct Fours {
    static constexpr Score kNothing = -INFINITY;  // whose exponential is 0
    using Four = Numbers<Score, kSize>;

    int first, end, step;  // places in `scores` and `chance`: from one four to the next, all before `end`
    int count;             // of fours, the same for all threads of a sample

    MIXSOLVE_DEVICE explicit Fours(const Share& here) {
        const int lanes = 1 << here.bits, all = here.begin + here.count;
        const int own = kWide ? kSize : odd_share(here.count, here.bits);
        first = here.begin + here.lane * own;
        end = kWide || first + own > all ? all : first + own;
        step = kWide ? kSize * lanes : kSize;
        count = kWide ? (here.count + step - 1) >> here.bits >> 2 : (own + kSize - 1) / kSize;
    }
    MIXSOLVE_DEVICE Four load(const Score* from, int g) const {
        const int at = first + g * step;
        Four four;
#pragma unroll
        for (int i = 0; i < kSize; ++i) four.number[i] = kNothing;
        if (kWide && at < end) four = load_together<Four>(from + at);
#pragma unroll
        for (int i = 0; i < kSize; ++i) {
            if (!kWide && at + i < end) four.number[i] = from[at + i];
        }
        return four;
    }
    MIXSOLVE_DEVICE void store(Score* to, int g, const Four& four) const {
        const int at = first + g * step;
        if (kWide && at < end) store_together(to + at, four);
#pragma unroll
        for (int i = 0; i < kSize; ++i) {
            if (!kWide && at + i < end) to[at + i] = four.number[i];
        }
    }
};

}  // namespace cuda
}  // namespace mixsolve
