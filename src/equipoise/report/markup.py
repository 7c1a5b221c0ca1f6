"""Tables, figures and sentences as HTML; every value is escaped here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from .cells import Cell, Table
from .figures import Drawing
from .interactive import INK, Chart
from .style import Look

_MARKS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚"}  # those of the figures
_PHONE = 340  # CSS pixels; a figure that needs more may have to be scrolled sideways
_BORDERS = {"-": "solid", "(": "dashed"}


def section(title: str, *parts: str) -> str:
    """A titled part of a tab."""
    return f"<section><h3>{escape(title)}</h3>\n{''.join(parts)}</section>"


def table(found: Table, *, sortable: bool = False) -> str:
    """A table with its title and notes, within a box that scrolls sideways.

    Args:
        found: to print.
        sortable: whether a press on a column's head sorts the rows.
    """
    notes = "".join(f"<li>{prose(note)}</li>" for note in found.notes)
    listed = f'<ul class="notes">{notes}</ul>\n' if notes else ""
    return f"<h3>{escape(found.title)}</h3>{grid(found, sortable=sortable)}{listed}"


def grid(found: Table, *, sortable: bool = False) -> str:
    """A table without title and notes."""
    heads = "".join(f'<th scope="col">{_head(title, sortable=sortable)}</th>' for title in found.header)
    body = "".join(
        f'<tr><th scope="row">{breakable(row[0].text)}</th>{"".join(map(_cell, row[1:]))}</tr>'
        for row in found.rows
    )
    label = escape(found.title)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{label}"><table id="{found.name}">'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )


def figure(chart: Chart) -> str:
    """The place of an interactive figure, with its keys, caption and numbers."""
    panels = "".join(
        f'<div class="panel">{f"<h4>{escape(panel.title)}</h4>" if panel.title else ""}'
        f'<div class="plot" role="img" aria-label="{escape(f"{panel.title} {chart.alt}".strip())}" '
        f'style="height:{panel.layout["height"]}px"></div></div>'
        for panel in chart.panels
    )
    size = f"--least:{chart.least}px;--column:{max(chart.column, chart.least)}px"
    kind = "panels several" if len(chart.panels) > 1 else "panels"
    scroll = ' tabindex="0" role="group" aria-label="Figure"' if chart.least > _PHONE else ""
    return (
        f'<figure id="figure-{chart.name}" data-chart="{chart.name}"><h3>{escape(chart.title)}</h3>'
        f'{_keys(chart)}{_choice(chart)}<div class="scroll"{scroll}>'
        f'<div class="{kind}" style="{size}">{panels}</div></div>'
        f"<figcaption>{prose(chart.caption)}</figcaption>"
        f"<details><summary>Numbers of this figure</summary>{grid(chart.table)}</details></figure>\n"
    )


def picture(drawing: Drawing) -> str:
    """A figure of images."""
    size = f"max-width:{drawing.width}px;min-width:{round(0.8 * drawing.width)}px"
    return (
        f'<figure id="figure-{drawing.name}"><h3>{escape(drawing.title)}</h3>'
        f'<div class="scroll" tabindex="0" role="group" '
        f'aria-label="Figure"><div style="{size}">{drawing.svg}</div></div>'
        f"<figcaption>{prose(drawing.caption)}</figcaption></figure>\n"
    )


def facts(found: Sequence[tuple[str, str]]) -> str:
    """A list of names and values, which are HTML already."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in found)
    return f"<dl>{items}</dl>"


def code(text: str) -> str:
    """A command or a name as it is typed."""
    return f"<code>{escape(text)}</code>"


def prose(text: str) -> str:
    """A sentence; a number stays with its unit."""
    return escape(text).replace(" %", "&nbsp;%").replace(" ± ", "&nbsp;±&nbsp;")


def breakable(name: str) -> str:
    """A long name that may be broken where its parts end."""
    return (
        re.sub(r"([:+@_,])", r"<wbr>\1", escape(name))
        .replace("-", "-<wbr>")
        .replace(" ↓", "&nbsp;↓")
        .replace(" ↑", "&nbsp;↑")
    )


def _head(title: str, *, sortable: bool) -> str:
    return f'<button type="button" class="sort">{breakable(title)}</button>' if sortable else breakable(title)


def _cell(cell: Cell) -> str:
    classes = " ".join(["best"] * cell.best + ["not-learnt"] * cell.not_learnt)
    return f"<td{f' class={classes!r}' if classes else ''}>{escape(cell.marked)}</td>"


def _keys(chart: Chart) -> str:
    if not chart.keys:
        return ""
    buttons = "".join(
        f'<button type="button" class="key" aria-pressed="true">{_mark(look)}{escape(label)}</button>'
        for label, look in chart.keys.items()
    )
    return f'<div class="keys" role="group" aria-label="Show or hide">{buttons}</div>'


def _mark(look: Look) -> str:
    colour = "currentColor" if look.colour == INK else look.colour
    line = _BORDERS["-"] if look.dash == "-" else _BORDERS["("] if look.dash[1][0] > 2 else "dotted"
    style = f"color:{colour};border-bottom-style:{line}"
    return f'<span class="mark" aria-hidden="true" style="{style}">{_MARKS.get(look.marker, "✖")}</span>'


def _choice(chart: Chart) -> str:
    if chart.choice is None:
        return ""
    selects = "".join(
        f'<label>{name} <select data-axis="{axis}">{_options(chart.choice.labels, shown)}</select></label>'
        for name, axis, shown in zip(("across", "upwards"), "xy", chart.choice.shown, strict=True)
    )
    return f'<div class="choice">{selects}</div>'


def _options(labels: Sequence[str], shown: int) -> str:
    return "".join(
        f'<option value="{place}"{" selected" if place == shown else ""}>{escape(label)}</option>'
        for place, label in enumerate(labels)
    )
