"""The attacks of other packages on a mixture: the right estimand, beside the number that the tool itself reports."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from mixsolve.neural import ARC, Budget, LatticeClimber, Mixture, Union
from mixsolve.neural.adapters import (
    ForeignAttack,
    art_attack,
    foolbox_attack,
    pyautoattack_attack,
    torchattacks_attack,
)
from tests.neural.networks import batch, mixture_of_nets
from tests.neural.packages import package
from tests.refusals import refuse

BUDGET = Budget("linf", 0.08)
pytestmark = pytest.mark.filterwarnings("ignore")  # of the packages, about themselves


def adapter(name):
    tool = package(name)
    if name == "torchattacks":
        return torchattacks_attack(lambda m: tool.PGD(m, eps=0.08, alpha=0.02, steps=10))
    if name == "foolbox":
        return foolbox_attack(tool.attacks.LinfPGD(steps=10, rel_stepsize=0.25))
    if name == "art":
        attack = tool.attacks.evasion.ProjectedGradientDescent
        return art_attack(lambda m: attack(m, eps=0.08, eps_step=0.02, max_iter=10, verbose=False))
    return pyautoattack_attack(version="custom", attacks=["apgd-ce"], seed=0)


@pytest.mark.parametrize("name", ["torchattacks", "foolbox", "art", "pyautoattack"])
def test_a_tool_attacks_the_randomised_classifier(name):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (the tools draw from it)
    mixture = mixture_of_nets(3, [0.5, 0.3, 0.2])
    x, y = batch(mixture, 40)
    points = adapter(name)(mixture, x, y, BUDGET)
    fraction, clean = mixture.fraction(points, y), mixture.fraction(x, y)
    assert (fraction <= clean + 1e-12).all()
    assert fraction.mean() < clean.mean() - 0.1, "it finds something"
    joint = Union((ARC(6), LatticeClimber(30)))(mixture, x, y, BUDGET)
    assert mixture.fraction(joint, y).mean() <= fraction.mean() + 0.02, "and no more than there is"


class Flip(nn.Module):
    """Two classes of a number: the second one beyond a threshold."""

    def __init__(self, threshold, slope):
        super().__init__()
        self.threshold, self.slope = nn.Parameter(torch.tensor(threshold)), slope

    def forward(self, x):
        score = self.slope * (x.flatten(1).sum(dim=1) - self.threshold)
        return torch.stack([-score, score], dim=1)


@pytest.mark.parametrize("name", ["torchattacks", "pyautoattack"])
def test_what_the_tool_reports_is_another_number(name, caplog):
    """Two of three members fail together at 0.55, the third one beyond 0.58. A tool that is set on the average stops
    once its label flips and reports 0 %: the accuracy of the majority. Of the mixture, the third is right there, and
    no point of the ball fools it: the fraction is a third."""
    tool = package(name)
    mixture = Mixture([Flip(0.55, 100.0), Flip(0.55, 100.0), Flip(0.64, 20.0)]).eval()
    x, y = torch.full((4, 1, 1, 1), 0.5), torch.zeros(4, dtype=torch.int64)
    if name == "torchattacks":
        direct = tool.PGD(mixture, eps=0.08, alpha=0.02, steps=10)(x, y)
        ours = torchattacks_attack(lambda m: tool.PGD(m, eps=0.08, alpha=0.02, steps=10))
    else:
        caplog.set_level(logging.CRITICAL)
        options = {"version": "custom", "attacks": ["apgd-ce"], "seed": 0}
        run = tool.AutoAttack(mixture, eps=0.08, norm="Linf", device="cpu", **options)
        direct, _ = run.run_standard_evaluation(x, y, batch_size=4)
        ours = pyautoattack_attack(**options)
    with torch.no_grad():
        reported = (mixture(direct).argmax(dim=1) == y).float().mean()
    assert reported == 0
    fraction = mixture.fraction(ours(mixture, x, y, BUDGET), y)
    torch.testing.assert_close(fraction, torch.full((4,), 1 / 3, dtype=torch.float64))


def test_a_tool_set_to_another_budget_is_refused():
    mixture = mixture_of_nets(2)
    x, y = batch(mixture)

    def far(model, x, y, budget):
        return (x + 3 * budget.radius).clamp(0, 1)

    def reshaped(model, x, y, budget):
        return x.flatten(1)

    with pytest.raises(ValueError, match=r"far must stay within .* got a move of length 0\.2"):
        ForeignAttack("far", far)(mixture, x, y, BUDGET)
    with pytest.raises(ValueError, match="must return shape"):
        ForeignAttack("reshaped", reshaped)(mixture, x, y, BUDGET)


def test_proposals_of_ones_own_are_an_adapter():
    """Random noise as a tool: all targets are asked, the average first."""
    mixture = mixture_of_nets(3, [0.5, 0.5, 0.0])
    x, y = batch(mixture)
    asked = []

    def noise(model, x, y, budget):
        asked.append(model.weights.tolist())
        return budget.project(x + budget.radius * torch.sign(torch.randn_like(x)), x)

    points = ForeignAttack("noise", noise)(mixture, x, y, Budget("linf", 0.01))
    assert asked == [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert (mixture.fraction(points, y) <= mixture.fraction(x, y) + 1e-12).all()


def test_what_a_tool_cannot_do_is_refused():
    mixture = mixture_of_nets(2)
    x, y = batch(mixture)
    unbounded = Budget("linf", 0.08, (-1.0, 1.0))
    for attack in (torchattacks_attack(lambda m: None), pyautoattack_attack()):
        if attack.name == "pyautoattack":
            package("pyautoattack")
        refuse(
            ValueError,
            "budget.bounds",
            r"\(0.0, 1.0\)",
            r"\(-1.0, 1.0\)",
            lambda a=attack: a(mixture, x, y, unbounded),
        )
    refuse(ValueError, "eps", "budget", "0.1", lambda: pyautoattack_attack(eps=0.1))
    refuse(TypeError, "attack", "LinfPGD", "int", lambda: foolbox_attack(int))
