"""What there is to choose from, read off the registries and docstrings."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

from .build import METHODS, WRAPPERS, hyper_parameters
from .core import Aggregator, Method, Reads, Tracked

_SECTION = re.compile(r"^(\w[\w ]*):\s", re.MULTILINE)

_HEADS = {"same": "task weights", "unit": "1", "log": "1 / loss"}


@dataclass(frozen=True)
class Entry:
    """One method or wrapper.

    Args:
        name: as written in commands.
        kind: "weighting", "aggregator" or "wrapper".
        summary: the first line of its docstring.
        reads: what it reads of a training step, as the docstring says.
        heads: what the gradients of the task heads are scaled by, by default.
        cost: the backward passes of a step, and what is kept between steps.
        hyper_parameters: name -> default; None where there is none.
        required: those of them without a default.
        doc: the whole docstring.
    """

    name: str
    kind: str
    summary: str
    reads: str
    heads: str
    cost: str
    hyper_parameters: dict[str, Any]
    required: list[str]
    doc: str


def catalogue() -> list[Entry]:
    """Every method, then every wrapper."""
    methods = [_entry(name, cls, _kind(cls)) for name, cls in METHODS.items()]
    return methods + [_entry(name, cls, "wrapper") for name, cls in WRAPPERS.items()]


def markdown(entries: list[Entry]) -> str:
    """A table of the entries, then each docstring."""
    lines = [
        "| name | kind | what it does | reads | heads | cost | hyper-parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        options = ", ".join(f"`{text}`" for text in options_of(entry)) or "none"
        cells = [f"`{entry.name}`", entry.kind, entry.summary, entry.reads, entry.heads, entry.cost, options]
        lines.append(f"| {' | '.join(cells)} |")
    for entry in entries:
        lines += ["", f"## {entry.name}", "", "```text", entry.doc, "```"]
    return "\n".join(lines)


def minimal_loop(entry: Entry) -> str:
    """The training loop with this method, as a user would write it."""
    spec = f"ls+{entry.name}" if entry.kind == "wrapper" else entry.name
    second = {**METHODS, **WRAPPERS}[entry.name].second_batch
    measured = ["    balancer.measure(losses_of(model, other_batch))  # a second batch"] if second else []
    lines = [
        "",
        "In a training loop:",
        "",
        f'    method = eq.build_method("{spec}", n_tasks=len(tasks))',
        "    balancer = eq.Balancer(method, tasks=tasks)",
        "    for batch in loader:",
        "        optimizer.zero_grad()",
        *["    " + line for line in measured],
        "        record = balancer.backward(losses_of(model, batch))  # task name -> scalar loss",
        "        optimizer.step()",
    ]
    return "\n".join(lines)


def options_of(entry: Entry) -> list[str]:
    """The hyper-parameters of an entry as they are written in commands."""
    return [
        name if name in entry.required else f"{name}={default}"
        for name, default in entry.hyper_parameters.items()
    ]


def _cost(cls: type[Method]) -> str:
    """The backward passes of one step with m tasks, read off a method that is built for three."""
    passes = "1 backward" if cls(3).reads == Reads.LOSSES else "m backwards"
    tracked = any(isinstance(part, Tracked) for part in cls(3).modules())
    return passes + (", state as large as the Jacobian" if tracked else "")


def _kind(cls: type[Method]) -> str:
    return "aggregator" if issubclass(cls, Aggregator) else "weighting"


def _entry(name: str, cls: Any, kind: str) -> Entry:
    doc = inspect.getdoc(cls) or ""
    found = hyper_parameters(cls)
    required = [key for key, value in found.items() if value.default is inspect.Parameter.empty]
    return Entry(
        name=name,
        kind=kind,
        summary=doc.partition("\n")[0],
        reads=_section(doc, "Reads").rstrip("."),
        heads=_HEADS[cls.head_weights] if kind != "wrapper" else "as the base",
        cost=_cost(cls) if kind != "wrapper" else "as the base",
        hyper_parameters={key: None if key in required else value.default for key, value in found.items()},
        required=required,
        doc=doc,
    )


def _section(doc: str, title: str) -> str:
    """The text of a section of a docstring, on one line."""
    parts = _SECTION.split(doc)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    return " ".join(sections.get(title, "").split())
