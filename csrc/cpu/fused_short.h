// Samples of 1, 2, 4, ... attacks, up to a whole vector, and few classifiers: a vector holds several samples, and what
// is summed or compared within a sample goes through a butterfly that leaves the result in all of its lanes.
#pragma once

#include "rows.h"
#include "segments.h"

namespace mixsolve {
namespace MIXSOLVE_ISA {

template <class Score, class Stored, int Planes>
struct FusedShort {
    static constexpr int kWidth = kLanes<Score>;
    static constexpr int kAhead = 4096;  // bytes of each plane
    using Index = typename IntegerOf<Score>::type;

    const Rows<Score, Stored>& rows;
    const Segments<Score>& query;
    const Score* weights;
    int n_attacks;
    bool fetches;  // or an earlier query did

    // One vector of rows and the samples in it.
    struct Place {
        const char* from;
        int row, sample, filled;  // rows, less than a vector at the end of the block

        MIXSOLVE_INLINE Place after(int vectors, int samples_each) const {
            return {from + vectors * kWidth * static_cast<int>(sizeof(Stored)), row + vectors * kWidth,
                    sample + vectors * samples_each, filled};
        }
    };
    // Vectors worked on together: what is done to one alone is a chain of which each step waits for the one before.
    template <int N>
    struct Together {
        static constexpr int kVectors = N;
    };

    // Calls use(place, Together<n>) for the vectors of the samples [first, last), and flush() every few of them and at
    // the end.
    template <class Use, class Flush>
    MIXSOLVE_INLINE void each_vector(int first, int last, Use use, Flush flush) const {
        constexpr int kMost = kRegisters / 8;
        static_assert(kRunVectors % kMost == 0, "a run ends with a group of vectors");
        const int end = last * n_attacks, samples_each = kWidth / n_attacks;
        int since_flush = 0;
        Place place{rows.data + static_cast<int64_t>(first) * n_attacks * static_cast<int64_t>(sizeof(Stored)),
                    first * n_attacks, first, kWidth};
        while (place.row < end) {
            const int left = end - place.row;
            int done = 1;
            if (left >= kMost * kWidth) {
                done = kMost;
                use(place, Together<kMost>());
            } else {
                if (left < kWidth) place.filled = left;
                use(place, Together<1>());
            }
            place = place.after(done, samples_each);
            since_flush += done;
            if (since_flush == kRunVectors) {
                flush();
                since_flush = 0;
            }
        }
        if (since_flush > 0) flush();
    }

    // The losses of a vector of rows; 0 beyond the last row.
    MIXSOLVE_INLINE LossesOf<Score, Stored> at(const Place& place, int plane) const {
        const Stored* here = reinterpret_cast<const Stored*>(place.from + plane * rows.plane_stride);
        return place.filled == kWidth ? losses_at<Score>(here, plane)
                                      : first_losses_at<Score>(here, place.filled, plane);
    }
    MIXSOLVE_INLINE Vec<Score> score(const Place& place, const Vec<Score> (&weight)[Planes]) const {
        Vec<Score> z = splat(Score(0));
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) {
            if (fetches) __builtin_prefetch(place.from + p * rows.plane_stride + kAhead, 0, 2);
            z = p == 0 ? at(place, 0) * weight[0] : fma(at(place, p), weight[p], z);
        }
        return z;
    }
    MIXSOLVE_INLINE void broadcast(Vec<Score> (&weight)[Planes]) const {
        MIXSOLVE_UNROLL
        for (int p = 0; p < Planes; ++p) weight[p] = splat(weights[p]);
    }
    template <class Combine>
    MIXSOLVE_INLINE Vec<Score> over_samples(Vec<Score> x, Combine combine) const {
        if (n_attacks > 1) x = combine(x, flipped<1>(x));
        if (n_attacks > 2) x = combine(x, flipped<2>(x));
        if (n_attacks > 4) x = combine(x, flipped<4>(x));
        if constexpr (kWidth > 8) {
            if (n_attacks > 8) x = combine(x, flipped<8>(x));
        }
        return x;
    }
    // Lane i of the result is lane i ^ Bit of x.
    template <int Bit>
    static MIXSOLVE_INLINE Vec<Score> flipped(Vec<Score> x) {
        Mask<Score> places;
        for (int lane = 0; lane < kWidth; ++lane) places[lane] = (lane ^ Bit) % kWidth;
        return __builtin_shuffle(x, places);
    }
    // Where the numbers of samples belong among the lanes, and from which lane a sample's number is taken.
    struct Lanes {
        Mask<Score> sample_of, first_of;
    };
    MIXSOLVE_INLINE Lanes lanes() const {
        Lanes found;
        for (int lane = 0; lane < kWidth; ++lane) {
            found.sample_of[lane] = static_cast<Index>(lane / n_attacks);
            found.first_of[lane] = static_cast<Index>(lane * n_attacks % kWidth);
        }
        return found;
    }
    // Numbers of samples, one each, to the lanes of their rows; and back.
    MIXSOLVE_INLINE Vec<Score> spread(const Score* numbers, const Mask<Score>& sample_of) const {
        return __builtin_shuffle(load(numbers), sample_of);
    }
    MIXSOLVE_INLINE void gather(Vec<Score> x, const Lanes& map, Score* numbers) const {
        const Vec<Score> firsts = __builtin_shuffle(x, map.first_of);
        constexpr int kFew = 16;  // bytes: the less is written beyond them, the less is written twice
        if (kWidth / n_attacks * static_cast<int>(sizeof(Score)) <= kFew) {
            __builtin_memcpy(numbers, &firsts, kFew);
        } else {
            store(numbers, firsts);
        }
    }

