"""What the paper proves about the game, as functions: smoothing, sampling, duality.

Symbols: t is the temperature (alpha in [1]_), u the prior over attacks, M a bound of the losses, ``0 <= loss
<= M``, L, N and m the numbers of classifiers, samples and attacks per sample. F_0 is the worst-case objective
of a mixture, F_t the smoothed one, V_0 and V_t their minima over the mixtures.

Where the paper's constant can be improved on a finite table, both forms are here.

References
----------
.. [1] Meunier et al., "Mixed Nash Equilibria in the Adversarial Examples Game", ICML 2021.
"""

from mixsolve.bounds.duality import DeviationGains, DualityChain, deviation_gains, duality_chain
from mixsolve.bounds.sampling import (
    ComplexityEstimate,
    estimate_complexity,
    sampling_error,
    sampling_error_from_complexity,
)
from mixsolve.bounds.smoothing import (
    near_best_mass,
    smoothing_error,
    table_smoothing_error,
    temperature_for_error,
)

__all__ = [
    "ComplexityEstimate",
    "DeviationGains",
    "DualityChain",
    "deviation_gains",
    "duality_chain",
    "estimate_complexity",
    "near_best_mass",
    "sampling_error",
    "sampling_error_from_complexity",
    "smoothing_error",
    "table_smoothing_error",
    "temperature_for_error",
]
