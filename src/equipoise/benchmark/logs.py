"""The CSV logs of a run, as columns of numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

Columns = dict[str, list[float]]


def validations(directory: Path, run_id: str, metrics: Sequence[str]) -> tuple[list[int], list[list[float]]]:
    """The epochs in which all of the metrics were validated, and the curve of each metric over these.

    Empty where the run has no log or lacks one of the metrics.
    """
    log = _read(directory / "runs" / run_id / "epochs.csv")
    columns = [log.get(f"val_{metric}", []) for metric in metrics]
    if not columns or not all(columns):
        return [], [[] for _ in metrics]
    rows = [row for row in zip(log["epoch"], *columns, strict=True) if all(map(math.isfinite, row))]
    epochs, *curves = [list(column) for column in zip(*rows, strict=True)] or [
        [] for _ in range(len(metrics) + 1)
    ]
    return [int(epoch) for epoch in epochs], curves


def read_steps(directory: Path, run_id: str) -> Columns:
    """Columns of a run's `steps.csv`; empty where there is none."""
    return _read(directory / "runs" / run_id / "steps.csv")


def _read(path: Path) -> Columns:
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    whole = [row for row in rows if len(row) == len(header)]  # a kill may leave half a row
    return {name: [_number(row[index]) for row in whole] for index, name in enumerate(header)}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
