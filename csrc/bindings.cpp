// The native module: thin, typed, no mathematics. Arguments have been checked
// in Python; shapes are checked again here so that a mistake is an exception
// and never a wild read.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "binary_bindings.h"
#include "binary_pass.h"
#include "cpu/dispatch.h"
#include "cpu/scan.h"
#include "cpu/thread_pool.h"
#include "dlpack_import.h"
#include "file_bindings.h"
#include "interruption.h"
#include "master_bindings.h"
#include "pass_arguments.h"
#include "screened_pass.h"
#include "trust_region.h"

namespace py = pybind11;

namespace {

using mixsolve::Answer;
using mixsolve::Belongings;
using mixsolve::Cancelled;
using mixsolve::CancelToken;
using mixsolve::Doubles;
using mixsolve::Integers;
using mixsolve::LossTable;
using mixsolve::Question;
using mixsolve::require;
using mixsolve::run_interruptibly;
using mixsolve::Storage;
using mixsolve::WithoutInterpreter;
using Cancel = std::shared_ptr<CancelToken>;
using Interrupted = std::function<bool()>;

int threads_of(int asked) { return asked > 0 ? asked : mixsolve::available_threads(); }

// The view of a table and the Python objects that own its memory.
struct Table {
    LossTable view{};
    py::array losses;
    Belongings belongings;

