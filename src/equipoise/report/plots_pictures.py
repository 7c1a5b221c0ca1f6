"""Figures of what the networks of each method predict on a few fixed images: a grid per task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.benchmark.summary import Summary
from equipoise.training.pictures import Picture, load_pictures

from .raster import CLASS_COLOURS, agreement, class_colours, coloured, reduced, value_range
from .style import Canvas, Plot, bare
from .wording import listed, ranked, short_labels

_METHODS = 8  # columns; more would be too small to look at
_TILES = 6
_PIXELS = 1_000_000  # on the whole page: about 3 MB where nothing compresses, mostly a third of that
_LEAST_INCHES, _MOST_INCHES, _WIDTH = 1.3, 1.9, 11.6  # of a tile, and of all of them side by side
_UNLABELLED = {"facecolor": "#b6bcc4", "hatch": "////", "edgecolor": "#8f97a1", "linewidth": 0}
_KINDS = {
    "colour": "",
    "classes": " A colour is a class, named below; hatched: unlabelled.",
    "scalar": " One scale for truth and predictions, from the lowest to the highest hundredth of the truth; values "
    "beyond have the colour of the end. Hatched: unlabelled.",
    "normal": " Red, green and blue are the x, y and z component of the unit vector, dark at −1 and bright at 1. "
    "Hatched: unlabelled.",
}

_MEASURES = {
    "colour": "",
    "classes": "Labelled pixels with the right class, on these tiles only: ",
    "scalar": "Mean absolute error on these tiles only: ",
    "normal": "Mean angle between prediction and truth, on these tiles only: ",
}


@dataclass(frozen=True)
class Grid:
    """What one figure shows.

    Args:
        task: the picture with the truth.
        input: the images.
        predictions: by method, in the order of the columns.
    """

    task: Picture
    input: Picture
    predictions: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Legend:
    """Name -> colour of the classes that are to be seen, and how many of them stand side by side."""

    colours: Mapping[str, str]
    columns: int

    @property
    def inches(self) -> float:
        """Its height."""
        return 0.2 * math.ceil(len(self.colours) / self.columns)


def pictures(summary: Summary, directory: Path, canvas: Canvas) -> list[Plot]:
    """A figure per task with the tiles in rows: input, truth, and a prediction per method; none without pictures."""
    found = {}
    for row in ranked(summary):
        images = load_pictures(directory / "runs" / row.runs[0].run_id)
        if images:
            found[short_labels(summary.plan.methods)[row.method]] = images
    shown = dict(list(found.items())[:_METHODS])
    grids = list(_grids(shown))
    columns = sum(2 + len(grid.predictions) for grid in grids)
    return [
        _drawn(
            _smaller(grid, columns), place, [name for name in found if name not in grid.predictions], canvas
        )
        for place, grid in enumerate(grids, start=1)
    ]


def _grids(found: Mapping[str, Sequence[Picture]]) -> Iterator[Grid]:
    """A grid per task of the first method; another one's prediction counts if it is of the same images."""
    if not found:
        return
    first, *tasks = next(iter(found.values()))
    for task in tasks:
        same = {
            name: picture.prediction
            for name, images in found.items()
            for picture in images[1:]
            if picture.name == task.name
            and picture.prediction is not None
            and torch.equal(torch.nan_to_num(picture.truth), torch.nan_to_num(task.truth))
        }
        yield Grid(task, first, same)