    MIXSOLVE_NOINLINE void soften(int first, int last, double* gradient) const {
        const Lanes map = lanes();
        const int samples_each = kWidth / n_attacks;
        const bool one_temperature = !query.work.request->temperature_per_sample;
        const Score* const temperatures = query.temperatures(first, last);
        const Score* const sample_weights = query.weights();
        const Vec<Score> all = splat(static_cast<Score>(n_attacks)), each = Score(1) / all;  // exact: a power of two
        const auto sum = [](Vec<Score> a, Vec<Score> b) { return a + b; };
        Vec<Score> weight[Planes], moment[Planes];
        Vec<Score> scale = splat(static_cast<Score>(kLog2E / query.temperature(first)));
        broadcast(weight);
        for (int p = 0; p < Planes; ++p) moment[p] = splat(Score(0));
        each_vector(
            first, last,
            [&](const Place& begin, auto together) MIXSOLVE_LAMBDA_INLINE {
                constexpr int kVectors = decltype(together)::kVectors;
                Place place[kVectors];
                Vec<Score> max[kVectors], exponent[kVectors], chance[kVectors], mass[kVectors];
                MIXSOLVE_UNROLL
                for (int v = 0; v < kVectors; ++v) {
                    place[v] = begin.after(v, samples_each);
                    if constexpr (kVectors > 1) place[v].filled = kWidth;
                    exponent[v] = score(place[v], weight);
                }
                MIXSOLVE_UNROLL
                for (int v = 0; v < kVectors; ++v) max[v] = over_samples(exponent[v], vmax_of);
                MIXSOLVE_UNROLL
                for (int v = 0; v < kVectors; ++v) {
                    if (!one_temperature) {
                        scale =
                            splat(static_cast<Score>(kLog2E)) / spread(temperatures + place[v].sample, map.sample_of);
                    }
                    exponent[v] = (exponent[v] - max[v]) * scale;
                    chance[v] = exp2_of(exponent[v]);
                }
                MIXSOLVE_UNROLL
                for (int v = 0; v < kVectors; ++v) mass[v] = over_samples(chance[v], sum);
                MIXSOLVE_UNROLL
                for (int v = 0; v < kVectors; ++v) {
                    gather(max[v], map, query.maximum() + place[v].sample);
                    gather(mass[v], map, query.mass() + place[v].sample);
                    const Vec<Score> share = mass[v] * each;
                    Vec<Score> excess = mass[v] - all;
                    if (any_of<Score>((share > splat(Score(kHighTemperatureShare))) & (share < splat(Score(2))))) {
                        excess = over_samples(exp2_parts<Score>(exponent[v]).expm1(), sum);
                    }
                    gather(excess, map, query.excess() + place[v].sample);
                    chance[v] *= spread(sample_weights + place[v].sample, map.sample_of) / mass[v];
                    if (place[v].filled < kWidth) chance[v] = keep_first<Score>(chance[v], place[v].filled);
                }
                MIXSOLVE_UNROLL
                for (int p = 0; p < Planes; ++p) {
                    MIXSOLVE_UNROLL
                    for (int v = 0; v < kVectors; ++v) moment[p] = fma(chance[v], at(place[v], p), moment[p]);
                }
            },
            [&]() MIXSOLVE_LAMBDA_INLINE { flush(moment, gradient); });
    }
    static MIXSOLVE_INLINE void flush(Vec<Score> (&moment)[Planes], double* gradient) {
        for (int p = 0; p < Planes; ++p) {
            gradient[p] += static_cast<double>(lane_sum(moment[p]));
            moment[p] = splat(Score(0));
        }
    }

