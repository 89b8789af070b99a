#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "machine.h"

namespace emulator {
namespace {

// Who touched a byte last. Barriers order threads of one block only; blocks of one launch are not ordered at all.
struct Touch {
    uint32_t launch = 0, block = 0, epoch = 0;
    uint16_t thread = 0;
    bool many = false;  // threads, in this epoch
};
struct Byte {
    Touch write, read;
    bool written = false;
};

struct Region {
    uintptr_t begin, end;
    std::string name;
    Access access;
    std::vector<Byte> bytes;     // unless read only
    std::vector<uint8_t> loads;  // if read only
};

std::vector<Region*> regions;  // by address; later ones, inside earlier ones, are not needed
Region* last = nullptr;
uint32_t launch_number = 0;

Region* find(uintptr_t address) {
    if (last && address >= last->begin && address < last->end) return last;
    const auto after = std::upper_bound(regions.begin(), regions.end(), address,
                                        [](uintptr_t a, const Region* region) { return a < region->begin; });
    if (after == regions.begin() || address >= (*(after - 1))->end) return nullptr;
    return last = *(after - 1);
}

[[noreturn]] void report(const std::string& what, const Region* region, uintptr_t address, size_t bytes, bool write) {
    const Turn& now = *turn();
    std::string text = what + ": " + (write ? "write" : "read") + " of " + std::to_string(bytes) + " bytes ";
    text +=
        region ? "at byte " + std::to_string(address - region->begin) + " of " + region->name : "outside all arrays";
    text += ", by thread " + std::to_string(now.thread) + " of block " + std::to_string(now.block);
    fail(text.c_str());
}

// Whether the earlier touch is not ordered before this one.
bool races(const Touch& before, const Turn& now, bool shared) {
    if (before.launch != launch_number) return false;
    if (before.block != static_cast<uint32_t>(now.block)) return !shared;
    return before.epoch == static_cast<uint32_t>(now.epoch) && (before.many || before.thread != now.thread);
}

void touch(Touch& before, const Turn& now) {
    const bool same = before.launch == launch_number && before.block == static_cast<uint32_t>(now.block) &&
                      before.epoch == static_cast<uint32_t>(now.epoch);
    before.many = same && (before.many || before.thread != now.thread);
    before.launch = launch_number;
    before.block = static_cast<uint32_t>(now.block);
    before.epoch = static_cast<uint32_t>(now.epoch);
    before.thread = static_cast<uint16_t>(now.thread);
}

void access(const void* where, size_t bytes, bool write) {
    const Turn* now = turn();
    if (!now) return;
    const auto address = reinterpret_cast<uintptr_t>(where);
    const auto stack = reinterpret_cast<uintptr_t>(now->stack);
    if (address >= stack && address < stack + now->stack_bytes) return;
    Region* region = find(address);
    if (!region || address + bytes > region->end) report("out of bounds", region, address, bytes, write);
    if (bytes <= 16 && address % bytes != 0) report("misaligned", region, address, bytes, write);
    if (region->access == Access::kReadOnly) {
        if (write) report("not to be written", region, address, bytes, write);
        for (size_t i = 0; i < bytes; ++i) {
            uint8_t& loads = region->loads[address - region->begin + i];
            loads += loads < 255;
        }
        return;
    }
    const bool shared = region->access == Access::kShared;
    for (size_t i = 0; i < bytes; ++i) {
        Byte& byte = region->bytes[address - region->begin + i];
        if (races(byte.write, *now, shared)) report("race with a write", region, address, bytes, write);
        if (write && races(byte.read, *now, shared)) report("race with a read", region, address, bytes, write);
        if (!write && !byte.written) report("not written before", region, address, bytes, write);
        touch(write ? byte.write : byte.read, *now);
        byte.written |= write;
    }
}

}  // namespace

void load(void* to, const void* from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 16)
        access(static_cast<const char*>(from) + at, std::min<size_t>(bytes - at, 16), false);
    std::memcpy(to, from, bytes);
}
void store(void* to, const void* from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 16)
        access(static_cast<char*>(to) + at, std::min<size_t>(bytes - at, 16), true);
    std::memcpy(to, from, bytes);
}

