"""The page of several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from equipoise.benchmark.records import write_atomically
from equipoise.benchmark.summary import Summary

from .cells import Cell, Table
from .charts_changes import scale_note
from .charts_forest import metric_numbers, metric_panel
from .differences import Beside, Side, beside
from .grouping import MANY
from .interactive import Chart
from .markup import code, facts, prose, section, table
from .shell import Tab, shell
from .style import looks
from .wording import counted, listed, number, short_labels, small, with_interval, with_spread

_PAIRED = (
    "Differences are the other run minus the first one, paired over the seeds that both have, with the 95 % interval "
    "of the paired t test; negative is better. p after Holm's correction over the common methods that were tested; a "
    "tie is what is not below 0.05, unknown what could not be tested."
)


def write_comparison(directory: Path, others: Sequence[Path]) -> Path:
    """Write `compare-NAME.html` into the first run directory, NAME being those of the other ones.

    Args:
        directory: that the other ones are compared with.
        others: at least one.

    Returns:
        The path of the page.

    Raises:
        RunDirectoryError: on runs that cannot be compared.
        ImportError: without plotly; names what to install.
        OSError: where the directory cannot be written to.
    """
    found = beside(directory, others)
    target = directory / f"compare-{'-'.join(side.name for side in found.sides)}.html"
    write_atomically(target, compare_page(found))
    return target


def compare_page(found: Beside) -> str:
    """The whole page as HTML."""
    names = [found.name, *(side.name for side in found.sides)]
    charts = [_chart(found, side, place) for place, side in enumerate(found.sides)]
    tables = [table(_table(found, side, place), sortable=True) for place, side in enumerate(found.sides)]
    tabs = (
        Tab("verdict", "Verdict", (*(f"<p>{prose(text)}</p>" for text in said(found)[1:]), *tables)),
        Tab("tasks", "Per metric", tuple(charts)),
        Tab("plans", "Plans", (_plans(found, names), *_provenances(found, names))),
    )
    title = f"{found.summary.plan.problem}: {' and '.join(names)}"
    header = f'<header><h1>{escape(title)}</h1><p class="lead">{prose(said(found)[0])}</p></header>'
    return shell(f"{title}: Equipoise comparison", header, tabs)


def said(found: Beside) -> list[str]:
    """What differs in the plans, then what came of it in each of the other runs."""
    apart = [key for key in found.plans if not key.startswith("version of")]
    first = (
        f"The plans differ in {listed(apart, 8)}."
        if apart
        else "The plans are the same but for versions, if at all."
    )
    return [first, *(_result(side, found.name) for side in found.sides)]


def _result(side: Side, name: str) -> str:
    words = {
        word: [one.method for one in side.methods if one.word == word] for word in ("better", "worse", "tie")
    }
    same = [one.method for one in side.methods if one.same]
    untested = [one.method for one in side.methods if one.word == "unknown" and not one.same]
    parts = [f"better: {listed(words['better'])}", f"worse: {listed(words['worse'])}"]
    parts.append(f"cannot be told apart: {listed(words['tie'])}")
    parts += [f"the same runs: {listed(same)}"] * bool(same)
    parts += [f"not tested: {listed(untested)}"] * bool(untested)
    count = counted(len(side.methods), "common method")
    return f"{side.name} against {name}, {count} by Δm; {'; '.join(parts)}."


def _table(found: Beside, side: Side, place: int) -> Table:
    mine = {row.method: row for row in found.summary.methods}
    theirs = {row.method: row for row in side.summary.methods}
    rows = tuple(
        (
            Cell(one.method),
            Cell(with_spread(mine[one.method].delta_m, 1, sign=True)),
            Cell(with_spread(theirs[one.method].delta_m, 1, sign=True)),
            Cell(with_interval(one.delta_m, 2, sign=True)),
            Cell("–" if one.p_holm is None else small(one.p_holm)),
            Cell("the same runs" if one.same else one.word),
            Cell(str(one.delta_m.n if one.delta_m else 0)),
        )
        for one in side.methods
    )
    header = (
        "method",
        f"Δm % {found.name}",
        f"Δm % {side.name}",
        "difference (points) ↓",
        "p (Holm)",
        "verdict",
        "seeds",
    )
    title = f"{side.name} against {found.name}"
    return Table(f"compare-{place}", title, header, rows, tuple(_notes(found, side)))


def _notes(found: Beside, side: Side) -> list[str]:
    reasons = sorted({one.delta_m.why for one in side.methods if one.delta_m and one.delta_m.why})
    notes = [_PAIRED]
    if any(one.delta_m for one in side.methods):
        notes.append(
            f"Both sides of a difference are relative to the single-task values of {found.name}, so that these "
            "cancel. The two columns of Δm are relative to those of each run, so their difference may be another one."
        )
    notes += [f"No interval: {reason}." for reason in reasons]
    return notes + [
        text for text in (_no_delta(found.name, found.summary), _no_delta(side.name, side.summary)) if text
    ]


def _no_delta(name: str, summary: Summary) -> str:
    return f"No Δm in {name}: {summary.baseline.missing}." if summary.baseline.missing else ""


def _chart(found: Beside, side: Side, place: int) -> Chart:
    """The metrics that differ, a row each; of more than `MANY` those with the largest differences."""
    short = short_labels(one.method for one in side.methods)
    every = [metric.name for metric in found.summary.plan.metrics]
    largest = sorted(every, key=lambda name: -_size(side, name))[:MANY]
    shown = [name for name in every if name in largest]
    values = {short[one.method]: {name: one.metrics[name] for name in shown} for one in side.methods}
    look = looks(found.summary)
    keys = {short[one.method]: look[one.method] for one in side.methods}
    panel, bent = metric_panel(values, shown, keys, f"{side.name} against {found.name} (%)   ← better")
    most = f"The {MANY} metrics of {len(every)} that differ most. " if len(every) > MANY else ""
    caption = (
        f"{most}Each test metric in {side.name} minus that in {found.name}, in percent of the latter, over the common "
        "seeds with the 95 % interval of the paired t test where there is one; left is better, whatever the metric's "
        f"direction.{scale_note(bent=bent)}"
    )
    alt = f"{len(shown)} rows of metrics with a mark and an interval for each of {len(keys)} methods."
    name = f"compare_{place}"
    numbers = metric_numbers(name, values, shown)
    return Chart(name, f"{side.name} against {found.name}", caption, alt, (panel,), numbers, keys, wide=330)


def _size(side: Side, name: str) -> float:
    """The largest difference of a metric over the methods."""
    means = [one.metrics[name].mean for one in side.methods]
    return max((abs(mean) for mean in means if math.isfinite(mean)), default=0.0)


def _plans(found: Beside, names: Sequence[str]) -> str:
    rows = tuple((Cell(key), *map(Cell, values)) for key, values in found.plans.items())
    if not rows:
        return section("What differs", "<p>Nothing in the plans differs.</p>")
    return table(Table("plans-table", "What differs in the plans", ("setting", *names), rows, ()))


def _provenances(found: Beside, names: Sequence[str]) -> list[str]:
    summaries = [found.summary, *(side.summary for side in found.sides)]
    return [
        section(
            name,
            facts(
                [
                    ("command", code(summary.plan.command)),
                    ("methods", ", ".join(map(code, summary.plan.methods))),
                    ("runs", f"{len(summary.records)} recorded"),
                    ("failed", number(len(summary.failed))),
                    ("not finished", number(len(summary.missing))),
                ]
            ),
        )
        for name, summary in zip(names, summaries, strict=True)
    ]
