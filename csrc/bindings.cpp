// The native module: thin, typed, no mathematics. Arguments have been checked in Python; shapes are checked again here
// so that a mistake is an exception and never a wild read.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "binary_bindings.h"
#include "binary_pass.h"
#include "cpu/dispatch.h"
#include "cpu/scan.h"
#include "cpu/thread_pool.h"
#include "dlpack_import.h"
#include "master_bindings.h"
#include "passes.h"
#include "screened_pass.h"
#include "trust_region.h"

namespace py = pybind11;

namespace {

using mixsolve::LossTable;
using mixsolve::Storage;
using Doubles = py::array_t<double, py::array::c_style>;
using Integers = py::array_t<int64_t, py::array::c_style>;

void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

// The view of a table and the Python objects that own its memory.
struct Table {
    LossTable view;
    py::array losses;
    py::object row_offsets, sample_weight, attack_prior;

    Table(py::array array, int storage, py::object offsets, py::object weight, py::object prior)
        : losses(std::move(array)),
          row_offsets(std::move(offsets)),
          sample_weight(std::move(weight)),
          attack_prior(std::move(prior)) {
        require(storage >= 0 && storage <= static_cast<int>(Storage::kUInt8), "unknown storage type");
        view.storage = static_cast<Storage>(storage);
        require(losses.itemsize() == mixsolve::item_size(view.storage),
                "the array's items do not fit its storage type");
        const bool ragged = !row_offsets.is_none();
        require(losses.ndim() == (ragged ? 2 : 3), "a table has 3 dimensions, or 2 with row_offsets");
        require(losses.size() > 0, "the table is empty");
        view.data = static_cast<const char*>(losses.data());
        view.n_classifiers = losses.shape(0);
        view.stride_classifier = losses.strides(0);
        require(losses.shape(losses.ndim() - 1) == 1 || losses.strides(losses.ndim() - 1) == losses.itemsize(),
                "attacks must be contiguous");
        const int64_t n_rows = ragged ? read_offsets() : read_shape();
        view.sample_weight = nullptr;
        if (!sample_weight.is_none()) {
            auto array_ = sample_weight.cast<Doubles>();
            require(array_.size() == view.n_samples, "sample_weight has the wrong length");
            view.sample_weight = array_.data();
            sample_weight = array_;
        }
        read_prior(n_rows);
    }

  private:
    int64_t read_shape() {
        view.n_samples = losses.shape(1);
        view.n_attacks = losses.shape(2);
        view.stride_sample = losses.strides(1);
        view.row_offsets = nullptr;
        return view.n_samples * view.n_attacks;
    }
    int64_t read_offsets() {
        auto array_ = row_offsets.cast<Integers>();
        require(array_.size() >= 2, "row_offsets has the wrong length");
        row_offsets = array_;
        view.row_offsets = array_.data();
        view.n_samples = array_.size() - 1;
        view.n_attacks = -1;
        view.stride_sample = 0;
        require(view.row_offsets[0] == 0 && view.row_offsets[view.n_samples] == losses.shape(1),
                "row_offsets must run from 0 to the number of rows");
        for (int64_t i = 0; i < view.n_samples; ++i) {
            require(view.row_offsets[i] < view.row_offsets[i + 1], "row_offsets must rise");
        }
        return losses.shape(1);
    }
    void read_prior(int64_t n_rows) {
        view.prior = nullptr;
        view.prior_is_double = false;
        if (attack_prior.is_none()) return;
        auto array_ = attack_prior.cast<py::array>();
        const bool is_double = py::isinstance<py::array_t<double>>(array_);
        require(is_double || py::isinstance<py::array_t<float>>(array_), "attack_prior must be float32 or float64");
        require(array_.size() == n_rows && (array_.flags() & py::array::c_style), "attack_prior has the wrong shape");
        view.prior = array_.data();
        view.prior_is_double = is_double;
    }
};

// Lets other Python threads run. Before Python 3.14 a thread that comes back while the interpreter is torn down is
// ended by unwinding its stack, which no destructor survives: it stays here instead until the process has ended.
class WithoutInterpreter {
  public:
    WithoutInterpreter() : state_(PyEval_SaveThread()) {}
    ~WithoutInterpreter() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }
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

// Python handles signals in its main thread; other threads need not wait for the interpreter to look for them. Kept
// here, since asking would run Python code, which may be the end of a thread while the interpreter is torn down.
std::atomic<unsigned long> main_thread{0};

void know_main_thread() {
    main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, [] { main_thread = PyThread_get_thread_ident(); });
#endif
}

