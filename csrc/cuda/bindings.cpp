// The native module of the CUDA pass: tables by pointer, numbers by NumPy arrays. Arguments have been checked in
// Python; shapes are checked again here, so that a mistake is an exception and never a wild read.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "device_table.h"
#include "runtime_bindings.h"

namespace py = pybind11;

namespace {

using mixsolve::LossTable;
using mixsolve::PassAnswer;
using mixsolve::PassRequest;
using mixsolve::Storage;
using mixsolve::cuda::DeviceTable;
using mixsolve::cuda::PlanSizes;
using Doubles = py::array_t<double, py::array::c_style>;
using Integers = py::array_t<int64_t, py::array::c_style>;

void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

struct TableDescription {
    std::vector<int64_t> shape;    // (L, N, m), or (L, rows) with row offsets
    std::vector<int64_t> strides;  // bytes; the last one is that of an item
    py::object row_offsets, sample_weight, attack_prior;
};

void read_offsets(LossTable& table, const Integers& offsets, int64_t n_rows) {
    require(offsets.ndim() == 1 && offsets.size() >= 2, "row_offsets must have n_samples + 1 entries");
    table.n_samples = offsets.size() - 1;
    table.n_attacks = -1;
    table.row_offsets = offsets.data();
    require(table.row_offsets[0] == 0 && table.row_offsets[table.n_samples] == n_rows,
            "row_offsets must span the rows");
    for (int64_t i = 0; i < table.n_samples; ++i) {
        require(table.row_offsets[i] < table.row_offsets[i + 1], "row_offsets must rise");
    }
}

std::unique_ptr<DeviceTable> make_table(uintptr_t pointer, int storage, const TableDescription& given, int device,
                                        uintptr_t stream) {
    require(storage >= 0 && storage <= 3, "unknown storage type");
    LossTable table{};
    table.data = reinterpret_cast<const char*>(pointer);
    table.storage = static_cast<Storage>(storage);
    const bool ragged = !given.row_offsets.is_none();
    require(given.shape.size() == (ragged ? 2u : 3u) && given.strides.size() == given.shape.size(),
            "a table has 3 dimensions, or 2 with row_offsets");
    for (const int64_t length : given.shape) require(length > 0, "the table is empty");
    const int64_t item = mixsolve::item_size(table.storage);
    require(given.shape.back() == 1 || given.strides.back() == item, "attacks must be contiguous");
    require(pointer % item == 0, "the losses must be aligned");
    for (size_t i = 0; i + 1 < given.strides.size(); ++i) require(given.strides[i] % item == 0, "strides are of items");
    table.n_classifiers = given.shape[0];
    table.stride_classifier = given.strides[0];
    Integers offsets;
    int64_t n_rows = given.shape.back();
    if (ragged) {
        offsets = given.row_offsets.cast<Integers>();
        read_offsets(table, offsets, n_rows);
    } else {
        table.n_samples = given.shape[1];
        table.n_attacks = given.shape[2];
        table.stride_sample = given.strides[1];
        n_rows *= table.n_samples;
    }
    Doubles weight;
    if (!given.sample_weight.is_none()) {
        weight = given.sample_weight.cast<Doubles>();
        require(weight.size() == table.n_samples, "sample_weight has the wrong length");
        table.sample_weight = weight.data();
    }
    py::array prior;
    if (!given.attack_prior.is_none()) {
        prior = given.attack_prior.cast<py::array>();
        table.prior_is_double = py::isinstance<py::array_t<double>>(prior);
        require(table.prior_is_double || py::isinstance<py::array_t<float>>(prior), "attack_prior must be a float");
        require(prior.size() == n_rows && (prior.flags() & py::array::c_style), "attack_prior has the wrong shape");
        table.prior = prior.data();
    }
    return std::make_unique<DeviceTable>(table, mixsolve::cuda::Stream{device, stream});
}

constexpr int kGradientOnly = 0, kPerSample = 1, kBestAttack = 2, kBestRow = 4;

void check_question(const LossTable& table, const Doubles& weights, const Doubles& temperature) {
    require(weights.ndim() == 2 && weights.shape(0) >= 1 && weights.shape(1) == table.n_classifiers,
            "weights must have shape (K, n_classifiers)");
    require(temperature.ndim() >= 1 && temperature.ndim() <= 2 && temperature.shape(0) == weights.shape(0),
            "temperature must have shape (K,) or (K, n_samples)");
    require(temperature.ndim() == 1 || temperature.shape(1) == table.n_samples,
            "temperature must have shape (K,) or (K, n_samples)");
}

void check_samples(const LossTable& table, const Integers& samples) {
    require(samples.ndim() == 1 && samples.size() >= 1, "samples must be a list of indices");
    const int64_t* sample = samples.data();
    for (py::ssize_t i = 0; i < samples.size(); ++i) {
        require(sample[i] >= 0 && sample[i] < table.n_samples, "samples are out of range");
        require(i == 0 || sample[i - 1] < sample[i], "samples must rise");
    }
}

py::dict run_pass(DeviceTable& table, const Doubles& weights, const Doubles& temperature, int want,
                  const py::object& samples, bool float64_scores, int64_t hessians) {
    const LossTable& view = table.on_host();
    check_question(view, weights, temperature);
    Integers listed;
    if (!samples.is_none()) {
        listed = samples.cast<Integers>();
        check_samples(view, listed);
    }
    const py::ssize_t n_queries = weights.shape(0), n_classifiers = view.n_classifiers;
    const py::ssize_t n = samples.is_none() ? view.n_samples : listed.size();

    py::dict out;
    const auto room = [&out](const char* name, bool wanted, auto type, std::vector<py::ssize_t> shape) {
        using Number = decltype(type);
        if (!wanted) return static_cast<Number*>(nullptr);
        py::array_t<Number, py::array::c_style> array(std::move(shape));
        out[name] = array;
        return array.mutable_data();
    };
    PassAnswer answer{};
    answer.value = room("value", true, double(), {n_queries});
    answer.gradient = room("gradient", true, double(), {n_queries, n_classifiers});
    answer.per_sample = room("per_sample", want & kPerSample, double(), {n_queries, n});
    answer.best_attack = room("best_attack", want & kBestAttack, int64_t(), {n_queries, n});
    answer.best_row = room("best_row", want & kBestRow, double(), {n_queries, n, n_classifiers});

    require(hessians >= 0 && hessians <= n_queries, "hessians must be at most K");
    answer.hessian = room("hessian", hessians > 0, double(), {hessians, n_classifiers, n_classifiers});

    PassRequest request{};
    request.n_queries = n_queries;
    request.n_hessians = hessians;
    request.weights = weights.data();
    request.temperature = temperature.data();
    request.temperature_per_sample = temperature.ndim() == 2;
    request.samples = samples.is_none() ? nullptr : listed.data();
    request.n_samples = n;
    request.float64_scores = float64_scores || view.storage == Storage::kFloat64;
    mixsolve::cuda::run_without_interpreter([&] { table.run_pass(request, answer); });
    out["finite"] = answer.finite;
    out["bytes_read"] = answer.bytes_read;
    return out;
}

// Whether every score was finite; the gradient is at an address of the device.
bool loss_gradient(DeviceTable& table, const Doubles& weights, const Doubles& temperature, double scale,
                   uintptr_t gradient, bool float64_scores) {
    const LossTable& view = table.on_host();
    require(weights.ndim() == 1 && weights.size() == view.n_classifiers, "weights must have shape (n_classifiers,)");
    require(temperature.ndim() == 1 && (temperature.size() == 1 || temperature.size() == view.n_samples),
            "temperature must have shape (1,) or (n_samples,)");
    require(gradient % mixsolve::item_size(view.storage) == 0, "the gradient must be aligned");
    mixsolve::LossGradientRequest request{};
    request.weights = weights.data();
    request.temperature = temperature.data();
    request.temperature_per_sample = temperature.size() > 1;
    request.scale = scale;
    request.float64_scores = float64_scores || view.storage == Storage::kFloat64;
    bool finite = false;
    mixsolve::cuda::run_without_interpreter(
        [&] { finite = table.loss_gradient(request, reinterpret_cast<char*>(gradient)); });
    return finite;
}

// Losses of cited attacks, (n, L).
Doubles gather(DeviceTable& table, const Integers& sample, const Integers& attack) {
    const LossTable& view = table.on_host();
    const bool ragged = view.row_offsets != nullptr;
    require(sample.ndim() == 1 && attack.ndim() == 1 && sample.size() == attack.size(), "one attack for each sample");
    const int64_t n = sample.size(), item = mixsolve::item_size(view.storage);
    std::vector<int64_t> offsets(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
        const int64_t s = sample.at(i), j = attack.at(i);
        require(s >= 0 && s < view.n_samples && j >= 0 && j < view.rows(s), "rows are out of range");
        offsets[static_cast<size_t>(i)] = (ragged ? view.row_offsets[s] * item : s * view.stride_sample) + j * item;
    }
    Doubles out({static_cast<py::ssize_t>(n), static_cast<py::ssize_t>(view.n_classifiers)});
    double* to = out.mutable_data();
    if (n > 0) mixsolve::cuda::run_without_interpreter([&] { table.gather(offsets.data(), n, to); });
    return out;
}

// Losses of some samples under one classifier, as they are stored, into `out`.
void copy_samples(DeviceTable& table, int64_t classifier, const Integers& samples, py::array out) {
    const LossTable& view = table.on_host();
    require(classifier >= 0 && classifier < view.n_classifiers, "classifier is out of range");
    int64_t rows = 0;
    for (py::ssize_t i = 0; i < samples.size(); ++i) {
        require(samples.at(i) >= 0 && samples.at(i) < view.n_samples, "samples are out of range");
        rows += view.rows(samples.at(i));
    }
    require((out.flags() & py::array::c_style) && out.writeable() &&
                out.nbytes() == rows * mixsolve::item_size(view.storage),
            "out must be contiguous and as large as the samples");
    char* to = static_cast<char*>(out.mutable_data());
    mixsolve::cuda::run_without_interpreter([&] { table.copy(classifier, samples.data(), samples.size(), to); });
}

}  // namespace

