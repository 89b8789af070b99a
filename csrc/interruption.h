// Long work without Python's interpreter, which Ctrl-C and other threads can
// end.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>

namespace mixsolve {

// Lets other Python threads run. Before Python 3.14 a thread that comes back
// while the interpreter is torn down is ended by unwinding its stack, which no
// destructor survives: it stays here instead until the process has ended.
class WithoutInterpreter {
  public:
    WithoutInterpreter() : state_(PyEval_SaveThread()) {}
    ~WithoutInterpreter();
    WithoutInterpreter(const WithoutInterpreter&) = delete;
    WithoutInterpreter& operator=(const WithoutInterpreter&) = delete;

  private:
    PyThreadState* state_;
};

struct CancelToken {
    std::atomic<bool> cancelled{false};
};

struct Cancelled : std::runtime_error {
    Cancelled() : std::runtime_error("the pass was cancelled") {}
};

// Runs `call(interrupted)` without the interpreter, until a signal handler
// raises or the token, if there is one, is cancelled.
void run_interruptibly(const CancelToken* cancel, const std::function<void(const std::function<bool()>&)>& call);

void bind_interruption(pybind11::module_& module);

}  // namespace mixsolve
