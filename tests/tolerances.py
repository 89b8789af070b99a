"""Every tolerance that more than one test uses, each with the reason for its size.

A tolerance that serves a single test stands beside that test. All of them are relative to a scale that the
test names, usually the largest absolute loss of the table (`loss_scale`), because rounding errors of a score
are.
"""

import numpy as np

EPS = float(np.finfo(np.float64).eps)

# The one rounding slack, relative to the largest absolute loss. A pass with float64 scores promises 1e-14;
# the checker's own sums in another order are as accurate; dividing the weights by their sum moves every
# weight by one ulp at most. The sum of the three, doubled, is 5e-14. Nothing below it can be called a wrong
# bound.
ROUNDING_SLACK = 5e-14

# Weights sum to 1 "to the last ulp that floats allow": one ulp of 1 for the division, one for adding them up
# in another order, and a factor of two of room.
WEIGHT_SUM_SLACK = 4 * EPS

# Two float64 computations of a score may differ by this, relative to the sum of its terms' sizes: half an ulp per
# term, in any order, for tables of up to 16 classifiers. A response's probabilities move by that over its temperature.
SCORE_ROUNDING = 8 * EPS

# A linear programme from HiGHS is only as good as its feasibility tolerance (1e-10 as asked for here). Every
# value found that way is therefore an interval, proved by both of its solutions; this is the widest interval
# a test accepts.
LP_INTERVAL = 1e-8

# A value known in closed form, compared with one computed in float64: rounding and nothing else.
CLOSED_FORM = ROUNDING_SLACK


def loss_scale(losses):
    """Largest absolute loss, the unit of every rounding error; 1 for a table of zeros."""
    largest = float(np.max(np.abs(np.asarray(losses, dtype=np.float64)), initial=0.0))
    return largest if largest > 0.0 else 1.0


def rounding_slack(losses):
    """Absolute slack of a bound whose strategy is given explicitly."""
    return ROUNDING_SLACK * loss_scale(losses)
