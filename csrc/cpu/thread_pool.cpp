#include "thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace mixsolve {
namespace {

// Jobs follow each other closely in the solvers, and waking a thread takes about as long as a short job: who waits
// looks out for so long before going to sleep.
constexpr auto kLookout = std::chrono::microseconds(100);

struct Job {
    const std::function<void(int)>* work;
    int open;                      // helpers that may still join
    int next_worker;               // number of the next helper
    std::atomic<int> running;      // helpers at work; changed under the lock
    std::exception_ptr failure{};  // thrown again by the caller
};

// Returns when `ready` does, or after `kLookout`; leaves the processor to other threads that want it.
template <class Ready>
void look_out(const Ready& ready) {
    const auto end = std::chrono::steady_clock::now() + kLookout;
    while (!ready() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

class ThreadPool {
  public:
    void run(int threads, const std::function<void(int)>& work, const std::function<void()>& waiting) {
        Job job{&work, threads - 1, 1, {0}};
        {
            std::lock_guard<std::mutex> lock(mutex_);
            add_threads(threads - 1);
            jobs_.push_back(&job);
            ++posted_;
        }
        wake_.notify_all();
        const std::exception_ptr failure = outcome(work, 0);
        std::unique_lock<std::mutex> lock(mutex_);
        if (failure) job.failure = failure;
        jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
        if (job.running > 0) {
            lock.unlock();
            look_out([&job] { return job.running == 0; });
            lock.lock();
        }
        while (job.running > 0) {
            done_.wait_for(lock, std::chrono::milliseconds(5));
            lock.unlock();
            waiting();
            lock.lock();
        }
        if (job.failure) std::rethrow_exception(job.failure);
    }

  private:
    // An exception must neither leave a helper nor let the caller return while helpers are at its work.
    static std::exception_ptr outcome(const std::function<void(int)>& work, int worker) {
        try {
            work(worker);
        } catch (...) {
            return std::current_exception();
        }
        return nullptr;
    }

    // Threads are never joined: they sleep until the process ends, and the pool is never destroyed.
    void add_threads(int wanted) {
        while (n_threads_ < wanted) {
            try {
                std::thread([this] { serve(); }).detach();
            } catch (const std::system_error&) {
                return;  // no more threads to be had: the caller does the work alone
            }
            ++n_threads_;
        }
    }

    void serve() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            Job* job = open_job();
            if (job == nullptr) {
                const uint64_t seen = posted_;
                lock.unlock();
                look_out([this, seen] { return posted_ != seen; });
                lock.lock();
            }
            wake_.wait(lock, [&] { return (job = open_job()) != nullptr; });
            const int worker = job->next_worker++;
            --job->open;
            ++job->running;
            lock.unlock();
            const std::exception_ptr failure = outcome(*job->work, worker);
            lock.lock();
            if (failure) job->failure = failure;
            if (--job->running == 0) done_.notify_all();
        }
    }

    Job* open_job() {
        for (Job* job : jobs_) {
            if (job->open > 0) return job;
        }
        return nullptr;
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<Job*> jobs_;
    std::atomic<uint64_t> posted_{0};  // jobs so far
    int n_threads_ = 0;
};

std::atomic<ThreadPool*> pool{nullptr};

ThreadPool& current_pool() {
    ThreadPool* existing = pool.load();
    if (existing == nullptr) {
        auto* fresh = new ThreadPool;
        if (pool.compare_exchange_strong(existing, fresh)) {
#if defined(__unix__) || defined(__APPLE__)
            // The threads of the parent do not exist in a child, and its locks may be held: start afresh there.
            static std::once_flag once;
            std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); }); });
#endif
            return *fresh;
        }
        delete fresh;
    }
    return *existing;
}

}  // namespace

void run_on_threads(int threads, const std::function<void(int)>& work, const std::function<void()>& waiting) {
    if (threads <= 1) {
        work(0);
        return;
    }
    current_pool().run(threads, work, waiting);
}

int available_threads() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace mixsolve
