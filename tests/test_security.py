"""No file is unpickled and no text is run: read off the source, so that SECURITY.md stays true."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import equipoise

ROOT = Path(equipoise.__file__).parent
# Module -> the one file that may import it, which has a test of what it refuses.
ONLY_IN = {"pickle": {"data/array_pickle.py", "engine/distributed.py"}}
NEVER = {
    "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickletools", "runpy", "scipy", "shelve",
    "yaml",
}  # fmt: skip
CALLS_NEVER = {"eval", "exec", "compile", "__import__"}
PICKLE_USES = {
    "data/array_pickle.py": {"Unpickler", "UnpicklingError"},  # with a closed list of names
    "engine/distributed.py": {"dumps"},  # to compare states by their hash; nothing is loaded
}


def faults(source: str, file: str) -> list[str]:
    """What a file does that no file may, a line each."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        found += [f"line {getattr(node, 'lineno', 0)}: {what}" for what in _faults(node, file)]
    return found


def _faults(node: ast.AST, file: str) -> list[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        roots = {name.split(".")[0] for name in names if not getattr(node, "level", 0)}
        hidden = isinstance(node, ast.ImportFrom) and roots & {*ONLY_IN, "torch", "numpy"}
        loads = [a.name for a in node.names if a.name in ("load", "loads")] if hidden else []
        return [
            *(f"imports {name}" for name in sorted(roots & NEVER)),
            *(f"imports {name}" for name in sorted(roots & set(ONLY_IN)) if file not in ONLY_IN[name]),
            *(f"imports {name} by itself" for name in loads),
        ]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle":
        return [] if node.attr in PICKLE_USES.get(file, set()) else [f"uses pickle.{node.attr}"]
    return _call(node) if isinstance(node, ast.Call) else []


def _call(node: ast.Call) -> list[str]:
    if isinstance(node.func, ast.Name):
        return [f"calls {node.func.id}"] if node.func.id in CALLS_NEVER else []
    if not isinstance(node.func, ast.Attribute):
        return []
    what = ast.unparse(node.func)
    given = {word.arg: word.value for word in node.keywords}
    wanted = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
    wanted["numpy.load"] = wanted["np.load"]
    if what in wanted:
        name, value = wanted[what]
        said = given.get(name)
        fine = isinstance(said, ast.Constant) and said.value is value
        return [] if fine else [f"calls {what} without {name}={value}"]
    if node.func.attr in ("read_pickle", "loadmat", "read_hdf"):
        return [f"calls {what}"]
    return []


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_unpickled_and_no_text_is_run(path: Path) -> None:
    assert faults(path.read_text(), str(path.relative_to(ROOT))) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import torch\ntorch.load(p)", "calls torch.load without weights_only=True"),
        ("torch.load(p, weights_only=False)", "calls torch.load without weights_only=True"),
        ("torch.load(p, weights_only=safe)", "calls torch.load without weights_only=True"),
        ("np.load(p)", "calls np.load without allow_pickle=False"),
        ("numpy.load(p, allow_pickle=True)", "calls numpy.load without allow_pickle=False"),
        ("from torch import load", "imports load by itself"),
        ("import pickle", "imports pickle"),
        ("from pickle import loads", "imports pickle"),
        ("import scipy.io as io", "imports scipy"),
        ("import yaml", "imports yaml"),
        ("pandas.read_pickle(p)", "calls pandas.read_pickle"),
        ("eval(text)", "calls eval"),
    ],
)
def test_what_is_not_allowed_is_noticed(source: str, fault: str) -> None:
    assert fault in " ".join(faults(source, "somewhere.py"))


def test_what_is_allowed_in_one_file_is_no_more_than_that() -> None:
    assert faults("import pickle\npickle.loads(b)", "engine/distributed.py") == ["line 2: uses pickle.loads"]
    assert faults("import pickle\npickle.dumps(b)", "engine/distributed.py") == []
    assert faults("torch.load(p, weights_only=True)\nmodel.eval()", "somewhere.py") == []
