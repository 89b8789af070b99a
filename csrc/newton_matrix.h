// The Newton system of the weights,  [K -1; 1' 0] [dw; dlambda] = [rhs; residual],  K positive semidefinite.
#pragma once

#include <cstdint>

#include "aligned.h"
#include "dense.h"

namespace mixsolve {

class NewtonMatrix {
  public:
    explicit NewtonMatrix(int64_t n);

    // (stride, stride) to be filled with H, on and below the diagonal.
    Doubles& matrix() { return matrix_; }

    // Takes K = H + diag(diagonal).
    void factor(const double* diagonal);

    // dw with 1'dw = residual; returns dlambda.
    double solve(const double* rhs, double residual, double* dw);

  private:
    void solve_once(const double* rhs, double* x);
    void refined(const double* rhs, double* x);
    void multiply(const double* x, double* out) const;

    int64_t n_, stride_;
    const DenseKernel& dense_;
    Doubles matrix_, factor_, scratch_;
    Doubles scale_, ones_, ones_solution_, residual_, move_;  // (stride)
    double ones_total_ = 0;
};

}  // namespace mixsolve
