"""Files that survive a kill, line by line or whole, and what happens when the disk is full or may not be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"


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


@contextmanager
def held(directory: Path, error: type[Exception]) -> Iterator[None]:
    """Make a directory if it is not there, and hold it while the context lasts: one process at a time works in it.

    Args:
        directory: to hold.
        error: raised where another process holds it.

    Raises:
        StorageError: if it cannot be made or written.
    """
    with storing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        _lock(lock, directory, error)
        yield
    finally:
        os.close(lock)


def _lock(descriptor: int, directory: Path, error: type[Exception]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has none; two processes at once are the user's care there
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise error(
            f"{directory} should be used by one process at a time. Found another one at work in it."
        ) from None


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file and wait until it is on the disk.

    A last line that a kill has cut off is taken out first.

    Args:
        path: of the file, which is made if it is not there.
        line: without its end.
    """
    with open(path, "a+b") as file:
        file.seek(0)
        complete, newline, torn = file.read().rpartition(b"\n")
        if torn:
            file.truncate(len(complete) + len(newline))
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that have their end; none where there is no file."""
    complete, newline, _ = (path.read_bytes() if path.exists() else b"").rpartition(b"\n")
    return complete.split(b"\n") if newline else []


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file under another name and rename it, so that a reader sees the old or the new one.

    Args:
        path: of the file; its folder must exist.
        content: text (as UTF-8) or bytes.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
