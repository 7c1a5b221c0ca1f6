"""The structure of the package, read off its source: import direction, sizes, and what each layer may touch."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import equipoise as eq

ROOT = Path(eq.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
# What each package may import of the others, besides itself. Departures from the plan are in docs/design.md.
MAY_IMPORT: dict[str, set[str]] = {
    "solvers": set(),
    "core": {"solvers"},
    "methods": {"core", "solvers"},
    "wrappers": {"core", "solvers"},
    "build": {"core", "methods", "wrappers"},
    "engine": {"core"},
    "monitor": {"core", "engine"},
    "data": set(),
    "models": set(),
    "training": {"build", "core", "engine", "monitor"},
    "problems": {"core", "data", "models", "training"},
    "cluster": {"training"},
    "benchmark": {"problems", "training", "build", "core", "cluster", "solvers"},
    "report": {"benchmark", "search", "study", "training"},
    "search": {"problems", "training", "engine", "build", "core", "cluster"},
    "__init__": {"build", "core", "engine", "methods", "monitor", "wrappers"},
    "study": {"cluster", "search", "benchmark", "problems", "training", "engine", "monitor", "build", "core"},
    "published_command": {"command", "benchmark", "report", "terminal"},
    "study_command": {
        "command",
        "actions",
        "parallel",
        "question_actions",
        "study_actions",
        "study",
        "__init__",
    },
    "question_actions": {
        "actions",
        "terminal",
        "problems",
        "training",
        "benchmark",
        "report",
        "study",
    },
    "study_actions": {
        "actions",
        "terminal",
        "task_show",
        "problems",
        "training",
        "benchmark",
        "report",
        "search",
        "study",
    },
    "command": set(),
    "search_command": {"command", "actions", "search_actions", "__init__"},
    "search_actions": {
        "actions",
        "terminal",
        "task_show",
        "problems",
        "training",
        "benchmark",
        "search",
        "report",
        "cluster",
    },
    "data_actions": {"actions", "benchmark", "problems", "terminal", "training"},
    "plan_show": {"terminal", "training", "benchmark"},
    "parallel": {"benchmark", "cluster"},
    "task_show": {"terminal", "training"},
    "cli": {
        "command",
        "search_command",
        "search_actions",
        "study_command",
        "published_command",
        "parallel",
        "plan_show",
        "data_actions",
        "problems",
        "training",
        "benchmark",
        "report",
        "build",
        "core",
        "methods",
        "wrappers",
        "data",
        "__init__",
        "actions",
        "advice",
        "catalogue",
        "terminal",
    },
    "actions": {
        "advice",
        "terminal",
        "problems",
        "training",
        "benchmark",
        "report",
        "build",
        "core",
        "methods",
        "wrappers",
        "catalogue",
    },
    "advice": set(),
    "catalogue": {"build", "core", "methods", "wrappers"},
    "terminal": {"training", "benchmark", "report"},
}
# The one file in which each optional package is imported.
OPTIONAL = {
    "typer",
    "rich",
    "pydantic",
    "matplotlib",
    "rdkit",
    "pandas",
    "tensorboard",
    "wandb",
    "ray",
    "pyarrow",
    "plotly",
    "numpy",
    "PIL",
    "tifffile",
    "imagecodecs",
}
# Those that several files import, with a reason for each.
SHARED = {
    "rich": 2,  # reading the data, and the terminal
    "numpy": 4,  # every format whose reader gives arrays
}


def part_of(path: Path) -> str:
    """The package, or for a file beside the packages its name."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, anywhere in it, by absolute name."""
    found: set[str] = set()
    base = ("equipoise", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = [*base[: len(base) + 1 - node.level]] if node.level else []
            module = ".".join([*stem, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return frozenset(found)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    parts = {name.split(".")[1] for name in imports(path) if name.startswith("equipoise.")}
    known = {p for p in parts if p in MAY_IMPORT}
    assert known - {part} <= MAY_IMPORT[part], f"{part} imports {known - {part} - MAY_IMPORT[part]}"


@pytest.mark.parametrize("package", sorted(OPTIONAL))
def test_an_optional_package_is_imported_in_one_file(package: str) -> None:
    files = [p for p in MODULES if any(name.split(".")[0] == package for name in imports(p))]
    assert len(files) <= SHARED.get(package, 1), files


def test_import_equipoise_needs_torch_only() -> None:
    code = (
        "import sys\n"
        f"for name in {sorted(OPTIONAL - {'numpy'})!r}: sys.modules[name] = None\n"
        "import equipoise; print(equipoise.build_method('go4align', 3))"
    )
    assert (
        "GO4Align"
        in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )


def functions(path: Path) -> list[ast.FunctionDef]:
    """All functions of a file."""
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef)]


def body_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    body = function.body
    start = body[1] if ast.get_docstring(function) is not None and len(body) > 1 else body[0]
    return (function.end_lineno or 0) - start.lineno + 1


def nesting(node: ast.AST, depth: int = 0) -> int:
    """How deep blocks are nested."""
    blocks = (ast.For, ast.While, ast.If, ast.With, ast.Try)
    deepest = depth
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                elif_branch = field == "orelse" and isinstance(child, ast.If) and isinstance(node, ast.If)
                deeper = depth + (isinstance(child, blocks) and not elif_branch)
                deepest = max(deepest, nesting(child, deeper))
    return deepest


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    for function in functions(path):
        positional = [
            a for a in (*function.args.posonlyargs, *function.args.args) if a.arg not in ("self", "cls")
        ]
        assert body_lines(function) <= 30, f"{function.name} has {body_lines(function)} lines"
        options = any(
            "app." in ast.unparse(decorator) for decorator in function.decorator_list
        )  # a command's
        assert options or len(positional) <= 6, (
            f"{function.name} takes {len(positional)} positional arguments"
        )
        assert nesting(function) <= 3, f"{function.name} is nested {nesting(function)} deep"


@pytest.mark.parametrize("path", sorted((ROOT / "methods").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_methods_are_short_and_see_numbers_only(path: Path) -> None:
    tree = parsed(path)
    documented = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Module)]
    docstrings = sum(len((ast.get_docstring(node) or "").splitlines()) for node in documented)
    assert len(path.read_text().splitlines()) - docstrings <= 80
    forbidden = {"grad", "backward", "zero_grad", "distributed", "cuda", "optim"}
    touched = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not touched & forbidden


SECTIONS = ["Reads", "State", "Scale", "Reference", "Departures", "Args", "Raises"]


@pytest.mark.parametrize("name", sorted([*eq.METHODS, *eq.WRAPPERS]))
def test_docstrings_follow_the_template(name: str) -> None:
    cls = {**eq.METHODS, **eq.WRAPPERS}[name]
    doc = inspect.getdoc(cls) or ""
    positions = [doc.find(f"\n{section}:") for section in SECTIONS]
    assert all(p > 0 for p in positions), dict(zip(SECTIONS, positions, strict=True))
    assert positions == sorted(positions)
    assert "http" in doc
    assert re.search(r"\(m,\)|\(m, m\)|\(m, n\)", doc)
    arguments = doc[positions[-2] :]
    for parameter in inspect.signature(cls).parameters:
        assert re.search(rf"^\s+{parameter}: ", arguments, re.M), f"{parameter} is not documented"


def test_no_module_is_called_utils_and_inits_hold_names_only() -> None:
    assert not [p for p in MODULES if "util" in p.stem]
    for path in ROOT.rglob("__init__.py"):
        for node in ast.parse(path.read_text()).body:
            assert isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.Expr), path


def test_the_design_names_the_layers_as_they_are() -> None:
    text = (ROOT.parents[1] / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", text.split("## Layers")[1].split("##")[0], re.MULTILINE
    )
    told = {name: set(re.findall(r"`(\w+)`", imports)) for name, imports in rows}
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert packages <= told.keys()
    assert {name: MAY_IMPORT[name] for name in told if name != "cli"} == {
        name: imports for name, imports in told.items() if name != "cli"
    }
