"""How a search shows where it is: bars in a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from equipoise.terminal import drawing
from equipoise.training.outcome import Progress


@contextmanager
def showing_search() -> Iterator[SearchShow]:
    """Where a search tells how it goes; on the error stream."""
    with drawing() as (console, bars):
        yield SearchShow(console, bars)


class SearchShow:
    """A bar for the stage and one for the task of this process; a line for each task that has ended.

    Args:
        console: where lines are printed.
        bars: where bars are drawn, or None for a log.
    """

    def __init__(self, console: Any, bars: Any) -> None:
        self._console = console
        self._bars = bars
        self._stage: Any = None
        self._task: tuple[str, Any] | None = None
        self._total = self._done = 0

    def stage(self, name: str, total: int, done: int) -> None:
        """A stage begins, with about so many tasks in all, of which some were done before."""
        self._total, self._done = total, done
        if self._bars is None:
            self.say(f"{name}: {total}. Done before: {done}.")
            return
        self._end_task()
        if self._stage is not None:
            self._bars.remove_task(self._stage)
        self._stage = self._bars.add_task(name, total=total, completed=done, state=self._state)

    def progress(self, label: str, now: Progress) -> None:
        """Move the bar of a task in this process."""
        if self._bars is None:
            return
        if self._task is None or self._task[0] != label:
            self._end_task()
            self._task = (label, self._bars.add_task(f"  {label}", total=now.steps, state=""))
        state = f"epoch {now.epoch}/{now.epochs}"
        self._bars.update(self._task[1], completed=now.step, state=state)

    def finished(self, text: str) -> None:
        """Print what came of a task, and move the bar of the stage."""
        self._done += 1
        self._total = max(self._total, self._done)
        if self._bars is None:
            self.say(f"[{self._state}] {text}")
            return
        self._end_task()
        self._bars.update(self._stage, total=self._total, completed=self._done, state=self._state)
        self.say(text)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @property
    def _state(self) -> str:
        return f"{self._done}/{self._total}"

    def _end_task(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task[1])
            self._task = None
