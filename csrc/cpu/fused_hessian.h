// The Hessian for few classifiers: the fused loops leave probabilities and means, and products of deviations are formed
// from the losses while they are in the first cache.
#pragma once

#include "fused.h"
#include "second_moments.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

// Rows of several samples, where they lie in the table.
template <class Score, class Stored>
struct RowsOfSamples {
    static constexpr bool kGoesOn = true;
    static constexpr bool kFillsVectors = false;

    struct Sample {
        const char* losses;    // of its first row in plane 0
        const Score* chances;  // up to a factor, zeros behind the last
        const Score* means;
        Score factor;
        int n_rows;
    };
    const Sample* samples;
    int n_samples;
    int64_t plane_stride;

    struct Side {
        const char* from;
        int64_t plane_stride;
        const Score* means;
        template <bool Whole>
        MIXSOLVE_INLINE Vec<Score> deviation(int k, int row, int count) const {
            const Stored* here = reinterpret_cast<const Stored*>(from + k * plane_stride) + row;
            return splat(means[k]) -
                   (Whole ? Loader<Score, Stored>::full(here) : load_first<Score, Stored>(here, count));
        }
    };
    int n_parts() const { return n_samples; }
    int n_rows(int part) const { return samples[part].n_rows; }
    Side side(int part, int64_t first) const {
        return {samples[part].losses + first * plane_stride, plane_stride, samples[part].means + first};
    }
    MIXSOLVE_INLINE Vec<Score> weigh(Vec<Score> deviation, int part, int row) const {
        return deviation * (load(samples[part].chances + row) * samples[part].factor);
    }
};

template <class Score, class Stored, int Planes>
struct FusedHessian {
    using Loops = Fused<Score, Stored, Planes>;
    using Losses = typename Loops::Losses;
    using Deviations = RowsOfSamples<Score, Stored>;
    static constexpr int kWidth = kLanes<Score>;
    static constexpr int kTogether = 512;      // rows whose losses stay in the first cache
    static constexpr int kInScoreType = 4096;  // rows whose products are added up in the score type
    static constexpr int kMostSamples = kTogether / kWidth;

    const Rows<Score, Stored>& rows;
    const Segments<Score>& query;
    const Score* weights;

    // Adds gradient and second moments of the samples [first, last); leaves maxima, masses and excesses in `query`.
    //
    // Products are added up row after row, however samples are taken together.
    MIXSOLVE_NOINLINE void soften(int first, int last) const {
        const int32_t* const start = query.block.start;
        const int n = query.block.n_segments, many = kInScoreType * n / query.block.n_rows,
                  period = many > 1 ? many : 1;
        typename Deviations::Sample samples[kMostSamples];
        Score means[kMostSamples * Planes];
        for (int s = first; s < last;) {
            const int limit = (s / period + 1) * period < last ? (s / period + 1) * period : last;
            int end = s + 1;
            while (end < limit && end - s < kMostSamples && start[end + 1] - start[s] <= kTogether) ++end;
            const int found = find_chances(s, end, samples, means);
            add_products(samples, found);
            s = end;
            if (s % period == 0 || s == n) SecondMoments<Score, Stored>::settle(query.work, query.query);
        }
    }

