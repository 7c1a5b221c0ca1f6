"""What all figures share: colours, sizes, and what a figure is before and after it is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.benchmark.summary import Spread, Summary

from .grouping import quantile

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
        alt: what is to be seen, for those who cannot.
    """

    name: str
    title: str
    caption: str
    figure: Any
    alt: str


@dataclass(frozen=True)
class Look:
    """How a method is drawn in every figure."""

    colour: str
    marker: str
    dash: Any


def looks(summary: Summary) -> dict[str, Look]:
    """A look per method, see `cycle`; equal weights are grey."""
    others = [label for label in summary.plan.methods if label != "ls"]
    return {"ls": Look(GREY, "X", "-"), **dict(zip(others, cycle(len(others)), strict=True))}


def cycle(count: int) -> list[Look]:
    """So many different looks: six colours, then the same with another marker and dash."""
    return [Look(_COLOURS[k % 6], _MARKERS[(k + k // 6) % 6], _DASHES[k // 6 % 3]) for k in range(count)]


def bare(axes: Any) -> None:
    """No frame and no tick marks, for heat maps."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def bars(
    axes: Any, spreads: Sequence[Spread | None], colours: Sequence[str], form: str, *, absent: str = "unknown"
) -> None:
    """Horizontal bars with their numbers, and a line of one standard deviation where that is known."""
    known = [s if s and math.isfinite(s.mean) else None for s in spreads]
    axes.barh(range(len(known)), [s.mean if s else 0.0 for s in known], color=colours, height=0.62)
    ends = [s.mean + (s.std or 0.0) if s else 0.0 for s in known]
    for place, (spread, end) in enumerate(zip(known, ends, strict=True)):
        if spread and spread.std is not None:
            axes.errorbar(spread.mean, place, xerr=spread.std, color=INK, capsize=3, linewidth=1.2)
        text = form.format(spread.mean) if spread else absent
        axes.annotate(text, (end, place), (6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xlim(0, 1.22 * max(ends) or 1)
    axes.set_ylim(-0.6, len(known) - 0.4)
    axes.grid(True, axis="x")


def distribution(axes: Any, place: float, values: Sequence[float], colour: str) -> None:
    """A row with the median as a dot, the middle half as a thick bar, and 90 % of the values as a line."""
    low, first, middle, third, high = (quantile(values, share) for share in (0.05, 0.25, 0.5, 0.75, 0.95))
    flat = {"zorder": 1, "solid_capstyle": "butt"}
    axes.plot([low, high], [place, place], color=LINE, linewidth=3, **flat)
    axes.plot([first, third], [place, place], color=colour, linewidth=9, alpha=0.55, **flat)
    axes.plot(middle, place, "o", color=colour, markeredgecolor=INK, markersize=7, zorder=3)


def log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """1, 2, 5 times powers of ten, the powers alone on a long scale, the ends on a short one."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if high < 100 * low else (1,)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    shown = [tick for tick in ticks if low <= tick <= high]
    if len(shown) < 2:
        shown = [low, math.sqrt(low * high), high]
    return shown, [f"{float(f'{tick:.3g}'):g}" for tick in shown]
