#include "machine.h"

#include <sys/mman.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "memory.h"

#if !defined(__x86_64__)
#error "the emulator switches stacks of x86-64 processors only"
#endif

// Saves the registers that a call must keep, and goes on where the other stack was left.
extern "C" void mixsolve_switch_stack(void** save, void* to);
asm(R"(
.text
.globl mixsolve_switch_stack
.hidden mixsolve_switch_stack
.type mixsolve_switch_stack,@function
mixsolve_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size mixsolve_switch_stack,.-mixsolve_switch_stack
)");

namespace emulator {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr int kLanes = 32;

enum class State { kReady, kAtBarrier, kExchanging, kDone };

struct Thread {
    State state;
    void* stack_pointer;
    char* stack;
    Place place;
    unsigned mask;
    int distance;
    uint64_t bits;
};

struct Machine {
    std::vector<Thread> threads;
    Turn turn{};
    Thread* running = nullptr;
    void* scheduler = nullptr;
    Entry entry = nullptr;
    const void* arguments = nullptr;
    char* shared = nullptr;
    std::string fault;
    int disturbance = 0;
    std::string left_out_file;
    int left_out_line = 0;  // of no barrier
};

Machine machine;

void to_scheduler() { mixsolve_switch_stack(&machine.running->stack_pointer, machine.scheduler); }

void thread_main() {
    machine.entry(machine.arguments);
    machine.running->state = State::kDone;
    to_scheduler();
    std::abort();
}

std::string where(const Thread& thread) {
    return "thread " + std::to_string(&thread - machine.threads.data()) + " at " + thread.place.file + ":" +
           std::to_string(thread.place.line);
}

void wait_as(State state, Place place) {
    machine.running->state = state;
    machine.running->place = place;
    to_scheduler();
}

bool same_place(const Thread& a, const Thread& b) {
    return a.place.file == b.place.file && a.place.line == b.place.line;
}

class BlockRun {
  public:
    BlockRun(int64_t block, int n_threads) : n_(n_threads) {
        machine.turn.block = block;
        machine.turn.epoch = 0;
        while (static_cast<int>(machine.threads.size()) < n_) {
            void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (memory == MAP_FAILED) throw Fault("no memory for the stacks of the emulated threads");
            machine.threads.push_back({State::kReady, nullptr, static_cast<char*>(memory), {}, 0, 0, 0});
        }
        for (int i = 0; i < n_; ++i) start(machine.threads[i]);
    }

    void run() {
        for (;;) {
            bool moved = false;
            for (int i = 0; i < n_; ++i) moved |= resume(i);
            for (int warp = 0; warp < n_; warp += kLanes) moved |= complete_exchange(warp);
            moved |= complete_barrier();
            if (all_done()) return;
            if (!moved) throw Fault("the block cannot go on: " + where(first_waiting()) + " waits for others");
        }
    }

  private:
    static void start(Thread& thread) {
        thread.state = State::kReady;
        void** top = reinterpret_cast<void**>(thread.stack + kStackBytes);
        *--top = nullptr;
        *--top = reinterpret_cast<void*>(&thread_main);
        thread.stack_pointer = top - 6;  // registers, whatever they hold
    }

    bool resume(int i) {
        Thread& thread = machine.threads[i];
        if (thread.state != State::kReady) return false;
        machine.running = &thread;
        machine.turn.thread = i;
        machine.turn.stack = thread.stack;
        machine.turn.stack_bytes = kStackBytes;
        mixsolve_switch_stack(&machine.scheduler, thread.stack_pointer);
        machine.running = nullptr;
        if (!machine.fault.empty()) throw Fault(machine.fault);
        return true;
    }

