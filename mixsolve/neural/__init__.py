"""Mixtures of neural networks on torch: train them, attack them, weigh them exactly.

A thin layer: models, data and loops stay torch objects of your own. Needs ``pip install mixsolve[torch]``.
"""

from __future__ import annotations

try:
    import torch as _torch
except ImportError as error:
    raise ImportError("mixsolve.neural needs torch: pip install mixsolve[torch]") from error

from mixsolve.attacks.balls import Norm
from mixsolve.neural.apgd import APGD
from mixsolve.neural.arc import ARC
from mixsolve.neural.attack import Attack, Keep, Union
from mixsolve.neural.budget import Budget
from mixsolve.neural.climber import LatticeClimber
from mixsolve.neural.evaluation import evaluate, standard_attacks
from mixsolve.neural.losses import AttackLoss
from mixsolve.neural.mixture import Mixture
from mixsolve.neural.pgd import PGD, Start
from mixsolve.neural.plan import (
    SGD,
    AdversarialTraining,
    Augmentation,
    Order,
    Precision,
    Selection,
    StepDecay,
    Trades,
    TrainingPlan,
    WeightPhase,
)
from mixsolve.neural.processes import join_torchrun
from mixsolve.neural.report import EvaluationReport
from mixsolve.neural.training import TrainingResult, load_mixture, train_mixture

del _torch

__all__ = [
    "APGD",
    "ARC",
    "PGD",
    "SGD",
    "AdversarialTraining",
    "Attack",
    "AttackLoss",
    "Augmentation",
    "Budget",
    "EvaluationReport",
    "Keep",
    "LatticeClimber",
    "Mixture",
    "Norm",
    "Order",
    "Precision",
    "Selection",
    "Start",
    "StepDecay",
    "Trades",
    "TrainingPlan",
    "TrainingResult",
    "Union",
    "WeightPhase",
    "evaluate",
    "join_torchrun",
    "load_mixture",
    "standard_attacks",
    "train_mixture",
]
