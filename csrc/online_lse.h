// The running state of a log-sum-exp over some attacks of one sample, and its associative merge.
//
// With scores z_j, prior weights u_j and M the largest score seen:
//     mass   = sum_j u_j exp((z_j - M) / t)
//     excess = sum_j u_j expm1((z_j - M) / t)     ( = mass - total, without the cancellation at high temperature)
//     total  = sum_j u_j
// The smoothed maximum is M + t log(mass / total).  When t is large against the spread of the scores, mass / total
// is close to 1 and its logarithm is taken from `excess` by log1p; otherwise from `mass`.
#pragma once

#include <cmath>

#include "host_device.h"

namespace mixsolve {

template <class Real>
struct OnlineLse {
    Real max;
    Real mass;
    Real excess;
    Real total;
};

// Factors that bring the moments of the two states, sum_j u_j exp((z_j - M) / t) row_j, to the merged maximum.
template <class Real>
struct MergeFactors {
    Real first;
    Real second;
};

template <class Real>
MIXSOLVE_HOST_DEVICE inline MergeFactors<Real> merge(OnlineLse<Real>& state, const OnlineLse<Real>& other,
                                                     Real inverse_temperature) {
    const Real max = state.max > other.max ? state.max : other.max;
    const Real first = (state.max - max) * inverse_temperature, second = (other.max - max) * inverse_temperature;
    const Real shift_first = std::expm1(first), shift_second = std::expm1(second);
    const MergeFactors<Real> factors{std::exp(first), std::exp(second)};
    state.mass = state.mass * factors.first + other.mass * factors.second;
    // exp(a + b) - 1 = expm1(a) (1 + expm1(b)) + expm1(b)
    state.excess = state.excess * factors.first + state.total * shift_first + other.excess * factors.second +
                   other.total * shift_second;
    state.total += other.total;
    state.max = max;
    return factors;
}

// Above this share of mass in total, log(mass / total) is taken from `excess`.
constexpr double kHighTemperatureShare = 0.5;

template <class Real>
MIXSOLVE_HOST_DEVICE inline Real smoothed_maximum(const OnlineLse<Real>& state, Real temperature) {
    const bool high = state.mass > static_cast<Real>(kHighTemperatureShare) * state.total;
    return state.max +
           temperature * (high ? std::log1p(state.excess / state.total) : std::log(state.mass / state.total));
}

}  // namespace mixsolve