    // The largest score of each sample and the first row that has it; the losses of those rows are added to `gradient`
    // unless that is null.
    MIXSOLVE_NOINLINE void best_attacks(int first, int last, double* gradient) const {
        const Lanes map = lanes();
        const Score* const sample_weights = query.weights();
        int32_t* const best = query.work.best;
        const int samples_each = kWidth / n_attacks;
        unsigned first_lanes = 0;
        for (int lane = 0; lane < kWidth; lane += n_attacks) first_lanes |= 1u << lane;
        Vec<Score> weight[Planes], moment[Planes], odd = splat(Score(0));
        broadcast(weight);
        for (int p = 0; p < Planes; ++p) moment[p] = splat(Score(0));
        each_vector(
            first, last,
            [&](const Place& begin, auto together) MIXSOLVE_LAMBDA_INLINE {
                constexpr int kVectors = decltype(together)::kVectors;
                Place place[kVectors];
                Vec<Score> z[kVectors], max[kVectors], chosen[kVectors];
                MIXSOLVE_UNROLL
                for (int v = 0; v < kVectors; ++v) {
                    place[v] = begin.after(v, samples_each);
                    if constexpr (kVectors > 1) place[v].filled = kWidth;
                    z[v] = score(place[v], weight);
                    odd += z[v] - z[v];
                }
                MIXSOLVE_UNROLL
                for (int v = 0; v < kVectors; ++v) max[v] = over_samples(z[v], vmax_of);
                MIXSOLVE_UNROLL
                for (int v = 0; v < kVectors; ++v) {
                    gather(max[v], map, query.maximum() + place[v].sample);
                    // Of the rows that have the maximum, the first of every sample: taking one from each sample's bits
                    // clears its lowest one.
                    const unsigned equal = equal_bits(z[v], max[v]), lowest = equal & ~(equal - first_lanes);
                    unsigned left = lowest;
                    for (int s = place[v].sample; s < place[v].sample + samples_each; ++s, left &= left - 1) {
                        best[s] = place[v].row + (left ? __builtin_ctz(left) : 0);  // 0: a score is NaN
                    }
                    chosen[v] =
                        lanes_of(lowest) ? spread(sample_weights + place[v].sample, map.sample_of) : splat(Score(0));
                }
                if (gradient == nullptr) return;
                MIXSOLVE_UNROLL
                for (int p = 0; p < Planes; ++p) {
                    MIXSOLVE_UNROLL
                    for (int v = 0; v < kVectors; ++v) moment[p] = fma(chosen[v], at(place[v], p), moment[p]);
                }
            },
            [&]() MIXSOLVE_LAMBDA_INLINE {
                if (gradient) flush(moment, gradient);
            });
        if (lane_sum(odd) != 0) query.work.finite = false;
    }
    static MIXSOLVE_INLINE Mask<Score> lanes_of(unsigned bits) {
        Mask<Score> lane_bits;
        for (int lane = 0; lane < kWidth; ++lane) lane_bits[lane] = Index(1) << lane;
        return (lane_bits & static_cast<Index>(bits)) != 0;
    }
    static constexpr auto vmax_of = [](Vec<Score> a, Vec<Score> b) { return vmax(a, b); };
};

}  // namespace MIXSOLVE_ISA
}  // namespace mixsolve
