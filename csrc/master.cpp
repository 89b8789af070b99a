#include "master.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core_answer.h"
#include "core_rows.h"
#include "newton_matrix.h"
#include "row_system.h"

namespace mixsolve {
namespace {

constexpr double kToBoundary = 0.99;  // of the way a step goes at most
constexpr int kPatience = 10;         // iterations without a better gap

class InteriorPoint {
  public:
    InteriorPoint(const CoreRows& core, TaskRunner& tasks)
        : core_(core), n_(core.n_classifiers), tasks_(tasks), rows_(core, tasks), newton_(n_) {
        for (Doubles* array : {&w_, &z_, &dw_, &dz_, &predicted_, &mean_row_, &pull_, &per_mu_, &second_, &rhs_,
                               &diagonal_, &best_weights_}) {
            array->assign(static_cast<size_t>(core.stride), 0.0);
        }
        best_duals_.assign(static_cast<size_t>(core.n_rows), 0.0);
    }

    // Until the gap of the best points is at most `gap`.
    CoreStatus run(double gap, int iteration_limit, const double* start) {
        begin(start);
        int waited = 0;
        for (;; ++iterations_) {
            const double before = best_value_ - best_lower_;
            assess();
            if (tasks_.stopped()) return CoreStatus::kCancelled;
            const double now = best_value_ - best_lower_;
            if (now <= gap) return CoreStatus::kOptimal;
            waited = now < 0.9 * before ? 0 : waited + 1;
            if (waited >= kPatience || !(mu_ > 0)) return CoreStatus::kStalled;
            if (iterations_ == iteration_limit) return CoreStatus::kIterationLimit;
            if (!step()) return tasks_.stopped() ? CoreStatus::kCancelled : CoreStatus::kStalled;
        }
    }

    const Doubles& weights() const { return best_weights_; }
    const Doubles& duals() const { return best_duals_; }
    int iterations() const { return iterations_; }

  private:
    void begin(const double* start) {
        const double uniform = 1.0 / static_cast<double>(n_);
        for (int64_t k = 0; k < n_; ++k) w_[k] = start ? 0.9 * start[k] + 0.1 * uniform : uniform;
        mu_ = 1.0 / static_cast<double>(core_.n_rows + n_);
        rows_.start(w_.data(), mu_);
        best_weights_ = w_;
        best_duals_ = rows_.duals();
        first_ = true;
    }

    // Looks at the point reached; keeps the best mixture and the best duals so far.
    void assess() {
        const Assessment found =
            rows_.assess(w_.data(), primal_step_, dual_step_, mean_row_.data(), pull_.data(), newton_.matrix());
        if (tasks_.stopped()) return;
        double least = 1e300;
        value_ = found.worst;
        for (int64_t k = 0; k < n_; ++k) {
            mean_row_[k] += core_.linear[k];
            value_ += core_.linear[k] * w_[k];
            least = std::min(least, mean_row_[k]);
        }
        lower_ = least;
        if (first_) {
            lambda_ = least - mu_ * static_cast<double>(n_);
            for (int64_t k = 0; k < n_; ++k) z_[k] = mean_row_[k] - lambda_;
            first_ = false;
        }
        products_ = found.products;
        for (int64_t k = 0; k < n_; ++k) products_ += w_[k] * z_[k];
        mu_ = products_ / static_cast<double>(core_.n_rows + n_);
        if (value_ < best_value_) {
            best_value_ = value_;
            best_weights_ = w_;
        }
        if (lower_ > best_lower_) {
            best_lower_ = lower_;
            best_duals_ = rows_.duals();
        }
    }

