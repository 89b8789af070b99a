#include "file_pass.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "cpu/thread_pool.h"

namespace mixsolve {
namespace {

constexpr int64_t kPartialSums = 1 << 23;  // doubles that the sums of pieces may take
constexpr auto kPollInterval = std::chrono::milliseconds(10);

// What a worker keeps from piece to piece.
struct Worker {
    std::unique_ptr<char[]> memory;
    int64_t room = 0;
    std::vector<int64_t> offsets;
    std::vector<double> temperature, per_sample, best_row;
    std::vector<int64_t> best_attack;

    // Memory whose address is `lead` bytes behind a boundary of 64; not cleared.
    char* take(int64_t bytes, int64_t lead) {
        if (bytes + 128 > room) {
            memory.reset(new char[static_cast<size_t>(bytes + 128)]);
            room = bytes + 128;
        }
        const auto address = reinterpret_cast<uintptr_t>(memory.get());
        return memory.get() + (64 - address % 64) % 64 + lead;
    }
};

class Run {
  public:
    Run(const FilePass& pass, PassAnswer& answer)
        : pass_(pass),
          request_(pass.request),
          table_(pass.table),
          answer_(answer),
          sums_(request_.n_queries * (1 + table_.n_classifiers) +
                request_.n_hessians * table_.n_classifiers * table_.n_classifiers) {
        cut();
    }

    void all() {
        std::fill_n(answer_.value, request_.n_queries, 0.0);
        std::fill_n(answer_.gradient, request_.n_queries * table_.n_classifiers, 0.0);
        std::fill_n(answer_.hessian, request_.n_hessians * table_.n_classifiers * table_.n_classifiers, 0.0);
        const int64_t pieces = static_cast<int64_t>(ends_.size()) - 1;
        const int64_t together = std::max<int64_t>(kPartialSums / sums_, 4);
        for (int64_t begin = 0; begin < pieces; begin += together) {
            serve_all(begin, std::min(begin + together, pieces));
            add_up(begin, std::min(begin + together, pieces));
        }
        answer_.finite = finite_;
        answer_.bytes_read = (row_of(pass_.last) - row_of(pass_.first)) * table_.row_bytes();
    }

  private:
    int64_t row_of(int64_t sample) const { return table_.first_row(sample); }

    // Into pieces of about equal size.
    void cut() {
        const int64_t rows = std::max<int64_t>(pass_.piece_bytes / table_.row_bytes(), 1);
        ends_.push_back(pass_.first);
        while (ends_.back() < pass_.last) {
            const int64_t first = ends_.back();
            int64_t last;
            if (table_.row_offsets) {
                const int64_t* const offsets = table_.row_offsets;
                last = std::upper_bound(offsets + first, offsets + pass_.last + 1, offsets[first] + rows) - offsets - 1;
            } else {
                const int64_t most = std::max<int64_t>(rows / table_.n_attacks, 1), left = pass_.last - first;
                const int64_t pieces = (left + most - 1) / most;
                last = first + (left + pieces - 1) / pieces;
            }
            ends_.push_back(std::max(last, first + 1));
        }
    }

    // Pieces are taken in order by whichever thread is free.
    void serve_all(int64_t begin, int64_t end) {
        partials_.reset(new double[static_cast<size_t>((end - begin) * sums_)]);
        next_ = begin;
        const auto work = [&](int number) {
            try {
                Worker own;
                while (!stopped_) {
                    const int64_t piece = next_.fetch_add(1);
                    if (piece >= end) return;
                    if (number == 0) poll();
                    if (stopped_) return;
                    serve(piece, partials_.get() + (piece - begin) * sums_, number == 0, own);
                }
            } catch (...) {
                stopped_ = true;
                throw;
            }
        };
        run_on_threads(static_cast<int>(std::min<int64_t>(request_.threads, end - begin)), work, [this] { poll(); });
        if (stopped_) throw PassInterrupted();
    }

    // Called from the caller's thread only.
    void poll() {
        const auto now = std::chrono::steady_clock::now();
        if (now < next_poll_) return;
        next_poll_ = now + kPollInterval;
        if (request_.interrupted && request_.interrupted()) stopped_ = true;
    }