    Table(py::array array, int storage, py::object offsets, py::object weight, py::object prior)
        : losses(std::move(array)), belongings{std::move(offsets), std::move(weight), std::move(prior)} {
        view.storage = mixsolve::storage_of(storage);
        require(losses.itemsize() == mixsolve::item_size(view.storage),
                "the array's items do not fit its storage type");
        const bool ragged = belongings.ragged();
        require(losses.ndim() == (ragged ? 2 : 3), "a table has 3 dimensions, or 2 with row_offsets");
        require(losses.size() > 0, "the table is empty");
        view.data = static_cast<const char*>(losses.data());
        view.n_classifiers = losses.shape(0);
        view.stride_classifier = losses.strides(0);
        require(losses.shape(losses.ndim() - 1) == 1 || losses.strides(losses.ndim() - 1) == losses.itemsize(),
                "attacks must be contiguous");
        if (!ragged) {
            view.n_samples = losses.shape(1);
            view.n_attacks = losses.shape(2);
            view.stride_sample = losses.strides(1);
        }
        belongings.enter(view, losses.size() / view.n_classifiers);
    }
};

py::dict run_pass(const Table& table, Doubles weights, Doubles temperature, int want, py::object samples,
                  bool float64_scores, int threads, Cancel cancel, int64_t hessians) {
    const Question question(std::move(weights), std::move(temperature), samples, float64_scores, hessians);
    mixsolve::PassRequest request = question.request(table.view);
    request.threads = threads_of(threads);
    Answer answer(table.view, request, want);
    run_interruptibly(cancel.get(), [&](const Interrupted& interrupted) {
        request.interrupted = interrupted;
        mixsolve::run_pass(table.view, request, answer.buffers);
    });
    return answer.finished();
}

// Whether every score was finite; otherwise the gradient means nothing.
bool loss_gradient(const Table& table, Doubles weights, Doubles temperature, double scale, py::array gradient,
                   bool float64_scores, int threads, Cancel cancel) {
    const LossTable& view = table.view;
    require(view.storage < Storage::kUInt8, "bytes and sets have no gradient");
    require((gradient.flags() & py::array::c_style) && gradient.writeable() && gradient.size() == table.losses.size() &&
                gradient.itemsize() == table.losses.itemsize(),
            "gradient must be contiguous, writeable and like the losses");
    mixsolve::LossGradientRequest request =
        mixsolve::gradient_request(view, weights, temperature, scale, float64_scores);
    request.threads = threads_of(threads);
    char* out = static_cast<char*>(gradient.mutable_data());
    bool finite = false;
    run_interruptibly(cancel.get(), [&](const Interrupted& interrupted) {
        request.interrupted = interrupted;
        finite = mixsolve::loss_gradient(view, request, out);
    });
    return finite;
}

py::object first_nonfinite(const Table& table, Cancel cancel) {
    mixsolve::OddLoss odd;
    run_interruptibly(cancel.get(), [&](const Interrupted& interrupted) {
        odd = mixsolve::first_nonfinite(table.view, interrupted);
    });
    if (odd.classifier < 0) return py::none();
    return py::make_tuple(odd.classifier, odd.sample, odd.attack, odd.value);
}

py::tuple extremes(const Table& table, int threads, Cancel cancel) {
    mixsolve::LossRange range;
    run_interruptibly(cancel.get(), [&](const Interrupted& interrupted) {
        range = mixsolve::extremes(table.view, threads_of(threads), interrupted);
    });
    return py::make_tuple(range.min, range.max);
}

py::tuple binary_rows(const Table& table, bool maximal, py::object temperature, int threads, Cancel cancel) {
    require(table.view.n_classifiers <= mixsolve::kMostBinaryClassifiers, "a set of classifiers is one word");
    Doubles level = temperature.is_none() ? Doubles() : temperature.cast<Doubles>();
    require(temperature.is_none() || level.size() == table.view.n_samples, "temperature must have shape (n_samples,)");
    mixsolve::BinaryRequest request{maximal, temperature.is_none() ? nullptr : level.data(), threads_of(threads),
                                    nullptr};
    mixsolve::BinaryRows rows;
    run_interruptibly(cancel.get(), [&](const Interrupted& interrupted) {
        request.interrupted = interrupted;
        rows = mixsolve::binary_rows(table.view, request);
    });
    return mixsolve::as_python(rows);
}

// Whether every loss was 0 or 1; otherwise the sets mean nothing.
bool pack_sets(const Table& table, py::array sets, int threads) {
    const LossTable& view = table.view;
    require((sets.flags() & py::array::c_style) && sets.writeable() &&
                sets.size() * view.n_classifiers == table.losses.size() && 8 * sets.itemsize() >= view.n_classifiers,
            "sets must be contiguous, writeable and long enough, one per attack");
    void* const to = sets.mutable_data();
    const int64_t width = sets.itemsize();
    require(width == 2 || width == 4 || width == 8, "sets must have 16, 32 or 64 bits");
    bool binary = false;
    run_interruptibly(nullptr, [&](const std::function<bool()>& interrupted) {
        if (width == 2) {
            binary = mixsolve::pack_table(view, threads_of(threads), interrupted, static_cast<uint16_t*>(to));
        } else if (width == 4) {
            binary = mixsolve::pack_table(view, threads_of(threads), interrupted, static_cast<uint32_t*>(to));
        } else {
            binary = mixsolve::pack_table(view, threads_of(threads), interrupted, static_cast<uint64_t*>(to));
        }
    });
    return binary;
}

py::object binary_pass(const Table& table, Doubles weights, bool best_attack, int threads, Cancel cancel) {
    require(weights.ndim() == 2 && weights.shape(0) >= 1 && weights.shape(1) == table.view.n_classifiers,
            "weights must have shape (K, n_classifiers)");
    require(table.view.n_classifiers <= mixsolve::kMostBinaryClassifiers, "a set of classifiers is one word");
    const py::ssize_t n_queries = weights.shape(0);
    Doubles value({n_queries}), gradient({n_queries, weights.shape(1)});
    Integers attack({best_attack ? n_queries : 0, static_cast<py::ssize_t>(table.view.n_samples)});
    mixsolve::BinaryPassRequest request{n_queries, weights.data(), threads_of(threads), nullptr};
    const mixsolve::BinaryPassAnswer answer{value.mutable_data(), gradient.mutable_data(),
                                            best_attack ? attack.mutable_data() : nullptr};
    bool found = false;
    run_interruptibly(cancel.get(), [&](const Interrupted& interrupted) {
        request.interrupted = interrupted;
        found = mixsolve::binary_pass(table.view, request, answer);
    });
    if (!found) return py::none();
    return py::make_tuple(value, gradient, best_attack ? py::object(attack) : py::none());
}

py::tuple screened_pass(const Table& table, const Table& copy, Doubles weights, Doubles slack, Doubles affine,
                        double delta, int64_t first, int64_t last, int threads, Cancel cancel) {
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
    request.threads = threads_of(threads);
    mixsolve::ScreenedAnswer answer{per_sample.mutable_data(), best_attack.mutable_data(), best_row.mutable_data(), 0,
                                    0};
    mixsolve::Finding finding{};
    run_interruptibly(cancel.get(), [&](const Interrupted& interrupted) {
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
    mixsolve::name_wants(module);
    mixsolve::bind_interruption(module);
    mixsolve::bind_files(module);

    py::class_<Table>(module, "Table")
        .def(py::init<py::array, int, py::object, py::object, py::object>(), py::arg("array"), py::arg("storage"),
             py::arg("row_offsets") = py::none(), py::arg("sample_weight") = py::none(),
             py::arg("attack_prior") = py::none());

    module.def("run_pass", &run_pass, py::arg("table"), py::arg("weights"), py::arg("temperature"),
               py::arg("want") = mixsolve::kGradientOnly, py::arg("samples") = py::none(),
               py::arg("float64_scores") = false, py::arg("threads") = 0, py::arg("cancel") = py::none(),
               py::arg("hessians") = 0);
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
    module.def("pack_sets", &pack_sets, py::arg("table"), py::arg("sets"), py::arg("threads") = 0);
    module.def("read_seconds", &read_seconds, py::arg("array"), py::arg("threads"), py::arg("how") = "vector");
    module.def("import_dlpack", &mixsolve::import_dlpack, py::arg("exporter"));
    module.def("import_device_dlpack", &mixsolve::import_device_dlpack, py::arg("exporter"), py::arg("stream"));
    module.def("available_threads", &mixsolve::available_threads);
    module.def("available_isas", &mixsolve::available_isas);
    module.def("isa", &mixsolve::current_isa);
    module.def("set_isa", &mixsolve::set_isa, py::arg("name"));

    mixsolve::bind_master(module, [](const py::object& cancel, const auto& call) {
        const auto token = cancel.is_none() ? nullptr : cancel.cast<Cancel>();
        try {
            run_interruptibly(token.get(), call);
        } catch (const Cancelled&) {  // the answer says so
        }
    });
}
