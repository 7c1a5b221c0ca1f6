"""Prints the page of all problems, docs/benchmarks.md, from the registry and the docstrings.

python tests/tools/benchmarks_page.py > docs/benchmarks.md
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from equipoise.problems.registry import PROBLEMS, problem_class
from equipoise.training.problem import Checkable, Installable

# Problems whose data neither come as packages of data nor lie in a folder.
_DATA = {
    "qm9": '`pip install "equipoise[qm9]"`',
    "table": "`--csv FILE`",
    "synthetic": "drawn",
    "fronts": "none",
}
_HEAD = """# Benchmarks

Made by `python tests/tools/benchmarks_page.py` from the registry and the docstrings. Every problem is run by
`equipoise bench NAME --preset PRESET`; `equipoise data NAME` says what data is installed, where to get the rest, and
under which licence. The extras `qm9`, `earth`, `chemicals` and `table` are for the problems of their name, `celeba` is
for domainnet, office and taskonomy too; the others need `cli` alone. Presets are budgets: `smoke` shows whether it
runs, `quick` takes minutes, `small` an hour or more, `full` or `paper` the protocol. `--plan` prints what a preset
would run. How the published ones were run, and what is wrong with them: [Protocols](protocols.md). One of your own:
[Add a data set](add-a-data-set.md).
"""


def page() -> str:
    """The whole page, without a last newline."""
    classes = {name: problem_class(name) for name in PROBLEMS}
    lines = [
        _HEAD,
        "| problem | what it is | tasks | metrics | data | presets |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(name, cls) for name, cls in classes.items()]
    for name, cls in classes.items():
        lines += ["", *_section(name, cls)]
    return "\n".join(lines)


def _row(name: str, cls: Any) -> str:
    tasks = _tasks(cls)
    metrics = sum(len(task.metrics) for task in tasks)
    counts = f"{len(tasks)} | {metrics}" if tasks else "by options | by options"
    presets = ", ".join(f"`{preset}`" for preset in cls.presets)
    return f"| [`{name}`](#{name}) | {_summary(cls)} | {counts} | {_data(name, cls)} | {presets} |"


def _data(name: str, cls: Any) -> str:
    """How one gets the data."""
    if name in _DATA:
        return _DATA[name]
    if not isinstance(cls, Installable | Checkable):
        raise ValueError(f"`_DATA` should say how to get the data of {name}. Found nothing.")
    return f"`equipoise data {name} --install`" if isinstance(cls, Installable) else "a folder: `--data DIR`"


def _section(name: str, cls: Any) -> list[str]:
    lines = [f"## {name}", "", "```text", _doc(cls), "```", ""]
    metrics = [(task.name, metric) for task in _tasks(cls) for metric in task.metrics]
    if 0 < len(metrics) <= 20:
        lines += ["| task | metric | better | unit |", "|---|---|---|---|"]
        lines += [
            f"| {task} | {metric.name} | {'higher' if metric.higher_is_better else 'lower'} | {metric.unit or '-'} |"
            for task, metric in metrics
        ]
        lines.append("")
    lines += ["| preset | methods | epochs | learning rates | seeds | options |", "|---|---|---|---|---|---|"]
    return lines + [_preset(name, preset) for name, preset in cls.presets.items()]


def _preset(name: str, preset: Mapping[str, Any]) -> str:
    options = ", ".join(f"`{key}={value}`" for key, value in preset.get("options", {}).items())
    train = {"epochs": "300", **preset.get("train", {})}
    cells = [
        f"`{name}`",
        ", ".join(preset["methods"]),
        str(train["epochs"]),
        ", ".join(f"{lr:g}" for lr in preset["lrs"]),
        str(preset["seeds"]),
        options or "-",
    ]
    return f"| {' | '.join(cells)} |"


def _tasks(cls: Any) -> tuple[Any, ...]:
    return tuple(getattr(cls, "tasks", ()))


def _summary(cls: Any) -> str:
    return re.sub(r", see `\w+`", "", _doc(cls).partition("\n")[0])


def _doc(cls: Any) -> str:
    """The docstring, and below it those of the base classes that it refers to."""
    own = inspect.getdoc(cls) or ""
    named = [base for base in cls.__mro__[1:-1] if re.search(rf"see `(?:\w+\.)*{base.__name__}`", own)]
    return "\n\n".join([own, *(f"{base.__name__}: {inspect.getdoc(base)}" for base in named)])


if __name__ == "__main__":
    print(page())
