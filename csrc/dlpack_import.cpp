#include "dlpack_import.h"

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>
#include <vector>

#include "loss_table.h"

namespace py = pybind11;

namespace mixsolve {
namespace {

// The part of the DLPack ABI (version 0, still exported by everybody on request) that an importer needs.
struct DlDevice {
    int32_t type, id;
};
struct DlType {
    uint8_t code, bits;
    uint16_t lanes;
};
struct DlTensor {
    void* data;
    DlDevice device;
    int32_t ndim;
    DlType dtype;
    int64_t* shape;
    int64_t* strides;  // in elements; null when contiguous
    uint64_t byte_offset;
};
struct DlManagedTensor {
    DlTensor tensor;
    void* manager;
    void (*deleter)(DlManagedTensor*);
};

constexpr uint8_t kFloat = 2, kBFloat = 4;
constexpr int32_t kCpu = 1, kPageLocked = 3;

struct Element {
    std::string numpy;
    int storage;
};

Element element_of(DlType type) {
    if (type.lanes == 1 && type.code == kFloat) {
        if (type.bits == 64) return {"f8", static_cast<int>(Storage::kFloat64)};
        if (type.bits == 32) return {"f4", static_cast<int>(Storage::kFloat32)};
        if (type.bits == 16) return {"f2", static_cast<int>(Storage::kFloat16)};
    }
    if (type.lanes == 1 && type.code == kBFloat && type.bits == 16) return {"u2", static_cast<int>(Storage::kBFloat16)};
    throw py::type_error("`losses` of this element type are not read as they are stored");
}

}  // namespace

py::tuple import_dlpack(const py::object& exporter) {
    const auto capsule = exporter.attr("__dlpack__")().cast<py::object>();
    auto* managed = static_cast<DlManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    if (managed == nullptr) throw py::error_already_set();
    const DlTensor& tensor = managed->tensor;
    const Element element = element_of(tensor.dtype);  // may throw: the capsule still owns the tensor

    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
    const py::capsule owner(managed, [](void* pointer) {
        auto* tensor_ = static_cast<DlManagedTensor*>(pointer);
        if (tensor_->deleter) tensor_->deleter(tensor_);
    });
    if (tensor.device.type != kCpu && tensor.device.type != kPageLocked)
        return py::make_tuple(py::none(), element.storage, tensor.device.type, tensor.device.id);

    const py::dtype dtype(element.numpy);
    std::vector<py::ssize_t> shape(tensor.shape, tensor.shape + tensor.ndim), strides(shape.size());
    py::ssize_t contiguous = dtype.itemsize();
    for (size_t axis = shape.size(); axis-- > 0;) {
        strides[axis] = tensor.strides ? tensor.strides[axis] * dtype.itemsize() : contiguous;
        contiguous *= shape[axis];
    }
    const char* data = static_cast<const char*>(tensor.data) + tensor.byte_offset;
    return py::make_tuple(py::array(dtype, shape, strides, data, owner), element.storage, tensor.device.type,
                          tensor.device.id);
}

}  // namespace mixsolve