PYBIND11_MODULE(MIXSOLVE_MODULE, module) {
    module.doc() = "The compiled CUDA pass of mixsolve.";
    module.attr("PER_SAMPLE") = kPerSample;
    module.attr("BEST_ATTACK") = kBestAttack;
    module.attr("BEST_ROW") = kBestRow;
    py::register_exception<mixsolve::cuda::DeviceError>(module, "DeviceError", PyExc_RuntimeError);

    py::class_<PlanSizes>(module, "PlanSizes", py::module_local())
        .def_readwrite("tile_bytes", &PlanSizes::tile_bytes)
        .def_readwrite("most_tile_rows", &PlanSizes::most_tile_rows)
        .def_readwrite("chunk_bytes", &PlanSizes::chunk_bytes)
        .def_readwrite("most_chunks", &PlanSizes::most_chunks)
        .def_readwrite("piece_bytes", &PlanSizes::piece_bytes)
        .def_readwrite("shared_sums_bytes", &PlanSizes::shared_sums_bytes);
    py::class_<DeviceTable>(module, "Table", py::module_local())
        .def(py::init([](uintptr_t pointer, int storage, std::vector<int64_t> shape, std::vector<int64_t> strides,
                         py::object row_offsets, py::object sample_weight, py::object attack_prior, int device,
                         uintptr_t stream) {
                 const TableDescription given{std::move(shape), std::move(strides), std::move(row_offsets),
                                              std::move(sample_weight), std::move(attack_prior)};
                 return make_table(pointer, storage, given, device, stream);
             }),
             py::arg("pointer"), py::arg("storage"), py::arg("shape"), py::arg("strides"),
             py::arg("row_offsets") = py::none(), py::arg("sample_weight") = py::none(),
             py::arg("attack_prior") = py::none(), py::arg("device") = 0, py::arg("stream") = 0)
        .def_readonly("sizes", &DeviceTable::sizes);
    module.def("run_pass", &run_pass, py::arg("table"), py::arg("weights"), py::arg("temperature"),
               py::arg("want") = kGradientOnly, py::arg("samples") = py::none(), py::arg("float64_scores") = false,
               py::arg("hessians") = 0);
    module.def("loss_gradient", &loss_gradient, py::arg("table"), py::arg("weights"), py::arg("temperature"),
               py::arg("scale"), py::arg("gradient"), py::arg("float64_scores") = false);
    module.def("gather", &gather, py::arg("table"), py::arg("sample"), py::arg("attack"));
    module.def("copy_samples", &copy_samples, py::arg("table"), py::arg("classifier"), py::arg("samples"),
               py::arg("out"));
    mixsolve::cuda::bind_runtime(module);
}