void add_region(const void* begin, size_t bytes, const std::string& name, Access access) {
    const auto address = reinterpret_cast<uintptr_t>(begin);
    auto* region = new Region{address, address + bytes, name, access, {}, {}};
    if (access == Access::kReadOnly) {
        region->loads.resize(bytes);
    } else {
        region->bytes.resize(bytes);
    }
    regions.insert(std::upper_bound(regions.begin(), regions.end(), address,
                                    [](uintptr_t a, const Region* other) { return a < other->begin; }),
                   region);
}

void remove_region(const void* begin) {
    const auto address = reinterpret_cast<uintptr_t>(begin);
    const auto found =
        std::find_if(regions.begin(), regions.end(), [=](const Region* region) { return region->begin == address; });
    if (found == regions.end()) return;
    last = nullptr;
    delete *found;
    regions.erase(found);
}

void mark_written(const void* begin, size_t bytes) {
    Region* region = find(reinterpret_cast<uintptr_t>(begin));
    for (size_t i = 0; i < bytes; ++i)
        region->bytes[reinterpret_cast<uintptr_t>(begin) - region->begin + i].written = true;
}

void begin_launch() { ++launch_number; }

std::vector<ListedRegion> list_regions() {
    std::vector<ListedRegion> listed;
    for (const Region* region : regions) {
        std::vector<uint8_t> written;
        for (const Byte& byte : region->bytes) written.push_back(byte.written);
        listed.push_back({reinterpret_cast<const char*>(region->begin), region->end - region->begin, region->name,
                          region->access == Access::kWritable, written});
    }
    return listed;
}

void set_written(const void* begin, const uint8_t* written) {
    for (Byte& byte : find(reinterpret_cast<uintptr_t>(begin))->bytes) byte.written = *written++;
}

void add_loads(const void* begin, const uint8_t* counts) {
    for (uint8_t& loads : find(reinterpret_cast<uintptr_t>(begin))->loads) {
        loads = static_cast<uint8_t>(std::min(255, loads + *counts++));
    }
}

std::vector<uint8_t> take_load_counts(const void* begin) {
    Region* region = find(reinterpret_cast<uintptr_t>(begin));
    std::vector<uint8_t> counts(region->loads.size());
    counts.swap(region->loads);
    return counts;
}

SharedMemory::SharedMemory(size_t bytes) : data_(nullptr), bytes_(bytes) {
    if (bytes == 0) return;
    data_ = static_cast<char*>(::operator new(bytes, std::align_val_t(256)));
    add_region(data_, bytes, "shared memory", Access::kShared);
}
SharedMemory::~SharedMemory() {
    if (!data_) return;
    remove_region(data_);
    ::operator delete(data_, std::align_val_t(256));
}
void SharedMemory::clear() const {
    if (!data_) return;
    std::memset(data_, 0xff, bytes_);
    Region* region = find(reinterpret_cast<uintptr_t>(data_));
    std::fill(region->bytes.begin(), region->bytes.end(), Byte{});
}

}  // namespace emulator

// What g++ -fsanitize=thread calls before every access to memory. There is no other part of that sanitiser here.
extern "C" {
#define MIXSOLVE_ACCESS(bytes)                                                          \
    void __tsan_read##bytes(void* at) { emulator::access(at, bytes, false); }           \
    void __tsan_write##bytes(void* at) { emulator::access(at, bytes, true); }           \
    void __tsan_unaligned_read##bytes(void* at) { emulator::access(at, bytes, false); } \
    void __tsan_unaligned_write##bytes(void* at) { emulator::access(at, bytes, true); }
MIXSOLVE_ACCESS(1)
MIXSOLVE_ACCESS(2)
MIXSOLVE_ACCESS(4)
MIXSOLVE_ACCESS(8)
MIXSOLVE_ACCESS(16)
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read_range(void* at, size_t bytes) { emulator::access(at, bytes, false); }
void __tsan_write_range(void* at, size_t bytes) { emulator::access(at, bytes, true); }
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
    emulator::access(from, bytes, false);
    emulator::access(to, bytes, true);
    return std::memcpy(to, from, bytes);
}
void* __tsan_memset(void* to, int value, size_t bytes) {
    emulator::access(to, bytes, true);
    return std::memset(to, value, bytes);
}
}
