"""The compiled CUDA pass; loaded on first use, by `mixsolve.devices` and for tables on a GPU."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

PER_SAMPLE: int
BEST_ATTACK: int
BEST_ROW: int
ARCHITECTURES: str
CUDA_VERSION: str

class DeviceError(RuntimeError): ...

class PlanSizes:
    tile_bytes: int
    most_tile_rows: int
    chunk_bytes: int
    most_chunks: int
    piece_bytes: int
    shared_sums_bytes: int

class Table:
    def __init__(
        self,
        pointer: int,
        storage: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        row_offsets: NDArray[np.int64] | None = None,
        sample_weight: NDArray[np.float64] | None = None,
        attack_prior: NDArray[Any] | None = None,
        device: int = 0,
        stream: int = 0,
    ) -> None: ...
    @property
    def sizes(self) -> PlanSizes: ...

def run_pass(
    table: Table,
    weights: NDArray[np.float64],
    temperature: NDArray[np.float64],
    want: int = 0,
    samples: NDArray[np.int64] | None = None,
    float64_scores: bool = False,
    hessians: int = 0,
) -> dict[str, Any]: ...
def loss_gradient(
    table: Table,
    weights: NDArray[np.float64],
    temperature: NDArray[np.float64],
    scale: float,
    gradient: int,
    float64_scores: bool = False,
) -> bool: ...
def gather(table: Table, sample: NDArray[np.int64], attack: NDArray[np.int64]) -> NDArray[np.float64]: ...
def copy_samples(table: Table, classifier: int, samples: NDArray[np.int64], out: NDArray[Any]) -> None: ...
def devices() -> tuple[list[dict[str, Any]], str | None]: ...
