"""The best response to linear classifiers: every reported set is reached by its point, and none is missing."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, nnls

from mixsolve import Status, fit_mixture
from mixsolve.attacks import (
    LinearBestResponse,
    Loss,
    Norm,
    UniformBall,
    linear,
    loss_table,
    sample_ball_in_box,
)
from mixsolve.demo.plane import LinearClassifier
from mixsolve.demo.plane_study import PlaneSettings, make_plane_game
from tests.certificates import assert_certificate
from tests.problems import motivating_example
from tests.refusals import refuse

LENGTH = {Norm.L1: 1, Norm.L2: 2, Norm.LINF: np.inf}
EDGE = 1e-6  # sets whose reach is this close to the radius may go either way


def scene(seed, n_classifiers=4, n_samples=12, dimension=2, boxed=False):
    """Random half-spaces near random points of both classes."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n_samples, dimension)), rng.choice([-1, 1], size=n_samples)
    normals, offsets = rng.normal(size=(n_classifiers, dimension)), 0.7 * rng.normal(size=n_classifiers)
    bounds = {"lower": X.min(axis=0) - 0.1, "upper": X.max(axis=0) + 0.2} if boxed else {}
    return normals, offsets, X, y, bounds


def fooled(normals, offsets, points, labels):
    """(n_classifiers, n) whether each classifier is wrong about each point."""
    return np.where(normals @ points.T > offsets[:, None], 1, -1) != labels


def reported(response):
    """Per sample, the sets of `table` as frozensets."""
    table = response.table()
    return [
        [frozenset(np.flatnonzero(row)) for row in table.sample_losses(i).T] for i in range(table.n_samples)
    ]


def assert_reached(response, normals, offsets, X, y, norm, radius, bounds):
    """Every row of the table is what its point does, inside the ball and the box."""
    table = response.table()
    for i in range(table.n_samples):
        count = table.attack_counts[i]
        points = response.points(np.full(count, i), np.arange(count))
        np.testing.assert_array_equal(fooled(normals, offsets, points, y[i]), table.sample_losses(i) == 1)
        assert np.linalg.norm(points - X[i], LENGTH[norm], axis=1).max() <= radius * (1 + 1e-9)
        assert np.all(points >= bounds.get("lower", -np.inf) - 1e-9)
        assert np.all(points <= bounds.get("upper", np.inf) + 1e-9)


def assert_antichains(sets):
    for own in sets:
        assert not any(one < other for one in own for other in own)
        assert len(set(own)) == len(own)


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_reported_sets_are_reached_and_no_sampled_set_is_missing(norm, boxed, dimension):
    rng = np.random.default_rng(dimension)
    for seed in range(4):
        normals, offsets, X, y, bounds = scene(seed, 5, 10, dimension, boxed)
        radius = 0.8
        response = LinearBestResponse(normals, offsets, X, y, norm, radius, **bounds)
        assert response.is_exact
        assert_reached(response, normals, offsets, X, y, norm, radius, bounds)
        sets = reported(response)
        assert_antichains(sets)
        low, high = bounds.get("lower", -np.inf) - X, bounds.get("upper", np.inf) - X
        for i, own in enumerate(sets):
            low_i, high_i = np.broadcast_to(low[i], dimension), np.broadcast_to(high[i], dimension)
            moves = sample_ball_in_box(norm, radius, low_i, high_i, 2000, rng)
            hits = fooled(normals, offsets, X[i] + moves, y[i])
            for hit in np.unique(hits, axis=1).T:
                assert any(frozenset(np.flatnonzero(hit)) <= one for one in own)


def shortest(normals, offsets, x, label, subset, norm, low, high):
    """Length of the shortest move that fools a set of classifiers; infinite when there is none."""
    inward = -label * normals[subset]
    level = -label * (offsets[subset] - normals[subset] @ x)  # inward @ z >= level
    dimension = len(x)
    if norm is Norm.L2:  # Lawson and Hanson: the nearest point by non-negative least squares
        rows = np.concatenate([inward, np.eye(dimension), -np.eye(dimension)])
        sides = np.concatenate([level, low, -high])
        kept = np.isfinite(sides)
        stacked = np.vstack([rows[kept].T, sides[kept]])
        multipliers, _ = nnls(stacked, np.append(np.zeros(dimension), 1.0))
        residual = stacked @ multipliers - np.append(np.zeros(dimension), 1.0)
        return np.linalg.norm(residual[:-1] / residual[-1]) if abs(residual[-1]) > 1e-12 else np.inf
    # z, then one length for linf or one for each coordinate for l1
    extra = 1 if norm is Norm.LINF else dimension
    spread = np.ones((dimension, 1)) if norm is Norm.LINF else np.eye(dimension)
    rows = np.block(
        [
            [-inward, np.zeros((len(inward), extra))],
            [np.eye(dimension), -spread],
            [-np.eye(dimension), -spread],
        ]
    )
    found = linprog(
        np.concatenate([np.zeros(dimension), np.ones(extra)]),
        A_ub=rows,
        b_ub=np.concatenate([-level, np.zeros(2 * dimension)]),
        bounds=[*zip(low, high, strict=True)] + [(0, None)] * extra,
    )
    return found.fun if found.status == 0 else np.inf


