"""One self-contained HTML page of a run directory: opens offline and asks no host for anything."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from importlib import resources

from equipoise.benchmark.records import Record
from equipoise.benchmark.summary import Summary

from .cells import Cell, Table
from .export import METRICS_FILE
from .figures import Drawing
from .tables import metric_table, published_table, ranking_table
from .times import time_table
from .verdict import verdict
from .wording import counted, number

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_ALL_METRICS = (
    '<p class="file">Every metric of every run, with its single-task value: '
    f'<a href="{METRICS_FILE}">{METRICS_FILE}</a>, beside this page.</p>'
)
_SOURCES = {
    "own": "own single-task runs",
    "published": "published single-task numbers",
    "none": "no single-task runs asked for",
}
_LISTED = 20  # runs that are not finished; the others are counted


def page(summary: Summary, drawings: Sequence[Drawing]) -> str:
    """The whole page as HTML.

    Args:
        summary: of the run directory.
        drawings: in the order of the page.
    """
    style = resources.files("equipoise.report").joinpath("page.css").read_text(encoding="utf-8")
    plan = summary.plan
    shown = {drawing.name: drawing for drawing in drawings}
    ours = [drawing for name, drawing in shown.items() if name not in ("published", "times")]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(plan.problem)}, {escape(plan.preset)}: Equipoise report</title>",
        f"<style>{style}</style></head><body>",
        _header(summary),
        _section("Result", *map(_table, (ranking_table(summary), metric_table(summary))), _ALL_METRICS),
        _section("Figures", *map(_figure, ours)) if ours else "",
        _times(summary, shown.get("times")),
        _published(summary, shown.get("published")),
        _open_ends(summary),
        _provenance(summary),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _header(summary: Summary) -> str:
    plan = summary.plan
    lead, *others = verdict(summary)
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
        f'<p class="lead">{_prose(lead)}</p><p>{_prose(" ".join(others))}</p></header>'
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{''.join(parts)}</section>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in table.header)
    body = "".join(
        f'<tr><th scope="row">{_breakable(row[0].text)}</th>{"".join(map(_cell, row[1:]))}</tr>'
        for row in table.rows
    )
    notes = "".join(f"<li>{_prose(note)}</li>" for note in table.notes)
    return (
        f'<h3>{escape(table.title)}</h3><div class="scroll" tabindex="0"><table id="{table.name}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
        f'<ul class="notes">{notes}</ul>\n'
    )


def _breakable(name: str) -> str:
    return re.sub(r"([:+_,-])", r"<wbr>\1", escape(name)).replace(" ↓", "&nbsp;↓").replace(" ↑", "&nbsp;↑")


def _prose(text: str) -> str:
    return escape(text).replace(" %", "&nbsp;%").replace(" ± ", "&nbsp;±&nbsp;")


def _cell(cell: Cell) -> str:
    classes = " ".join(["best"] * cell.best + ["not-learnt"] * cell.not_learnt)
    return f"<td{f' class={classes!r}' if classes else ''}>{escape(cell.marked)}</td>"


def _figure(drawing: Drawing) -> str:
    size = f"max-width:{drawing.width}px;min-width:{round(0.8 * drawing.width)}px"
    return (
        f'<figure id="figure-{drawing.name}"><h3>{escape(drawing.title)}</h3>'
        f'<div class="scroll" tabindex="0"><div class="drawing" style="{size}">{drawing.svg}</div></div>'
        f"<figcaption>{_prose(drawing.caption)}</figcaption></figure>\n"
    )


def _published(summary: Summary, drawing: Drawing | None) -> str:
    table = published_table(summary)
    if table is None:
        return ""
    return _section("Published numbers", _figure(drawing) if drawing else "", _table(table))


def _times(summary: Summary, drawing: Drawing | None) -> str:
    if not summary.methods:
        return ""
    return _section("Where the time goes", _figure(drawing) if drawing else "", _table(time_table(summary)))


def _open_ends(summary: Summary) -> str:
    parts = []
    if summary.failed:
        parts.append("<h3>Failed runs</h3>")
        parts += [
            f"<p><code>{escape(record.run_id)}</code></p><pre>{escape(record.error or 'no message')}</pre>"
            for record in summary.failed
        ]
    if summary.missing:
        lines = [*summary.missing[:_LISTED]]
        lines += [f"{len(summary.missing) - _LISTED} more"] * (len(summary.missing) > _LISTED)
        items = "".join(f"<li>{escape(line)}</li>" for line in lines)
        parts.append(f"<h3>Not finished</h3><ul>{items}</ul>")
        parts.append("<p>The command under provenance, with <code>--resume</code>, runs what is left.</p>")
    return _section("Failed and missing runs", *parts) if parts else ""


def _provenance(summary: Summary) -> str:
    plan, records = summary.plan, summary.records
    hours = sum(record.seconds for record in records) / 3600
    facts = {
        "command": f"<code>{escape(plan.command)}</code>",
        "source": f"<code>{escape(plan.git or 'not under git')}</code>",
        "versions": escape(", ".join(f"{name} {value}" for name, value in plan.versions.items())),
        "seeds": escape(", ".join(map(str, plan.seeds))),
        "learning rates": escape(
            ", ".join(f"{lr:g}" for lr in plan.lrs)
            + ("; the best on the validation part of the first seed is used" if len(plan.lrs) > 1 else "")
        ),
        "runs": f"{len(records)} recorded, {hours:.2f} hours of training",
        "started": escape(min((r.started for r in records if r.started), default="unknown")),
        "parameters": escape(", ".join(sorted({f"{r.parameters:,}" for r in records if r.parameters}))),
    }
    items = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    settings = escape(json.dumps(dict(plan.config), indent=1))
    return _section(
        "Provenance",
        f"<dl>{items}</dl>",
        f"<details><summary>Settings of the plan</summary><pre>{settings}</pre></details>",
        f"<details><summary>All {len(records)} runs</summary>{_table(_run_table(records))}</details>",
    )


def _run_table(records: Sequence[Record]) -> Table:
    header = ("run", "status", "validation score", "best epoch", "epochs", "steps", "seconds", "fallbacks")
    rows = tuple(
        (
            Cell(record.run_id),
            Cell(record.status),
            Cell(number(record.validation_score, 3)),
            Cell(str(record.best_epoch)),
            Cell(str(record.epochs)),
            Cell(str(record.steps)),
            Cell(number(record.seconds, 1)),
            Cell(str(record.fallbacks)),
        )
        for record in records
    )
    return Table("runs", "Runs", header, rows, ("Validation score: lower is better.",))
