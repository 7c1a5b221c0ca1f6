"""Problems that are not in this package: `equipoise bench module:Class` finds them."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

_NEEDED = (
    "name", "tasks", "reference", "method_defaults", "presets",
    "data", "model", "loaders", "losses", "shared", "evaluate", "trivial",
)  # fmt: skip


def own_class(place: str) -> Any:
    """The class at `module:Class`, checked for what a `equipoise.training.problem.Problem` has to offer.

    The module is looked for where Python looks and in the current directory, which comes last, so that no file there
    takes the place of an installed package. Importing it runs its code.

    Args:
        place: such as "tones:Tones" or "mylab.problems.tones:Tones".

    Raises:
        ValueError: if there is no such module or class, or the class lacks something; the message names it.
    """
    module, _, name = place.partition(":")
    if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ValueError(
            f"A problem of your own should look like tones:Tones, module:Class. Found {place!r}."
        )
    found = getattr(_module(module, place), name, None)
    if not isinstance(found, type):
        raise ValueError(f"{place!r} should name a class of {module}. Found no class {name} there.")
    missing = [wanted for wanted in _NEEDED if not hasattr(found, wanted)]
    if missing:
        raise ValueError(
            f"{place!r} should have all that a problem has (docs/add-a-data-set.md). Found no {', '.join(missing)}."
        )
    return found


def _module(module: str, place: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # processes that are started later have it too
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise ValueError(
            f"{place!r} should name a module that is installed or lies in {here}. Found no module {error.name}."
        ) from None
