"""The front door: `fit_mixture`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.distributed import GroupReducer, common_temperature
from mixsolve.inputs import check_integer, check_temperature, check_threads
from mixsolve.reduction import ALONE, Reducer, failing_together
from mixsolve.results import AttackStrategy, MixtureResult, Progress
from mixsolve.simplex import check_simplex
from mixsolve.solvers.checkpoint import Checkpoint
from mixsolve.solvers.compressed import compressing
from mixsolve.solvers.double_oracle import DoubleOracle
from mixsolve.solvers.driver import Driver
from mixsolve.solvers.fista import Fista
from mixsolve.solvers.journal import Journal
from mixsolve.solvers.limits import Limits
from mixsolve.solvers.newton import Newton
from mixsolve.solvers.row_generation import RowGeneration
from mixsolve.sources import open_screened_source, open_shared_source, open_source
from mixsolve.streams import check_memory_limit, is_stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mixsolve.chunks import Chunks
    from mixsolve.solvers.protocol import Solver
    from mixsolve.solvers.source import Source
    from mixsolve.table import LossTable


def fit_mixture(
    losses: Any,
    *,
    temperature: ArrayLike = 0.0,
    solver: Solver | None = None,
    row_offsets: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    attack_prior: ArrayLike | None = None,
    tol: float = 1e-6,
    atol: float = 0.0,
    pass_limit: int | None = None,
    time_limit: float | None = None,
    start: ArrayLike | MixtureResult | None = None,
    threads: int | None = None,
    seed: int = 0,
    verbose: bool = False,
    callback: Callable[[Progress], bool | None] | None = None,
    proxy: Any = None,
    memory_limit: Any = None,
    checkpoint: Any = None,
    group: Any = None,
) -> MixtureResult:
    """Find the mixture of classifiers that is hardest to attack, with a certificate.

    Minimises over mixtures w, ``s`` the sample weights, ``u`` the attack prior and ``t`` the temperature::

        F_0(w) = sum_i s_i max_j <w, losses[:, i, j]>                                   temperature 0
        F_t(w) = sum_i s_i t_i log sum_j u_ij exp(<w, losses[:, i, j]> / t_i)           temperature > 0

    The value of the game lies in ``[result.lower_bound, result.value]``, whatever ended the solve: both bounds are
    proved, by the mixture and by a strategy of the attacker, from float64 scores. They cover the table's attacks;
    against attacks outside it only the lower bound survives.

    Parameters
    ----------
    losses : array, (n_classifiers, n_samples, n_attacks), LossTable, path, iterator of chunks, or oracle
        Finite losses, in any units; `LossTable` says which arrays are read as they are. What does not fit into memory
        is read in order, once per pass: a path to a `.npy` file, a `numpy.memmap` of a whole file, a folder or list of
        `.npy` files that hold ranges of the samples (a folder's in the order of their names), or an object that can
        be iterated over again and again and hands out arrays or LossTables of consecutive samples. An oracle is a
        function ``oracle(weights) -> OracleAnswer``; its number of classifiers is that of `start`, or its attribute
        `n_classifiers`; its attribute `sample_weight`, if it has one, is the default of that argument. Both bounds are
        then about all attacks that there are, not those of a table: `value` includes the `delta` of the answers, and
        is infinite, which is to say not proved, if they declare none.
    temperature : float or array, (n_samples,)
        In units of the losses; 0 is the worst case.
    solver : RowGeneration, Newton, DoubleOracle, Fista, OracleSubgradient or LinearProgram, optional
        By default RowGeneration at temperature 0, and Newton above, or Fista with more than 300 classifiers;
        DoubleOracle for an oracle.
    row_offsets, sample_weight, attack_prior : array, optional
        As in `LossTable`.
    tol, atol : float
        Stop when ``gap <= max(tol * abs(value), atol)``, or when the gap is down to rounding.
    pass_limit : int, optional
        Reads of the table at most; the last one is kept for the proof.
    time_limit : float, optional
        Seconds. Once a mixture is proved, a pass that takes longer is left where it is, by all processes of a group.
        The proof may need one more.
    start : array, (n_classifiers,), or MixtureResult, optional
        A mixture to start from; uniform by default. A result with fewer classifiers is padded with zeros, and
        RowGeneration goes on from the rows of its attack; the table may have gained samples and attacks at the end.
    threads : int, optional
        At most this many threads; all processors by default. The answer does not depend on it.
    seed : int
        For solvers that draw random numbers: RowGeneration draws the subsamples that it starts from.
    verbose : bool
        Print a line per pass.
    callback : callable, optional
        ``callback(Progress)`` after each pass; True stops.
    memory_limit : int, optional
        Bytes to hold beside the table at most; of losses that are read in order by default a quarter of what is free.
        Where the rows that RowGeneration needs do not fit, it goes on by a method that needs more passes.
    checkpoint : path, optional
        A file to write after every pass, in one step. If it exists and is of this table and temperature, the solve
        goes on from it: also after its process was killed.
    group : torch.distributed.ProcessGroup, optional
        An initialised process group, on whose every process this function is called: `losses`, and what belongs to
        them, are then the samples that this process holds, none perhaps, and the game is that of all of them. Sample
        weights count as they are given. Everything else must be the same on all processes, and so is the result, bit
        for bit, but for `attack`, which is the attacker's strategy for the own samples, seconds and memory.
    proxy : (LossTable, float), or LossTable, optional
        A compact copy of the losses, in CPU memory, with the most that a loss of it is off, as `LossTable.quantise`
        returns them; given alone, that is measured by a read of both. Passes then read the copy, and of the losses only
        the rows that may be a sample's worst. The certificate is that of the losses: both bounds are from rows of them,
        each of which is compared with its copy. `passes` counts reads of the copy, `bytes_read` the bytes of the
        losses, `statistics.proxy_bytes_read` those of the copy. For RowGeneration at temperature 0.

    Returns
    -------
    MixtureResult
        Its `status` says what ended the solve; limits and Ctrl-C raise nothing, a second Ctrl-C raises.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what is required and what was given; the first loss that is not finite by its index.
    TableChangedError
        If files or an iterator change, vanish or fail during the solve, naming them; its `result` is the best so far.
    GroupError
        On every process that is left when another one of the group failed, died or timed out; naming the arguments in
        which they differ.

    Notes
    -----
    Until `MixtureResult` is returned, bounds in `history`, the log and the callback are from float32 scores for
    storage of 32 bits or less, as long as the gap is above 1e-5 of the value.

    A table of up to 64 classifiers whose losses are all 0 or 1 is compressed by one read, solved as the smaller game
    that it is, and the answer proved on the table by another: `passes`, `evaluations` and `bytes_read` count reads of
    the table, `statistics` has its rows before and after, of this process where there is a group. This holds for
    RowGeneration and Newton, the default solvers of such a table; others read the table itself.

    References
    ----------
    Meunier et al., "Mixed Nash Equilibria in the Adversarial Examples Game", ICML 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from mixsolve import fit_mixture
    >>> losses = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])     # two classifiers, one sample, two attacks
    >>> result = fit_mixture(losses)
    >>> print(result.status.name, result.value, result.weights)
    OPTIMAL 0.5 [0.5 0.5]
    """
    reducer: Reducer = ALONE if group is None else GroupReducer(group)
    with failing_together(reducer):
        limits = Limits(tol, atol, pass_limit, time_limit)
        check_threads(threads)
        check_integer("seed", seed, 0)
        if callback is not None and not callable(callback):
            raise TypeError(f"`callback` must be callable or None; got {callback!r}")
        limited = memory_limit is not None or is_stream(losses)
        limit = check_memory_limit(memory_limit) if limited else None
        own: dict[str, Any] = {
            "row_offsets": row_offsets,
            "sample_weight": sample_weight,
            "attack_prior": attack_prior,
        }
        kind = ""
        if isinstance(reducer, GroupReducer):
            if proxy is not None:
                raise ValueError("`proxy` must be None when there is a `group`")
            source, kind = open_shared_source(
                losses, own, reducer, threads=threads, seed=seed, memory_limit=limit
            )
        elif proxy is not None:
            source = open_screened_source(
                losses, proxy, own, solver=solver, temperature=temperature, threads=threads
            )
        else:
            source = open_source(
                losses,
                own,
                solver=solver,
                start=start,
                threads=threads,
                seed=seed,
                memory_limit=limit,
            )
        checked = check_temperature(temperature, source.table.n_samples if source.table else 1)
        individual = np.ndim(checked) > 0
        if isinstance(reducer, GroupReducer):
            checked = common_temperature(checked, source.table.n_samples if source.table else 1, reducer)
        _check_solver(solver, source, checked)
        point = _start(start, source.n_classifiers)
        if isinstance(reducer, GroupReducer):
            reducer.agree(_facts(source, kind, checked, individual, solver, limits, point, seed, checkpoint))
        kept = None if checkpoint is None else _checkpoint(checkpoint, source.table, checked, reducer)
        return solve_game(
            source,
            solver,
            checked,
            limits,
            Journal(source.table.n_rows if source.table else None, verbose, callback),
            point,
            seed=seed,
            threads=threads,
            earlier=start.attack if isinstance(start, MixtureResult) else None,
            checkpoint=kept,
            memory_limit=limit,
        )


def solve_game(
    source: Source,
    solver: Solver | None,
    temperature: float | NDArray[np.float64],
    limits: Limits,
    journal: Journal,
    start: NDArray[np.float64],
    *,
    seed: int = 0,
    threads: int | None = None,
    earlier: AttackStrategy | None = None,
    checkpoint: Checkpoint | None = None,
    memory_limit: int | None = None,
) -> MixtureResult:
    """Solve a game whose arguments have been checked, by the default solver unless one is given."""
    chosen = solver or _default_solver(source.table, temperature)
    if getattr(chosen, "compresses", False):
        chosen = compressing(chosen, source, temperature, limits)
    driver = Driver(
        source, chosen, temperature, start, limits, journal, seed, threads, earlier, checkpoint, memory_limit
    )
    return driver.run()


def _facts(
    source: Source,
    kind: str,
    temperature: float | NDArray[np.float64],
    individual: bool,
    solver: Solver | None,
    limits: Limits,
    start: NDArray[np.float64],
    seed: int,
    checkpoint: Any,
) -> dict[str, Any]:
    """What all processes of a group must agree on."""
    return {
        "n_classifiers": source.n_classifiers,
        "dtype": kind,
        "temperature": "one per sample" if individual and np.any(temperature) else float(temperature),
        "solver": repr(solver),
        **asdict(limits),
        "start": start.tolist(),
        "seed": int(seed),
        "checkpoint": checkpoint is not None,
    }


def _checkpoint(
    path: Any, table: LossTable | Chunks | None, temperature: float | NDArray[np.float64], reducer: Reducer
) -> Checkpoint:
    if table is None:
        raise ValueError(f"`checkpoint` must be None when `losses` is an oracle; got {path!r}")
    level = hashlib.sha256(np.asarray(temperature, dtype=np.float64).tobytes()).hexdigest()
    place = Path(path)
    if reducer.size > 1:
        place = place.with_name(f"{place.name}.{reducer.rank}-of-{reducer.size}")
    return Checkpoint(place, f"{table.fingerprint()} {level}")


def _check_solver(solver: Solver | None, source: Source, temperature: float | NDArray[np.float64]) -> None:
    """Whether the solver given, or the default, agrees to the problem."""
    if solver is None:
        _default_solver(source.table, temperature)
        return
    if isinstance(solver, type) or not hasattr(solver, "iterate"):
        kind = f"the class {solver.__name__}" if isinstance(solver, type) else repr(solver)
        raise TypeError(f"`solver` must be a solver's instance, such as Fista(), or None; got {kind}")
    solver.check(source, temperature)


def _default_solver(table: LossTable | Chunks | None, temperature: float | NDArray[np.float64]) -> Solver:
    if table is None:
        if np.any(np.asarray(temperature) > 0):
            raise ValueError(f"`temperature` must be 0 when `losses` is an oracle; got {temperature}")
        return DoubleOracle()
    if not np.any(np.asarray(temperature) > 0):
        return RowGeneration()
    return Newton() if table.n_classifiers <= Newton.largest else Fista()


def _start(start: ArrayLike | MixtureResult | None, n_classifiers: int) -> NDArray[np.float64]:
    if start is None:
        return check_simplex(np.full(n_classifiers, 1 / n_classifiers), n_classifiers)
    if not isinstance(start, MixtureResult):
        return check_simplex(start, n_classifiers)
    known = start.weights.size
    if known > n_classifiers:
        raise ValueError(f"`start` must have at most {n_classifiers} classifiers; got a result with {known}")
    return check_simplex(np.pad(start.weights, (0, n_classifiers - known)), n_classifiers)
