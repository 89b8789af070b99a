"""A compact copy says which losses to read: the certificate is that of the losses, and what was read is counted."""

from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixsolve import (
    Fista,
    LossTable,
    Newton,
    OracleAnswer,
    RowGeneration,
    Status,
    _native,
    fit_mixture,
    verify,
)
from mixsolve.passes import run_pass
from mixsolve.proxy import Proxy, as_proxy
from mixsolve.results import MixtureResult
from tests.certificates import Game, assert_certificate, worst_case
from tests.problems import FAMILIES, family
from tests.smooth_games import correlated_sigmoids
from tests.tolerances import rounding_slack

STORAGES = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "uint8": np.uint8,
}
COPIES = ("quantised", "float32", "float16", "bfloat16")


def stored(losses, kind):
    """Losses of a storage type, and their exact numbers."""
    if kind == "uint8":
        table, _ = LossTable.quantise(losses)
        exact = table.scale * table.array.astype(np.float64) + table.offset
        return {"losses": table}, exact
    array = losses.astype(STORAGES[kind])
    return {"losses": array}, array.astype(np.float64)


def copied(exact, kind, **belongings):
    """A proxy of exact losses: the pair that `quantise` returns, or a rounded array alone."""
    return LossTable.quantise(exact, **belongings) if kind == "quantised" else exact.astype(STORAGES[kind])


@pytest.mark.parametrize("isa", _native.available_isas())
@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("kind", STORAGES)
def test_a_screened_pass_is_a_pass(kind, copy, isa):
    """Of samples that are shorter and longer than a vector, with tied attacks and the copy's every storage."""
    used = _native.isa()
    _native.set_isa(isa)
    try:
        rng = np.random.default_rng(3)
        for n_attacks in (1, 3, 16, 65, 150):
            given, exact = stored(rng.standard_normal((5, 40, n_attacks)), kind)
            table = LossTable(given["losses"]) if kind != "uint8" else given["losses"]
            proxy = as_proxy(copied(exact, copy), table, None)
            weights = rng.dirichlet(np.ones(5), size=3)
            found = proxy.screen(weights, 0, 40)
            known = run_pass(LossTable(exact), weights, 0.0, per_sample=True, best_attack=True, best_row=True)
            np.testing.assert_array_equal(found.best_row, known.best_row)
            np.testing.assert_array_equal(found.best_attack, known.best_attack)
            np.testing.assert_allclose(found.per_sample, known.per_sample, rtol=0, atol=rounding_slack(exact))
            part = proxy.screen(weights, 7, 19)
            np.testing.assert_array_equal(part.per_sample, found.per_sample[:, 7:19])
    finally:
        _native.set_isa(used)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(sorted(STORAGES)),
    copy=st.sampled_from(COPIES),
    ragged=st.booleans(),
    rounded=st.booleans(),
    weighted=st.booleans(),
)
def test_the_certificate_is_that_of_the_losses(seed, kind, copy, ragged, rounded, weighted):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, [8, 40, 30], endpoint=True))
    losses = rng.random(shape) * 4.0 ** rng.integers(-5, 6) - rng.choice([0.0, 0.5])
    if rounded:
        losses = np.round(losses, 1)
    given, exact = stored(losses, kind)
    keywords, belongings = {}, {}
    if weighted:
        keywords["sample_weight"] = rng.integers(0, 3, shape[1]) + np.eye(1, shape[1])[0]
    if ragged and kind != "uint8":
        cuts = rng.choice(np.arange(1, shape[1] * shape[2] + 1), size=shape[1], replace=False)
        offsets = np.concatenate([[0], np.sort(cuts)])
        exact = exact.reshape(shape[0], -1)[:, : offsets[-1]]
        given = {"losses": given["losses"].reshape(shape[0], -1)[:, : offsets[-1]]}
        belongings = {"row_offsets": offsets}
    proxy = copied(exact, copy, **belongings)
    if kind == "uint8":
        table, own = given["losses"].reweighted(keywords.get("sample_weight")), {}
    else:
        table, own = given["losses"], {**keywords, **belongings}
    result = fit_mixture(table, proxy=proxy, tol=1e-9, atol=1e-12 * np.abs(exact).max(), **own)
    assert result.status is Status.OPTIMAL
    expected = {"tol": 1e-9, "atol": 1e-12 * np.abs(exact).max()}
    assert_certificate(result, exact, **expected, **keywords, **belongings)
    assert result.statistics.proxy_bytes_read > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_games(name):
    problem = family(name)
    keywords = {key: value for key, value in problem.keywords.items() if key != "attack_prior"}
    own = {key: keywords[key] for key in ("row_offsets",) if key in keywords}
    proxy = LossTable.quantise(np.asarray(problem.losses, dtype=np.float64), **own)
    result = fit_mixture(problem.losses, proxy=proxy, tol=1e-9, **keywords)
    assert result.status is Status.OPTIMAL
    expected = {"tol": 1e-9, "value_interval": problem.value_interval(0.0)}
    assert_certificate(result, problem.losses, **expected, **keywords)


