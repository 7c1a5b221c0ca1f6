"""Says what a folder of NYUv2 or CityScapes holds: counts, shapes, value ranges, what is missing or bad."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from equipoise.data.dense_folder import PARTS, FileFacts, Layout, Part, Progress, inspect_part, listed


def check_folder(
    root: str | os.PathLike[str], layout: Layout, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Read a whole folder and compare it with its layout, not with checksums.

    Args:
        root: the folder that holds ``train`` and ``val``.
        layout: ``NYUV2`` or ``CITYSCAPES``.
        progress: called with (done, total) files of a part.

    Returns:
        JSON-able: ``name``, ``root``, ``available`` (both parts can be read whole), ``problems`` (why not, in words),
        ``notes`` (departures from the published copy that do not hinder reading, such as another number of samples),
        and ``parts``: for each part ``samples``, ``published`` samples, ``bad`` (file -> why) and ``quantities``: of
        each the number of ``files`` that can be read, ``shapes`` and ``dtypes`` (-> number of files), ``min``, ``max``
        and ``labelled``, the mean share of pixels that are not -1 (label) or 0 (depth, normal).
    """
    root = Path(root).expanduser()
    parts: dict[str, Any] = {}
    problems: list[str] = []
    notes: list[str] = []
    for part in PARTS:
        try:
            facts = inspect_part(root / part, layout, values=True, progress=progress)
        except FileNotFoundError as error:
            problems.append(str(error))
            continue
        parts[part] = _summary(facts, layout, part)
        problems += _problems(part, parts[part])
        notes += _notes(part, parts[part], layout)
    return {
        "name": layout.name,
        "root": str(root),
        "available": not problems,
        "problems": problems,
        "notes": notes,
        "parts": parts,
    }


def _summary(facts: Mapping[str, FileFacts], layout: Layout, part: Part) -> dict[str, Any]:
    return {
        "samples": len(facts) // len(layout.folders),
        "published": layout.samples[part],
        "bad": {file: fact.problem for file, fact in facts.items() if fact.problem},
        "quantities": {
            quantity: _quantity(fact for fact in facts.values() if fact.quantity == quantity)
            for quantity in layout.folders
        },
    }


def _quantity(facts: Iterable[FileFacts]) -> dict[str, Any]:
    readable = [fact for fact in facts if fact.shape]
    measured = [fact for fact in readable if fact.range]
    return {
        "files": len(readable),
        "shapes": dict(Counter("x".join(map(str, fact.shape)) for fact in readable)),
        "dtypes": dict(Counter(fact.dtype for fact in readable)),
        "min": min((fact.range[0] for fact in measured), default=None),
        "max": max((fact.range[1] for fact in measured), default=None),
        "labelled": sum(fact.labelled for fact in measured) / len(measured) if measured else None,
    }


def _problems(part: str, found: Mapping[str, Any]) -> list[str]:
    if not found["samples"]:
        return [f"{part}: no npy file"]
    return [f"{part}: {listed(found['bad'])}"] if found["bad"] else []


def _notes(part: str, found: Mapping[str, Any], layout: Layout) -> list[str]:
    notes = []
    if found["samples"] != found["published"]:
        notes.append(f"{part}: {found['samples']} samples; published are {found['published']}")
    image = found["quantities"]["image"]
    published = "x".join(map(str, (*layout.size, 3)))
    if image["shapes"] and set(image["shapes"]) != {published}:
        notes.append(f"{part}: images of {', '.join(image['shapes'])}; published are {published}")
    if image["min"] is not None and (image["min"] < 0 or image["max"] > 1):
        notes.append(f"{part}: images from {image['min']:g} to {image['max']:g}; published are 0 to 1")
    return notes
