"""The result tables as plain data, and the same as Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from equipoise.benchmark.published import published, published_benchmarks
from equipoise.benchmark.summary import MethodSummary, Summary
from equipoise.training.task import Metric

from .wording import (
    NOT_LEARNT,
    decimals_for,
    metric_title,
    number,
    ranked,
    short_labels,
    with_spread,
)


@dataclass(frozen=True)
class Cell:
    """One entry: its text, whether it is the best of its kind, and whether the task was not learnt."""

    text: str
    best: bool = False
    not_learnt: bool = False

    @property
    def marked(self) -> str:
        """The text with the mark of a task that was not learnt."""
        return f"{self.text} {NOT_LEARNT}" if self.not_learnt else self.text


@dataclass(frozen=True)
class Table:
    """A table to print: the first column holds names, the other ones numbers.

    Args:
        name: for labels and anchors.
        title: one line.
        header: one per column.
        rows: cells in the order of the header.
        notes: what the marks and numbers mean.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]


def ranking_table(summary: Summary) -> Table:
    """One row per method, the best first: delta_m, mean rank, convergence, cost, and what was run."""
    rows = ranked(summary)
    scores = [row.delta_m.mean if row.delta_m else math.nan for row in rows]
    digits = decimals_for([row.seconds_per_step.mean for row in rows])
    columns = {
        "Δm % ↓": _column([with_spread(row.delta_m, 1, sign=True) for row in rows], scores),
        "mean rank ↓": _column([number(row.mean_rank, 2) for row in rows], [row.mean_rank for row in rows]),
        "not learnt": [Cell(str(len(row.not_learnt))) for row in rows],
        "convergence difference (epochs) ↓": [Cell(with_spread(row.convergence, 1)) for row in rows],
        "seconds / step": [Cell(with_spread(row.seconds_per_step, digits)) for row in rows],
        "peak memory (MB)": [Cell(number(row.peak_memory_mb)) for row in rows],
        "solver fallbacks": [Cell(str(row.fallbacks)) for row in rows],
        "lr": [Cell(f"{row.lr:g}") for row in rows],
        "seeds": [Cell(str(len(row.runs))) for row in rows],
    }
    cells = zip([Cell(row.method) for row in rows], *columns.values(), strict=True)
    return Table("ranking", _title(summary), ("method", *columns), tuple(cells), _ranking_notes(summary))


def metric_table(summary: Summary) -> Table:
    """One row per metric, one column per method and one for the single-task baseline."""
    rows = ranked(summary)
    names = short_labels(summary.plan.methods)
    header = ("metric", "single-task", *(names[row.method] for row in rows))
    body = tuple(_metric_row(summary, rows, metric) for metric in summary.plan.metrics)
    return Table("metrics", "Test metrics at the selected epoch", header, body, _metric_notes(summary))


def published_table(summary: Summary) -> Table | None:
    """Our scores beside the published ones; None where nothing is published about these methods."""
    problem = summary.plan.problem
    if problem not in published_benchmarks():
        return None
    known = published(problem)
    pairs = [(row, found) for row in ranked(summary) if (found := known.find(row.method))]
    body = tuple(
        (
            Cell(row.method),
            Cell(with_spread(row.delta_m, 1, sign=True)),
            Cell(number(result.delta_m, 1, sign=True)),
            Cell(number(row.mean_rank, 2)),
            Cell(number(result.mean_rank, 2)),
        )
        for row, (_, result) in pairs
    )
    header = ("method", "Δm % here", "Δm % published", "mean rank here", "mean rank published")
    notes = (
        f"Another budget: the published networks were trained for {known.budget}; ours as the plan says.",
        f"Mean ranks: here among {len(summary.methods)} methods, published among {len(known.methods)}. "
        "Source: GO4Align, NeurIPS 2024, tables 1, 2, 7, 8.",
    )
    return Table("published", "Published numbers, from another budget", header, body, notes) if body else None


