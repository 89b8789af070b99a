// The native module of the CUDA pass: tables by pointer, numbers by NumPy
// arrays. Arguments have been checked in Python; shapes are checked again here,
// so that a mistake is an exception and never a wild read.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../pass_arguments.h"
#include "device_table.h"
#include "runtime_bindings.h"

namespace py = pybind11;

namespace {

using mixsolve::Answer;
using mixsolve::Belongings;
using mixsolve::Doubles;
using mixsolve::Integers;
using mixsolve::LossTable;
using mixsolve::Question;
using mixsolve::require;
using mixsolve::cuda::DeviceTable;
using mixsolve::cuda::PlanSizes;

struct Layout {
    std::vector<int64_t> shape;    // (L, N, m), or (L, rows) with row offsets
    std::vector<int64_t> strides;  // bytes; the last one is that of an item
};

std::unique_ptr<DeviceTable> make_table(uintptr_t pointer, int storage, const Layout& given, Belongings belongings,
                                        int device, uintptr_t stream) {
    LossTable table{};
    table.data = reinterpret_cast<const char*>(pointer);
    table.storage = mixsolve::storage_of(storage);
    require(!mixsolve::holds_sets(table.storage),
            "losses on a GPU are numbers; sets of classifiers are read on the CPU");
    const bool ragged = belongings.ragged();
    require(given.shape.size() == (ragged ? 2u : 3u) && given.strides.size() == given.shape.size(),
            "a table has 3 dimensions, or 2 with row_offsets");
    for (const int64_t length : given.shape) require(length > 0, "the table is empty");
    const int64_t item = mixsolve::item_size(table.storage);
    require(given.shape.back() == 1 || given.strides.back() == item, "attacks must be contiguous");
    require(pointer % item == 0, "the losses must be aligned");
    for (size_t i = 0; i + 1 < given.strides.size(); ++i) require(given.strides[i] % item == 0, "strides are of items");
    table.n_classifiers = given.shape[0];
    table.stride_classifier = given.strides[0];
    if (!ragged) {
        table.n_samples = given.shape[1];
        table.n_attacks = given.shape[2];
        table.stride_sample = given.strides[1];
    }
    belongings.enter(table, ragged ? given.shape[1] : given.shape[1] * given.shape[2]);
    return std::make_unique<DeviceTable>(table, mixsolve::cuda::Stream{device, stream});
}

py::dict run_pass(DeviceTable& table, Doubles weights, Doubles temperature, int want, const py::object& samples,
                  bool float64_scores, int64_t hessians) {
    const LossTable& view = table.on_host();
    const Question question(std::move(weights), std::move(temperature), samples, float64_scores, hessians);
    const mixsolve::PassRequest request = question.request(view);
    Answer answer(view, request, want);
    mixsolve::cuda::run_without_interpreter([&] { table.run_pass(request, answer.buffers); });
    return answer.finished();
}

// Whether every score was finite; the gradient is at an address of the device.
bool loss_gradient(DeviceTable& table, const Doubles& weights, const Doubles& temperature, double scale,
                   uintptr_t gradient, bool float64_scores) {
    const LossTable& view = table.on_host();
    require(view.storage != mixsolve::Storage::kUInt8, "bytes have no gradient");
    require(gradient % mixsolve::item_size(view.storage) == 0, "the gradient must be aligned");
    const auto request = mixsolve::gradient_request(view, weights, temperature, scale, float64_scores);
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
    mixsolve::name_wants(module);
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
                 return make_table(pointer, storage, {std::move(shape), std::move(strides)},
                                   {std::move(row_offsets), std::move(sample_weight), std::move(attack_prior)}, device,
                                   stream);
             }),
             py::arg("pointer"), py::arg("storage"), py::arg("shape"), py::arg("strides"),
             py::arg("row_offsets") = py::none(), py::arg("sample_weight") = py::none(),
             py::arg("attack_prior") = py::none(), py::arg("device") = 0, py::arg("stream") = 0)
        .def_readonly("sizes", &DeviceTable::sizes);
    module.def("run_pass", &run_pass, py::arg("table"), py::arg("weights"), py::arg("temperature"),
               py::arg("want") = mixsolve::kGradientOnly, py::arg("samples") = py::none(),
               py::arg("float64_scores") = false, py::arg("hessians") = 0);
    module.def("loss_gradient", &loss_gradient, py::arg("table"), py::arg("weights"), py::arg("temperature"),
               py::arg("scale"), py::arg("gradient"), py::arg("float64_scores") = false);
    module.def("gather", &gather, py::arg("table"), py::arg("sample"), py::arg("attack"));
    module.def("copy_samples", &copy_samples, py::arg("table"), py::arg("classifier"), py::arg("samples"),
               py::arg("out"));
    mixsolve::cuda::bind_runtime(module);
}
