"""A result's file: JSON with a digest of its contents, written in one step. Nothing is pickled."""

from __future__ import annotations

import hashlib
import json
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NoReturn

FORMAT = "mixsolve result"
VERSION = 1


class AlteredDocumentError(ValueError):
    """A document whose contents do not match its digest: edited or damaged after it was written."""


def encode_float(number: float) -> float | str:
    """A JSON value for a float: shortest decimals that give back every bit, or "inf", "-inf", "nan"."""
    plain = float(number)
    return plain if abs(plain) < float("inf") else str(plain)


def decode_float(value: float | str) -> float:
    """The float that `encode_float` encoded."""
    return float(value)


def write_document(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write JSON values with their digest, replacing the file only once the new one is complete on disk.

    Raises
    ------
    OSError
        If the file cannot be written; an existing one is then left as it was.
    ValueError
        If a float is not finite; `encode_float` turns those into strings.
    """
    target = Path(path).resolve()
    text = json.dumps(
        {"format": FORMAT, "version": VERSION, "sha256": _digest(content), "content": content},
        allow_nan=False,
    )
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with open(partial, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read back what `write_document` wrote.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is truncated, is something else or has another format version; `AlteredDocumentError`, which is one,
        if it was changed after writing.
    """
    where = os.fspath(path)
    required = "`path` must be a result written by `MixtureResult.save`"
    try:
        document = json.loads(Path(path).read_text(encoding="ascii"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{required}; {where} is truncated or is not JSON ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{required}; {where} is JSON of another kind")
    if document.get("version") != VERSION:
        raise ValueError(f"{required} in format version {VERSION}; {where} has {document.get('version')!r}")
    content = document.get("content")
    if not isinstance(content, dict) or document.get("sha256") != _digest(content):
        raise AlteredDocumentError(
            f"{required}, unchanged; {where} was edited or damaged: its digest does not match its contents"
        )
    return content


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(
        [FORMAT, VERSION, content],
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
        default=operator.index,
    )
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