    // Mehrotra's predictor and corrector, then the move of w and z; the rows move in the next assessment.
    bool step() {
        total_ = 0;
        for (int64_t k = 0; k < n_; ++k) {
            diagonal_[k] = z_[k] / w_[k];
            total_ += w_[k];
        }
        newton_.factor(diagonal_.data());
        for (int64_t k = 0; k < n_; ++k) {
            rhs_[k] = -z_[k] - pull_[k] - (mean_row_[k] - lambda_ - z_[k]);
        }
        newton_.solve(rhs_.data(), 1 - total_, predicted_.data());
        StepSums sums = rows_.predict(predicted_.data(), per_mu_.data(), second_.data());
        if (tasks_.stopped()) return false;
        for (int64_t k = 0; k < n_; ++k) dz_[k] = -z_[k] - diagonal_[k] * predicted_[k];
        include(predicted_.data(), dz_.data(), sums);
        const double primal = std::min(1.0, sums.primal), dual = std::min(1.0, sums.dual);
        const double aimed = products_ + primal * sums.dr_y + dual * sums.r_dy + primal * dual * sums.dr_dy;
        const double ratio = std::max(aimed / products_, 0.0);
        sigma_ = std::max(ratio * ratio * ratio, 1e-6);
        const double target = sigma_ * mu_, correction = 1;
        for (int64_t k = 0; k < n_; ++k) {
            const double second = predicted_[k] * dz_[k];
            rhs_[k] = (target - correction * second) / w_[k] - z_[k] - pull_[k] - target * per_mu_[k] -
                      correction * second_[k] - (mean_row_[k] - lambda_ - z_[k]);
            dz_[k] = (target - correction * second) / w_[k] - z_[k];
        }
        const double dlambda = newton_.solve(rhs_.data(), 1 - total_, dw_.data());
        sums = rows_.correct(dw_.data(), target, correction);
        if (tasks_.stopped()) return false;
        for (int64_t k = 0; k < n_; ++k) dz_[k] -= diagonal_[k] * dw_[k];
        include(dw_.data(), dz_.data(), sums);
        primal_step_ = std::min(1.0, kToBoundary * sums.primal);
        dual_step_ = std::min(1.0, kToBoundary * sums.dual);
        for (int64_t k = 0; k < n_; ++k) {
            w_[k] += primal_step_ * dw_[k];
            z_[k] += dual_step_ * dz_[k];
        }
        lambda_ += dual_step_ * dlambda;
        return std::isfinite(dlambda) && std::isfinite(sums.dr_dy);
    }

    void include(const double* dw, const double* dz, StepSums& sums) const {
        for (int64_t k = 0; k < n_; ++k) {
            if (dw[k] < 0) sums.primal = std::min(sums.primal, -w_[k] / dw[k]);
            if (dz[k] < 0) sums.dual = std::min(sums.dual, -z_[k] / dz[k]);
            sums.r_dy += w_[k] * dz[k];
            sums.dr_y += dw[k] * z_[k];
            sums.dr_dy += dw[k] * dz[k];
        }
    }

    const CoreRows& core_;
    int64_t n_;
    TaskRunner& tasks_;
    RowSystem rows_;
    NewtonMatrix newton_;
    Doubles w_, z_, dw_, dz_, predicted_, mean_row_, pull_, per_mu_, second_, rhs_, diagonal_, best_weights_;
    Doubles best_duals_;
    double lambda_ = 0, mu_ = 0, products_ = 0, total_ = 1, sigma_ = 0;
    double primal_step_ = 0, dual_step_ = 0;
    double value_ = 0, lower_ = 0, best_value_ = 1e300, best_lower_ = -1e300;
    int iterations_ = 0;
    bool first_ = true;
};

}  // namespace

void solve_core(const CoreProblem& problem, CoreAnswer& answer) {
    const IeeeArithmetic mode;
    const CoreRows core(problem);
    TaskRunner tasks(problem.threads, problem.interrupted);
    const Proof proof(problem, core);
    if (core.n_rows == 0) {
        proof.without_choice(answer);
        return;
    }
    InteriorPoint method(core, tasks);
    answer.status = method.run(problem.gap / core.unit, problem.iteration_limit, problem.start);
    answer.iterations = method.iterations();
    proof.write(method.weights().data(), method.duals().data(), answer);
}

}  // namespace mixsolve
