"""Which storage holds the checkpoints of a search: kept in its directory, so that it goes on with the same one."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from equipoise.cluster.storage import Storage, plain
from equipoise.training.storage import storing, write_atomically

from .genealogy import FILE as GENEALOGY
from .generations import SearchError

FILE = "storage.json"


def storage_of(directory: Path, uri: str | None) -> Storage | None:
    """The storage of a search, ready to be used; None where checkpoints lie in the directory.

    Each search has a folder of its own below the URI, by a name that is drawn when it begins: no search takes up
    checkpoints of another one.

    Args:
        directory: of the search; must exist.
        uri: that is asked for now, or None.

    Raises:
        SearchError: if the search was begun with another storage, or without one.
        ClusterError: if the URI is none.
        StorageError: if the storage or the directory cannot be written.
    """
    path = directory / FILE
    begun = json.loads(path.read_text()) if path.exists() else None
    if begun is None and uri is None:
        return None
    if begun is None and (directory / GENEALOGY).exists():
        raise SearchError(f"`storage` should be left out for {directory}, which was begun without one.")
    if begun is not None and (uri is None or plain(uri) != begun["uri"]):
        raise SearchError(
            f"`storage` should be {begun['uri']}, where the checkpoints of {directory} lie. Found "
            f"{'none' if uri is None else plain(uri)}: add --storage {begun['uri']}."
        )
    assert uri is not None
    begun = begun or {"uri": plain(uri), "folder": f"{directory.resolve().name}-{uuid.uuid4().hex[:8]}"}
    storage = Storage.at(uri, begun["folder"])
    storage.begin()
    with storing(path):
        write_atomically(path, json.dumps(begun))
    return storage
