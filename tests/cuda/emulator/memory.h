// The memory that kernels may touch, and a look at every access: within an array, aligned, not to what nobody has
// written, and not to what another thread touches without a barrier between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace emulator {

enum class Access { kReadOnly, kWritable, kShared };

void add_region(const void* begin, size_t bytes, const std::string& name, Access access);
void remove_region(const void* begin);
void mark_written(const void* begin, size_t bytes);  // by the host
void begin_launch();

// For kernels: several numbers as one access, in pieces of 16 bytes at most.
void load(void* to, const void* from, size_t bytes);
void store(void* to, const void* from, size_t bytes);

// What another executor of kernels needs to know of the regions, and what it reports back.
struct ListedRegion {
    const char* begin;
    size_t bytes;
    std::string name;
    bool writable;
    std::vector<uint8_t> written;  // per byte
};
std::vector<ListedRegion> list_regions();
void set_written(const void* begin, const uint8_t* written);
void add_loads(const void* begin, const uint8_t* counts);

// How often each byte of a read-only region has been loaded since it was added, or since the last call.
std::vector<uint8_t> take_load_counts(const void* begin);

class ArgumentRegion {
  public:
    ArgumentRegion(const void* begin, size_t bytes) : begin_(begin) {
        add_region(begin, bytes, "arguments", Access::kReadOnly);
    }
    ~ArgumentRegion() { remove_region(begin_); }
    ArgumentRegion(const ArgumentRegion&) = delete;
    ArgumentRegion& operator=(const ArgumentRegion&) = delete;

  private:
    const void* begin_;
};

// Shared memory of one launch; cleared for each block.
class SharedMemory {
  public:
    explicit SharedMemory(size_t bytes);
    ~SharedMemory();
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;
    void clear() const;
    char* data() const { return data_; }

  private:
    char* data_;
    size_t bytes_;
};

}  // namespace emulator
