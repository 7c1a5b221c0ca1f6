"""Draws all figures of a report into files and for the page. The only place that knows matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from equipoise.benchmark.records import write_atomically
from equipoise.benchmark.summary import Summary

from . import (
    plots_changes,
    plots_cost,
    plots_curves,
    plots_fidelity,
    plots_pictures,
    plots_ranks,
    plots_results,
    plots_training,
)
from .style import INK, LINE, STYLE, Canvas, Plot

_PNG_DPI = 160


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Args:
        name: of its files in `figures/`.
        title: one line.
        caption: how to read it.
        svg: an `<svg>` element without outside references, in the page's own text and line colours.
        width: natural width in CSS pixels.
    """

    name: str
    title: str
    caption: str
    svg: str
    width: int


def draw_figures(summary: Summary, directory: Path) -> list[Drawing]:
    """Write every figure that the summary has data for to `figures/` as PNG and SVG.

    Args:
        summary: of the run directory.
        directory: the run directory.

    Raises:
        ImportError: without matplotlib; names what to install.
    """
    return draw(lambda canvas: _plots(summary, directory, canvas), directory)


def draw(plots: Callable[[Canvas], Iterable[Plot | None]], directory: Path) -> list[Drawing]:
    """Write figures to `figures/` as PNG and SVG.

    Args:
        plots: lays them out; None is passed over.
        directory: of the folder.

    Raises:
        ImportError: without matplotlib; names what to install.
    """
    matplotlib = _matplotlib()
    folder = directory / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        return [_finish(plot, folder) for plot in plots(partial(_canvas, matplotlib)) if plot is not None]


def _plots(summary: Summary, directory: Path, canvas: Canvas) -> Iterable[Plot | None]:
    return (
        plots_changes.spread(summary, canvas),
        plots_changes.changes(summary, canvas),
        plots_results.trade_off(summary, canvas),
        plots_ranks.ranks(summary, canvas),
        *plots_pictures.pictures(summary, directory, canvas),
        plots_training.weights(summary, directory, canvas),
        plots_training.groups(summary, directory, canvas),
        plots_curves.curves(summary, directory, canvas),
        plots_fidelity.fidelity(summary, directory, canvas),
        plots_results.convergence(summary, canvas),
        plots_cost.cost(summary, canvas),
        plots_cost.time_split(summary, canvas),
        plots_results.beside_published(summary, canvas),
    )


def _finish(plot: Plot, folder: Path) -> Drawing:
    plot.figure.draw_without_rendering()
    plot.figure.set_layout_engine("none")  # laid out once, not once per file
    write_atomically(folder / f"{plot.name}.png", _saved(plot, "png", facecolor="white", dpi=_PNG_DPI))
    svg = _saved(plot, "svg", transparent=True).decode("utf-8")
    paper = '<svg style="background: white"'
    write_atomically(folder / f"{plot.name}.svg", svg.replace("<svg", paper, 1))
    width = round(plot.figure.get_figwidth() * 96)
    return Drawing(plot.name, plot.title, plot.caption, _inline(svg, plot), width)


def _saved(plot: Plot, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else None
    plot.figure.savefig(buffer, format=form, metadata=metadata, **options)
    return buffer.getvalue()


def _inline(svg: str, plot: Plot) -> str:
    """The element alone: identifiers that are unique on the page, colours that follow light and dark."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{plot.name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{plot.name}-", svg)
    svg = svg.replace(INK, "currentColor").replace(LINE, "var(--line)")
    label = escape(f"{plot.title}. {plot.alt}")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _canvas(matplotlib: Any, width: float, height: float) -> Any:
    return matplotlib.figure.Figure(figsize=(width, height), layout="constrained")


def _matplotlib() -> Any:
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise ImportError('Reports need matplotlib: pip install "equipoise[report]".') from error
    return matplotlib
