"""Breaks methods, solvers, the weight search and the statistics in small ways and shows which breaks the tests notice.

    python tests/tools/mutants.py [--only famo --only mgda] [--out docs/mutants.md]

A mutant is the source of such a file with one operator changed (+ to -, * to /, < to >=, a sign
dropped, a number moved, `max` for `min`). Each runs the tests of its name, in a process forked from one that has torch
loaded already. A mutant that no test notices survives and is listed. Most survivors change nothing: a number in a
branch that `torch.where` throws away.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType

import hypothesis  # noqa: F401  # loaded before the fork, once for all mutants
import pytest
import torch

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "equipoise"
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Lt: ast.GtE,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.GtE: ast.Lt,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {
    "clamp_min": "clamp_max",
    "min": "max",
    "max": "min",
    "argmin": "argmax",
    "argmax": "argmin",
    "exp": "log",
}


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """(what was changed, the changed source), over every place in the functions where something can be."""
    tree = ast.parse(source)
    for node in list(_code(tree)):
        for undo, label in _changes(node):
            yield f"line {getattr(node, 'lineno', 0)}: {label}", ast.unparse(ast.fix_missing_locations(tree))
            undo()


def _code(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes inside functions, constructors' checks of their arguments left out (they have tests of messages)."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name != "__init__":
            skipped = {id(n) for d in (*function.decorator_list, function.args) for n in ast.walk(d)}
            if function.returns is not None:
                skipped |= {id(n) for n in ast.walk(function.returns)}
            skipped |= {
                id(n)
                for s in ast.walk(function)
                if isinstance(s, ast.AnnAssign)
                for n in ast.walk(s.annotation)
            }
            yield from (n for n in ast.walk(function) if id(n) not in skipped)


def _changes(node: ast.AST) -> Iterator[tuple[Callable[[], None], str]]:
    """Applies one change at a time to a node in place; yields how to undo it and what it was."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in SWAPS:
        old = node.op
        node.op = SWAPS[type(old)]()  # type: ignore[assignment]
        yield lambda: setattr(node, "op", old), f"{type(old).__name__} to {type(node.op).__name__}"
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        old_ops = node.ops
        node.ops = [SWAPS[type(old_ops[0])](), *old_ops[1:]]  # type: ignore[list-item]
        yield (
            lambda: setattr(node, "ops", old_ops),
            f"{type(old_ops[0]).__name__} to {type(node.ops[0]).__name__}",
        )
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        old_unary = node.op
        node.op = ast.UAdd()
        yield lambda: setattr(node, "op", old_unary), "sign dropped"
    elif (
        isinstance(node, ast.Constant)
        and type(node.value) in (int, float)
        and node.value in (0.5, 1, 2, 1.0, 2.0)
    ):
        value = node.value
        node.value = value * 1.5 if isinstance(value, float) else value + 1
        yield lambda: setattr(node, "value", value), f"{value} to {node.value}"
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        name = node.attr
        node.attr = NAMES[name]
        yield lambda: setattr(node, "attr", name), f"{name} to {node.attr}"


# Solvers without a test file of their own, and the methods whose tests are theirs.
TESTED_AS = {"equal_projections": "imtl_g", "vaccinate": "gradvac"}
# Files of the weight search that decide something, and their tests.
SEARCH = {
    "asha": ("algorithms", "models"),
    "bohb": ("models",),
    "fixed": ("algorithms",),
    "gaussian": ("models",),
    "gradients": ("gradients",),
    "holdout": ("members",),
    "pb2": ("models",),
    "pbt": ("algorithms",),
    "ranking": ("ranking",),
    "retrain": ("retrain",),
    "rungs": ("algorithms", "models"),
    "space": ("space",),
    "verdict": ("verdict",),
    "weights": ("weights",),
}
# Files of the statistics of a benchmark, likewise.
STATISTICS = {
    "aggregates": ("evidence",),
    "bootstrap": ("bootstrap", "evidence"),
    "evidence": ("evidence",),
    "power": ("power",),
    "ranks": ("ranks",),
    "recomputed": ("published",),
    "samples": ("evidence",),
}
COMPARISON = SOURCE / "training" / "comparison.py"  # tested by the verdict of a search


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from changed source and everything else as it is."""

    def __init__(self, name: str, source: str, path: Path) -> None:
        self._name, self._source, self._path = name, source, path

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """The changed module, if it is the one asked for."""
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed source."""
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)


def noticed(path: Path, source: str) -> bool:
    """Whether the tests of a method fail on the changed source, or do not end within two minutes."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
                module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
                sys.meta_path.insert(0, Finder(module, source, path))
                code = int(pytest.main(_arguments(path)))
        finally:
            os._exit(code)  # a child must not go on as its parent
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def _arguments(path: Path) -> list[str]:
    name = path.stem
    if path == COMPARISON:
        tests = [str(ROOT / "tests" / "search" / "test_verdict.py")]
    elif path.parent.name == "benchmark":
        tests = [str(ROOT / "tests" / "benchmark" / f"test_{of}.py") for of in STATISTICS[name]]
    elif path.parent.name == "search":
        tests = [str(ROOT / "tests" / "search" / f"test_{of}.py") for of in SEARCH[name]]
    elif (ROOT / "tests" / "solvers" / f"test_{name}.py").exists():
        tests = [str(ROOT / "tests" / "solvers" / f"test_{name}.py")]
    else:
        folders = [str(ROOT / "tests" / part) for part in ("methods", "wrappers")]
        tests = ["-k", TESTED_AS.get(name, name), *folders]
    return [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        "--timeout=120",
        *tests,
    ]


def main() -> int:
    """Run all mutants; exit 1 if a method fails its tests unchanged."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", help="a file by its name, or the folder search; default all"
    )
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument(
        "--most", type=int, default=1000, help="at most so many mutants of each file, spread out"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = [
        file
        for part in ("methods", "wrappers", "solvers")
        for file in sorted((SOURCE / part).glob("[a-z]*.py"))
    ]
    files += [SOURCE / "benchmark" / f"{name}.py" for name in STATISTICS]
    files += [COMPARISON, *(SOURCE / "search" / f"{name}.py" for name in SEARCH)]
    lines = ["| file | mutants run | noticed | survivors |", "|---|---|---|---|"]
    broken = 0
    for path in [
        file for file in files if not options.only or {file.stem, file.parent.name} & {*options.only}
    ]:
        source = path.read_text()
        broken += (unchanged := noticed(path, source))
        every = list(mutants(source))
        spread = every[:: max(1, math.ceil(len(every) / options.most))]
        found = [(label, noticed(path, changed)) for label, changed in spread]
        alive = [label for label, seen in found if not seen]
        row = f"| {path.parent.name}/{path.name} | {len(found)} | {len(found) - len(alive)} | {'; '.join(alive)} |"
        lines.append(row)
        print(row + (" FAILS UNCHANGED" if unchanged else ""), flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