@pytest.fixture(scope="module")
def large():
    losses = correlated_sigmoids(8, 3000, 200).astype(np.float32)
    return losses, LossTable.quantise(losses)


def test_little_is_read_in_full_precision_and_all_of_it_is_counted(large):
    losses, (copy, delta) = large
    plain = fit_mixture(losses, tol=1e-9)
    result = fit_mixture(losses, proxy=(copy, delta), tol=1e-9)
    assert result.status is Status.OPTIMAL
    assert_certificate(result, losses, tol=1e-9)
    assert result.lower_bound <= plain.value
    assert plain.lower_bound <= result.value
    assert result.bytes_read < 0.15 * plain.bytes_read
    assert result.bytes_read + result.statistics.proxy_bytes_read < 0.5 * plain.bytes_read
    assert result.statistics.rows_read * 64 * 8 >= result.bytes_read >= result.statistics.rows_read * 64
    passes = result.statistics.proxy_bytes_read / copy.nbytes
    assert result.passes <= passes <= result.passes + 0.5  # and the subsamples
    assert {"bootstrap", "passes", "master", "other"} == set(result.statistics.phase_seconds)


def test_threads_change_no_bit_and_results_keep_what_was_counted(large, tmp_path):
    losses, proxy = large
    one, other = fit_mixture(losses, proxy=proxy, threads=1), fit_mixture(losses, proxy=proxy, threads=3)
    np.testing.assert_array_equal(one.weights, other.weights)
    assert (one.value, one.lower_bound, one.bytes_read) == (other.value, other.lower_bound, other.bytes_read)
    assert one.attack.to_dict() == other.attack.to_dict()
    again = MixtureResult.from_dict(one.to_dict(), one.attack)
    assert again.statistics.proxy_bytes_read == one.statistics.proxy_bytes_read
    assert verify(one, losses)


def test_limits_and_starts_are_those_of_row_generation(large):
    losses, proxy = large
    stopped = fit_mixture(losses, proxy=proxy, tol=1e-12, pass_limit=2)
    assert stopped.passes <= 2
    assert_certificate(stopped, losses)
    again = fit_mixture(losses, proxy=proxy, start=stopped, tol=1e-9)
    assert again.status is Status.OPTIMAL
    assert_certificate(again, losses, tol=1e-9)


def test_a_proxy_alone_is_measured(large):
    losses, (copy, delta) = large
    table = LossTable(losses)
    proxy = as_proxy(copy, table, None)
    assert proxy.delta == delta
    result = fit_mixture(losses, proxy=copy)
    assert result.passes >= 1
    assert result.bytes_read > losses.nbytes  # the measuring read is counted
    assert_certificate(result, losses, tol=1e-6)


def test_zeros_and_ones_are_solved_through_their_proxy():
    losses = np.random.default_rng(0).random((4, 50, 20)) < 0.4
    result = fit_mixture(losses, proxy=LossTable.quantise(losses))
    assert result.statistics.compressed_rows is None
    assert_certificate(result, losses.astype(np.float64), tol=1e-6)


# -- proxies that are not what they are said to be ----------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.01, 0.2, 1.0]), size=st.floats(0.05, 2.0))
def test_errors_beyond_delta_never_raise_the_lower_bound(seed, share, size):
    """Every row that a bound rests on was compared. The value can be wrong only where too low a copy hid a row."""
    rng = np.random.default_rng(seed)
    losses = rng.random((4, 30, 12))
    spoilt = losses + size * rng.choice([-1, 1], losses.shape) * (rng.random(losses.shape) < share)
    copy, delta = LossTable.quantise(spoilt)
    measured = fit_mixture(losses, proxy=copy, tol=1e-9)
    assert_certificate(measured, losses, tol=1e-9)
    try:
        result = fit_mixture(losses, proxy=(copy, delta), tol=1e-9)
    except ValueError as error:
        if str(error).startswith("`proxy` must be within its delta"):
            return
        raise
    assert result.lower_bound <= fit_mixture(losses, tol=1e-9).value + rounding_slack(losses)
    hidden = (spoilt - losses).min() < -delta
    assert hidden or abs(result.value - worst_case(Game.of(losses), result.weights)) <= rounding_slack(losses)


