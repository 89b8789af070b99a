// A sum that is right to its last digit or two, whatever its terms (Neumaier).
#pragma once

#include <cmath>

namespace mixsolve {

// The sum so far is `sum + rest`.
inline void add_exactly(double& sum, double& rest, double x) {
    const double total = sum + x;
    rest += std::fabs(sum) >= std::fabs(x) ? (sum - total) + x : (x - total) + sum;
    sum = total;
}

}  // namespace mixsolve
