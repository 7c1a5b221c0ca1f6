"""Checkpoints that a crash at any moment cannot spoil."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from .storage import storing


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state of tensors and plain values, and keep the one before as `.prev`.

    The new file is complete and on the disk before it takes the name; at every moment one of the two names
    holds a whole checkpoint, once there was one.

    Args:
        path: where to write; its folder is created.
        state: what `torch.load(weights_only=True)` reads back.

    Raises:
        StorageError: if the disk is full or may not be written. What was there before stays.
    """
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".tmp")
        try:
            with open(fresh, "wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            fresh.unlink(missing_ok=True)
            if isinstance(error, RuntimeError):  # what torch's zip writer makes of a failed write
                raise OSError(str(error)) from error
            raise
        if path.exists():
            os.replace(path, previous(path))
        os.replace(fresh, path)


def load_checkpoint(path: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The last whole checkpoint, or None if there is none.

    Args:
        path: where `save_checkpoint` wrote.
        say: is told of each checkpoint that is damaged, and what happens instead.
    """
    for candidate, instead in (
        (path, "The one before it is used."),
        (previous(path), "The run starts again."),
    ):
        if not candidate.exists():
            continue
        try:
            return _read(candidate)
        except Exception as error:  # a damaged file can fail anywhere inside zip, pickle and torch
            if candidate == path and not previous(path).exists():
                instead = "The run starts again."
            say(f"The checkpoint {candidate} is damaged ({_first_line(error)}). {instead}")
    return None


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, the one before it and what is left of an interrupted write."""
    for candidate in (path, previous(path), path.with_suffix(".tmp")):
        candidate.unlink(missing_ok=True)


def previous(path: Path) -> Path:
    """Where the checkpoint before the last one lies."""
    return path.with_suffix(".prev")


def _read(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()  # torch does not compare the checksums itself
    if broken is not None:
        raise ValueError(f"wrong checksum of {broken}")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
