"""What a run directory was made from: configuration, versions, every run, and those that failed or are missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from equipoise.benchmark.records import Plan, Record
from equipoise.benchmark.summary import Summary

from .cells import Cell, Table
from .markup import code, facts, section, table
from .wording import number

_LISTED = 20  # runs that are not finished; the others are counted


def open_ends(summary: Summary) -> str:
    """Failed and missing runs; nothing where there are none."""
    parts = []
    if summary.failed:
        parts.append("<h4>Failed runs</h4>")
        parts += [
            f"<p>{code(record.run_id)}</p><pre>{escape(record.error or 'no message')}</pre>"
            for record in summary.failed
        ]
    if summary.missing:
        lines = [*summary.missing[:_LISTED]]
        lines += [f"{len(summary.missing) - _LISTED} more"] * (len(summary.missing) > _LISTED)
        items = "".join(f"<li>{escape(line)}</li>" for line in lines)
        parts.append(f"<h4>Not finished</h4><ul>{items}</ul>")
        parts.append("<p>The command under provenance, with <code>--resume</code>, runs what is left.</p>")
    return section("Failed and missing runs", *parts) if parts else ""


def provenance(summary: Summary) -> str:
    """Command, source, versions, settings, and all runs."""
    plan, records = summary.plan, summary.records
    settings = escape(json.dumps(dict(plan.config), indent=1))
    return section(
        "Provenance",
        facts(list(_facts(summary).items())),
        f'<details id="settings"><summary>Settings of the plan</summary><pre>{settings}</pre></details>',
        f"<details><summary>All {len(records)} runs</summary>{table(_run_table(records), sortable=True)}</details>",
    )


def _facts(summary: Summary) -> dict[str, str]:
    """Name -> value as HTML."""
    plan, records = summary.plan, summary.records
    hours = sum(record.seconds for record in records) / 3600
    name, tried = _tried(plan)
    return {
        "command": code(plan.command),
        "source": code(plan.git or "not under git"),
        "versions": escape(", ".join(f"{name} {value}" for name, value in plan.versions.items())),
        "methods": ", ".join(map(code, plan.methods)),
        "seeds": escape(", ".join(map(str, plan.seeds))),
        name: escape(tried),
        "optimizer": escape(_optimizer(plan)),
        "runs": f"{len(records)} recorded, {hours:.2f} hours of training",
        "started": escape(min((r.started for r in records if r.started), default="unknown")),
        "parameters": escape(", ".join(sorted({f"{r.parameters:,}" for r in records if r.parameters}))),
    }


def _optimizer(plan: Plan) -> str:
    train = plan.config.get("train", {})
    words = [train.get("optimizer", "adam")]
    words += [f"momentum {train['momentum']:g}"] if train.get("momentum") else []
    words += [f"steps of length {train['update_norm']:g} lr"] if train.get("update_norm") else []
    return ", ".join(words)


def _tried(plan: Plan) -> tuple[str, str]:
    """What was tried out before a setting was chosen, and its name."""
    if plan.budget is None:
        choice = "; the best on the validation part of the first seed is used" if len(plan.lrs) > 1 else ""
        return "learning rates", ", ".join(f"{lr:g}" for lr in plan.lrs) + choice
    rates = [one.lr for settings in plan.trials.values() for one in settings]
    added = f"; added to those asked for: {', '.join(plan.added)}" if plan.added else ""
    return "trials", (
        f"{plan.budget} of each row, single-task networks included, on the first seed and without the test part: "
        f"learning rates from {min(rates):g} to {max(rates):g}, weight decay, and the method's own knobs; the best on "
        f"the validation part is used{added}"
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
