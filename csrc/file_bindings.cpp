// Files of losses and passes over them, for Python.
#include "file_bindings.h"

#include <pybind11/numpy.h>

#include <algorithm>

#include "cpu/thread_pool.h"
#include "file_pass.h"
#include "interruption.h"
#include "parallel.h"
#include "pass_arguments.h"

namespace py = pybind11;

namespace mixsolve {
namespace {

constexpr int64_t kReadPiece = 1 << 17;  // bytes of a plane

using Cancel = std::shared_ptr<CancelToken>;

// Turns CannotRead into OSError, or into EOFError with the place where the file ends too early.
template <class Call>
void with_errors(const Call& call) {
    try {
        call();
    } catch (const CannotRead& problem) {
        if (problem.error == 0) {
            PyErr_SetObject(PyExc_EOFError, py::int_(problem.at).ptr());
        } else {
            errno = problem.error;
            PyErr_SetFromErrno(PyExc_OSError);
        }
        throw py::error_already_set();
    }
}

// A file that is open, with the thread that reads ahead in it.
struct File {
    std::unique_ptr<PlaneFile> planes;

    File(int descriptor, int64_t offset, int64_t plane_bytes, int64_t n_planes) {
        require(offset >= 0 && plane_bytes >= 1 && n_planes >= 1, "a file has at least one plane of one byte");
        with_errors(
            [&] { planes = std::make_unique<PlaneFile>(descriptor, PlaneLayout{offset, plane_bytes, n_planes}); });
    }
    ~File() { close(); }

    PlaneFile& open() const {
        require(planes != nullptr, "the file is closed");
        return *planes;
    }
    void close() {
        if (!planes) return;
        const WithoutInterpreter released;
        planes.reset();
    }
};

// The losses of a file as a table without memory.
struct FileTable {
    LossTable view{};
    Belongings belongings;

    FileTable(int storage, int64_t n_classifiers, int64_t n_samples, int64_t n_rows, py::object offsets,
              py::object weight, py::object prior)
        : belongings{std::move(offsets), std::move(weight), std::move(prior)} {
        view.storage = storage_of(storage);
        require(!holds_sets(view.storage), "files hold no sets");
        require(n_classifiers >= 1 && n_samples >= 1 && n_rows >= n_samples, "the table is empty");
        view.n_classifiers = n_classifiers;
        view.n_samples = n_samples;
        if (!belongings.ragged()) {
            require(n_rows % n_samples == 0, "samples must have equal numbers of rows");
            view.n_attacks = n_rows / n_samples;
            view.stride_sample = view.n_attacks * item_size(view.storage);
        }
        belongings.enter(view, n_rows);
        require(view.n_samples == n_samples, "row_offsets have the wrong length");
    }
};

void read_planes(const File& file, int64_t from, py::array out, int threads) {
    PlaneFile& planes = file.open();
    const PlaneLayout& layout = planes.layout();
    require(out.ndim() == 2 && out.itemsize() == 1 && out.shape(0) == layout.n_planes && out.strides(1) == 1 &&
                out.writeable(),
            "out must be bytes, one line per plane");
    const int64_t count = out.shape(1), stride = out.strides(0);
    require(from >= 0 && from + count <= layout.plane_bytes, "the bytes are outside the planes");
    char* const to = static_cast<char*>(out.mutable_data());
    with_errors([&] {
        const WithoutInterpreter released;
        TaskRunner runner(threads > 0 ? threads : available_threads(), nullptr);
        const int64_t pieces = (count + kReadPiece - 1) / kReadPiece;
        runner.run(pieces, pieces < 2, [&](int64_t piece, int) {
            const int64_t begin = piece * kReadPiece;
            planes.read(from + begin, std::min(kReadPiece, count - begin), to + begin, stride);
        });
    });
}

py::dict file_pass(const File& file, const FileTable& table, int64_t piece_bytes, int64_t first, int64_t last,
                   Doubles weights, Doubles temperature, int want, bool float64_scores, int threads, Cancel cancel,
                   int64_t hessians) {
    const LossTable& view = table.view;
    require(0 <= first && first < last && last <= view.n_samples, "samples are out of range");
    require(piece_bytes >= 1, "a piece has at least one byte");
    PlaneFile& planes = file.open();
    require(planes.layout().n_planes == view.n_classifiers &&
                planes.layout().plane_bytes == view.first_row(view.n_samples) * item_size(view.storage),
            "the file does not fit the table");
    const Question question(std::move(weights), std::move(temperature), py::none(), float64_scores, hessians);
    PassRequest request = question.request(view);
    request.n_samples = last - first;
    request.threads = threads > 0 ? threads : available_threads();
    Answer answer(view, request, want);
    with_errors([&] {
        run_interruptibly(cancel.get(), [&](const std::function<bool()>& interrupted) {
            request.interrupted = interrupted;
            run_file_pass({planes, view, first, last, piece_bytes, request}, answer.buffers);
        });
    });
    return answer.finished();
}

}  // namespace

void bind_files(py::module_& module) {
    py::class_<File>(module, "PlaneFile")
        .def(py::init<int, int64_t, int64_t, int64_t>(), py::arg("descriptor"), py::arg("offset"),
             py::arg("plane_bytes"), py::arg("n_planes"))
        .def("close", &File::close)
        .def("read", &read_planes, py::arg("first"), py::arg("out"), py::arg("threads") = 0)
        .def_property_readonly("bytes_read", [](const File& file) { return file.open().bytes_read(); });
    py::class_<FileTable>(module, "FileTable")
        .def(py::init<int, int64_t, int64_t, int64_t, py::object, py::object, py::object>(), py::arg("storage"),
             py::arg("n_classifiers"), py::arg("n_samples"), py::arg("n_rows"), py::arg("row_offsets") = py::none(),
             py::arg("sample_weight") = py::none(), py::arg("attack_prior") = py::none());
    module.def("file_pass", &file_pass, py::arg("file"), py::arg("table"), py::arg("piece_bytes"), py::arg("first"),
               py::arg("last"), py::arg("weights"), py::arg("temperature"), py::arg("want") = kGradientOnly,
               py::arg("float64_scores") = false, py::arg("threads") = 0, py::arg("cancel") = py::none(),
               py::arg("hessians") = 0);
}

}  // namespace mixsolve
