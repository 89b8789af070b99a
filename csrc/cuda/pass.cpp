// The launcher: what is asked goes to the device, three kernels are launched, the answers come back.
#include <algorithm>
#include <cmath>
#include <map>

#include "device_table.h"
#include "parcel.h"

namespace mixsolve {
namespace cuda {
namespace {

size_t add_weights(Parcel& parcel, const PassRequest& request, int64_t n_classifiers) {
    const size_t count = static_cast<size_t>(request.n_queries * n_classifiers);
    if (request.float64_scores) return parcel.add(request.weights, count);
    std::vector<float> narrow(count);
    for (size_t i = 0; i < count; ++i) narrow[i] = static_cast<float>(request.weights[i]);
    return parcel.add(narrow.data(), count);
}

size_t add_inverse_temperatures(Parcel& parcel, const PassRequest& request, size_t count) {
    std::vector<double> inverse(count);
    for (size_t i = 0; i < count; ++i) inverse[i] = request.temperature[i] > 0 ? 1 / request.temperature[i] : 0;
    return parcel.add(inverse.data(), count);
}

// Of each query with a Hessian; 1 at temperature 0, where there is none.
std::vector<double> coldest_temperatures(const PassRequest& request, int64_t n_samples) {
    std::vector<double> coldest;
    const int64_t per_query = request.temperature_per_sample ? n_samples : 1;
    for (int64_t q = 0; q < request.n_hessians; ++q) {
        const double* t = request.temperature + q * per_query;
        const double lowest = *std::min_element(t, t + per_query);
        coldest.push_back(lowest > 0 ? lowest : 1);
    }
    return coldest;
}

void unpack_triangle(const double* entries, int64_t n, double scale, double* matrix) {
    for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j <= i; ++j) matrix[i * n + j] = matrix[j * n + i] = *entries++ * scale;
    }
}

Kind kind_of(const PassRequest& request, const PassArguments& asked) {
    if (request.n_hessians > 0) return Kind::kHessian;
    const bool one_query = request.n_queries == 1 && !request.temperature_per_sample && request.temperature[0] > 0;
    const bool whole_table = !request.samples && !asked.starts && !asked.table.prior;
    const bool sums_only = !asked.per_sample && !asked.best_attack && !asked.best_row && !asked.loss_gradient;
    return one_query && whole_table && sums_only ? Kind::kPlain : Kind::kAny;
}

size_t add_starts(Parcel& parcel, const LossTable& table, const PassRequest& request) {
    std::vector<int64_t> starts(static_cast<size_t>(request.n_samples) + 1, 0);
    for (int64_t p = 0; p < request.n_samples; ++p) starts[p + 1] = starts[p] + table.rows(request.samples[p]);
    return parcel.add(starts.data(), starts.size());
}

}  // namespace

Workspace& workspace_of(const Stream& stream) {
    static std::mutex mutex;
    // Never given back: a stream's successor may use it, and at the end of the process the driver may be gone before.
    static auto* const all = new std::map<std::pair<int, uintptr_t>, Workspace>();
    const std::lock_guard<std::mutex> lock(mutex);
    return (*all)[{stream.device, stream.handle}];
}

DeviceTable::DeviceTable(const LossTable& table, const Stream& stream)
    : stream_(stream), host_(table), device_(table), work_(workspace_of(stream)) {
    const DeviceGuard guard(stream.device);
    const auto copy = [&](DeviceMemory& memory, const void* from, size_t bytes) {
        void* there = memory.reserve(bytes, stream_);
        upload(there, from, bytes, stream_);
        return there;
    };
    const size_t n_samples = static_cast<size_t>(table.n_samples);
    if (table.row_offsets) {
        row_offsets_.assign(table.row_offsets, table.row_offsets + n_samples + 1);
        host_.row_offsets = row_offsets_.data();
        device_.row_offsets =
            static_cast<const int64_t*>(copy(offsets_memory_, row_offsets_.data(), (n_samples + 1) * sizeof(int64_t)));
    }
    if (table.sample_weight) {
        device_.sample_weight =
            static_cast<const double*>(copy(weight_memory_, table.sample_weight, n_samples * sizeof(double)));
    }
    if (table.prior) {
        device_.prior =
            copy(prior_memory_, table.prior, static_cast<size_t>(n_rows()) * (table.prior_is_double ? 8 : 4));
    }
    host_.sample_weight = nullptr;
    host_.prior = nullptr;
}

