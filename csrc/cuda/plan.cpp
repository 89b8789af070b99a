#include "plan.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

#include "shared_layout.h"

namespace mixsolve {
namespace cuda {
namespace {

constexpr int kMostSharedBytes = 64 * 1024;  // of the smallest device that is supported
constexpr int64_t kLanes = kWarpLanes, kRowsPerLane = 8;
constexpr double kMostOfWholeSample = 1.75;  // times the bytes of a tile

int64_t power_of_two_up_to(int64_t x) {
    int64_t power = 1;
    while (2 * power <= x) power *= 2;
    return power;
}

int exponent_of(int64_t power) {
    int exponent = 0;
    while (int64_t{1} << exponent < power) ++exponent;
    return exponent;
}

class Planner {
  public:
    Planner(const LossTable& table, const PassRequest& request, Wanted wanted, const PlanSizes& sizes)
        : table_(table), request_(request), wanted_(wanted), sizes_(sizes) {
        row_bytes_ = table.n_classifiers * item_size(table.storage);
        score_ = request.float64_scores ? 8 : 4;
        together_ = rows_together(static_cast<int>(item_size(table.storage)), score_);
    }

    Plan make() {
        const int64_t L = table_.n_classifiers, entries = request_.n_hessians > 0 ? hessian_entries(L) : 0;
        plan_.record_numbers = static_cast<int>(kRecordHead + L * (wanted_.best_row ? 2 : 1) + entries);
        plan_.n_sums = request_.n_queries * (1 + L) + request_.n_hessians * entries;
        count_rows();
        choose_tile();
        cut();
        return plan_;
    }

  private:
    int64_t rows_at(int64_t position) const {
        return table_.rows(request_.samples ? request_.samples[position] : position);
    }

    void count_rows() {
        const int64_t n = request_.n_samples;
        plan_.rows = 0;
        if (!table_.row_offsets) {
            longest_ = table_.n_attacks;
            plan_.rows = n * table_.n_attacks;
            return;
        }
        for (int64_t p = 0; p < n; ++p) {
            plan_.rows += rows_at(p);
            longest_ = std::max(longest_, rows_at(p));
        }
    }

    void choose_tile() {
        const int64_t most_rows = sizes_.most_tile_rows * 4 / score_, item = item_size(table_.storage);
        per_row_ = row_bytes_ + (request_.n_hessians > 0 ? table_.n_classifiers * score_ : 0);
        const int64_t rows = rows_of_tile(std::min(sizes_.tile_bytes / per_row_, most_rows), together_);
        shape_tile(rows);
        if (plan_.tile.at.bytes > kMostSharedBytes) {
            const int64_t most = kMostSharedBytes / item / 2;
            throw std::invalid_argument("`losses` on a GPU must have at most about " + std::to_string(most) +
                                        " classifiers; got " + std::to_string(table_.n_classifiers));
        }
        // Others may waste less on samples of this length; of ragged ones the longest, where it is a little longer.
        double least = cost(rows);
        const int64_t largest =
            std::min(static_cast<int64_t>(kMostOfWholeSample * sizes_.tile_bytes) / per_row_, most_rows);
        int64_t best = rows;
        const int64_t whole = (longest_ + together_ - 1) / together_ * together_;
        for (int64_t other = together_; other <= largest; other += together_) {
            if (cost(other) >= least || (table_.row_offsets && other != whole)) continue;
            shape_tile(other);
            if (!has_room()) continue;
            least = cost(best = other);
        }
        shape_tile(best);
    }

    // For the sums of one query too, however many are asked: the same tiles, so the same bits, for each of them.
    bool has_room() const {
        const int64_t sums = (1 + 2 * table_.n_classifiers + kRecordHead) * 8;
        const int64_t kept = sums <= sizes_.shared_sums_bytes ? sums : 0;
        return plan_.tile.at.bytes - plan_.tile.sums_bytes + kept <= kMostSharedBytes;
    }

