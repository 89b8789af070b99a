"""Checkpoints of a solve: what it needs to go on after its process was killed, replaced in one step."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixsolve.reduction import combined_largest, combined_sum
from mixsolve.results import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mixsolve.reduction import Reducer

FORMAT = "mixsolve checkpoint 1"

ACCOUNT = ("passes", "evaluations", "seconds", "value", "lower_bound", "iterate_value", "bytes_read")
"""What is kept of every entry of the history, in the order of its fields."""

Core = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.float64]"]
"""Sample, attack and losses (n, n_classifiers) of some rows of the table."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Where a solve stood after a pass."""

    weights: NDArray[np.float64]
    """(n_classifiers,) the best mixture."""
    history: tuple[Progress, ...]
    core: Core | None
    """The rows that row generation held."""


def agree_on(kept: Kept | None, n_classifiers: int, reducer: Reducer) -> Kept | None:
    """What the first process kept, with this one's own rows; None unless all have some.

    A group that was killed while its files were written has files that differ by a pass.
    """
    if combined_largest(reducer, kept is None):
        return None
    assert kept is not None
    if reducer.size == 1:
        return kept
    account = np.array(
        [[getattr(entry, name) for name in ACCOUNT] for entry in kept.history], dtype=np.float64
    )
    length = round(combined_sum(reducer, len(account) if reducer.rank == 0 else 0))
    sent = np.zeros(n_classifiers + length * len(ACCOUNT))
    if reducer.rank == 0:
        sent = np.concatenate([kept.weights, account.ravel()])
    received = reducer.combine(sent)
    history = tuple(
        Progress(int(passes), int(evaluations), seconds, value, lower, iterate, int(read))
        for passes, evaluations, seconds, value, lower, iterate, read in received[n_classifiers:]
        .reshape(length, len(ACCOUNT))
        .tolist()
    )
    return Kept(received[:n_classifiers], history, kept.core)


@dataclass(frozen=True)
class Checkpoint:
    """A file of one game, named by the fingerprint of its table and temperature.

    Nothing in it is believed but that its rows are rows of the table: a solve that goes on proves its bounds anew.
    """

    path: Path
    fingerprint: str

    def save(self, kept: Kept) -> None:
        """Replace the file by one that is complete on disk."""
        header = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "history": [asdict(replace(entry, iterate=None)) for entry in kept.history],
        }
        arrays: dict[str, Any] = {"header": np.array(json.dumps(header)), "weights": kept.weights}
        if kept.core is not None:
            arrays |= dict(zip(("sample", "attack", "rows"), kept.core, strict=True))
        partial = self.path.with_name(f".{self.path.name}.partial")
        with open(partial, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)

    def load(self) -> Kept | None:
        """What `save` wrote; None where there is no file.

        Raises
        ------
        ValueError
            If the file is none of ours, or of another table or temperature.
        """
        required = "`checkpoint` must be a new file or a checkpoint of this table at this temperature"
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
            header = json.loads(str(arrays["header"]))
            known, kind = header["fingerprint"], header["format"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{required}; {self.path} is something else ({error})") from error
        if kind != FORMAT or known != self.fingerprint:
            raise ValueError(
                f"{required}; {self.path} is of another one, or its files have been changed since"
            )
        core = (arrays["sample"], arrays["attack"], arrays["rows"]) if "rows" in arrays else None
        return Kept(arrays["weights"], tuple(Progress(**entry) for entry in header["history"]), core)
