"""The self-contained page around the tabs: opens offline, asks no host for anything, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from .interactive import Chart, charts_json, plotly_script
from .markup import figure

_POLICY = (
    "default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'"
)
_HINT = (
    "Figures: point at a mark for its numbers, drag to zoom, double-click to go back; press a name above a figure to "
    "hide or show it."
)
_NO_SCRIPT = (
    "<noscript><p>The figures need JavaScript. The same figures are in the folder figures/ beside this page, and the "
    "numbers of each are below it.</p></noscript>"
)


@dataclass(frozen=True)
class Tab:
    """A part of the page.

    Args:
        name: of its element.
        title: on its button.
        parts: HTML, and the figures in between.
    """

    name: str
    title: str
    parts: tuple[str | Chart, ...]


def shell(title: str, header: str, tabs: Sequence[Tab]) -> str:
    """The whole page as HTML, about 5 MB, nearly all of it the script that draws.

    Args:
        title: of the window.
        header: HTML above the tabs.
        tabs: those without parts are left out.

    Raises:
        ImportError: without plotly; names what to install.
    """
    shown = [tab for tab in tabs if tab.parts]
    charts = [part for tab in shown for part in tab.parts if isinstance(part, Chart)]
    scripts = [plotly_script(), _file("page.js")]
    policy = _POLICY.format(hashes=" ".join(map(_hash, scripts)))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{_file('page.css')}</style></head><body>",
        '<button type="button" id="theme">dark</button>',
        header,
        _NO_SCRIPT if charts else "",
        _buttons(shown),
        f"<main>{''.join(map(_panel, shown))}</main>",
        f'<footer><p class="hint">{_HINT}</p></footer>' if charts else "",
        f'<script type="application/json" id="charts">{charts_json(charts)}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _buttons(tabs: Sequence[Tab]) -> str:
    buttons = "".join(
        f'<button type="button" role="tab" id="tab-{tab.name}" aria-controls="{tab.name}" '
        f'aria-selected="{"false" if place else "true"}" tabindex="{-1 if place else 0}">{escape(tab.title)}</button>'
        for place, tab in enumerate(tabs)
    )
    return f'<nav><div role="tablist" aria-label="Parts of the report">{buttons}</div></nav>'


def _panel(tab: Tab) -> str:
    content = "".join(figure(part) if isinstance(part, Chart) else part for part in tab.parts)
    return (
        f'<section role="tabpanel" id="{tab.name}" aria-labelledby="tab-{tab.name}">'
        f'<h2 class="tab-title">{escape(tab.title)}</h2>{content}</section>'
    )


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return resources.files("equipoise.report").joinpath(name).read_text(encoding="utf-8")
