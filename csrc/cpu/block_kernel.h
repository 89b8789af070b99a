// One block of rows for all queries.
#pragma once

#include "few_classifiers.h"
#include "kernel.h"
#include "many_planes.h"
#include "rows.h"
#include "second_moments.h"
#include "segments.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class Score, class Stored>
struct BlockKernel {
    static constexpr int kWidth = kLanes<Score>;
    static constexpr int64_t kBlockInCache = 3 << 18;  // bytes that stay in the core's own caches
    using Best = BestRows<Score, Stored>;
    using Few = FewClassifiers<Score, Stored>;
    using Many = ManyPlanes<Score, Stored>;

    static void prepare(Workspace& work) {
        const int64_t n = work.request->n_queries * work.table->n_classifiers;
        for (int64_t i = 0; i < n; ++i) weights<Score>(work)[i] = static_cast<Score>(work.request->weights[i]);
        Score* sample_weights = static_cast<Score*>(work.segment) + 6 * kBufferRows;
        for (int s = 0; s < kBufferRows; ++s) sample_weights[s] = 1;
        work.score_only = true;
        const int64_t per_query = work.request->temperature_per_sample ? work.table->n_samples : 1;
        for (int64_t q = 0; q < work.request->n_queries; ++q)
            work.score_only &= work.request->temperature[q * per_query] == 0;
        SecondMoments<Score, Stored>::prepare(work);
    }

    static void block(const Block& block, Workspace& work) {
        const Rows<Score, Stored> rows = rows_of(block, work);
        const Segments<Score> samples{block, work, 0, nullptr, nullptr, {}};
        read_prior(block, work);
        for (int s = 0; s < block.n_segments; ++s) {
            const int begin = block.start[s], end = block.start[s + 1];
            samples.total()[s] =
                block.prior ? Segments<Score>::sum_rows(samples.prior(), begin, end) : static_cast<Score>(end - begin);
        }
        for (int s = 0; s < block.n_segments && work.table->sample_weight; ++s) {
            samples.weights()[s] = static_cast<Score>(samples.weight(s));
        }
        if (Few::take(samples)) return Few::answer(rows, block, work);
        if (work.request->n_hessians > 0) SecondMoments<Score, Stored>::make_room(block.n_rows, work);
        answer_queries(rows, block, work, work.gradient, [&](const Segments<Score>& query, double& factor) {
            if (!answer_query(rows, query)) return false;
            if (query.query < work.request->n_hessians) {
                SecondMoments<Score, Stored>{rows, query}.add_block();
                return false;
            }
            factor = block.n_segments == 1 ? static_cast<double>(query.factor()[0]) : 1.0;
            return true;
        });
    }

    // Values and outputs of one query; true when its gradient is a moment of the probabilities.
    static bool answer_query(const Rows<Score, Stored>& rows, const Segments<Score>& query) {
        Workspace& work = query.work;
        const bool worst_case = query.temperature(0) == 0;
        query.maxima();
        if (worst_case || work.answer->best_attack || work.answer->best_row) query.best_attacks();
        Best::hand_out(rows, query, 0, query.block.n_segments);
        if (!worst_case) {
            query.soften();
            return true;
        }
        query.values_from_maxima(0, query.block.n_segments);
        Best::add(rows, query, 0, query.block.n_segments);
        return false;
    }

    // ---- a long sample, piece by piece -----------------------------------------------------------------------

    static void begin_sample(Workspace& work) {
        for (int64_t q = 0; q < work.request->n_queries; ++q) work.pieces[q].best_attack = -1;
        end_chunk(work);
    }

    static void piece(const Block& block, int64_t first_attack, Workspace& work) {
        const Rows<Score, Stored> rows = rows_of(block, work);
        read_prior(block, work);
        answer_queries(rows, block, work, work.piece_moment, [&](const Segments<Score>& query, double& factor) {
            const PieceState earlier = work.pieces[query.query];
            if (!answer_piece(rows, query, first_attack, factor)) return false;
            if (query.query >= work.request->n_hessians) return true;
            add_piece_hessian(rows, query, earlier, factor);
            return false;
        });
    }

