#include "newton_matrix.h"

#include <algorithm>
#include <cmath>

namespace mixsolve {
namespace {

constexpr double kRegularisation = 1e-14;  // of the matrix scaled to a diagonal of ones
constexpr double kTinyPivot = 1e-16;
constexpr int kRefinements = 2;

}  // namespace

NewtonMatrix::NewtonMatrix(int64_t n) : n_(n), stride_(padded(n)), dense_(dense_kernel()) {
    const auto square = static_cast<size_t>(stride_ * stride_), line = static_cast<size_t>(stride_);
    matrix_.assign(square, 0.0);
    factor_.assign(square, 0.0);
    scratch_.assign(static_cast<size_t>(panels_size(n)), 0.0);
    for (Doubles* array : {&scale_, &ones_, &ones_solution_, &residual_, &move_}) array->assign(line, 0.0);
    std::fill_n(ones_.begin(), n, 1.0);
}

void NewtonMatrix::factor(const double* diagonal) {
    double least = 1e300;
    for (int64_t k = 0; k < n_; ++k) {
        double& own = matrix_[k * stride_ + k];
        own += diagonal[k];
        least = std::min(least, own);
    }
    // 1'dw is given: a multiple of 11' changes nothing but the condition of K
    for (int64_t k = 0; k < n_; ++k) {
        for (int64_t l = 0; l <= k; ++l) matrix_[k * stride_ + l] += least;
    }
    for (int64_t k = 0; k < n_; ++k) scale_[k] = 1 / std::sqrt(matrix_[k * stride_ + k]);
    for (int64_t k = 0; k < n_; ++k) {
        for (int64_t l = 0; l < k; ++l) {
            factor_[k * stride_ + l] = matrix_[k * stride_ + l] * scale_[k] * scale_[l];
        }
        factor_[k * stride_ + k] = 1 + kRegularisation;
    }
    dense_.cholesky(factor_.data(), n_, stride_, kTinyPivot, scratch_.data());
    refined(ones_.data(), ones_solution_.data());
    ones_total_ = 0;
    for (int64_t k = 0; k < n_; ++k) ones_total_ += ones_solution_[k];
}

double NewtonMatrix::solve(const double* rhs, double residual, double* dw) {
    refined(rhs, dw);
    double total = 0;
    for (int64_t k = 0; k < n_; ++k) total += dw[k];
    const double multiplier = (residual - total) / ones_total_;
    for (int64_t k = 0; k < n_; ++k) dw[k] += multiplier * ones_solution_[k];
    return multiplier;
}

void NewtonMatrix::refined(const double* rhs, double* x) {
    solve_once(rhs, x);
    double before = 1e300;
    for (int round = 0; round < kRefinements; ++round) {
        multiply(x, residual_.data());
        double size = 0;
        for (int64_t k = 0; k < n_; ++k) {
            residual_[k] = rhs[k] - residual_[k];
            size = std::max(size, std::fabs(residual_[k]) * scale_[k]);
        }
        if (!(size < 0.5 * before)) return;
        before = size;
        solve_once(residual_.data(), move_.data());
        for (int64_t k = 0; k < n_; ++k) x[k] += move_[k];
    }
}

void NewtonMatrix::solve_once(const double* rhs, double* x) {
    for (int64_t k = 0; k < n_; ++k) {
        double sum = rhs[k] * scale_[k];
        const double* row = &factor_[k * stride_];
        for (int64_t l = 0; l < k; ++l) sum -= row[l] * x[l];
        x[k] = sum / row[k];
    }
    for (int64_t k = n_ - 1; k >= 0; --k) {
        x[k] /= factor_[k * stride_ + k];
        dense_.add_scaled(x, -x[k], &factor_[k * stride_], k);
    }
    for (int64_t k = 0; k < n_; ++k) x[k] *= scale_[k];
}

void NewtonMatrix::multiply(const double* x, double* out) const {
    std::fill_n(out, n_, 0.0);
    for (int64_t k = 0; k < n_; ++k) {
        const double* row = &matrix_[k * stride_];
        double sum = row[k] * x[k];
        for (int64_t l = 0; l < k; ++l) sum += row[l] * x[l];
        dense_.add_scaled(out, x[k], row, k);
        out[k] += sum;
    }
}

}  // namespace mixsolve
