"""Turns a run directory into a report: tables, figures and one page."""

from __future__ import annotations

from pathlib import Path

from equipoise.benchmark.records import Baselines, write_atomically
from equipoise.benchmark.statistics import summarise

from .cells import latex, markdown
from .costs import cost_table
from .export import EVIDENCE_FILE, METRICS_FILE, evidence_json, metrics_csv
from .figures import draw_figures
from .page import page
from .tables import metric_table, published_table, ranking_table
from .times import time_table


def write_report(directory: Path, *, baselines: Baselines | None = None) -> Path:
    """Write `report.html`, `table.md`, `table.tex`, `metrics.csv`, `evidence.json` and `figures/` into a run directory.

    It may be complete or not.

    Args:
        directory: with `plan.json` and at least one line in `records.jsonl`.
        baselines: "own" single-task runs, "published" constants or "none"; None takes what the plan says.

    Returns:
        The path of `report.html`.

    Raises:
        RunDirectoryError: where there is nothing to report on.
        ImportError: without matplotlib or plotly; names what to install.
        OSError: where the directory cannot be written to.
    """
    summary = summarise(directory, baselines=baselines)
    write_atomically(directory / METRICS_FILE, metrics_csv(summary))
    write_atomically(directory / EVIDENCE_FILE, evidence_json(summary))
    drawings = draw_figures(summary, directory)
    found = (
        ranking_table(summary),
        metric_table(summary),
        cost_table(summary),
        time_table(summary),
        published_table(summary),
    )
    tables = [table for table in found if table and table.rows]
    write_atomically(directory / "table.md", "\n".join(map(markdown, tables)))
    write_atomically(directory / "table.tex", "\n".join(map(latex, tables)))
    target = directory / "report.html"
    write_atomically(target, page(summary, directory, drawings))
    return target
