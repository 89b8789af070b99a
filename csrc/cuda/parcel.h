// Arrays that go to the device together.
#pragma once

#include <cstring>
#include <vector>

#include "runtime.h"

namespace mixsolve {
namespace cuda {

// Each begins where any type may.
class Parcel {
  public:
    template <class T>
    size_t add(const T* data, size_t count) {
        const size_t at = bytes_.size();
        bytes_.resize(at + (count * sizeof(T) + 15) / 16 * 16);
        if (count > 0) std::memcpy(bytes_.data() + at, data, count * sizeof(T));
        return at;
    }
    const char* send(DeviceMemory& memory, const Stream& stream) const {
        void* there = memory.reserve(bytes_.size(), stream);
        upload(there, bytes_.data(), bytes_.size(), stream);
        return static_cast<const char*>(there);
    }

  private:
    std::vector<char> bytes_;
};

template <class T>
const T* at(const char* memory, size_t offset) {
    return reinterpret_cast<const T*>(memory + offset);
}

}  // namespace cuda
}  // namespace mixsolve
