#include "newton_matrix.h"

#include <algorithm>
#include <cmath>

namespace mixsolve {
namespace {

constexpr double kRegularisation = 1e-14;  // of the matrix scaled to a diagonal of ones
constexpr double kTinyPivot = 1e-16;       // of the same
constexpr double kOnesError = 1e-12;       // of the solution for a right-hand side of ones, in the same scale
constexpr int kMostRounds = 30;            // of conjugate gradients

}  // namespace

NewtonMatrix::NewtonMatrix(int64_t n, std::function<void(const double*, double*)> multiply)
    : n_(n), stride_(padded(n)), multiply_rows_(std::move(multiply)), dense_(dense_kernel()) {
    const auto square = static_cast<size_t>(stride_ * stride_), line = static_cast<size_t>(stride_);
    matrix_.assign(square, 0.0);
    factor_.assign(square, 0.0);
    scratch_.assign(static_cast<size_t>(panels_size(n)), 0.0);
    for (Doubles* array :
         {&scale_, &ones_, &ones_solution_, &residual_, &move_, &direction_, &image_, &diagonal_, &loose_})
        array->assign(line, 0.0);
    std::fill_n(ones_.begin(), n, 1.0);
}

void NewtonMatrix::factor(const double* diagonal) {
    double least = 1e300;
    for (int64_t k = 0; k < n_; ++k) {
        double& own = matrix_[k * stride_ + k];
        own += diagonal_[k] = diagonal[k];
        least = std::min(least, own);
    }
    // 1'dw is given: a multiple of 11' changes nothing but the condition of K
    shift_ = least;
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
    for (int64_t k = 0; k < n_; ++k) loose_[k] = kOnesError / scale_[k];
    refined(ones_.data(), loose_.data(), ones_solution_.data());
    ones_total_ = 0;
    for (int64_t k = 0; k < n_; ++k) ones_total_ += ones_solution_[k];
}

double NewtonMatrix::solve(const double* rhs, double residual, const double* tolerance, double* dw) {
    refined(rhs, tolerance, dw);
    double total = 0;
    for (int64_t k = 0; k < n_; ++k) total += dw[k];
    const double multiplier = (residual - total) / ones_total_;
    for (int64_t k = 0; k < n_; ++k) dw[k] += multiplier * ones_solution_[k];
    return multiplier;
}

void NewtonMatrix::refined(const double* rhs, const double* tolerance, double* x) {
    solve_once(rhs, x);
    multiply_matrix(x, residual_.data());
    for (int64_t k = 0; k < n_; ++k) residual_[k] = rhs[k] - residual_[k];
    if (error(tolerance) > 1) improve(rhs, tolerance, x);
}

// Conjugate gradients with the factor as preconditioner. Near-duplicate classifiers have directions that H, summed up
// in float64 and regularised, knows nothing of, while the rows do.
void NewtonMatrix::improve(const double* rhs, const double* tolerance, double* x) {
    multiply(x, residual_.data());
    for (int64_t k = 0; k < n_; ++k) residual_[k] = rhs[k] - residual_[k];
    double before = 0;
    for (int round = 0; round < kMostRounds && error(tolerance) > 1; ++round) {
        solve_once(residual_.data(), move_.data());
        double product = 0, curvature = 0;
        for (int64_t k = 0; k < n_; ++k) product += residual_[k] * move_[k];
        const double turn = round ? product / before : 0;
        for (int64_t k = 0; k < n_; ++k) direction_[k] = move_[k] + turn * direction_[k];
        multiply(direction_.data(), image_.data());
        for (int64_t k = 0; k < n_; ++k) curvature += direction_[k] * image_[k];
        if (!(product > 0 && curvature > 0)) return;
        const double length = product / curvature;
        for (int64_t k = 0; k < n_; ++k) {
            x[k] += length * direction_[k];
            residual_[k] -= length * image_[k];
        }
        before = product;
    }
}

double NewtonMatrix::error(const double* tolerance) const {
    double worst = 0;
    for (int64_t k = 0; k < n_; ++k) worst = std::max(worst, std::fabs(residual_[k]) / tolerance[k]);
    return worst;
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

void NewtonMatrix::multiply_matrix(const double* x, double* out) const {
    std::fill_n(out, n_, 0.0);
    for (int64_t k = 0; k < n_; ++k) {
        const double* row = &matrix_[k * stride_];
        double own;
        dense_.dots(row, 1, k / kRowAlign * kRowAlign, x, &own);
        for (int64_t l = k / kRowAlign * kRowAlign; l <= k; ++l) own += row[l] * x[l];
        dense_.add_scaled(out, x[k], row, k);
        out[k] += own;
    }
}

void NewtonMatrix::multiply(const double* x, double* out) {
    multiply_rows_(x, out);
    double total = 0;
    for (int64_t k = 0; k < n_; ++k) total += x[k];
    for (int64_t k = 0; k < n_; ++k) out[k] += diagonal_[k] * x[k] + shift_ * total;
}

}  // namespace mixsolve
