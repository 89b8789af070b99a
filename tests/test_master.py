"""The master of row generation, against its own certificate, HiGHS, and exact fractions."""

import signal
import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from mixsolve import _native, master
from mixsolve.master import CoreSolution, CoreStatus, solve_core, solve_core_by_highs
from tests.cores import KINDS, check_solution, correlated_sigmoids, equal_samples, random_core
from tests.lp_value import lp_value_interval
from tests.refusals import refuse
from tests.tolerances import ROUNDING_SLACK

# Relative to the largest loss. The interior point reaches it on all but one core in ten thousand.
GAP = 1e-11


def size_of(core):
    return float(np.abs(core[0]).max())


def same_bits(one, other):
    fields = ("weights", "duals", "value", "lower_bound", "iterations", "status")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)


@pytest.fixture
def without_highs(monkeypatch):
    """The interior point must do it alone."""

    def refused(*arguments):
        raise AssertionError("the interior point stalled")

    monkeypatch.setattr(master, "_by_highs", refused)


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_random_cores_are_solved(kind, without_highs):
    for seed in range(kind, 5000, len(KINDS)):
        core = random_core(seed)
        solution = solve_core(*core, gap=GAP * size_of(core), threads=1)
        check_solution(core, solution)
        assert solution.status is CoreStatus.OPTIMAL, seed
        assert solution.gap <= GAP * size_of(core), seed
        assert solution.iterations <= 40, seed


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_random_cores_against_highs(kind):
    """At any scale the interval overlaps the one that HiGHS proves at scale 1."""
    for seed in range(10_000 + kind, 11_500, len(KINDS)):
        rows, offsets, share = random_core(seed)
        low, high = lp_value_interval(rows.T, offsets, share)
        scale = 2.0 ** [0, -27, 27][seed % 3]
        core = rows * scale, offsets, share
        solution = solve_core(*core, gap=1e-9 * size_of(core), threads=1)
        slack = check_solution(core, solution)
        assert solution.status is CoreStatus.OPTIMAL, seed
        assert solution.lower_bound <= high * scale + slack, seed
        assert solution.value >= low * scale - slack, seed


@pytest.mark.parametrize("exponent", [-1000, -60, -27, 27, 60, 900])
def test_powers_of_two_change_the_scale_only(exponent):
    scale = 2.0**exponent
    for seed in range(30):
        rows, offsets, share = random_core(seed)
        rows = np.round(rows * 1024) / 1024  # so that no digit is lost to subnormal numbers
        one = solve_core(rows, offsets, share, gap=1e-9)
        other = solve_core(rows * scale, offsets, share, gap=1e-9 * scale)
        assert np.array_equal(one.weights, other.weights)
        assert np.array_equal(one.duals, other.duals)
        assert (one.value * scale, one.lower_bound * scale) == (other.value, other.lower_bound)


