"""What happens when the disk is full or may not be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StorageError(OSError):
    """The run directory cannot be written; what was written before stays."""


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn every failed write of a path into a `StorageError` that says what to do."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"{path} could not be written: {reason}. What was finished is kept: make room, or make it "
            "writable, and resume."
        ) from error
