"""The page is followed literally, in a copy of the repository."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from pathlib import Path

import pytest

from docs.following import ROOT, blocks, commands, run, write

PAGE = ROOT / "docs" / "add-a-method.md"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("copy") / "equipoise"
    where.mkdir()
    shutil.copy(ROOT / "pyproject.toml", where)
    for name in ("src", "tests", "docs"):
        shutil.copytree(ROOT / name, where / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    return where


def test_the_class_in_code_of_your_own_balances_a_loop() -> None:
    (block,) = [block for block in blocks(PAGE) if block.language == "python" and not block.title]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(block.text, str(PAGE), "exec"), {})
    assert "tensor([0." in said.getvalue()
    assert said.getvalue().endswith("True\n")


@pytest.mark.slow
def test_the_four_steps_make_a_method_that_passes_its_tests(copy: Path) -> None:
    for block in blocks(PAGE):
        if block.title:
            write(block, copy)
    (console,) = [block for block in blocks(PAGE) if block.language == "console"]
    outputs = []
    for command in commands(console):
        done = run(command, copy, copy / "src")
        assert done.returncode == 0, command + done.stdout + done.stderr
        outputs.append(done.stdout)
    assert outputs[0].startswith("power_mean (weighting; 1 backward; heads: task weights)")
    assert "[`power_mean`](#power_mean)" in (copy / "docs" / "methods.md").read_text()
    dots = "".join(re.findall(r"^[.]+(?= )", outputs[-1], re.MULTILINE))
    assert len(dots) >= 4 + 2 * 10  # its own tests, and those of the contract for either claim


def test_a_diff_that_does_not_fit_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "src/equipoise/methods").mkdir(parents=True)
    (tmp_path / "src/equipoise/methods/__init__.py").write_text("from .pcgrad import Another\n")
    diff = next(block for block in blocks(PAGE) if block.language == "diff")
    with pytest.raises(ValueError, match="is not in list"):
        write(diff, tmp_path)
