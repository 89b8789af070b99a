"""Pickled arrays without pickle's power: what is read can build NumPy arrays and plain containers, nothing else."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

_ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how newer pickles of old protocols write bytes
            return _encode_latin1
        if name == "bytes" and module in ("__builtin__", "builtins"):  # and how they write empty bytes
            return _no_bytes
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; only arrays are read")
        if name == "_reconstruct":
            return _empty_array
        return getattr(np, name)


def _empty_array(kind: Any, shape: Any, code: Any) -> Any:
    """What NumPy's `_reconstruct` makes, for plain arrays alone; their state fills them."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"it asks for an array of type {kind!r}; only plain arrays are read")
    return np.ndarray.__new__(np.ndarray, (0,), np.dtype("u1"))


def _no_bytes() -> bytes:
    return b""


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for text in {encoding}; only latin1 is read")
    return text.encode("latin1")


def unpickle_arrays(content: bytes, where: str) -> Any:
    """Dictionaries, lists, numbers, text and NumPy arrays from a pickle; anything else in it is refused unbuilt.

    Parameters
    ----------
    content : bytes
    where : str
        The file, for messages.

    Raises
    ------
    ValueError
        If it is truncated, is no pickle, or asks for anything else.
    """
    try:
        return _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle fails in as many ways as there are bytes
        raise ValueError(
            f"{where} must be a pickle of plain arrays; it is damaged or is not ({error})"
        ) from error
