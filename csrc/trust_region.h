// The step of Newton's method on the simplex: a convex quadratic within a box.
#pragma once

#include <cstdint>

namespace mixsolve {

// Minimises <slope, d> + d' hessian d / 2 over mixtures weights + d with |d_k| <= radius, and writes the mixture, which
// sums to 1 but for rounding.
//
// slope, weights, out: (n); hessian: (n, n), symmetric, positive semidefinite but for rounding; radius > 0. What is
// missed is at most 1e-7 of the decrease, or what rounding the weights changes. Returns the number of interior-point
// iterations. No other threads, equal input gives equal bits.
int minimise_model(int64_t n, const double* weights, const double* slope, const double* hessian, double radius,
                   double* out);

}  // namespace mixsolve
