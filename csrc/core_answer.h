// From the interior point's best points to strategies on the core, with the bounds that they prove there.
#pragma once

#include "core_rows.h"
#include "master.h"

namespace mixsolve {

class Proof {
  public:
    Proof(const CoreProblem& problem, const CoreRows& core) : problem_(problem), core_(core) {}

    // Puts weights on the simplex, repairs the duals, and recomputes both bounds from the problem's own rows. The
    // status becomes optimal exactly where the bounds recomputed say so.
    void write(const double* weights, const double* duals, CoreAnswer& answer) const;

    // The best single classifier, when no sample has a choice.
    void without_choice(CoreAnswer& answer) const;

  private:
    double value(const double* weights) const;
    double lower_bound(const double* duals) const;
    void repair(const double* duals, double threshold, double* out) const;

    const CoreProblem& problem_;
    const CoreRows& core_;
};

}  // namespace mixsolve
