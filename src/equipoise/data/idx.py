"""The idx files of MNIST and of the sets made like it, read without other packages than torch."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

_UNSIGNED_BYTES = 8


def read_idx(path: Path, dimensions: int, sha256: str | None = None) -> Tensor:
    """Read an array of bytes from an idx file, packed with gzip or not.

    The file begins with two zero bytes, the type of its values (8: unsigned bytes, the only one read here) and the
    number of its dimensions; the length of each follows as four bytes, the greatest first, then the values. So images
    begin with the number 2051 and labels with 2049.

    Args:
        path: of the file; a name that ends in ``.gz`` is unpacked.
        dimensions: that the array should have: 3 for images (n, H, W), 1 for labels (n,).
        sha256: of the unpacked content, or None for any.

    Returns:
        uint8, in the shape that the file states.

    Raises:
        ValueError: if the file cannot be unpacked, begins with another number, is shorter or longer than its header
            says, or has another checksum.
    """
    content = _unpacked(path)
    magic = 256 * _UNSIGNED_BYTES + dimensions
    found = int.from_bytes(content[:4])
    if len(content) < 4 or found != magic:
        raise ValueError(
            f"`{path}` should begin with {magic}, as an idx file of bytes in {dimensions} "
            f"dimension{'s' * (dimensions > 1)} does. Found {found if len(content) >= 4 else 'too few bytes'}."
        )
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(content[place : place + 4]) for place in range(4, start, 4)]
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise ValueError(
            f"`{path}` should have {expected} bytes, of which {start} for the header, since it says that its shape is "
            f"{tuple(shape)}. Found {len(content)} bytes: copy the file again."
        )
    if sha256 is not None and (digest := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(
            f"`{path}` should have sha256 {sha256} when unpacked. Found {digest}: copy or install the file again."
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[start:].reshape(shape)


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"`{path}` should be a whole gzip file. Found one that cannot be unpacked ({error}): copy it again."
        ) from error
