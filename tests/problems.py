"""Families of games with known answers. Uses NumPy and SciPy, never mixsolve.

Every family is a function that returns a `Problem`: the table, what belongs to it, and an interval that
contains the value of its worst-case game (`value_low` = `value_high` where the value is known in closed
form). `FAMILIES` lists one or more members of each by name. All of them are small: the largest has 2,000
rows.
"""

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from tests.lp_value import lp_value_interval


@dataclass(frozen=True)
class Problem:
    """A table and the interval in which the value of its worst-case game lies.

    `smoothed_value` is the value at *every* temperature, where that is known. The relative tolerances that a
    solve must reach within a second or two: `tol` by an exact solver, `interior_point_tol` by an interior point
    method, `first_order_tol` by an accelerated gradient method, `subgradient_tol` by a subgradient method, whose
    error falls like the root of its steps.
    """

    name: str
    losses: np.ndarray
    value_low: float
    value_high: float
    row_offsets: np.ndarray | None = None
    sample_weight: np.ndarray | None = None
    attack_prior: np.ndarray | None = None
    smoothed_value: float | None = None
    tol: float = 1e-9
    interior_point_tol: float = 1e-5
    first_order_tol: float = 1e-6
    subgradient_tol: float = 1e-3
    facts: dict = field(default_factory=dict)

    @property
    def keywords(self):
        """What belongs to the table, as keyword arguments; absent ones left out."""
        given = {name: getattr(self, name) for name in ("row_offsets", "sample_weight", "attack_prior")}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def value(self):
        """Middle of the interval."""
        return 0.5 * (self.value_low + self.value_high)

    @property
    def n_classifiers(self):
        return self.losses.shape[0]

    def value_interval(self, temperature):
        """Interval of the value at a temperature: known, or by F_0 - t log(1 / least prior) <= F_t <= F_0."""
        if temperature == 0.0:
            return self.value_low, self.value_high
        if self.smoothed_value is not None:
            return self.smoothed_value, self.smoothed_value
        return self.value_low - temperature * np.log(1.0 / self._smallest_prior()), self.value_high

    def _smallest_prior(self):
        if self.attack_prior is not None:
            return float(np.min(self.attack_prior))
        if self.row_offsets is not None:
            return 1.0 / float(np.max(np.diff(self.row_offsets)))
        return 1.0 / self.losses.shape[2]


def _by_lp(name, losses, **given):
    offsets, weight = given.get("row_offsets"), given.get("sample_weight")
    low, high = lp_value_interval(losses, offsets, weight)
    return Problem(name, losses, low, high, **given)


def one_attack_per_sample(n_classifiers=5, n_samples=20, seed=0):
    """No choice for the attacker: the best single classifier is optimal, at every temperature."""
    losses = np.random.default_rng(seed).random((n_classifiers, n_samples, 1))
    value = float(losses.mean(axis=(1, 2)).min())
    return Problem("one attack per sample", losses, value, value, smoothed_value=value)


def matching_pennies(size=3, n_samples=4, seed=0):
    """Each attack fools one classifier alone: value 1 / size, and only the uniform mixture reaches it."""
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(size) for _ in range(n_samples)])
    losses = (np.arange(size)[:, np.newaxis, np.newaxis] == order).astype(np.float64)
    return Problem(f"matching pennies {size}", losses, 1.0 / size, 1.0 / size, smoothed_value=1.0 / size)


def duplicated_classifiers(n_classifiers=4, copies=3, seed=0):
    """Every classifier several times over: the value stays, the optimum becomes a continuum."""
    base = random_real(n_classifiers, seed=seed)
    return replace(base, name="duplicated classifiers", losses=np.tile(base.losses, (copies, 1, 1)))


def dominated_classifier(n_classifiers=4, margin=0.1, seed=0):
    """One classifier worse than every other by `margin` on every attack: weight w on it costs w * margin."""
    base = random_real(n_classifiers, seed=seed)
    worst = base.losses.max(axis=0, keepdims=True) + margin
    losses = np.concatenate([base.losses[:1], worst, base.losses[1:]])
    return replace(base, name="dominated classifier", losses=losses, facts={"dominated": 1, "margin": margin})