    // About how many instructions warps issue per 512 bytes of the table.
    double cost(int64_t rows) const {
        const double units = static_cast<double>(row_bytes_) / 512;
        const int64_t longest = longest_;
        double used = static_cast<double>(rows);
        bool aligned = true;
        if (longest > rows) {
            used = static_cast<double>(longest) / static_cast<double>((longest + rows - 1) / rows);
        } else if (!table_.row_offsets) {
            const int64_t samples = samples_in(rows);
            used = static_cast<double>(samples * longest);
            aligned = samples * longest % together_ == 0;
            rows = (samples * longest + together_ - 1) / together_ * together_;
        }
        const int64_t groups = rows / together_;
        const int64_t read =
            (groups > kThreads ? (groups + kThreads - 1) / kThreads * kThreads : int64_t{1} << exponent_of(groups)) *
            together_;
        const double once = longest > rows ? 3200 : 1200, other = 35;
        const double all = other + (once + static_cast<double>(read) * units * (aligned ? 8 : 13)) / (used * units);
        return rows * per_row_ > sizes_.tile_bytes ? 1.1 * all : all;
    }

    void shape_tile(int64_t rows) {
        const int64_t n_classifiers = table_.n_classifiers, together = together_;
        TileShape& tile = plan_.tile;
        tile = TileShape{};
        const int64_t step = kThreads * together;  // beyond, whole steps: see TileReader::load_twice
        tile.rows = static_cast<int>(rows > step ? (rows + step - 1) / step * step : rows);
        const int64_t groups = std::max<int64_t>(tile.rows / together, 1);
        tile.row_bits = std::min(exponent_of(groups), kThreadBits);
        // Many threads to a classifier when they are few; a quarter of a warp looks at 16 bytes each of one or several
        // classifiers at once, which are to lie in different banks, but where that costs much of the tile.
        const int64_t sharing = power_of_two_up_to(kThreads / std::min<int64_t>(n_classifiers, kThreads));
        tile.moment_bits = exponent_of(std::min({sharing, power_of_two_up_to(groups), kLanes}));
        tile.stride = tile.rows + (groups > 8 && tile.moment_bits < 3 ? together_ << tile.moment_bits : 0);
        tile.step = kThreads >> tile.row_bits;
        tile.hop = tile.step * tile.stride;
        tile.jump = tile.step * table_.stride_classifier;
        tile.n_parts = tile.step == 1 ? 0 : std::min(tile.step, kWarps);
        const int64_t mean_rows = std::max<int64_t>(plan_.rows / request_.n_samples, 1);
        const auto bits = [&](int64_t rows_per_lane) {
            const int64_t wanted = (mean_rows + rows_per_lane - 1) / rows_per_lane;
            return exponent_of(std::min(power_of_two_up_to(wanted), kLanes));
        };
        tile.sample_bits = bits(kRowsPerLane);
        if (!table_.row_offsets) {
            tile.samples = samples_in(tile.rows);
            // More attacks to a thread where that leaves work for every scheduler.
            if (int64_t{tile.samples} << bits(2 * kRowsPerLane) > 2 * kLanes) tile.sample_bits = bits(2 * kRowsPerLane);
        }
        tile.fours = !table_.row_offsets ? fours_of_thread(tile.sample_bits) : 0;
        tile.wide_samples = !table_.row_offsets && table_.n_attacks % 4 == 0;
        if (request_.n_hessians > 0) {
            const int64_t sides = (n_classifiers + 3) / 4, squares = sides * (sides + 1) / 2;
            const int64_t sharing = std::clamp<int64_t>(power_of_two_up_to(512 / squares), 1, kWarpLanes);
            tile.product_bits = exponent_of(std::min<int64_t>(sharing, tile.rows));
            tile.hessian = true;
        }
        const int64_t sums = (plan_.n_sums + request_.n_queries * plan_.record_numbers) * 8;
        const int item = static_cast<int>(item_size(table_.storage));
        const int bytes = shared_layout(tile, n_classifiers, item, score_).bytes;
        tile.sums_bytes =
            sums <= std::min(sizes_.shared_sums_bytes, kMostSharedBytes - int64_t{bytes}) ? static_cast<int>(sums) : 0;
        tile.at = shared_layout(tile, n_classifiers, item, score_);
    }

