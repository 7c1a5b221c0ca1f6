"""The tasks of a search: members, and networks that are trained anew; where they are done does not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from equipoise.training.outcome import Hooks

from .generations import Assignment, Result
from .member import Make, Setting, train_member
from .retrain import Anew, Retrained, train_anew

Task = Assignment | Anew
Work = Callable[[list[Any]], Iterator[Any]]
"""Does the tasks of a list, taken from its front, in any order, and gives what comes of each, until the list is empty.

The list may grow whenever something has been given.
"""


def work(
    make: Make, setting: Setting, task: Task, directory: Path, hooks: Hooks | None = None
) -> Result | Retrained:
    """Do one task, from wherever a kill has left it; errors are those of `train_member` and `train_anew`."""
    if isinstance(task, Anew):
        return train_anew(make, setting, task, directory, hooks)
    return train_member(make, setting, task, directory, hooks)