// Runs `call(interrupted)` without the interpreter, until a signal handler raises or the token is cancelled.
template <class Call>
void run_interruptibly(const CancelToken* cancel, const Call& call) {
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
    } catch (const mixsolve::PassInterrupted&) {
        if (raised) throw py::error_already_set();
        throw Cancelled();
    }
}

constexpr int kGradientOnly = 0, kPerSample = 1, kBestAttack = 2, kBestRow = 4;

struct Arguments {
    Doubles weights, temperature;
    Integers samples;
    bool has_samples;
    int64_t n_hessians;
};

void check_arguments(const LossTable& table, const Arguments& a) {
    require(a.weights.ndim() == 2 && a.weights.shape(0) >= 1 && a.weights.shape(1) == table.n_classifiers,
            "weights must have shape (K, n_classifiers)");
    require(a.temperature.ndim() >= 1 && a.temperature.ndim() <= 2 && a.temperature.shape(0) == a.weights.shape(0),
            "temperature must have shape (K,) or (K, n_samples)");
    require(a.temperature.ndim() == 1 || a.temperature.shape(1) == table.n_samples,
            "temperature must have shape (K,) or (K, n_samples)");
    require(a.n_hessians >= 0 && a.n_hessians <= a.weights.shape(0), "hessians must be at most K");
    if (!a.has_samples) return;
    require(a.samples.ndim() == 1 && a.samples.size() >= 1, "samples must be a list of indices");
    const int64_t* sample = a.samples.data();
    for (py::ssize_t i = 0; i < a.samples.size(); ++i) {
        require(sample[i] >= 0 && sample[i] < table.n_samples, "samples are out of range");
        require(i == 0 || sample[i - 1] < sample[i], "samples must rise");
    }
}

py::dict run_pass(const Table& table, Doubles weights, Doubles temperature, int want, py::object samples,
                  bool float64_scores, int threads, std::shared_ptr<CancelToken> cancel, int64_t hessians) {
    Arguments a{std::move(weights), std::move(temperature), Integers(), !samples.is_none(), hessians};
    if (a.has_samples) a.samples = samples.cast<Integers>();
    check_arguments(table.view, a);
    const py::ssize_t n_queries = a.weights.shape(0), n_classifiers = table.view.n_classifiers;
    const py::ssize_t n = a.has_samples ? a.samples.size() : table.view.n_samples;

    py::dict out;
    Doubles value({n_queries}), gradient({n_queries, n_classifiers});
    out["value"] = value;
    out["gradient"] = gradient;
    mixsolve::PassAnswer answer{};
    answer.value = value.mutable_data();
    answer.gradient = gradient.mutable_data();
    if (want & kPerSample) {
        Doubles array({n_queries, n});
        answer.per_sample = array.mutable_data();
        out["per_sample"] = array;
    }
    if (want & kBestAttack) {
        Integers array({n_queries, n});
        answer.best_attack = array.mutable_data();
        out["best_attack"] = array;
    }
    if (want & kBestRow) {
        Doubles array({n_queries, n, n_classifiers});
        answer.best_row = array.mutable_data();
        out["best_row"] = array;
    }
    if (hessians > 0) {
        Doubles array({static_cast<py::ssize_t>(hessians), n_classifiers, n_classifiers});
        answer.hessian = array.mutable_data();
        out["hessian"] = array;
    }

    mixsolve::PassRequest request{};
    request.n_queries = n_queries;
    request.n_hessians = hessians;
    request.weights = a.weights.data();
    request.temperature = a.temperature.data();
    request.temperature_per_sample = a.temperature.ndim() == 2;
    request.samples = a.has_samples ? a.samples.data() : nullptr;
    request.n_samples = n;
    request.float64_scores = float64_scores || table.view.storage == Storage::kFloat64;
    request.threads = threads > 0 ? threads : mixsolve::available_threads();
    run_interruptibly(cancel.get(), [&](const std::function<bool()>& interrupted) {
        request.interrupted = interrupted;
        mixsolve::run_pass(table.view, request, answer);
    });
    out["finite"] = answer.finite;
    out["bytes_read"] = answer.bytes_read;
    return out;
}

