"""The commands ``mixsolve fit`` and ``mixsolve verify``: tables in files, results in files."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixsolve.results import MixtureResult

SOLVED, LIMIT_OR_REFUSED = 0, 1
"""Exit codes."""

FIT_DETAILS = """Find the mixture of classifiers that is hardest to attack, with a certificate of how
far from optimal it can be. Ctrl-C ends the search with the best mixture so far."""

VERIFY_DETAILS = """Recompute both bounds of a saved result from the table, in float64, and refuse the result
where one does not hold or the file was edited."""


def add_fit(parser: argparse.ArgumentParser) -> None:
    """The options of ``mixsolve fit``."""
    _add_table(parser)
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0: worst case (default); > 0: smoothed, in units of the loss",
    )
    parser.add_argument(
        "--tol", type=float, default=1e-6, metavar="R", help="relative gap to reach (default: %(default)s)"
    )
    parser.add_argument("--pass-limit", type=int, metavar="N", help="stop after N reads of the table")
    parser.add_argument("--time-limit", type=float, metavar="S", help="stop after S seconds")
    parser.add_argument("--threads", type=int, metavar="N", help="threads to use (default: all cores)")
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="bytes to hold at most, as in 500M or 8G; larger tables are read in order, once per pass\n"
        "(default: a quarter of what is free)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="written after every pass; a solve that was killed goes on from it",
    )
    parser.add_argument("--out", metavar="FILE", help="write the result as JSON, for `mixsolve verify`")
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("--verbose", action="store_true", help="print a line per pass")
    talk.add_argument("--quiet", action="store_true", help="print nothing")


def add_verify(parser: argparse.ArgumentParser) -> None:
    """The options of ``mixsolve verify``."""
    parser.add_argument("result", metavar="RESULT", help="file written by `mixsolve fit --out`")
    _add_table(parser)
    parser.add_argument("--quiet", action="store_true", help="print nothing")


def fit(arguments: argparse.Namespace) -> int:
    """Run ``mixsolve fit``; the exit code."""
    from mixsolve.file_stream import FileStream
    from mixsolve.fit import fit_mixture
    from mixsolve.progress_bar import ProgressBar

    if arguments.out is not None and not Path(arguments.out).resolve().parent.is_dir():
        raise ValueError(f"`--out` must lie in an existing folder; got {arguments.out}")
    shared = ("temperature", "tol", "pass_limit", "time_limit", "threads", "checkpoint")
    options = {name: getattr(arguments, name) for name in shared}
    options["memory_limit"] = _size(arguments.memory_limit)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        from mixsolve.group_fit import fit_in_group

        return _report(arguments, fit_in_group(arguments, _extras(arguments), options))
    table = _table(arguments)
    show = sys.stderr.isatty() and not (arguments.quiet or arguments.verbose)
    bar = ProgressBar(sys.stderr, table if isinstance(table, FileStream) else None) if show else None
    with bar or nullcontext():
        result = fit_mixture(
            table,
            **options,
            verbose=arguments.verbose,
            callback=bar,
        )
    return _report(arguments, result)


def verify(arguments: argparse.Namespace) -> int:
    """Run ``mixsolve verify``; the exit code."""
    from mixsolve import verification as verifying

    verification = verifying.verify(verifying.load_result(arguments.result), _table(arguments))
    if not arguments.quiet:
        print(verification)
    return SOLVED if verification else LIMIT_OR_REFUSED


def _report(arguments: argparse.Namespace, result: MixtureResult | None) -> int:
    """Print and save a result; of a group's processes the first one has it."""
    from mixsolve.results import Status

    if result is None:
        return SOLVED
    if not arguments.quiet:
        print(_describe(result))
    if arguments.out is not None:
        result.save(arguments.out)
        if not arguments.quiet:
            print(f"saved        {arguments.out}")
    return SOLVED if result.status is Status.OPTIMAL else LIMIT_OR_REFUSED


def _describe(result: MixtureResult) -> str:
    """A result in a few lines, its largest weights last."""
    order = [int(k) for k in (-result.weights).argsort(kind="stable") if result.weights[k] > 0]
    shown = ", ".join(f"{k}: {result.weights[k]:.6g}" for k in order[:20])
    more = f" and {len(order) - 20} more" if len(order) > 20 else ""
    return (
        f"status       {result.status.name}: {result.message}\n"
        f"value        {result.value:.10g}\n"
        f"lower bound  {result.lower_bound:.10g}\n"
        f"gap          {result.gap:.3g}\n"
        f"worst case   {result.worst_case_value:.10g}\n"
        f"cost         {result.passes} passes, {result.seconds:.2f} s, {result.solver}\n"
        f"weights      {shown}{more}"
    )


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "losses",
        metavar="LOSSES",
        nargs="+",
        help=".npy file of shape (n_classifiers, n_samples, n_attacks), or (n_classifiers, n_rows) with "
        "--row-offsets; or several files, or a folder of them, each with some of the samples",
    )
    for name, meaning in (
        ("row-offsets", "where each sample's rows begin and end, (n_samples + 1,)"),
        ("sample-weight", "weights of the samples, (n_samples,)"),
        ("attack-prior", "prior over each sample's attacks, of the shape of one plane"),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", help=f".npy file: {meaning}")


def _load(path: str, name: str) -> Any:
    """The array of a .npy file, mapped rather than read."""
    import numpy as np

    required = f"`{name}` must be a .npy file of numbers"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{required}; {path} does not exist") from None
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{required}; {path} is not ({error})") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{required}; {path} is an archive of several arrays")
    return array


def _extras(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        name: _load(path, name)
        for name in ("row_offsets", "sample_weight", "attack_prior")
        if (path := getattr(arguments, name)) is not None
    }


def _table(arguments: argparse.Namespace) -> Any:
    """A table to read in order where it is larger than the limit or in several files; else one that is mapped."""
    from mixsolve.streams import check_memory_limit, open_stream
    from mixsolve.table import LossTable

    paths = arguments.losses
    limit = check_memory_limit(_size(getattr(arguments, "memory_limit", None)))
    if len(paths) > 1 or Path(paths[0]).is_dir():
        return open_stream(paths if len(paths) > 1 else paths[0], **_extras(arguments), memory_limit=limit)
    losses = _load(paths[0], "losses")
    if losses.nbytes > limit:
        return open_stream(paths[0], **_extras(arguments), memory_limit=limit)
    return LossTable(losses, **_extras(arguments))


def _size(given: str | None) -> int | None:
    """A number of bytes such as 500M or 8G, in powers of 1024."""
    if given is None:
        return None
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    unit = given[-1:].upper()
    try:
        return int(float(given[:-1]) * 2 ** units[unit]) if unit in units else int(given)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"`--memory-limit` must be a size such as 500M or 8G; got {given!r}") from error