def markdown(table: Table) -> str:
    """The table as Markdown, the best value bold."""
    lines = [
        f"### {table.title}",
        "",
        _pipes(table.header),
        _pipes(["---", *["---:"] * (len(table.header) - 1)]),
    ]
    lines += [_pipes([f"**{c.marked}**" if c.best else c.marked for c in row]) for row in table.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def latex(table: Table) -> str:
    r"""The table as LaTeX for the packages booktabs and graphicx, the best value bold."""
    body = [
        [rf"\textbf{{{_tex(c.marked)}}}" if c.best else _tex(c.marked) for c in row] for row in table.rows
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(table.title)}. {_tex(' '.join(table.notes))}}}",
            rf"\label{{tab:{table.name}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            " & ".join(map(_tex, table.header)) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in body),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _metric_row(summary: Summary, rows: tuple[MethodSummary, ...], metric: Metric) -> tuple[Cell, ...]:
    baseline = summary.baseline
    reference = baseline.values.get(metric.name)
    values = [row.metrics[metric.name] for row in rows]
    known = [*values, *([reference] if reference else [])]
    decimals = decimals_for([spread.mean for spread in known], [spread.std for spread in known])
    learnt = [math.nan if metric.name in r.not_learnt else v.mean for r, v in zip(rows, values, strict=True)]
    best = _best(learnt, metric.higher_is_better)
    return (
        Cell(metric_title(metric)),
        Cell(with_spread(reference, decimals), not_learnt=metric.name in baseline.not_learnt),
        *(
            Cell(with_spread(value, decimals), index in best, metric.name in row.not_learnt)
            for index, (row, value) in enumerate(zip(rows, values, strict=True))
        ),
    )


def _title(summary: Summary) -> str:
    return f"{summary.plan.problem}, preset {summary.plan.preset}: methods by Δm"


def _ranking_notes(summary: Summary) -> tuple[str, ...]:
    names = ", ".join(short_labels(summary.plan.methods)[row.method] for row in summary.methods)
    baseline = summary.baseline
    source = "own single-task runs" if baseline.source == "own" else "published single-task numbers"
    reason = f" Δm is missing: {baseline.missing}." if baseline.missing else ""
    return (
        f"Δm: mean relative change of the test metrics against {source}, lower is better, "
        f"negative beats single-task.{reason}",
        "±: standard deviation over seeds; – where it is unknown (one seed).",
        f"Mean rank: over {len(summary.plan.metrics)} metrics among {names}; single-task is not ranked.",
        "Convergence difference: standard deviation over tasks of the epoch from which the validation metric "
        f"stays within {100 * summary.tolerance:g} % of its total improvement of its best.",
    )


def _metric_notes(summary: Summary) -> tuple[str, ...]:
    notes = ["Mean ± standard deviation over seeds. Bold: best mean of a method that learnt the task."]
    if summary.baseline.not_learnt or any(row.not_learnt for row in summary.methods):
        notes.append(
            f"{NOT_LEARNT} not learnt: less than 20 % better than always predicting the training mean."
        )
    return tuple(notes)


def _column(texts: list[str], values: list[float]) -> list[Cell]:
    best = _best(values, higher_is_better=False)
    return [Cell(text, index in best) for index, text in enumerate(texts)]


def _best(values: list[float], higher_is_better: bool) -> set[int]:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return set()
    top = max(finite) if higher_is_better else min(finite)
    return {index for index, value in enumerate(values) if value == top}


def _pipes(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


_TEX: Mapping[int, str] = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "Δ": r"$\Delta$",
        "±": r"$\pm$",
        "↓": r"$\downarrow$",
        "↑": r"$\uparrow$",
        "−": "$-$",
        "–": "--",
        NOT_LEARNT: r"$^\dagger$",
        "°": r"$^\circ$",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def _tex(text: str) -> str:
    return text.translate(_TEX)
