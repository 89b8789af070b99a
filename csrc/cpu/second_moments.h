// Second moments of the losses about the mean of their sample: what the Hessian is made of.
//
// With q_i the softmax of sample i, a row becomes its *deviation* sqrt(s_i N c / t_i q_ij) (l_ij - sum_j q_ij l_ij), c
// the query's lowest temperature; the products of all deviations add up to N c times the Hessian. So nothing cancels,
// and the sum is positive semidefinite.
#pragma once

#include "products.h"
#include "rows.h"
#include "segments.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class Score, class Stored>
struct SecondMoments {
    static constexpr int kWidth = kLanes<Score>;
    static constexpr int kMostPlanes = 6;  // whose means are summed together
    static constexpr int kMostTiles = 64;  // whose sums are added in the score type

    const Rows<Score, Stored>& rows;
    const Segments<Score>& query;

    static Products<Score> products(const Workspace& work, int64_t q) {
        const int64_t n = work.table->n_classifiers;
        return {n, static_cast<Vec<Score>*>(work.products) + q * hessian_entries(n)};
    }

    // ---- once per pass, chunk and block ----

    static void prepare(Workspace& work) {
        const int64_t entries = work.request->n_hessians * hessian_entries(work.table->n_classifiers);
        for (int64_t i = 0; i < entries; ++i) static_cast<Vec<Score>*>(work.products)[i] = splat(Score(0));
        work.pending_tiles = 0;
    }
    static void make_room(int n_rows, Workspace& work) {
        const int tiles = (n_rows + kDeviationRows - 1) / kDeviationRows;
        if (work.pending_tiles + tiles > kMostTiles) settle(work);
        work.pending_tiles += tiles;
    }
    // Adds what is in the score type to the sums of the chunk.
    static void settle(Workspace& work) {
        work.pending_tiles = 0;
        for (int64_t q = 0; q < work.request->n_hessians; ++q) settle(work, q);
    }
    static void settle(Workspace& work, int64_t q) {
        double* hessian = work.hessian + q * hessian_entries(work.table->n_classifiers);
        products(work, q).hand_over([hessian](int64_t entry, double sum) { hessian[entry] += sum; });
    }

    // ---- whole samples: gradient and second moments of a query whose chances are known ----

    void add_block() const {
        const Block& block = query.block;
        const bool alone = block.n_segments == 1;  // then chances add up to the mass, else to the sample's weight
        double* gradient = query.work.gradient + query.query * rows.n_planes;
        int filled = 0;
        for (int s = 0; s < block.n_segments; ++s) {
            const double weight = static_cast<double>(query.weights()[s]);
            if (weight == 0) continue;
            const int begin = block.start[s], end = block.start[s + 1];
            find_means(begin, end, 1 / (alone ? static_cast<double>(query.mass()[s]) : weight));
            for (int64_t k = 0; k < rows.n_planes; ++k) gradient[k] += weight * means()[k];
            if (end - begin == 1) continue;
            const double scale = alone ? static_cast<double>(query.factor()[s]) : 1.0;
            find_roots(begin, end, scale * coldest() / query.temperature(s));
            filled = deviate(begin, end, filled);
        }
        multiply(filled);
    }

    // ---- a piece of a long sample: its moment and second moments join those of the pieces before ----
    //
    // Before: `moment` and `mass` of the earlier pieces, brought to the merged maximum; `earlier` and `here` do so for
    // second moments of the earlier pieces and of this one.
    void add_piece(double mass, double earlier, double here, double* moment, double* second) const {
        const double own_mass = static_cast<double>(query.mass()[0]);
        find_means(0, rows.n_rows, 1 / own_mass);
        find_roots(0, rows.n_rows, 1.0);
        multiply(deviate(0, rows.n_rows, 0));
        query.work.pending_tiles = 0;
        products(query.work, query.query).hand_over([=](int64_t entry, double sum) {
            second[entry] = second[entry] * earlier + here * sum;
        });
        const double added = here * own_mass, coupling = mass * added / (mass + added);
        double* apart = means() + rows.n_planes;
        for (int64_t k = 0; k < rows.n_planes; ++k) {
            apart[k] = mass > 0 ? moment[k] / mass - means()[k] : 0;
            moment[k] += added * means()[k];
        }
        for (int64_t i = 0; i < rows.n_planes; ++i) {
            for (int64_t j = 0; j <= i; ++j) second[i * (i + 1) / 2 + j] += coupling * apart[i] * apart[j];
        }
    }
    // At the end of a long sample whose second moments `second` have the given mass.
    void add_sample(double mass, const double* second) const {
        const int64_t entries = hessian_entries(query.work.table->n_classifiers);
        const double scale = query.weight(0) * coldest() / query.temperature(0) / mass;
        double* hessian = query.work.hessian + query.query * entries;
        for (int64_t entry = 0; entry < entries; ++entry) hessian[entry] += scale * second[entry];
    }

