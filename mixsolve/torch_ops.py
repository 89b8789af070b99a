"""The worst case of a mixture as differentiable torch operations, for robust training of its classifiers and weights.

Both read the losses once forward; backward, they read them once more and write the gradient by the losses, with no
tensor of the table's size in between. They are custom operations to torch: `torch.compile` leaves them whole.
"""

from typing import Any

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("mixsolve.torch_ops needs torch: pip install mixsolve[torch]") from error
from torch import Tensor

from mixsolve.passes import loss_gradient, run_pass
from mixsolve.table import LossTable, check_temperature

__all__ = ["smoothed_worst_case", "worst_case"]


def smoothed_worst_case(
    losses: Tensor,
    weights: Tensor,
    temperature: float | Tensor,
    row_offsets: Tensor | None = None,
    sample_weight: Tensor | None = None,
    attack_prior: Tensor | None = None,
) -> Tensor:
    """Smoothed worst-case loss of a mixture, differentiable in the losses and the weights.

    ``value = sum_i s_i t_i log sum_j u_ij exp(<weights, losses[:, i, j]> / t_i)``, whose derivative is
    ``weights[k] s_i p_ij`` by ``losses[k, i, j]`` and ``sum_i s_i sum_j p_ij losses[:, i, j]`` by the weights, with p_i
    the softmax of the scores, prior included.

    First derivatives are exact up to rounding; second ones are refused.

    Parameters
    ----------
    losses : Tensor, (n_classifiers, n_samples, n_attacks), or (n_classifiers, n_rows) with `row_offsets`
        Finite; float64, float32, float16 or bfloat16. Read as they are stored if attacks are contiguous.
    weights : Tensor, (n_classifiers,)
        Any finite weights; a mixture when on the simplex. Not renormalised.
    temperature : float or Tensor, () or (n_samples,)
        > 0, in units of the losses. Not differentiable.
    row_offsets : Tensor of int64, (n_samples + 1,), optional
    sample_weight : Tensor, (n_samples,), optional
    attack_prior : Tensor, one plane, optional
        See `mixsolve.LossTable`. Not differentiable.

    Returns
    -------
    Tensor, ()
        On the device of the losses; float64 for float64 losses, else float32.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what is required and what was given.

    Notes
    -----
    Scores are float32 for losses of 32 bits or less, under autocast too; sums over samples are float64.

    References
    ----------
    Meunier et al., "Mixed Nash Equilibria in the Adversarial Examples Game", ICML 2021, eq. (7).

    Examples
    --------
    >>> import torch
    >>> from mixsolve.torch_ops import smoothed_worst_case
    >>> losses = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]], requires_grad=True)
    >>> smoothed_worst_case(losses, torch.tensor([0.5, 0.5]), temperature=0.1).backward()
    >>> losses.grad
    tensor([[[0.2500, 0.2500]],
    <BLANKLINE>
            [[0.2500, 0.2500]]])
    """
    level = _fixed(temperature, "temperature", weights)
    if not torch.compiler.is_compiling() and not bool((level > 0).all()):
        raise ValueError("`temperature` must be > 0; got 0 or less: at 0 use worst_case, the limit")
    return _value(losses, weights, level, row_offsets, sample_weight, attack_prior)


