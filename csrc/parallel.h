// Numbered tasks on the pool's threads, with an eye on interruptions.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <vector>

#include "cpu/float_mode.h"
#include "cpu/thread_pool.h"

namespace mixsolve {

// Numbers 0, 1, ... that several workers take. Every worker begins with a share of consecutive numbers, the same each
// time, whose data its caches hold and whose memory comes next; then it helps the others with theirs.
class Shares {
  public:
    explicit Shares(int most_workers) : shares_(static_cast<size_t>(most_workers)) {}

    void deal(int64_t numbers, int workers) {
        workers_ = workers;
        for (int64_t share = 0; share < workers; ++share) {
            shares_[share].next = share * numbers / workers;
            shares_[share].end = (share + 1) * numbers / workers;
        }
    }
    // Returns -1 when none is left. `turn` is the worker's own, 0 at first.
    int64_t take(int worker, int& turn) {
        for (; turn < workers_; ++turn) {
            Share& share = shares_[(worker + turn) % workers_];
            const int64_t number = share.next.fetch_add(1);
            if (number < share.end) return number;
        }
        return -1;
    }

  private:
    struct alignas(64) Share {
        std::atomic<int64_t> next;
        int64_t end;
    };

    std::vector<Share> shares_;
    int workers_ = 0;
};

class TaskRunner {
  public:
    TaskRunner(int threads, std::function<bool()> interrupted)
        : threads_(threads), interrupted_(std::move(interrupted)), shares_(threads) {}

    // Runs task(number, worker) for all numbers below `tasks`; a small amount of work stays on the caller's thread.
    // Returns early, with tasks left out, once `stopped`.
    template <class Task>
    void run(int64_t tasks, bool small, const Task& task) {
        const int workers = small ? 1 : static_cast<int>(std::min<int64_t>(threads_, tasks));
        shares_.deal(tasks, workers);
        const auto serve = [&](int worker) {
            const IeeeArithmetic mode;
            for (int turn = 0;;) {
                if (worker == 0) poll();
                const int64_t number = shares_.take(worker, turn);
                if (number < 0 || stopped_) return;
                task(number, worker);
            }
        };
        run_on_threads(workers, std::ref(serve), [this] { poll(); });  // by reference: no allocation
    }

    void poll() {
        const auto now = std::chrono::steady_clock::now();
        if (now < next_poll_) return;
        next_poll_ = now + std::chrono::milliseconds(10);
        if (interrupted_ && interrupted_()) stopped_ = true;
    }

    bool stopped() const { return stopped_; }
    int threads() const { return threads_; }

  private:
    int threads_;
    std::function<bool()> interrupted_;
    Shares shares_;
    std::atomic<bool> stopped_{false};
    std::chrono::steady_clock::time_point next_poll_{};  // the first poll comes at once
};

}  // namespace mixsolve
