// The rows' part of a Newton step: predictor, corrector, and what keeps products together; see row_system.h.
#include <algorithm>

#include "row_system.h"

namespace mixsolve {
namespace {

StepSums added_up(const std::vector<StepSums>& parts) {
    StepSums all;
    for (const StepSums& part : parts) {
        all.primal = std::max(all.primal, part.primal);
        all.dual = std::max(all.dual, part.dual);
        all.r_dy += part.r_dy;
        all.dr_y += part.dr_y;
        all.dr_dy += part.dr_dy;
    }
    return all;
}

}  // namespace

StepSums RowSystem::predict(const double* dw, double* per_mu, double* second_order) {
    tasks_.run(groups(), small(), [&](int64_t group, int) { predict_group(group, dw); });
    add_up(vectors_, 0, per_mu);
    add_up(vectors_, 1, second_order);
    StepSums all = added_up(stepped_);
    Message(core_.combine)
        .add(per_mu, core_.n_classifiers)
        .add(second_order, core_.n_classifiers)
        .add(&all.r_dy, 3)
        .add(&all.primal, 2)
        .send(2);
    return all;
}

void RowSystem::predict_group(int64_t group, const double* dw) {
    const int64_t first = core_.start[group_[group]], end_row = core_.start[group_[group + 1]];
    const double* rows = &core_.rows[first * core_.stride];
    dense_.dots(rows, end_row - first, core_.stride, dw, &u_[first]);
    for (int64_t i = group_[group]; i < group_[group + 1]; ++i) {
        const int64_t begin = core_.start[i], end = core_.start[i + 1];
        double moved = e_sum_[i];
        for (int64_t j = begin; j < end; ++j) moved += d_[j] * u_[j];
        dv_[i] = moved * inverse_total_[i];
    }
    step_group(group, e_.data());
    // then the coefficients h of both parts, in place of dr and dy, which are not needed any more
    for (int64_t i = group_[group]; i < group_[group + 1]; ++i) {
        const int64_t begin = core_.start[i], end = core_.start[i + 1];
        double per_mu = 0, second = 0;
        for (int64_t j = begin; j < end; ++j) {
            per_mu += inverse_r_[j];
            second += two_[j] = -dr_[j] * dy_[j] * inverse_r_[j];
        }
        per_mu_sum_[i] = per_mu;
        second_sum_[i] = second;
        per_mu *= inverse_total_[i];
        second *= inverse_total_[i];
        for (int64_t j = begin; j < end; ++j) {
            dr_[j] = inverse_r_[j] - d_[j] * per_mu;
            dy_[j] = two_[j] - d_[j] * second;
        }
    }
    double* const out[2] = {part(vectors_, group, 0), part(vectors_, group, 1)};
    std::fill(out[0], out[0] + 2 * core_.stride, 0.0);
    const double* const coefficient[2] = {&dr_[first], &dy_[first]};
    dense_.add_rows(rows, end_row - first, core_.stride, coefficient, out);
}

void RowSystem::centre(double primal_step, double dual_step, double mu, double* pull) {
    tasks_.run(groups(), small(), [&](int64_t group, int) { centre_group(group, primal_step, dual_step, mu); });
    add_up(vectors_, 0, pull);
    Message(core_.combine).add(pull, core_.n_classifiers).send();
    exchange_steps();
}

void RowSystem::exchange_steps() {
    dv_.swap(other_dv_);
    dr_.swap(other_dr_);
    dy_.swap(other_dy_);
}

void RowSystem::centre_group(int64_t group, double primal_step, double dual_step, double mu) {
    const int64_t first = core_.start[group_[group]], end_row = core_.start[group_[group + 1]];
    for (int64_t i = group_[group]; i < group_[group + 1]; ++i) {
        double sum = 0;
        for (int64_t j = core_.start[i]; j < core_.start[i + 1]; ++j) {
            const double product = (r_[j] + primal_step * dr_[j]) * (y_[j] + dual_step * dy_[j]);
            sum += u_[j] = lacking(product, mu) * inverse_r_[j];
            two_[j] += u_[j];
        }
        second_sum_[i] += sum;
        const double ratio = sum * inverse_total_[i];
        for (int64_t j = core_.start[i]; j < core_.start[i + 1]; ++j) u_[j] -= d_[j] * ratio;
    }
    double* const out[2] = {part(vectors_, group, 0), part(vectors_, group, 1)};
    std::fill(out[0], out[0] + 2 * core_.stride, 0.0);
    const double* const coefficient[2] = {&u_[first], &u_[first]};
    dense_.add_rows(&core_.rows[first * core_.stride], end_row - first, core_.stride, coefficient, out);
}

StepSums RowSystem::correct(const double* dw, double mu) {
    tasks_.run(groups(), small(), [&](int64_t group, int) { correct_group(group, dw, mu); });
    StepSums all = added_up(stepped_);
    Message(core_.combine).add(&all.r_dy, 3).add(&all.primal, 2).send(2);
    return all;
}

void RowSystem::correct_group(int64_t group, const double* dw, double mu) {
    const int64_t first = core_.start[group_[group]], end_row = core_.start[group_[group + 1]];
    dense_.dots(&core_.rows[first * core_.stride], end_row - first, core_.stride, dw, &u_[first]);
    for (int64_t i = group_[group]; i < group_[group + 1]; ++i) {
        double moved = e_sum_[i] + mu * per_mu_sum_[i] + second_sum_[i];
        for (int64_t j = core_.start[i]; j < core_.start[i + 1]; ++j) {
            dy_[j] = e_[j] + mu * inverse_r_[j] + two_[j];
            moved += d_[j] * u_[j];
        }
        dv_[i] = moved * inverse_total_[i];
    }
    step_group(group, dy_.data());
}

// From the dv of the group's samples, and u = <row, dw>.
void RowSystem::step_group(int64_t group, const double* e) {
    for (int64_t i = group_[group]; i < group_[group + 1]; ++i) {
        for (int64_t j = core_.start[i]; j < core_.start[i + 1]; ++j) u_[j] = dv_[i] - u_[j];
    }
    const int64_t first = core_.start[group_[group]], end_row = core_.start[group_[group + 1]];
    stepped_[group] = {};
    dense_.step_rows({&r_[first], &y_[first], &inverse_r_[first], &inverse_y_[first], &d_[first], &p_[first], e + first,
                      &u_[first], &dr_[first], &dy_[first]},
                     end_row - first, stepped_[group]);
}

}  // namespace mixsolve