void DeviceTable::run_pass(const PassRequest& request, PassAnswer& answer) {
    if (request.interrupted && request.interrupted()) throw PassInterrupted();
    refuse_capture(stream_);
    const std::lock_guard<std::mutex> lock(work_.busy);
    const DeviceGuard guard(stream_.device);
    const Plan plan = make_plan(host_, request, {answer.best_row != nullptr, false}, sizes);
    PassArguments asked = shape_of(request, plan);
    send_question(request, plan, asked);
    make_room(request, plan, answer, asked);
    launch_pass(request, plan, asked);
    const int64_t n_splits = static_cast<int64_t>(plan.splits.size());
    bring_answers(asked, answer);
    const std::vector<double> sums = add_up(asked, plan.n_whole + n_splits);
    answer.finite = std::all_of(sums.begin(), sums.end(), [](double x) { return std::isfinite(x); });
    hand_out(request, sums.data(), answer);
    answer.bytes_read = plan.rows * host_.n_classifiers * item_size(host_.storage);
}

void DeviceTable::launch_pass(const PassRequest& request, const Plan& plan, const PassArguments& asked) const {
    launch(pass_kernel(host_.storage, request.float64_scores, kind_of(request, asked)),
           static_cast<int64_t>(plan.chunks.size()), static_cast<size_t>(plan.tile.at.bytes), stream_, &asked);
    const int64_t n_splits = static_cast<int64_t>(plan.splits.size());
    if (n_splits > 0) launch(settle_kernel(), n_splits, 0, stream_, &asked);
}

bool DeviceTable::loss_gradient(const LossGradientRequest& wanted, char* gradient) {
    if (wanted.interrupted && wanted.interrupted()) throw PassInterrupted();
    refuse_capture(stream_);
    const std::lock_guard<std::mutex> lock(work_.busy);
    const DeviceGuard guard(stream_.device);
    PassRequest request{};
    request.n_queries = 1;
    request.weights = wanted.weights;
    request.temperature = wanted.temperature;
    request.temperature_per_sample = wanted.temperature_per_sample;
    request.n_samples = host_.n_samples;
    request.float64_scores = wanted.float64_scores;
    const Plan plan = make_plan(host_, request, {false, true}, sizes);
    PassArguments asked = shape_of(request, plan);
    send_question(request, plan, asked);
    make_room(request, plan, PassAnswer{}, asked);
    asked.loss_gradient = gradient;
    asked.n_rows = n_rows();
    asked.gradient_scale = wanted.scale / static_cast<double>(host_.n_samples);
    const int64_t n_splits = static_cast<int64_t>(plan.splits.size()),
                  n_pieces = static_cast<int64_t>(plan.chunks.size()) - plan.n_whole;
    if (n_pieces > 0) {
        const size_t bytes = static_cast<size_t>(n_rows()) * sizeof(double);
        asked.kept_scores = static_cast<double*>(work_.scores.reserve(bytes, stream_));
    }
    launch_pass(request, plan, asked);
    if (n_pieces > 0) {
        launch(finish_kernel(host_.storage, request.float64_scores), n_pieces, 0, stream_, &asked);
    }
    const std::vector<double> sums = add_up(asked, plan.n_whole + n_splits);
    return std::all_of(sums.begin(), sums.end(), [](double x) { return std::isfinite(x); });
}

