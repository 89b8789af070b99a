#include "trust_region.h"

#include <algorithm>
#include <cmath>

#include "newton_matrix.h"

namespace mixsolve {
namespace {

constexpr int kIterations = 60;         // at most; 5 to 20 are usual
constexpr double kAccuracy = 2e-8;      // part of the predicted decrease that may be missed
constexpr double kRounding = 2.3e-16;   // of a float64
constexpr double kFurther = 1e-6;       // how far the gap may fall below its tolerance for other conditions to be met
constexpr double kToBoundary = 0.995;   // part of the way to it that a step goes, at least
constexpr double kSolveError = 1e-8;    // of the linear systems, relative to their right-hand side
constexpr double kFlat = 1e-14;         // curvature given to every direction of a step: equal classifiers have none
constexpr double kLeastError = 1e-290;  // no tolerance is 0

// Mehrotra's predictor-corrector method in units of the radius: d = radius u, lower <= u <= upper, sum u = 0, with
// multipliers push of the lower bounds and pull of the upper ones, and the model divided by its size. The distances
// below = u - lower and above = upper - u are variables of their own, so that they are accurate however small.
class Step {
  public:
    Step(int64_t n, const double* weights, const double* slope, const double* hessian, double radius)
        : n_(n),
          line_(static_cast<size_t>(padded(n))),
          radius_(radius),
          system_(n, [this](const double* x, double* out) { multiply(x, out); }) {
        for (Doubles* array : {&u_, &lower_, &below_, &above_, &slope_, &push_, &pull_, &du_, &dpush_, &dpull_, &rhs_,
                               &residual_, &diagonal_, &tolerance_, &image_, &steepest_})
            array->assign(line_, 0.0);
        hessian_.assign(static_cast<size_t>(n * n), 0.0);
        const double least = *std::min_element(slope, slope + n), most = *std::max_element(slope, slope + n);
        double steepest = 0;
        for (int64_t i = 0; i < n * n; ++i) steepest = std::max(steepest, std::fabs(hessian[i]));
        const double size = radius * (most - least) + radius * radius * steepest;
        flat_ = !(size > 0);
        double low = 0, width = 0;
        for (int64_t k = 0; k < n; ++k) {
            slope_[k] = radius * (slope[k] - least) / size;
            lower_[k] = std::max(-1.0, -weights[k] / radius);
            above_[k] = std::min(1.0, (1 - weights[k]) / radius) - lower_[k];
            low += lower_[k];
            width += above_[k];
            push_[k] = pull_[k] = 1;
            for (int64_t l = 0; l < n; ++l) {
                hessian_[k * n + l] = radius * radius * hessian[k * n + l] / size;
                steepest_[k] = std::max(steepest_[k], std::fabs(hessian_[k * n + l]));
            }
        }
        for (int64_t k = 0; k < n; ++k) {
            below_[k] = -low / width * above_[k];
            above_[k] -= below_[k];
            u_[k] = lower_[k] + below_[k];
        }
        diameter_ = std::min(width, 2 / radius);
    }

    int run() {
        int round = 0;
        while (!flat_ && round < kIterations && !measure()) {
            ++round;
            factor();
            aim(0, false);
            const double after = gap_after();
            aim(std::pow(after / gap_, 3) * gap_ / static_cast<double>(2 * n_), true);
            const double step = std::min(1.0, kToBoundary * longest(2.0));
            double total = step;
            for (int64_t k = 0; k < n_; ++k) total += du_[k] + dpush_[k] + dpull_[k];
            if (!std::isfinite(total)) break;  // a distance is 0: no digits are left
            for (int64_t k = 0; k < n_; ++k) {
                u_[k] += step * du_[k];
                below_[k] += step * du_[k];
                above_[k] -= step * du_[k];
                push_[k] += step * dpush_[k];
                pull_[k] += step * dpull_[k];
            }
            multiplier_ += step * dmultiplier_;
        }
        return round;
    }

    void write(const double* weights, double* out) const {
        for (int64_t k = 0; k < n_; ++k) {
            const bool at_lower = ends_below(k) && static_cast<double>(n_) * moved_by(k) <= allowed_;
            const double x = flat_                          ? weights[k]
                             : at_lower && lower_[k] > -1.0 ? 0
                                                            : weights[k] + radius_ * (at_lower ? lower_[k] : u_[k]);
            out[k] = std::min(std::max(x, 0.0), 1.0);
        }
    }

  private:
    void multiply(const double* x, double* out) const {
        for (int64_t k = 0; k < n_; ++k) {
            double sum = 0;
            for (int64_t l = 0; l < n_; ++l) sum += hessian_[k * n_ + l] * x[l];
            out[k] = sum;
        }
    }

