"""A directory that belongs to one plan: new, or begun with the same one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .config import Settings
from .storage import LOCK, storing, write_atomically

Plan = TypeVar("Plan", bound=Settings)


@dataclass(frozen=True)
class Planned:
    """What directories of one kind are.

    Args:
        file: that keeps the plan.
        kind: what the plan is of, such as "search".
        error: raised where a directory is not as it should be.
    """

    file: str
    kind: str
    error: type[Exception]

    def begun(self, directory: Path) -> bool:
        """Whether a directory has a plan.

        Raises:
            the error: if it has none, and holds anything but what a kill may leave.
        """
        if (directory / self.file).exists():
            return True
        found = directory.iterdir() if directory.exists() else ()
        others = sorted(one.name for one in found if one.name != LOCK and one.suffix != ".tmp")
        if others:
            raise self.error(
                f"{directory} should be new, empty, or hold a {self.kind}. Found {', '.join(others[:5])} and no "
                f"{self.file}: choose another one with --out."
            )
        return False

    def keep(self, directory: Path, plan: Settings, facts: Mapping[str, Any]) -> bool:
        """Write a plan into a new directory, or compare it with that of one that was begun; whether it was.

        Args:
            directory: of the plan.
            plan: to write or compare.
            facts: as in `write`.

        Raises:
            the error: if the directory holds anything else, or another plan, naming every setting that differs.
            StorageError: if it cannot be written.
        """
        if not self.begun(directory):
            self.write(directory, plan, facts)
            return False
        self.same(directory, self.read(directory, type(plan)), plan)
        return True

    def write(self, directory: Path, plan: Settings, facts: Mapping[str, Any]) -> None:
        """Write a plan, with facts beside it that are not compared: command, versions and commit.

        Raises:
            StorageError: if it cannot be written.
        """
        with storing(directory / self.file):
            directory.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"plan": plan.model_dump(mode="json"), **facts}, indent=1)
            write_atomically(directory / self.file, text)

    def read(self, directory: Path, cls: type[Plan]) -> Plan:
        """The plan of a directory.

        Raises:
            the error: if there is none, or it cannot be read.
        """
        path = directory / self.file
        try:
            return cls.read(json.loads(path.read_text())["plan"])
        except FileNotFoundError:
            raise self.error(f"`{path}` should exist: {directory} holds no {self.kind}.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise self.error(f"`{path}` should hold the plan of a {self.kind}. {error}") from error

    def same(self, directory: Path, old: Settings, new: Settings) -> None:
        """Refuse another plan than the one that a directory was begun with.

        Raises:
            the error: naming every setting that differs.
        """
        before, after = (plan.model_dump(mode="json") for plan in (old, new))
        self.unchanged(
            directory, [f"{k}: {before[k]} -> {after[k]}" for k in before if before[k] != after[k]]
        )

    def unchanged(self, directory: Path, changes: Sequence[str]) -> None:
        """Refuse to go on where something has changed.

        Raises:
            the error: naming the changes.
        """
        if changes:
            lines = "".join(f"\n  {line}" for line in changes)
            raise self.error(
                f"{directory} holds another {self.kind}. From it to this one changes:{lines}\n"
                "Choose another directory with --out, or the same settings."
            )