    void serve(int64_t piece, double* sums, bool caller, Worker& own) {
        const int64_t first = ends_[piece], n = ends_[piece + 1] - first;
        const int64_t size = item_size(table_.storage), row = row_of(first), bytes = (row_of(first + n) - row) * size;
        const int64_t stride = pass_.file.stride_for(bytes);
        const int64_t lead = pass_.file.lead() % size == 0 ? (pass_.file.lead() + row * size) % 64 : 0;
        char* const losses = own.take(stride * table_.n_classifiers + 64, lead);
        pass_.file.read(row * size, bytes, losses, stride);

        LossTable part = table_;
        part.data = losses;
        part.n_samples = n;
        part.stride_classifier = stride;
        if (table_.row_offsets) {
            own.offsets.resize(static_cast<size_t>(n + 1));
            for (int64_t i = 0; i <= n; ++i) own.offsets[i] = table_.row_offsets[first + i] - row;
            part.row_offsets = own.offsets.data();
        }
        if (table_.sample_weight) part.sample_weight += first;
        if (table_.prior) part.prior = static_cast<const char*>(table_.prior) + row * (table_.prior_is_double ? 8 : 4);
        answer(part, first, sums, caller, own);
    }

    void answer(const LossTable& part, int64_t first, double* sums, bool caller, Worker& own) {
        PassRequest asked = request_;
        asked.threads = 1;
        asked.n_samples = part.n_samples;
        if (!caller) asked.interrupted = nullptr;
        if (request_.temperature_per_sample) asked.temperature = temperatures(first, part.n_samples, own);
        PassAnswer found{};
        found.value = sums;
        found.gradient = sums + request_.n_queries;
        found.hessian = request_.n_hessians ? found.gradient + request_.n_queries * table_.n_classifiers : nullptr;
        found.per_sample = room(answer_.per_sample, 1, first, part.n_samples, own.per_sample);
        found.best_attack = room(answer_.best_attack, 1, first, part.n_samples, own.best_attack);
        found.best_row = room(answer_.best_row, table_.n_classifiers, first, part.n_samples, own.best_row);
        run_pass(part, asked, found);
        if (!found.finite) finite_ = false;
        if (request_.n_queries > 1) {
            spread(own.per_sample, 1, first, part.n_samples, answer_.per_sample);
            spread(own.best_attack, 1, first, part.n_samples, answer_.best_attack);
            spread(own.best_row, table_.n_classifiers, first, part.n_samples, answer_.best_row);
        }
        // A part's sums are of its own mean, or of weights that are those of the whole table already.
        if (table_.sample_weight) return;
        const double share = static_cast<double>(part.n_samples) / static_cast<double>(table_.n_samples);
        for (int64_t i = 0; i < sums_; ++i) sums[i] *= share;
    }

    const double* temperatures(int64_t first, int64_t n, Worker& own) const {
        own.temperature.clear();
        for (int64_t q = 0; q < request_.n_queries; ++q) {
            const double* const of_query = request_.temperature + q * table_.n_samples + first;
            own.temperature.insert(own.temperature.end(), of_query, of_query + n);
        }
        return own.temperature.data();
    }

    // Where a part answers `width` numbers of each of its samples: in place for one query.
    template <class Number>
    Number* room(Number* whole, int64_t width, int64_t first, int64_t n, std::vector<Number>& apart) const {
        if (!whole) return nullptr;
        if (request_.n_queries == 1) return whole + (first - pass_.first) * width;
        apart.resize(static_cast<size_t>(request_.n_queries * n * width));
        return apart.data();
    }

    template <class Number>
    void spread(const std::vector<Number>& apart, int64_t width, int64_t first, int64_t n, Number* whole) const {
        if (!whole) return;
        for (int64_t q = 0; q < request_.n_queries; ++q) {
            std::copy_n(apart.data() + q * n * width, n * width,
                        whole + (q * request_.n_samples + first - pass_.first) * width);
        }
    }

    void add_up(int64_t begin, int64_t end) {
        for (int64_t piece = begin; piece < end; ++piece) {
            const double* sums = partials_.get() + (piece - begin) * sums_;
            const auto add = [&sums](double* to, int64_t count) {
                for (int64_t i = 0; i < count; ++i) to[i] += *sums++;
            };
            add(answer_.value, request_.n_queries);
            add(answer_.gradient, request_.n_queries * table_.n_classifiers);
            add(answer_.hessian, request_.n_hessians * table_.n_classifiers * table_.n_classifiers);
        }
    }

    const FilePass& pass_;
    const PassRequest& request_;
    const LossTable& table_;
    PassAnswer& answer_;
    const int64_t sums_;  // numbers that a piece adds to
    std::vector<int64_t> ends_;
    std::unique_ptr<double[]> partials_;
    std::atomic<int64_t> next_{0};
    std::atomic<bool> stopped_{false}, finite_{true};
    std::chrono::steady_clock::time_point next_poll_{};
};

}  // namespace

void run_file_pass(const FilePass& pass, PassAnswer& answer) { Run(pass, answer).all(); }

}  // namespace mixsolve
