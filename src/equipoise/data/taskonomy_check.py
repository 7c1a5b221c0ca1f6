"""Says what a folder of Taskonomy holds: views, buildings and files of each task, and samples of the values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from equipoise.data.image_cache import Progress
from equipoise.data.images import image_size
from equipoise.data.taskonomy import (
    QUANTITIES,
    SPLITS,
    Views,
    find_views,
    read_target,
    split_file,
    spread,
    task_files,
)

_SAMPLES = 20  # images of each part whose files are opened
_SIDE = 64


def check_taskonomy(folder: str | os.PathLike[str], progress: Progress | None = None) -> dict[str, Any]:
    """Look for the files of every view of the largest split that is there, and open those of some views.

    A task counts as there if any building has a file of it. All other files are looked for, and some are decoded: 20
    evenly spread images of each part.

    Args:
        folder: that holds the layout.
        progress: called with (done, total) images that are opened.

    Returns:
        JSON-able: ``name``, ``root``, ``available`` (a split and an image with all files in each of its parts),
        ``problems`` (why not, in words), ``notes``, ``split``, ``tasks`` (those with files), ``images`` (part ->
        number), ``absent`` (part -> number of buildings without images), ``bad`` (file -> why), ``size`` of the
        first image, and ``values`` (task -> the least and greatest value of the opened files, in the units of
        `read_target`).
    """
    root = Path(folder).expanduser()
    facts: dict[str, Any] = {"name": "Taskonomy", "root": str(root), "available": False}
    try:
        there = [split for split in SPLITS if split_file(root, split) is not None]
        split = there[-1] if there else next(iter(SPLITS))
        tasks = _tasks(find_views(root, split, []))
        views = find_views(root, split, tasks, skip_bad=True)
    except (FileNotFoundError, ValueError) as error:
        return {**facts, "problems": [str(error)], "notes": []}
    bad = dict(views.bad)
    values = _values(views, tasks, bad, progress)
    facts |= {
        "split": split,
        "tasks": tasks,
        "images": {part: len(rows) for part, rows in views.parts.items()},
        "absent": {part: len(names) for part, names in views.absent.items()},
        "bad": bad,
        "size": "x".join(map(str, image_size(views.file(views.views[0], "rgb")))),
        "values": values,
    }
    problems = (
        [f"{len(bad)} bad file(s), such as {next(iter(bad))} ({next(iter(bad.values()))})"] if bad else []
    )
    problems += [] if tasks else ["no file of any task"]
    return {**facts, "available": not problems, "problems": problems, "notes": _notes(facts)}


def _tasks(views: Views) -> list[str]:
    """The tasks that any building has a file of."""
    buildings = sorted({view.building for view in views.views})
    return [
        task
        for task in QUANTITIES
        if any(task_files(views.folder, views.layout, building, task) for building in buildings)
    ]


def _values(
    views: Views, tasks: list[str], bad: dict[str, str], progress: Progress | None
) -> dict[str, list[float]]:
    """The range of values of some files of each task; `bad` takes in those that cannot be read."""
    some = [int(rows[place]) for rows in views.parts.values() for place in spread(len(rows), _SAMPLES)]
    ranges: dict[str, list[float]] = {}
    for done, row in enumerate(some, start=1):
        for task in tasks:
            path = views.file(views.views[row], task)
            try:
                low, high = torch.aminmax(read_target(path, task, _SIDE))
            except (OSError, ValueError) as error:
                bad[str(path.relative_to(views.folder))] = f"unreadable: {error}"
                continue
            before = ranges.get(task, [float(low), float(high)])
            ranges[task] = [min(before[0], float(low)), max(before[1], float(high))]
        if progress is not None:
            progress(done, len(some))
    return ranges


def _notes(facts: Mapping[str, Any]) -> list[str]:
    lacking = [task for task in QUANTITIES if task not in facts["tasks"]]
    notes = [f"no files of the tasks {', '.join(lacking)}: leave them out of `tasks`"] if lacking else []
    notes += [
        f"{part}: {count} building(s) of the split {facts['split']} without images"
        for part, count in facts["absent"].items()
        if count
    ]
    if facts["size"] != "512x512":
        notes.append(f"images of {facts['size']} pixels; published are 512x512")
    return notes
