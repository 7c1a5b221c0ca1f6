"""Says what a folder of CelebA holds: counts, sizes, value ranges, what is missing or bad."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from equipoise.data.celeba import (
    ATTRIBUTES,
    FOLDER,
    FULL_SIZE,
    PARTS,
    PUBLISHED,
    Lists,
    file_sizes,
    listed,
    read_lists,
)
from equipoise.data.image_cache import Progress, cores
from equipoise.data.images import read_image

_AT_ONCE = 512


def check_celeba(folder: str | os.PathLike[str], progress: Progress | None = None) -> dict[str, Any]:
    """Decode a whole folder and compare it with the layout, not with checksums.

    Args:
        folder: that holds ``img_align_celeba`` and the two lists.
        progress: called with (done, total) images.

    Returns:
        JSON-able: ``name``, ``root``, ``available`` (all listed images can be read), ``problems`` (why not, in words),
        ``notes`` (departures from the published copy that do not hinder reading), and, where the lists can be read,
        ``parts`` (of each the number of ``listed``, ``published`` and ``bad`` images), ``bad`` (file -> why),
        ``unlisted`` (number of jpg files in no list), ``sizes`` ("178x218" -> number of images), ``min`` and ``max`` of
        the pixels, and ``positive``, the share of images with each attribute.
    """
    root = Path(folder).expanduser()
    facts: dict[str, Any] = {"name": "CelebA", "root": str(root), "available": False}
    try:
        lists = read_lists(root)
    except (FileNotFoundError, ValueError) as error:
        return {**facts, "problems": [str(error)], "notes": []}
    present = file_sizes(root / FOLDER)
    bad = {file: "missing" for file in lists.files if file not in present}
    there = [file for file in lists.files if file in present]
    seen = _looked_through(root / FOLDER, there, progress)
    bad |= {file: found for file, found in zip(there, seen, strict=True) if isinstance(found, str)}
    good = [found for found in seen if not isinstance(found, str)]
    facts |= {
        "problems": [listed(bad)] if bad else [],
        "parts": _by_part(lists, bad),
        "bad": bad,
        "unlisted": len(set(present) - set(lists.files)),
        "sizes": dict(Counter(f"{width}x{height}" for height, width, _, _ in good)),
        "min": min((low for _, _, low, _ in good), default=None),
        "max": max((high for _, _, _, high in good), default=None),
        "positive": dict(zip(ATTRIBUTES, lists.labels.double().mean(0).tolist(), strict=True)),
    }
    return {**facts, "available": not bad, "notes": _notes(facts)}


def _looked_through(
    folder: Path, files: Sequence[str], progress: Progress | None
) -> list[tuple[int, int, int, int] | str]:
    """Of each image its height, width, least and greatest value, or why it cannot be read."""
    found: list[tuple[int, int, int, int] | str] = []
    with ThreadPoolExecutor(cores(), "equipoise-check") as pool:
        for start in range(0, len(files), _AT_ONCE):
            found += pool.map(_look, [folder / file for file in files[start : start + _AT_ONCE]])
            if progress is not None:
                progress(len(found), len(files))
    return found


def _look(path: Path) -> tuple[int, int, int, int] | str:
    try:
        image = read_image(path)
    except (OSError, ValueError) as error:
        return f"unreadable: {error.__cause__ or error}"
    low, high = torch.aminmax(image)
    return image.shape[1], image.shape[2], int(low), int(high)


def _by_part(lists: Lists, bad: Mapping[str, str]) -> dict[str, dict[str, int]]:
    numbers = lists.part.tolist()
    broken = Counter(number for file, number in zip(lists.files, numbers, strict=True) if file in bad)
    return {
        name: {"listed": numbers.count(number), "published": PUBLISHED[name], "bad": broken[number]}
        for number, name in enumerate(PARTS)
    }


def _notes(facts: Mapping[str, Any]) -> list[str]:
    notes = [
        f"{name}: {part['listed']} images; published are {part['published']}"
        for name, part in facts["parts"].items()
        if part["listed"] != part["published"]
    ]
    full = f"{FULL_SIZE[1]}x{FULL_SIZE[0]}"
    if facts["sizes"] and set(facts["sizes"]) != {full}:
        notes.append(f"images of {', '.join(facts['sizes'])} pixels; published are {full}")
    if facts["unlisted"]:
        notes.append(f"{facts['unlisted']} jpg file(s) that are in no list, and are not used")
    constant = [name for name, share in facts["positive"].items() if share in (0, 1)]
    if constant:
        notes.append(f"attributes that all images have, or none: {', '.join(constant)}")
    return notes
