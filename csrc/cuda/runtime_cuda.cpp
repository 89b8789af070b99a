// The launcher's machine: CUDA.
#include <cuda_runtime_api.h>
#include <pybind11/stl.h>

#include "runtime.h"
#include "runtime_bindings.h"

namespace py = pybind11;

namespace mixsolve {
namespace cuda {
namespace {

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

std::string driver() {
    int number = 0;
    if (cudaDriverGetVersion(&number) != cudaSuccess || number == 0) return "no driver";
    return "driver for CUDA " + version(number);
}

std::string describe(cudaError_t error) {
    return std::string(cudaGetErrorString(error)) + " (error " + std::to_string(static_cast<int>(error)) + ")";
}

void check(cudaError_t error, const std::string& call, int device) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // what is reported here is not to be found again by others
    throw DeviceError(call + " failed on CUDA device " + std::to_string(device) + ": " + describe(error) + "; " +
                      driver() + ", built with CUDA " + version(CUDART_VERSION));
}

cudaStream_t handle(const Stream& stream) { return reinterpret_cast<cudaStream_t>(stream.handle); }

py::dict describe_device(int number) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, number), "cudaGetDeviceProperties", number);
    py::dict found;
    found["name"] = properties.name;
    found["capability"] = py::make_tuple(properties.major, properties.minor);
    found["memory"] = properties.totalGlobalMem;
    return found;
}

// The devices, and why there is none: whatever the reason, it is an answer and no error.
py::tuple devices() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        cudaGetLastError();
        const std::string needed = CUDART_VERSION >= 13000 ? " (CUDA 13 needs driver 580 or newer)" : "";
        return py::make_tuple(py::list(), describe(error) + "; " + driver() + needed);
    }
    py::list found;
    for (int number = 0; number < count; ++number) found.append(describe_device(number));
    return py::make_tuple(found, count == 0 ? py::object(py::str("no CUDA device was found")) : py::none());
}

}  // namespace

DeviceGuard::DeviceGuard(int device) : before_(device), device_(device) {
    check(cudaGetDevice(&before_), "cudaGetDevice", device);
    if (before_ != device_) check(cudaSetDevice(device_), "cudaSetDevice", device_);
}
DeviceGuard::~DeviceGuard() {
    if (before_ != device_) cudaSetDevice(before_);
}

DeviceMemory::~DeviceMemory() {
    if (!data_) return;
    int before = device_;
    cudaGetDevice(&before);
    cudaSetDevice(device_);
    cudaFree(data_);  // an error is that of a driver that has gone already
    cudaSetDevice(before);
}

void* DeviceMemory::reserve(size_t bytes, const Stream& stream) {
    if (bytes <= bytes_) return data_;
    const std::string what = std::string(" of ") + std::to_string(bytes) + " bytes for " + name_;
    if (data_) check(cudaFree(data_), "cudaFree" + what, stream.device);
    data_ = nullptr;
    bytes_ = 0;
    check(cudaMalloc(&data_, bytes), "cudaMalloc" + what, stream.device);
    bytes_ = bytes;
    device_ = stream.device;
    return data_;
}

// From ordinary memory: CUDA has taken its copy when the call returns.
void upload(void* to, const void* from, size_t bytes, const Stream& stream) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, handle(stream)), "cudaMemcpyAsync to the device",
          stream.device);
}
void download(void* to, const void* from, size_t bytes, const Stream& stream) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, handle(stream)), "cudaMemcpyAsync to the host",
          stream.device);
}
void finish(const Stream& stream) {
    check(cudaStreamSynchronize(handle(stream)), "cudaStreamSynchronize", stream.device);
}

void refuse_capture(const Stream& stream) {
    const DeviceGuard guard(stream.device);
    cudaStreamCaptureStatus status;
    check(cudaStreamIsCapturing(handle(stream), &status), "cudaStreamIsCapturing", stream.device);
    if (status == cudaStreamCaptureStatusNone) return;
    throw DeviceError(
        "a pass cannot be captured into a CUDA graph: it returns numbers to the host. Capture what comes before and "
        "after it");
}

void launch(const Kernel& kernel, int64_t blocks, size_t shared_bytes, const Stream& stream, const void* arguments) {
    constexpr size_t kWithoutAsking = 48 * 1024;
    const std::string name = kernel.name;
    if (blocks > 2147483647) throw DeviceError(name + ": " + std::to_string(blocks) + " blocks are too many");
    if (shared_bytes > kWithoutAsking) {
        check(cudaFuncSetAttribute(kernel.entry, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shared_bytes)),
              "cudaFuncSetAttribute of " + name, stream.device);
    }
    void* list[] = {const_cast<void*>(arguments)};
    check(cudaLaunchKernel(kernel.entry, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), list, shared_bytes,
                           handle(stream)),
          "launching " + name, stream.device);
}

void run_without_interpreter(const std::function<void()>& call) {
    const py::gil_scoped_release released;
    call();
}

void bind_runtime(py::module_& module) {
    module.attr("ARCHITECTURES") = MIXSOLVE_ARCHITECTURES;
    module.attr("CUDA_VERSION") = version(CUDART_VERSION);
    module.def("devices", &devices);
}

}  // namespace cuda
}  // namespace mixsolve