    static bool answer_piece(const Rows<Score, Stored>& rows, const Segments<Score>& query, int64_t first_attack,
                             double& factor) {
        Workspace& work = query.work;
        PieceState& state = work.pieces[query.query];
        double* moment = work.piece_moment + query.query * rows.n_planes;
        const double t = query.temperature(0);
        const bool opening = state.best_attack < 0;
        query.maxima();
        const double max = static_cast<double>(query.maximum()[0]);
        if (opening || max > state.best_score) {
            query.best_attacks();
            state.best_score = max;
            state.best_attack = first_attack + work.best[0];
            if (t == 0) Best::copy(rows, work.best[0], moment);
            if (work.answer->best_row)
                Best::copy(rows, work.best[0], Best::row(query.query, query.block.position, work));
        }
        if (t == 0) return false;
        factor = merge_piece(query, state, moment, rows.n_planes, opening);
        return true;
    }

    // Brings the moment so far to the merged maximum; returns the factor that does so for the piece's probabilities.
    static double merge_piece(const Segments<Score>& query, PieceState& state, double* moment, int64_t n_planes,
                              bool opening) {
        const Block& block = query.block;
        const double t = query.temperature(0);
        query.total()[0] =
            block.prior ? Segments<Score>::sum_rows(query.prior(), 0, block.n_rows) : static_cast<Score>(block.n_rows);
        query.exponentials_by_sample();
        const double total = static_cast<double>(query.total()[0]);
        const bool rescued = query.needs_rescue(0);
        if (rescued) query.rescue(0);
        const double mass = static_cast<double>(query.mass()[0]);
        const bool high = !rescued && mass > kHighTemperatureShare * total;
        const double excess = high ? static_cast<double>(query.sum_expm1(0)) : mass - total;
        const OnlineLse<double> here{static_cast<double>(query.maximum()[0]), mass, excess, total};
        MergeFactors<double> factors{0, 1};
        if (opening) {
            state.lse = here;
        } else {
            factors = merge(state.lse, here, 1 / t);
        }
        for (int64_t k = 0; k < n_planes; ++k) moment[k] = opening ? 0 : moment[k] * factors.first;
        for (int row = block.n_rows; row < block.n_rows + kWidth; ++row) query.probability[row] = 0;
        return factors.second;
    }

    static void end_sample(int64_t position, Workspace& work) {
        const int64_t n_planes = work.table->n_classifiers, n = work.request->n_samples;
        const Block one{nullptr, 0, 0, 0, nullptr, false, 1, nullptr, position};
        for (int64_t q = 0; q < work.request->n_queries; ++q) {
            const Segments<Score> query{one, work, q, nullptr, nullptr, {}};
            const PieceState& state = work.pieces[q];
            const double t = query.temperature(0), w = query.weight(0);
            const double value = t == 0 ? state.best_score : smoothed_maximum(state.lse, t);
            work.value[q] += w * value;
            if (work.answer->per_sample) work.answer->per_sample[q * n + position] = value;
            if (work.answer->best_attack) work.answer->best_attack[q * n + position] = state.best_attack;
            const double scale = t == 0 ? w : w / state.lse.mass;
            const double* moment = work.piece_moment + q * n_planes;
            for (int64_t k = 0; k < n_planes; ++k) work.gradient[q * n_planes + k] += scale * moment[k];
            if (t == 0 || q >= work.request->n_hessians) continue;
            const Rows<Score, Stored> none = rows_of(one, work);
            SecondMoments<Score, Stored>{none, query}.add_sample(state.lse.mass,
                                                                 work.piece_second + q * hessian_entries(n_planes));
        }
    }

    static void add_piece_hessian(const Rows<Score, Stored>& rows, const Segments<Score>& query,
                                  const PieceState& earlier, double factor) {
        Workspace& work = query.work;
        const OnlineLse<double>& merged = work.pieces[query.query].lse;
        const bool opening = earlier.best_attack < 0;
        const double shrink = opening ? 0 : std::exp((earlier.lse.max - merged.max) / query.temperature(0));
        SecondMoments<Score, Stored>{rows, query}.add_piece(
            opening ? 0 : earlier.lse.mass * shrink, shrink, factor, work.piece_moment + query.query * rows.n_planes,
            work.piece_second + query.query * hessian_entries(rows.n_planes));
    }

    static void end_chunk(Workspace& work) {
        if (work.request->n_hessians > 0) SecondMoments<Score, Stored>::settle(work);
    }

    // ---- shared by both ---------------------------------------------------------------------------------------

