"""Which source answers for the losses that `fit_mixture` was given: a table, a stream, a group, an oracle, a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.distributed import GroupReducer, hold_together
from mixsolve.inputs import check_integer
from mixsolve.proxy import as_proxy
from mixsolve.reduction import ALONE
from mixsolve.results import MixtureResult
from mixsolve.solvers.chunked_source import ChunkedSource
from mixsolve.solvers.oracle import OracleSource
from mixsolve.solvers.row_generation import RowGeneration
from mixsolve.solvers.screened_source import ScreenedSource
from mixsolve.solvers.source import TableSource
from mixsolve.streams import check_memory_limit, is_stream, open_stream
from mixsolve.table import as_table

if TYPE_CHECKING:
    from mixsolve.solvers.protocol import Solver
    from mixsolve.solvers.source import Source


def open_source(
    losses: Any,
    own: dict[str, Any],
    *,
    solver: Solver | None,
    start: Any,
    threads: int | None,
    seed: int,
    memory_limit: int | None,
) -> Source:
    """The source of one process; `own` has row offsets, sample weights and prior as the caller gave them.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what is required and what was given.
    """
    if is_stream(losses):
        limit = check_memory_limit(memory_limit)
        return ChunkedSource(open_stream(losses, **own, memory_limit=limit, seed=seed), threads, ALONE)
    if not _is_oracle(losses):
        return TableSource(as_table(losses, **own), threads)
    for name in ("row_offsets", "attack_prior"):
        if own[name] is not None:
            raise ValueError(
                f"`{name}` must be None when `losses` is an oracle; got {type(own[name]).__name__}"
            )
    sample_weight = own["sample_weight"]
    if sample_weight is None:
        sample_weight = getattr(losses, "sample_weight", None)
    known = getattr(losses, "n_classifiers", None)
    if known is None and start is None:
        raise ValueError("`start` must be given when `losses` is an oracle without `n_classifiers`; got None")
    size = np.size(start.weights if isinstance(start, MixtureResult) else start) if known is None else known
    remembers = solver is None or getattr(solver, "remembers", False)
    return OracleSource(
        losses, check_integer("n_classifiers", size, 1), sample_weight, remembers=bool(remembers)
    )


def open_shared_source(
    losses: Any,
    own: dict[str, Any],
    reducer: GroupReducer,
    *,
    threads: int | None,
    seed: int,
    memory_limit: int | None,
) -> tuple[Source, str]:
    """The source of one process of a group, and the type of its losses."""
    table, kind = hold_together(losses, reducer, **own, memory_limit=memory_limit, seed=seed)
    return ChunkedSource(table, threads, reducer), kind


def open_screened_source(
    losses: Any,
    proxy: Any,
    own: dict[str, Any],
    *,
    solver: Solver | None,
    temperature: Any,
    threads: int | None,
) -> Source:
    """The source of a table with a proxy.

    Raises
    ------
    TypeError, ValueError
        If the losses are no table, the temperature is positive, the solver is not RowGeneration, or the proxy does not
        fit.
    """
    if is_stream(losses) or _is_oracle(losses):
        raise ValueError(
            "`losses` must be an array or a LossTable when there is a `proxy`: rows are looked up in it; "
            f"got {type(losses).__name__}; LossTable(numpy.load(path, mmap_mode='r')) makes one of a file"
        )
    if np.any(np.asarray(temperature) != 0):
        raise ValueError(
            f"`temperature` must be 0 when there is a `proxy`: a softmax needs every loss; got {temperature}"
        )
    if solver is not None and not isinstance(solver, RowGeneration):
        raise ValueError(f"`solver` must be RowGeneration when there is a `proxy`; got {solver!r}")
    return ScreenedSource(as_proxy(proxy, as_table(losses, **own), threads), threads)


def _is_oracle(losses: Any) -> bool:
    return callable(losses) and not hasattr(losses, "__array__") and not hasattr(losses, "__dlpack__")
