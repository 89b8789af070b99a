// The rows' part of the interior point: slacks r > 0 and duals y > 0 of all rows, and the v_i, eliminated sample by
// sample.
//
// With D = y / r and, per sample, W = sum D, the rows' part of a Newton step follows from dw alone:
//     dv   = (E + <D, rows dw>) / W             E = sum_j e_j
//     dr_j = dv - <row_j, dw> + p_j             p_j = v - <row_j, w> - r_j, rounding only
//     dy_j = e_j - D_j (dv - <row_j, dw>)       e_j = (what y_j r_j shall change by) / r_j - D_j p_j
// and leaves for dw, summed over the samples,
//     H = sum_j D_j (row_j - c)(row_j - c)'     c = sum_j D_j row_j / W
//     f = sum_j h_j row_j                       h_j = e_j - D_j E / W
// Partial sums are over groups of samples fixed by the core's shape, and are added in their order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "aligned.h"
#include "core_rows.h"
#include "dense.h"
#include "parallel.h"

namespace mixsolve {

struct Assessment {
    double worst = 0;     // sum_i weight_i max_j <w, row_ij>
    double products = 0;  // sum of y r
};

// What a product that ought to be `mu` lacks when it is far off, as Gondzio bounds it.
inline double lacking(double product, double mu) {
    constexpr double kFar = 10;
    if (product < mu / kFar) return mu / kFar - product;
    return product > kFar * mu ? std::max(kFar * mu - product, -kFar * mu) : 0;
}

class RowSystem {
  public:
    RowSystem(const CoreRows& core, TaskRunner& tasks);

    void start(const double* w, double mu);

    // Moves r, v and y, then looks at the point: `mean_row` becomes sum y row, `pull` f of the predictor, `matrix` H,
    // on and below the diagonal.
    Assessment assess(const double* w, double primal_step, double dual_step, double* mean_row, double* pull,
                      Doubles& matrix);

    // The predictor's step, and the two parts of the corrector's f: per unit of mu, and of second order.
    StepSums predict(const double* dw, double* per_mu, double* second_order);

    // The step that aims at products `mu`, with the predictor's second-order term.
    StepSums correct(const double* dw, double mu);

    // out = H x from the rows themselves: right to rounding of <row, x>, where the matrix is to rounding of its own
    // size.
    void multiply(const double* x, double* out);

    // Gondzio's corrector: where the last step, made a little longer, would leave products far from `mu`, the next call
    // of `correct` aims back. `pull` is what that adds to f. After that call, `reject` brings the last step back.
    void centre(double primal_step, double dual_step, double mu, double* pull);
    void reject() { exchange_steps(); }

    const Doubles& duals() const { return y_; }
    int64_t groups() const { return static_cast<int64_t>(group_.size()) - 1; }

  private:
    struct Worker {
        Doubles mean, panels;
    };
    void make_groups();
    void assess_group(int64_t group, const double* w, double primal_step, double dual_step);
    void spread_group(int64_t group, Doubles& mean, double* panels, bool flush, double* matrix);
    void form_matrix(Doubles& matrix);
    void multiply_group(int64_t group, const double* x);
    void predict_group(int64_t group, const double* dw);
    void exchange_steps();
    void centre_group(int64_t group, double primal_step, double dual_step, double mu);
    void correct_group(int64_t group, const double* dw, double mu);
    void step_group(int64_t group, const double* e);
    void add_up(const Doubles& partial, int which, double* out) const;
    double* part(Doubles& partial, int64_t group, int which) const {
        return partial.data() + (group * 2 + which) * core_.stride;
    }
    bool small() const { return core_.n_rows * core_.stride < 40000; }
    int64_t spread_rows(int64_t group) const {
        return core_.start[group_[group + 1]] - core_.start[group_[group]] - (group_[group + 1] - group_[group]);
    }

    const CoreRows& core_;
    TaskRunner& tasks_;
    const DenseKernel& dense_;
    std::vector<int64_t> group_;        // (groups + 1) samples where they start
    std::vector<int64_t> first_panel_;  // (groups + 1) blocks of panels before the group
    std::vector<int64_t> part_;         // (partial matrices + 1) groups where they start
    std::vector<Worker> workers_;
    Doubles v_, inverse_total_, e_sum_, per_mu_sum_, second_sum_, dv_, other_dv_;        // (n_samples)
    Doubles r_, y_, inverse_r_, inverse_y_, d_, p_, e_, dr_, dy_, other_dr_, other_dy_;  // (n_rows)
    Doubles u_, two_;  // (n_rows) of the rows with some vector; the second-order part of e
    Doubles vectors_;  // (groups, 2, stride)
    Doubles panels_, matrices_;
    std::vector<Assessment> assessed_;
    std::vector<StepSums> stepped_;
};

}  // namespace mixsolve
