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

class TaskRunner {
  public:
    TaskRunner(int threads, std::function<bool()> interrupted)
        : threads_(threads), interrupted_(std::move(interrupted)), shares_(static_cast<size_t>(threads)) {}

    // Runs task(number, worker) for all numbers below `tasks`; a small amount of work stays on the caller's thread.
    // Returns early, with tasks left out, once `stopped`.
    //
    // Every worker begins with the same share of the numbers each time, whose data its caches hold, and then helps the
    // others with theirs.
    template <class Task>
    void run(int64_t tasks, bool small, const Task& task) {
        const int workers = small ? 1 : static_cast<int>(std::min<int64_t>(threads_, tasks));
        for (int64_t share = 0; share < workers; ++share) {
            shares_[share].next = share * tasks / workers;
            shares_[share].end = (share + 1) * tasks / workers;
        }
        const auto serve = [&](int worker) {
            const IeeeArithmetic mode;
            for (int turn = 0; turn < workers; ++turn) {
                Share& share = shares_[(worker + turn) % workers];
                for (;;) {
                    if (worker == 0) poll();
                    const int64_t number = share.next.fetch_add(1);
                    if (stopped_) return;
                    if (number >= share.end) break;
                    task(number, worker);
                }
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
    struct alignas(64) Share {
        std::atomic<int64_t> next;
        int64_t end;
    };

    int threads_;
    std::function<bool()> interrupted_;
    std::vector<Share> shares_;  // of each worker
    std::atomic<bool> stopped_{false};
    std::chrono::steady_clock::time_point next_poll_{};  // the first poll comes at once
};

}  // namespace mixsolve
