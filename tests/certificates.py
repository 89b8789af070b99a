"""The independent checker of certificates: NumPy alone, float64, never mixsolve.

It recomputes, from the raw table,

    F_0(w) = sum_i s_i max_j <w, l_ij>                                   D_0(q) = min_k sum_i s_i sum_j q_ij
    l_kij F_t(w) = sum_i s_i t_i log sum_j u_ij exp(<w, l_ij> / t_i)           D_t(q) = D_0(q) - sum_i s_i t_i
    KL(q_i || u_i)

and compares them with what a result claims. A result is anything with the attributes of
`mixsolve.MixtureResult`; its `attack` is either explicit rows (`sample`, `attack`, `probability`) or a convex
combination of responses (`coefficient`, `weights`, `temperature`). This is the one place outside the package
where the maths is written again, on purpose.
"""

from dataclasses import dataclass

import numpy as np

from tests.tolerances import EPS, SCORE_ROUNDING, WEIGHT_SUM_SLACK, rounding_slack


@dataclass(frozen=True)
class Game:
    """A table laid out flat: row r of sample i is `rows[:, r]` for offsets[i] <= r < offsets[i + 1]."""

    rows: np.ndarray  # (n_classifiers, n_rows) float64
    offsets: np.ndarray  # (n_samples + 1,)
    share: np.ndarray  # (n_samples,) sums to 1
    prior: np.ndarray  # (n_rows,) sums to 1 over each sample

    @classmethod
    def of(cls, losses, row_offsets=None, sample_weight=None, attack_prior=None):
        losses = np.asarray(losses, dtype=np.float64)
        if row_offsets is None:
            n_samples, n_attacks = losses.shape[1:]
            offsets = np.arange(n_samples + 1, dtype=np.int64) * n_attacks
        else:
            offsets = np.asarray(row_offsets, dtype=np.int64)
        length = np.diff(offsets)
        share = np.ones(len(length)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        prior = np.ones(offsets[-1]) if attack_prior is None else np.asarray(attack_prior, dtype=np.float64)
        mass = np.add.reduceat(prior.ravel(), offsets[:-1])
        prior = prior.ravel() / np.repeat(mass, length)
        return cls(losses.reshape(len(losses), -1), offsets, share / share.sum(), prior)

    def over_samples(self, ufunc, values):
        """Reduce (n_rows,) to (n_samples,)."""
        return ufunc.reduceat(values, self.offsets[:-1])

    def over_rows(self, values):
        """Repeat (n_samples,) or a scalar to (n_rows,)."""
        return np.repeat(np.broadcast_to(values, (len(self.share),)), np.diff(self.offsets))

    def scores(self, weights):
        """<weights, row> of every row, added up classifier by classifier."""
        total = np.zeros(self.rows.shape[1])
        for weight, plane in zip(np.asarray(weights, dtype=np.float64), self.rows, strict=True):
            total += weight * plane
        return total


def worst_case(game, weights):
    """F_0 at the weights."""
    return float(game.share @ game.over_samples(np.maximum, game.scores(weights)))


def smoothed(game, weights, temperature):
    """F_t at the weights; at temperature 0, F_0. `temperature` is a number or one per sample."""
    if np.all(np.asarray(temperature) == 0.0):
        return worst_case(game, weights)
    return float(game.share @ _soft_maximum(game, game.scores(weights), temperature))


def _soft_maximum(game, scores, temperature):
    """t log sum_j u_j exp(a_j / t) per sample.

    Shifted by the maximum where the scores spread over more than a temperature, and by the prior's mean
    elsewhere: there t log(1 + x) with x = sum_j u_j (exp(y_j) - 1 - y_j), y_j = (a_j - mean) / t, since the
    y_j average to 0. That form loses nothing at a high temperature, where the first one multiplies the
    rounding error of log by t.
    """
    level = game.over_rows(temperature)
    top = game.over_samples(np.maximum, scores)
    mass = game.over_samples(np.add, game.prior * np.exp((scores - game.over_rows(top)) / level))
    mean = game.over_samples(np.add, game.prior * scores)
    centred = (scores - game.over_rows(mean)) / level
    spread = game.over_samples(np.maximum, np.abs(centred))
    small = np.clip(centred, -1.0, 1.0)
    excess = game.over_samples(np.add, game.prior * (np.expm1(small) - small))
    return np.where(spread <= 1.0, mean + temperature * np.log1p(excess), top + temperature * np.log(mass))


def response(game, weights, temperature):
    """The attacker's best answer to the weights, as a density relative to the prior minus 1, (n_rows,).

    At temperature 0 the pure best attack, the lowest index on ties; above it the softmax of the scores with
    the prior.
    """
    scores = game.scores(weights)
    level = np.broadcast_to(np.asarray(temperature, dtype=np.float64), (len(game.share),))
    if np.all(level == 0.0):
        return _best_attack(game, scores) / game.prior - 1.0
    relative = np.expm1((scores - game.over_rows(_soft_maximum(game, scores, level))) / game.over_rows(level))
    # Rounding of the soft maximum, over a low temperature, leaves probabilities that do not sum to 1.
    excess = game.over_rows(game.over_samples(np.add, game.prior * relative))
    return (relative - excess) / (1.0 + excess)


def _best_attack(game, scores):
    chosen = np.zeros(len(scores))
    for first, last in zip(game.offsets[:-1], game.offsets[1:], strict=True):
        chosen[first + np.argmax(scores[first:last])] = 1.0
    return chosen


def density(game, strategy):
    """q / u - 1 of an attacker's strategy, (n_rows,); relative, so that its KL near the prior is exact."""
    if hasattr(strategy, "probability"):
        probability = np.zeros(game.rows.shape[1])
        row = game.offsets[np.asarray(strategy.sample)] + np.asarray(strategy.attack)
        np.add.at(probability, row, np.asarray(strategy.probability, dtype=np.float64))
        return probability / game.prior - 1.0
    combined = np.zeros(game.rows.shape[1])
    temperatures = np.asarray(strategy.temperature, dtype=np.float64)
    for coefficient, weights, temperature in zip(
        strategy.coefficient, strategy.weights, temperatures, strict=True
    ):
        combined += coefficient * response(game, weights, temperature)
    return combined


def attacker_bound(game, strategy, temperature=0.0):
    """D_t of an attacker's strategy: what it guarantees against every mixture."""
    relative = density(game, strategy)
    probability = game.prior * (1.0 + relative) * game.over_rows(game.share)
    return float(np.min(game.rows @ probability)) - _divergence_cost(game, relative, temperature)


def _divergence_cost(game, relative, temperature):
    """sum_i s_i t_i KL(q_i || u_i), from the terms u ((1 + r) log(1 + r) - r) >= 0 with r = q / u - 1."""
    if np.all(np.asarray(temperature) == 0.0):
        return 0.0
    relative = np.maximum(relative, -1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(relative > -1.0, (1.0 + relative) * np.log1p(relative), 0.0) - relative
    return float(game.share @ (temperature * game.over_samples(np.add, game.prior * entropy)))


def strategy_errors(game, strategy):
    """What is wrong with a strategy as such: rows that do not exist, negative or misadding probabilities."""
    errors = []
    if hasattr(strategy, "probability"):
        sample, attack = np.asarray(strategy.sample), np.asarray(strategy.attack)
        probability = np.asarray(strategy.probability, dtype=np.float64)
        if sample.min() < 0 or sample.max() >= len(game.share):
            return [f"attack cites samples {sample.min()} to {sample.max()} of {len(game.share)}"]
        if np.any(attack < 0) or np.any(attack >= np.diff(game.offsets)[sample]):
            return ["attack cites an attack that its sample does not have"]
        mass = np.bincount(sample, weights=probability, minlength=len(game.share))
        slack = WEIGHT_SUM_SLACK + EPS * np.bincount(sample).max()
    else:
        probability = np.asarray(strategy.coefficient, dtype=np.float64)
        mass = probability.sum(keepdims=True)
        slack = WEIGHT_SUM_SLACK + EPS * len(probability)
    if not np.all(probability >= 0.0):
        errors.append(f"attack has a negative probability: {probability.min()!r}")
    if not np.all(np.abs(mass - 1.0) <= slack):
        errors.append(f"attack probabilities do not sum to 1: off by {np.abs(mass - 1.0).max():.3g}")
    return errors


def certificate_errors(result, losses, *, rows=None, tol=None, atol=0.0, value_interval=None, **belongings):
    """Everything in which a result's claims are contradicted by its own table, as a list of sentences.

    `rows`: the strategy written out as explicit rows; needed for responses at temperature 0 among tied
    attacks, where the best attack hangs on the last bit of a score. `tol`, `atol`: the gap asked for, where
    the result claims to have met it. `value_interval`: where the value of the game is known to lie.
    `belongings`: row_offsets, sample_weight, attack_prior.
    """
    game = Game.of(losses, **belongings)
    weights = np.asarray(result.weights, dtype=np.float64)
    if weights.shape != (len(game.rows),):
        return [f"weights have shape {weights.shape}, not ({len(game.rows)},)"]
    if not (np.all(np.isfinite(weights)) and np.all(weights >= 0.0)):
        return [f"weights are not all finite and >= 0: {weights}"]
    strategy = result.attack if rows is None else rows
    errors = strategy_errors(game, strategy)
    if errors:
        return errors
    if abs(weights.sum() - 1.0) > WEIGHT_SUM_SLACK:
        errors.append(f"weights sum to 1 {weights.sum() - 1.0:+.3g}")
    slack = rounding_slack(losses)
    upper, lower, worst = _recompute(game, weights / weights.sum(), strategy, result.temperature)
    lower_slack = slack + rebuilding_slack(game, result.attack)
    errors += _differs("value", result.value, upper, slack)
    errors += _differs("worst_case_value", result.worst_case_value, worst, slack)
    errors += _differs("gap", result.gap, result.value - result.lower_bound, slack)
    if not result.lower_bound <= lower + lower_slack:
        excess = result.lower_bound - lower
        errors.append(f"lower_bound {result.lower_bound!r} is {excess:.3g} above the strategy's {lower!r}")
    if not result.lower_bound <= result.value + slack:
        errors.append(f"lower_bound {result.lower_bound!r} exceeds value {result.value!r}")
    gap = result.value - result.lower_bound
    if tol is not None and not gap <= max(tol * abs(result.value), atol, slack):
        errors.append(f"gap {gap:.3g} misses tol {tol:g} of value {result.value!r}")
    if value_interval is not None:
        errors += _misses_value(result, value_interval, slack)
    return errors


def rebuilding_slack(game, strategy):
    """How far D of responses moves when their scores are rounded otherwise; 0 for explicit rows.

    An error e of the scores on a sample moves each probability q_j by at most 2 e / t of itself, and the losses of
    classifier k there by at most 2 e / t sum_j q_j |l_kj - mean|: nothing where the response is all but pure.
    """
    if hasattr(strategy, "probability"):
        return 0.0
    total = 0.0
    for coefficient, weights, temperature in zip(
        strategy.coefficient, strategy.weights, np.asarray(strategy.temperature), strict=True
    ):
        if np.all(temperature == 0.0):
            continue
        error = SCORE_ROUNDING * float(np.max(np.abs(weights) @ np.abs(game.rows)))
        probability = game.prior * (1.0 + response(game, weights, temperature))
        mean = np.add.reduceat(probability * game.rows, game.offsets[:-1], axis=1)
        deviation = np.abs(game.rows - np.repeat(mean, np.diff(game.offsets), axis=1))
        moved = probability * game.over_rows(game.share * 2.0 * error / temperature)
        total += coefficient * float(np.max(deviation @ moved))
    return total


def _recompute(game, weights, strategy, temperature):
    temperature = np.asarray(temperature, dtype=np.float64)
    return (
        smoothed(game, weights, temperature),
        attacker_bound(game, strategy, temperature),
        worst_case(game, weights),
    )


def _differs(name, claimed, recomputed, slack):
    if abs(claimed - recomputed) <= slack:
        return []
    return [f"{name} {claimed!r} is not {recomputed!r}: off by {claimed - recomputed:.3g}, slack {slack:.3g}"]


def _misses_value(result, value_interval, slack):
    low, high = value_interval
    errors = []
    if not result.value >= low - slack:
        errors.append(f"value {result.value!r} is below the game's value, at least {low!r}")
    if not result.lower_bound <= high + slack:
        errors.append(f"lower_bound {result.lower_bound!r} is above the game's value, at most {high!r}")
    return errors


def assert_certificate(result, losses, **expected):
    """Fail with every contradiction that `certificate_errors` finds."""
    errors = certificate_errors(result, losses, **expected)
    assert not errors, "\n".join(errors)
