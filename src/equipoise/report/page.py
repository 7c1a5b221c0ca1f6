"""The page of a run directory: which tab holds what."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from equipoise.benchmark.evidence import evidence
from equipoise.benchmark.summary import Summary

from . import charts_changes, charts_conflict, charts_curves, charts_forest, charts_weights
from .charts_cost import cost, time_split
from .charts_published import beside_published
from .charts_quality import quality
from .charts_trade_off import pairs, trade_off
from .costs import cost_table
from .export import METRICS_FILE
from .figures import Drawing
from .interactive import Chart
from .markup import picture, prose, table
from .provenance import open_ends, provenance
from .shell import Tab, shell
from .tables import metric_table, published_table, ranking_table
from .times import time_table
from .verdict import verdict
from .wording import counted

_ALL_METRICS = (
    '<p class="file">Every metric of every run, with its single-task value: '
    f'<a href="{METRICS_FILE}">{METRICS_FILE}</a>, beside this page.</p>'
)
_SOURCES = {
    "own": "own single-task runs",
    "published": "published single-task numbers",
    "none": "no single-task runs asked for",
}
_PICTURES = "pictures_"  # how the names of figures of images begin
_RANKS = "ranks"  # the figure that is shown as it is drawn for paper


def page(summary: Summary, directory: Path, drawings: Sequence[Drawing]) -> str:
    """The whole page as HTML.

    Args:
        summary: of the run directory.
        directory: with the logs of the runs.
        drawings: of which the images and the ranks are shown; the others are drawn anew, to be pointed at.

    Raises:
        ImportError: without plotly; names what to install.
    """
    plan, found = summary.plan, evidence(summary)
    images = [picture(drawing) for drawing in drawings if drawing.name.startswith(_PICTURES)]
    ranks = [picture(drawing) for drawing in drawings if drawing.name == _RANKS]
    said = "".join(f"<p>{prose(sentence)}</p>" for sentence in verdict(summary)[1:])
    results = (said, charts_forest.scores(summary, found), *ranks, *_tables(summary))
    tasks = (
        charts_changes.spread(summary),
        charts_forest.forest(summary, found),
        charts_changes.changes(summary),
    )
    weights = (charts_weights.weights(summary, directory), charts_weights.groups(summary, directory))
    conflict = (charts_conflict.conflict(summary, directory), charts_conflict.fidelity(summary, directory))
    curves = (charts_curves.curves(summary, directory), charts_curves.convergence(summary))
    tabs = (
        Tab("verdict", "Verdict", _some(*results)),
        Tab("trade-off", "Trade-off", _some(trade_off(summary, found), pairs(summary))),
        Tab("tasks", "Per task", _some(*tasks)),
        Tab("weights", "Weights and groups", _some(*weights)),
        Tab("conflict", "Conflict", _some(*conflict)),
        Tab("convergence", "Convergence", _some(*curves)),
        Tab(
            "cost",
            "Cost",
            _some(quality(summary, found), cost(summary), time_split(summary), *_costs(summary)),
        ),
        Tab("pictures", "Pictures", _some(*images)),
        Tab("provenance", "Provenance", _some(open_ends(summary), *_published(summary), provenance(summary))),
    )
    return shell(f"{plan.problem}, {plan.preset}: Equipoise report", _header(summary), tabs)


def _some(*parts: str | Chart | None) -> tuple[str | Chart, ...]:
    return tuple(part for part in parts if part)


def _header(summary: Summary) -> str:
    plan = summary.plan
    lead = verdict(summary)[0]
    facts = [
        counted(len(plan.tasks), "task"),
        *([counted(len(plan.metrics), "metric")] if len(plan.metrics) != len(plan.tasks) else []),
        counted(len(plan.methods), "method"),
        counted(len(plan.seeds), "seed"),
        _SOURCES[summary.baseline.source],
    ]
    warnings = ["demonstration budget"] * summary.is_demonstration
    warnings += [f"{len(summary.failed)} failed"] * bool(summary.failed)
    warnings += [f"{len(summary.missing)} not finished"] * bool(summary.missing)
    items = [f"<li>{escape(fact)}</li>" for fact in facts]
    items += [f'<li class="warn">{escape(text)}</li>' for text in warnings]
    return (
        f"<header><h1>Balancing {escape(plan.problem)}, preset {escape(plan.preset)}</h1>"
        f'<ul class="facts">{"".join(items)}</ul>'
        f'<p class="lead">{prose(lead)}</p></header>'
    )


def _tables(summary: Summary) -> tuple[str, ...]:
    if not summary.methods:
        return ()
    shown = (ranking_table(summary), metric_table(summary))
    return (*(table(one, sortable=True) for one in shown if one.rows), _ALL_METRICS)


def _costs(summary: Summary) -> tuple[str, ...]:
    found = (cost_table(summary), time_table(summary))
    return tuple(table(one, sortable=True) for one in found if one.rows)


def _published(summary: Summary) -> tuple[Chart | str | None, ...]:
    found = published_table(summary)
    return (beside_published(summary), table(found)) if found else ()
