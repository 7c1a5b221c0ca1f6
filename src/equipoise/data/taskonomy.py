"""Taskonomy: views of buildings with many dense labels, read file by file from the folder of the official downloads.

Layout: ``TASK/taskonomy/BUILDING/point_P_view_V_domain_DOMAIN.png``, as omnidata's download tool writes it, or without
the folder ``taskonomy``, or ``BUILDING/TASK/...`` as in the sample building of the first release; and one of the
official split files, ``train_val_test_tiny.csv`` (or medium, full, fullplus) with the columns id, train, val, test.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.data.colour_domain import PARTS
from equipoise.data.images import read_image, read_values

Encoding = Literal["classes", "depth", "normal", "map16", "map8"]

SPLITS = {"tiny": (25, 5, 5), "medium": (98, 20, 20), "full": (344, 67, 71), "fullplus": (381, 75, 81)}
"""Buildings of the three parts, as published."""
OBJECTS = (
    "background", "bottle", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "microwave",
    "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
)  # fmt: skip
"""The classes 1 to 17 of the files, here 0 to 16; 0 of the files is "uncertain", here -1."""
LAYOUTS = ("{task}/taskonomy/{building}", "{task}/{building}", "{building}/{task}")
DEPTH_UNIT = 1 / 512  # metres
NO_DEPTH = 65_535
SOURCE = (
    "https://github.com/StanfordVL/taskonomy/tree/master/data: `omnitools.download rgb depth_euclidean ... "
    "--components taskonomy --subset tiny --dest DIR`, and splits_taskonomy.zip, unpacked into the same folder."
)
LICENCE = "of its authors, for research and education; see the page of the data set"
CITATION = (
    "A. Zamir, A. Sax, W. Shen, L. Guibas, J. Malik, S. Savarese, Taskonomy: Disentangling Task Transfer Learning, "
    "CVPR 2018, https://arxiv.org/abs/1804.08328"
)
_SPLIT_FILE = "train_val_test_{split}.csv"
_VIEW = re.compile(r"point_(\d+)_view_(\d+)_domain_rgb\.png")
_COLUMNS = ["id", "train", "val", "test"]
_SHORTEST = 0.5  # of a stored normal that is one: grey, the mark of no surface, is near 0


class Quantity(NamedTuple):
    """How a task is stored.

    Args:
        domain: the end of its file names.
        encoding: "classes": 8 bits, see `OBJECTS`. "depth": 16 bits of 1/512 m, 65,535 for none. "normal": colours
            from 0 to 255 for -1 to 1. "map16" and "map8": 16 or 8 bits for 0 to 1, of colours the red channel.
    """

    domain: str
    encoding: Encoding


QUANTITIES: Mapping[str, Quantity] = {
    "segment_semantic": Quantity("segmentsemantic", "classes"),
    "depth_euclidean": Quantity("depth_euclidean", "depth"),
    "depth_zbuffer": Quantity("depth_zbuffer", "depth"),
    "normal": Quantity("normal", "normal"),
    "edge_texture": Quantity("edge_texture", "map16"),
    "keypoints2d": Quantity("keypoints2d", "map16"),
    "reshading": Quantity("reshading", "map8"),
}
"""Task, which is the name of its folder -> how it is stored."""


class View(NamedTuple):
    """One image of a building, by the numbers in its file name."""

    building: str
    point: int
    view: int


@dataclass(frozen=True)
class Views:
    """What a folder holds.

    Args:
        folder: of the layout above.
        layout: which of `LAYOUTS` it has.
        views: that have an image and a file of every task.
        parts: each of `PARTS` -> numbers of views, int64, ascending.
        bad: file -> what is wrong with it; such views are left out.
        absent: part -> buildings of the split file that the folder has no image of.
    """

    folder: Path
    layout: str
    views: tuple[View, ...]
    parts: Mapping[str, Tensor]
    bad: Mapping[str, str]
    absent: Mapping[str, tuple[str, ...]]

    def file(self, view: View, task: str) -> Path:
        """The file of a task, or of the image ("rgb")."""
        return self.folder / _file(self.layout, view, task)


def find_views(
    folder: str | os.PathLike[str], split: str, tasks: Sequence[str], *, skip_bad: bool = False
) -> Views:
    """Find the views of the buildings of a split, and see that each has a file of every task; none is opened.

    Args:
        folder: that holds the layout above.
        split: one of `SPLITS`. The buildings of it that are in the folder are used.
        tasks: some of `QUANTITIES`.
        skip_bad: leave out views that lack a file, instead of raising.

    Raises:
        FileNotFoundError: if the split file, or every image of it, is missing.
        ValueError: if the split file is not as expected, a view lacks a file (unless `skip_bad`), or nothing is left of
            a part.
    """
    root = Path(folder).expanduser()
    buildings = read_split(root, split)
    layout = _layout(root, [name for part in buildings.values() for name in part])
    found: dict[str, list[View]] = {
        part: [view for name in names for view in _views(root, layout, name)]
        for part, names in buildings.items()
    }
    absent = {
        part: tuple(sorted({*names} - {view.building for view in found[part]}))
        for part, names in buildings.items()
    }
    every = [view for part in found.values() for view in part]
    missing = _missing(root, layout, every, tasks)
    bad = {file: "missing" for files in missing.values() for file in files}
    if bad and not skip_bad:
        first = next(iter(bad))
        raise ValueError(
            f"`{root}` should hold a file of every task for every image. Found {len(missing)} of {len(every)} images "
            f"without one, such as {first}: download it, leave the task out of `tasks`, or leave these images out "
            "(`skip_bad`)."
        )
    kept = {part: [view for view in views if view not in missing] for part, views in found.items()}
    _check_parts(root, kept, absent)
    ends = torch.tensor([len(kept[part]) for part in PARTS]).cumsum(0).tolist()
    parts = {part: torch.arange(end - len(kept[part]), end) for part, end in zip(PARTS, ends, strict=True)}
    views = tuple(view for part in PARTS for view in kept[part])
    return Views(root, layout, views, parts, bad, absent)


def split_file(root: Path, split: str) -> Path | None:
    """Where the file of a split is, if it is."""
    name = _SPLIT_FILE.format(split=split)
    return next((path for path in (root / name, root / "splits_taskonomy" / name) if path.is_file()), None)


def read_split(root: Path, split: str) -> dict[str, list[str]]:
    """The buildings of each part, from the split file in the folder or in its folder ``splits_taskonomy``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the line that is not as expected.
    """
    path = split_file(root, split)
    if path is None:
        name = _SPLIT_FILE.format(split=split)
        raise FileNotFoundError(
            f"`{root}` should hold the split file {name}, or splits_taskonomy/{name}. Found neither: "
            "`equipoise data taskonomy` says where to get it."
        )
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row] or [[]]
    if header != _COLUMNS:
        raise ValueError(
            f"`{path}` should begin with the columns {', '.join(_COLUMNS)}. Found {', '.join(header)}."
        )
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(_COLUMNS) or not {*row[1:]} <= {"0", "1"} or row.count("1") > 1:
            raise ValueError(
                f"`{path}` should have 0 or one 1 for train, val and test behind each building. Found "
                f"{','.join(row)!r} in line {number}."
            )
        if "1" in row:
            parts[PARTS[row[1:].index("1")]].append(row[0])
    return parts


def read_target(path: Path, task: str, side: int) -> Tensor:
    """Decode the file of a task at side x side pixels.

    Returns:
        "classes": int64 (side, side), -1 where uncertain. "depth": metres (1, side, side), 0 where there is none.
        "normal": unit vectors (3, side, side), 0 where there is none. Maps: (1, side, side) from 0 to 1. Classes,
        depths and normals take the nearest pixel, maps the mean over the area.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it cannot be read, has other bits, or a class above 17.
    """
    encoding = QUANTITIES[task].encoding
    if encoding == "normal":
        vectors = _nearest(read_image(path).float() / 127.5 - 1, side)
        there = vectors.norm(dim=0) > _SHORTEST
        return torch.where(there, functional.normalize(vectors, dim=0), 0.0)
    if encoding == "map8":
        return functional.adaptive_avg_pool2d(read_image(path)[:1].float() / 255, side)
    values = read_values(path, 8 if encoding == "classes" else 16)
    if encoding == "map16":
        return functional.adaptive_avg_pool2d(values[None].float() / 65_535, side)
    if encoding == "depth":
        depth = _nearest(values[None], side)
        return torch.where(depth == NO_DEPTH, 0, depth).float() * DEPTH_UNIT
    if int(values.max()) > len(OBJECTS):
        raise ValueError(
            f"`{path}` should hold classes from 0 to {len(OBJECTS)}. Found {int(values.max())}: is it another kind of "
            "segmentation?"
        )
    return _nearest(values[None], side)[0].long() - 1


def spread(total: int, most: int) -> list[int]:
    """At most so many of `total` numbers from 0, evenly spread."""
    count = min(most, total)
    return [place * total // count for place in range(count)]


def _nearest(values: Tensor, side: int) -> Tensor:
    """The pixels (c, side, side) of (c, H, W) that the centres of the new ones lie in."""
    rows, columns = (((torch.arange(side) + 0.5) * size / side).long() for size in values.shape[1:])
    return values[:, rows][:, :, columns]


def _file(layout: str, view: View, task: str) -> str:
    domain = "rgb" if task == "rgb" else QUANTITIES[task].domain
    folder = layout.format(task=task, building=view.building)
    return f"{folder}/point_{view.point}_view_{view.view}_domain_{domain}.png"


def _layout(root: Path, buildings: Sequence[str]) -> str:
    for layout in LAYOUTS:
        if any((root / layout.format(task="rgb", building=name)).is_dir() for name in buildings):
            return layout
    raise FileNotFoundError(
        f"`{root}` should hold images of the buildings of its split file, in rgb/taskonomy/BUILDING, rgb/BUILDING or "
        f"BUILDING/rgb. Found none of {len(buildings)} buildings, such as {', '.join(buildings[:1]) or 'none listed'}."
    )


def _views(root: Path, layout: str, building: str) -> list[View]:
    """The images of a building, sorted by their numbers."""
    folder = root / layout.format(task="rgb", building=building)
    matches = [_VIEW.fullmatch(name) for name in (os.listdir(folder) if folder.is_dir() else [])]
    return sorted(View(building, int(found[1]), int(found[2])) for found in matches if found)


def _missing(root: Path, layout: str, views: Sequence[View], tasks: Sequence[str]) -> dict[View, list[str]]:
    """View -> the files that it lacks."""
    lacking: dict[View, list[str]] = {}
    for building, own in groupby(views, key=lambda view: view.building):
        there = {task: task_files(root, layout, building, task) for task in tasks}
        for view in own:
            files = {task: _file(layout, view, task) for task in tasks}
            gone = [file for task, file in files.items() if file.rpartition("/")[2] not in there[task]]
            if gone:
                lacking[view] = gone
    return lacking


def task_files(root: Path, layout: str, building: str, task: str) -> set[str]:
    """The names of the files that a building has of a task."""
    folder = root / layout.format(task=task, building=building)
    return set(os.listdir(folder)) if folder.is_dir() else set()


def _check_parts(root: Path, kept: Mapping[str, Sequence[View]], absent: Mapping[str, Sequence[str]]) -> None:
    empty = [part for part in PARTS if not kept[part]]
    if empty:
        names = ", ".join([*absent[empty[0]]][:3])
        raise ValueError(
            f"`{root}` should hold whole images of each part of the split. Found none for {', '.join(empty)}: "
            f"download a building of it{f', such as {names}' if names else ''}."
        )
