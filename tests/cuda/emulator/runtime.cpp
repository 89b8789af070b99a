// The launcher's machine on the CPU: device memory is ordinary memory, every byte of which is watched.
#include "../../../csrc/cuda/runtime.h"

#include <pybind11/numpy.h>

#include <cstdlib>
#include <cstring>

#include "../../../csrc/cuda/plan.h"
#include "../../../csrc/cuda/runtime_bindings.h"
#include "machine.h"
#include "memory.h"

namespace py = pybind11;
using Bytes = py::array_t<uint8_t, py::array::c_style | py::array::forcecast>;

namespace mixsolve {
namespace cuda {
namespace {

// What launches go to instead of the emulator when it is set: a function of the name, the number of blocks, the bytes
// of shared memory and the arguments, which reads and writes device memory itself.
py::object& interpreter() {
    static auto* function = new py::object(py::none());
    return *function;
}

// Of a table of many samples, how many one block of threads works on in a pass for one query.
int64_t samples_of_block(int storage, int64_t n_classifiers, int64_t n_attacks) {
    LossTable table{};
    table.storage = static_cast<Storage>(storage);
    table.n_classifiers = n_classifiers;
    table.n_samples = 1 << 14;
    table.n_attacks = n_attacks;
    PassRequest request{};
    request.n_queries = 1;
    request.n_samples = table.n_samples;
    const Chunk first = make_plan(table, request, {false, false}, PlanSizes{}).chunks.front();
    return first.end - first.begin;
}

}  // namespace

DeviceGuard::DeviceGuard(int device) : before_(0), device_(device) {
    if (device != 0) throw DeviceError("the emulator has device 0 only; got device " + std::to_string(device));
}
DeviceGuard::~DeviceGuard() = default;

DeviceMemory::~DeviceMemory() {
    if (!data_) return;
    emulator::remove_region(data_);
    std::free(data_);
}

// Made anew each time, so that what an earlier pass has left there is nobody's.
void* DeviceMemory::reserve(size_t bytes, const Stream&) {
    if (data_) {
        emulator::remove_region(data_);
        std::free(data_);
    }
    bytes_ = bytes;
    data_ = std::aligned_alloc(256, (bytes + 511) / 256 * 256);
    std::memset(data_, 0xff, bytes);
    emulator::add_region(data_, bytes, name_, emulator::Access::kWritable);
    return data_;
}

void upload(void* to, const void* from, size_t bytes, const Stream&) {
    std::memcpy(to, from, bytes);
    emulator::mark_written(to, bytes);
}
void download(void* to, const void* from, size_t bytes, const Stream&) { std::memcpy(to, from, bytes); }
void finish(const Stream&) {}
void refuse_capture(const Stream&) {}

void launch(const Kernel& kernel, int64_t blocks, size_t shared_bytes, const Stream&, const void* arguments) {
    if (blocks < 1 || blocks > 2147483647 || shared_bytes > 64 * 1024) {
        throw DeviceError(std::string(kernel.name) + " was launched with " + std::to_string(blocks) + " blocks and " +
                          std::to_string(shared_bytes) + " bytes of shared memory");
    }
    if (!interpreter().is_none()) {
        interpreter()(kernel.name, blocks, shared_bytes,
                      py::bytes(static_cast<const char*>(arguments), kernel.argument_bytes));
        return;
    }
    try {
        const auto entry = reinterpret_cast<emulator::Entry>(const_cast<void*>(kernel.entry));
        emulator::launch(entry, blocks, kThreads, shared_bytes, arguments, kernel.argument_bytes);
    } catch (const emulator::Fault& fault) {
        throw DeviceError(std::string(kernel.name) + ": " + fault.what());
    }
}

void run_without_interpreter(const std::function<void()>& call) { call(); }

void bind_runtime(py::module_& module) {
    module.def(
        "add_array",
        [](uintptr_t begin, size_t bytes, bool writable) {
            emulator::add_region(reinterpret_cast<const void*>(begin), bytes, writable ? "gradient" : "losses",
                                 writable ? emulator::Access::kWritable : emulator::Access::kReadOnly);
        },
        py::arg("begin"), py::arg("bytes"), py::arg("writable") = false);
    module.def("remove_array", [](uintptr_t begin) { emulator::remove_region(reinterpret_cast<const void*>(begin)); });
    module.def("take_load_counts", [](uintptr_t begin) {
        const std::vector<uint8_t> counts = emulator::take_load_counts(reinterpret_cast<const void*>(begin));
        return py::array_t<uint8_t>(static_cast<py::ssize_t>(counts.size()), counts.data());
    });
    module.def("regions", [] {
        py::list found;
        for (const emulator::ListedRegion& region : emulator::list_regions()) {
            const py::array_t<uint8_t> written(static_cast<py::ssize_t>(region.written.size()), region.written.data());
            found.append(py::make_tuple(reinterpret_cast<uintptr_t>(region.begin), region.bytes, region.name,
                                        region.writable, written));
        }
        return found;
    });
    module.def("mark_written", [](uintptr_t begin, const Bytes& written) {
        emulator::set_written(reinterpret_cast<const void*>(begin), written.data());
    });
    module.def("note_loads", [](uintptr_t begin, const Bytes& counts) {
        emulator::add_loads(reinterpret_cast<const void*>(begin), counts.data());
    });
    module.def("samples_of_block", &samples_of_block);
    module.def("leave_out_barrier", &emulator::leave_out_barrier);
    module.def("disturb_exponentials", &emulator::disturb_exponentials);
    module.def("set_interpreter", [](py::object function) { interpreter() = std::move(function); });
}

}  // namespace cuda
}  // namespace mixsolve