def _smaller(grid: Grid, columns: int) -> Grid:
    """As many tiles as are shown, with so many pixels that the page stays small."""
    tiles = min(_TILES, len(grid.input.truth))
    side = math.isqrt(_PIXELS // max(columns * tiles, 1))

    def small(values: Tensor, kind: str) -> Tensor:
        return reduced(values[:tiles], side, smooth=kind == "colour")

    return Grid(
        replace(grid.task, truth=small(grid.task.truth, grid.task.kind), prediction=None),
        replace(grid.input, truth=small(grid.input.truth, grid.input.kind)),
        {name: small(values, grid.task.kind) for name, values in grid.predictions.items()},
    )


def _drawn(grid: Grid, place: int, absent: Sequence[str], canvas: Canvas) -> Plot:
    task, tiles = grid.task, len(grid.task.truth)
    columns = {"truth": task.truth, **grid.predictions}
    height, width = task.truth.shape[-2:]
    inches = min(max(_WIDTH / (len(columns) + 1), _LEAST_INCHES), _MOST_INCHES)
    whole = inches * (len(columns) + 1) + 0.4
    legend = _legend(task, columns, whole)
    below = 0.5 if task.kind == "scalar" else legend.inches
    figure = canvas(whole, tiles * (inches * height / width + 0.08) + 0.6 + below)
    panels = figure.subplots(tiles, len(columns) + 1, squeeze=False)
    limits = value_range(task.truth) if task.kind == "scalar" else None
    for tile, row in enumerate(panels):
        _show(row[0], coloured(grid.input, grid.input.truth[tile]))
        row[0].set_ylabel(f"tile {tile + 1}", fontsize=8.5)
        for panel, values in zip(row[1:], columns.values(), strict=True):
            image = _show(panel, coloured(task, values[tile]), limits)
    for panel, name in zip(panels[0], ["input", *columns], strict=True):
        panel.set_title(name.replace("+", "\n+").replace(":", "\n:"), fontsize=8.5)
    _explain(figure, task, legend, panels, image)
    alt = f"{tiles} rows of images: input, truth, and the predictions of {listed(list(grid.predictions))}."
    return Plot(f"pictures_{place}", f"Pictures: {task.name}", _caption(grid, absent), figure, alt)


def _caption(grid: Grid, absent: Sequence[str]) -> str:
    task = grid.task
    measured = {name: agreement(task, values) for name, values in grid.predictions.items()}
    said = "; ".join(f"{name} {text}" for name, text in measured.items() if text)
    left = f" Not shown, for want of room or since they saw other images: {listed(absent)}." if absent else ""
    return (
        "Fixed tiles of the validation part: the input, the truth, and what each method's first finished seed predicts."
        f"{_KINDS[task.kind]}{f' {_MEASURES[task.kind]}{said}.' if said else ''}{left}"
    )


def _show(panel: Any, image: Tensor, limits: tuple[float, float] | None = None) -> Any:
    low, high = limits or (None, None)
    shown = panel.imshow(image.numpy(), cmap="viridis", vmin=low, vmax=high, interpolation="none")
    labelled = image.isfinite() if image.ndim == 2 else image[..., 3] > 0
    if not labelled.all():
        panel.axvspan(-0.5, image.shape[1] - 0.5, zorder=-1, **_UNLABELLED)
    panel.set_xticks([])
    panel.set_yticks([])
    bare(panel)
    return shown


def _legend(task: Picture, columns: Mapping[str, Tensor], width: float) -> _Legend:
    """The classes of all pictures, in as many columns as fit into so many inches."""
    if task.kind != "classes":
        return _Legend({}, 1)
    seen = sorted(
        {int(k) for values in columns.values() for k in values.unique() if 0 <= k < len(task.classes)}
    )
    colours = class_colours(task)
    names: dict[str, str] = {}
    for k in seen:
        names.setdefault(task.classes[k] if colours[k] in CLASS_COLOURS else "other classes", colours[k])
    longest = max(map(len, names), default=1)
    return _Legend(names, max(2, int(width / (0.075 * longest + 0.55))))


def _explain(figure: Any, task: Picture, legend: _Legend, panels: Any, image: Any) -> None:
    """The legend of classes or the scale of a quantity, below the tiles."""
    if legend.colours:
        marks = [
            panels[0][0].scatter([], [], marker="s", s=60, color=colour, label=name)
            for name, colour in legend.colours.items()
        ]
        place = {
            "loc": "outside lower center",
            "ncols": legend.columns,
            "fontsize": 8.5,
            "handletextpad": 0.1,
        }
        figure.legend(marks, list(legend.colours), **place)
    elif task.kind == "scalar":
        size = {"location": "bottom", "shrink": 0.5, "aspect": 40, "pad": 0.02, "extend": "both"}
        bar = figure.colorbar(image, ax=panels, **size)
        bar.set_label(f"{task.name} ({task.unit})" if task.unit else task.name)
        bar.outline.set_visible(False)
