"""Turns a run directory into a report: tables, figures and one page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from equipoise.benchmark.records import write_atomically
from equipoise.benchmark.statistics import summarise

from .figures import draw_figures
from .page import page
from .tables import latex, markdown, metric_table, published_table, ranking_table


def write_report(directory: Path, *, baselines: Literal["own", "published"] | None = None) -> Path:
    """Write `table.md`, `table.tex`, `figures/` and `report.html` into a run directory, complete or not.

    Args:
        directory: with `plan.json` and at least one line in `records.jsonl`.
        baselines: "own" single-task runs or "published" constants; None takes what the plan says.

    Returns:
        The path of `report.html`.

    Raises:
        RunDirectoryError: where there is nothing to report on.
        ImportError: without matplotlib; names what to install.
        OSError: where the directory cannot be written to.
    """
    summary = summarise(directory, baselines=baselines)
    drawings = draw_figures(summary, directory)
    tables = [t for t in (ranking_table(summary), metric_table(summary), published_table(summary)) if t]
    write_atomically(directory / "table.md", "\n".join(map(markdown, tables)))
    write_atomically(directory / "table.tex", "\n".join(map(latex, tables)))
    target = directory / "report.html"
    write_atomically(target, page(summary, drawings))
    return target