def assert_all_sets_agree(response, normals, offsets, X, y, norm, radius, bounds):
    """A set is part of a reported one exactly if the shortest move to it is in the ball."""
    sets = reported(response)
    everyone = range(len(normals))
    checked = 0
    for i, own in enumerate(sets):
        low = np.broadcast_to(bounds.get("lower", -np.inf) - X[i], X[i].shape)
        high = np.broadcast_to(bounds.get("upper", np.inf) - X[i], X[i].shape)
        for size in everyone:
            for subset in itertools.combinations(everyone, size + 1):
                length = shortest(normals, offsets, X[i], y[i], list(subset), norm, low, high)
                if abs(length - radius) > EDGE:
                    assert any(set(subset) <= one for one in own) == (length < radius), (i, subset, length)
                    checked += 1
    assert checked > 10 * len(sets) / 2


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("boxed", [False, True])
def test_every_set_against_its_own_programme_in_the_plane(norm, boxed):
    normals, offsets, X, y, bounds = scene(7, 5, 8, 2, boxed)
    response = LinearBestResponse(normals, offsets, X, y, norm, 0.9, **bounds)
    assert_all_sets_agree(response, normals, offsets, X, y, norm, 0.9, bounds)


@pytest.mark.parametrize("dimension", [3, 6, 40])
def test_every_set_against_its_own_programme_in_l2(dimension):
    normals, offsets, X, y, bounds = scene(8, 6, 5, dimension)
    response = LinearBestResponse(normals, offsets, X, y, Norm.L2, 0.6)
    assert response.is_exact
    assert_all_sets_agree(response, normals, offsets, X, y, Norm.L2, 0.6, bounds)
    assert_reached(response, normals, offsets, X, y, Norm.L2, 0.6, bounds)


@pytest.mark.parametrize(("norm", "radius"), [(Norm.L1, 0.9), (Norm.LINF, 0.1)])
@pytest.mark.parametrize("boxed", [False, True])
def test_many_dimensions_by_linear_programmes(norm, radius, boxed):
    normals, offsets, X, y, bounds = scene(9, 5, 6, 30, boxed)
    response = LinearBestResponse(normals, offsets, X, y, norm, radius, **bounds)
    assert response.is_exact
    assert_antichains(reported(response))
    assert_reached(response, normals, offsets, X, y, norm, radius, bounds)
    assert_all_sets_agree(response, normals, offsets, X, y, norm, radius, bounds)


def test_linear_programmes_find_what_the_tree_finds(monkeypatch):
    for norm in (Norm.L1, Norm.LINF):
        given = scene(10, 6, 15, 3)[:4]
        tree = reported(LinearBestResponse(*given, norm, 0.7))
        with monkeypatch.context() as patch:
            patch.setattr(linear, "TREE_LIMIT", 30)
            programmes = LinearBestResponse(*given, norm, 0.7)
        assert programmes.is_exact
        assert [set(own) for own in tree] == [set(own) for own in reported(programmes)]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    n_classifiers=st.integers(1, 7),
    dimension=st.integers(1, 4),
    norm=st.sampled_from(list(Norm)),
    radius=st.floats(0, 2),
)
def test_the_answer_is_the_best_sampled_attack_or_better(seed, n_classifiers, dimension, norm, radius):
    normals, offsets, X, y, _ = scene(seed, n_classifiers, 8, dimension)
    response = LinearBestResponse(normals, offsets, X, y, norm, radius)
    weights = np.random.default_rng(seed).dirichlet(np.ones(n_classifiers))
    answer = response(weights)
    assert answer.delta == 0.0
    assert answer.losses.shape == (n_classifiers, 8, 1)
    effect = np.stack(
        [fooled(normals, offsets, answer.points[i : i + 1], y[i])[:, 0] for i in range(8)], axis=1
    )
    np.testing.assert_array_equal(effect, answer.losses[:, :, 0] == 1)
    points = UniformBall(norm, radius, 200, seed=seed).points(X)
    sampled = np.stack([weights @ fooled(normals, offsets, points[i], y[i]) for i in range(8)])
    assert np.all(weights @ answer.losses[:, :, 0] >= sampled.max(axis=1) - 1e-12)


@pytest.mark.parametrize("limit", [1, 8])
@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("norm", Norm)
def test_beyond_the_limit_delta_covers_what_is_missed(monkeypatch, limit, boxed, norm):
    normals, offsets, X, y, bounds = scene(11, 7, 30, 3, boxed)
    exact = LinearBestResponse(normals, offsets, X, y, norm, 0.6, **bounds)
    monkeypatch.setattr(linear, "TREE_LIMIT", limit)
    monkeypatch.setattr(linear, "MOST_UNDECIDED", 2)
    weak = LinearBestResponse(normals, offsets, X, y, norm, 0.6, **bounds)
    assert not weak.is_exact
    assert_reached(weak, normals, offsets, X, y, norm, 0.6, bounds)
    value = fit_mixture(exact, tol=1e-9).value
    result = fit_mixture(weak, tol=1e-9)
    assert result.lower_bound - 1e-9 <= value <= result.value + 1e-9
    for weights in np.random.default_rng(0).dirichlet(np.ones(7), size=20):
        ours, best = weak(weights), exact(weights)
        assert 0.0 <= ours.delta <= 1.0
        assert (
            weights @ best.losses.mean(axis=(1, 2))
            <= weights @ ours.losses.mean(axis=(1, 2)) + ours.delta + 1e-12
        )


