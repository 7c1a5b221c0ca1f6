"""The page of a study: verdicts, tables and figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from equipoise.benchmark.records import write_atomically
from equipoise.search.genealogy import generations, read_results
from equipoise.search.generations import best_of, schedule_of
from equipoise.search.kept import read_plan
from equipoise.study.analysis import Findings, Transfer
from equipoise.study.estimates import Bounded
from equipoise.study.plan import Pair
from equipoise.study.verdict import verdicts

from .cells import Cell, Table, markdown
from .figures import Drawing, draw
from .plots_search import schedule_plot
from .plots_study import best_map, capacity_name, gains, gaps, metrics_over_p, plausible_range
from .plots_study_gradients import conflict_scatter, gradients_over_epochs
from .style import Canvas, Plot
from .wording import number

PAGE = "study.md"
_MOST_HIDDEN = 20


def write_study(found: Findings, directory: Path, command: str, search: Path | None = None) -> Path:
    """Write `study.md` and its `figures/` into the directory of a study.

    Args:
        found: what the study says.
        directory: of the study.
        command: that made it.
        search: the directory of a search whose winner's schedule is shown too, or None.

    Raises:
        SearchError: if there is no search in that directory, or none of its members has a score.
        ImportError: without matplotlib; names what to install.
        OSError: where the directory cannot be written to.
    """

    def plots(canvas: Canvas) -> Iterator[Plot | None]:
        for plot in (metrics_over_p, best_map, gains, gaps, conflict_scatter, gradients_over_epochs):
            yield plot(found, canvas)
        if search is not None:
            yield winner(search, canvas)

    drawings = draw(plots, directory)
    target = directory / PAGE
    write_atomically(target, study_page(found, drawings, command))
    return target


def winner(search: Path, canvas: Canvas) -> Plot:
    """The weights over epochs that led to the best member of a search."""
    plan, history = read_plan(search), generations(read_results(search))
    return schedule_plot(plan.names, schedule_of(history, best_of(history)), plan.config.train.epochs, canvas)


def study_page(found: Findings, drawings: Sequence[Drawing], command: str) -> str:
    """The page as Markdown."""
    tables = [_best_table(found), _transfer_table(found), _correlation_table(found)]
    parts = [
        f"# Scalarization on {found.plan.config.problem}: weights against capacity",
        _what(found, command),
        "## The paper's three insights, here",
        *(f"- **{one.insight}: {one.answer}.** {one.numbers}" for one in verdicts(found)),
        _noise(found),
        *(f"## {one.title}\n\n![{one.title}](figures/{one.name}.png)\n\n{one.caption}" for one in drawings),
        "## Numbers",
        *(markdown(table) for table in tables if table.rows),
        _hidden(found),
        _DEFINITIONS,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(found: Findings, command: str) -> str:
    plan = found.plan
    steps = {result.steps for result in found.results}
    train = plan.config.train
    said = f"{min(steps):,} steps each" if len(steps) == 1 else "no cell that counts"
    count = len(plan.cells())
    sizes = ", ".join(capacity_name(capacity) for capacity in plan.capacities)
    weights = "sampling probabilities of the domains" if plan.act == "sampling" else "weights of the losses"
    network = plan.config.options.get("model", "the problem's network")
    return (
        f"{count} networks ({network}; {sizes.replace(', width', ' x width')}), {said}; {len(plan.pairs)} pairs; "
        f"p = {', '.join(f'{p:g}' for p in plan.grid)} as {weights}; {len(plan.seeds)} seed(s); {train.optimizer}, "
        f"lr {plan.config.lr:g}, {train.warmup_epochs} of {train.epochs} epochs warm-up, {train.schedule}.\n\n"
        f"```console\n{command}\n```\n\n"
        "It checks what A. Royer, T. Blankevoort and B. Ehteshami Bejnordi, NeurIPS 2023, "
        "https://arxiv.org/abs/2310.08910, found at a much larger size. A small study on other data can agree or "
        "differ; it does not reproduce theirs."
    )


def _noise(found: Findings) -> str:
    noise = found.noise["test"]
    if noise is None:
        return "How much a network differs when it is trained again is unknown: add seeds, or points to the grid."
    source = (
        "the differences between seeds"
        if noise.source == "seeds"
        else "what a quadratic in p leaves of each curve, since there is one seed"
    )
    return (
        f"A network that is trained again differs by about {noise.sd:.2f} points of test merit (standard deviation, "
        f"{noise.df} degrees of freedom, from {source})."
    )


def _best_table(found: Findings) -> Table:
    rows = []
    for (pair, capacity), best in found.best.items():
        rows.append(
            (
                Cell(f"{' + '.join(pair)}, {capacity_name(capacity)}"),
                Cell(f"{best.p:g}"),
                Cell(plausible_range(best)),
                Cell(number(best.gain, 2, sign=True)),
                Cell(number(best.uniform, 2, sign=True)),
            )
        )
    return Table(
        "best",
        "The best p of each pair and capacity",
        ("pair and capacity", "best p", "not clearly worse", "gain over single", "gain at equal weights"),
        tuple(rows),
        (
            "p is that of the first name. Best on the validation part; gains are of the test part, in points of merit.",
            "The gain at equal weights is that at p = 0.5, or the p of the grid that is nearest.",
        ),
    )


def _transfer_table(found: Findings) -> Table:
    return Table(
        "transfer",
        "Search small, train large",
        ("pair", "best p of the smallest", "best p of the largest", "cost of transfer", "worth of tuning"),
        tuple(_transfer_row(pair, one) for pair, one in found.transfer.items()),
        (
            "Cost: test merit of the largest network at its own best p, less that at the best p of the smallest. "
            "Worth: the same against equal weights. Both p were chosen on the validation part, so either may be "
            "negative.",
        ),
    )


def _transfer_row(pair: Pair, one: Transfer) -> tuple[Cell, ...]:
    texts = (
        f"{one.small:g}",
        f"{one.large:g}",
        number(one.cost, 2, sign=True),
        number(one.tuning, 2, sign=True),
    )
    return (Cell(" + ".join(pair)), *map(Cell, texts))


def _correlation_table(found: Findings) -> Table:
    rows = [
        (
            Cell(f"{one.statistic}, {one.epochs} epochs"),
            Cell(_interval(one.pearson)),
            Cell(_interval(one.spearman)),
        )
        for one in found.correlations
    ]
    return Table(
        "correlations",
        "Gradients and the validation merit",
        ("statistic", "Pearson", "Spearman"),
        tuple(rows),
        (
            "With 95 % intervals by drawing whole cells. The last epoch alone leaves out what both do over training.",
        ),
    )


def _interval(estimate: Bounded | None) -> str:
    if estimate is None:
        return "–"
    return f"{number(estimate.value, 2)} ({number(estimate.low, 2)} to {number(estimate.high, 2)})"


def _hidden(found: Findings) -> str:
    if not found.hidden:
        return ""
    lines = [f"- {name}: {reason}" for name, reason in found.hidden.items()]
    more = [f"- and {len(lines) - _MOST_HIDDEN} more"] if len(lines) > _MOST_HIDDEN else []
    shown = "\n".join([*lines[:_MOST_HIDDEN], *more])
    return f"## Cells that are left out\n\nThey are in no figure, table or verdict.\n\n{shown}"


_DEFINITIONS = """## Definitions

- Merit: a metric in percent of the problem's reference value, negative where lower is better. An accuracy is its
  own merit.
- Gain: mean test merit of a pair, less that of the single-task networks of the same capacity and as many steps. Where
  domains are sampled, a joint network sees less of each than a single-task one does, and the gain has to make up for
  that.
- Generalisation gap: merit on fixed training samples less that on the test part.
- Optimisation gap: training loss of a joint network less that of the single-task ones, on the same fixed samples.
- Conflict: share of fixed training batches on which the gradients of the two losses have a negative inner product.
- Magnitude similarity: 2 |g1| |g2| / (|g1|^2 + |g2|^2) (Yu et al., NeurIPS 2020).

How the paper defines the two gaps and conflict is not known to us, so these definitions are our own."""
