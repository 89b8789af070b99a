// Scores, the attacker's response and its product with the weights. Compiled once per instruction set; see simd.h.
#include <cmath>

#include "loss_gradient.h"
#include "narrow.h"
#include "rows.h"
#include "vector_math.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class Score, class Stored>
struct LossGradient {
    static constexpr int kWidth = kLanes<Score>;
    static constexpr int64_t kRowsAtOnce = 4096;  // they stay in the core's caches
    static constexpr double kSmallestMass = sizeof(Score) == 4 ? 1e-18 : 1e-200;

    const LossTable& table;
    const LossGradientRequest& request;
    const SampleRange& range;

    static bool run(const LossTable& table, const LossGradientRequest& request, const SampleRange& range) {
        const LossGradient here{table, request, range};
        if (!here.score()) return false;
        for (int64_t sample = range.first; sample < range.last; ++sample) here.respond(sample);
        here.write();
        return true;
    }

    Score* scores() const { return static_cast<Score*>(range.scores); }
    Score* chance() const { return static_cast<Score*>(range.chance); }
    const Score* weights() const { return static_cast<const Score*>(range.weights); }
    double temperature(int64_t sample) const {
        return request.temperature[request.temperature_per_sample ? sample : 0];
    }

    bool score() const {
        bool finite = true;
        const char* data = table.sample_data(range.first);
        for (int64_t row = 0; row < range.n_rows; row += kRowsAtOnce) {
            const int64_t left = range.n_rows - row;
            const Rows<Score, Stored> rows{data + row * static_cast<int64_t>(sizeof(Stored)),
                                           table.stride_classifier,
                                           static_cast<int>(left < kRowsAtOnce ? left : kRowsAtOnce),
                                           table.n_classifiers,
                                           0,
                                           0,
                                           false};
            const Score* weight[] = {weights()};
            Score* out[] = {scores() + row};
            finite &= rows.template scores<1>(weight, out);
        }
        return finite;
    }

    // chance[row] = scale s_i p_ij of one sample. What is stored past its end belongs to the next one.
    void respond(int64_t sample) const {
        const int64_t begin = table.first_row(sample) - table.first_row(range.first), n = table.rows(sample);
        const double share = table.weight(sample) * request.scale, t = temperature(sample);
        const Score* z = scores() + begin;
        Score* p = chance() + begin;
        const Score max = largest(z, n);
        if (t == 0) {
            int64_t best = 0;
            while (z[best] != max) ++best;
            for (int64_t j = 0; j < n; ++j) p[j] = 0;
            p[best] = static_cast<Score>(share);
            return;
        }
        double mass = soften(sample, z, n, max, static_cast<Score>(kLog2E / t), p);
        if (table.prior && mass < kSmallestMass) mass = rescue(sample, z, n, t, p);
        const Vec<Score> factor = splat(static_cast<Score>(share / mass));
        for (int64_t j = 0; j < n; j += kWidth) store(p + j, load(p + j) * factor);
    }

    static Score largest(const Score* z, int64_t n) {
        Score max = z[0];
        int64_t j = 0;
        if (n >= kWidth) {
            Vec<Score> highest = load(z);
            for (j = kWidth; j + kWidth <= n; j += kWidth) highest = vmax(highest, load(z + j));
            max = lane_max(highest);
        }
        for (; j < n; ++j) max = z[j] > max ? z[j] : max;
        return max;
    }

    double soften(int64_t sample, const Score* z, int64_t n, Score max, Score per_unit, Score* p) const {
        const Vec<Score> scale = splat(per_unit), smallest = splat(smallest_argument(per_unit)), shift = splat(max);
        const int64_t first = table.first_row(sample);
        double mass = 0;
        for (int64_t begin = 0; begin < n; begin += kRunVectors * kWidth) {
            const int64_t end = n - begin < kRunVectors * kWidth ? n : begin + kRunVectors * kWidth;
            Vec<Score> sum = splat(Score(0));
            for (int64_t j = begin; j < end; j += kWidth) {
                Vec<Score> e = exp2_scaled<Score>(load(z + j) - shift, scale, smallest);
                if (table.prior) e *= prior(first + j, end - j);
                if (end - j < kWidth) e = keep_first<Score>(e, end - j);
                store(p + j, e);
                sum += e;
            }
            mass += static_cast<double>(lane_sum(sum));
        }
        return mass;
    }
    Vec<Score> prior(int64_t row, int64_t count) const {
        Vec<Score> u = splat(Score(0));
        for (int lane = 0; lane < kWidth && lane < count; ++lane) u[lane] = static_cast<Score>(exact_prior(row + lane));
        return u;
    }
    double exact_prior(int64_t row) const {
        return table.prior_is_double ? static_cast<const double*>(table.prior)[row]
                                     : static_cast<double>(static_cast<const float*>(table.prior)[row]);
    }
    // The best attack has a prior so small that the others, far below, may matter: as in segments.h.
    double rescue(int64_t sample, const Score* z, int64_t n, double t, Score* p) const {
        const int64_t first = table.first_row(sample);
        double max = -INFINITY, mass = 0;
        for (int64_t j = 0; j < n; ++j) {
            const double x = static_cast<double>(z[j]) / t + ::log(exact_prior(first + j));
            max = x > max ? x : max;
        }
        for (int64_t j = 0; j < n; ++j) {
            const double e = ::exp(static_cast<double>(z[j]) / t + ::log(exact_prior(first + j)) - max);
            p[j] = static_cast<Score>(e);
            mass += e;
        }
        return mass;
    }

    void write() const {
        for (int64_t k = 0; k < table.n_classifiers; ++k) {
            auto* to = reinterpret_cast<Stored*>(range.gradient + k * range.plane_stride);
            const Score weight = weights()[k];
            int64_t row = 0;
            for (; row + kWidth <= range.n_rows; row += kWidth) {
                store_narrowed<Score, Stored>(to + row, load(chance() + row) * weight);
            }
            for (; row < range.n_rows; ++row) narrow_to(to[row], chance()[row] * weight);
        }
    }
};

LossGradientKernel loss_gradient_kernel(Storage storage, bool float64_scores) {
    switch (storage) {
        case Storage::kFloat64:
            return LossGradient<double, double>::run;
        case Storage::kFloat32:
            return float64_scores ? LossGradient<double, float>::run : LossGradient<float, float>::run;
        case Storage::kFloat16:
            return float64_scores ? LossGradient<double, Float16>::run : LossGradient<float, Float16>::run;
        case Storage::kBFloat16:
            return float64_scores ? LossGradient<double, BFloat16>::run : LossGradient<float, BFloat16>::run;
        default:
            break;  // bytes and sets have no derivative
    }
    return nullptr;
}

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
