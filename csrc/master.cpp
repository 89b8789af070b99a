#include "master.h"

#include <algorithm>
#include <cmath>

#include "core_answer.h"
#include "core_rows.h"
#include "newton_matrix.h"
#include "row_system.h"

namespace mixsolve {
namespace {

constexpr double kToBoundary = 0.995;                // of the way to the boundary, a step goes at most
constexpr double kLeastCentring = 1e-6;              // of mu: what the corrector aims at, at least
constexpr double kHold = 0.1;                        // mu stays above this part of what infeasibility adds to the gap
constexpr double kSolveError = 0.1;                  // of mu: what an equation of a Newton step may lack
constexpr double kStartMu = 0.2;                     // times the number of products, in units of the objective
constexpr double kShortStep = 0.5;                   // correctors are tried for shorter steps than that
constexpr double kLonger = 0.2, kWorthwhile = 0.02;  // what they try to gain, and what they must
constexpr int kMostCorrectors = 3;
constexpr int kPatience = 10;  // iterations without a better gap

class InteriorPoint {
  public:
    InteriorPoint(const CoreRows& core, TaskRunner& tasks)
        : core_(core),
          n_(core.n_classifiers),
          n_products_(core.all_rows + static_cast<double>(n_)),
          tasks_(tasks),
          rows_(core, tasks),
          newton_(n_, [this](const double* x, double* out) { rows_.multiply(x, out); }) {
        for (Doubles* array : {&w_, &z_, &dw_, &dz_, &mean_row_, &pull_, &per_mu_, &second_, &rhs_, &diagonal_,
                               &tolerance_, &aim_, &other_dw_, &other_dz_, &best_weights_}) {
            array->assign(static_cast<size_t>(core.stride), 0.0);
        }
    }

    // Until the gap of the best points is at most `gap`.
    CoreStatus run(double gap, int iteration_limit) {
        begin();
        for (int waited = 0;; ++iterations_) {
            const double before = best_value_ - best_lower_;
            assess();
            if (tasks_.stopped()) return CoreStatus::kCancelled;
            const double now = best_value_ - best_lower_;
            if (now <= gap) return CoreStatus::kOptimal;
            waited = now < 0.9 * before ? 0 : waited + 1;
            if (waited >= kPatience || !(mu_ > 0)) return CoreStatus::kStalled;
            if (iterations_ == iteration_limit) return CoreStatus::kIterationLimit;
            const double target = predict();
            if (tasks_.stopped()) return CoreStatus::kCancelled;
            const bool moved = correct(target);
            if (tasks_.stopped()) return CoreStatus::kCancelled;
            if (!moved) return CoreStatus::kStalled;
        }
    }

    const Doubles& weights() const { return best_weights_; }
    const Doubles& duals() const { return best_duals_; }
    int iterations() const { return iterations_; }

  private:
    struct Step {
        double primal, dual;  // lengths
        double dlambda;
        bool finite;
    };

    // A point of which every sample is on the central path, and the weights not far from it.
    void begin() {
        std::fill_n(w_.begin(), n_, 1.0 / static_cast<double>(n_));
        mu_ = kStartMu / n_products_;
        rows_.start(w_.data(), mu_);
        best_weights_ = w_;
        best_duals_ = rows_.duals();
    }

    // Looks at the point reached; keeps the best mixture and the best duals so far.
    void assess() {
        const Assessment found =
            rows_.assess(w_.data(), primal_step_, dual_step_, mean_row_.data(), pull_.data(), newton_.matrix());
        if (tasks_.stopped()) return;
        double least = HUGE_VAL;
        value_ = found.worst;
        for (int64_t k = 0; k < n_; ++k) {
            mean_row_[k] += core_.linear[k];
            value_ += core_.linear[k] * w_[k];
            least = std::min(least, mean_row_[k]);
        }
        lower_ = least;
        if (iterations_ == 0) {
            lambda_ = least - mu_ * static_cast<double>(n_);
            for (int64_t k = 0; k < n_; ++k) z_[k] = mean_row_[k] - lambda_;
        }
        products_ = found.products;
        for (int64_t k = 0; k < n_; ++k) products_ += w_[k] * z_[k];
        mu_ = products_ / n_products_;
        if (value_ < best_value_) {
            best_value_ = value_;
            best_weights_ = w_;
        }
        if (lower_ > best_lower_) {
            best_lower_ = lower_;
            best_duals_ = rows_.duals();
        }
    }

    // The step to products of zero; returns the products that the corrector shall aim at.
    //
    // Where z and the rows disagree, the gap is more than the sum of the products, and the smaller mu, the worse the
    // Newton steps that should end it: near-duplicate classifiers then leave a gap for good, unless mu waits.
    double predict() {
        missing_ = 1;
        for (int64_t k = 0; k < n_; ++k) {
            diagonal_[k] = z_[k] / w_[k];
            tolerance_[k] = kSolveError * mu_ / w_[k];
            missing_ -= w_[k];
        }
        newton_.factor(diagonal_.data());
        for (int64_t k = 0; k < n_; ++k) rhs_[k] = lambda_ - mean_row_[k] - pull_[k];
        newton_.solve(rhs_.data(), missing_, tolerance_.data(), dw_.data());
        StepSums sums = rows_.predict(dw_.data(), per_mu_.data(), second_.data());
        for (int64_t k = 0; k < n_; ++k) dz_[k] = -z_[k] - diagonal_[k] * dw_[k];
        include_weights(sums);
        const double primal = 1 / std::max(1.0, sums.primal), dual = 1 / std::max(1.0, sums.dual);
        const double left = products_ + primal * sums.dr_y + dual * sums.r_dy + primal * dual * sums.dr_dy;
        const double ratio = std::max(left / products_, 0.0);
        const double excess = (value_ - lower_ - products_) / n_products_;
        return std::max(std::max(ratio * ratio * ratio, kLeastCentring) * mu_, std::min(kHold * excess, mu_));
    }

