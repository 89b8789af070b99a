"""The losses of one open file as a table whose passes read it piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve import _native
from mixsolve.table import LossTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.npy_files import OpenFile
    from mixsolve.storage import Storage

PIECE, PLANE_PIECE = 1 << 21, 1 << 15
"""Bytes that a thread reads and works on at once, or of each plane where that is more: they stay in its caches."""

SCAN = 1 << 23
"""Bytes that are searched at once for a loss that is not finite."""


class FileTable:
    """What `run_pass` needs of a table, and the backend that it asks. Every pass reads what it is asked for in order.

    Parameters
    ----------
    opened : OpenFile
    storage : Storage
        How the file's numbers are read.
    n_samples : int
    row_offsets, sample_weight, attack_prior
        Of the file's samples. The weights are those of a table that the file is a part of: sums are its share there.
    room : int
        Bytes that the pieces of all threads may take; the largest sample takes no more.
    """

    is_affine = False
    scale, offset = 1.0, 0.0

    def __init__(
        self,
        opened: OpenFile,
        storage: Storage,
        n_samples: int,
        *,
        row_offsets: NDArray[np.int64] | None,
        sample_weight: NDArray[np.float64] | None,
        attack_prior: NDArray[Any] | None,
        room: int,
    ) -> None:
        self._opened = opened
        self.n_classifiers, self.n_rows, self.n_samples = opened.n_planes, opened.n_rows, n_samples
        self._row_bytes = self.n_classifiers * storage.itemsize
        largest = self.n_rows // n_samples if row_offsets is None else int(np.diff(row_offsets).max())
        self._piece = min(max(PIECE, PLANE_PIECE * self.n_classifiers), room)
        self._most_threads = max(1, room // max(self._piece, largest * self._row_bytes))
        self._starts = row_offsets
        self.native = _native.FileTable(
            storage, self.n_classifiers, n_samples, self.n_rows, row_offsets, sample_weight, attack_prior
        )

    @property
    def backend(self) -> FileTable:
        """Whose functions are those of `_native` by their names."""
        return self

    def run_pass(
        self,
        native: _native.FileTable,
        weights: NDArray[np.float64],
        temperature: NDArray[np.float64],
        want: int,
        samples: NDArray[np.int64] | None,
        float64_scores: bool,
        threads: int,
        cancel: _native.CancelToken | None,
        hessians: int,
    ) -> dict[str, Any]:
        """As `_native.run_pass`; listed samples follow each other."""
        first, last = (0, self.n_samples) if samples is None else (int(samples[0]), int(samples[-1]) + 1)
        assert samples is None or samples.size == last - first
        threads = min(threads or _native.available_threads(), self._most_threads)
        with self._opened.errors():
            return _native.file_pass(
                self._opened.native,
                native,
                self._piece,
                first,
                last,
                weights,
                temperature,
                want,
                float64_scores,
                threads,
                cancel,
                hessians,
            )

    def first_nonfinite(
        self, native: _native.FileTable, cancel: _native.CancelToken | None = None
    ) -> tuple[int, int, int, float] | None:
        """Classifier, sample, attack and value of a loss that is not finite, of the first in the piece it lies in."""
        step = max(1, SCAN // self._row_bytes)
        for row in range(0, self.n_rows, step):
            rows = self._opened.read_rows(row, min(step, self.n_rows - row))
            found = _native.first_nonfinite(LossTable(rows[:, None]).native, cancel)
            if found is not None:
                classifier, _, place, value = found
                return classifier, *self._sample_of(row + place), value
        return None

    def _sample_of(self, row: int) -> tuple[int, int]:
        """Sample and attack of a row."""
        if self._starts is None:
            sample, attack = divmod(row, self.n_rows // self.n_samples)
            return sample, attack
        sample = int(np.searchsorted(self._starts, row, side="right")) - 1
        return sample, row - int(self._starts[sample])
