"""The compiled pass; `mixsolve.passes` is its only regular user."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

PER_SAMPLE: int
BEST_ATTACK: int
BEST_ROW: int

class Cancelled(RuntimeError): ...

class CancelToken:
    def __init__(self) -> None: ...
    def cancel(self) -> None: ...
    @property
    def cancelled(self) -> bool: ...

class Table:
    def __init__(
        self,
        array: NDArray[Any],
        storage: int,
        row_offsets: NDArray[np.int64] | None = None,
        sample_weight: NDArray[np.float64] | None = None,
        attack_prior: NDArray[Any] | None = None,
    ) -> None: ...

class PlaneFile:
    def __init__(self, descriptor: int, offset: int, plane_bytes: int, n_planes: int) -> None: ...
    def close(self) -> None: ...
    def read(self, first: int, out: NDArray[np.uint8], threads: int = 0) -> None: ...
    @property
    def bytes_read(self) -> int: ...

class FileTable:
    def __init__(
        self,
        storage: int,
        n_classifiers: int,
        n_samples: int,
        n_rows: int,
        row_offsets: NDArray[np.int64] | None = None,
        sample_weight: NDArray[np.float64] | None = None,
        attack_prior: NDArray[Any] | None = None,
    ) -> None: ...

def file_pass(
    file: PlaneFile,
    table: FileTable,
    piece_bytes: int,
    first: int,
    last: int,
    weights: NDArray[np.float64],
    temperature: NDArray[np.float64],
    want: int = 0,
    float64_scores: bool = False,
    threads: int = 0,
    cancel: CancelToken | None = None,
    hessians: int = 0,
) -> dict[str, Any]: ...
def run_pass(
    table: Table,
    weights: NDArray[np.float64],
    temperature: NDArray[np.float64],
    want: int = 0,
    samples: NDArray[np.int64] | None = None,
    float64_scores: bool = False,
    threads: int = 0,
    cancel: CancelToken | None = None,
    hessians: int = 0,
) -> dict[str, Any]: ...
def loss_gradient(
    table: Table,
    weights: NDArray[np.float64],
    temperature: NDArray[np.float64],
    scale: float,
    gradient: NDArray[Any],
    float64_scores: bool = False,
    threads: int = 0,
    cancel: CancelToken | None = None,
) -> bool: ...
def minimise_model(
    weights: NDArray[np.float64], slope: NDArray[np.float64], hessian: NDArray[np.float64], radius: float
) -> NDArray[np.float64]: ...
def first_nonfinite(
    table: Table, cancel: CancelToken | None = None
) -> tuple[int, int, int, float] | None: ...
def extremes(table: Table, threads: int = 0, cancel: CancelToken | None = None) -> tuple[float, float]: ...
def binary_rows(
    table: Table,
    maximal: bool,
    temperature: NDArray[np.float64] | None = None,
    threads: int = 0,
    cancel: CancelToken | None = None,
) -> tuple[int, tuple[NDArray[Any], ...] | None]: ...
def binary_pass(
    table: Table,
    weights: NDArray[np.float64],
    best_attack: bool = False,
    threads: int = 0,
    cancel: CancelToken | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64] | None] | None: ...
def screened_pass(
    table: Table,
    copy: Table,
    weights: NDArray[np.float64],
    slack: NDArray[np.float64],
    affine: NDArray[np.float64],
    delta: float,
    first: int,
    last: int,
    threads: int = 0,
    cancel: CancelToken | None = None,
) -> tuple[
    NDArray[np.float64],
    NDArray[np.int64],
    NDArray[np.float64],
    int,
    int,
    tuple[int, int, int, int, float, float],
]: ...
def pack_sets(table: Table, sets: NDArray[Any], threads: int = 0) -> bool: ...
def read_seconds(array: NDArray[Any], threads: int, how: str = "vector") -> float: ...
def solve_core(
    rows: NDArray[np.float64],
    offsets: NDArray[np.int64],
    share: NDArray[np.float64],
    gap: float,
    iteration_limit: int = 100,
    threads: int = 0,
    cancel: CancelToken | None = None,
    combine: Callable[[NDArray[np.float64], int], NDArray[np.float64]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float, int, int]: ...
def import_dlpack(exporter: Any) -> tuple[NDArray[Any], int, int, int]: ...
def import_device_dlpack(
    exporter: Any, stream: int
) -> tuple[Any, int, int, int, int, list[int], list[int]]: ...
def available_threads() -> int: ...
def available_isas() -> list[str]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
