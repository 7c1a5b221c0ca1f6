"""The page is followed literally: its file is saved, and its commands are run beside it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from docs.following import ROOT, blocks, commands, write
from equipoise.benchmark.records import read_plan, read_records
from equipoise.cli import app
from equipoise.problems.registry import PROBLEMS

PAGE = ROOT / "docs" / "add-a-data-set.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    where = tmp_path_factory.mktemp("lab")
    for block in blocks(PAGE):
        if block.title:
            write(block, where)
    assert [path.name for path in where.iterdir()] == ["tones.py"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "argv", ["equipoise"])
        patch.chdir(where)
        yield where
    PROBLEMS.pop("tones")
    sys.modules.pop("tones")


def outputs(planned: bool) -> dict[str, str]:
    """What the commands of the page print; `planned`: of those that train nothing."""
    found: dict[str, str] = {}
    for block in blocks(PAGE):
        for command in commands(block) if block.language == "console" else []:
            trains = any(word in command for word in (" bench ", " train ")) and not block.mark
            if planned == (trains and "--plan" not in command):
                continue
            done = CliRunner().invoke(app, shlex.split(command.removeprefix("equipoise ")))
            assert (done.exit_code != 0) == (block.mark == "fails"), command + done.output
            found[command] = done.output
    return found


def test_the_problem_is_found_planned_and_refused_as_the_page_says(folder: Path) -> None:
    found, plan, refused = outputs(planned=True).values()
    assert "tones:Tones: available" in found
    assert "width = 16" in plan
    assert "Found no class Tone there." in refused


@pytest.mark.slow
def test_the_commands_train_what_the_page_says(folder: Path) -> None:
    bench, train = outputs(planned=False).values()
    assert "go4align" in bench
    assert "swings MAE" in train
    where = folder / "runs" / "tones"
    assert (where / "report.html").exists()
    assert read_plan(where).problem == "tones"
    records = read_records(where)
    assert len(records) == 2 * (3 + 2)  # two seeds of three methods and two single-task networks
    assert {record.status for record in records} == {"ok"}
    for record in records:
        test, trivial = record.metrics["test"], record.metrics["trivial"]
        if record.task in (None, "swings"):
            assert test["swings MAE"] < 0.8 * trivial["swings MAE"], record.run_id
        if record.task in (None, "loud"):
            assert test["loud accuracy"] > 1.2 * trivial["loud accuracy"], record.run_id
