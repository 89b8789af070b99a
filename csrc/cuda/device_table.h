// A loss table in device memory, with what belongs to it there and a copy of its row offsets on the host.
#pragma once

#include <mutex>
#include <vector>

#include "../passes.h"
#include "plan.h"
#include "runtime.h"

namespace mixsolve {
namespace cuda {

class DeviceTable {
  public:
    // `table.data` is in device memory, the rest in host memory, of which copies are taken. The losses are the
    // caller's and must live as long as the table.
    DeviceTable(const LossTable& table, const Stream& stream);

    // The CPU's interface: numbers in and out of host memory. The table is read in the order of its stream.
    void run_pass(const PassRequest& request, PassAnswer& answer);

    PlanSizes sizes;

    const LossTable& on_host() const { return host_; }
    const LossTable& on_device() const { return device_; }
    const Stream& stream() const { return stream_; }

  private:
    PassArguments shape_of(const PassRequest& request, const Plan& plan) const;
    void send_question(const PassRequest& request, const Plan& plan, PassArguments& asked);
    void make_room(const PassRequest& request, const Plan& plan, const PassAnswer& answer, PassArguments& asked);
    void bring_answers(const PassArguments& asked, const PassAnswer& answer) const;
    std::vector<double> add_up(const PassArguments& asked, int64_t n_partials);
    void hand_out(const PassRequest& request, const double* sums, PassAnswer& answer) const;
    int64_t n_rows() const { return host_.row_offsets ? row_offsets_.back() : host_.n_samples * host_.n_attacks; }

    Stream stream_;
    std::vector<int64_t> row_offsets_;
    LossTable host_, device_;
    DeviceMemory offsets_memory_{"row offsets"}, weight_memory_{"sample weights"}, prior_memory_{"prior"};
    // Kept between passes; one pass at a time uses them.
    std::mutex busy_;
    DeviceMemory question_{"question"}, chunks_{"chunks"}, sums_{"sums"}, records_{"records"}, total_{"totals"},
        per_sample_{"per-sample values"}, best_attack_{"best attacks"}, best_row_{"best rows"};
};

}  // namespace cuda
}  // namespace mixsolve
