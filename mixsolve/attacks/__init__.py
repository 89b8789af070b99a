"""Attacks to fill a loss table with: uniform samples of a ball, and the losses of classifiers on them.

``UniformBall`` draws the perturbed inputs, ``loss_table`` asks every classifier about every one of them. Any
other attack takes part by offering ``n_attacks`` and ``points`` (see :class:`Attack`), or as a plain array of
perturbed inputs. ``LinearBestResponse`` needs no samples: it attacks linear classifiers as well as a ball allows.
"""

from __future__ import annotations

from mixsolve.attacks.balls import Norm, sample_ball, sample_ball_in_box
from mixsolve.attacks.linear import LinearBestResponse
from mixsolve.attacks.scoring import Attack, Loss, loss_table
from mixsolve.attacks.uniform import UniformBall

__all__ = [
    "Attack",
    "LinearBestResponse",
    "Loss",
    "Norm",
    "UniformBall",
    "loss_table",
    "sample_ball",
    "sample_ball_in_box",
]
