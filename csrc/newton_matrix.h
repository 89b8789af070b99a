// The Newton system of the weights,  [K -1; 1' 0] [dw; dlambda] = [rhs; residual],  K positive semidefinite.
#pragma once

#include <cstdint>
#include <functional>

#include "aligned.h"
#include "dense.h"

namespace mixsolve {

class NewtonMatrix {
  public:
    // `multiply(x, out)`: out = H x, better than the matrix can.
    NewtonMatrix(int64_t n, std::function<void(const double*, double*)> multiply);

    // (stride, stride) to be filled with H, on and below the diagonal.
    Doubles& matrix() { return matrix_; }

    // Takes K = H + diag(diagonal).
    void factor(const double* diagonal);

    // dw with 1'dw = residual; returns dlambda. The equations of rhs may err by tolerance[k].
    double solve(const double* rhs, double residual, const double* tolerance, double* dw);

  private:
    void refined(const double* rhs, const double* tolerance, double* x);
    void improve(const double* rhs, const double* tolerance, double* x);
    void solve_once(const double* rhs, double* x);
    void multiply_matrix(const double* x, double* out) const;
    void multiply(const double* x, double* out);
    double error(const double* tolerance) const;

    int64_t n_, stride_;
    std::function<void(const double*, double*)> multiply_rows_;
    const DenseKernel& dense_;
    Doubles matrix_, factor_, scratch_;
    Doubles scale_, ones_, ones_solution_, residual_, move_, direction_, image_, diagonal_, loose_;  // (stride)
    double ones_total_ = 0;
    double shift_ = 0;  // the multiple of 11' in K
};

}  // namespace mixsolve