    // Scores, answers and moments of a block's rows, a few queries at a time. `answer(query, factor)` says whether the
    // gradient is a moment of the probabilities, times `factor`.
    template <class Answer>
    static void answer_queries(const Rows<Score, Stored>& rows, const Block& block, Workspace& work, double* gradient,
                               const Answer& answer) {
        for (int64_t first = 0; first < work.request->n_queries; first += kQueryGroup) {
            if (abandoned(first, work)) return;
            const int group = group_size(first, work);
            score_group(rows, first, group, work);
            const Score* soft[kQueryGroup];
            double* moment[kQueryGroup];
            double factor[kQueryGroup];
            int n_soft = 0;
            for (int q = 0; q < group; ++q) {
                const Segments<Score> query{block,
                                            work,
                                            first + q,
                                            buffer<Score>(work.scores, q),
                                            buffer<Score>(work.probabilities, q),
                                            q == 0 && first == 0 ? next_block(rows, work) : NextBlock{}};
                if (!answer(query, factor[n_soft])) continue;
                soft[n_soft] = query.probability;
                moment[n_soft++] = gradient + (first + q) * rows.n_planes;
            }
            add_moments(rows, work, soft, factor, moment, n_soft);
        }
    }
    static int group_size(int64_t first, const Workspace& work) {
        const int64_t left = work.request->n_queries - first;
        return static_cast<int>(left < kQueryGroup ? left : kQueryGroup);
    }
    static Rows<Score, Stored> rows_of(const Block& block, const Workspace& work) {
        const int64_t n_planes = work.table->n_classifiers;
        const bool in_cache = block.n_rows * n_planes * static_cast<int64_t>(sizeof(Stored)) <= kBlockInCache;
        const bool scores_fetch = work.score_only || !in_cache || kIsSet<Stored>;
        const int64_t later_planes = scores_fetch || n_planes < 8 ? 0 : 3;
        return {block.data,           block.plane_stride, block.n_rows, n_planes,
                block.prefetch_bytes, later_planes,       scores_fetch};
    }
    static NextBlock next_block(const Rows<Score, Stored>& rows, const Workspace& work) {
        if constexpr (!kIsSet<Stored>) {
            if (is_many(work)) return Many{rows}.next_planes();
        }
        return {rows.data + rows.prefetch_bytes, rows.plane_stride, sizeof(Stored),
                static_cast<int>(rows.later_planes)};
    }
    static bool is_many(const Workspace& work) { return takes_many_planes(*work.table, *work.request); }
    static void read_prior(const Block& block, Workspace& work) {
        if (!block.prior) return;
        Score* prior = static_cast<Score*>(work.prior);
        for (int row = 0; row < block.n_rows; ++row) {
            prior[row] = block.prior_is_double ? static_cast<Score>(reinterpret_cast<const double*>(block.prior)[row])
                                               : static_cast<Score>(reinterpret_cast<const float*>(block.prior)[row]);
        }
    }

    static void score_group(const Rows<Score, Stored>& rows, int64_t first, int group, Workspace& work) {
        const Score* query_weights[kQueryGroup];
        Score* out[kQueryGroup];
        for (int q = 0; q < group; ++q) {
            query_weights[q] = weights<Score>(work) + (first + q) * rows.n_planes;
            out[q] = buffer<Score>(work.scores, q);
        }
        bool finite = true;
        if constexpr (!kIsSet<Stored>) {
            if (is_many(work)) {
                work.finite &= Many{rows}.scores(work.score_only, query_weights[0], out[0]);
                return;
            }
        }
        if (group == 4) {
            finite = rows.template scores<4>(query_weights, out);
        } else {
            if (group >= 2) finite &= rows.template scores<2>(query_weights, out);
            if (group % 2) finite &= rows.template scores<1>(query_weights + group - 1, out + group - 1);
        }
        work.finite &= finite;
    }

    static void add_moments(const Rows<Score, Stored>& rows, const Workspace& work, const Score* const* probability,
                            const double* factor, double* const* moment, int n) {
        if constexpr (!kIsSet<Stored>) {
            if (n == 1 && is_many(work)) return Many{rows}.moments(probability[0], factor[0], moment[0]);
        }
        if (n == 4) {
            rows.template moments<4>(probability, factor, moment);
        } else {
            if (n >= 2) rows.template moments<2>(probability, factor, moment);
            if (n % 2) rows.template moments<1>(probability + n - 1, factor + n - 1, moment + n - 1);
        }
    }

    static const Kernel* table() {
        static const Kernel kernel = {Few::has_long_blocks, prepare, block, begin_sample, piece, end_sample, end_chunk};
        return &kernel;
    }
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
