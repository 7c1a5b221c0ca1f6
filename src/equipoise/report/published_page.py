"""The tables of the papers beside what follows from them, and beside our runs, with the budget of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.benchmark.evidence import evidence
from equipoise.benchmark.published import PublishedBenchmark, published, published_benchmarks
from equipoise.benchmark.recomputed import Recomputed, printed_decimals, ranks_among, recomputed
from equipoise.benchmark.records import RunDirectoryError
from equipoise.benchmark.summary import MethodSummary, Summary
from equipoise.training.metrics import mean_rank

from . import published_other
from .cells import Cell, Table, markdown
from .published_other import Section
from .tables import metric_table
from .wording import counted, listed, metric_title, number, ranked, with_interval

TITLE = "Published numbers, what follows from them, and ours"
ABOUT = (
    "Δm is the mean relative change of the metrics against single-task networks in percent, the mean rank is over "
    "the metrics (ties share the best rank, single-task is not ranked); lower is better for both. Printed: as in the "
    "paper. Again: computed here from the printed metrics. Numbers of different budgets stand beside each other; they "
    "are no ranking."
)
_TABLES = {"nyuv2": "table 1", "qm9": "tables 2 and 7", "cityscapes": "tables 2 and 8", "celeba": "table 2"}
_NAMES = {"nyuv2": "NYUv2", "qm9": "QM9", "cityscapes": "CityScapes", "celeba": "CelebA"}
_FLAWS = {
    "nyuv2": (
        "IMTL-G: the printed Δm, −0.76, does not follow from the printed metrics, which give −0.60. Earlier papers "
        "have the same row.",
        "GradDrop is in this table alone: mean ranks are among 13 methods here, among 12 on the other benchmarks.",
    ),
    "qm9": (
        "The metrics are printed with two digits, so that a recomputed Δm may be up to 1.8 points off.",
        "Single-task networks trained longer are better than those of the table: see the re-run by others below.",
    ),
    "cityscapes": (
        "LS: the printed row repeats that of SI, as in table 3 of the FAMO paper. The original row is in table 7 of "
        "the NTKMTL paper. With it GO4Align has a mean rank of 7.50, not 7.00.",
        "GO4Align: the metrics give 8.13, the table has 8.11, which the rounding of the metrics allows.",
    ),
    "celeba": (
        "F1 by attribute is not published, so neither score can be recomputed.",
        "The paper names 5 convolutions and a learning rate of 1e-3; the code whose protocol it follows has 7 and "
        "3e-4.",
        "Table 3 of the FAMO paper has the columns of mean rank and Δm swapped.",
    ),
}


def sections(benchmark: str | None = None, runs: Sequence[Summary] = ()) -> list[Section]:
    """What there is to say about a benchmark, or about all of them and the other tables of the papers.

    Args:
        benchmark: name; None for all.
        runs: summaries of our runs to set beside.

    Raises:
        ValueError: on a benchmark without published numbers.
        RunDirectoryError: on a run of another benchmark, or one without a finished method.
    """
    names = published_benchmarks() if benchmark is None else (published(benchmark).name,)
    for run in runs:
        if run.plan.problem not in names or not run.methods:
            raise RunDirectoryError(
                f"`run` should be a run directory of {listed(names)} with a finished method. Found one of "
                f"{run.plan.problem} with {counted(len(run.methods), 'finished method')}."
            )
    found = [_section(published(name), [run for run in runs if run.plan.problem == name]) for name in names]
    if benchmark in (None, "qm9"):
        found.append(published_other.rerun())
    return found if benchmark else [*found, *published_other.sections()]


def page(benchmark: str | None = None, runs: Sequence[Summary] = ()) -> str:
    """The sections as a Markdown page.

    Args and errors: as for `sections`.
    """
    command = (
        f"equipoise published{f' {benchmark}' if benchmark else ''} --markdown{' --run DIR' * len(runs)}"
    )
    parts = [f"# {TITLE}", f"Made by `{command}`. {ABOUT}"]
    for section in sections(benchmark, runs):
        parts += [f"## {section.title}", *section.text, *map(markdown, section.tables)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _section(known: PublishedBenchmark, runs: Sequence[Summary]) -> Section:
    text = [
        f"Published budget: {known.budget}; means of 3 seeds without their spread. The rows of other methods are "
        "quoted from earlier papers."
    ]
    text += [
        f"{name}: standard error of Δm over 3 seeds {error:g} points (appendix E of the FAMO paper)."
        for name, error in known.errors.items()
    ]
    title = f"{_NAMES[known.name]}: GO4Align (NeurIPS 2024), {_TABLES[known.name]}"
    tables = [_table(known)]
    for run in runs:
        text.append(_budget(run))
        tables += [_beside(known, run), metric_table(run)]
    if not runs:
        text.append(
            f"Ours: `equipoise published {known.name} --run DIR` sets a run directory beside; "
            "[what was run here](results/index.md)."
        )
    return Section(title, tuple(text), tuple(tables))


@dataclass(frozen=True)
class _Row:
    """A printed row: its metrics where they are published, its printed scores, and those that follow."""

    name: str
    metrics: Sequence[float | None]
    delta_m: float
    mean_rank: float
    again: Recomputed | None
    corrected_rank: float | None


def _rows(known: PublishedBenchmark) -> list[_Row]:
    names = [metric.name for metric in known.metrics]
    plain, fixed = recomputed(known), recomputed(known, corrected=True)
    rows = []
    for name, row in known.methods.items():
        values = [row.metrics[metric] if row.metrics else None for metric in names]
        rank = known.corrected_ranks.get(name)
        printed = name in known.corrections
        rows.append(
            _Row(name, values, row.delta_m, row.mean_rank, plain.get(name), None if printed else rank)
        )
        if printed:
            right = known.corrections[name]
            values = [right.metrics[metric] for metric in names]
            rows.append(_Row(f"{name}, corrected", values, right.delta_m, right.mean_rank, fixed[name], rank))
    return rows


def _table(known: PublishedBenchmark) -> Table:
    rows, shown = _rows(known), bool(recomputed(known))
    metrics = known.metrics if shown else ()
    digits = [printed_decimals(row.metrics[place] or 0.0 for row in rows) for place in range(len(metrics))]
    places = printed_decimals(row.delta_m for row in known.methods.values())
    header = ["method", *map(metric_title, metrics), "Δm printed", "mean rank printed"]
    header += ["Δm again", "mean rank again"] if shown else []
    header += ["mean rank corrected"] if known.corrected_ranks else []
    body = [_single_task(known, digits, len(header))] if shown else []
    for row in rows:
        cells = [number(value, own) for value, own in zip(row.metrics, digits, strict=False)]
        cells += [number(row.delta_m, places, sign=True), number(row.mean_rank, 2)]
        if row.again:
            cells += [_again(row.again, row.delta_m, places), number(row.again.mean_rank, 2)]
        if known.corrected_ranks:
            cells += [number(row.corrected_rank, 2)]
        body.append((Cell(row.name), *map(Cell, cells)))
    notes = list(_FLAWS[known.name])
    if shown:
        source = known.source.partition("; use")[0]
        notes.append(f"Again: from the printed metrics and the single-task row. Single-task: {source}.")
    return Table(f"published-{known.name}", "As printed", tuple(header), tuple(body), tuple(notes))


def _again(again: Recomputed, printed: float, places: int) -> str:
    text = number(again.delta_m, places, sign=True)
    return text if again.explains(printed) else f"{text} (not as printed)"


def _single_task(known: PublishedBenchmark, digits: Sequence[int], width: int) -> tuple[Cell, ...]:
    values = [f"{known.single_task[metric.name]:g}" for metric in known.metrics]
    return (Cell("single-task"), *map(Cell, values), *[Cell("–")] * (width - 1 - len(digits)))


def _budget(run: Summary) -> str:
    plan = run.plan
    train, options = plan.config.get("train", {}), plan.config.get("options", {})
    facts = [f"preset {plan.preset}", counted(len(plan.seeds), "seed")]
    if "epochs" in train:
        facts.append(counted(train["epochs"], "epoch"))
    facts += [f"{name} {value}" for name, value in options.items() if value not in (None, "", [])]
    tried = plan.budget or len(plan.lrs)
    facts.append(f"{counted(tried, 'setting')} tried a method, chosen on validation data")
    return f"Our budget: {', '.join(facts)} (`{plan.command}`)."


def _beside(known: PublishedBenchmark, run: Summary) -> Table:
    """Our scores and the printed ones, ranks among the methods that both have."""
    pairs = [(row, found) for row in ranked(run) if (found := known.find(row.method))]
    ours = _our_ranks(run, [row for row, _ in pairs])
    theirs = ranks_among(known, [name for _, (name, _) in pairs])
    estimates = evidence(run)
    body = tuple(
        (
            Cell(row.method),
            Cell(with_interval(estimates.methods[row.method].delta_m, 1, sign=True)),
            Cell(number(result.delta_m, 2, sign=True)),
            Cell(number(ours.get(row.method), 2)),
            Cell(number(theirs.get(name), 2)),
        )
        for row, (name, result) in pairs
    )
    header = ("method", "Δm ours", "Δm printed", "mean rank ours", "mean rank printed, same methods")
    among = listed([name for _, (name, _) in pairs], 30)
    source = {"own": "our own", "published": "those of the table", "none": "none"}[run.baseline.source]
    notes = (
        f"Mean ranks among {among}. [low, high]: 95 % interval of ours. Single-task networks of ours: {source}.",
        "Another budget: a difference between the columns is no finding about a method.",
    )
    return Table("beside", "Ours beside", header, body, notes)


def _our_ranks(run: Summary, rows: Sequence[MethodSummary]) -> dict[str, float]:
    if not rows:
        return {}
    metrics = run.plan.metrics
    table = {row.method: [row.metrics[metric.name].mean for metric in metrics] for row in rows}
    return mean_rank(table, [metric.higher_is_better for metric in metrics])
