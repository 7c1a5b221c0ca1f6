"""A method by name and hyper-parameters: what configurations, records and searches store."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .names import read_value

_PART = re.compile(r"\s*([a-z][a-z0-9_]*)\s*((?::.*)?)\s*")

# An even number of quotation marks follows what is not quoted: a quoted value has none inside (see `_written`).
_UNQUOTED = r'(?=[^"]*(?:"[^"]*"[^"]*)*$)'
_PLUS = re.compile(r"\+(?=\s*[a-z])" + _UNQUOTED)  # not the plus of 1e+4
_COLON = re.compile(":" + _UNQUOTED)
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True)
class MethodSpec:
    """A balancing method by name, with its hyper-parameters and wrappers; goes to JSON and back.

    Args:
        name: a key of `equipoise.METHODS`.
        kwargs: hyper-parameters of the method.
        wrappers: (name, hyper-parameters) of each wrapper, the innermost first.
    """

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @classmethod
    def parse(cls, text: str) -> MethodSpec:
        """Read the command-line form, `name:key=value:key=value+wrapper:key=value`.

        For example `go4align:groups=5:step=1e-4` or `nashmtl+grouped:groups=2`. Values are read as JSON
        where they are (numbers, true, lists) and as text elsewhere. Text that has one of `:+"` in it, or would be
        read as a number, stands in quotation marks: `stl:task="IC50: a+b"`.

        Raises:
            ValueError: on text that does not have this form.
        """
        parts = [_parse_part(part, text) for part in _PLUS.split(text)] if text.strip() else []
        if not parts:
            raise ValueError("A method should have a name, as in 'go4align:groups=5'. Found an empty text.")
        (name, kwargs), *wrappers = parts
        return cls(name, kwargs, tuple(wrappers))

    @classmethod
    def from_json(cls, text: str) -> MethodSpec:
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        return cls(raw["name"], raw["kwargs"], tuple((name, kwargs) for name, kwargs in raw["wrappers"]))

    def to_json(self) -> str:
        """One line of JSON."""
        parts = [[name, dict(kwargs)] for name, kwargs in self.wrappers]
        return json.dumps({"name": self.name, "kwargs": dict(self.kwargs), "wrappers": parts})

    @property
    def label(self) -> str:
        """The command-line form, which `parse` reads back."""
        parts = ((self.name, self.kwargs), *self.wrappers)
        return "+".join(":".join([name, *_arguments(kwargs)]) for name, kwargs in parts)


def _arguments(kwargs: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_written(value)}" for key, value in kwargs.items()]


def _written(value: Any) -> str:
    """A value as `parse` reads it back: text in quotation marks only where it needs them."""
    if isinstance(value, str) and not set(value) & set(':+"') and read_value(value.strip()) == value:
        return value
    return _ESCAPED.sub(lambda found: r"\u0022" if found[1] == '"' else found[0], json.dumps(value))


def _parse_part(part: str, text: str) -> tuple[str, dict[str, Any]]:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"A method should look like 'go4align:groups=5+ema:decay=0.9'. Found {text!r}.")
    kwargs: dict[str, Any] = {}
    for pair in filter(None, _COLON.split(match[2])):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip().isidentifier():
            raise ValueError(f"A hyper-parameter should look like 'groups=5'. Found {pair!r} in {text!r}.")
        kwargs[key.strip()] = read_value(value.strip())
    return match[1], kwargs