    bool complete_exchange(int warp) {
        Thread* lanes = machine.threads.data() + warp;
        int waiting = 0, done = 0;
        for (int l = 0; l < kLanes; ++l) {
            waiting += lanes[l].state == State::kExchanging;
            done += lanes[l].state == State::kDone;
        }
        if (waiting > 0 && done > 0) throw Fault("an exchange names a lane that has ended: " + where(lanes[0]));
        if (waiting < kLanes) return false;
        uint64_t bits[kLanes];
        for (int l = 0; l < kLanes; ++l) {
            if (!same_place(lanes[l], lanes[0]) || lanes[l].mask != 0xffffffffu ||
                lanes[l].distance != lanes[0].distance) {
                throw Fault("lanes of a warp exchange at different places: " + where(lanes[0]) + ", " +
                            where(lanes[l]));
            }
            bits[l] = lanes[l].bits;
        }
        for (int l = 0; l < kLanes; ++l) {
            lanes[l].bits = bits[l ^ lanes[l].distance];
            lanes[l].state = State::kReady;
        }
        return true;
    }

    bool complete_barrier() {
        int waiting = 0;
        for (int i = 0; i < n_; ++i) waiting += machine.threads[i].state == State::kAtBarrier;
        if (waiting < n_) {
            if (waiting > 0 && waiting + count_done() == n_) throw Fault("a barrier is not reached by all threads");
            return false;
        }
        for (int i = 0; i < n_; ++i) {
            if (!same_place(machine.threads[i], machine.threads[0])) {
                throw Fault("threads of a block wait at different barriers: " + where(machine.threads[0]) + ", " +
                            where(machine.threads[i]));
            }
        }
        for (int i = 0; i < n_; ++i) machine.threads[i].state = State::kReady;
        ++machine.turn.epoch;
        return true;
    }

    int count_done() const {
        int done = 0;
        for (int i = 0; i < n_; ++i) done += machine.threads[i].state == State::kDone;
        return done;
    }
    bool all_done() const { return count_done() == n_; }
    const Thread& first_waiting() const {
        int i = 0;
        while (machine.threads[i].state == State::kDone) ++i;
        return machine.threads[i];
    }

    int n_;
};

}  // namespace

Index thread_index() { return {static_cast<unsigned>(machine.turn.thread)}; }
Index block_index() { return {static_cast<unsigned>(machine.turn.block)}; }
char* shared_memory() { return machine.shared; }
void barrier(Place place) {
    if (place.line == machine.left_out_line && machine.left_out_file == std::filesystem::path(place.file).filename())
        return;
    wait_as(State::kAtBarrier, place);
}

uint64_t exchange_bits(unsigned mask, uint64_t bits, int distance, Place place) {
    Thread* self = machine.running;
    self->mask = mask;
    self->bits = bits;
    self->distance = distance;
    wait_as(State::kExchanging, place);
    return self->bits;
}

float disturbed(float exponential) {
    for (int i = 0; i < machine.disturbance; ++i) exponential = std::nextafter(exponential, 2 * exponential);
    for (int i = 0; i > machine.disturbance; --i) exponential = std::nextafter(exponential, 0.0f);
    return exponential;
}
void disturb_exponentials(int ulp) { machine.disturbance = ulp; }
void leave_out_barrier(const std::string& file, int line) {
    machine.left_out_file = file;
    machine.left_out_line = line;
}

const Turn* turn() { return machine.running ? &machine.turn : nullptr; }

void fail(const char* what) {
    machine.fault = what;
    to_scheduler();
    std::abort();
}

void launch(Entry entry, int64_t blocks, int threads, size_t shared_bytes, const void* arguments,
            size_t argument_bytes) {
    machine.entry = entry;
    machine.arguments = arguments;
    const ArgumentRegion argument_region(arguments, argument_bytes);
    const SharedMemory shared(shared_bytes);
    machine.shared = shared.data();
    begin_launch();
    machine.fault.clear();
    for (int64_t b = 0; b < blocks; ++b) {
        shared.clear();
        BlockRun(b, threads).run();
    }
}

}  // namespace emulator
