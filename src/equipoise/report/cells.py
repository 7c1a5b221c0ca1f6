"""A table as plain data, and the same as Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .wording import NOT_LEARNT


@dataclass(frozen=True)
class Cell:
    """One entry: its text, whether it is the best of its kind, and whether the task was not learnt."""

    text: str
    best: bool = False
    not_learnt: bool = False

    @property
    def marked(self) -> str:
        """The text with the mark of a task that was not learnt."""
        return f"{self.text} {NOT_LEARNT}" if self.not_learnt else self.text


@dataclass(frozen=True)
class Table:
    """A table to print: the first column holds names, the other ones numbers.

    Args:
        name: for labels and anchors.
        title: one line.
        header: one per column.
        rows: cells in the order of the header.
        notes: what the marks and numbers mean.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]


def markdown(table: Table) -> str:
    """The table as Markdown, the best value bold."""
    lines = [
        f"### {table.title}",
        "",
        _pipes(table.header),
        _pipes(["---", *["---:"] * (len(table.header) - 1)]),
    ]
    lines += [_pipes([f"**{c.marked}**" if c.best else c.marked for c in row]) for row in table.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def latex(table: Table) -> str:
    r"""The table as LaTeX for the packages booktabs and graphicx, the best value bold."""
    body = [
        [rf"\textbf{{{_tex(c.marked)}}}" if c.best else _tex(c.marked) for c in row] for row in table.rows
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(table.title)}. {_tex(' '.join(table.notes))}}}",
            rf"\label{{tab:{table.name}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            " & ".join(map(_tex, table.header)) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in body),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def best_of(values: list[float], *, higher_is_better: bool) -> set[int]:
    """Places of the best finite value; none where there is no finite one."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return set()
    top = max(finite) if higher_is_better else min(finite)
    return {index for index, value in enumerate(values) if value == top}


def _pipes(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


_TEX: Mapping[int, str] = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "Δ": r"$\Delta$",
        "±": r"$\pm$",
        "↓": r"$\downarrow$",
        "↑": r"$\uparrow$",
        "−": "$-$",
        "–": "--",
        NOT_LEARNT: r"$^\dagger$",
        "°": r"$^\circ$",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def _tex(text: str) -> str:
    return text.translate(_TEX)