void DeviceTable::gather(const int64_t* offsets, int64_t n, double* out) {
    refuse_capture(stream_);
    const std::lock_guard<std::mutex> lock(work_.busy);
    const DeviceGuard guard(stream_.device);
    Parcel parcel;
    parcel.add(offsets, static_cast<size_t>(n));
    const int64_t numbers = n * host_.n_classifiers;
    const size_t bytes = static_cast<size_t>(numbers) * sizeof(double);
    auto* there = static_cast<double*>(work_.best_row.reserve(bytes, stream_));
    const GatherArguments asked{device_, at<int64_t>(parcel.send(work_.question, stream_), 0), n, there};
    launch(gather_kernel(host_.storage), (numbers + kThreads - 1) / kThreads, 0, stream_, &asked);
    download(out, there, bytes, stream_);
    finish(stream_);
}

void DeviceTable::copy(int64_t classifier, const int64_t* samples, int64_t n, char* out) {
    refuse_capture(stream_);
    const DeviceGuard guard(stream_.device);
    const int64_t item = item_size(host_.storage);
    const char* const plane = classifier * host_.stride_classifier + host_.data;
    const auto offset = [&](int64_t sample) {
        return host_.row_offsets ? host_.row_offsets[sample] * item : sample * host_.stride_sample;
    };
    for (int64_t i = 0; i < n;) {  // what follows each other there and here goes together
        const int64_t begin = offset(samples[i]);
        int64_t bytes = host_.rows(samples[i]) * item;
        for (++i; i < n && offset(samples[i]) == begin + bytes; ++i) bytes += host_.rows(samples[i]) * item;
        download(out, plane + begin, static_cast<size_t>(bytes), stream_);
        out += bytes;
    }
    finish(stream_);
}

PassArguments DeviceTable::shape_of(const PassRequest& request, const Plan& plan) const {
    PassArguments asked{};
    asked.table = device_;
    asked.n_positions = request.n_samples;
    asked.contiguous =
        !request.samples && (host_.row_offsets || host_.stride_sample == host_.n_attacks * item_size(host_.storage));
    const int item = static_cast<int>(item_size(host_.storage));
    const int64_t together = rows_together(item, request.float64_scores ? 8 : 4), bytes = together * item;
    const bool room = plan.tile.rows % together == 0;  // in the tile, for as many
    asked.aligned_planes = room && host_.stride_classifier % bytes == 0;
    const bool whole = !host_.row_offsets && host_.n_attacks % together == 0,  // what is read together is of one sample
        aligned = asked.aligned_planes && host_.stride_sample % bytes == 0 &&
                  reinterpret_cast<uintptr_t>(host_.data) % bytes == 0;
    asked.rows_lie = room ? Lie::kSideBySide : Lie::kApart;
    asked.samples_lie = !whole ? Lie::kApart : aligned ? Lie::kAligned : asked.rows_lie;
    asked.n_queries = request.n_queries;
    asked.temperature_stride = request.temperature_per_sample ? host_.n_samples : 0;
    asked.n_hessians = request.n_hessians;
    asked.tile = plan.tile;
    asked.n_sums = plan.n_sums;
    asked.n_whole = plan.n_whole;
    asked.record_numbers = plan.record_numbers;
    return asked;
}

// All that a pass asks with, in one copy.
void DeviceTable::send_question(const PassRequest& request, const Plan& plan, PassArguments& asked) {
    Parcel parcel;
    const size_t temperatures =
        static_cast<size_t>(request.n_queries * (request.temperature_per_sample ? host_.n_samples : 1));
    const size_t weights = add_weights(parcel, request, host_.n_classifiers);
    const size_t temperature = parcel.add(request.temperature, temperatures);
    const size_t inverse = add_inverse_temperatures(parcel, request, temperatures);
    const std::vector<double> lowest = coldest_temperatures(request, host_.n_samples);
    const size_t coldest = parcel.add(lowest.data(), lowest.size());
    const size_t chunks = parcel.add(plan.chunks.data(), plan.chunks.size());
    const size_t splits = parcel.add(plan.splits.data(), plan.splits.size());
    size_t samples = 0, starts = 0;
    const bool own_starts = host_.row_offsets && request.samples;
    if (request.samples) samples = parcel.add(request.samples, static_cast<size_t>(request.n_samples));
    if (own_starts) starts = add_starts(parcel, host_, request);

    const char* question = parcel.send(work_.question, stream_);
    asked.weights = question + weights;
    asked.temperature = at<double>(question, temperature);
    asked.inverse_temperature = at<double>(question, inverse);
    asked.coldest = at<double>(question, coldest);
    asked.chunks = at<Chunk>(question, chunks);
    asked.splits = at<SplitSample>(question, splits);
    asked.samples = request.samples ? at<int64_t>(question, samples) : nullptr;
    asked.starts = own_starts ? at<int64_t>(question, starts) : device_.row_offsets;
}

