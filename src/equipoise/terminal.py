"""What the commands show in a terminal: progress bars and tables. The only place that knows rich."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from equipoise.benchmark.plan import Run
    from equipoise.benchmark.records import Record
    from equipoise.benchmark.runner import Show
    from equipoise.report.tables import Cell, Table
    from equipoise.training.outcome import Progress as Position
    from equipoise.training.problem import Preview

_NAME_WIDTH = 24  # of the first column of the results; longer names go on in the next line
_PREVIEW_ROWS = 25
_SPEED_SECONDS = 3600.0  # over which the speed is averaged: runs differ in cost, so a short look misleads


@contextmanager
def drawing() -> Iterator[tuple[Console, Progress | None]]:
    """The error stream, and bars on it if it is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield console, None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=_SPEED_SECONDS) as bars:
        yield console, bars


@contextmanager
def showing() -> Iterator[Show]:
    """Progress bars in a terminal, plain lines elsewhere; both on the error stream."""
    with drawing() as (console, bars):
        yield Lines(console) if bars is None else Bars(bars)


class Bars:
    """One bar for all runs, with the time left, and one for each run under way.

    Args:
        bars: where they are drawn.
    """

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._all = TaskID(0)
        self._data: TaskID | None = None
        self._runs: dict[str, tuple[TaskID, float]] = {}
        self._done = 0

    def began(self, total: int, done: int) -> None:
        """Draw the bar for all runs."""
        self._done = done
        self._all = self._bars.add_task("all runs", total=total, completed=done, state=f"{done}/{total}")

    def loading(self, done: int, total: int) -> None:
        """Draw how much of the data is read."""
        if self._data is None:
            self._data = self._bars.add_task("reading the data", total=total, state="")
        self._bars.update(self._data, completed=done)
        if done == total:
            self._bars.remove_task(self._data)

    def started(self, run: Run) -> None:
        """Draw the bar of a run."""
        bar = self._bars.add_task(f"  {run.run_id}", total=None, state="")
        old = self._runs.pop(run.run_id, None)
        if old is not None:
            self._bars.remove_task(old[0])
        self._runs[run.run_id] = (bar, 0.0)

    def progress(self, run: Run, now: Position) -> None:
        """Move the bar of a run, and that for all runs by the same part."""
        score = "" if now.validation_score is None else f"  score {now.validation_score:.1f}"
        bar, _ = self._runs[run.run_id]
        state = f"epoch {now.epoch}/{now.epochs}  step {now.step}/{now.steps}{score}"
        self._bars.update(bar, total=now.steps, completed=now.step, state=state)
        self._runs[run.run_id] = (bar, now.step / now.steps)
        self._move()

    def finished(self, record: Record, left: int) -> None:
        """Remove the bar of a run and print what became of it."""
        bar, _ = self._runs.pop(record.run_id, (None, 0.0))
        if bar is not None:
            self._bars.remove_task(bar)
        self._done += 1
        self._bars.update(self._all, total=self._done + left, state=f"{self._done}/{self._done + left}")
        self._move()
        self.say(_result(record))

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(Text(text))

    def preview(self, preview: Preview) -> None:
        """Print a look at the data above the bars."""
        _print_preview(self._bars.console, preview)

    def _move(self) -> None:
        under_way = sum(part for _, part in self._runs.values())
        self._bars.update(self._all, completed=self._done + under_way)


