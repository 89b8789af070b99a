#include "plan.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "shared_layout.h"

namespace mixsolve {
namespace cuda {
namespace {

constexpr int kMostSharedBytes = 64 * 1024;  // of the smallest device that is supported

int64_t power_of_two_up_to(int64_t x) {
    int64_t power = 1;
    while (2 * power <= x) power *= 2;
    return power;
}

class Planner {
  public:
    Planner(const LossTable& table, const PassRequest& request, bool wants_best_row, const PlanSizes& sizes)
        : table_(table), request_(request), wants_best_row_(wants_best_row), sizes_(sizes) {
        row_bytes_ = table.n_classifiers * item_size(table.storage);
    }

    Plan make() {
        const int64_t L = table_.n_classifiers, entries = request_.n_hessians > 0 ? hessian_entries(L) : 0;
        plan_.record_numbers = static_cast<int>(kRecordHead + L * (wants_best_row_ ? 2 : 1) + entries);
        plan_.n_sums = request_.n_queries * (1 + L) + request_.n_hessians * entries;
        count_rows();
        shape_tile();
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

    void shape_tile() {
        const int64_t n_classifiers = table_.n_classifiers, item = item_size(table_.storage);
        const int64_t score = request_.float64_scores ? 8 : 4;
        const int64_t kept_per_row = row_bytes_ + (request_.n_hessians > 0 ? n_classifiers * score : 0);
        const int64_t most = std::min(sizes_.tile_bytes / kept_per_row, sizes_.most_tile_rows);
        TileShape& tile = plan_.tile;
        tile.rows = static_cast<int>(power_of_two_up_to(most));
        // Many threads to a classifier when they are few, one when there are many.
        const int64_t lanes = std::clamp<int64_t>(power_of_two_up_to(512 / n_classifiers), 1, kWarpLanes);
        tile.moment_lanes = static_cast<int>(std::min<int64_t>(lanes, tile.rows));
        // A warp looks at `moment_lanes` rows of several classifiers at once: they lie in different banks.
        tile.stride = tile.rows + (tile.moment_lanes < kWarpLanes ? tile.moment_lanes : 0);
        const int64_t mean_rows = std::max<int64_t>(plan_.rows / request_.n_samples, 1);
        constexpr int64_t kRowsPerLane = 4;
        const int64_t wanted = (mean_rows + kRowsPerLane - 1) / kRowsPerLane;
        tile.sample_lanes = static_cast<int>(std::min<int64_t>(power_of_two_up_to(2 * wanted - 1), kWarpLanes));
        if (request_.n_hessians > 0) {
            const int64_t sides = (n_classifiers + 3) / 4, squares = sides * (sides + 1) / 2;
            const int64_t sharing = std::clamp<int64_t>(power_of_two_up_to(512 / squares), 1, kWarpLanes);
            tile.product_lanes = static_cast<int>(std::min<int64_t>(sharing, tile.rows));
        }
        const int64_t sums = (plan_.n_sums + request_.n_queries * plan_.record_numbers) * 8;
        tile.sums_bytes = sums <= sizes_.shared_sums_bytes ? static_cast<int>(sums) : 0;
        tile.shared_bytes = SharedLayout(tile, n_classifiers, static_cast<int>(item), static_cast<int>(score)).bytes;
        if (tile.shared_bytes > kMostSharedBytes) {
            throw std::invalid_argument("`losses` on a GPU must have at most about " +
                                        std::to_string(kMostSharedBytes / item / 2) + " classifiers; got " +
                                        std::to_string(n_classifiers));
        }
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
        for (int64_t begin = 0; begin < n;) {
            int64_t end = begin, rows = 0;
            if (!table_.row_offsets && table_.n_attacks <= piece_rows_) {
                end = std::min(n, begin + std::max<int64_t>(chunk_rows / table_.n_attacks, 1));
            } else {
                while (end < n && rows_at(end) <= piece_rows_ && (rows == 0 || rows + rows_at(end) <= chunk_rows)) {
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
    const bool wants_best_row_;
    const PlanSizes& sizes_;
    int64_t row_bytes_, longest_ = 1, piece_rows_ = 1;
    std::vector<int64_t> split_;
    Plan plan_{};
};

}  // namespace

Plan make_plan(const LossTable& table, const PassRequest& request, bool wants_best_row, const PlanSizes& sizes) {
    return Planner(table, request, wants_best_row, sizes).make();
}

}  // namespace cuda
}  // namespace mixsolve