  private:
    // Gradient, chances, means and factors of the samples [first, last), all scores before all exponentials; returns
    // how many have any weight.
    MIXSOLVE_INLINE int find_chances(int first, int last, typename Deviations::Sample* samples, Score* means) const {
        const Losses table = Loops{rows, query, weights}.losses();
        const int32_t* const start = query.block.start;
        Score* out = query.probability;
        for (int s = first; s < last; ++s) {
            query.maximum()[s] = scores(table, start[s], start[s + 1], out);
            out += (start[s + 1] - start[s] + kWidth - 1) / kWidth * kWidth;
        }
        double* gradient = query.work.gradient + query.query * Planes;
        out = query.probability;
        int found = 0;
        for (int s = first; s < last; ++s) {
            const int n_rows = start[s + 1] - start[s];
            double moment[Planes] = {};
            const Score maximum = query.maximum()[s], scale = static_cast<Score>(kLog2E / query.temperature(s));
            const Score mass = chances(table, start[s], n_rows, scale, maximum, out, moment);
            const Score all = static_cast<Score>(n_rows);
            query.mass()[s] = mass;
            query.excess()[s] =
                near_one(mass / all) ? Loops{rows, query, weights}.sum_expm1(s, scale, maximum) : mass - all;
            const double weight = static_cast<double>(query.weights()[s]), inverse = 1 / static_cast<double>(mass);
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) {
                const double mean = moment[p] * inverse;
                gradient[p] += weight * mean;
                means[found * Planes + p] = static_cast<Score>(mean);
            }
            const double factor = weight * inverse * query.work.coldest[query.query] / query.temperature(s);
            samples[found] = {table.row(start[s]), out, means + found * Planes, static_cast<Score>(factor), n_rows};
            found += weight > 0;
            out += (n_rows + kWidth - 1) / kWidth * kWidth;
        }
        return found;
    }
    static MIXSOLVE_INLINE Score scores(const Losses& table, int begin, int end, Score* out) {
        Score highest = Loops::kLowest;
        for (int row = begin; row < end; row += Loops::kTile) {
            const Score here = Loops::scores(table, row, end, out + (row - begin)).maximum;
            highest = here > highest ? here : highest;
        }
        return highest;
    }

    // Puts p_j = 2^(scale (z_j - shift)) in the place of the scores z_j; adds sum_j p_j row_j to `moment`, returns
    // sum_j p_j.
    static MIXSOLVE_INLINE Score chances(const Losses& table, int begin, int n_rows, Score scale, Score shift,
                                         Score* scores, double (&moment)[Planes]) {
        const Vec<Score> scales = splat(scale), shifts = splat(shift), smallest = splat(smallest_argument(scale));
        double mass = 0;
        for (int tile = 0; tile < n_rows; tile += kTogether) {
            const int end = n_rows - tile < kTogether ? n_rows : tile + kTogether;
            Vec<Score> sum = splat(Score(0)), sums[Planes];
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) sums[p] = sum;
            const char* from = table.row(begin + tile);
            int row = tile;
            for (; row + kWidth <= end; row += kWidth, from += kWidth * sizeof(Stored)) {
                const Vec<Score> chance = exp2_scaled<Score>(load(scores + row) - shifts, scales, smallest);
                Loops::template add_vector<true>(table, from, (row - tile) / kWidth, kWidth, chance, sums);
                store(scores + row, chance);
                sum += chance;
            }
            if (row < end) {
                const Vec<Score> chance =
                    keep_first<Score>(exp2_scaled<Score>(load(scores + row) - shifts, scales, smallest), end - row);
                Loops::template add_vector<false>(table, from, (row - tile) / kWidth, end - row, chance, sums);
                store(scores + row, chance);
                sum += chance;
            }
            mass += static_cast<double>(lane_sum(sum));
            MIXSOLVE_UNROLL
            for (int p = 0; p < Planes; ++p) moment[p] += static_cast<double>(lane_sum(sums[p]));
        }
        return static_cast<Score>(mass);
    }

    // Of some samples, or of a long one piece by piece.
    void add_products(typename Deviations::Sample* samples, int n) const {
        const Products<Score> products = SecondMoments<Score, Stored>::products(query.work, query.query);
        if (n != 1 || samples[0].n_rows <= kTogether) return products.add(Deviations{samples, n, rows.plane_stride});
        typename Deviations::Sample piece = samples[0];
        for (int left = piece.n_rows; left > 0; left -= kTogether) {
            piece.n_rows = left < kTogether ? left : kTogether;
            products.add(Deviations{&piece, 1, rows.plane_stride});
            piece.losses += kTogether * sizeof(Stored);
            piece.chances += kTogether;
        }
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
