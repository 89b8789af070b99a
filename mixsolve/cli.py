"""The command line: ``mixsolve demo``, ``fit``, ``verify``, ``train``, ``evaluate`` and ``info``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mixsolve import fit_cli, neural_cli
from mixsolve.documents import AlteredDocumentError
from mixsolve.fit_cli import LIMIT_OR_REFUSED, SOLVED

#: Exit codes.
BAD_INPUT, KILLED = 2, 130

EXIT_CODES = """exit codes:
  0    solved to the tolerance, or verified
  1    a limit was reached first, or the result was refused
  2    bad input
  130  interrupted (Ctrl-C) before there was a result"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code: 0 solved or verified, 1 limit reached or refused, 2 bad input, 130 interrupted without a result.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:
        # argparse has printed its message: 0 after --help, 2 after bad usage.
        return BAD_INPUT if stop.code else SOLVED
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\nmixsolve: interrupted", file=sys.stderr)
        return KILLED
    except BrokenPipeError:
        # The reader of stdout has gone (`mixsolve fit ... | head`): leave without a traceback at shutdown.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return LIMIT_OR_REFUSED
    except AlteredDocumentError as error:
        print(f"mixsolve: refused: {error}", file=sys.stderr)
        return LIMIT_OR_REFUSED
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"mixsolve: error: {error}", file=sys.stderr)
        return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mixsolve",
        description="Optimal mixtures of classifiers against an adversary who sees the mixture, with certificates.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mixsolve {_version('mixsolve')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_solving(commands)
    _add_neural(commands)
    _add_info(commands)
    return parser


def _add_command(commands: Any, name: str, run: Any, summary: str, details: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{details}",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_demo(commands: Any) -> None:
    parser = _add_command(
        commands,
        "demo",
        _demo,
        "play the paper's synthetic game and a game on handwritten digits",
        "Play two games to certified optimality, and write pictures and report.json:\n"
        "the synthetic game of Meunier et al. (ICML 2021, section 5.1), and handwritten digits\n"
        "under bounded noise. Takes about a minute. Needs: pip install mixsolve[demo]",
    )
    parser.add_argument(
        "--out", metavar="DIR", default="mixsolve-demo", help="folder to write to (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of all random numbers (default: %(default)s)"
    )
    parser.add_argument("--small", action="store_true", help="toy sizes: a few seconds, no claims")
    parser.add_argument("--quiet", action="store_true", help="print nothing")


def _add_solving(commands: Any) -> None:
    summary = "find the optimal mixture for a table of losses"
    fit_cli.add_fit(_add_command(commands, "fit", fit_cli.fit, summary, fit_cli.FIT_DETAILS))
    summary = "check a result against its table of losses"
    fit_cli.add_verify(_add_command(commands, "verify", fit_cli.verify, summary, fit_cli.VERIFY_DETAILS))


def _add_neural(commands: Any) -> None:
    summary = "train a mixture of networks against attacks on the mixture"
    neural_cli.add_train(_add_command(commands, "train", neural_cli.train, summary, neural_cli.TRAIN_DETAILS))
    summary = "attack a trained mixture, and report what it is worth"
    neural_cli.add_evaluate(
        _add_command(commands, "evaluate", neural_cli.evaluate, summary, neural_cli.EVALUATE_DETAILS)
    )


def _add_info(commands: Any) -> None:
    _add_command(
        commands,
        "info",
        _info,
        "show versions, instruction sets and extras",
        "Show what this installation consists of and which extras it finds.",
    )


def _demo(arguments: argparse.Namespace) -> int:
    from mixsolve.demo import FULL, SMALL, run_demo, summarise

    settings = (SMALL if arguments.small else FULL).with_seed(arguments.seed)
    report = run_demo(arguments.out, settings, quiet=arguments.quiet)
    if not arguments.quiet:
        print(summarise(report))
        print(
            f"\nPictures and report.json are in {Path(arguments.out).resolve()} ({report['seconds']:.0f} s)"
        )
    return SOLVED if all(report["checks"].values()) else LIMIT_OR_REFUSED


def _info(arguments: argparse.Namespace) -> int:
    import platform

    from mixsolve import _native
    from mixsolve.devices import backends

    print(f"mixsolve            {_version('mixsolve')}")
    print(f"python              {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"instruction sets    {', '.join(_native.available_isas())} (in use: {_native.isa()})")
    print(f"cores               {os.cpu_count()}")
    cuda = backends()[1]
    print(f"cuda                {', '.join(cuda.compiled) or 'not compiled'}")
    for number, device in enumerate(cuda.devices):
        memory = f"{(device.memory or 0) / 2**30:.0f} GiB"
        print(f"  device {number:<10} {device.name}, compute capability {device.capability}, {memory}")
    if not cuda.usable:
        print(f"  cannot be used    {cuda.reason}")
    for package, use in (
        ("numpy", "core"),
        ("scipy", "core"),
        ("cvxpy", "extra lp"),
        ("matplotlib", "extra plot"),
        ("scikit-learn", "extra demo"),
        ("torch", "extra torch"),
    ):
        print(f"{package:<19} {_version(package)} ({use})")
    return SOLVED


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
