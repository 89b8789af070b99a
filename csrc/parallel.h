// Numbered tasks on the pool's threads, with an eye on interruptions.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>

#include "cpu/float_mode.h"
#include "cpu/thread_pool.h"

namespace mixsolve {

class TaskRunner {
  public:
    TaskRunner(int threads, std::function<bool()> interrupted)
        : threads_(threads), interrupted_(std::move(interrupted)) {}

    // Runs task(number, worker) for all numbers below `tasks`; a small amount of work stays on the caller's thread.
    // Returns early, with tasks left out, once `stopped`.
    template <class Task>
    void run(int64_t tasks, bool small, const Task& task) {
        std::atomic<int64_t> next{0};
        const auto serve = [&](int worker) {
            const IeeeArithmetic mode;
            for (;;) {
                if (worker == 0) poll();
                const int64_t number = next.fetch_add(1);
                if (number >= tasks || stopped_) return;
                task(number, worker);
            }
        };
        const int workers = small ? 1 : static_cast<int>(std::min<int64_t>(threads_, tasks));
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
    std::atomic<bool> stopped_{false};
    std::chrono::steady_clock::time_point next_poll_{};  // the first poll comes at once
};

}  // namespace mixsolve