    // A power of two; where a classifier's rows keep most threads busy, as many as there is room for.
    static int64_t rows_of_tile(int64_t most, int together) {
        const int64_t groups = most / together;
        if (groups >= kThreads) return groups / kThreads * kThreads * together;
        return 4 * groups >= 3 * kThreads ? groups * together : power_of_two_up_to(most);
    }

    int fours_of_thread(int sample_bits) const {
        const int64_t m = table_.n_attacks,
                      own = m % 4 == 0 ? ((m / 4 - 1) >> sample_bits) + 1 : (odd_share(m, sample_bits) + 3) / 4;
        return static_cast<int>(std::min<int64_t>(own, 1 << 30));
    }

    // So many that what comes next is aligned as the first of them is, where that costs little of the tile.
    int samples_in(int64_t rows) const {
        int64_t fit = rows / table_.n_attacks;
        const int64_t step = together_ / std::gcd<int64_t>(together_, table_.n_attacks);
        if (fit >= 4 * step) fit -= fit % step;
        return static_cast<int>(fit);
    }

    void cut() {
        const int64_t n = request_.n_samples;
        const int64_t sum_bytes = plan_.n_sums * 8;
        // The partial sums of a chunk stay small beside what it reads.
        const int64_t chunk_bytes = std::max(sizes_.chunk_bytes, 16 * sum_bytes);
        const int64_t wanted = std::clamp<int64_t>(plan_.rows * row_bytes_ / chunk_bytes, 1, sizes_.most_chunks);
        const int64_t chunk_rows = (plan_.rows + wanted - 1) / wanted;
        const int64_t piece_bytes = std::max(sizes_.piece_bytes, 16 * 8 * request_.n_queries * plan_.record_numbers);
        piece_rows_ = std::max<int64_t>(piece_bytes / row_bytes_ / plan_.tile.rows, 1) * plan_.tile.rows;
        const int64_t longest_whole = wanted_.loss_gradient ? plan_.tile.rows : piece_rows_;
        for (int64_t begin = 0; begin < n;) {
            int64_t end = begin, rows = 0;
            if (!table_.row_offsets && table_.n_attacks <= longest_whole) {
                const int64_t samples = std::max<int64_t>(plan_.tile.samples, 1);  // whole tiles, if there are several
                const int64_t fit = std::max<int64_t>(chunk_rows / table_.n_attacks, 1);
                end = std::min(n, begin + (fit > samples ? fit - fit % samples : fit));
            } else {
                while (end < n && rows_at(end) <= longest_whole && (rows == 0 || rows + rows_at(end) <= chunk_rows)) {
                    rows += rows_at(end++);
                }
            }
            if (end > begin) plan_.chunks.push_back({begin, end, 0, 0});
            if (end == begin) split_.push_back(end++);
            begin = end;
        }
        plan_.n_whole = static_cast<int64_t>(plan_.chunks.size());
        for (const int64_t position : split_) cut_sample(position);
        plan_.has_records = !split_.empty() || longest_ > plan_.tile.rows;
    }

    void cut_sample(int64_t position) {
        const int64_t rows = rows_at(position), first = static_cast<int64_t>(plan_.chunks.size());
        const int64_t pieces = (rows + piece_rows_ - 1) / piece_rows_;
        for (int64_t row = 0; row < rows; row += piece_rows_) {
            plan_.chunks.push_back({position, position + 1, row, std::min(row + piece_rows_, rows)});
        }
        plan_.splits.push_back({position, first, pieces});
    }

    const LossTable& table_;
    const PassRequest& request_;
    const Wanted wanted_;
    const PlanSizes& sizes_;
    int64_t row_bytes_, per_row_, longest_ = 1, piece_rows_ = 1;
    int score_, together_;  // bytes of a score, and rows that a thread reads as one
    std::vector<int64_t> split_;
    Plan plan_{};
};

}  // namespace

Plan make_plan(const LossTable& table, const PassRequest& request, Wanted wanted, const PlanSizes& sizes) {
    return Planner(table, request, wanted, sizes).make();
}

}  // namespace cuda
}  // namespace mixsolve
