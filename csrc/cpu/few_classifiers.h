// Blocks of a table of few classifiers: which of the fused loops answers which query.
#pragma once

#include "best_rows.h"
#include "fused_hessian.h"
#include "fused_once.h"
#include "fused_short.h"
#include "set_sweep.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class Score, class Stored>
struct FewClassifiers {
    using Best = BestRows<Score, Stored>;
    static constexpr int kWidth = kLanes<Score>;
    // Rows of a range that several loops go over one after the other.
    static constexpr int kRangeRows = 2048;
    static_assert(kRangeRows % (kRunVectors * kWidth) == 0, "the runs of a range are those of the block");
    // Passes with float64 scores are few: they do without some of the loops, which take long to compile.
    static constexpr bool kIsUsual = sizeof(Score) == 4;
    static constexpr bool kHasHessians = kIsUsual && sizeof(Stored) == 4;
    static constexpr bool kIsFused = kIsSet<Stored> ? kIsUsual && sizeof(Stored) == 2 : kIsUsual || sizeof(Stored) >= 4;
    static constexpr int kFusedPlanes = kIsFused ? kMostFusedPlanes : 0;

    static bool has_long_blocks(const LossTable& table, const PassRequest& request) {
        const int64_t item = item_size(table.storage);
        return table.n_classifiers <= kFusedPlanes && !table.row_offsets && !table.prior && !request.samples &&
               takes_hessians(table, request) &&
               (fill_vectors(table) || (table.n_attacks >= 2 * kWidth && table.n_attacks <= kMaxBlockRows)) &&
               table.stride_sample == table.n_attacks * item;
    }
    // Whether so many samples make up a vector exactly.
    static bool fill_vectors(const LossTable& table) {
        return kIsUsual && !table.row_offsets && table.n_attacks <= kWidth && kWidth % table.n_attacks == 0;
    }
    static bool takes_hessians(const LossTable& table, const PassRequest& request) {
        return request.n_hessians == 0 || (kHasHessians && !fill_vectors(table));
    }
    static bool take(const Segments<Score>& samples) {
        const LossTable& table = *samples.work.table;
        return table.n_classifiers <= kFusedPlanes && !samples.block.prior &&
               takes_hessians(table, *samples.work.request) &&
               (fill_vectors(table) || (!samples.short_samples() && samples.all_fill_a_vector()));
    }
    template <int Planes = kFusedPlanes>
    static void answer(const Rows<Score, Stored>& rows, const Block& block, Workspace& work) {
        if constexpr (Planes > 0) {
            if (rows.n_planes == Planes) {
                if constexpr (kIsUsual) {
                    if (fill_vectors(*work.table)) return fused_short<Planes>(rows, block, work);
                }
                fused<Planes>(rows, block, work);
            } else {
                answer<Planes - 1>(rows, block, work);
            }
        }
    }

