"""Wheel and sdist: what is in them, that torch is all they need, and what a user's type checker says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import equipoise
from tools.lend import lend

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "equipoise"
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
USER = '''
"""What a user writes, with types of their own."""

import torch

import equipoise as eq


class Mine(eq.Weighting):
    def forward(self, stats: eq.TaskStats) -> torch.Tensor:
        return 1 / stats.losses


def step(balancer: eq.Balancer, losses: dict[str, torch.Tensor]) -> torch.Tensor:
    record: eq.StepRecord = balancer.backward(losses)
    return record.weights


method: eq.Method = eq.build_method("go4align", n_tasks=2, groups=2)
balancer = eq.Balancer(Mine(2), tasks=["a", "b"])
spec = eq.MethodSpec.parse("nashmtl+every:steps=10")
label: str = spec.label
names: list[str] = sorted(eq.METHODS)
'''
WRONG = """
import equipoise as eq

eq.build_method(3, n_tasks="two")
eq.Balancer("famo")
weights: int = eq.StepRecord.weights
"""


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def call(*command: str | Path, cwd: Path | None = None, code: int = 0) -> str:
    """What a command prints, which ends with this exit code."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=CLEAN, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def content() -> set[str]:
    """The files that belong into the package."""
    kinds = {".py", ".json", ".html", ".css", ".js", ".typed"}
    return {
        str(path.relative_to(ROOT / "src"))
        for path in PACKAGE.rglob("*")
        if path.suffix in kinds and "__pycache__" not in path.parts
    }


def test_every_file_of_the_package_is_of_a_kind_that_is_installed() -> None:
    files = {p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {str(path.relative_to(ROOT / "src")) for path in files} == content()
    assert {
        "equipoise/py.typed",
        "equipoise/report/page.css",
        "equipoise/report/page.js",
        "equipoise/benchmark/published.json",
    } <= content()


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert project()["version"] == equipoise.__version__ == citation["version"]
    (said,) = re.findall(rf"^## \[{re.escape(equipoise.__version__)}\] - (.*)$", changelog, re.MULTILINE)
    assert said == str(citation.get("date-released", "unreleased"))
    assert project()["license"] == citation["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_importing_the_package_imports_torch_and_nothing_else() -> None:
    """Torch's own heavy parts (`torch._dynamo`, `torch.distributed.fsdp`) come late, others' packages not at all."""
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import equipoise\n"
        "new = {name for name in set(sys.modules) - before if name.split('.')[0] != 'equipoise'}\n"
        "print(sorted(name for name in new if name.split('.')[0] not in sys.stdlib_module_names))\n"
        "heavy = ('torch._dynamo', 'torch._inductor', 'torch.distributed.fsdp', 'torch.utils.tensorboard')\n"
        "print(sorted(name for name in heavy if name in sys.modules and name not in before))\n"
    )
    assert call(sys.executable, "-c", code).splitlines() == ["[]", "[]"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    source, where = tmp_path_factory.mktemp("source") / "equipoise", tmp_path_factory.mktemp("dist")
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", where, source)
    return where


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_package_and_nothing_else(built: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == content()
    assert {Path(name).name for name in about} == {
        "METADATA", "RECORD", "WHEEL", "LICENSE", "entry_points.txt", "top_level.txt",
    }  # fmt: skip
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames() if "/" in name}
    files = {name.removeprefix("src/") for name in inside if name.startswith("src/equipoise/")}
    assert {name for name in files if Path(name).suffix} == content()
    assert {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO"} <= inside


@pytest.mark.slow
def test_the_wheel_works_in_an_environment_with_torch_alone(wheel: Path, tmp_path: Path) -> None:
    call(sys.executable, "-m", "venv", tmp_path / "empty")
    python = tmp_path / "empty" / "bin" / "python"
    lend("torch", Path(call(python, "-c", "import site; print(site.getsitepackages()[0])").strip()))
    call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", wheel)
    method = call(python, "-c", "import equipoise as eq; print(eq.build_method('nashmtl', 3))", cwd=tmp_path)
    assert "NashMTL" in method
    said = call(tmp_path / "empty" / "bin" / "equipoise", "--help", cwd=tmp_path, code=1)
    assert said.endswith('The command line needs typer and others: pip install "equipoise[cli]"\n')
    assert "Traceback" not in said
    _check_types(python, tmp_path)


def _check_types(python: Path, folder: Path) -> None:
    """A user's mypy finds the types of the installed package, and mistakes in its use."""
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    files = {"user.py": USER, "wrong.py": WRONG}
    for name, text in files.items():
        (folder / name).write_text(text)
    options = ["--config-file", "mypy.ini", "--python-executable", str(python)]
    said = call(sys.executable, "-m", "mypy", *options, *files, cwd=folder, code=1)
    assert 'wrong.py:4: error: Argument 1 to "build_method" has incompatible type "int"' in said
    assert 'wrong.py:5: error: Argument 1 to "Balancer" has incompatible type "str"' in said
    assert 'wrong.py:6: error: Incompatible types in assignment (expression has type "Tensor"' in said
    assert "user.py" not in said
    assert "in 1 file (checked 2 source files)" in said
