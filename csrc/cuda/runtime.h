// What the launcher needs of the machine: memory, copies, launches. `runtime.cu` is CUDA's; the tests bring one that
// runs on the CPU. Whatever fails throws DeviceError, which names the call, the device and the driver.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace mixsolve {
namespace cuda {

struct DeviceError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Stream {
    int device;
    uintptr_t handle;  // a cudaStream_t; 0 is the default stream
};

// Makes a device the current one for as long as it lives.
class DeviceGuard {
  public:
    explicit DeviceGuard(int device);
    ~DeviceGuard();
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int before_, device_;
};

// Memory of the current device; freed on the device that it came from. Grows, never shrinks.
class DeviceMemory {
  public:
    explicit DeviceMemory(const char* name) : name_(name) {}
    ~DeviceMemory();
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;

    // At least so many bytes, whose former contents are lost.
    void* reserve(size_t bytes, const Stream& stream);
    void* data() const { return data_; }

  private:
    const char* name_;
    void* data_ = nullptr;
    size_t bytes_ = 0;
    int device_ = 0;
};

// In the stream's order. What is downloaded is there when `finish` has returned.
void upload(void* to, const void* from, size_t bytes, const Stream& stream);
void download(void* to, const void* from, size_t bytes, const Stream& stream);
void finish(const Stream& stream);
// Throws while the stream is captured into a CUDA graph: numbers that return to the host cannot be part of one.
void refuse_capture(const Stream& stream);
void launch(const Kernel& kernel, int64_t blocks, size_t shared_bytes, const Stream& stream, const void* arguments);

}  // namespace cuda
}  // namespace mixsolve
