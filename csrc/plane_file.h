// A file with the losses of one classifier after those of another: several threads read pieces of all these planes,
// while a thread of the file's own has the system fetch what comes next from the disk.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace mixsolve {

struct CannotRead : std::runtime_error {
    CannotRead(int error_, int64_t at_) : std::runtime_error("a file cannot be read"), error(error_), at(at_) {}
    int error;  // errno, or 0 where the file ends
    int64_t at;
};

struct PlaneLayout {
    int64_t offset;       // bytes before the first plane
    int64_t plane_bytes;  // of each plane; they follow each other
    int64_t n_planes;
};

class PlaneFile {
  public:
    // Reads from a duplicate of the descriptor.
    PlaneFile(int descriptor, PlaneLayout layout);
    ~PlaneFile();
    PlaneFile(const PlaneFile&) = delete;
    PlaneFile& operator=(const PlaneFile&) = delete;

    // Reads the bytes `from` to `from + count` of every plane, those of plane k to `to + k * stride`; several threads
    // may call at once. Throws CannotRead.
    void read(int64_t from, int64_t count, char* to, int64_t stride);

    // How far apart the planes of a piece of `count` bytes are best put, and how far behind a boundary of 64 bytes: as
    // in the file. Some processors copy slowly to an address that is a little higher, modulo a page, than where they
    // copy from.
    int64_t stride_for(int64_t count) const;
    int64_t lead() const { return layout_.offset % kLine; }

    const PlaneLayout& layout() const { return layout_; }
    int64_t bytes_read() const { return bytes_read_; }

  private:
    static constexpr int64_t kLine = 64;

    void read_plane(int64_t at, int64_t count, char* to);
    void reached(int64_t from);
    void look_ahead();
    void fetch(int64_t from, int64_t count) const;

    const int descriptor_;
    const PlaneLayout layout_;
    const int64_t window_;  // bytes of each plane that are fetched ahead
    std::atomic<int64_t> bytes_read_{0}, reached_{0}, fetched_{0};
    std::atomic<bool> stopped_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
    std::thread ahead_;
    const int process_;  // that the thread is in
};

}  // namespace mixsolve
