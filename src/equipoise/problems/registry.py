"""Every benchmark problem by name, without importing any of them."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

PROBLEMS: dict[str, str] = {
    "qm9": "equipoise.problems.qm9:QM9",
}
"""Name -> module and class. A class takes its options as keyword arguments and is a `Problem`."""


def problem_class(name: str) -> Any:
    """The class of a problem.

    Raises:
        ValueError: on an unknown name; the nearest one is given.
    """
    if name not in PROBLEMS:
        near = difflib.get_close_matches(name, PROBLEMS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"A problem should be one of {', '.join(PROBLEMS)}. Found {name!r}.{hint}")
    module, _, attribute = PROBLEMS[name].partition(":")
    return getattr(import_module(module), attribute)
