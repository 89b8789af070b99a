// A loss table in device memory, with what belongs to it there and a copy of its row offsets on the host.
#pragma once

#include <mutex>
#include <vector>

#include "../passes.h"
#include "plan.h"
#include "runtime.h"

namespace mixsolve {
namespace cuda {

// Memory that a pass works in: kept between passes, one set for each stream, whose passes take turns.
struct Workspace {
    std::mutex busy;
    DeviceMemory question{"question"}, sums{"sums"}, records{"records"}, total{"totals"},
        per_sample{"per-sample values"}, best_attack{"best attacks"}, best_row{"best rows"}, scores{"scores"};
};
Workspace& workspace_of(const Stream& stream);

class DeviceTable {
  public:
    // `table.data` is in device memory, the rest in host memory, of which copies are taken. The losses are the
    // caller's and must live as long as the table.
    DeviceTable(const LossTable& table, const Stream& stream);

    // The CPU's interface: numbers in and out of host memory. The table is read in the order of its stream.
    void run_pass(const PassRequest& request, PassAnswer& answer);
    // The gradient is in device memory.
    bool loss_gradient(const LossGradientRequest& request, char* gradient);
    // Losses of the rows at these bytes from the first loss, (n, L), to host memory.
    void gather(const int64_t* offsets, int64_t n, double* out);
    // Losses of some samples under one classifier, as they are stored, to host memory.
    void copy(int64_t classifier, const int64_t* samples, int64_t n, char* out);

    PlanSizes sizes;

    const LossTable& on_host() const { return host_; }
    const LossTable& on_device() const { return device_; }
    const Stream& stream() const { return stream_; }

  private:
    PassArguments shape_of(const PassRequest& request, const Plan& plan) const;
    void send_question(const PassRequest& request, const Plan& plan, PassArguments& asked);
    void launch_pass(const PassRequest& request, const Plan& plan, const PassArguments& asked) const;
    void make_room(const PassRequest& request, const Plan& plan, const PassAnswer& answer, PassArguments& asked);
    void bring_answers(const PassArguments& asked, const PassAnswer& answer) const;
    std::vector<double> add_up(const PassArguments& asked, int64_t n_partials);
    void hand_out(const PassRequest& request, const double* sums, PassAnswer& answer) const;
    int64_t n_rows() const { return host_.row_offsets ? row_offsets_.back() : host_.n_samples * host_.n_attacks; }

    Stream stream_;
    std::vector<int64_t> row_offsets_;
    LossTable host_, device_;
    DeviceMemory offsets_memory_{"row offsets"}, weight_memory_{"sample weights"}, prior_memory_{"prior"};
    Workspace& work_;
};

}  // namespace cuda
}  // namespace mixsolve
