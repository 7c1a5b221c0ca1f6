"""Names and values that users write: read, or refused with the nearest name that is there."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any


def check_known(kind: str, name: str, known: Iterable[str], error: type[ValueError] = ValueError) -> None:
    """Refuse a name that is not among the known ones.

    Raises:
        ValueError: or `error`, with the known names in their order and the nearest of them.
    """
    names = list(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise error(f"{kind} should be one of {', '.join(names) or 'none'}. Found {name!r}.{hint}")


def read_value(text: str) -> Any:
    """A number, list, true, false or null as JSON reads it; any other text as it is."""
    for read in (json.loads, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