class Lines:
    """A line for each run that begins or ends, for logs and pipes.

    Args:
        console: where they are printed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = self._done = self._done_before = 0
        self._began = time.monotonic()
        self._read = -1

    def began(self, total: int, done: int) -> None:
        """Print how much there is to do."""
        self._total, self._done, self._done_before = total, done, done
        self._began = time.monotonic()
        self.say(f"Runs: {total}. Done before: {done}.")

    def loading(self, done: int, total: int) -> None:
        """Print every tenth of the data."""
        tenth = 10 * done // total
        if tenth > self._read:
            self._read = tenth
            self.say(f"Reading the data: {done} of {total}.")

    def started(self, run: Run) -> None:
        """Print what begins."""
        self.say(f"{run.run_id} ...")

    def progress(self, run: Run, now: Position) -> None:
        """Print nothing: a log should not grow with every step."""

    def finished(self, record: Record, left: int) -> None:
        """Print what became of a run, and the time left."""
        self._done += 1
        each = (time.monotonic() - self._began) / (self._done - self._done_before)
        rest = f", about {duration(each * left)} left" if left else ""
        self.say(f"[{self._done}/{self._done + left}] {_result(record)}{rest}")

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(Text(text), soft_wrap=True)

    def preview(self, preview: Preview) -> None:
        """Print a look at the data."""
        _print_preview(self._console, preview)


def say(text: str) -> None:
    """Print a line as it is."""
    Console().print(Text(text), soft_wrap=True)


def print_results(metrics: Table, ranking: Table) -> None:
    """Print the two result tables as one: a row for each metric and score, a column for each method.

    Both have the methods in the same order, `ranking` in its rows. Where the terminal is too narrow for all
    columns, several tables follow each other.
    """
    scores = zip(*(row[1:] for row in ranking.rows), strict=True)
    rows = [[_styled(cell) for cell in row] for row in metrics.rows]
    metrics_end = len(rows) - 1
    blank = [Text("")] * (
        len(metrics.header) - 1 - len(ranking.rows)
    )  # below the single-task runs, if they are there
    for name, cells in zip(ranking.header[1:], scores, strict=True):
        rows.append([Text(name), *blank, *map(_styled, cells)])
    console = Console()
    widths = [max(len(name), *map(len, cells)) for name, *cells in zip(metrics.header, *rows, strict=True)]
    widths[0] = min(widths[0], _NAME_WIDTH)
    for columns in _fitting(widths, console.width if console.is_terminal else sum(widths) + 4 * len(widths)):
        shown = RichTable()
        for column in columns:
            justify: Literal["left", "right"] = "right" if column else "left"
            width = None if column else widths[0]
            shown.add_column(Text(metrics.header[column]), justify=justify, no_wrap=column > 0, width=width)
        for number, row in enumerate(rows):
            shown.add_row(*(row[column] for column in columns), end_section=number == metrics_end)
        Console(width=None if console.is_terminal else 10_000).print(shown)
    for note in dict.fromkeys((*metrics.notes, *ranking.notes)):
        console.print(Text(note, style="dim"), soft_wrap=True)


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]], console: Console | None = None) -> None:
    """Print a table of texts."""
    shown = RichTable()
    for name in header:
        shown.add_column(Text(name), overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    (console or Console()).print(shown)


def print_wide(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts; where the terminal is too narrow, several with the first column follow each other."""
    console = Console()
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    room = console.width if console.is_terminal else sum(widths) + 4 * len(widths)
    for columns in _fitting(widths, room, kept=1):
        picked = [[row[column] for column in columns] for row in rows]
        wide = Console(width=None if console.is_terminal else 10_000)
        print_rows([header[column] for column in columns], picked, wide)


def _print_preview(console: Console, preview: Preview) -> None:
    """The first rows, those that were left out as a number, and the notes."""
    print_rows(preview.header, preview.rows[:_PREVIEW_ROWS], console)
    more = len(preview.rows) - _PREVIEW_ROWS
    for note in ([f"and {more} more rows"] if more > 0 else []) + list(preview.notes):
        console.print(Text(note), soft_wrap=True)


def _styled(cell: Cell) -> Text:
    return Text(cell.marked, style="bold" if cell.best else "")


def _fitting(widths: list[int], room: int, kept: int = 2) -> Iterator[list[int]]:
    """The columns of each table: the first ones and as many others as there is room for."""
    columns = [*range(kept)]
    for column in range(kept, len(widths)):
        if len(columns) > kept and sum(widths[i] + 3 for i in [*columns, column]) + 1 > room:
            yield columns
            columns = [*range(kept)]
        columns.append(column)
    yield columns


def _result(record: Record) -> str:
    if record.status == "failed":
        return f"{record.run_id} FAILED: {record.error}"
    return (
        f"{record.run_id}: validation score {record.validation_score:.1f} in epoch {record.best_epoch}, "
        f"{record.steps} steps in {duration(record.seconds)}"
    )


def duration(seconds: float) -> str:
    """So many seconds, as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
