"""One domain of images that are files: what is listed, decoded at one size into a cache, or some of it without one."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.data.colour_domain import PARTS, Caps, ColourDomain, check_parts, drawn
from equipoise.data.image_cache import ImageFiles, Progress, cores, some_images
from equipoise.data.images import read_image

SHOWN = 5
_AT_ONCE = 512


@dataclass(frozen=True)
class ListedDomain:
    """The files of a domain.

    Args:
        name: of the domain.
        folder: that the files are in.
        files: paths below it, with "/".
        labels: classes (n,), int64.
        parts: each of `PARTS` -> rows of the files, int64, ascending.
    """

    name: str
    folder: Path
    files: Sequence[str]
    labels: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True)
class Reading:
    """How the files of domains are read.

    Args:
        side: H = W that images are resized to, the aspect ratio not kept; see `read_image`.
        caps: at most how many images of each part.
        skip_bad: leave out images whose file is missing or damaged, instead of raising.
        root: folder of the caches, one for each domain and size.
        progress: called with (done, total) images of a domain while they are decoded.
    """

    side: int
    caps: Caps
    skip_bad: bool
    root: Path
    progress: Progress | None = None


def read_listed(listed: ListedDomain, reading: Reading) -> ColourDomain:
    """Decode the images of a domain.

    Where all are wanted, they are decoded once into a cache, which is then mapped into memory; some of them are taken
    from the cache where there is one, and otherwise decoded without one. The cache is built again when a file has
    another name or size.

    Raises:
        ValueError: if a file is bad (unless `skip_bad`), or nothing is left of a part.
        OSError: if the disk has no room for the cache.
    """
    sizes = file_sizes(listed)
    bad = {file: "missing" for file in listed.files if file not in sizes}
    _refuse(listed, bad, reading.skip_bad)
    rows = torch.tensor([row for row, file in enumerate(listed.files) if file in sizes], dtype=torch.int64)
    whole = all(cap is None for cap in reading.caps.values())
    chosen = {
        part: drawn(own[torch.isin(own, rows)], reading.caps.get(part)) for part, own in listed.parts.items()
    }
    places = None if whole else torch.searchsorted(rows, torch.cat(list(chosen.values())).sort().values)
    source = ImageFiles(
        [f"{listed.folder}/{listed.files[row]}" for row in rows.tolist()],
        (reading.side, reading.side),
        _fingerprint(listed.files, sizes),
        progress=reading.progress,
    )
    path = reading.root / f"{listed.name}-{reading.side}.u8"
    images, held = some_images(path, source, places)
    rows = rows[held]
    bad |= {listed.files[int(rows[row])]: why for row, why in images.bad.items()}
    _refuse(listed, bad, reading.skip_bad)
    good = torch.ones(len(listed.files), dtype=torch.bool)
    good[rows[list(images.bad)]] = False
    parts = {name: torch.searchsorted(rows, own[good[own]]) for name, own in chosen.items()}
    check_parts(parts, listed.name, listed.folder)
    return ColourDomain(images.pixels, listed.labels[rows], parts, bad)


def file_sizes(listed: ListedDomain) -> dict[str, int]:
    """The size in bytes of every listed file that is there."""
    wanted, found = set(listed.files), dict[str, int]()
    for folder in sorted({file.rpartition("/")[0] for file in listed.files}):
        if (listed.folder / folder).is_dir():
            with os.scandir(listed.folder / folder) as entries:
                there = {f"{folder}/{entry.name}": entry for entry in entries}
            found |= {file: there[file].stat().st_size for file in wanted & there.keys()}
    return found


def check_listed(listed: ListedDomain, progress: Progress | None = None) -> dict[str, Any]:
    """Decode all images of a domain, and say what there is.

    Returns:
        JSON-able: ``parts`` (of each the number of images), ``classes`` that occur, ``bad`` (file -> why), and
        ``sizes`` ("HxW" -> number of images, the ten most frequent).
    """
    found: list[str | tuple[int, int]] = []
    with ThreadPoolExecutor(cores(), "equipoise-check") as pool:
        for start in range(0, len(listed.files), _AT_ONCE):
            files = listed.files[start : start + _AT_ONCE]
            found += pool.map(_look, [listed.folder / file for file in files])
            if progress is not None:
                progress(len(found), len(listed.files))
    bad = {file: why for file, why in zip(listed.files, found, strict=True) if isinstance(why, str)}
    sizes = Counter(f"{size[0]}x{size[1]}" for size in found if not isinstance(size, str))
    return {
        "parts": {part: len(rows) for part, rows in listed.parts.items()},
        "classes": len(listed.labels.unique()),
        "bad": bad,
        "sizes": dict(sizes.most_common(10)),
    }


def told(bad: Mapping[str, str]) -> str:
    """Say in words how many files are bad, and name the first ones."""
    shown = ", ".join(f"{file} ({why})" for file, why in list(bad.items())[:SHOWN])
    more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return f"{len(bad)} bad file{'s' if len(bad) > 1 else ''}: {shown}{more}"


def parts_of(rows: Sequence[Tensor]) -> dict[str, Tensor]:
    """The rows of `PARTS`, by name."""
    return dict(zip(PARTS, rows, strict=True))


def _look(path: Path) -> tuple[int, int] | str:
    try:
        image = read_image(path)
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError) as error:
        return f"unreadable: {error.__cause__ or error}"
    return image.shape[1], image.shape[2]


def _refuse(listed: ListedDomain, bad: Mapping[str, str], skip_bad: bool) -> None:
    if bad and not skip_bad:
        raise ValueError(
            f"`{listed.folder}` should hold every image of the domain {listed.name!r}. Found {told(bad)}. Copy again "
            "what is bad, or leave these images out (`skip_bad`)."
        )


def _fingerprint(files: Sequence[str], sizes: Mapping[str, int]) -> str:
    text = "\n".join(f"{file} {sizes[file]}" for file in files if file in sizes)
    return hashlib.sha256(text.encode()).hexdigest()
