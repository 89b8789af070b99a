#include "dlpack_import.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

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

constexpr uint8_t kUnsigned = 1, kFloat = 2, kBFloat = 4, kBool = 6;
constexpr int32_t kCpu = 1, kPageLocked = 3;

struct Element {
    std::string numpy;
    int storage;
};

// `bytes`: those of uint8 and bool too.
Element element_of(DlType type, bool bytes) {
    if (type.lanes == 1 && type.code == kFloat) {
        if (type.bits == 64) return {"f8", static_cast<int>(Storage::kFloat64)};
        if (type.bits == 32) return {"f4", static_cast<int>(Storage::kFloat32)};
        if (type.bits == 16) return {"f2", static_cast<int>(Storage::kFloat16)};
    }
    if (type.lanes == 1 && type.code == kBFloat && type.bits == 16) return {"u2", static_cast<int>(Storage::kBFloat16)};
    if (bytes && type.lanes == 1 && type.bits == 8 && (type.code == kUnsigned || type.code == kBool)) {
        return {"u1", static_cast<int>(Storage::kUInt8)};
    }
    throw py::type_error("`losses` of this element type are not read as they are stored");
}

// Takes the tensor out of its capsule.
struct Import {
    py::capsule owner;
    const DlTensor* tensor;
    Element element;
    std::vector<py::ssize_t> shape, strides;  // bytes
    const char* data;

    Import(const py::object& capsule, bool bytes) {
        auto* managed = static_cast<DlManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
        if (managed == nullptr) throw py::error_already_set();
        tensor = &managed->tensor;
        element = element_of(tensor->dtype, bytes);  // may throw: the capsule still owns the tensor
        PyCapsule_SetName(capsule.ptr(), "used_dltensor");
        owner = py::capsule(managed, [](void* pointer) {
            auto* tensor_ = static_cast<DlManagedTensor*>(pointer);
            if (tensor_->deleter) tensor_->deleter(tensor_);
        });
        const auto item = static_cast<py::ssize_t>(item_size(static_cast<Storage>(element.storage)));
        shape.assign(tensor->shape, tensor->shape + tensor->ndim);
        strides.resize(shape.size());
        py::ssize_t contiguous = item;
        for (size_t axis = shape.size(); axis-- > 0;) {
            strides[axis] = tensor->strides ? tensor->strides[axis] * item : contiguous;
            contiguous *= shape[axis];
        }
        data = static_cast<const char*>(tensor->data) + tensor->byte_offset;
    }
};

}  // namespace

py::tuple import_dlpack(const py::object& exporter) {
    const Import found(exporter.attr("__dlpack__")(), false);
    const DlDevice device = found.tensor->device;
    if (device.type != kCpu && device.type != kPageLocked)
        return py::make_tuple(py::none(), found.element.storage, device.type, device.id);
    return py::make_tuple(
        py::array(py::dtype(found.element.numpy), found.shape, found.strides, found.data, found.owner),
        found.element.storage, device.type, device.id);
}

py::tuple import_device_dlpack(const py::object& exporter, int64_t stream) {
    const Import found(exporter.attr("__dlpack__")(py::arg("stream") = stream), true);
    const DlDevice device = found.tensor->device;
    return py::make_tuple(found.owner, found.element.storage, device.type, device.id,
                          reinterpret_cast<uintptr_t>(found.data), found.shape, found.strides);
}

}  // namespace mixsolve
