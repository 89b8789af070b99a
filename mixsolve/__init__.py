"""Certified optimal mixtures of classifiers against an adversary who sees the mixture.

The way in is :func:`fit_mixture`. Names are loaded on first use, so that importing the package costs nothing
that a program does not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixsolve.comparison import compare_mixtures
    from mixsolve.devices import backends
    from mixsolve.fit import fit_mixture
    from mixsolve.path import fit_path
    from mixsolve.reduction import GroupError
    from mixsolve.results import AttackStrategy, MixtureResult, Progress, Status, TableChangedError
    from mixsolve.solvers import (
        DoubleOracle,
        Fista,
        LinearProgram,
        Newton,
        OracleAnswer,
        OracleSubgradient,
        RowGeneration,
    )
    from mixsolve.table import LossTable
    from mixsolve.values import WorstCase, smoothed_value_and_grad, worst_case
    from mixsolve.verification import load_result, verify

__version__ = "0.1.0"

__all__ = [
    "AttackStrategy",
    "DoubleOracle",
    "Fista",
    "GroupError",
    "LinearProgram",
    "LossTable",
    "MixtureResult",
    "Newton",
    "OracleAnswer",
    "OracleSubgradient",
    "Progress",
    "RowGeneration",
    "Status",
    "TableChangedError",
    "WorstCase",
    "__version__",
    "backends",
    "compare_mixtures",
    "fit_mixture",
    "fit_path",
    "load_result",
    "smoothed_value_and_grad",
    "verify",
    "worst_case",
]

_HOME = {
    "AttackStrategy": "results",
    "DoubleOracle": "solvers",
    "Fista": "solvers",
    "GroupError": "reduction",
    "LinearProgram": "solvers",
    "LossTable": "table",
    "MixtureResult": "results",
    "Newton": "solvers",
    "OracleAnswer": "solvers",
    "OracleSubgradient": "solvers",
    "Progress": "results",
    "RowGeneration": "solvers",
    "Status": "results",
    "TableChangedError": "results",
    "WorstCase": "values",
    "backends": "devices",
    "compare_mixtures": "comparison",
    "fit_mixture": "fit",
    "fit_path": "path",
    "load_result": "verification",
    "smoothed_value_and_grad": "values",
    "verify": "verification",
    "worst_case": "values",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mixsolve' has no attribute {name!r}")
    value = getattr(import_module(f"mixsolve.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
