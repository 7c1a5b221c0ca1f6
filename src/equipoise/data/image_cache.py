"""Many image files decoded once into one memory-mapped file, block by block: a stop loses no more than a block."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equipoise.data.images import read_image

Progress = Callable[[int, int], None]

BLOCK = 512  # images; at 64 x 64 pixels half a second of decoding, and 6 MB
FORMAT = 1


class Images(NamedTuple):
    """Decoded images.

    Args:
        pixels: uint8 (n, 3, H, W).
        bad: row -> why this file cannot be read; such rows are black.
    """

    pixels: Tensor
    bad: dict[int, str]


@dataclass(frozen=True)
class ImageFiles:
    """Which files to decode, and how.

    Args:
        files: in the order of the rows.
        size: (H, W) that they are resized to, see `read_image`.
        fingerprint: of the files; another one makes a cache stale.
        threads: that decode, or None for as many as there are cores.
        progress: called with (done, total) images.
    """

    files: Sequence[str | Path]
    size: tuple[int, int]
    fingerprint: str = ""
    threads: int | None = None
    progress: Progress | None = None


def decode_images(source: ImageFiles) -> Images:
    """Decode files into memory, and write nothing."""
    blocks = list(_blocks(source, 0))
    bad = {row: why for _, found in blocks for row, why in found.items()}
    empty = torch.zeros(0, 3, *source.size, dtype=torch.uint8)
    return Images(torch.cat([empty, *(pixels for pixels, _ in blocks)]), bad)


def load_images(path: Path, source: ImageFiles) -> Images | None:
    """Map what `cached_images` wrote into memory, so that processes share the pages.

    Every block is compared with its checksum, which reads the whole file once: about a second for 2.5 GB that the
    system has in memory.

    Args:
        path: of the cache file.
        source: that it should be of.

    Returns:
        The images, or None where there is no usable cache: none at all (silently), or, with a `UserWarning` that says
        why, one that is damaged, of another format, or made from other files.
    """
    found = _mapped(path, source)
    if isinstance(found, str):
        message = f"The cache `{path}` is not used and will be built again: {found}."
        warnings.warn(message, UserWarning, stacklevel=2)
        return None
    return found


def cached_images(path: Path, source: ImageFiles) -> Images:
    """Decode files into a cache, or map the cache into memory if there is a good one.

    Beside `path`, which holds the pixels alone, lies a file of lines in JSON: what it was made from, and of each block
    its checksum and bad files. Both are written under temporary names, block after block, and renamed at the end. What
    a stopped call has left is taken up by the next one. A second process waits for the first.

    Args:
        path: of the cache file; its folder is made.
        source: what to decode.

    Raises:
        OSError: if the disk has no room.
    """
    found = load_images(path, source)
    if found is not None:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        again = _mapped(path, source)
        if isinstance(again, Images):  # by another process, while this one waited
            return again
        _build(path, source)
    built = _mapped(path, source)
    assert isinstance(built, Images), built
    return built


def some_images(path: Path, source: ImageFiles, chosen: Tensor | None) -> tuple[Images, Tensor]:
    """Decode all files into a cache, or get some of them: from the cache where there is one, or else without one.

    Args:
        path: of the cache file.
        source: what there is to decode.
        chosen: which files, numbers (k,), int64, ascending; None for all.

    Returns:
        The images, of which `bad` names chosen ones only, and the number (n,) of the file that each of them is.

    Raises:
        OSError: if the disk has no room for the cache.
    """
    everything = torch.arange(len(source.files))
    if chosen is None:
        return cached_images(path, source), everything
    cached = load_images(path, source)
    if cached is not None:
        wanted = set(chosen.tolist())
        return cached._replace(bad={row: why for row, why in cached.bad.items() if row in wanted}), everything
    files = [source.files[row] for row in chosen.tolist()]
    return decode_images(
        ImageFiles(files, source.size, threads=source.threads, progress=source.progress)
    ), chosen


def _build(path: Path, source: ImageFiles) -> None:
    part = path.with_name(f"{path.name}.{zlib.crc32(source.fingerprint.encode()):08x}.part")
    done = _resumable(part, source)
    _check_room(path.parent, (len(source.files) - len(done) * BLOCK) * _bytes(source))
    lines = _index(part)
    with open(part, "r+b" if done else "wb") as pixels, open(lines, "w", encoding="utf-8") as index:
        index.writelines(json.dumps(line) + "\n" for line in [_header(source), *done])
        index.flush()
        pixels.seek(len(done) * BLOCK * _bytes(source))
        for block, bad in _blocks(source, len(done)):
            pixels.write(block.numpy().data)
            pixels.flush()
            index.write(json.dumps(_line(block, bad)) + "\n")
            index.flush()
        pixels.truncate()
    os.replace(part, path)
    os.replace(lines, _index(path))


def _blocks(source: ImageFiles, first: int) -> Iterator[tuple[Tensor, dict[int, str]]]:
    """Pixels and bad rows of each block, from the `first` on."""
    total = len(source.files)
    with ThreadPoolExecutor(source.threads or cores(), "equipoise-decode") as pool:
        for start in range(first * BLOCK, total, BLOCK):
            files = source.files[start : start + BLOCK]
            pixels = torch.zeros(len(files), 3, *source.size, dtype=torch.uint8)
            reasons = pool.map(_decode, pixels, files)
            yield pixels, {start + row: why for row, why in enumerate(reasons) if why}
            if source.progress is not None:
                source.progress(start + len(files), total)


def _decode(row: Tensor, file: str | Path) -> str | None:
    """Fill a row (3, H, W); returns why that is not possible."""
    try:
        row.copy_(read_image(file, size=(row.shape[1], row.shape[2])))
    except (OSError, ValueError) as error:
        return f"unreadable: {error.__cause__ or error}"
    return None


def _mapped(path: Path, source: ImageFiles) -> Images | str | None:
    """The images of a cache, what is wrong with it, or None where there is none."""
    if not path.exists() and not _index(path).exists():
        return None
    try:
        header, *lines = [json.loads(line) for line in _index(path).read_text("utf-8").splitlines()]
        problem = _problem(header, source)
        if problem:
            return problem
        pixels = _map(path, source)
        good = [_fits(pixels, number, line) for number, line in enumerate(lines)]
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        return f"it cannot be read ({type(error).__name__})"
    if not all(good) or len(good) != -(-len(source.files) // BLOCK):
        return "its content does not match its checksums"
    return Images(pixels, {int(row): why for line in lines for row, why in line["bad"].items()})


def _map(path: Path, source: ImageFiles) -> Tensor:
    size = len(source.files) * _bytes(source)
    if path.stat().st_size != size:
        raise ValueError(f"`{path}` should have {size} bytes. Found {path.stat().st_size}.")
    flat = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    return flat.view(len(source.files), 3, *source.size)


def _resumable(part: Path, source: ImageFiles) -> list[dict[str, Any]]:
    """The lines of the whole blocks that a stopped call has left."""
    try:
        header, *texts = _index(part).read_text("utf-8").splitlines()
        if _problem(json.loads(header), source):
            return []
        lines = [json.loads(text) for text in texts if text.endswith("}}")]  # the last one may be cut
        whole = min(len(lines), part.stat().st_size // (BLOCK * _bytes(source)))
        flat = torch.from_file(str(part), size=whole * BLOCK * _bytes(source), dtype=torch.uint8)
        pixels = flat.view(whole * BLOCK, 3, *source.size)
    except (OSError, ValueError, RuntimeError):
        return []
    good = [_fits(pixels, number, line) for number, line in enumerate(lines[:whole])]
    return lines[: good.index(False) if False in good else whole]


def _header(source: ImageFiles) -> dict[str, Any]:
    shape = [len(source.files), 3, *source.size]
    return {"format": FORMAT, "block": BLOCK, "shape": shape, "fingerprint": source.fingerprint}


def _problem(header: dict[str, Any], source: ImageFiles) -> str | None:
    wanted = _header(source)
    if header.get("format") != FORMAT:
        return f"it has format {header.get('format')}, not {FORMAT}"
    return None if header == wanted else "it was made from other files"


def _line(block: Tensor, bad: dict[int, str]) -> dict[str, Any]:
    return {"crc": zlib.crc32(block.numpy().data), "bad": {str(row): why for row, why in bad.items()}}


def _fits(pixels: Tensor, number: int, line: dict[str, Any]) -> bool:
    block = pixels[number * BLOCK : (number + 1) * BLOCK]
    return bool(zlib.crc32(block.numpy().data) == line["crc"])


def _index(path: Path) -> Path:
    return path.with_name(f"{path.name}.jsonl")


def _bytes(source: ImageFiles) -> int:
    return 3 * source.size[0] * source.size[1]


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"`{folder}` should have {needed / 1e9:.2g} GB of room for the decoded images. Found {free / 1e9:.2g} GB: "
            "make room, or set the variable EQUIPOISE_DATA to another folder."
        )


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process builds this cache."""
    with open(path.with_name(f"{path.name}.lock"), "w") as file:
        with suppress(ImportError, OSError):  # Windows, and some network file systems, know no such locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