def test_a_loss_beyond_delta_is_named():
    losses = np.zeros((2, 3, 4))
    losses[:, 1, 2] = 1.0
    copy = losses.astype(np.float32)
    copy[1, 1, 2] = 1.5
    expected = (
        "`proxy` must be within its delta, 0.25, of the losses; got 1.5 for 1.0, off by 0.5, at classifier 1"
    )
    with pytest.raises(ValueError, match=f"{expected}, sample 1, attack 2; give the table alone"):
        fit_mixture(losses, proxy=(copy, 0.25))
    assert_certificate(fit_mixture(losses, proxy=copy), losses, tol=1e-6)


def test_delta_that_is_too_small_is_noticed(large):
    losses, (copy, delta) = large
    with pytest.raises(ValueError, match="must be within its delta"):
        fit_mixture(losses, proxy=(copy, delta / 2))


def test_what_is_not_finite_is_named():
    losses = np.random.default_rng(0).random((2, 3, 4))
    copy = losses.astype(np.float32)
    copy[1, 2, 3] = np.inf
    with pytest.raises(ValueError, match="proxy"):
        fit_mixture(losses, proxy=(copy, 0.1))
    with pytest.raises(ValueError, match="`proxy` must have a finite delta"):
        fit_mixture(losses, proxy=copy)
    proxy = LossTable.quantise(losses)
    losses[:] = np.nan
    with pytest.raises(
        ValueError, match="`losses` must be finite; got nan at classifier 0, sample 0, attack"
    ):
        fit_mixture(losses, proxy=proxy)


def test_what_is_refused(tmp_path):
    losses = np.random.default_rng(0).random((2, 3, 4))
    copy, delta = LossTable.quantise(losses)
    for wrong in (losses[:, :2], losses[:, :, :3], losses[:1]):
        with pytest.raises(ValueError, match="`proxy` must have the shape of `losses`"):
            fit_mixture(losses, proxy=LossTable.quantise(wrong))
    ragged = LossTable.quantise(losses.reshape(2, -1), row_offsets=[0, 3, 8, 12])
    with pytest.raises(ValueError, match="`proxy` must have the shape of `losses`"):
        fit_mixture(losses, proxy=ragged)
    with pytest.raises(ValueError, match="`proxy` must be uint8, float16, bfloat16 or float32; got float64"):
        fit_mixture(losses, proxy=(losses, 0.0))
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="`proxy` must have a finite delta >= 0"):
            fit_mixture(losses, proxy=(copy, bad))
    for bad in (True, "small", None):
        with pytest.raises(TypeError, match="delta"):
            fit_mixture(losses, proxy=(copy, bad))
    with pytest.raises(ValueError, match="`temperature` must be 0 when there is a `proxy`"):
        fit_mixture(losses, proxy=(copy, delta), temperature=0.1)
    for solver in (Fista(), Newton()):
        with pytest.raises(ValueError, match="`solver` must be RowGeneration when there is a `proxy`"):
            fit_mixture(losses, proxy=(copy, delta), solver=solver)
    path = tmp_path / "losses.npy"
    np.save(path, losses)
    oracle = SimpleNamespace(__call__=lambda weights: OracleAnswer(losses))
    for other in (path, np.load(path, mmap_mode="r"), [losses], lambda weights: oracle):
        with pytest.raises(
            ValueError, match="`losses` must be an array or a LossTable when there is a `proxy`"
        ):
            fit_mixture(other, proxy=(copy, delta))
    mapped = LossTable(np.load(path, mmap_mode="r"))
    assert_certificate(fit_mixture(mapped, proxy=(copy, delta), solver=RowGeneration()), losses, tol=1e-6)


def test_the_native_screening_checks_its_arguments():
    losses = np.random.default_rng(0).random((2, 3, 4))
    copy, delta = LossTable.quantise(losses)
    table = LossTable(losses)
    proxy = Proxy(table, copy, delta, None)
    for first, last in ((0, 4), (-1, 2), (2, 2)):
        with pytest.raises(ValueError, match="samples are out of range"):
            proxy.screen(np.full((1, 2), 0.5), first, last)
    with pytest.raises(ValueError, match="weights must have shape"):
        proxy.screen(np.full((1, 3), 0.5), 0, 3)
