// Sums over the processes that hold a core together: every process makes the same calls in the same order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace mixsolve {

// Replaces n numbers by their sums over the processes, the last n_largest of them by the largest; with the same bits on
// every process. Null where one process holds everything.
using Combine = std::function<void(double* values, int64_t n, int64_t n_largest)>;

// Several arrays combined at once.
class Message {
  public:
    explicit Message(const Combine& combine) : combine_(combine) {}

    Message& add(double* values, int64_t n) {
        if (combine_) parts_.emplace_back(values, n);
        return *this;
    }
    // On and below the diagonal.
    Message& add_triangle(double* matrix, int64_t n, int64_t stride) {
        for (int64_t k = 0; k < n; ++k) add(matrix + k * stride, k + 1);
        return *this;
    }
    void send(int64_t n_largest = 0) const {
        if (!combine_) return;
        std::vector<double> all;
        for (const auto& part : parts_) all.insert(all.end(), part.first, part.first + part.second);
        combine_(all.data(), static_cast<int64_t>(all.size()), n_largest);
        const double* from = all.data();
        for (const auto& part : parts_) {
            std::copy_n(from, part.second, part.first);
            from += part.second;
        }
    }

  private:
    const Combine& combine_;
    std::vector<std::pair<double*, int64_t>> parts_;
};

}  // namespace mixsolve
