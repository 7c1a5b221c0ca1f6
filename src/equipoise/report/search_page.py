"""Turns a finished search into `search.md` and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from equipoise.benchmark.records import write_atomically
from equipoise.search.kept import FILE
from equipoise.search.plan import SearchPlan
from equipoise.search.run import Found
from equipoise.search.verdict import schedule_rows, sentences

from . import plots_search
from .figures import Drawing, draw
from .style import Canvas, Plot


def write_search_page(plan: SearchPlan, found: Found, directory: Path) -> Path:
    """Write `search.md` and `figures/` into the directory of a search that is done.

    Args:
        plan: of the search.
        found: what came of it.
        directory: of the search.

    Returns:
        The path of `search.md`.

    Raises:
        ImportError: without matplotlib; names what to install.
        OSError: where the directory cannot be written to.
    """

    def plots(canvas: Canvas) -> Iterable[Plot | None]:
        drawn = (plots_search.schedule, plots_search.members, plots_search.anew)
        return (one(plan, found, canvas) for one in drawn)

    drawings = draw(plots, directory)
    facts = json.loads((directory / FILE).read_text())
    target = directory / "search.md"
    write_atomically(target, "\n".join(_lines(plan, found, drawings, facts)))
    return target


def _lines(
    plan: SearchPlan, found: Found, drawings: Sequence[Drawing], facts: dict[str, object]
) -> Iterable[str]:
    yield f"# Search of weights: {plan.config.problem}, {plan.algorithm}\n"
    yield from (f"- {sentence}" for sentence in sentences(plan, found))
    yield ""
    for drawing in drawings:
        yield f"![{drawing.title}](figures/{drawing.name}.png)\n\n{drawing.caption}\n"
    metrics = list(next((one.metrics for one in found.retrained if one.metrics), {}))
    yield from _table(
        ["weights", "seed", *metrics, "test score"],
        [
            [
                one.variant,
                str(one.seed),
                *(f"{one.metrics[name]:.4g}" if one.metrics else "diverged" for name in metrics),
                "" if one.score is None else f"{one.score:.2f}",
            ]
            for one in found.retrained
        ],
    )
    for name, schedule in found.variants.items():
        yield f"\n{name} weights:\n"
        yield from _table(*schedule_rows(plan, schedule))
    yield f"\nCommand: `{facts['command']}`; versions {json.dumps(facts['versions'])}; commit {facts['git']}."
    yield f"\nSettings: `{plan.model_dump_json(exclude={'transferred'})}`\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    yield from ("| " + " | ".join(row) + " |" for row in rows)
