// One block of CUDA threads after the other, on one CPU thread: a fiber for each CUDA thread, which runs until it waits
// at a barrier or for the other lanes of its warp. Breaking CUDA's rules of the two ends the launch with an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace emulator {

struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Place {
    const char* file;
    int line;
};
struct Index {
    unsigned x;
};

// For kernels.
Index thread_index();
Index block_index();
char* shared_memory();
void barrier(Place place);
uint64_t exchange_bits(unsigned mask, uint64_t bits, int distance, Place place);
float disturbed(float exponential);

// For the host. Throws Fault.
using Entry = void (*)(const void* arguments);
void launch(Entry entry, int64_t blocks, int threads, size_t shared_bytes, const void* arguments,
            size_t argument_bytes);
void disturb_exponentials(int ulp);
void leave_out_barrier(const std::string& file, int line);  // as if it were not there; line 0: none

// For the checks of memory: whose turn it is, or null; the fault ends the launch and does not return.
struct Turn {
    int64_t block;
    int thread;
    int epoch;  // barriers passed by the block
    const char* stack;
    size_t stack_bytes;
};
const Turn* turn();
[[noreturn]] void fail(const char* what);

}  // namespace emulator