LARGE = {
    "all rows of a table": lambda: correlated_sigmoids(1000, 200, 10),
    "two rows of many samples": lambda: correlated_sigmoids(15_000, 2, 10),
    "one long sample": lambda: correlated_sigmoids(1, 20_000, 20),
    "100 classifiers": lambda: correlated_sigmoids(1500, 3, 100),
    "400 classifiers": lambda: correlated_sigmoids(400, 3, 400),
    "more classifiers than rows": lambda: correlated_sigmoids(20, 3, 150),
    "0/1": lambda: equal_samples((np.random.default_rng(0).random((3000, 8, 20)) < 0.2).astype(float)),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_cores(name, without_highs):
    core = LARGE[name]()
    solution = solve_core(*core, gap=1e-11)
    check_solution(core, solution)
    assert solution.status is CoreStatus.OPTIMAL
    assert solution.iterations <= 25


def test_many_samples_most_without_choice(without_highs):
    rng = np.random.default_rng(0)
    counts = 1 + (rng.random(100_000) < 0.5)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    core = rng.random((offsets[-1], 10)), offsets, rng.dirichlet(np.ones(100_000))
    solution = solve_core(*core, gap=1e-10)
    check_solution(core, solution)
    assert solution.status is CoreStatus.OPTIMAL


def test_pure_attacks_but_for_a_few_samples():
    """On a problem without ties all but n_classifiers - 1 samples are attacked by one row."""
    core = correlated_sigmoids(500, 20, 8)
    solution = solve_core(*core, gap=1e-9)
    used = np.add.reduceat(solution.duals > 0, core[1][:-1])
    assert np.count_nonzero(used > 1) <= 7


@pytest.mark.parametrize("name", ["all rows of a table", "100 classifiers", "400 classifiers", "0/1"])
def test_equal_bits_at_any_number_of_threads(name):
    core = LARGE[name]()
    alone = solve_core(*core, gap=1e-9, threads=1)
    for threads in (2, 3, 8):
        assert same_bits(alone, solve_core(*core, gap=1e-9, threads=threads))


def test_every_instruction_set(isa, without_highs):
    cores = [random_core(seed) for seed in range(100)] + [LARGE["400 classifiers"]()]
    cores += [correlated_sigmoids(30, 4, n_classifiers) for n_classifiers in range(1, 34)]
    for core in cores:
        solution = solve_core(*core, gap=1e-9 * size_of(core))
        check_solution(core, solution)
        assert solution.status is CoreStatus.OPTIMAL


def test_no_choice_at_all():
    """One row a sample: the best single classifier, exactly."""
    rows = np.array([[0.5, 0.25, 1.0], [0.5, 0.25, 0.0]])
    solution = solve_core(rows, [0, 1, 2], [0.5, 0.5], gap=0.0)
    assert solution.weights.tolist() == [0.0, 1.0, 0.0]
    assert (solution.value, solution.lower_bound) == (0.25, 0.25)
    assert solution.status is CoreStatus.OPTIMAL


def test_a_gap_of_zero_ends():
    for seed in range(200):
        core = random_core(seed)
        solution = solve_core(*core, gap=0.0)
        slack = check_solution(core, solution)
        assert solution.gap <= 1e-10 * size_of(core) + slack


def test_iteration_limit_returns_true_bounds():
    core = correlated_sigmoids(50, 10, 6)
    gaps = []
    for limit in range(1, 6):
        solution = solve_core(*core, gap=1e-9, iteration_limit=limit)
        check_solution(core, solution)
        assert (solution.status, solution.iterations) == (CoreStatus.ITERATION_LIMIT, limit)
        gaps.append(solution.gap)
    assert gaps == sorted(gaps, reverse=True)


def test_cancelled_before_it_begins():
    core = correlated_sigmoids(50, 10, 6)
    token = _native.CancelToken()
    token.cancel()
    for solve in (solve_core, solve_core_by_highs):
        solution = solve(*core, gap=1e-9, cancel=token)
        check_solution(core, solution)
        assert solution.status is CoreStatus.CANCELLED


def test_cancelled_from_another_thread():
    core = correlated_sigmoids(3000, 3, 300)
    token = _native.CancelToken()
    threading.Timer(0.05, token.cancel).start()
    solution = solve_core(*core, gap=0.0, cancel=token, threads=1)
    check_solution(core, solution)
    assert solution.status is CoreStatus.CANCELLED


def test_a_signal_handler_may_raise():
    core = correlated_sigmoids(3000, 3, 300)

    def handler(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        begun = time.perf_counter()
        with pytest.raises(TimeoutError):
            solve_core(*core, gap=0.0, threads=1)
        assert time.perf_counter() - begun < 5
    finally:
        signal.signal(signal.SIGALRM, before)


def test_highs_is_asked_where_the_interior_point_stalls(monkeypatch):
    core = correlated_sigmoids(30, 5, 4)
    stalled = solve_core(*core, gap=1e-9, iteration_limit=3)

    def native(*arguments):
        found = (stalled.weights, stalled.duals, stalled.value, stalled.lower_bound)
        return (*found, stalled.iterations, list(CoreStatus).index(CoreStatus.STALLED))

    monkeypatch.setattr(_native, "solve_core", native)
    solution = solve_core(*core, gap=1e-8)
    check_solution(core, solution)
    assert solution.status is CoreStatus.OPTIMAL
    assert solution.iterations > 3


@pytest.mark.parametrize("kind", ["real", "0/1", "few values", "all equal"])
def test_highs_alone(kind):
    for seed in range(KINDS.index(kind), 200, len(KINDS)):
        core = random_core(seed)
        solution = solve_core_by_highs(*core, gap=1e-8 * size_of(core))
        check_solution(core, solution)
        assert isinstance(solution, CoreSolution)
        assert solution.status is CoreStatus.OPTIMAL


def test_integer_games_in_fractions():
    """Both bounds in exact arithmetic, for strategies divided by their exact sums."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        n_samples, n_classifiers = rng.integers(1, 6), int(rng.integers(2, 6))
        counts = rng.integers(1, 5, size=n_samples)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        losses = rng.integers(-4, 5, size=(offsets[-1], n_classifiers))
        solution = solve_core(losses, offsets, np.full(n_samples, 1 / n_samples), gap=1e-11)
        weights, duals = (list(map(Fraction, x.tolist())) for x in (solution.weights, solution.duals))
        total = sum(weights)
        upper, lower = Fraction(0), [Fraction(0)] * n_classifiers
        for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            rows = losses[begin:end].tolist()
            upper += max(sum(w * x for w, x in zip(weights, row, strict=True)) for row in rows) / total
            mass = sum(duals[begin:end])
            for dual, row in zip(duals[begin:end], rows, strict=True):
                lower = [sum_k + dual / mass * x for sum_k, x in zip(lower, row, strict=True)]
        upper, least = upper / int(n_samples), min(lower) / int(n_samples)
        assert least <= upper
        slack = Fraction(ROUNDING_SLACK * 4)
        assert abs(least - Fraction(solution.lower_bound)) <= slack
        assert abs(upper - Fraction(solution.value)) <= slack


def test_bad_input():
    rows, offsets, share = np.ones((3, 2)), [0, 1, 3], [0.5, 0.5]

    def call(**changed):
        given = {"rows": rows, "offsets": offsets, "share": share, "gap": 1e-9, **changed}
        return lambda: solve_core(**given)

    odd = rows.copy()
    odd[1, 1] = np.nan
    refuse(ValueError, "rows", "finite", "nan", call(rows=odd))
    refuse(ValueError, "rows", "shape", r"\(3,\)", call(rows=np.ones(3)))
    refuse(ValueError, "rows", "empty", r"\(0, 2\)", call(rows=np.ones((0, 2))))
    refuse(TypeError, "rows", "real", "<U1", call(rows=[["a"]]))
    refuse(ValueError, "offsets", "rise", "0 to 2", call(offsets=[0, 1, 2]))
    refuse(ValueError, "offsets", "rise", "0 to 3", call(offsets=[0, 0, 3]))
    refuse(ValueError, "offsets", "integers", "float64", call(offsets=[0.0, 1.0, 3.0]))
    refuse(ValueError, "share", "shape", r"\(1,\)", call(share=[1.0]))
    refuse(ValueError, "share", "non-negative", "-0.5", call(share=[1.5, -0.5]))
    refuse(ValueError, "share", "sum to 1", "0.9", call(share=[0.5, 0.4]))
    refuse(ValueError, "gap", ">= 0", "-1", call(gap=-1.0))
    refuse(ValueError, "gap", "finite", "nan", call(gap=np.nan))
    refuse(ValueError, "threads", "positive integer", "0", call(threads=0))
    refuse(ValueError, "iteration_limit", "positive integer", "0", call(iteration_limit=0))
