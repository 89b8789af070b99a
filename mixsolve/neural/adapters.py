"""Attacks of other packages on a mixture: torchattacks, foolbox, ART and pyautoattack.

Handed a `Mixture`, such a tool sees its log-probabilities: it attacks the deterministic classifier that averages the
members' predictions, stops at a sample as soon as the label of that average flips, and reports the accuracy of that
classifier. The accuracy of the *randomised* classifier at the same points is another number, and one point at which
every member fails is what its attacker wants. So an adapter lets the tool attack the average and every member alone,
takes the points it proposes, and scores each by what it does to the mixture: the fraction of the weight that is right.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mixsolve.attacks.balls import Norm
from mixsolve.neural.attack import Attack, Scene
from mixsolve.neural.budget import Budget, lengths
from mixsolve.neural.mixture import Mixture

Propose = Callable[[nn.Module, Tensor, Tensor, Budget], Tensor]
"""Of a deterministic classifier in evaluation mode, inputs, labels and budget: attacked inputs."""

TOLERANCE = 1e-5
"""How far past the radius, in units of it, a proposal may lie: rounding. It is projected."""


@dataclass(frozen=True)
class ForeignAttack(Attack):
    """Points that another package proposes, kept by the lowest fraction of the mixture that is right.

    Attributes
    ----------
    name : str
        For messages and reports.
    propose : callable
        ``propose(model, x, y, budget) -> x_adv`` for one deterministic model that returns logits; it is called with
        the mixture's log-probabilities, then with every member that has weight.

    Raises
    ------
    ValueError
        When a proposal lies outside the budget: the tool was set to another radius or norm.
    """

    name: str
    propose: Propose

    def search(self, scene: Scene) -> None:
        for model in _targets(scene.mixture):
            rows = scene.open()
            if not rows.numel():
                return
            x = scene.x[rows]
            with torch.enable_grad():
                points = self.propose(model, x, scene.y[rows], scene.budget).detach().to(x)
            self._check(points, x, scene.budget)
            points = scene.settle(rows, points)
            scene.offer(rows, points, scene.look(rows, points))

    def _check(self, points: Tensor, x: Tensor, budget: Budget) -> None:
        if points.shape != x.shape:
            raise ValueError(f"{self.name} must return shape {tuple(x.shape)}; got {tuple(points.shape)}")
        farthest = float(lengths(points - x, Norm(budget.norm)).max())
        if not farthest <= budget.radius * (1 + TOLERANCE) + TOLERANCE * budget.radius:
            raise ValueError(
                f"{self.name} must stay within {budget}: give it the same norm and radius; "
                f"got a move of length {farthest}"
            )


def torchattacks_attack(factory: Callable[[nn.Module], Any]) -> ForeignAttack:
    """An attack of torchattacks: ``torchattacks_attack(lambda model: torchattacks.PGD(model, eps=8/255))``.

    Parameters
    ----------
    factory : callable
        From a model to the attack on it, set to the radius of the budget; its inputs lie in [0, 1].
    """

    def propose(model: nn.Module, x: Tensor, y: Tensor, budget: Budget) -> Tensor:
        _require_unit_box("torchattacks", budget)
        return factory(model)(x, y)  # type: ignore[no-any-return]

    return ForeignAttack("torchattacks", propose)


def foolbox_attack(attack: Any) -> ForeignAttack:
    """An attack of foolbox, such as ``foolbox.attacks.LinfPGD(steps=40)``; the budget sets epsilon and the bounds."""
    _require("foolbox", attack, "run", "an attack such as foolbox.attacks.LinfPGD()")

    def propose(model: nn.Module, x: Tensor, y: Tensor, budget: Budget) -> Tensor:
        from foolbox.models.pytorch import PyTorchModel

        view = PyTorchModel(model, bounds=budget.bounds, device=x.device)
        _, clipped, _ = attack(view, x, y, epsilons=budget.radius)
        return clipped  # type: ignore[no-any-return]

    return ForeignAttack("foolbox", propose)


def art_attack(factory: Callable[[Any], Any]) -> ForeignAttack:
    """An evasion attack of ART, the adversarial-robustness-toolbox.

    Parameters
    ----------
    factory : callable
        From an ``art.estimators.classification.PyTorchClassifier`` to the attack on it, set to the norm and radius of
        the budget: ``lambda model: ProjectedGradientDescent(model, eps=0.1, eps_step=0.02)``.
    """

    def propose(model: nn.Module, x: Tensor, y: Tensor, budget: Budget) -> Tensor:
        from art.estimators.classification import PyTorchClassifier

        with torch.no_grad():
            n_classes = model(x[:1]).shape[1]
        view = PyTorchClassifier(
            model=model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=n_classes,
            clip_values=budget.bounds,
            device_type="cpu" if x.device.type == "cpu" else "gpu",
        )
        points = factory(view).generate(x=x.cpu().numpy(), y=y.cpu().numpy())
        return torch.from_numpy(points).to(x)

    return ForeignAttack("ART", propose)


def pyautoattack_attack(**options: Any) -> ForeignAttack:
    """AutoAttack as pyautoattack has it; norm and radius come from the budget, other options are passed on.

    ``pyautoattack_attack(version="custom", attacks=["apgd-ce", "fab"], seed=0)``
    """
    for name in ("eps", "norm", "model", "device"):
        if name in options:
            raise ValueError(f"`{name}` must be left to the budget and the mixture; got {options[name]!r}")

    def propose(model: nn.Module, x: Tensor, y: Tensor, budget: Budget) -> Tensor:
        import pyautoattack

        _require_unit_box("pyautoattack", budget)
        norm = "Linf" if budget.norm is Norm.LINF else "L2"
        tool = pyautoattack.AutoAttack(model, eps=budget.radius, norm=norm, device=x.device, **options)
        points, _ = tool.run_standard_evaluation(x, y, batch_size=len(x))
        return points  # type: ignore[no-any-return]

    return ForeignAttack("pyautoattack", propose)


def _targets(mixture: Mixture) -> Iterator[nn.Module]:
    """The deterministic classifiers that a tool is set on: the average of the members, then each alone."""
    yield mixture
    if mixture.n_members > 1:
        for number, weight in enumerate(mixture.weights.tolist()):
            if weight > 0:
                one = torch.zeros(mixture.n_members)
                one[number] = 1.0
                yield mixture.reweighed(one)


def _require(tool: str, given: Any, method: str, wanted: str) -> None:
    if inspect.isclass(given) or not hasattr(given, method):
        raise TypeError(f"`attack` must be {wanted} of {tool}; got {given!r}")


def _require_unit_box(tool: str, budget: Budget) -> None:
    if budget.bounds != (0.0, 1.0):
        raise ValueError(f"`budget.bounds` must be (0.0, 1.0), all that {tool} knows; got {budget.bounds}")