// For partial sums, for records and for what is asked per sample.
void DeviceTable::make_room(const PassRequest& request, const Plan& plan, const PassAnswer& answer,
                            PassArguments& asked) {
    const auto room = [this](DeviceMemory& memory, bool wanted, int64_t numbers) -> double* {
        if (!wanted) return nullptr;
        return static_cast<double*>(memory.reserve(static_cast<size_t>(numbers) * sizeof(double), stream_));
    };
    const int64_t n_queries = request.n_queries, n = n_queries * request.n_samples;
    const int64_t n_chunks = static_cast<int64_t>(plan.chunks.size()),
                  n_partials = plan.n_whole + static_cast<int64_t>(plan.splits.size());
    asked.sums = room(work_.sums, true, n_partials * plan.n_sums);
    asked.records = room(work_.records, plan.has_records, n_chunks * n_queries * plan.record_numbers);
    asked.per_sample = room(work_.per_sample, answer.per_sample, n);
    asked.best_attack = reinterpret_cast<int64_t*>(room(work_.best_attack, answer.best_attack, n));
    asked.best_row = room(work_.best_row, answer.best_row, n * host_.n_classifiers);
}

void DeviceTable::bring_answers(const PassArguments& asked, const PassAnswer& answer) const {
    const auto bring = [this](void* to, const void* from, int64_t numbers) {
        if (to) download(to, from, static_cast<size_t>(numbers) * sizeof(double), stream_);
    };
    const int64_t n = asked.n_queries * asked.n_positions;
    bring(answer.per_sample, asked.per_sample, n);
    bring(answer.best_attack, asked.best_attack, n);
    bring(answer.best_row, asked.best_row, n * host_.n_classifiers);
}

std::vector<double> DeviceTable::add_up(const PassArguments& asked, int64_t n_partials) {
    const int64_t n_sums = asked.n_sums;
    ReduceArguments reduce{asked.sums, n_partials, n_sums, 1, nullptr};
    while (reduce.column_lanes < kWarpLanes && reduce.column_lanes < n_sums) reduce.column_lanes *= 2;
    const size_t bytes = static_cast<size_t>(n_sums) * sizeof(double);
    reduce.out = static_cast<double*>(work_.total.reserve(bytes, stream_));
    launch(reduce_kernel(), (n_sums + reduce.column_lanes - 1) / reduce.column_lanes, kThreads * sizeof(double),
           stream_, &reduce);
    std::vector<double> sums(static_cast<size_t>(n_sums));
    download(sums.data(), reduce.out, bytes, stream_);
    finish(stream_);
    return sums;
}

void DeviceTable::hand_out(const PassRequest& request, const double* sums, PassAnswer& answer) const {
    const int64_t L = host_.n_classifiers;
    const double scale = 1.0 / static_cast<double>(host_.n_samples);
    for (int64_t q = 0; q < request.n_queries; ++q) {
        answer.value[q] = *sums++ * scale;
        for (int64_t k = 0; k < L; ++k) answer.gradient[q * L + k] = *sums++ * scale;
    }
    const std::vector<double> coldest = coldest_temperatures(request, host_.n_samples);
    for (int64_t q = 0; q < request.n_hessians; ++q) {
        unpack_triangle(sums + q * hessian_entries(L), L, scale / coldest[q], answer.hessian + q * L * L);
    }
}

}  // namespace cuda
}  // namespace mixsolve
