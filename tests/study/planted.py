"""Results of a study with planted numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from equipoise.study.cell import CellResult
from equipoise.study.plan import Cell, Measure, StudyPlan
from equipoise.training.config import RunConfig, TrainConfig

GRID = (0.25, 0.35, 0.5, 0.65, 0.75)
PARAMETERS: Mapping[tuple[int | None, int | None], int] = {
    (1, 8): 100,
    (1, 16): 400,
    (2, 8): 200,
    (2, 16): 800,
}


def plan(**changes: Any) -> StudyPlan:
    """Two pairs of three domains, four capacities."""
    measures = [
        Measure(name=name, metric=f"{name} accuracy", unit="%", higher_is_better=True, reference=100.0)
        for name in ("a", "b", "c")
    ]
    config = RunConfig(
        problem="planted",
        options={"samples": 3200, "batch_size": 64},
        method="ls",
        lr=0.01,
        seed=0,
        train=TrainConfig(epochs=8, schedule="constant", report="last", last_epochs=1),
    )
    given: dict[str, Any] = {
        "config": config,
        "measures": tuple(measures),
        "act": "sampling",
        "domains": True,
        "pairs": (("a", "b"), ("a", "c")),
        "depths": (1, 2),
        "widths": (8, 16),
        "grid": GRID,
        "seeds": (0, 1),
    }
    return StudyPlan(**{**given, **changes})


def results(
    study: StudyPlan,
    value: Callable[[Cell], float],
    *,
    steps: Callable[[Cell], int] = lambda cell: 400,
    history: Callable[[Cell], list[dict[str, float]]] | None = None,
) -> list[CellResult]:
    """A result for each cell: this accuracy of every name, 5 less on the test part, 10 more on training samples."""
    found = []
    for cell in study.cells():
        own = {name: value(cell) for name in cell.names}
        rows = [{"conflict": 0.5, "cosine": 0.0, "magnitude": 1.0}] if history is None else history(cell)
        full = [
            {
                "epoch": k + 1,
                "validation": own,
                "train": {name: v + 10 for name, v in own.items()},
                "loss": {name: 2 - v / 100 for name, v in own.items()},
                **{name: v for name, v in row.items() if name != "merit"},
                **({"validation": dict.fromkeys(own, row["merit"])} if "merit" in row else {}),
            }
            for k, row in enumerate(rows)
        ]
        metrics = {"validation": own, "test": {name: v - 5 for name, v in own.items()}}
        found.append(
            CellResult(
                cell,
                None,
                steps=steps(cell),
                epochs=8,
                parameters=PARAMETERS[cell.capacity],
                metrics=metrics,
                history=full,
            )
        )
    return found
