// A small pool of our own: no second OpenMP runtime beside torch's, safe after fork, callable from several threads.
#pragma once

#include <functional>

namespace mixsolve {

// Runs `work(worker)` on up to `threads` threads at once, the caller being worker 0, and returns when all that
// started have returned. A helper that comes too late is not waited for. An exception of any of them is thrown again
// here, when all have returned. `waiting` is called from the caller's thread every few milliseconds while it waits.
void run_on_threads(int threads, const std::function<void(int)>& work, const std::function<void()>& waiting);

// Processors this process may use.
int available_threads();

}  // namespace mixsolve
