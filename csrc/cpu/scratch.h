// Memory that a thread works in: kept between passes, since solvers make many short ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mixsolve {

// Hands out its memory piece by piece, aligned to lines of memory.
class Arena {
  public:
    void* take(size_t bytes) {
        used_ = (used_ + 63) / 64 * 64;
        void* here = memory_.data() + base_ + used_;
        used_ += bytes;
        return here;
    }
    void reset(size_t capacity) {
        if (memory_.size() < capacity + 64) memory_.resize(capacity + 64);
        base_ = (64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64) % 64;
        used_ = 0;
    }

  private:
    std::vector<char> memory_;
    size_t base_ = 0, used_ = 0;
};

struct Scratch {
    Arena arena;
    std::vector<char> packed, packed_prior;  // samples that are scattered in the table, side by side
};

// That of the calling thread, which it keeps until it ends.
Scratch& thread_scratch();

}  // namespace mixsolve
