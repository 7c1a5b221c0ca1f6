"""What an interactive figure is, and the one file that knows plotly: its script comes with the package."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .cells import Cell, Table
from .style import Look, log_ticks

# Colours that the page replaces by those of its theme, light or dark, wherever a key ends in "color".
INK, SOFT, LINE, PAPER = "@ink", "@soft", "@line", "@paper"
SHADE = "rgba(128,136,146,0.16)"  # of a band, on either theme
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
}
_DASHES = ("solid", "dash", "dot")
_TEMPLATES = (
    "hovertemplate",
    "texttemplate",
)  # written by us; names of tasks and methods are never part of them
_DIGITS = 5
_MARGIN = {"l": 8, "r": 22, "t": 8, "b": 8}  # CSS pixels beyond the labels
_LETTER, _TITLE_LETTER = 6.7, 7.4  # CSS pixels of a letter of a tick and of a title, where letters are wide
LEAST_ACROSS = 160  # CSS pixels that are left for the marks, at least

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """One drawing: what `Plotly.newPlot` takes, as plain data.

    Args:
        traces: with `legendgroup` set to a method's label where its key is to hide them.
        layout: made by `layout`.
        title: above it, where a figure has several.
    """

    traces: tuple[Values, ...]
    layout: Values
    title: str = ""


@dataclass(frozen=True)
class Choice:
    """What the axes of a scatter plot of one point a trace may show.

    Args:
        labels: of the quantities.
        values: (quantities, traces); NaN where unknown.
        shown: places of the quantities that are on the horizontal and the vertical axis at first.
    """

    labels: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    shown: tuple[int, int]


@dataclass(frozen=True)
class Chart:
    """An interactive figure with its text alternative.

    Args:
        name: of its element.
        title: one line.
        caption: how to read it.
        alt: what is to be seen, for those who cannot.
        panels: side by side where there is room, else below each other.
        table: its numbers.
        keys: label -> look of what can be shown and hidden.
        wide: the least width in CSS pixels of a panel, where its texts need less than its marks.
        column: the width in CSS pixels from which a further panel is put beside the others.
        choice: of the axes, or None.
    """

    name: str
    title: str
    caption: str
    alt: str
    panels: tuple[Panel, ...]
    table: Table
    keys: Mapping[str, Look] = field(default_factory=dict)
    wide: int = 0
    column: int = 420
    choice: Choice | None = None

    @property
    def least(self) -> int:
        """The least width in CSS pixels of a panel; where there is less room, the figure scrolls sideways."""
        choices = self.choice.labels if self.choice else ()
        return max(self.wide, *(_least(panel.layout, choices) for panel in self.panels))


def axis_of_choice(label: str) -> str:
    """The title of an axis that shows a quantity of `Choice`; page.js has the same words."""
    return f"{label}: change (%)"


def plotly_script() -> str:
    """The source of plotly.js, about 5 MB.

    Raises:
        ImportError: without plotly; names what to install.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError('Reports need plotly: pip install "equipoise[report]".') from error
    return str(get_plotlyjs())