    // Whether the model is minimised; leaves the complementarity gap and the stationarity residual.
    bool measure() {
        multiply(u_.data(), image_.data());
        double value = 0, worst = 0, size = 0, moved = 0, lowest = 0, highest = 0;
        gap_ = 0;
        for (int64_t k = 0; k < n_; ++k) {
            value += u_[k] * (slope_[k] + image_[k] / 2);
            gap_ += below_[k] * push_[k] + above_[k] * pull_[k];
            residual_[k] = slope_[k] + image_[k] - push_[k] + pull_[k] - multiplier_;
            worst = std::max(worst, std::fabs(residual_[k]));
            const double slope = slope_[k] + image_[k];
            lowest = k ? std::min(lowest, slope) : slope;
            highest = k ? std::max(highest, slope) : slope;
            size = std::max(size, slope_[k] + std::fabs(image_[k]) + steepest_[k] / radius_);
        }
        spread_ = highest - lowest;
        for (int64_t k = 0; k < n_; ++k) moved += ends_below(k) ? moved_by(k) : 0;
        allowed_ = std::max(-kAccuracy * value, kRounding * diameter_ * size);
        const bool near = gap_ + worst * diameter_ <= allowed_;
        return (near && moved <= allowed_) || gap_ <= (near ? kFurther : kFurther * kFurther) * allowed_;
    }
    // Whether a weight will end at its lower bound, and what it costs at most that the others take what it has left.
    bool ends_below(int64_t k) const { return push_[k] > below_[k] && push_[k] > pull_[k]; }
    double moved_by(int64_t k) const { return (spread_ + diameter_ * steepest_[k]) * below_[k]; }

    void factor() {
        Doubles& matrix = system_.matrix();
        for (int64_t k = 0; k < n_; ++k) {
            for (int64_t l = 0; l <= k; ++l) matrix[k * static_cast<int64_t>(line_) + l] = hessian_[k * n_ + l];
            diagonal_[k] = push_[k] / below_[k] + pull_[k] / above_[k] + kFlat;
        }
        system_.factor(diagonal_.data());
    }

    // Newton's direction to complementarity `target`; `corrected` by what the direction before leaves out.
    void aim(double target, bool corrected) {
        double largest = 0;
        for (int64_t k = 0; k < n_; ++k) {
            rhs_[k] = -residual_[k] + (target - (corrected ? du_[k] * dpush_[k] : 0)) / below_[k] - push_[k] -
                      (target + (corrected ? du_[k] * dpull_[k] : 0)) / above_[k] + pull_[k];
            largest = std::max(largest, std::fabs(rhs_[k]));
        }
        std::fill_n(tolerance_.begin(), n_, kSolveError * largest + kLeastError);
        Doubles& before = image_;  // free until the next measure
        before = du_;
        double total = 0;
        for (int64_t k = 0; k < n_; ++k) total += u_[k];
        dmultiplier_ = system_.solve(rhs_.data(), -total, tolerance_.data(), du_.data());
        for (int64_t k = 0; k < n_; ++k) {
            const double second = corrected ? before[k] * dpush_[k] : 0, third = corrected ? -before[k] * dpull_[k] : 0;
            dpush_[k] = (target - second - push_[k] * du_[k]) / below_[k] - push_[k];
            dpull_[k] = (target - third + pull_[k] * du_[k]) / above_[k] - pull_[k];
        }
    }

    // The longest step, of both sides, that keeps distances and multipliers from falling below 0.
    double longest(double most) const {
        double step = most;
        for (int64_t k = 0; k < n_; ++k) {
            step = until_zero(below_[k], du_[k], step);
            step = until_zero(above_[k], -du_[k], step);
            step = until_zero(push_[k], dpush_[k], step);
            step = until_zero(pull_[k], dpull_[k], step);
        }
        return step;
    }
    static double until_zero(double value, double change, double step) {
        return change < 0 ? std::min(step, value / -change) : step;
    }
    double gap_after() const {
        const double step = longest(1.0);
        double gap = 0;
        for (int64_t k = 0; k < n_; ++k) {
            gap += (below_[k] + step * du_[k]) * (push_[k] + step * dpush_[k]) +
                   (above_[k] - step * du_[k]) * (pull_[k] + step * dpull_[k]);
        }
        return gap;
    }

    int64_t n_;
    size_t line_;
    double radius_;
    NewtonMatrix system_;
    Doubles u_, lower_, below_, above_, slope_, push_, pull_, du_, dpush_, dpull_, rhs_, residual_, diagonal_,
        tolerance_, image_, steepest_, hessian_;
    double gap_ = 0, multiplier_ = 0, dmultiplier_ = 0;
    double diameter_ = 0;  // of the feasible set, in the sum of absolute differences
    double spread_ = 0;    // of the slope at u
    double allowed_ = 0;   // to be missed of the model's least value
    bool flat_ = false;
};

}  // namespace

int minimise_model(int64_t n, const double* weights, const double* slope, const double* hessian, double radius,
                   double* out) {
    Step step(n, weights, slope, hessian, radius);
    const int rounds = step.run();
    step.write(weights, out);
    return rounds;
}

}  // namespace mixsolve