    static int samples_in_cache(const Block& block) {
        const int64_t samples = static_cast<int64_t>(kRangeRows) * block.n_segments / block.n_rows;
        return samples > 1 ? static_cast<int>(samples) : 1;
    }
    // Several loops over the losses are done range by range of samples, so that all but the first find them in the
    // caches.
    template <int Planes>
    static void fused(const Rows<Score, Stored>& rows, const Block& block, Workspace& work) {
        const int64_t n_queries = work.request->n_queries;
        const bool best = work.answer->best_attack || work.answer->best_row;
        const Segments<Score> any{block, work, 0, nullptr, nullptr, {}};
        int64_t n_soft = 0, n_plain = 0;
        for (int64_t q = 0; q < n_queries; ++q) {
            const bool soft = any.of(q).temperature(0) > 0;
            n_soft += soft;
            n_plain += soft && q >= work.request->n_hessians;
        }
        const int64_t n_loops = best ? n_queries + n_soft : n_queries;
        const int n = block.n_segments;
        const int in_cache = samples_in_cache(block), range = n_loops == 1 ? n : in_cache;
        Vec<Score>* totals = static_cast<Vec<Score>*>(work.totals);
        for (int64_t i = 0; i < n_queries * Planes; ++i) totals[i] = splat(Score(0));
        for (int first = 0; first < n; first += range) {
            const int last = first + range < n ? first + range : n;
            int64_t loop = 0;
            for (int64_t q = 0; q < n_queries; ++q) {
                if (abandoned(q, work)) return;
                const Segments<Score> query = any.of(q);
                const bool worst_case = query.temperature(0) == 0;
                if (worst_case || best) {
                    Fused<Score, Stored, Planes>{rows, query, weights<Score>(work) + q * Planes}.best_attacks(first,
                                                                                                              last);
                    Best::hand_out(rows, query, first, last);
                }
                if (worst_case) {
                    query.values_from_maxima(first, last);
                    Best::add(rows, query, first, last);
                    continue;
                }
                if (q < work.request->n_hessians) {
                    soften_with_hessian<Planes>(rows, any, q, first, last);
                } else {
                    soften<Planes>(rows, any, q, Turn::of(loop++, n_plain), first, last, in_cache);
                }
            }
        }
    }
    template <int Planes>
    static void fused_short(const Rows<Score, Stored>& rows, const Block& block, Workspace& work) {
        const int64_t n_queries = work.request->n_queries;
        const bool best = work.answer->best_attack || work.answer->best_row;
        const Segments<Score> any{block, work, 0, nullptr, nullptr, {}};
        const int n = block.n_segments, n_attacks = static_cast<int>(work.table->n_attacks);
        const int range = n_queries == 1 && (work.score_only || !best) ? n : kRangeRows / n_attacks;
        for (int first = 0; first < n; first += range) {
            const int last = first + range < n ? first + range : n;
            for (int64_t q = 0; q < n_queries; ++q) {
                if (abandoned(q, work)) return;
                const Segments<Score> query = any.of(q);
                const FusedShort<Score, Stored, Planes> loops{rows, query, weights<Score>(work) + q * Planes, n_attacks,
                                                              q == 0};
                double* const gradient = work.gradient + q * Planes;
                const bool worst_case = query.temperature(0) == 0;
                if (worst_case || best) {
                    loops.best_attacks(first, last, worst_case ? gradient : nullptr);
                    Best::hand_out(rows, query, first, last);
                }
                if (worst_case) {
                    query.values_from_maxima(first, last);
                } else {
                    loops.soften(first, last, gradient);
                    query.values_from_masses(first, last);
                }
            }
        }
    }
    template <int Planes>
    static void soften_with_hessian(const Rows<Score, Stored>& rows, const Segments<Score>& any, int64_t q, int first,
                                    int last) {
        if constexpr (kHasHessians) {
            const Segments<Score> query = any.of(q, buffer<Score>(any.work.probabilities, 0));
            FusedHessian<Score, Stored, Planes>{rows, query, weights<Score>(any.work) + q * Planes}.soften(first, last);
            query.values_from_masses(first, last);
        }
    }
    template <int Planes>
    static void soften(const Rows<Score, Stored>& rows, const Segments<Score>& any, int64_t q, Turn turn, int first,
                       int last, int run) {
        Workspace& work = any.work;
        const Segments<Score> query = any.of(q, buffer<Score>(work.probabilities, 0), turn);
        soften_by_loop<Planes>(rows, query, weights<Score>(work) + q * Planes, first, last, run,
                               static_cast<Vec<Score>*>(work.totals) + q * Planes, work.gradient + q * Planes);
        query.values_from_masses(first, last);
    }
    template <int Planes>
    static void soften_by_loop(const Rows<Score, Stored>& rows, const Segments<Score>& query, const Score* weights,
                               int first, int last, int run, Vec<Score>* total, double* gradient) {
        if constexpr (SubsetSums<Score, Stored, Planes>::kAreThere) {
            const SetSweep<Planes> sweep{rows, query};
            if (sweep.suits()) return sweep.soften(first, last, total, gradient);
        }
        if constexpr (FusedOnce<Score, Stored, Planes>::kFits && kIsUsual) {
            if (!query.work.request->temperature_per_sample) {
                return FusedOnce<Score, Stored, Planes>{rows, query, weights}.soften(first, last, run, gradient);
            }
        }
        Fused<Score, Stored, Planes>{rows, query, weights}.soften(first, last, total, gradient);
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
