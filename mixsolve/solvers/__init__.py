"""The solvers, their contract, and the driver that runs them."""

from mixsolve.solvers.double_oracle import DoubleOracle
from mixsolve.solvers.fista import Fista
from mixsolve.solvers.linear_program import LinearProgram
from mixsolve.solvers.newton import Newton
from mixsolve.solvers.oracle import Oracle, OracleAnswer
from mixsolve.solvers.oracle_subgradient import OracleSubgradient
from mixsolve.solvers.row_generation import RowGeneration

__all__ = [
    "DoubleOracle",
    "Fista",
    "LinearProgram",
    "Newton",
    "Oracle",
    "OracleAnswer",
    "OracleSubgradient",
    "RowGeneration",
]