// Whether every score was finite; otherwise the gradient means nothing.
bool loss_gradient(const Table& table, Doubles weights, Doubles temperature, double scale, py::array gradient,
                   bool float64_scores, int threads, std::shared_ptr<CancelToken> cancel) {
    const LossTable& view = table.view;
    require(view.storage != Storage::kUInt8, "bytes have no gradient");
    require(weights.ndim() == 1 && weights.size() == view.n_classifiers, "weights must have shape (n_classifiers,)");
    require(temperature.ndim() == 1 && (temperature.size() == 1 || temperature.size() == view.n_samples),
            "temperature must have shape (1,) or (n_samples,)");
    require((gradient.flags() & py::array::c_style) && gradient.writeable() && gradient.size() == table.losses.size() &&
                gradient.itemsize() == table.losses.itemsize(),
            "gradient must be contiguous, writeable and like the losses");
    mixsolve::LossGradientRequest request{};
    request.weights = weights.data();
    request.temperature = temperature.data();
    request.temperature_per_sample = temperature.size() > 1;
    request.scale = scale;
    request.float64_scores = float64_scores || view.storage == Storage::kFloat64;
    request.threads = threads > 0 ? threads : mixsolve::available_threads();
    char* out = static_cast<char*>(gradient.mutable_data());
    bool finite = false;
    run_interruptibly(cancel.get(), [&](const std::function<bool()>& interrupted) {
        request.interrupted = interrupted;
        finite = mixsolve::loss_gradient(view, request, out);
    });
    return finite;
}

py::object first_nonfinite(const Table& table, std::shared_ptr<CancelToken> cancel) {
    mixsolve::OddLoss odd;
    run_interruptibly(cancel.get(), [&](const std::function<bool()>& interrupted) {
        odd = mixsolve::first_nonfinite(table.view, interrupted);
    });
    if (odd.classifier < 0) return py::none();
    return py::make_tuple(odd.classifier, odd.sample, odd.attack, odd.value);
}

py::tuple extremes(const Table& table, int threads, std::shared_ptr<CancelToken> cancel) {
    mixsolve::LossRange range;
    run_interruptibly(cancel.get(), [&](const std::function<bool()>& interrupted) {
        range = mixsolve::extremes(table.view, threads > 0 ? threads : mixsolve::available_threads(), interrupted);
    });
    return py::make_tuple(range.min, range.max);
}

py::tuple binary_rows(const Table& table, bool maximal, py::object temperature, int threads,
                      std::shared_ptr<CancelToken> cancel) {
    require(table.view.n_classifiers <= mixsolve::kMostBinaryClassifiers, "a set of classifiers is one word");
    Doubles level = temperature.is_none() ? Doubles() : temperature.cast<Doubles>();
    require(temperature.is_none() || level.size() == table.view.n_samples, "temperature must have shape (n_samples,)");
    mixsolve::BinaryRequest request{maximal, temperature.is_none() ? nullptr : level.data(),
                                    threads > 0 ? threads : mixsolve::available_threads(), nullptr};
    mixsolve::BinaryRows rows;
    run_interruptibly(cancel.get(), [&](const std::function<bool()>& interrupted) {
        request.interrupted = interrupted;
        rows = mixsolve::binary_rows(table.view, request);
    });
    return mixsolve::as_python(rows);
}

