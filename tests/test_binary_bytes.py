"""0/1 losses of one byte or one bit: compressed, solved and proved as they are."""

import pickle

import numpy as np
import pytest

from mixsolve import LossTable, RowGeneration, Status, fit_mixture, worst_case
from mixsolve.passes import run_pass
from mixsolve.solvers.binary_sets import MOST_CLASSIFIERS, compress_binary, worst_case_of_sets
from tests.certificates import assert_certificate
from tests.tolerances import ROUNDING_SLACK


def coins(shape, seed=0, density=0.4):
    return np.random.default_rng(seed).random(shape) < density


@pytest.mark.parametrize("n_classifiers", [1, 3, 8, 9, 17, 33, 64])
@pytest.mark.parametrize("storage", [np.bool_, np.uint8])
def test_sets_answer_as_a_pass_does(n_classifiers, storage):
    losses = coins((n_classifiers, 40, 23)).astype(storage)
    weights = np.random.default_rng(1).dirichlet(np.ones(n_classifiers), 3)
    keywords = {"sample_weight": np.arange(40.0)}
    by_sets = worst_case_of_sets(LossTable(losses, **keywords), weights, best_attack=True)
    wanted = run_pass(
        LossTable(losses.astype(np.float64), **keywords), weights, 0.0, best_attack=True, per_sample=True
    )
    allowed = ROUNDING_SLACK
    np.testing.assert_allclose(by_sets.value, wanted.value, rtol=0, atol=allowed)
    best = np.take_along_axis(
        np.tensordot(weights, losses, 1), by_sets.best_attack[:, :, None], 2
    )  # ties up to rounding
    np.testing.assert_allclose(best[:, :, 0], wanted.per_sample, rtol=0, atol=allowed)
    rows = losses[:, np.arange(40)[None], by_sets.best_attack]
    share = np.arange(40.0) / np.arange(40.0).sum()
    np.testing.assert_allclose(by_sets.gradient, (rows @ share).T, rtol=0, atol=allowed)


def test_the_lowest_of_equal_attacks_wins():
    losses = np.array([[[0, 1, 1, 0]], [[0, 0, 0, 1]]], dtype=bool)
    answer = worst_case_of_sets(LossTable(losses), np.array([[0.5, 0.5], [0.2, 0.8]]), best_attack=True)
    np.testing.assert_array_equal(answer.best_attack, [[1], [3]])


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_every_number_of_threads_gives_the_same_bits(threads):
    table, weights = LossTable(coins((10, 500, 90))), np.full((1, 10), 0.1)
    one, many = (worst_case_of_sets(table, weights, True, count) for count in (1, threads))
    for name in ("value", "gradient", "best_attack"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


@pytest.mark.parametrize("layout", ["rectangular", "ragged", "strided", "reversed"])
def test_a_solve_leaves_the_bits_as_they_are(layout):
    losses, keywords = coins((4, 200, 60)), {}
    if layout == "ragged":
        losses, keywords = losses.reshape(4, -1), {"row_offsets": [0, 1000, 5000, 12_000]}
    if layout == "strided":
        losses = coins((8, 400, 60))[::2, ::2]
    if layout == "reversed":
        losses = losses[:, ::-1]
    table = LossTable(losses, **keywords)
    result = fit_mixture(table)
    assert result.status is Status.OPTIMAL
    assert result.statistics.compressed_rows is not None
    assert table.is_compact
    assert result.bytes_read <= 3 * losses.size
    assert_certificate(result, losses.astype(np.float64), **keywords)
    same = fit_mixture(losses.astype(np.float32), **keywords)
    np.testing.assert_array_equal(result.weights, same.weights)


def test_what_is_not_0_or_1_is_solved_from_bytes():
    losses = coins((4, 60, 30)).astype(np.uint8)
    losses[3, 59, 29] = 128  # a bit that a sign would take in other storage
    table = LossTable(losses)
    assert compress_binary(table, 0.0)[1] is None
    assert worst_case_of_sets(table, np.full((1, 4), 0.25)) is None
    result = fit_mixture(table)
    assert table.is_compact
    assert_certificate(result, losses.astype(np.float64))


def test_more_classifiers_than_bits():
    losses = coins((MOST_CLASSIFIERS + 1, 5, 4))
    assert worst_case_of_sets(LossTable(losses), np.full((1, 65), 1 / 65)) is None
    assert_certificate(fit_mixture(losses, solver=RowGeneration()), losses.astype(np.float64))


def test_a_pass_reads_bits():
    losses = coins((3, 20, 10))
    table = LossTable(losses)
    known = worst_case(losses.astype(np.float32), [0.2, 0.3, 0.5])
    assert worst_case(table, [0.2, 0.3, 0.5]).value == known.value
    assert table.nbytes == 2 * 20 * 10
    assert table.array.dtype == np.uint16


@pytest.mark.parametrize("storage", [np.bool_, np.uint8])
def test_tables_can_be_pickled(storage):
    table = LossTable(coins((3, 20, 10)).astype(storage))
    fit_mixture(table)
    copy = pickle.loads(pickle.dumps(table))
    np.testing.assert_array_equal(copy.array, table.array)
    assert copy.nbytes == table.nbytes
    assert copy.digest() == table.digest()
