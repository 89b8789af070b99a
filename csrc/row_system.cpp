#include "row_system.h"

#include <algorithm>
#include <cmath>

namespace mixsolve {
namespace {

constexpr int64_t kManyPartialsBelow = 320;  // classifiers; above, threads share out the columns of one matrix
constexpr int64_t kColumnsTogether = 4;      // groups of columns per task: panels come from memory once for all of them
constexpr int64_t kPartialBudget = 1 << 20;  // doubles in partial matrices

}  // namespace

RowSystem::RowSystem(const CoreRows& core, TaskRunner& tasks) : core_(core), tasks_(tasks), dense_(dense_kernel()) {
    make_groups();
    const auto samples = static_cast<size_t>(core.n_samples), rows = static_cast<size_t>(core.n_rows);
    for (Doubles* array : {&v_, &inverse_total_, &e_sum_, &per_mu_sum_, &second_sum_, &dv_, &other_dv_})
        array->assign(samples, 0.0);
    for (Doubles* array :
         {&r_, &y_, &inverse_r_, &inverse_y_, &d_, &u_, &p_, &e_, &dr_, &dy_, &two_, &other_dr_, &other_dy_})
        array->assign(rows, 0.0);
    vectors_.assign(static_cast<size_t>(groups() * 2 * core.stride), 0.0);
    assessed_.resize(static_cast<size_t>(groups()));
    stepped_.resize(static_cast<size_t>(groups()));
    const bool shared = part_.size() == 2;
    workers_.resize(std::min(static_cast<size_t>(tasks.threads()), shared ? group_.size() - 1 : part_.size() - 1));
    panels_.assign(shared ? static_cast<size_t>(first_panel_.back() * panels_size(core.stride)) : 0, 0.0);
    matrices_.assign(shared ? 0 : (part_.size() - 1) * static_cast<size_t>(core.stride * core.stride), 0.0);
    for (Worker& worker : workers_) {
        worker.mean.assign(static_cast<size_t>(core.stride), 0.0);
        if (!shared) worker.panels.assign(static_cast<size_t>(panels_size(core.stride)), 0.0);
    }
}

void RowSystem::make_groups() {
    const int64_t most = core_.stride > 64 ? kPanelRows : 4 * kPanelRows;
    group_.push_back(0);
    first_panel_.push_back(0);
    int64_t spread = 0;
    for (int64_t i = 0; i <= core_.n_samples; ++i) {
        const int64_t own = i < core_.n_samples ? core_.start[i + 1] - core_.start[i] - 1 : 0;
        if (i == core_.n_samples || (spread > 0 && spread + own > most)) {
            group_.push_back(i);
            first_panel_.push_back(first_panel_.back() + (spread + kPanelRows - 1) / kPanelRows);
            spread = 0;
        }
        spread += own;
    }
    const int64_t budget = std::max<int64_t>(1, kPartialBudget / (core_.stride * core_.stride));
    const int64_t parts = core_.stride > kManyPartialsBelow ? 1 : std::min<int64_t>({groups(), budget, 64});
    for (int64_t part = 0; part <= parts; ++part) part_.push_back(part * groups() / parts);
}

void RowSystem::start(const double* w, double mu) {
    dense_.dots(core_.rows.data(), core_.n_rows, core_.stride, w, u_.data());
    for (int64_t i = 0; i < core_.n_samples; ++i) {
        const int64_t begin = core_.start[i], end = core_.start[i + 1];
        const double worst = *std::max_element(&u_[begin], &u_[end]), weight = core_.weight[i];
        double slack = mu / weight, inverse = 0;
        for (int step = 0; step < 8; ++step) {  // Newton for sum_j mu / (v - u_j) = weight, from the left
            double slope = inverse = 0;
            for (int64_t j = begin; j < end; ++j) {
                const double x = 1 / (slack + (worst - u_[j]));
                inverse += x;
                slope += x * x;
            }
            const double move = (inverse - weight / mu) / slope;
            if (!(move > 0)) break;
            slack += move;
        }
        inverse = 0;
        for (int64_t j = begin; j < end; ++j) inverse += 1 / (r_[j] = slack + (worst - u_[j]));
        for (int64_t j = begin; j < end; ++j) y_[j] = weight / (inverse * r_[j]);
        v_[i] = worst + slack;
    }
}

Assessment RowSystem::assess(const double* w, double primal_step, double dual_step, double* mean_row, double* pull,
                             Doubles& matrix) {
    const bool shared = part_.size() == 2;
    const int64_t square = core_.stride * core_.stride;
    if (shared) {
        tasks_.run(groups(), small(), [&](int64_t group, int worker) {
            assess_group(group, w, primal_step, dual_step);
            spread_group(group, workers_[worker].mean, &panels_[first_panel_[group] * panels_size(core_.stride)], false,
                         nullptr);
        });
    } else {
        tasks_.run(static_cast<int64_t>(part_.size()) - 1, small(), [&](int64_t part, int worker) {
            double* own = &matrices_[part * square];
            std::fill(own, own + square, 0.0);
            for (int64_t group = part_[part]; group < part_[part + 1]; ++group) {
                assess_group(group, w, primal_step, dual_step);
                spread_group(group, workers_[worker].mean, workers_[worker].panels.data(), true, own);
            }
        });
    }
    form_matrix(matrix);
    add_up(vectors_, 0, mean_row);
    add_up(vectors_, 1, pull);
    Assessment all;
    for (const Assessment& part : assessed_) {
        all.worst += part.worst;
        all.products += part.products;
    }
    Message(core_.combine)
        .add(mean_row, core_.n_classifiers)
        .add(pull, core_.n_classifiers)
        .add_triangle(matrix.data(), core_.n_classifiers, core_.stride)
        .add(&all.worst, 1)
        .add(&all.products, 1)
        .send();
    return all;
}

void RowSystem::assess_group(int64_t group, const double* w, double primal_step, double dual_step) {
    const int64_t first = core_.start[group_[group]], end_row = core_.start[group_[group + 1]];
    const double* rows = &core_.rows[first * core_.stride];
    dense_.dots(rows, end_row - first, core_.stride, w, &u_[first]);
    for (int64_t j = first; j < end_row; ++j) {
        r_[j] += primal_step * dr_[j];
        y_[j] += dual_step * dy_[j];
    }
    Assessment sums;
    for (int64_t i = group_[group]; i < group_[group + 1]; ++i) {
        const int64_t begin = core_.start[i], end = core_.start[i + 1];
        v_[i] += primal_step * dv_[i];
        double worst = u_[begin], mass = 0;
        for (int64_t j = begin; j < end; ++j) {
            mass += y_[j];
            worst = std::max(worst, u_[j]);
        }
        const double repair = core_.weight[i] / mass;
        for (int64_t j = begin; j < end; ++j) y_[j] *= repair;
        sums.worst += core_.weight[i] * worst;
    }
    dense_.invert(&r_[first], end_row - first, &inverse_r_[first]);
    dense_.invert(&y_[first], end_row - first, &inverse_y_[first]);
    for (int64_t i = group_[group]; i < group_[group + 1]; ++i) {
        const int64_t begin = core_.start[i], end = core_.start[i + 1];
        double total = 0, e_sum = 0;
        for (int64_t j = begin; j < end; ++j) {
            sums.products += y_[j] * r_[j];
            p_[j] = v_[i] - u_[j] - r_[j];
            d_[j] = y_[j] * inverse_r_[j];
            e_[j] = -y_[j] - d_[j] * p_[j];
            total += d_[j];
            e_sum += e_[j];
        }
        const double inverse = 1 / total, ratio = e_sum * inverse;
        for (int64_t j = begin; j < end; ++j) two_[j] = e_[j] - d_[j] * ratio;
        inverse_total_[i] = inverse;
        e_sum_[i] = e_sum;
    }
    assessed_[group] = sums;
    double* const out[2] = {part(vectors_, group, 0), part(vectors_, group, 1)};
    std::fill(out[0], out[0] + 2 * core_.stride, 0.0);
    const double* const coefficient[2] = {&y_[first], &two_[first]};
    dense_.add_rows(rows, end_row - first, core_.stride, coefficient, out);
}

// Rows as deviations from the running mean of their sample (Welford): one row less than the sample has, no
// cancellation.
void RowSystem::spread_group(int64_t group, Doubles& mean, double* panels, bool flush, double* matrix) {
    const int64_t n = core_.stride;
    int64_t filled = 0;
    const auto add = [&] {
        for (int64_t columns = 0; columns < dense_.column_groups(core_.n_classifiers); ++columns) {
            dense_.add_products(panels, filled, core_.n_classifiers, columns, matrix, n);
        }
    };
    for (int64_t i = group_[group]; i < group_[group + 1]; ++i) {
        const int64_t begin = core_.start[i];
        std::copy_n(&core_.rows[begin * n], n, mean.data());
        double total = d_[begin];
        for (int64_t j = begin + 1; j < core_.start[i + 1]; ++j) {
            if (filled == kPanelRows) {
                if (flush) {
                    add();
                } else {
                    panels += panels_size(n);
                }
                filled = 0;
            }
            const double share = d_[j] / (total + d_[j]);
            dense_.deviate(&core_.rows[j * n], std::sqrt(total * share), share, mean.data(), n, panels, filled++);
            total += d_[j];
        }
    }
    if (flush) add();
}

void RowSystem::form_matrix(Doubles& matrix) {
    const int64_t n = core_.stride;
    if (part_.size() > 2) {
        std::copy_n(matrices_.data(), n * n, matrix.data());
        for (size_t part = 1; part + 1 < part_.size(); ++part) {
            const double* other = &matrices_[static_cast<int64_t>(part) * n * n];
            for (int64_t x = 0; x < n * n; ++x) matrix[x] += other[x];
        }
        return;
    }
    std::fill(matrix.begin(), matrix.end(), 0.0);
    const int64_t columns = dense_.column_groups(core_.n_classifiers);
    tasks_.run((columns + kColumnsTogether - 1) / kColumnsTogether, small(), [&](int64_t task, int) {
        for (int64_t group = 0; group < groups(); ++group) {
            int64_t left = spread_rows(group);
            for (int64_t block = first_panel_[group]; left > 0; ++block, left -= kPanelRows) {
                for (int64_t c = task * kColumnsTogether; c < std::min(columns, (task + 1) * kColumnsTogether); ++c) {
                    dense_.add_products(&panels_[block * panels_size(n)], std::min(left, kPanelRows),
                                        core_.n_classifiers, c, matrix.data(), n);
                }
            }
        }
    });
}

void RowSystem::multiply(const double* x, double* out) {
    tasks_.run(groups(), small(), [&](int64_t group, int) { multiply_group(group, x); });
    add_up(vectors_, 0, out);
    Message(core_.combine).add(out, core_.n_classifiers).send();
}

void RowSystem::multiply_group(int64_t group, const double* x) {
    const int64_t first = core_.start[group_[group]], end_row = core_.start[group_[group + 1]];
    const double* rows = &core_.rows[first * core_.stride];
    dense_.dots(rows, end_row - first, core_.stride, x, &u_[first]);
    for (int64_t i = group_[group]; i < group_[group + 1]; ++i) {
        const int64_t begin = core_.start[i], end = core_.start[i + 1];
        const int64_t heaviest = std::max_element(&d_[begin], &d_[begin] + (end - begin)) - &d_[0];
        double mean = 0, others = 0;
        for (int64_t j = begin; j < end; ++j) mean += d_[j] * (u_[j] - u_[heaviest]);
        mean *= inverse_total_[i];
        const double base = u_[heaviest];
        for (int64_t j = begin; j < end; ++j) {
            u_[j] = d_[j] * ((u_[j] - base) - mean);
            if (j != heaviest) others += u_[j];
        }
        u_[heaviest] = -others;  // they add up to zero, and this one alone may be a difference of large numbers
    }
    double* const out[2] = {part(vectors_, group, 0), part(vectors_, group, 1)};
    std::fill(out[0], out[0] + 2 * core_.stride, 0.0);
    const double* const coefficient[2] = {&u_[first], &u_[first]};
    dense_.add_rows(rows, end_row - first, core_.stride, coefficient, out);
}

void RowSystem::add_up(const Doubles& partial, int which, double* out) const {
    std::fill(out, out + core_.stride, 0.0);
    for (int64_t group = 0; group < groups(); ++group) {
        const double* from = partial.data() + (group * 2 + which) * core_.stride;
        for (int64_t k = 0; k < core_.stride; ++k) out[k] += from[k];
    }
}

}  // namespace mixsolve