py::object binary_pass(const Table& table, Doubles weights, bool best_attack, int threads,
                       std::shared_ptr<CancelToken> cancel) {
    require(weights.ndim() == 2 && weights.shape(0) >= 1 && weights.shape(1) == table.view.n_classifiers,
            "weights must have shape (K, n_classifiers)");
    require(table.view.n_classifiers <= mixsolve::kMostBinaryClassifiers, "a set of classifiers is one word");
    const py::ssize_t n_queries = weights.shape(0);
    Doubles value({n_queries}), gradient({n_queries, weights.shape(1)});
    Integers attack({best_attack ? n_queries : 0, static_cast<py::ssize_t>(table.view.n_samples)});
    mixsolve::BinaryPassRequest request{n_queries, weights.data(),
                                        threads > 0 ? threads : mixsolve::available_threads(), nullptr};
    const mixsolve::BinaryPassAnswer answer{value.mutable_data(), gradient.mutable_data(),
                                            best_attack ? attack.mutable_data() : nullptr};
    bool found = false;
    run_interruptibly(cancel.get(), [&](const std::function<bool()>& interrupted) {
        request.interrupted = interrupted;
        found = mixsolve::binary_pass(table.view, request, answer);
    });
    if (!found) return py::none();
    return py::make_tuple(value, gradient, best_attack ? py::object(attack) : py::none());
}

py::tuple screened_pass(const Table& table, const Table& copy, Doubles weights, Doubles slack, Doubles affine,
                        double delta, int64_t first, int64_t last, int threads, std::shared_ptr<CancelToken> cancel) {
    const LossTable &full = table.view, &compact = copy.view;
    require(weights.ndim() == 2 && weights.shape(0) >= 1 && weights.shape(1) == full.n_classifiers,
            "weights must have shape (K, n_classifiers)");
    require(slack.ndim() == 1 && slack.size() == weights.shape(0), "slack must have shape (K,)");
    require(affine.size() == 4, "affine must be scale and offset of the table and of the copy");
    require(full.n_classifiers == compact.n_classifiers && full.n_samples == compact.n_samples,
            "the copy must have the table's shape");
    for (int64_t i = 0; i < full.n_samples; ++i) {
        require(full.rows(i) == compact.rows(i), "the copy must have the table's shape");
    }
    require(0 <= first && first < last && last <= full.n_samples, "samples are out of range");
    const py::ssize_t n_queries = weights.shape(0), n = last - first;
    Doubles per_sample({n_queries, n}), best_row({n_queries, n, weights.shape(1)});
    Integers best_attack({n_queries, n});
    const double* const linear = affine.data();
    mixsolve::ScreenedRequest request{};
    request.first = first;
    request.last = last;
    request.n_queries = n_queries;
    request.weights = weights.data();
    request.slack = slack.data();
    request.table_scale = linear[0];
    request.table_offset = linear[1];
    request.copy_scale = linear[2];
    request.copy_offset = linear[3];
    request.delta = delta;
    request.threads = threads > 0 ? threads : mixsolve::available_threads();
    mixsolve::ScreenedAnswer answer{per_sample.mutable_data(), best_attack.mutable_data(), best_row.mutable_data(), 0,
                                    0};
    mixsolve::Finding finding{};
    run_interruptibly(cancel.get(), [&](const std::function<bool()>& interrupted) {
        request.interrupted = interrupted;
        finding = mixsolve::screened_pass(full, compact, request, answer);
    });
    return py::make_tuple(per_sample, best_attack, best_row, answer.rows_read, answer.bytes_read,
                          py::make_tuple(static_cast<int>(finding.kind), finding.classifier, finding.sample,
                                         finding.attack, finding.loss, finding.copy));
}

Doubles minimise_model(Doubles weights, Doubles slope, Doubles hessian, double radius) {
    const py::ssize_t n = weights.size();
    require(n >= 2 && weights.ndim() == 1 && slope.ndim() == 1 && slope.size() == n, "weights and slope have length n");
    require(hessian.ndim() == 2 && hessian.shape(0) == n && hessian.shape(1) == n, "hessian has shape (n, n)");
    require(radius > 0, "radius is positive");
    Doubles out({n});
    const double *w = weights.data(), *g = slope.data(), *h = hessian.data();
    double* found = out.mutable_data();
    const WithoutInterpreter released;
    mixsolve::minimise_model(n, w, g, h, radius, found);
    return out;
}

