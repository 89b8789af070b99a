#include "plane_file.h"

#include <fcntl.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace mixsolve {
namespace {

constexpr int64_t kWindow = 1 << 26, kPlaneWindow = 1 << 18;  // bytes fetched ahead: in all, and of each plane at least
constexpr int64_t kSteps = 4;                                 // in a window
constexpr int64_t kAdvice = 1 << 17;  // bytes that a system fetches at one request, however it was set up

int duplicate(int descriptor) {
    const int own = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (own < 0) throw CannotRead(errno, 0);
    return own;
}

int64_t window_of(const PlaneLayout& layout) {
    return std::max(kWindow / layout.n_planes, kPlaneWindow) / kSteps * kSteps;
}

}  // namespace

PlaneFile::PlaneFile(int descriptor, PlaneLayout layout)
    : descriptor_(duplicate(descriptor)), layout_(layout), window_(window_of(layout)), process_(getpid()) {
    ahead_ = std::thread([this] { look_ahead(); });
}

PlaneFile::~PlaneFile() {
    if (process_ == getpid()) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stopped_ = true;
        }
        wake_.notify_all();
        ahead_.join();
    } else {
        ahead_.detach();  // a child of the process has no such thread
    }
    close(descriptor_);
}

int64_t PlaneFile::stride_for(int64_t count) const {
    const int64_t lines = (count + kLine - 1) / kLine | 1;  // odd: lines of the planes share no place in the cache
    return lines * kLine + layout_.plane_bytes % kLine;
}

void PlaneFile::read(int64_t from, int64_t count, char* to, int64_t stride) {
    reached(from);
    for (int64_t k = 0; k < layout_.n_planes; ++k) {
        read_plane(layout_.offset + k * layout_.plane_bytes + from, count, to + k * stride);
    }
    bytes_read_ += count * layout_.n_planes;
}

void PlaneFile::read_plane(int64_t at, int64_t count, char* to) {
    while (count > 0) {
        const ssize_t got = pread(descriptor_, to, static_cast<size_t>(count), static_cast<off_t>(at));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) throw CannotRead(got < 0 ? errno : 0, at);
        to += got, at += got, count -= got;
    }
}

void PlaneFile::reached(int64_t from) {
    int64_t before = reached_;
    while (before < from && !reached_.compare_exchange_weak(before, from)) {
    }
    if (fetched_ < layout_.plane_bytes && from + window_ / 2 >= fetched_) {
        const std::lock_guard<std::mutex> lock(mutex_);
        wake_.notify_one();
    }
}

void PlaneFile::look_ahead() {
    const int64_t step = window_ / kSteps;
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopped_ && fetched_ < layout_.plane_bytes) {
        if (reached_ + window_ / 2 < fetched_) {
            wake_.wait(lock);
            continue;
        }
        const int64_t end = std::min(reached_ + window_, layout_.plane_bytes);
        lock.unlock();
        while (fetched_ < end && !stopped_) {
            const int64_t count = std::min(step, layout_.plane_bytes - fetched_);
            fetch(fetched_, count);
            fetched_ += count;
        }
        lock.lock();
    }
}

// A file that is in memory already is left alone: its first byte tells, by a read that does not wait for the disk.
void PlaneFile::fetch(int64_t from, int64_t count) const {
#if defined(__linux__)
    for (int64_t k = 0; k < layout_.n_planes && !stopped_; ++k) {
        const int64_t at = layout_.offset + k * layout_.plane_bytes + from;
        char first;
        const iovec one{&first, 1};
        if (preadv2(descriptor_, &one, 1, static_cast<off_t>(at), RWF_NOWAIT) == 1) continue;
        for (int64_t done = 0; done < count && !stopped_; done += kAdvice) {
            posix_fadvise(descriptor_, static_cast<off_t>(at + done), std::min(kAdvice, count - done),
                          POSIX_FADV_WILLNEED);
        }
    }
#else
    (void)from, (void)count;
#endif
}

}  // namespace mixsolve
