"""How a search or a study shows where it is: bars in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from equipoise.terminal import drawing, duration
from equipoise.training.outcome import Progress


@contextmanager
def showing_tasks() -> Iterator[TaskShow]:
    """Where tasks tell how they go; on the error stream."""
    with drawing() as (console, bars):
        yield TaskShow(console, bars)


class TaskShow:
    """A bar for the stage and one for each task under way that tells how far it is; a line for each that has ended.

    Args:
        console: where lines are printed.
        bars: where bars are drawn, or None for a log.
    """

    def __init__(self, console: Any, bars: Any) -> None:
        self._console = console
        self._bars = bars
        self._stage: Any = None
        self._tasks: dict[str, Any] = {}
        self._total = self._done = self._done_before = 0
        self._began = time.monotonic()

    def stage(self, name: str, total: int, done: int) -> None:
        """A stage begins, with about so many tasks in all, of which some were done before."""
        self._total, self._done, self._done_before = total, done, done
        self._began = time.monotonic()
        if self._bars is None:
            self.say(f"{name}: {total}. Done before: {done}.")
            return
        if self._stage is not None:
            self._bars.remove_task(self._stage)
        self._stage = self._bars.add_task(name, total=total, completed=done, state=self._state)

    def progress(self, label: str, now: Progress) -> None:
        """Move the bar of a task."""
        if self._bars is None:
            return
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(f"  {label}", total=now.steps, state="")
        state = f"epoch {now.epoch}/{now.epochs}"
        self._bars.update(self._tasks[label], completed=now.step, state=state)

    def finished(self, label: str, text: str) -> None:
        """Print what came of a task, remove its bar, and move that of the stage; a log has the time left too."""
        self._done += 1
        self._total = max(self._total, self._done)
        if self._bars is None:
            self.say(f"[{self._state}] {text}{self._rest}")
            return
        if label in self._tasks:
            self._bars.remove_task(self._tasks.pop(label))
        self._bars.update(self._stage, total=self._total, completed=self._done, state=self._state)
        self.say(text)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @property
    def _state(self) -> str:
        return f"{self._done}/{self._total}"

    @property
    def _rest(self) -> str:
        left = self._total - self._done
        each = (time.monotonic() - self._began) / max(self._done - self._done_before, 1)
        return f", about {duration(each * left)} left" if left else ""
