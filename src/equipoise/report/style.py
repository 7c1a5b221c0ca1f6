"""What all figures share: colours, sizes, and what a figure is before and after it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.benchmark.summary import Summary

# The page replaces these two by its own colours, so that figures follow light and dark.
INK = "#1b1f27"
LINE = "#c9d1db"
BLUE = "#0072b2"
ORANGE = "#d55e00"
GREY = "#8a929c"

# Okabe and Ito, Color Universal Design (2008), without black and yellow, which vanish on one of the two pages.
_COLOURS = (BLUE, "#e69f00", "#009e73", "#cc79a7", "#56b4e9", ORANGE)
_MARKERS = "osD^vP"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))

STYLE: Mapping[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.titlecolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "equipoise",
}

Canvas = Callable[[float, float], Any]  # width and height in inches -> an empty matplotlib figure


@dataclass(frozen=True)
class Plot:
    """A figure that has been laid out.

    Args:
        name: of its files.
        title: one line.
        caption: how to read it.
        figure: of matplotlib.
    """

    name: str
    title: str
    caption: str
    figure: Any


@dataclass(frozen=True)
class Look:
    """How a method is drawn in every figure."""

    colour: str
    marker: str
    dash: Any


def looks(summary: Summary) -> dict[str, Look]:
    """A look per method: six colours, then the same with another marker and dash; equal weights are grey."""
    others = [label for label in summary.plan.methods if label != "ls"]
    found = {
        label: Look(_COLOURS[k % 6], _MARKERS[(k + k // 6) % 6], _DASHES[k // 6 % 3])
        for k, label in enumerate(others)
    }
    return {"ls": Look(GREY, "X", "-"), **found}


def bare(axes: Any) -> None:
    """No frame and no tick marks, for heat maps."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
