"""Checkpoints in a storage that every node of a cluster reaches, such as a bucket, so that no file system is shared."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from equipoise.training.storage import StorageError

from .connection import ClusterError, ray_train

_FILE = "checkpoint.pt"  # in a folder of its own, which `ray.train.Checkpoint` reads
_UNFINISHED = "unfinished"


class Storage:
    """A folder of checkpoints by name, each whole or not there.

    A checkpoint is written under another name and moved to its own. Nodes and driver take the storage along as it is,
    so all of them need the credentials, from their environment.

    Args:
        filesystem: of `pyarrow.fs`.
        folder: in it; made if it is not there.
    """

    def __init__(self, filesystem: Any, folder: str) -> None:
        self._filesystem = filesystem
        self._folder = folder.rstrip("/")

    @classmethod
    def at(cls, uri: str, folder: str) -> Storage:
        """A folder at a URI.

        Args:
            uri: what `pyarrow.fs.FileSystem.from_uri` knows: "file:///shared/searches", "s3://bucket/searches", "gs://...",
                "abfs://...", "hdfs://...", "fsspec+...", or an absolute path.
            folder: below it.

        Raises:
            ClusterError: if it is none, or pyarrow is not installed.
        """
        arrow = _arrow()
        try:
            filesystem, path = arrow.FileSystem.from_uri(uri)
        except (OSError, ValueError) as error:
            reason = str(error).replace(uri, plain(uri))
            raise ClusterError(
                "`storage` should be a URI that pyarrow knows, such as file:///shared/searches or "
                f"s3://bucket/searches. Found {plain(uri)!r}: {reason}"
            ) from None
        return cls(filesystem, f"{path.rstrip('/')}/{folder}")

    def begin(self) -> None:
        """Make the folder, and remove what killed workers have left half written.

        Raises:
            StorageError: if it cannot be written.
        """
        with self._said("written"):
            self._filesystem.create_dir(f"{self._folder}/{_UNFINISHED}", recursive=True)
            self._filesystem.delete_dir_contents(f"{self._folder}/{_UNFINISHED}")

    def put(self, path: Path, name: str) -> None:
        """Store a file as the checkpoint of this name; at no moment is a part of it to be seen under it.

        Raises:
            StorageError: if it cannot be written.
        """
        fresh, place = f"{self._folder}/{_UNFINISHED}/{name}-{uuid.uuid4().hex}", f"{self._folder}/{name}"
        arrow = _arrow()
        with self._said("written"):
            local = arrow.LocalFileSystem()
            arrow.copy_files(
                str(path), fresh, source_filesystem=local, destination_filesystem=self._filesystem
            )
            arrived, size = self._filesystem.get_file_info(fresh).size, path.stat().st_size
            if arrived != size:
                raise OSError(f"{arrived} of {size} bytes have arrived")
            self._filesystem.create_dir(place, recursive=True)
            self._filesystem.move(fresh, f"{place}/{_FILE}")

    def fetch(self, name: str, path: Path) -> bool:
        """Copy a checkpoint to a file, whole or not at all; whether there is one.

        Raises:
            StorageError: if the storage cannot be read, or the file not be written.
        """
        place = f"{self._folder}/{name}"
        with self._said("read"):
            if not self._filesystem.get_file_info(f"{place}/{_FILE}").is_file:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as fresh:
                ray_train().Checkpoint(place, filesystem=self._filesystem).to_directory(fresh)
                os.replace(Path(fresh) / _FILE, path)
        return True

    def remove(self, name: str) -> None:
        """Remove a checkpoint, if there is one.

        Raises:
            StorageError: if the storage cannot be written.
        """
        with self._said("written"):
            try:
                self._filesystem.delete_dir(f"{self._folder}/{name}")
            except FileNotFoundError:
                return

    @contextmanager
    def _said(self, done: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # pyarrow's errors are of either kind
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise StorageError(
                f"The storage {self._folder} could not be {done}: {reason}. What was finished is kept: see to it, and "
                "resume."
            ) from error


def plain(uri: str) -> str:
    """A URI without what may be secret in it: credentials and queries."""
    parts = urlsplit(uri)
    where = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{where}{parts.path}" if parts.scheme else parts.path


def _arrow() -> Any:
    try:
        import pyarrow.fs
    except ImportError as error:
        raise ClusterError('`storage` needs pyarrow: pip install "equipoise[search]".') from error
    return pyarrow.fs
