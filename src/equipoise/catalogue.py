"""What there is to choose from, read off the registries and docstrings."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import torch

from .build import METHODS, WRAPPERS, hyper_parameters
from .core import Aggregator, Method, Reads, TaskStats, Tracked, Wrapper

_SECTION = re.compile(r"^(\w[\w ]*):\s", re.MULTILINE)

# A wrapper is shown around a method that it changes.
_WRAPPED = {
    "grouped": "nashmtl+grouped",
    "every": "nashmtl+every:steps=10",
    "ema": "mgda+ema",
    "clip_norm": "upgrad+clip_norm",
    "log_losses": "cagrad+log_losses",
}
_FAMILIES = {
    "losses": "Methods that read losses only",
    "gramian": "Methods that read the Gramian",
    "jacobian": "Methods that read the Jacobian",
    "wrapper": "Wrappers",
}
_LEGEND = """# Balancing methods

Made by `equipoise methods --markdown` from the docstrings; `equipoise methods --choose` recommends some.

With m tasks and n shared parameters, J (m, n) is the Jacobian, whose rows g_i are the gradients of the losses L_i, and
G = J J' (m, m) the Gramian. A *weighting* answers with task weights w (m,) and the shared gradient is w J; an
*aggregator* answers with a shared gradient that weights cannot express; a *wrapper* changes a weighting. *heads*: what
the gradients of the parameters that belong to one task are scaled by (`Balancer(head_weights=...)` changes it).
*cost*: backward passes of a step. Hyper-parameters are shown with their defaults, as they are written on the command
line: `go4align:groups=5`, `nashmtl+every:steps=10`."""

_HEADS = {"same": "task weights", "unit": "1", "log": "1 / loss"}


@dataclass(frozen=True)
class Entry:
    """One method or wrapper.

    Args:
        name: as written in commands.
        kind: "weighting", "aggregator" or "wrapper".
        family: the most that it reads by default, "losses", "gramian" or "jacobian"; or "wrapper".
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
    family: str
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
    """A page: what the words mean, a table of each family, then each docstring."""
    lines = [_LEGEND]
    for family, title in _FAMILIES.items():
        members = [entry for entry in entries if entry.family == family]
        if members:
            lines += ["", f"## {title}", "", *_table(members)]
    for entry in entries:
        lines += ["", f"## {entry.name}", "", "```text", entry.doc, "```"]
    return "\n".join(lines)


def minimal_loop(entry: Entry) -> str:
    """The training loop with this method, as a user would write it."""
    cls = {**METHODS, **WRAPPERS}[entry.name]
    spec = _WRAPPED.get(entry.name, entry.name)
    arguments = ", ".join([f'"{spec}"', "n_tasks=len(tasks)", *(f"{name}=..." for name in entry.required)])
    learns = entry.kind != "wrapper" and any(True for _ in cls(3).parameters())
    group = (
        "    optimizer.add_param_group({'params': balancer.parameters(), 'lr': 0.025, 'weight_decay': 0.0})"
    )
    batch = "val_batch" if cls.second_batch == "validation" else "other_batch"
    lines = [
        f"    method = eq.build_method({arguments})",
        "    balancer = eq.Balancer(method, tasks=tasks)",
        *([group] if learns else []),
        "    for batch in loader:",
        "        optimizer.zero_grad()",
        *([f"        balancer.measure(losses_of(model, {batch}))"] if cls.second_batch else []),
        "        record = balancer.backward(losses_of(model, batch))  # task name -> scalar loss",
        "        optimizer.step()",
        *(["        balancer.after_step(losses_of(model, batch))  # optional"] if _looks_again(cls) else []),
    ]
    return "\n".join(["", "In a training loop:", "", *lines])


def options_of(entry: Entry) -> list[str]:
    """The hyper-parameters of an entry as they are written in commands."""
    return [
        name if name in entry.required else f"{name}={_plain(default)}"
        for name, default in entry.hyper_parameters.items()
    ]


def heading(entry: Entry) -> str:
    """The name, kind, cost and defaults of an entry, above its docstring."""
    options = ":".join([entry.name, *options_of(entry)])
    return f"{entry.name} ({entry.kind}; {entry.cost}; heads: {entry.heads})\nDefaults: {options}\n"


def _table(entries: list[Entry]) -> list[str]:
    lines = [
        "| name | kind | what it does | reads | heads | cost | hyper-parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        options = ", ".join(f"`{text}`" for text in options_of(entry)) or "none"
        link = f"[`{entry.name}`](#{entry.name})"
        cells = [link, entry.kind, entry.summary, entry.reads, entry.heads, entry.cost, options]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cost(cls: type[Method]) -> str:
    """What one step with m tasks costs, read off a method for three tasks that has made a step."""
    method = cls(3)
    rows = torch.randn(3, 600, generator=torch.Generator().manual_seed(0))
    stats = TaskStats(torch.tensor([1.0, 2.0, 3.0]), jacobian=rows, blocks=[300, 300])
    method(TaskStats(stats.losses, jacobian=rows, blocks=[300, 300], other=stats))
    passes = "1 backward" if cls(3).reads == Reads.LOSSES else "m backwards"
    more = {"": "", "train": ", twice", "validation": " and 1 forward on validation data"}[cls.second_batch]
    if _looks_again(cls):
        more = ", and 1 forward with `after_step`"
    sizes = [
        part.value.numel()
        for part in method.modules()
        if isinstance(part, Tracked) and part.value is not None
    ]
    kept = sum(size >= rows.numel() for size in sizes)
    state = {0: "", 1: ", state as large as the Jacobian"}.get(kept, f", state as large as {kept} Jacobians")
    return passes + more + state


def _looks_again(cls: type[Method]) -> bool:
    """Whether the method wants the losses after the step."""
    return "after_step" in vars(cls) and not issubclass(cls, Wrapper)


def _family(cls: type[Method], kind: str) -> str:
    return "wrapper" if kind == "wrapper" else cls(3).reads.name.lower()


def _kind(cls: type[Method]) -> str:
    return "aggregator" if issubclass(cls, Aggregator) else "weighting"


def _entry(name: str, cls: Any, kind: str) -> Entry:
    doc = inspect.getdoc(cls) or ""
    found = hyper_parameters(cls)
    required = [key for key, value in found.items() if value.default is inspect.Parameter.empty]
    return Entry(
        name=name,
        kind=kind,
        family=_family(cls, kind),
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
