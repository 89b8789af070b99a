#include "interruption.h"

#include <chrono>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "passes.h"

namespace py = pybind11;

namespace mixsolve {
namespace {

// Python handles signals in its main thread; other threads need not wait for
// the interpreter to look for them. Kept here, since asking would run Python
// code, which may be the end of a thread while the interpreter is torn down.
std::atomic<unsigned long> main_thread{0};

void know_main_thread() {
    main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, [] { main_thread = PyThread_get_thread_ident(); });
#endif
}

}  // namespace

WithoutInterpreter::~WithoutInterpreter() {
    try {
        PyEval_RestoreThread(state_);
    } catch (...) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

void run_interruptibly(const CancelToken* cancel, const std::function<void(const std::function<bool()>&)>& call) {
    bool raised = false;
    const std::function<bool()> interrupted = [&raised, cancel, signals = PyThread_get_thread_ident() == main_thread] {
        if (signals && !raised && !(cancel && cancel->cancelled)) {
            const py::gil_scoped_acquire acquire;
            raised = PyErr_CheckSignals() != 0;
        }
        return raised || (cancel && cancel->cancelled);
    };
    if (cancel && cancel->cancelled) throw Cancelled();
    try {
        const WithoutInterpreter released;
        call(interrupted);
    } catch (const PassInterrupted&) {
        if (raised) throw py::error_already_set();
        throw Cancelled();
    }
}

void bind_interruption(py::module_& module) {
    know_main_thread();
    py::register_exception<Cancelled>(module, "Cancelled", PyExc_RuntimeError);
    py::class_<CancelToken, std::shared_ptr<CancelToken>>(module, "CancelToken")
        .def(py::init<>())
        .def("cancel", [](CancelToken& token) { token.cancelled = true; })
        .def_property_readonly("cancelled", [](const CancelToken& token) { return token.cancelled.load(); });
}

}  // namespace mixsolve