def test_the_papers_game_against_all_attacks():
    """The sampled game's value rises to it from below, and both solvers agree on it."""
    game = make_plane_game(PlaneSettings())
    response = LinearBestResponse.of(game.classifiers, game.points, game.labels, Norm.L2, 3.0)
    assert response.is_exact
    result = fit_mixture(response, tol=1e-8)
    assert result.status is Status.OPTIMAL
    everything = response.table()
    whole = fit_mixture(everything, tol=1e-8)
    assert_certificate(
        whole,
        everything.array,
        row_offsets=everything.row_offsets,
        tol=1e-8,
        value_interval=(result.lower_bound, result.value),
    )
    ball = UniformBall(Norm.L2, 3.0, 200)
    sampled = fit_mixture(loss_table(game.classifiers, game.points, game.labels, ball, Loss.ZERO_ONE))
    assert sampled.lower_bound <= result.value <= sampled.value + 0.02


def test_the_motivating_example():
    """Section 2.1: the half-half mixture, value 3/4, now against every move of at most 1."""
    X, y = np.array([[0.0], [1.0], [-1.0]]), np.array([-1, 1, 1])
    weight = motivating_example().sample_weight
    response = LinearBestResponse([[-1.0], [1.0]], [0.5, 0.5], X, y, Norm.L2, 1.0, sample_weight=weight)
    result = fit_mixture(response)
    assert result.value == pytest.approx(0.75, abs=1e-6)


def test_radius_0_is_the_standard_risk():
    normals, offsets, X, y, _ = scene(12, 4, 50)
    for norm in Norm:
        table = LinearBestResponse(normals, offsets, X, y, norm, 0.0).table()
        np.testing.assert_array_equal(table.array == 1, fooled(normals, offsets, X, y))
        assert table.n_rows == 50


def test_constant_and_equal_classifiers():
    """A normal of zero predicts one class; copies are fooled together."""
    X, y = np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([1, -1])
    normals = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    offsets = np.array([1.0, -1.0, 0.5, 0.5, 0.5])  # always -1, always 1, then x > 1/2 twice, then x < -1/2
    sets = reported(LinearBestResponse(normals, offsets, X, y, Norm.L2, 1.0))
    assert set(sets[0]) == {frozenset({0, 2, 3, 4})}
    assert set(sets[1]) == {frozenset({1, 2, 3})}


def test_classifiers_of_other_packages():
    normals, offsets, X, y, _ = scene(13)
    plain = LinearBestResponse(normals, offsets, X, y, Norm.L2, 1.0)
    fitted = [
        SimpleNamespace(coef_=normal[None], intercept_=np.array([-offset]))
        for normal, offset in zip(normals, offsets, strict=True)
    ]
    named = [LinearClassifier(normal, offset) for normal, offset in zip(normals, offsets, strict=True)]
    for classifiers in (fitted, named):
        other = LinearBestResponse.of(classifiers, X, (y + 1) // 2, Norm.L2, 1.0)
        np.testing.assert_array_equal(other.table().array, plain.table().array)


def respond(**changed):
    normals, offsets, X, y, _ = scene(14)
    given = {
        "normals": normals,
        "offsets": offsets,
        "X": X,
        "y": y,
        "norm": Norm.L2,
        "radius": 1.0,
        **changed,
    }
    return lambda: LinearBestResponse(**given)


def test_bad_input_is_refused():
    refuse(TypeError, "norm", "Norm.L2", "'l2'", respond(norm="l2"))
    refuse(ValueError, "radius", ">= 0", "-1", respond(radius=-1))
    refuse(ValueError, "normals", "classifiers, 2", r"\(3, 5\)", respond(normals=np.ones((3, 5))))
    refuse(ValueError, "normals", "1 to 64", r"\(65, 2\)", respond(normals=np.ones((65, 2))))
    refuse(ValueError, "offsets", r"shape \(4,\)", r"\(3,\)", respond(offsets=np.ones(3)))
    refuse(ValueError, "y", "12 labels", "2", respond(y=np.full(12, 2)))
    refuse(ValueError, "X", "finite", r"\(12, 2\)", respond(X=np.full((12, 2), np.nan)))
    refuse(ValueError, "X", "between `lower` and `upper`", "outside", respond(lower=0.0))
    refuse(ValueError, "upper", "broadcast", r"\(5,\)", respond(upper=np.ones(5)))
    with pytest.raises(TypeError, match=r"`classifiers\[0\]` must have `normal`"):
        LinearBestResponse.of([object()], [[0.0]], [1], Norm.L2, 1.0)