    // The step to products `target` with the predictor's second-order term and, as long as it is short, with further
    // ones that centre. Moves w and z; the rows move when they are assessed next.
    bool correct(double target) {
        for (int64_t k = 0; k < n_; ++k) {
            aim_[k] = target - dw_[k] * dz_[k];
            pull_[k] += target * per_mu_[k] + second_[k];
        }
        Step step = aimed_step(target);
        for (int round = 0; round < kMostCorrectors && std::min(step.primal, step.dual) < kShortStep; ++round) {
            centre(step, target);
            const Step other = aimed_step(target);
            if (!(other.primal + other.dual >= step.primal + step.dual + kWorthwhile)) {
                rows_.reject();
                dw_.swap(other_dw_);
                dz_.swap(other_dz_);
                break;
            }
            step = other;
        }
        if (!step.finite) return false;
        primal_step_ = step.primal;
        dual_step_ = step.dual;
        for (int64_t k = 0; k < n_; ++k) {
            w_[k] += primal_step_ * dw_[k];
            z_[k] += dual_step_ * dz_[k];
        }
        lambda_ += dual_step_ * step.dlambda;
        return true;
    }

    // Corrects the aim where a longer step would leave products far from the target; keeps the step aside.
    void centre(const Step& step, double target) {
        const double primal = std::min(1.0, step.primal + kLonger), dual = std::min(1.0, step.dual + kLonger);
        rows_.centre(primal, dual, target, second_.data());
        for (int64_t k = 0; k < n_; ++k) {
            pull_[k] += second_[k];
            aim_[k] += lacking((w_[k] + primal * dw_[k]) * (z_[k] + dual * dz_[k]), target);
        }
        dw_.swap(other_dw_);
        dz_.swap(other_dz_);
    }

    Step aimed_step(double target) {
        for (int64_t k = 0; k < n_; ++k) rhs_[k] = aim_[k] / w_[k] + lambda_ - mean_row_[k] - pull_[k];
        Step step{};
        step.dlambda = newton_.solve(rhs_.data(), missing_, tolerance_.data(), dw_.data());
        StepSums sums = rows_.correct(dw_.data(), target);
        for (int64_t k = 0; k < n_; ++k) dz_[k] = aim_[k] / w_[k] - z_[k] - diagonal_[k] * dw_[k];
        include_weights(sums);
        step.primal = 1 / std::max(1.0, sums.primal / kToBoundary);
        step.dual = 1 / std::max(1.0, sums.dual / kToBoundary);
        step.finite = std::isfinite(step.dlambda) && std::isfinite(sums.dr_dy);
        return step;
    }

    void include_weights(StepSums& sums) const {
        for (int64_t k = 0; k < n_; ++k) {
            sums.primal = std::max(sums.primal, -dw_[k] / w_[k]);
            sums.dual = std::max(sums.dual, -dz_[k] / z_[k]);
            sums.r_dy += w_[k] * dz_[k];
            sums.dr_y += dw_[k] * z_[k];
            sums.dr_dy += dw_[k] * dz_[k];
        }
    }

    const CoreRows& core_;
    int64_t n_;
    double n_products_;
    TaskRunner& tasks_;
    RowSystem rows_;
    NewtonMatrix newton_;
    Doubles other_dw_, other_dz_;                // the step before the last corrector
    Doubles w_, z_, dw_, dz_;                    // (L) weights, their reduced costs, and a step of both
    Doubles mean_row_, pull_, per_mu_, second_;  // (L) what the rows contribute, see row_system.h
    Doubles rhs_, diagonal_, tolerance_, aim_;   // (L) of the Newton system
    Doubles best_weights_, best_duals_;
    double lambda_ = 0;    // multiplier of sum w = 1
    double products_ = 0;  // sum of y r and w z, the gap of a feasible point
    double mu_ = 0;        // their mean
    double missing_ = 0;   // 1 - sum w, rounding only
    double primal_step_ = 0, dual_step_ = 0;
    double value_ = 0, lower_ = 0, best_value_ = HUGE_VAL, best_lower_ = -HUGE_VAL;
    int iterations_ = 0;
};

}  // namespace

void solve_core(const CoreProblem& problem, CoreAnswer& answer) {
    const IeeeArithmetic mode;
    const CoreRows core(problem);
    const Proof proof(problem, core);
    if (core.all_rows == 0) {
        proof.without_choice(answer);
        return;
    }
    TaskRunner tasks(problem.threads, problem.interrupted);
    InteriorPoint method(core, tasks);
    answer.status = method.run(problem.gap / core.unit, problem.iteration_limit);
    answer.iterations = method.iterations();
    proof.write(method.weights().data(), method.duals().data(), answer);
}

}  // namespace mixsolve
