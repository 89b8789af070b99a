// The master's place in the native module. Arguments have been checked in Python; shapes are checked again here.
#include "master_bindings.h"

#include <pybind11/numpy.h>

#include <algorithm>

#include "cpu/thread_pool.h"
#include "master.h"
#include "passes.h"

namespace py = pybind11;

namespace mixsolve {
namespace {

using Array = py::array_t<double, py::array::c_style>;
using Offsets = py::array_t<int64_t, py::array::c_style>;

void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

CoreProblem problem_of(const Array& rows, const Offsets& offsets, const Array& share) {
    require(rows.ndim() == 2 && rows.shape(1) > 0, "rows must have shape (n_rows, n_classifiers)");
    require(offsets.ndim() == 1 && offsets.size() >= 1, "offsets must have shape (n_samples + 1,)");
    require(share.ndim() == 1 && share.size() == offsets.size() - 1, "share must have shape (n_samples,)");
    CoreProblem problem{};
    problem.n_rows = rows.shape(0);
    problem.n_classifiers = rows.shape(1);
    problem.n_samples = share.size();
    problem.rows = rows.data();
    problem.offsets = offsets.data();
    problem.share = share.data();
    require(problem.offsets[0] == 0 && problem.offsets[problem.n_samples] == problem.n_rows,
            "offsets must run from 0 to the number of rows");
    for (int64_t i = 0; i < problem.n_samples; ++i) {
        require(problem.offsets[i] < problem.offsets[i + 1], "offsets must rise");
    }
    return problem;
}

// A Python function (values, n_largest) -> values, called without the interpreter's lock.
Combine combiner(const py::object& combine) {
    return [combine](double* values, int64_t n, int64_t n_largest) {
        const py::gil_scoped_acquire lock;
        const Array sent(n, values);
        const Array found = combine(sent, n_largest).cast<Array>();
        require(found.size() == n, "combine must return as many numbers");
        std::copy_n(found.data(), n, values);
    };
}

py::tuple solve(const RunInterruptibly& run, Array rows, Offsets offsets, Array share, double gap, int iteration_limit,
                int threads, py::object cancel, py::object combine) {
    CoreProblem problem = problem_of(rows, offsets, share);
    if (!combine.is_none()) problem.combine = combiner(combine);
    problem.gap = gap;
    problem.iteration_limit = iteration_limit;
    problem.threads = threads > 0 ? threads : available_threads();
    Array weights(problem.n_classifiers), duals(problem.n_rows);
    CoreAnswer answer{};
    answer.weights = weights.mutable_data();
    answer.duals = duals.mutable_data();
    answer.iterations = -1;
    run(cancel, [&](const Interrupted& interrupted) {
        problem.interrupted = interrupted;
        solve_core(problem, answer);
        if (answer.status == CoreStatus::kCancelled) throw PassInterrupted();  // a signal handler may have raised
    });
    if (answer.iterations < 0) {  // cancelled before it began
        problem.interrupted = [] { return true; };
        solve_core(problem, answer);
    }
    return py::make_tuple(weights, duals, answer.value, answer.lower_bound, answer.iterations,
                          static_cast<int>(answer.status));
}

}  // namespace

void bind_master(py::module_& module, const RunInterruptibly& run) {
    module.def(
        "solve_core",
        [run](Array rows, Offsets offsets, Array share, double gap, int iteration_limit, int threads, py::object cancel,
              py::object combine) {
            return solve(run, std::move(rows), std::move(offsets), std::move(share), gap, iteration_limit, threads,
                         std::move(cancel), std::move(combine));
        },
        py::arg("rows"), py::arg("offsets"), py::arg("share"), py::arg("gap"), py::arg("iteration_limit") = 100,
        py::arg("threads") = 0, py::arg("cancel") = py::none(), py::arg("combine") = py::none());
}

}  // namespace mixsolve