  private:
    Score* deviations() const { return static_cast<Score*>(query.work.deviations); }
    double* means() const { return query.work.means; }
    Score* roots() const { return query.inverse(); }
    double coldest() const { return query.work.coldest[query.query]; }

    // means[k] = scale sum_row chance[row] losses[k][row] over the rows of one sample.
    void find_means(int begin, int end, double scale) const {
        int64_t k = 0;
        while (k < rows.n_planes) {
            const int64_t left = rows.n_planes - k, groups = (left + kMostPlanes - 1) / kMostPlanes;
            k += some_means<kMostPlanes>((left + groups - 1) / groups, k, begin, end, scale);
        }
    }
    template <int Planes>
    int64_t some_means(int64_t wanted, int64_t k, int begin, int end, double scale) const {
        if constexpr (Planes > 1) {
            if (wanted < Planes) return some_means<Planes - 1>(wanted, k, begin, end, scale);
        }
        means_of<Planes>(k, begin, end, scale);
        return Planes;
    }
    template <int Planes>
    MIXSOLVE_NOINLINE void means_of(int64_t k, int begin, int end, double scale) const {
        constexpr int kRun = 2 * kRunVectors * kWidth;
        const bool fetching = query.query == 0;
        double moment[Planes] = {};
        for (int first = begin; first < end; first += kRun) {
            const int last = end - first < kRun ? end : first + kRun;
            Vec<Score> sum[Planes];
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) sum[p] = splat(Score(0));
            int row = first;
            for (; row + kWidth <= last; row += kWidth) {
                const Vec<Score> chance = load(query.probability + row);
                const bool fetches = fetching && row / kWidth % rows.kPeriod == rows.kVectorsPerLine;
                MIXSOLVE_UNROLL
                for (int p = 0; p < Planes; ++p) {
                    const Stored* from = rows.plane(k + p) + row;
                    if (fetches) rows.prefetch(from);
                    sum[p] = fma(chance, losses_at<Score>(from, k + p), sum[p]);
                }
            }
            if (row < last) {
                const Vec<Score> chance = keep_first<Score>(load(query.probability + row), last - row);
                MIXSOLVE_UNROLL
                for (int p = 0; p < Planes; ++p) sum[p] = fma(chance, losses(k + p, row), sum[p]);
            }
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] += static_cast<double>(lane_sum(sum[p]));
        }
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) means()[k + p] = scale * moment[p];
    }
    // A vector that may reach beyond its sample, but not beyond the block.
    MIXSOLVE_INLINE LossesOf<Score, Stored> losses(int64_t k, int row) const {
        const Stored* from = rows.plane(k) + row;
        return row + kWidth <= rows.n_rows ? losses_at<Score>(from, k)
                                           : first_losses_at<Score>(from, rows.n_rows - row, k);
    }

    // Of one sample, from the start of the buffer on, with zeros after the last.
    void find_roots(int begin, int end, double scale) const {
        const Vec<Score> factor = splat(static_cast<Score>(scale));
        const Score* chance = query.probability + begin;
        Score* to = roots();
        int left = end - begin;
        for (; left >= kWidth; left -= kWidth, chance += kWidth, to += kWidth) {
            store(to, square_root(load(chance) * factor));
        }
        if (left > 0) store(to, square_root(keep_first<Score>(load(chance) * factor, left)));
    }

    // Appends the deviations of the rows of one sample to those that wait for their products; returns how many wait.
    // Samples of many rows begin with a whole vector, and zeros fill up the one before.
    int deviate(int begin, int end, int filled) const {
        const bool aligned = end - begin >= 2 * kWidth;
        if (aligned) filled = fill_up(filled);
        const Score* root = roots();
        while (begin < end) {
            const int left = end - begin, room = kDeviationRows - filled, count = left < room ? left : room;
            for (int64_t k = 0; k < rows.n_planes; ++k) {
                const Vec<Score> mean = splat(static_cast<Score>(means()[k]));
                const Stored* from = rows.plane(k) + begin;
                Score* to = deviations() + k * kDeviationStride + filled;
                int row = 0;
                for (; row + kWidth <= count; row += kWidth) {
                    store(to + row, (Vec<Score>(losses_at<Score>(from + row, k)) - mean) * load(root + row));
                }
                if (row < count) store(to + row, (Vec<Score>(losses(k, begin + row)) - mean) * load(root + row));
            }
            begin += count;
            root += count;
            filled += count;
            if (filled == kDeviationRows) {
                multiply(filled);
                filled = 0;
            }
        }
        return filled;
    }
    int fill_up(int filled) const {
        if (filled % kWidth == 0) return filled;
        for (int64_t k = 0; k < rows.n_planes; ++k) {
            store(deviations() + k * kDeviationStride + filled, splat(Score(0)));
        }
        return (filled + kWidth - 1) / kWidth * kWidth;
    }
    void multiply(int filled) const {
        if (filled > 0) {
            products(query.work, query.query).add(WrittenDeviations<Score>{deviations(), fill_up(filled)});
        }
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
