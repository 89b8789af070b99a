"""Other ways to compute value and gradient of the smoothed loss, each in the layouts that may suit it.

``planes`` is the table as mixsolve stores it, (n_classifiers, n_samples, n_attacks); ``rows`` is its transpose
(n_samples, n_attacks, n_classifiers). Whoever times a peer tries every variant and keeps the fastest; conversions
are free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Answer = tuple[float, Array]
Peer = Callable[[], Answer]
PEERS = ("numpy", "torch eager", "torch mv", "torch.compile", "torch sdpa")


def rows_layout(planes: Array) -> Array:
    """The table with the losses of one row side by side, (n_samples, n_attacks, n_classifiers), copied."""
    return np.ascontiguousarray(np.moveaxis(planes, 0, 2))


def variants(
    peer: str, planes: Array, rows: Array, weights: Array, temperature: float, threads: int
) -> Iterator[tuple[str, Peer]]:
    """(variant name, callable returning value and gradient) for one of :data:`PEERS`."""
    if peer == "numpy":
        yield "planes", numpy_planes(planes, weights, temperature)
        yield "rows", numpy_rows(rows, weights, temperature)
        return
    import torch

    torch.set_num_threads(threads)
    torch.compiler.reset()  # compiled code of earlier shapes would count towards its limit of recompilations
    w = torch.tensor(weights, dtype=torch.float32)
    if peer == "torch sdpa":
        yield "rows, samples as batch", torch_sdpa(torch.from_numpy(rows), w, temperature, heads=False)
        yield "rows, samples as heads", torch_sdpa(torch.from_numpy(rows), w, temperature, heads=True)
    elif peer == "torch mv":
        yield "planes", torch_mv(torch.from_numpy(planes), w, temperature, planes=True)
        yield "rows", torch_mv(torch.from_numpy(rows), w, temperature, planes=False)
    else:
        compiled = peer == "torch.compile"
        yield "planes, formula", torch_formula(torch.from_numpy(planes), w, temperature, 0, compiled)
        yield "rows, formula", torch_formula(torch.from_numpy(rows), w, temperature, 2, compiled)
        yield "planes, autograd", torch_autograd(torch.from_numpy(planes), w, temperature, 0, compiled)
        yield "rows, autograd", torch_autograd(torch.from_numpy(rows), w, temperature, 2, compiled)


def numpy_planes(planes: Array, weights: Array, temperature: float) -> Peer:
    n_classifiers, n_samples, n_attacks = planes.shape
    flat, w = planes.reshape(n_classifiers, -1), weights.astype(np.float32)

    def run() -> Answer:
        value, p = numpy_softmax((w @ flat).reshape(n_samples, n_attacks), temperature)
        return value, flat @ p.reshape(-1) / n_samples

    return run


def numpy_rows(rows: Array, weights: Array, temperature: float) -> Peer:
    n_samples, n_attacks, n_classifiers = rows.shape
    flat, w = rows.reshape(-1, n_classifiers), weights.astype(np.float32)

    def run() -> Answer:
        value, p = numpy_softmax((flat @ w).reshape(n_samples, n_attacks), temperature)
        return value, p.reshape(-1) @ flat / n_samples

    return run


def numpy_softmax(scores: Array, temperature: float) -> tuple[float, Array]:
    """Mean over samples of t log mean_j exp(score / t), and the softmax, computed in the memory of ``scores``."""
    scores *= np.float32(1 / temperature)
    top = scores.max(axis=1, keepdims=True)
    scores -= top
    np.exp(scores, out=scores)
    mass = scores.sum(axis=1, keepdims=True)
    value = temperature * float(np.mean(top + np.log(mass), dtype=np.float64) - math.log(scores.shape[1]))
    scores /= mass
    return value, scores


def torch_mv(table: Any, w: Any, temperature: float, planes: bool) -> Peer:
    """Two matrix-vector products around a softmax over the attacks."""
    import torch

    if planes:
        n_samples, n_attacks = table.shape[1:]
        matrix = table.reshape(table.shape[0], -1).T
    else:
        n_samples, n_attacks = table.shape[:2]
        matrix = table.reshape(-1, table.shape[2])

    def run() -> Answer:
        scores = torch.mv(matrix, w).view(n_samples, n_attacks).mul_(1 / temperature)
        mass = torch.logsumexp(scores, 1)
        p = torch.softmax(scores, 1)
        value = temperature * (float(mass.mean(dtype=torch.float64)) - math.log(n_attacks))
        return value, (torch.mv(matrix.T, p.view(-1)) / n_samples).numpy()

    return run


def torch_formula(table: Any, w: Any, temperature: float, axis: int, compiled: bool) -> Peer:
    """The two formulas as broadcast products and sums over the classifier axis; torch.compile may fuse them."""
    import torch

    attacks = 2 if axis == 0 else 1
    w = w.view(-1, 1, 1) if axis == 0 else w
    others = tuple(dim for dim in range(3) if dim != axis)
    n_samples = table.shape[1 if axis == 0 else 0]

    def formula(table: Any, w: Any) -> tuple[Any, Any]:
        scores = (w * table).sum(axis, keepdim=True) / temperature
        mass = torch.logsumexp(scores, attacks, keepdim=True)
        return mass.mean(), (torch.exp(scores - mass) * table).sum(others) / n_samples

    formula = compile_once(formula) if compiled else formula

    def run() -> Answer:
        with torch.no_grad():
            mass, grad = formula(table, w)
        return temperature * (float(mass) - math.log(table.shape[attacks])), grad.numpy()

    return run


def torch_autograd(table: Any, w: Any, temperature: float, axis: int, compiled: bool) -> Peer:
    """The value as one writes it, the gradient from backward()."""
    import torch

    def smoothed(table: Any, w: Any) -> Any:
        scores = torch.tensordot(w, table, ([0], [axis])) / temperature
        return torch.logsumexp(scores, 1).mean()

    smoothed = compile_once(smoothed) if compiled else smoothed
    leaf = w.clone().requires_grad_()

    def run() -> Answer:
        leaf.grad = None
        mass = smoothed(table, leaf)
        mass.backward()
        value = temperature * (mass.item() - math.log(table.shape[2 if axis == 0 else 1]))
        return value, temperature * leaf.grad.numpy()

    return run


def torch_sdpa(rows: Any, w: Any, temperature: float, heads: bool) -> Peer:
    """Attention with one query per sample, keys = values = the sample's rows: the kernel behind
    ``scaled_dot_product_attention``, called directly because only it returns the log-sum-exp that the value needs."""
    import torch

    n_samples, n_attacks, n_classifiers = rows.shape
    keys = rows[None] if heads else rows[:, None]
    query = w.expand(*keys.shape[:2], 1, n_classifiers).contiguous()
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def run() -> Answer:
        with torch.no_grad():
            response, mass = kernel(query, keys, keys, scale=1 / temperature)[:2]
            value = temperature * (float(mass.mean(dtype=torch.float64)) - math.log(n_attacks))
            return value, response.view(n_samples, n_classifiers).mean(0).numpy()

    return run


def compile_once(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    return torch.compile(function, fullgraph=True, dynamic=False)