double read_seconds(const py::array& array, int threads, const std::string& how) {
    require(array.flags() & py::array::c_style, "the array must be contiguous");
    const auto reading = how == "vector"     ? mixsolve::Reading::kVector
                         : how == "prefetch" ? mixsolve::Reading::kVectorPrefetch
                                             : mixsolve::Reading::kCopy;
    require(how == "vector" || how == "prefetch" || how == "memcpy", "how must be vector, prefetch or memcpy");
    const char* data = static_cast<const char*>(array.data());
    const int64_t bytes = array.nbytes();
    const WithoutInterpreter released;
    return mixsolve::read_seconds(data, bytes, threads, reading);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "The compiled pass of mixsolve. Use mixsolve.passes.";
    know_main_thread();
    module.attr("PER_SAMPLE") = kPerSample;
    module.attr("BEST_ATTACK") = kBestAttack;
    module.attr("BEST_ROW") = kBestRow;
    py::register_exception<Cancelled>(module, "Cancelled", PyExc_RuntimeError);

    py::class_<CancelToken, std::shared_ptr<CancelToken>>(module, "CancelToken")
        .def(py::init<>())
        .def("cancel", [](CancelToken& token) { token.cancelled = true; })
        .def_property_readonly("cancelled", [](const CancelToken& token) { return token.cancelled.load(); });

    py::class_<Table>(module, "Table")
        .def(py::init<py::array, int, py::object, py::object, py::object>(), py::arg("array"), py::arg("storage"),
             py::arg("row_offsets") = py::none(), py::arg("sample_weight") = py::none(),
             py::arg("attack_prior") = py::none());

    module.def("run_pass", &run_pass, py::arg("table"), py::arg("weights"), py::arg("temperature"),
               py::arg("want") = kGradientOnly, py::arg("samples") = py::none(), py::arg("float64_scores") = false,
               py::arg("threads") = 0, py::arg("cancel") = py::none(), py::arg("hessians") = 0);
    module.def("loss_gradient", &loss_gradient, py::arg("table"), py::arg("weights"), py::arg("temperature"),
               py::arg("scale"), py::arg("gradient"), py::arg("float64_scores") = false, py::arg("threads") = 0,
               py::arg("cancel") = py::none());
    module.def("minimise_model", &minimise_model, py::arg("weights"), py::arg("slope"), py::arg("hessian"),
               py::arg("radius"));
    module.def("first_nonfinite", &first_nonfinite, py::arg("table"), py::arg("cancel") = py::none());
    module.def("extremes", &extremes, py::arg("table"), py::arg("threads") = 0, py::arg("cancel") = py::none());
    module.def("binary_rows", &binary_rows, py::arg("table"), py::arg("maximal"), py::arg("temperature") = py::none(),
               py::arg("threads") = 0, py::arg("cancel") = py::none());
    module.def("binary_pass", &binary_pass, py::arg("table"), py::arg("weights"), py::arg("best_attack") = false,
               py::arg("threads") = 0, py::arg("cancel") = py::none());
    module.def("screened_pass", &screened_pass, py::arg("table"), py::arg("copy"), py::arg("weights"), py::arg("slack"),
               py::arg("affine"), py::arg("delta"), py::arg("first"), py::arg("last"), py::arg("threads") = 0,
               py::arg("cancel") = py::none());
    module.def("read_seconds", &read_seconds, py::arg("array"), py::arg("threads"), py::arg("how") = "vector");
    module.def("import_dlpack", &mixsolve::import_dlpack, py::arg("exporter"));
    module.def("import_device_dlpack", &mixsolve::import_device_dlpack, py::arg("exporter"), py::arg("stream"));
    module.def("available_threads", &mixsolve::available_threads);
    module.def("available_isas", &mixsolve::available_isas);
    module.def("isa", &mixsolve::current_isa);
    module.def("set_isa", &mixsolve::set_isa, py::arg("name"));

    mixsolve::bind_master(module, [](const py::object& cancel, const auto& call) {
        const auto token = cancel.is_none() ? nullptr : cancel.cast<std::shared_ptr<CancelToken>>();
        try {
            run_interruptibly(token.get(), call);
        } catch (const Cancelled&) {  // the answer says so
        }
    });
}