def all_equal_losses(value=0.3, n_classifiers=4, n_samples=6, n_attacks=5):
    """Every loss the same: every mixture is optimal, at every temperature."""
    losses = np.full((n_classifiers, n_samples, n_attacks), value)
    return Problem(f"all equal {value}", losses, value, value, smoothed_value=value)


def motivating_example(moves=(-1.0, -0.5, 0.0, 0.5, 1.0)):
    """Section 2.1 of the paper: two classifiers on the line, each of adversarial risk 1, the half-half
    mixture 3/4.

    P(Y = +-1) = 1/2; X = 0 when Y = -1, X = +-1 equally when Y = +1; f_1(x) = -x - 1/2, f_2(x) = x - 1/2,
    wrong when y f(x) <= 0; the attacker moves a point by at most 1.
    """
    points, labels = np.array([0.0, 1.0, -1.0]), np.array([-1.0, 1.0, 1.0])
    moved = points[:, np.newaxis] + np.asarray(moves)
    decision = np.stack([-moved - 0.5, moved - 0.5])
    losses = (labels[:, np.newaxis] * decision <= 0.0).astype(np.float64)
    facts = {"single risks": (1.0, 1.0), "half-half risk": 0.75, "standard risks": (0.25, 0.25)}
    return Problem(
        "motivating example", losses, 0.75, 0.75, sample_weight=np.array([0.5, 0.25, 0.25]), facts=facts
    )


def two_zero_one(n_samples=30, n_attacks=3, seed=0):
    """Two classifiers, 0/1 losses: the worst case bends at 1/2 only, so w = 0, 1/2 or 1 is optimal."""
    losses = (np.random.default_rng(seed).random((2, n_samples, n_attacks)) < 0.3).astype(np.float64)
    candidates = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    worst = np.einsum("ck,kij->cij", candidates, losses).max(axis=2).mean(axis=1)
    value = float(worst.min())
    return Problem("two classifiers 0/1", losses, value, value, facts={"worst": worst})


def random_zero_one(n_classifiers=5, n_samples=40, n_attacks=8, seed=0):
    """Independent 0/1 losses; many tied attacks and tied classifiers."""
    losses = np.random.default_rng(seed).random((n_classifiers, n_samples, n_attacks)) < 0.25
    return _by_lp("random 0/1", losses.astype(np.float64))


def random_real(n_classifiers=5, n_samples=40, n_attacks=8, seed=0):
    """Correlated losses in (0, 1), as real classifiers give: sigmoids of a common and a private part."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(1, n_samples, 1))
    private = rng.normal(size=(n_classifiers, n_samples, n_attacks))
    return _by_lp("random real", 1.0 / (1.0 + np.exp(-(common + private))))


def signed_losses(n_classifiers=5, n_samples=30, n_attacks=6, seed=0):
    """Losses of both signs and a value of 0.01, where a relative tolerance asks for much."""
    losses = np.random.default_rng(seed).normal(size=(n_classifiers, n_samples, n_attacks)) - 0.5
    return _by_lp("signed losses", losses)


def near_duplicates(n_classifiers=6, n_samples=30, n_attacks=8, seed=0):
    """Classifiers in pairs 1e-7 apart, half the attacks copied within a sample: near and exact ties."""
    rng = np.random.default_rng(seed)
    base = rng.random((n_classifiers // 2, n_samples, n_attacks))
    base[:, :, n_attacks // 2 :] = base[:, :, : n_attacks - n_attacks // 2]
    losses = np.concatenate([base, base + 1e-7 * rng.random(base.shape)])
    losses[:, :, n_attacks // 2 :] = losses[:, :, : n_attacks - n_attacks // 2]
    return _by_lp("near duplicates", losses)


def ragged(n_classifiers=4, n_samples=25, longest=12, seed=0):
    """Attack sets of different sizes, from a single attack up."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, longest + 1, size=n_samples)
    length[:2] = 1, longest
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    return _by_lp("ragged", rng.random((n_classifiers, offsets[-1])), row_offsets=offsets)


