"""The checker of the pass: every answer against the specification in `mixsolve.reference`."""

import numpy as np

from mixsolve import _native
from mixsolve.passes import run_pass
from mixsolve.reference import reference_pass
from tests.tolerances import loss_scale

EPS32 = float(np.finfo(np.float32).eps)

# What float64 scores promise, relative to the scale of the scores.
FLOAT64_ACCURACY = 1e-14

# Float32 scores of up to 1,024 classifiers: half an ulp for each of the 32 terms of a partial sum and for each of the
# 32 partial sums, were they all to one side. How close they come to careful float32 is tested beside.
FLOAT32_ACCURACY = 32 * EPS32


def accuracy_of(case, float64_scores):
    return FLOAT64_ACCURACY if float64_scores or case.losses.dtype == np.float64 else FLOAT32_ACCURACY


def assert_within(error, slack):
    share = np.max(np.abs(error) / slack)
    assert share <= 1, f"the error is {share:.3g} times what is allowed, on {_native.isa()}"


def check(case, *, float64_scores=False, threads=None):
    """Ask for everything, compare everything; returns the answer."""
    table = case.table()
    answer = run_pass(
        table,
        case.weights,
        case.temperature,
        per_sample=True,
        best_attack=True,
        best_row=True,
        samples=case.samples,
        float64_scores=float64_scores,
        threads=threads,
    )
    exact = case.exact()
    truth = reference_pass(exact, case.weights, case.temperature, samples=case.samples, **case.keywords)
    accuracy = accuracy_of(case, float64_scores)
    scale = loss_scale(exact)
    size = scale * np.maximum(np.abs(case.weights).sum(axis=1), 1)

    assert_within(answer.value - truth.value, accuracy * size)
    assert_within(answer.per_sample - truth.per_sample, accuracy * size[:, None])
    samples = np.arange(table.n_samples) if case.samples is None else case.samples
    check_best_attacks(answer, truth, table, case.weights, samples, 2 * accuracy * size)
    check_gradients(answer, truth, case, table.sample_weight[samples], accuracy, scale, size)
    assert answer.bytes_read == table.attack_counts[samples].sum() * table.row_bytes
    return answer


def check_sums(case, **options):
    """Ask for value and gradient alone, one query after the other, as solvers at temperature > 0 do."""
    table, exact = case.table(), case.exact()
    truth = reference_pass(exact, case.weights, case.temperature, samples=case.samples, **case.keywords)
    accuracy = accuracy_of(case, options.get("float64_scores", False))
    scale = loss_scale(exact)
    for q, weight in enumerate(case.weights):
        level, size = case.temperature[q : q + 1], scale * max(np.abs(weight).sum(), 1)
        assert level.min() > 0
        answer = run_pass(table, weight[None], level, samples=case.samples, **options)
        assert_within(answer.value[0] - truth.value[q], accuracy * size)
        slack = accuracy * scale * (1 + 2 * size / level.min())
        assert_within(answer.gradient[0] - truth.gradient[q], slack)


def check_best_attacks(answer, truth, table, weights, samples, slack):
    """The row is that of the attack, and no other attack's score is higher by more than rounding."""
    for q, weight in enumerate(weights):
        rows = table.rows(samples, answer.best_attack[q])
        np.testing.assert_array_equal(answer.best_row[q], rows)
        behind = (table.rows(samples, truth.best_attack[q]) - rows) @ weight
        assert_within(behind, slack[q])


def check_gradients(answer, truth, case, shares, accuracy, scale, size):
    for q in range(len(case.weights)):
        coldest = np.min(case.temperature[q])
        if coldest == 0:  # the mean of the best rows, whichever of nearly equal ones were taken
            expected, slack = shares @ answer.best_row[q], accuracy * scale
        else:  # a score's rounding moves a probability by that rounding over the temperature
            expected, slack = truth.gradient[q], accuracy * scale * (1 + 2 * size[q] / coldest)
        assert_within(answer.gradient[q] - expected, slack)
