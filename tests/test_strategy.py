"""The adversary's strategies: the bounds they claim against the independent checker, and weak duality."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixsolve.passes import run_pass
from mixsolve.strategy import ResponseAttack, RowAttack, strategy_from_dict
from mixsolve.table import LossTable
from tests.certificates import Game, attacker_bound, rebuilding_slack, smoothed, strategy_errors
from tests.tolerances import rounding_slack

OFFSETS = np.array([0, 1, 6, 8, 12])
TEMPERATURES = [0.0, 1e-3, 0.1, 1.0, 1e3, 1e9]


def draw_game(rng, *, plain=False, whole_numbers=False):
    """Losses of 3 classifiers on 4 samples with 1, 5, 2 and 4 attacks, and what belongs to them."""
    losses = rng.integers(0, 2, (3, 12)).astype(float) if whole_numbers else rng.normal(size=(3, 12))
    belongings = {"row_offsets": OFFSETS}
    if not plain:
        belongings["sample_weight"] = rng.random(4)
        belongings["attack_prior"] = np.concatenate([rng.dirichlet(np.ones(n)) for n in np.diff(OFFSETS)])
    return losses, belongings


def draw_rows(rng):
    """One to all attacks of every sample, with uneven probabilities, in no order."""
    sample, attack, probability = [], [], []
    for i, size in enumerate(np.diff(OFFSETS)):
        used = rng.permutation(size)[: rng.integers(1, size + 1)]
        sample += [i] * len(used)
        attack += used.tolist()
        probability += rng.dirichlet(np.ones(len(used))).tolist()
    shuffle = rng.permutation(len(sample))
    return RowAttack(np.array(sample)[shuffle], np.array(attack)[shuffle], np.array(probability)[shuffle], 4)


def draw_responses(rng, temperature, count=3):
    weights = rng.dirichlet(np.ones(3), size=count)
    return ResponseAttack(rng.dirichlet(np.ones(count)), weights, temperature)


def response_slack(game, strategy):
    return rounding_slack(game.rows) + rebuilding_slack(game, strategy)


def assert_proves(strategy, losses, belongings, temperature, bound, slack, rng):
    """The bound is the strategy's by the checker's account, and below the objective of every mixture."""
    game = Game.of(losses, **belongings)
    assert bound <= attacker_bound(game, strategy, temperature) + slack
    for weights in rng.dirichlet(np.ones(3), size=20):
        assert bound <= smoothed(game, weights, temperature) + slack


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_rows_prove_what_they_claim(temperature, plain):
    rng = np.random.default_rng(1)
    for _ in range(10):
        losses, belongings = draw_game(rng, plain=plain)
        strategy = draw_rows(rng)
        bound = strategy.lower_bound(LossTable(losses, **belongings), temperature)
        checked = attacker_bound(Game.of(losses, **belongings), strategy, temperature)
        # The divergence is multiplied by the temperature, and so is its rounding.
        slack = rounding_slack(losses) * (1 + temperature)
        assert abs(bound - checked) <= slack
        assert_proves(strategy, losses, belongings, temperature, bound, slack, rng)


def test_rows_at_a_temperature_per_sample():
    rng = np.random.default_rng(2)
    losses, belongings = draw_game(rng)
    strategy, temperature = draw_rows(rng), rng.uniform(0.01, 2, 4)
    bound = strategy.lower_bound(LossTable(losses, **belongings), temperature)
    checked = attacker_bound(Game.of(losses, **belongings), strategy, temperature)
    assert abs(bound - checked) <= 2 * rounding_slack(losses)


def test_rows_read_the_cited_rows_only():
    rng = np.random.default_rng(3)
    losses, belongings = draw_game(rng)
    strategy = RowAttack([0, 1, 2, 3], [0, 4, 1, 2], np.ones(4), 4)
    before = strategy.lower_bound(LossTable(losses, **belongings), 0.5)
    spoiled = np.full_like(losses, np.nan)
    cited = OFFSETS[:-1] + np.array([0, 4, 1, 2])
    spoiled[:, cited] = losses[:, cited]
    assert strategy.lower_bound(LossTable(spoiled, **belongings), 0.5) == before


def test_rows_are_sorted_and_normalised_once():
    strategy = draw_rows(np.random.default_rng(4))
    assert np.all(np.diff(strategy.sample * 100 + strategy.attack) > 0)
    again = RowAttack(strategy.sample, strategy.attack, strategy.probability, 4)
    assert again.probability.tobytes() == strategy.probability.tobytes()
    losses, belongings = draw_game(np.random.default_rng(4))
    assert strategy_errors(Game.of(losses, **belongings), strategy) == []
    stretched = RowAttack(strategy.sample, strategy.attack, strategy.probability * (1 + 5e-7), 4)
    assert strategy_errors(Game.of(losses, **belongings), stretched) == []
    for part in (strategy.sample, strategy.attack, strategy.probability):
        assert not part.flags.writeable


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            ([0, 0, 1], [1, 1, 0], [0.5, 0.5, 1.0]),
            ValueError,
            "each row once; got attack 1 of sample 0 twice",
        ),
        (
            ([0, 1], [0, 0], [1.0, 0.9]),
            ValueError,
            "sum to 1 over each sample within 1e-06; got 0.9 for sample 1",
        ),
        (([0, 0], [0, 1], [0.5, 0.5]), ValueError, "got 0.0 for sample 1"),
        (([], [], []), ValueError, "got 0.0 for sample 0"),
        (([0, 1, 1], [0, 0, 1], [1.0, 1.5, -0.5]), ValueError, "must be non-negative; got -0.5"),
        (([0, 1], [0, 0], [1.0, np.nan]), ValueError, "must be non-negative; got nan"),
        (([0, 1], [0, 0], [1.0, np.inf]), ValueError, "got inf for sample 1"),
        (([0, 2], [0, 0], [1.0, 1.0]), ValueError, r"`sample` must be in 0\.\.1; got 0 to 2"),
        (([-1, 0, 1], [0, 0, 0], [1.0, 1.0, 1.0]), ValueError, r"`sample` must be in 0\.\.1; got -1 to 1"),
        (([0, 1], [0], [1.0, 1.0]), ValueError, r"equal length; got shapes \(2,\), \(1,\) and \(2,\)"),
        (([0.5, 1.0], [0, 0], [1.0, 1.0]), TypeError, "`sample` must hold integers; got type float64"),
    ],
)
def test_rows_that_are_no_strategy_are_refused(fields, error, message):
    with pytest.raises(error, match=message):
        RowAttack(*fields, 2)


def test_a_row_cited_twice_would_prove_too_much():
    """Why duplicates are refused: split in two, a pure attack looks half as far from the prior."""
    losses = np.array([[0.0, 1.0]])
    table = LossTable(losses, row_offsets=[0, 2])
    honest = RowAttack([0], [1], [1.0], 1).lower_bound(table, 1.0)
    assert honest == pytest.approx(1 - np.log(2))
    with pytest.raises(ValueError, match="twice"):
        RowAttack([0, 0], [1, 1], [0.5, 0.5], 1)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_responses_at_the_problems_temperature_prove_what_they_claim(temperature, plain):
    rng = np.random.default_rng(5)
    for _ in range(5):
        losses, belongings = draw_game(rng, plain=plain)
        strategy = draw_responses(rng, np.full(3, temperature))
        bound = strategy.lower_bound(LossTable(losses, **belongings), temperature)
        slack = response_slack(Game.of(losses, **belongings), strategy)
        assert_proves(strategy, losses, belongings, temperature, bound, slack, rng)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 1.0, 1e3, 1e9])
def test_one_response_closes_all_but_the_frank_wolfe_gap(temperature):
    """F_t(w) - D_t(response) = <w, g> - min_k g_k, exactly."""
    rng = np.random.default_rng(6)
    losses, belongings = draw_game(rng)
    table, weights = LossTable(losses, **belongings), rng.dirichlet(np.ones(3))
    level = temperature * rng.uniform(0.5, 2, 4)
    answer = run_pass(table, weights[None], level[None], float64_scores=True)
    gap = answer.value[0] - ResponseAttack([1.0], weights[None], level[None]).lower_bound(table, level)
    assert abs(gap - (weights @ answer.gradient[0] - answer.gradient[0].min())) <= rounding_slack(losses)
    game, strategy = Game.of(losses, **belongings), ResponseAttack([1.0], weights[None], level[None])
    checked = attacker_bound(game, strategy, level)
    assert abs(answer.value[0] - gap - checked) <= response_slack(game, strategy)


@pytest.mark.parametrize("own", [0.0, 0.05, 3.0])
@pytest.mark.parametrize("problem", [0.0, 0.1, 2.0])
def test_responses_at_other_temperatures(own, problem):
    rng = np.random.default_rng(7)
    losses, belongings = draw_game(rng)
    strategy = draw_responses(rng, np.full(3, own))
    bound = strategy.lower_bound(LossTable(losses, **belongings), problem)
    game = Game.of(losses, **belongings)
    checked = attacker_bound(game, strategy, problem)
    assert abs(bound - checked) <= response_slack(game, strategy)


def test_responses_of_mixed_temperatures_and_per_sample():
    rng = np.random.default_rng(8)
    losses, belongings = draw_game(rng)
    table, game = LossTable(losses, **belongings), Game.of(losses, **belongings)
    levels = np.stack([np.zeros(4), rng.uniform(0.1, 1, 4), np.full(4, 0.3)])
    strategy = draw_responses(rng, levels)
    for problem in (0.0, 0.3, rng.uniform(0.1, 1, 4)):
        bound = strategy.lower_bound(table, problem)
        assert abs(bound - attacker_bound(game, strategy, problem)) <= response_slack(game, strategy)


@pytest.mark.parametrize("whole_numbers", [True, False])
@pytest.mark.parametrize("own", [0.0, 0.1, 50.0])
def test_responses_written_out_are_the_same_strategy(own, whole_numbers):
    rng = np.random.default_rng(9)
    losses, belongings = draw_game(rng, whole_numbers=whole_numbers)
    table, strategy = LossTable(losses, **belongings), draw_responses(rng, np.full(3, own))
    rows = strategy.rows(table)
    assert strategy_errors(Game.of(losses, **belongings), rows) == []
    slack = response_slack(Game.of(losses, **belongings), strategy)
    np.testing.assert_allclose(rows.mean_losses(table), strategy.mean_losses(table), rtol=0, atol=slack)
    # Jensen: the strategy itself proves at least what its cuts do.
    assert rows.lower_bound(table, own) >= strategy.lower_bound(table, own) - slack


def test_thresholds_thin_out_rows_and_leave_a_strategy():
    rng = np.random.default_rng(10)
    losses, belongings = draw_game(rng)
    table, game = LossTable(losses, **belongings), Game.of(losses, **belongings)
    strategy = draw_responses(rng, np.full(3, 0.2))
    everything = strategy.rows(table)
    for threshold in (0.05, 0.3, 0.99, 1.0):
        thin = strategy.rows(table, threshold)
        assert strategy_errors(game, thin) == []
        assert np.unique(thin.sample).tolist() == [0, 1, 2, 3]
        assert thin.to_dict() == everything.rows(threshold=threshold).to_dict()
        assert thin.lower_bound(table, 0.2) <= smoothed(game, np.ones(3) / 3, 0.2)
    assert strategy.rows(table, 1.0).sample.size == 4
    assert everything.rows().to_dict() == everything.to_dict()


def test_responses_take_the_lowest_index_on_ties():
    losses = np.zeros((2, 3, 4))
    losses[:, 1, 2:] = 1.0
    rows = ResponseAttack([1.0], [[0.5, 0.5]], [0.0]).rows(losses)
    assert rows.attack.tolist() == [0, 2, 0]


def test_writing_out_a_table_of_several_blocks():
    rng = np.random.default_rng(11)
    losses = rng.random((3, 700, 2000), dtype=np.float32)
    table = LossTable(losses)
    strategy = ResponseAttack([0.5, 0.5], rng.dirichlet(np.ones(3), size=2), [0.0, 0.01])
    rows = strategy.rows(table, 1e-3)
    assert np.unique(rows.sample).size == 700
    full = strategy.rows(table)
    # Sums of 1.4 million terms in two orders.
    np.testing.assert_allclose(full.mean_losses(table), strategy.mean_losses(table), rtol=1e-12)
    assert rows.sample.size < full.sample.size == losses[0].size


def test_strategies_refuse_another_table():
    rng = np.random.default_rng(12)
    table = LossTable(rng.random((3, 5, 2)))
    with pytest.raises(ValueError, match="must have the strategy's 4 samples; got 5"):
        draw_rows(rng).lower_bound(table)
    with pytest.raises(ValueError, match="must have the strategy's 2 classifiers; got 3"):
        ResponseAttack([1.0], [[0.5, 0.5]], [0.0]).lower_bound(table)
    with pytest.raises(ValueError, match="must have the strategy's 4 samples; got 5"):
        ResponseAttack([1.0], np.ones((1, 3)), np.ones((1, 4))).mean_losses(table)
    with pytest.raises(ValueError, match=r"`attack` must be in 0\.\.1 for sample 0; got 7"):
        RowAttack(np.arange(5), np.full(5, 7), np.ones(5), 5).mean_losses(table)
    with pytest.raises(TypeError, match="`losses` must be given"):
        draw_responses(rng, np.zeros(3)).rows()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (([0.5, 0.4], np.ones((2, 3)), [0.0, 0.0]), "`coefficient` must sum to 1"),
        (([1.5, -0.5], np.ones((2, 3)), [0.0, 0.0]), "`coefficient` must be non-negative"),
        (([1.0], np.ones((2, 3)), [0.0, 0.0]), r"`coefficient` must have shape \(2,\)"),
        (([1.0], [1.0, 0.0], [0.0]), "`weights` must be finite with shape"),
        (([1.0], [[np.nan, 0.0]], [0.0]), "`weights` must be finite with shape"),
        (([1.0], [[1.0, 0.0]], 0.0), r"`temperature` must have shape \(1,\) or \(1, n_samples\); got \(\)"),
        (([1.0], [[1.0, 0.0]], [-1.0]), "`temperature` must be finite and non-negative"),
        (([1.0], [[1.0, 0.0]], [[0.0, 1.0]]), "`temperature` must be 0 for all samples or positive for all"),
    ],
)
def test_responses_that_are_no_strategy_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ResponseAttack(*fields)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3]))
def test_json_gives_back_every_bit(seed, own):
    rng = np.random.default_rng(seed)
    for strategy in (
        draw_rows(rng),
        draw_responses(rng, np.full(3, own)),
        draw_responses(rng, np.full((3, 4), own)),
    ):
        content = json.loads(json.dumps(strategy.to_dict()))
        again = strategy_from_dict(content)
        assert type(again) is type(strategy)
        assert again.to_dict() == strategy.to_dict() == content


@pytest.mark.parametrize("content", [{}, {"kind": "guess"}, {"kind": None}])
def test_unknown_kinds_are_refused(content):
    with pytest.raises(ValueError, match="`kind` must be one of"):
        strategy_from_dict(content)


@given(st.integers(0, 10_000), st.sampled_from(TEMPERATURES))
def test_weak_duality(seed, temperature):
    rng = np.random.default_rng(seed)
    losses, belongings = draw_game(rng)
    table = LossTable(losses, **belongings)
    for strategy in (draw_rows(rng), draw_responses(rng, np.full(3, temperature))):
        bound = strategy.lower_bound(table, temperature)
        slack = rounding_slack(losses) * (1 + temperature)
        assert bound <= run_pass(table, rng.dirichlet(np.ones(3))[None], temperature).value[0] + slack