def charts_json(charts: Sequence[Chart]) -> str:
    """The figures as JSON that can stand in a script element: name -> panels and choice."""
    content = {
        chart.name: {
            "panels": [{"data": list(panel.traces), "layout": panel.layout} for panel in chart.panels],
            "keys": list(chart.keys),
            "choice": None if chart.choice is None else vars(chart.choice),
        }
        for chart in charts
    }
    text = json.dumps(_plain(content), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def layout(height: int, x: Values, y: Values, **more: Any) -> Values:
    """The layout of a panel.

    Args:
        height: in CSS pixels.
        x: made by `axis`.
        y: made by `axis`.
        more: further keys of plotly's layout.
    """
    return {
        "height": height,
        "margin": _MARGIN,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {
            "size": 12,
            "color": INK,
            "family": 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif',
        },
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": LINE, "font": {"color": INK}, "namelength": -1},
        "showlegend": False,
        "dragmode": False,
        # each side by itself, and labels that do not turn: else the margins may never settle
        "xaxis": {"automargin": "height", "tickangle": 0, **x},
        "yaxis": {"automargin": "width", **y},
        **more,
    }


def axis(title: str = "", **more: Any) -> Values:
    """An axis of numbers in the colours of the page."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": LINE,
        "zeroline": False,
        "linecolor": LINE,
        "tickcolor": LINE,
        **more,
    }


def scale(values: Sequence[float], **otherwise: Any) -> Values:
    """A logarithmic scale with round ticks where positive values span more than a factor of four, else `otherwise`."""
    low, high = min(values, default=1.0), max(values, default=1.0)
    if not 0 < 4 * low < high:
        return otherwise
    ticks, texts = log_ticks(low, high)
    return {"type": "log", "tickvals": ticks, "ticktext": texts}


def names(labels: Sequence[str], *, upwards: bool = False, **more: Any) -> Values:
    """An axis with a name at 0, 1, ...; the first one on top unless `upwards`."""
    edges = [-0.6, len(labels) - 0.4]
    more = {"ticklabeloverflow": "allow", **more}  # else one that leaves the frame is left out without a word
    ticks: Values = {"tickvals": list(range(len(labels))), "ticktext": list(labels), "tickmode": "array"}
    return axis(range=edges if upwards else edges[::-1], showgrid=False, **ticks, **more)


def room(label: str) -> float:
    """The width in CSS pixels of a tick's label, at most."""
    return _LETTER * len(label)


def apart(places: Sequence[float], sizes: Sequence[float]) -> list[int]:
    """Which ticks are shown, so that no two labels touch, from left to right.

    Args:
        places: of the ticks in CSS pixels, those first that matter most.
        sizes: of their labels.
    """
    kept: list[int] = []
    for k, (at, size) in enumerate(zip(places, sizes, strict=True)):
        if all(abs(at - places[other]) >= (size + sizes[other]) / 2 for other in kept):
            kept.append(k)
    return sorted(kept, key=lambda k: places[k])


def marker(look: Look, size: int = 10) -> Values:
    """The mark of a method, as in all figures."""
    shape = symbol(look)
    size += 3 * shape.startswith("triangle")  # which cover less than the others
    return {"color": look.colour, "symbol": shape, "size": size, "line": {"width": 1, "color": PAPER}}


def symbol(look: Look) -> str:
    """Plotly's name of the mark."""
    return _SYMBOLS.get(look.marker, "x")


def dash(look: Look) -> str:
    """Plotly's name of the dashes."""
    return "solid" if look.dash == "-" else _DASHES[1 if look.dash[1][0] > 2 else 2]


def error_bars(colour: str, below: Sequence[float | None], above: Sequence[float | None]) -> Values:
    """Bars to both sides; None where there is no interval."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [value or 0.0 for value in above],
        "arrayminus": [value or 0.0 for value in below],
        "color": colour,
        "thickness": 1.6,
        "width": 3,
    }


def reference_line(at: float, *, vertical: bool, colour: str = SOFT) -> Values:
    """A dashed line across a panel."""
    ends = {"x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1}
    if not vertical:
        ends = {"y0": at, "y1": at, "xref": "paper", "x0": 0, "x1": 1}
    return {"type": "line", "line": {"color": colour, "width": 1.2}, "layer": "below", **ends}


def numbers(chart: str, title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The table of a figure's numbers; the first text of a row is its name."""
    body = tuple(tuple(Cell(text) for text in row) for row in rows)
    return Table(f"{chart}-numbers", title, tuple(header), body, ())


def _least(drawn: Values, choices: Sequence[str]) -> int:
    """Room for names at the left, and for the title of the horizontal axis, whose middle is that of the marks."""
    across, upwards = drawn["xaxis"], drawn["yaxis"]
    left: float = 24 + max(map(room, upwards.get("ticktext", ["10000"])))
    left += 24 * bool(upwards.get("title", {}).get("text"))
    titles = [across.get("title", {}).get("text", ""), *map(axis_of_choice, choices)]
    right: int = drawn["margin"]["r"]
    middle: float = max(LEAST_ACROSS, *(_TITLE_LETTER * len(title) - 2 * right for title in titles))
    return math.ceil(left + middle + right)


def _plain(value: Any, key: str = "") -> Any:
    """Data as strict JSON: rounded, null for what is not finite, and no markup in any text."""
    if isinstance(value, Mapping):
        return {name: _plain(item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, key) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, str) and key not in _TEMPLATES:
        return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return value
