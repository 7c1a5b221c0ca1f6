"""Tensor caches on disk: written whole or not at all, and never trusted when damaged or out of date."""

from __future__ import annotations

import hashlib
import os
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = 1


def data_root(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder in which a data set keeps its caches.

    Args:
        name: of the data set, a folder name such as ``"qm9"``.
        root: the folder itself, where the caller wants another one than the default.

    Returns:
        ``root``, else ``$EQUIPOISE_DATA/<name>``, else ``~/.cache/equipoise/<name>``. It may not exist yet.
    """
    if root is not None:
        return Path(root).expanduser()
    base = os.environ.get("EQUIPOISE_DATA")
    return (Path(base).expanduser() if base else Path.home() / ".cache" / "equipoise") / name


def save_tensors(path: Path, tensors: Mapping[str, Tensor], fingerprint: str) -> None:
    """Write tensors under a temporary name, then rename: a reader never sees half a file.

    Args:
        path: of the cache file; its folder is made.
        tensors: contiguous CPU tensors by name.
        fingerprint: of the source; another one makes the cache stale.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "digest": _digest(tensors),
        "tensors": dict(tensors),
    }
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        torch.save(content, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_tensors(path: Path, fingerprint: str) -> dict[str, Tensor] | None:
    """Read what :func:`save_tensors` wrote, memory-mapped, so that processes share the pages.

    Args:
        path: of the cache file.
        fingerprint: that the source has now.

    Returns:
        The tensors, or ``None`` where there is no usable file: none at all (silently), or, with a ``UserWarning``
        that says why, one that is damaged, of another format, or made from another source.
    """
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True, mmap=True)
        problem = _problem(content, fingerprint)
    except Exception as error:  # a damaged file can fail anywhere in torch's reader, with any exception
        problem = f"it cannot be read ({type(error).__name__})"
    if problem:
        message = f"The cache `{path}` is not used and will be built again: {problem}."
        warnings.warn(message, UserWarning, stacklevel=2)
        return None
    tensors: dict[str, Tensor] = content["tensors"]
    return tensors


def _problem(content: dict[str, Any], fingerprint: str) -> str | None:
    if content["format"] != FORMAT:
        return f"it has format {content['format']}, not {FORMAT}"
    if content["fingerprint"] != fingerprint:
        return "it was made from another version of the source"
    if content["digest"] != _digest(content["tensors"]):
        return "its content does not match its checksum"
    return None


def _digest(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.numpy().data)
    return total.hexdigest()
