"""What a run writes while it trains: two tables and TensorBoard scalars."""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from equipoise.monitor import open_board

from .storage import storing

if TYPE_CHECKING:
    from equipoise.engine import StepRecord

Row = dict[str, float | int | None]

_BOARD_TASKS = 100
_STEPS = 2000  # at most this many rows of a run's steps,
_NUMBERS = 100_000  # and about this many losses and weights in them, but
_LEAST_STEPS = 50  # at least this many rows
_BUFFERED_ROWS = 256  # at most this many steps wait in memory, on a GPU without having been waited for


class Table:
    """A csv file that grows by rows and can be cut back to a step.

    Args:
        path: the file; its folder is created when the first rows are written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] = []

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows at the end; a column not seen before is added to the rows written so far, empty."""
        columns = list(dict.fromkeys([*self._columns, *(key for row in rows for key in row)]))
        if columns != self._columns:
            self._rewrite(self.read(), columns)
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, columns, restval="").writerows([_printed(row) for row in rows])

    def cut(self, column: str, last: int) -> None:
        """Drop the rows that come after `last` in a column, and a last row that was not written to its end."""
        rows = self.read()
        if rows:
            kept = [row for row in rows if int(row[column]) <= last]
            self._rewrite(kept, list(rows[0]))

    def read(self) -> list[dict[str, str]]:
        """The whole rows of the file, as text; none if there is no file."""
        if not self.path.exists():
            return []
        text = self.path.read_text()
        whole = text[: text.rfind("\n") + 1]
        return list(csv.DictReader(whole.splitlines()))

    def _rewrite(self, rows: Sequence[Mapping[str, str]], columns: list[str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".tmp")
        with open(fresh, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(fresh, self.path)
        self._columns = columns


def steps_between(steps: int, tasks: int) -> int:
    """How many steps go by from one logged step to the next, for a table that can be looked at."""
    return math.ceil(steps / max(min(_STEPS, _NUMBERS // (2 * tasks)), _LEAST_STEPS))


class RunLog:
    """The logs of one run: `steps.csv`, `epochs.csv` and `tensorboard/` in its folder.

    Steps are kept as tensors until they are written, so that logging does not wait for the device. TensorBoard shows
    what belongs to single tasks of up to 100 tasks; the tables hold it of any number.

    Args:
        folder: the folder of the run.
        tasks: the task names (m), which name the columns.
        every: steps from one row to the next.
        step: the number of steps that the run has done; rows after them are dropped. 0 starts the logs anew.
        epoch: the epoch that the run is in; rows from it on are dropped.

    Raises:
        StorageError: from every method, if the folder cannot be written.
    """

    def __init__(
        self, folder: Path, tasks: Sequence[str], *, every: int = 1, step: int = 0, epoch: int = 1
    ) -> None:
        self.every = every
        self._tasks = list(tasks)
        self._steps = Table(folder / "steps.csv")
        self._epochs = Table(folder / "epochs.csv")
        self._folder = folder
        self._waiting: list[tuple[int, int, dict[str, Any]]] = []
        with storing(folder):
            if step == 0 and folder.exists():
                shutil.rmtree(folder)
            self._steps.cut("step", step)
            self._epochs.cut("epoch", epoch - 1)
            purge = step + 1 if step else None
            self._board = open_board(folder / "tensorboard", "Training runs", purge_step=purge)

    def step(self, step: int, epoch: int, record: StepRecord) -> None:
        """Take note of a `Balancer` record, if it is the turn of this step or its fidelity was measured."""
        if (step - 1) % self.every == 0 or "fidelity" in record.diagnostics:
            self._waiting.append((step, epoch, _kept(record)))
            if len(self._waiting) >= _BUFFERED_ROWS:
                self.flush()

    def epoch(self, row: Row) -> None:
        """Write one epoch; `row` has at least "epoch" and "step"."""
        self.flush()
        with storing(self._folder):
            self._epochs.append([row])
            for name, value in row.items():
                if value is not None and self._shows(name):
                    self._board.add_scalar(f"epoch/{name}", value, row["step"])

    def flush(self) -> None:
        """Write what waits."""
        rows = [self._row(*waiting) for waiting in self._waiting]
        self._waiting.clear()
        with storing(self._folder):
            if rows:
                self._steps.append(rows)
            self._show(
                [
                    (row, name)
                    for row in rows
                    for name in row
                    if name.startswith(("loss_", "weight_", "fidelity")) and self._shows(name)
                ]
            )

    def close(self) -> None:
        """Write what waits and let the files go."""
        try:
            self.flush()
        finally:
            with storing(self._folder):
                self._board.close()

    def _shows(self, name: str) -> bool:
        """Whether TensorBoard shows a column."""
        if name in ("epoch", "step"):
            return False
        return len(self._tasks) <= _BOARD_TASKS or name in ("seconds", "lr", "val_score", "fidelity")

    def _show(self, scalars: list[tuple[Row, str]]) -> None:
        for row, name in scalars:
            self._board.add_scalar(name.replace("_", "/", 1), row[name], row["step"])
        self._board.flush()

    def _row(self, step: int, epoch: int, kept: dict[str, Any]) -> Row:
        row: Row = {"step": step, "epoch": epoch}
        for name, value in kept.items():
            if value.ndim == 0:
                row[name] = float(value)
            else:
                row.update(zip((f"{name}_{task}" for task in self._tasks), value.tolist(), strict=True))
        if "fallback" in row:
            row["fallback"] = int(row["fallback"] or 0)
        return row


def _kept(record: StepRecord) -> dict[str, Tensor]:
    kept = {"loss": record.losses.detach().clone(), "weight": record.weights.detach().clone()}
    shown = record.diagnostics
    if "assignment" in shown:
        kept["group"] = shown["assignment"].clone()
    if "indicators" in shown:
        kept["indicator"] = shown["indicators"].detach().clone()
    if "group_weights" in shown:
        kept["group_weight"] = shown["group_weights"][shown["assignment"]].clone()
    if "fidelity" in shown:
        kept["fidelity"] = shown["fidelity"].detach().clone()
    for name in ("conflict", "fallback"):
        if getattr(record, name) is not None:
            kept[name] = getattr(record, name).detach().clone()
    return kept


def _printed(row: Row) -> dict[str, str]:
    return {name: _number(value) for name, value in row.items()}


def _number(value: float | int | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.8g}"


__all__ = ["Row", "RunLog", "Table"]
