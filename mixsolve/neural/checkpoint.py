"""Checkpoints: tensors, numbers and text in one file, written in one step, loaded without executing code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

FORMAT = "mixsolve checkpoint"
VERSION = 1


def write_checkpoint(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text and containers of these; the old file stays until the new one is on disk."""
    document = {"format": FORMAT, "version": VERSION, **content}
    with replacing(Path(path)) as partial:
        torch.save(document, partial)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read back what `write_checkpoint` wrote, onto the CPU.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is truncated, is something else, has another version, or could only be read by running its code.
    """
    required = f"`path` must be a checkpoint of mixsolve; {os.fspath(path)}"
    with open(path, "rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file fails in as many ways as there are bytes
            raise ValueError(f"{required} is truncated or is not one ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{required} is another kind of file")
    if content.get("version") != VERSION:
        raise ValueError(f"{required} has version {content.get('version')!r}, not {VERSION}")
    return content


class replacing:
    """A file beside `path` to write to, which takes its place once it is complete on disk."""

    def __init__(self, path: Path) -> None:
        self._target = path.resolve()
        self._partial = self._target.with_name(f".{self._target.name}.{os.getpid()}.partial")

    def __enter__(self) -> Path:
        return self._partial

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                with open(self._partial, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(self._partial, self._target)
        finally:
            self._partial.unlink(missing_ok=True)
