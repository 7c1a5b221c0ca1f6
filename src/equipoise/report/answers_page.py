"""The page of a study of a question: answers first, then scores, figures and definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from equipoise.benchmark.records import write_atomically
from equipoise.study.answers import ArmResult, Result, Row
from equipoise.study.estimates import t_quantile

from .cells import Cell, Table, markdown
from .figures import Drawing, draw
from .plots_answers import answers, costs, over_arms, run_times, sweep
from .plots_risks import curves, mean_risks, scatter, shares
from .plots_training import groups
from .style import Canvas, Plot
from .wording import counted, number

PAGE = "study.md"


def write_answers(found: Result, directory: Path, command: str) -> Path:
    """Write `study.md` and its `figures/` into the directory of a study.

    Args:
        found: what the study says.
        directory: of the study.
        command: that made it.

    Raises:
        ImportError: without matplotlib; names what to install.
        OSError: where the directory cannot be written to.
    """

    def plots(canvas: Canvas) -> list[Plot | None]:
        drawn = [
            plot(found, canvas)
            for plot in (answers, sweep, over_arms, scatter, curves, shares, run_times, costs)
        ]
        if "groups" in found.question.looks and len(found.arms) == 1:
            drawn.append(groups(found.arms[0].summary, found.arms[0].directory, canvas))
        return drawn

    drawings = draw(plots, directory)
    target = directory / PAGE
    write_atomically(target, answers_page(found, drawings, command))
    return target


def answers_page(found: Result, drawings: Sequence[Drawing], command: str) -> str:
    """The page as Markdown."""
    parts = [
        f"# {found.question.text} {_title(found)}",
        _what(found, command),
        *_answers(found),
        correlation_said(found),
        *_tables(found),
        *(f"## {one.title}\n\n![{one.title}](figures/{one.name}.png)\n\n{one.caption}" for one in drawings),
        _definitions(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(found: Result) -> str:
    return f"`study {found.question.name}` on {found.arms[0].summary.plan.problem}"


def _what(found: Result, command: str) -> str:
    plan = found.arms[0].summary.plan
    numbers = ", ".join(map(str, found.question.numbers))
    budget = (
        f"{plan.problem}, preset {plan.preset}, {len(plan.tasks)} tasks"
        f"{' in the first arm' if len(found.arms) > 1 else ''}, "
        f"{plan.config['train']['epochs']} epochs, {counted(len(plan.seeds), 'seed')}; scores relative to "
        f"{found.arms[0].against}; source {plan.git or 'unknown'}."
    )
    return (
        f"{found.question.about}\n\n{budget} It belongs to question {numbers} of the project's list of open questions."
        f"\n\n```console\n{command}\n```"
    )


def _answers(found: Result) -> list[str]:
    lines = []
    for arm in found.arms:
        where = f" ({arm.arm.name})" if len(found.arms) > 1 else ""
        lines += [f"- **{one.contrast.question}**{where} {one.sentence}" for one in arm.answers]
    return ["## Answers", "\n".join(lines)] if lines else []


def correlation_said(found: Result) -> str:
    """How scores go with convergence, in a sentence; nothing in other studies."""
    return f"- **{found.question.text}** {found.together.sentence}" if found.together else ""


def _tables(found: Result) -> list[str]:
    if "memory" in found.question.looks:
        return [markdown(cost_table(found)).rstrip()]
    return [_arm(found, arm) for arm in found.arms]


def cost_table(found: Result) -> Table:
    """A row for each number of tasks: what a step costs, relative to the first variant."""
    names = [row.variant.name for row in found.arms[0].rows]
    header = ("tasks", *(f"{name}, time" for name in names[1:]), "its grouping alone", "share of its step")
    rows = []
    for arm in found.arms:
        base = arm.row(names[0]).seconds
        times = [number(arm.row(name).seconds / base, 2) for name in names[1:]]
        alone = arm.grouping if arm.grouping is not None else math.nan
        share = 100 * alone / arm.row("go4align").seconds
        cells = (f"{len(arm.summary.plan.tasks)}", *times, f"{1000 * alone:.2f} ms", f"{share:.1f} %")
        rows.append(tuple(map(Cell, cells)))
    labels = "; ".join(f"{row.variant.name} is `{row.variant.label}`" for row in found.arms[-1].rows)
    notes = (
        f"Time of a training step relative to {names[0]} with as many tasks. The grouping is exact k-means of five "
        "groups, timed alone; its share is that of a step of go4align.",
        f"Labels with {len(found.arms[-1].summary.plan.tasks)} tasks: {labels}.",
    )
    return Table("costs", "What a step costs", header, tuple(rows), notes)


def _arm(found: Result, arm: ArmResult) -> str:
    tables = [score_table(found, arm)]
    if "convergence" in found.question.looks:
        tables.append(risk_table(arm))
    heading = f"## {arm.arm.name}\n\n" if len(found.arms) > 1 else ""
    return heading + "\n".join(map(markdown, tables)).rstrip()


def score_table(found: Result, arm: ArmResult) -> Table:
    """A row for each variant: score with its interval, time, and how its groups moved."""
    grouped = any(row.groups for row in arm.rows) and "groups" in found.question.looks
    known = grouped and arm.known is not None
    header = ["variant", "Δm (%) ↓", "seeds", "step time", "memory (MB)"]
    header += ["groups", "switch rate (%)", "entropy"] if grouped else []
    header += ["Rand index"] if known else []
    base = next((row.seconds for row in arm.rows if math.isfinite(row.seconds)), math.nan)
    rows = []
    for row in arm.rows:
        cells = [
            row.variant.name,
            _score(row),
            str(len(row.scores)),
            number(row.seconds / base, 2),
            number(row.memory),
        ]
        cells += [] if not grouped else _moved(row)
        cells += [] if not known else [_agreement(row)]
        rows.append(tuple(map(Cell, cells)))
    return Table("scores", "Scores", tuple(header), tuple(rows), tuple(_notes(arm, grouped=grouped)))


def _score(row: Row) -> str:
    if not row.scores:
        return "failed"
    return _over_seeds(list(row.scores.values()), 1, sign=True)


def _over_seeds(values: Sequence[float], decimals: int, *, sign: bool = False) -> str:
    """The mean with its 95 % interval, from three seeds on."""
    n, mean = len(values), fmean(values)
    if n < 3:
        return number(mean, decimals, sign=sign)
    half = t_quantile(n - 1) * stdev(values) / math.sqrt(n)
    low, high = (number(mean + side * half, decimals, sign=sign) for side in (-1, 1))
    return f"{number(mean, decimals, sign=sign)} ({low} to {high})"


def _moved(row: Row) -> list[str]:
    if not row.moved:
        return ["–"] * 3
    return [
        _over_seeds([one.count for one in row.moved], 1),
        _over_seeds([100 * one.switches for one in row.moved], 1),
        _over_seeds([one.entropy for one in row.moved], 2),
    ]


def _agreement(row: Row) -> str:
    known = [one.agreement for one in row.moved if one.agreement is not None]
    return _over_seeds(known, 2) if known else "–"


def _notes(arm: ArmResult, *, grouped: bool) -> list[str]:
    notes = [
        f"Δm: mean relative change of the test metrics against {arm.against}, mean over the seeds with its 95 % "
        "interval (Student's t), which needs three of them. Differences are paired by seed, so they are known "
        "better than these intervals suggest.",
        "Step time: relative to the first variant.",
    ]
    if grouped:
        notes.append(
            "Switch rate: share of tasks in another group than at the logged step before. Entropy: of a task's "
            "group over the steps, 0 for never another one, 1 for all equally often. Groups are numbered by rising "
            "mean of the indicator. Intervals as for the scores."
        )
    labels = "; ".join(f"{row.variant.name} is `{row.variant.label}`" for row in arm.rows)
    notes.append(f"Labels: {labels}.")
    notes += [f"{row.variant.name}: {line}" for row in arm.rows for line in row.failed]
    return notes


def risk_table(arm: ArmResult) -> Table:
    """How uneven the risks are, before and after weighting."""
    rows = []
    for row in arm.rows:
        found = mean_risks(arm, row)
        apart = fmean(row.convergence.values()) if row.convergence else None
        values = [number(apart, 1), *(number(value, 2) for value in found or (None, None, None))]
        rows.append((Cell(row.variant.name), *map(Cell, values)))
    header = ("variant", "convergence difference", "imbalance before", "imbalance after", "unrest")
    notes = (
        "Convergence difference in epochs. Imbalance: standard deviation over the tasks of m times the share in the "
        "sum of the losses, mean over training, 0 where all are equal; after: of the weighted losses. Unrest: "
        "standard deviation over training of the weighted share, mean over the tasks.",
    )
    return Table("risks", "Balance of the risks", header, tuple(rows), notes)


def _definitions(found: Result) -> str:
    if not any(arm.answers for arm in found.arms):
        return ""
    count = sum(len(arm.answers) for arm in found.arms)
    also = " and the correlation" if found.together else ""
    correlation = (
        " The correlation is over methods: each is one point, the mean of its convergence differences and that of its "
        "scores over the seeds that all methods have. Its p-value is the share of 10,000 random orders of the scores "
        "that go together as much; the interval is Fisher's. Methods of this list stand for others like them."
        if found.together
        else ""
    )
    return (
        f"## How to read the answers\n\nEach of the {counted(count, 'comparison')} takes the difference of delta_m "
        "of the two sides on each seed (the mean, where a side has several variants), and its paired t test. Yes or "
        f"no needs p < 0.05 after Holm's correction over all comparisons of this page{also}; two sides that are the "
        "same runs are no test. Otherwise it cannot be told, which is not the same as no difference: the observed "
        "difference that would have been clear is given, and a true one of that size is missed half of the time. The "
        "intervals are not corrected."
        f"{correlation}"
    )
