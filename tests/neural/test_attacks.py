"""What every attack promises: its budget, its randomness, what it keeps; and the closed form of a linear member."""

import numpy as np
import pytest
import torch

from mixsolve.neural import APGD, ARC, PGD, AttackLoss, Budget, Keep, LatticeClimber, Start, Union
from mixsolve.neural.attack import Attack
from mixsolve.neural.noise import Noise
from tests.neural.linear import LinearGame
from tests.neural.networks import batch, mixture_of_nets
from tests.refusals import refuse

ATTACKS = [
    PGD(6, restarts=2),
    PGD(6, keep=Keep.LAST),
    PGD(6, loss=AttackLoss.KL, start=Start.GAUSSIAN, keep=Keep.LAST),
    PGD(6, loss=AttackLoss.DLR, keep=Keep.LOSS, start=Start.CLEAN),
    APGD(8, restarts=2),
    APGD(8, loss=AttackLoss.DLR),
    APGD(8, keep=Keep.LAST),
    ARC(4),
    LatticeClimber(8),
    Union((PGD(4), ARC(2), LatticeClimber(4))),
]
BUDGETS = [Budget("linf", 0.08), Budget("l2", 0.5), Budget("l2", 0.5, (-np.inf, np.inf))]
IDS = [f"{type(attack).__name__}-{number}" for number, attack in enumerate(ATTACKS)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("budget", BUDGETS, ids=["linf", "l2", "unbounded"])
@pytest.mark.parametrize("attack", ATTACKS, ids=IDS)
def test_points_stay_in_ball_and_box_and_come_from_the_generator(attack, budget):
    mixture = mixture_of_nets(3, [0.5, 0.3, 0.2])
    x, y = batch(mixture)
    points = attack(mixture, x, y, budget, generator=seeded())
    order = np.inf if budget.norm.value == "linf" else 2
    moved = torch.linalg.vector_norm((points - x).flatten(1).double(), ord=order, dim=1)
    assert moved.max() <= budget.radius * (1 + 1e-5)  # float32: an ulp of 1 is 6e-8, of 36 entries together
    assert moved.max() > 0
    assert points.min() >= budget.bounds[0]
    assert points.max() <= budget.bounds[1]
    torch.testing.assert_close(attack(mixture, x, y, budget, generator=seeded()), points, rtol=0, atol=0)


@pytest.mark.parametrize("attack", [PGD(6), PGD(6, keep=Keep.LAST), APGD(8)], ids=["PGD", "LAST", "APGD"])
def test_another_seed_draws_other_points(attack):
    mixture = mixture_of_nets(2)
    x, y = batch(mixture)
    budget = Budget("l2", 0.5)
    first, second = (attack(mixture, x, y, budget, generator=seeded(s)) for s in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("attack", ATTACKS, ids=IDS)
def test_a_sample_meets_the_same_attack_in_any_batch(attack):
    """Random starts belong to samples, not to places in a batch: what leaves it changes nothing for the rest.

    In float64: sums over a batch of another size round differently, and that is all.
    """
    mixture = mixture_of_nets(2, dtype=torch.float64)
    x, y = batch(mixture, dtype=torch.float64)
    budget, seed = Budget("linf", 0.08), 5
    noise = Noise(seed, torch.arange(len(x)))
    whole = attack.run(mixture, x, y, budget, noise).points
    part = torch.tensor([3, 17, 30])
    alone = attack.run(mixture, x[part], y[part], budget, Noise(seed, part)).points
    torch.testing.assert_close(alone, whole[part], rtol=0, atol=1e-9)


def test_fraction_keeps_the_lowest_fraction_and_loss_the_highest_loss():
    mixture = mixture_of_nets(3, [0.5, 0.3, 0.2])
    x, y = batch(mixture, 64)
    budget = Budget("linf", 0.15)
    by = {keep: PGD(15, keep=keep)(mixture, x, y, budget, generator=seeded()) for keep in Keep}
    fraction = {keep: mixture.fraction(points, y) for keep, points in by.items()}
    loss = {keep: mixture.expected_loss(points, y) for keep, points in by.items()}
    assert (loss[Keep.LOSS] >= loss[Keep.LAST] - 1e-6).all()
    assert (fraction[Keep.FRACTION] <= fraction[Keep.LAST] + 1e-12).all()
    assert (fraction[Keep.FRACTION] <= fraction[Keep.LOSS] + 1e-12).all()
    assert (fraction[Keep.FRACTION] < fraction[Keep.LOSS]).any(), "highest loss is not lowest fraction"
    assert (fraction[Keep.FRACTION] <= mixture.fraction(x, y) + 1e-12).all(), "the input is a point too"


def test_samples_drop_out_once_nobody_is_right():
    """Counted in points looked at: a sample whose input already fools all members costs one look."""
    mixture = mixture_of_nets(2)
    x, y = batch(mixture, 40)
    wrong = (y + 1) % 4
    lost = mixture.fraction(x, wrong) == 0
    assert 0 < lost.sum() < 40, "the batch has both kinds"
    noise = Noise(0, torch.arange(40))
    tiny = Budget("linf", 1e-6)  # changes nothing: the others are attacked to the end
    found = PGD(10).run(mixture, x, wrong, tiny, noise)
    # the clean look, ten steps and a last look for the others
    assert found.looks == 40 + 11 * int((~lost).sum())
    assert PGD(10, keep=Keep.LAST).run(mixture, x, wrong, tiny, noise).looks == 400


@pytest.mark.parametrize(
    "attack", [PGD(4), APGD(4), ARC(2), LatticeClimber(4), Union((PGD(4), ARC(2)))], ids=repr
)
def test_a_batch_that_is_lost_already_costs_one_look(attack):
    mixture = mixture_of_nets(2)
    x, y = batch(mixture, 40)
    lost = mixture.fraction(x, (y + 1) % 4) == 0
    n_lost = int(lost.sum())
    assert n_lost > 0
    found = attack.run(mixture, x[lost], (y[lost] + 1) % 4, Budget(), Noise(0, torch.arange(n_lost)))
    assert found.looks == n_lost
    assert torch.equal(found.points, x[lost])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    "attack", [PGD(10), APGD(20), ARC(4), LatticeClimber(30)], ids=["PGD", "APGD", "ARC", "climber"]
)
def test_one_linear_member_falls_as_the_closed_form_says(attack, norm):
    """It can be fooled if and only if its margin is at most the radius times the dual norm of its normal."""
    game = LinearGame(0, 1, 400, 20, norm, 0.3 if norm == "l2" else 0.06)
    x, y = game.tensors
    points = attack(game.mixture, x, y, game.budget, generator=seeded())
    signed = (2 * game.y - 1) * (game.x @ game.normals[0] - game.offsets[0])
    dual = np.abs(game.normals[0]).sum() if norm == "linf" else np.linalg.norm(game.normals[0])
    reach = game.budget.radius * dual
    decided = np.abs(signed - reach) > 1e-3 * reach  # nearer than that, an iterate may stop short of it
    fooled = game.mixture.fraction(points, y).numpy() == 0
    np.testing.assert_array_equal(fooled[decided], (signed <= reach)[decided])
    assert 0.05 < fooled.mean() < 0.95


def test_a_start_is_where_the_search_begins():
    mixture = mixture_of_nets(2)
    x, y = batch(mixture)
    begin = (x + 0.05).clamp(0, 1)
    once = PGD(1, step_size=1e-30, keep=Keep.LAST)(mixture, x, y, Budget("linf", 0.1), start=begin)
    torch.testing.assert_close(once, begin, rtol=0, atol=1e-7)


def test_a_union_is_at_least_as_good_as_its_parts():
    mixture = mixture_of_nets(3, [0.5, 0.3, 0.2])
    x, y = batch(mixture, 64)
    budget, parts = Budget("linf", 0.08), (PGD(8), ARC(4), LatticeClimber(12))
    joint = mixture.fraction(Union(parts)(mixture, x, y, budget, generator=seeded()), y)
    first = mixture.fraction(parts[0].run(mixture, x, y, budget, Noise(0, torch.arange(64))).points, y)
    assert joint.mean() < mixture.fraction(x, y).mean()
    for part in parts[1:]:  # these draw nothing
        assert (joint <= mixture.fraction(part(mixture, x, y, budget), y) + 1e-12).all()
    assert joint.mean() <= first.mean() + 1e-12


def test_an_attack_that_leaves_its_budget_is_caught():
    class Runaway(Attack):
        def search(self, scene):
            scene.points = scene.x + 2 * scene.budget.radius

    mixture = mixture_of_nets(2)
    x, y = batch(mixture)
    with pytest.raises(AssertionError, match="left its budget"):
        Runaway()(mixture, x, y, Budget(bounds=(-np.inf, np.inf)))
    with pytest.raises(AssertionError, match="left its budget"):
        Runaway()(mixture, x, y, Budget())


def test_dlr_is_free_of_the_scale_of_the_logits():
    logits = torch.tensor([[3.0, 1.0, 0.0, -2.0], [0.0, 2.0, 1.0, 5.0]])
    labels = torch.tensor([0, 1])
    values = AttackLoss.DLR.of(logits, labels)
    # -(3 - 1) / (3 - 0) and -(2 - 5) / (5 - 1)
    torch.testing.assert_close(values, torch.tensor([-2 / 3, 3 / 4]))
    torch.testing.assert_close(AttackLoss.DLR.of(100 * logits, labels), values)
    refuse(ValueError, "loss", "3 classes", "2", lambda: AttackLoss.DLR.of(logits[:, :2], labels))


def test_names_stand_for_choices():
    assert PGD(3, keep="last", loss="dlr", start="clean") == PGD(
        3, keep=Keep.LAST, loss=AttackLoss.DLR, start=Start.CLEAN
    )
    assert Budget("l2", 1.0) == Budget(Budget("l2").norm, 1.0)


def test_bad_input_is_refused():
    mixture = mixture_of_nets(2)
    x, y = batch(mixture)
    run = PGD(2)
    refuse(TypeError, "x", "floating", "int64", lambda: run(mixture, y[:, None], y, Budget()))
    refuse(ValueError, "x", "bounds", "2.0", lambda: run(mixture, 2 * torch.ones_like(x), y, Budget()))
    refuse(ValueError, "x", r"\(n, \.\.\.\)", r"\(0,", lambda: run(mixture, x[:0], y[:0], Budget()))
    refuse(ValueError, "y", r"\(32,\)", r"\(3,\)", lambda: run(mixture, x, y[:3], Budget()))
    refuse(ValueError, "norm", "linf", "l1", lambda: Budget("l1"))
    refuse(ValueError, "norm", "linf", "3", lambda: Budget(3))
    refuse(ValueError, "radius", "> 0", "0", lambda: Budget(radius=0))
    refuse(ValueError, "bounds", "lowest < highest", r"\(1, 0\)", lambda: Budget(bounds=(1, 0)))
    refuse(ValueError, "steps", ">= 1", "0", lambda: PGD(0))
    refuse(TypeError, "restarts", "integer", "1.5", lambda: APGD(restarts=1.5))
    refuse(ValueError, "step_size", "> 0", "-1", lambda: PGD(step_size=-1))
    refuse(ValueError, "lengths", "positive", r"\(\)", lambda: ARC(lengths=()))
    refuse(ValueError, "overshoot", ">= 0", "-1", lambda: ARC(overshoot=-1))
    refuse(ValueError, "attacks", "FRACTION", "LAST", lambda: Union((PGD(keep=Keep.LAST),)))
    refuse(ValueError, "attacks", "FRACTION", "none", lambda: Union(()))