def worst_case(
    losses: Tensor,
    weights: Tensor,
    row_offsets: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Worst-case loss of a mixture, ``sum_i s_i max_j <weights, losses[:, i, j]>``, with its subgradients.

    The best attack of each sample, the lowest index on ties, carries the derivative: `smoothed_worst_case` at
    temperature 0. Parameters, result and errors are those of `smoothed_worst_case`.

    Examples
    --------
    >>> import torch
    >>> from mixsolve.torch_ops import worst_case
    >>> losses = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> worst_case(losses, torch.tensor([0.75, 0.25]))
    tensor(0.7500)
    """
    return _value(losses, weights, _fixed(0.0, "temperature", weights), row_offsets, sample_weight, None)


def _value(
    losses: Tensor,
    weights: Tensor,
    temperature: Tensor,
    row_offsets: Tensor | None,
    sample_weight: Tensor | None,
    attack_prior: Tensor | None,
) -> Tensor:
    belongings = (
        _fixed(row_offsets, "row_offsets", weights),
        _fixed(sample_weight, "sample_weight", weights),
        _fixed(attack_prior, "attack_prior", weights),
    )
    value, _ = _forward(losses, weights, temperature, *belongings)
    result: Tensor = value
    return result


def _fixed(given: Any, name: str, weights: Tensor) -> Any:
    """An argument as a tensor that no derivative is asked for."""
    if given is None:
        return None
    if isinstance(given, (int, float)):
        return torch.full((), given, dtype=torch.float64)
    tensor = torch.as_tensor(given)
    if tensor.requires_grad:
        raise ValueError(
            f"`{name}` must not require a gradient: only `losses` and `weights` have one; detach it"
        )
    return tensor


_BELONGINGS = "Tensor temperature, Tensor? row_offsets, Tensor? sample_weight, Tensor? attack_prior"


@torch.library.custom_op(
    "mixsolve::worst_case",
    mutates_args=(),
    schema=f"(Tensor losses, Tensor weights, {_BELONGINGS}) -> (Tensor, Tensor)",
)
def _forward(
    losses: Tensor,
    weights: Tensor,
    temperature: Tensor,
    row_offsets: Tensor | None,
    sample_weight: Tensor | None,
    attack_prior: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Value and gradient in the weights."""
    table = _table(losses, row_offsets, sample_weight, attack_prior)
    query, level = _question(table, weights, temperature)
    found = run_pass(table, query[None], np.broadcast_to(level, (1, *np.shape(level))))
    value = torch.tensor(found.value[0], dtype=_value_type(losses), device=losses.device)
    return value, torch.from_numpy(found.gradient[0]).to(weights)


@_forward.register_fake
def _(losses: Tensor, weights: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return losses.new_empty((), dtype=_value_type(losses)), weights.new_empty(weights.shape)


@torch.library.custom_op(
    "mixsolve::worst_case_by_losses",
    mutates_args=(),
    schema=f"(Tensor scale, Tensor losses, Tensor weights, {_BELONGINGS}) -> Tensor",
)
def _by_losses(
    scale: Tensor,
    losses: Tensor,
    weights: Tensor,
    temperature: Tensor,
    row_offsets: Tensor | None,
    sample_weight: Tensor | None,
    attack_prior: Tensor | None,
) -> Tensor:
    """The derivative of the value by the losses, times a number."""
    table = _table(losses, row_offsets, sample_weight, attack_prior)
    query, level = _question(table, weights, temperature)
    gradient = torch.empty_like(losses, memory_format=torch.contiguous_format)
    loss_gradient(table, query, level, gradient, scale=float(scale))
    return gradient


@_by_losses.register_fake
def _(scale: Tensor, losses: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(losses, memory_format=torch.contiguous_format)


@torch.library.custom_op("mixsolve::worst_case_by_weights", mutates_args=())
def _by_weights(scale: Tensor, gradient: Tensor, losses: Tensor, weights: Tensor) -> Tensor:
    """The derivative of the value by the weights, times a number.

    An operation of its own, of the losses and weights too, so that a second derivative is refused and not taken for 0.
    """
    return scale.to(gradient) * gradient


@_by_weights.register_fake
def _(scale: Tensor, gradient: Tensor, losses: Tensor, weights: Tensor) -> Tensor:
    return torch.empty_like(gradient)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, output[1])


def _differentiate(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, gradient = ctx.saved_tensors
    by_losses = _by_losses(scale, *inputs) if ctx.needs_input_grad[0] else None
    by_weights = _by_weights(scale, gradient, *inputs[:2]) if ctx.needs_input_grad[1] else None
    return by_losses, by_weights, None, None, None, None


_forward.register_autograd(_differentiate, setup_context=_keep)


def _table(losses: Tensor, row_offsets: Any, sample_weight: Any, attack_prior: Any) -> LossTable:
    if not losses.dtype.is_floating_point:
        raise TypeError(f"`losses` must be a tensor of floating-point numbers; got {losses.dtype}")
    belongings = (None if given is None else given.detach().cpu() for given in (row_offsets, sample_weight))
    offsets, weight = belongings
    prior = None if attack_prior is None else _wide(attack_prior)
    return LossTable(losses, row_offsets=offsets, sample_weight=weight, attack_prior=prior)


def _wide(given: Tensor) -> Any:
    """A small tensor on the host, in a type that NumPy knows."""
    host = given.detach().cpu()
    return (host.float() if host.dtype in (torch.float16, torch.bfloat16) else host).numpy()


def _question(table: LossTable, weights: Tensor, temperature: Tensor) -> tuple[Any, Any]:
    if weights.shape != (table.n_classifiers,):
        raise ValueError(
            f"`weights` must have shape ({table.n_classifiers},); got shape {tuple(weights.shape)}"
        )
    query = _wide(weights).astype(float)
    if not np.isfinite(query).all():
        raise ValueError(f"`weights` must be finite; got {query[~np.isfinite(query)][0]}")
    level = check_temperature(_wide(temperature), table.n_samples)
    return query, level


def _value_type(losses: Tensor) -> torch.dtype:
    return torch.promote_types(losses.dtype, torch.float32)
