"""The table of passes: what each method took to train, and what single-task networks take together."""

from __future__ import annotations

from equipoise.benchmark.cost import Cost, costs
from equipoise.benchmark.matched import BACKWARD, FORWARD
from equipoise.benchmark.runs import COMPUTE
from equipoise.benchmark.summary import Summary

from .cells import Cell, Table
from .times import ROUGH_TIMES, UNIT
from .wording import number, ranked

NOT_COUNTED = "–: not counted by the version that ran it."


def cost_table(summary: Summary) -> Table:
    """Passes, parameters and time of a run, a row per method, and one for all single-task networks together."""
    place = {row.method: index for index, row in enumerate(ranked(summary))}
    found = sorted(costs(summary), key=lambda cost: place.get(cost.name, len(place)))
    unit = next((cost for cost in found if cost.name == UNIT), None)
    header = (
        "method",
        "forwards / step",
        "backwards / step",
        "epochs",
        f"passes / {UNIT}",
        f"time / {UNIT}",
        f"parameters / {UNIT}",
        "setting",
    )
    settings = {row.method: row.setting for row in summary.methods}
    body = tuple(
        (
            Cell(cost.name),
            Cell(number(cost.forwards, 2)),
            Cell(number(cost.backwards, 2)),
            Cell(number(cost.epochs, 1)),
            *(Cell(number(value, 2)) for value in _relative(cost, unit)),
            Cell(settings.get(cost.name, "each its own")),
        )
        for cost in found
    )
    return Table("passes", "What a run costs", header, body, _notes(summary, found))


def _relative(cost: Cost, unit: Cost | None) -> tuple[float | None, float | None, float | None]:
    """Passes, time and parameters as multiples of those of `ls`."""
    if unit is None:
        return None, None, None
    passes = cost.units / unit.units if cost.units is not None and unit.units else None
    return passes, cost.seconds / unit.seconds if unit.seconds else None, cost.parameters / unit.parameters


def _notes(summary: Summary, found: list[Cost]) -> tuple[str, ...]:
    rows = [label for label in summary.plan.methods if label.endswith(COMPUTE)]
    matched = (
        f"Rows that end in {COMPUTE} are trained for as many epochs as the passes of {UNIT} pay for, with the setting "
        "and seeds of their method; all others are at equal epochs, whatever these cost."
        if rows
        else "All rows are at equal epochs, whatever these cost."
    )
    parted = any(cost.forwards is not None and cost.forwards < 1 for cost in found)
    share = (
        "; a batch of one domain alone counts by its share of the images of a joint batch" if parted else ""
    )
    return (
        f"Passes of a run in training: a batch forwards through the network counts {FORWARD}, backwards through the "
        f"shared parameters {BACKWARD}. Evaluation is not counted; second batches, as of MoDo, are. {NOT_COUNTED}",
        matched,
        f"Single-task networks: all of them together, each with its own setting{share}. {ROUGH_TIMES}",
    )