def weighted(n_classifiers=4, n_samples=25, n_attacks=6, seed=0):
    """Sample weights of very different size, one of them 0, that do not sum to 1."""
    rng = np.random.default_rng(seed)
    weight = rng.exponential(size=n_samples) ** 3 * 7.0
    weight[3] = 0.0
    return _by_lp("weighted", rng.random((n_classifiers, n_samples, n_attacks)), sample_weight=weight)


def with_prior(n_classifiers=4, n_samples=25, n_attacks=6, seed=0):
    """A prior over the attacks, uneven by a factor of hundreds; it matters at positive temperatures only."""
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.full(n_attacks, 0.5), size=n_samples) + 1e-3
    prior /= prior.sum(axis=1, keepdims=True)
    return _by_lp("with prior", rng.random((n_classifiers, n_samples, n_attacks)), attack_prior=prior)


def ragged_weighted_prior(seed=0):
    """Everything at once: ragged attack sets, sample weights and a prior per row."""
    base = ragged(seed=seed)
    rng = np.random.default_rng(seed + 1)
    prior = rng.random(base.losses.shape[1]) + 0.1
    length = np.diff(base.row_offsets)
    prior /= np.repeat(np.add.reduceat(prior, base.row_offsets[:-1]), length)
    weight = rng.random(len(length)) + 0.01
    given = {"row_offsets": base.row_offsets, "sample_weight": weight, "attack_prior": prior}
    return _by_lp("ragged, weighted, prior", base.losses, **given)


def single_sample(n_classifiers=5, n_attacks=50, seed=0):
    """One sample: a plain matrix game of classifiers against attacks."""
    return replace(random_real(n_classifiers, 1, n_attacks, seed), name="single sample")


def single_classifier(n_samples=20, n_attacks=6, seed=0):
    """Nothing to choose: the simplex is a point, and the value the classifier's own risk."""
    losses = np.random.default_rng(seed).random((1, n_samples, n_attacks))
    value = float(losses.max(axis=2).mean())
    return Problem("single classifier", losses, value, value)


def single_loss(value=0.7):
    """One classifier, one sample, one attack."""
    return Problem("single loss", np.full((1, 1, 1), value), value, value, smoothed_value=value)


FAMILIES = {
    "one_attack_per_sample": one_attack_per_sample,
    **{f"matching_pennies_{size}": lambda size=size: matching_pennies(size) for size in range(2, 9)},
    "duplicated_classifiers": duplicated_classifiers,
    "dominated_classifier": dominated_classifier,
    "all_equal_losses": all_equal_losses,
    "all_zero_losses": lambda: all_equal_losses(0.0),
    "all_equal_negative": lambda: all_equal_losses(-2.5),
    "motivating_example": motivating_example,
    "two_zero_one": two_zero_one,
    "two_zero_one_other": lambda: two_zero_one(n_attacks=5, seed=3),
    "random_zero_one": random_zero_one,
    "random_real": random_real,
    "random_real_wide": lambda: random_real(12, 25, 80, seed=1),
    "signed_losses": signed_losses,
    "near_duplicates": near_duplicates,
    "ragged": ragged,
    "weighted": weighted,
    "with_prior": with_prior,
    "ragged_weighted_prior": ragged_weighted_prior,
    "single_sample": single_sample,
    "single_classifier": single_classifier,
    "single_loss": single_loss,
}


@cache
def family(name):
    """The member of `FAMILIES` of that name, built once per run; its arrays are read-only."""
    problem = FAMILIES[name]()
    for array in (problem.losses, problem.row_offsets, problem.sample_weight, problem.attack_prior):
        if array is not None:
            array.setflags(write=False)
    return problem
