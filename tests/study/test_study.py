"""`equipoise study scalarization` as a user meets it: to the end, killed and resumed, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from data.digits_folder import write_digits
from equipoise.cli import app
from equipoise.problems.registry import PROBLEMS
from equipoise.study.cell import CellResult, read_cells
from equipoise.study.plan import StudyError
from equipoise.study.run import read_plan
from equipoise.training.storage import LOCK, held

TESTS = str(Path(__file__).parent.parent)


@pytest.fixture(autouse=True)
def _toys_are_problems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, cls in (("winds", "Winds"), ("tides", "Tides")):
        monkeypatch.setitem(PROBLEMS, name, f"study.problems_toy:{cls}")
    monkeypatch.setitem(PROBLEMS, "tug", "search.domains_toy:Tug")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 1)


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the page, whose figures take seconds."""
    monkeypatch.setattr("equipoise.study_actions.write_study", lambda *arguments: Path("run/study.md"))


def study(*arguments: str) -> Result:
    """In this process, unless the arguments say otherwise: to start workers takes seconds."""
    here = () if "--jobs" in arguments or "--workers" in arguments else ("--jobs", "1")
    return CliRunner().invoke(app, ["study", "scalarization", *arguments, *here])


WINDS = ("winds", "--pair", "north,south", "--grid", "0.3,0.5", "--depths", "1", "--widths", "3,6")
QUICK = (*WINDS, "--probe", "2", "--least-steps", "10", "--out", "run")


def measured(results: list[CellResult]) -> list[dict[str, Any]]:
    """All but the time that it took."""
    return [{**json.loads(one.to_json()), "seconds": 0} for one in sorted(results, key=lambda r: r.cell.name)]


def test_a_study_ends_with_a_page_figures_and_verdicts() -> None:
    searched = CliRunner().invoke(
        app, ["search", "tug", "--population", "3", "--seeds", "1", "--out", "found"]
    )
    assert searched.exit_code == 0, searched.output
    done = study(*QUICK, "--search", "found")
    assert done.exit_code == 0, done.output
    results = read_cells(Path("run"))
    assert len(results) == 2 * (2 + 2)
    assert {result.steps for result in results} == {24}  # 40 samples in batches of 5, three times, for all
    assert {tuple(row["epoch"] for row in result.history) for result in results} == {(1, 2, 3)}
    for result in results:
        assert set(result.metrics["test"]) == set(result.cell.names)
        assert ("conflict" in result.history[0]) == result.cell.joint
    found = json.loads(Path("run/study.json").read_text())
    assert [one["insight"] for one in found["verdicts"]] == [
        "Joint training gains with capacity",
        "Conflict of gradients does not predict the metric",
        "The best weights are robust to capacity",
    ]
    assert len(found["cells"]) == 8 and not found["hidden"]
    page = Path("run/study.md").read_text()
    for verdict in found["verdicts"]:
        assert f"{verdict['insight']}: {verdict['answer']}. {verdict['numbers']}" in " ".join(
            done.stdout.split()
        )
        assert f"- **{verdict['insight']}: {verdict['answer']}.** {verdict['numbers']}" in page
    names = (
        "metrics_over_p",
        "best_p",
        "gain_over_single",
        "gaps",
        "conflict_against_metric",
        "gradients_over_epochs",
        "schedule",
    )
    assert [name for name in names if f"(figures/{name}.png)" in page] == list(names)
    assert {path.name for path in Path("run/figures").iterdir()} == {
        f"{n}.{e}" for n in names for e in ("png", "svg")
    }
    assert not list(Path("run/checkpoints").iterdir())
    facts = json.loads(Path("run/plan.json").read_text())
    assert facts["versions"]["torch"] and read_plan(Path("run")).grid == (0.3, 0.5)


@pytest.mark.usefixtures("_undrawn")
def test_a_finished_study_is_told_again_and_another_one_is_refused() -> None:
    first = study(*QUICK)
    assert first.exit_code == 0, first.output
    lines = Path("run/cells.jsonl").read_bytes()
    again = study(*QUICK, "--resume")
    assert again.exit_code == 0 and again.stdout == first.stdout
    assert Path("run/cells.jsonl").read_bytes() == lines
    refused = study(*QUICK)
    assert refused.exit_code == 2
    assert "run was begun with this study and has 8 finished cells: add --resume to go on" in refused.stderr
    other = study(*QUICK, "--resume", "--seeds", "2")
    assert other.exit_code == 2
    assert "run holds another study. From it to this one changes:" in other.stderr
    assert "seeds: [0] -> [0, 1]" in other.stderr


def test_cells_with_few_steps_are_hidden_and_named() -> None:
    done = study(*QUICK[:-4], "--out", "run")
    assert done.exit_code == 0, done.output
    assert "8 of 8 cells are left out; the page names them." in done.stdout
    page = Path("run/study.md").read_text()
    assert "- north+south-d1-w3-p0.3-seed0: 24 steps, fewer than 300" in page
    assert page.count("cannot be told here") == 3 and "figures/" not in page


@pytest.mark.usefixtures("_undrawn")
def test_a_cell_that_diverges_is_named_and_the_others_go_on() -> None:
    Path("bad").touch()
    done = study(*QUICK, "--set", f"bad={Path('bad').absolute()}")
    assert done.exit_code == 1
    assert "4 cells failed:" in done.stderr and "north+south-d1-w3-p0.3-seed0: " in done.stderr
    failed = [result for result in read_cells(Path("run")) if result.error is not None]
    assert {result.cell.width for result in failed} == {3}
    assert all("finite" in (result.error or "") for result in failed)
    hidden = json.loads(Path("run/study.json").read_text())["hidden"]
    assert hidden["north-d1-w3-seed0"].startswith("failed: ") and len(hidden) == 4
    Path("bad").unlink()
    left = study(*QUICK, "--set", f"bad={Path('bad').absolute()}", "--resume")
    assert left.exit_code == 1
    mended = study(*QUICK, "--set", f"bad={Path('bad').absolute()}", "--resume", "--retry-failed")
    assert mended.exit_code == 0, mended.output
    assert all(result.error is None for result in read_cells(Path("run")))


@pytest.mark.usefixtures("_undrawn")
def test_losses_of_one_input_are_weighted_by_pairs() -> None:
    done = study(
        "tides", "--widths", "3,4", "--grid", "0.25,0.5", "--probe", "2", "--least-steps", "1", "--out", "run"
    )
    assert done.exit_code == 0, done.output
    plan = read_plan(Path("run"))
    assert plan.act == "losses" and plan.depths == (None,) and len(plan.pairs) == 3
    train = plan.config.train
    assert (train.schedule, train.evaluate_every, train.report) == ("plateau", 1, "last")
    configs = {cell.name: plan.config_of(cell) for cell in plan.cells()}
    assert configs["high+mean-w3-p0.25-seed0"].method == "constant:weights=[0.5, 0.0, 1.5]"
    assert configs["low-w4-seed0"].method == "stl:task=low"
    results = read_cells(Path("run"))
    assert len(results) == 2 * (3 + 3 * 2) and all(result.error is None for result in results)
    assert {result.steps for result in results} == {8}
    best = json.loads(Path("run/study.json").read_text())["best"][0]
    assert best["gain"] == pytest.approx(_gain(results, best), rel=1e-6)


def _gain(results: list[CellResult], best: dict[str, Any]) -> float:
    """In percent of the reference values, 0.5, 2 and 1 m; lower errors are better."""
    reference = {"high": 0.5, "low": 2.0, "mean": 1.0}
    tests = {(r.cell.names, r.cell.p): r.metrics["test"] for r in results if r.cell.width == best["width"]}
    joint = tests[tuple(best["pair"]), best["p"]]
    gains = [100 * (tests[(name,), None][name] - joint[name]) / reference[name] for name in best["pair"]]
    return sum(gains) / 2


@pytest.mark.usefixtures("_undrawn")
def test_loss_weights_of_domains_have_equal_steps_too() -> None:
    done = study(*QUICK, "--act", "losses")
    assert done.exit_code == 0, done.output
    assert {result.steps for result in read_cells(Path("run"))} == {12}  # a batch of each domain in a step
    plan = read_plan(Path("run"))
    configs = {cell.name: plan.config_of(cell) for cell in plan.cells()}
    assert configs["north+south-d1-w3-p0.3-seed0"].method == "constant:weights=[0.6, 1.4]"
    assert configs["north-d1-w3-seed0"].options["samples"] == 20


SCRIPT = """
import sys; sys.path.insert(0, {tests!r})
from equipoise.problems.registry import PROBLEMS
PROBLEMS['winds'] = 'study.problems_toy:Winds'
import torch; torch.set_num_threads(1)
if __name__ == '__main__':
    from equipoise.cli import main
    sys.argv = ['equipoise', 'study', 'scalarization', *{arguments!r}]
    main()
"""


def started(*arguments: str) -> subprocess.Popen[bytes]:
    Path("script.py").write_text(SCRIPT.format(tests=TESTS, arguments=arguments))
    environment = {**os.environ, "PYTHONPATH": TESTS}
    with open("errors.txt", "ab") as errors:
        return subprocess.Popen(
            [sys.executable, "script.py"], stdout=subprocess.DEVNULL, stderr=errors, env=environment
        )


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_study_killed_without_warning_goes_on_to_the_same_end(jobs: str) -> None:
    """kill -9 in the middle of a cell; workers end with their parent, and nothing that was finished is done again."""
    whole = study(*QUICK[:-1], "whole")
    assert whole.exit_code == 0, whole.output
    slow = (*QUICK, "--set", "sleep=0.01", "--jobs", jobs)
    process = started(*slow)
    lines, probes = Path("run/cells.jsonl"), Path("run/cells")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (
        lines.exists() and len(list(probes.glob("*/probe.jsonl"))) > 2
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, Path("errors.txt").read_text()
    kept = lines.read_bytes()
    assert 1 <= kept.count(b"\n") < 8
    time.sleep(0.3)  # for workers to notice
    again = study(*slow[:-2], "--resume")
    assert again.exit_code == 0, again.output
    assert lines.read_bytes().startswith(kept)
    assert measured(read_cells(Path("run"))) == measured(read_cells(Path("whole")))


@pytest.mark.usefixtures("_undrawn")
@pytest.mark.slow
def test_a_cell_whose_worker_dies_is_tried_once_more() -> None:
    Path("deadly").touch()
    arguments = (*QUICK, "--set", f"deadly={Path('deadly').absolute()}", "--jobs", "2")
    assert started(*arguments).wait() == 0, Path("errors.txt").read_text()
    assert "killed by SIGKILL. The cell is tried once more." in Path("errors.txt").read_text().replace(
        "\n", " "
    )
    results = read_cells(Path("run"))
    assert len(results) == 8 and all(result.error is None for result in results)


@pytest.mark.usefixtures("_undrawn")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["winds", "--preset", "quik"], "A preset of the study of winds should be one of quick, uneven. Found 'quik'."),
        (["wind"], "A problem should be one of"),
        ([*WINDS, "--pair", "north,sout"], "Found 'sout'. Did you mean 'south'?"),
        ([*WINDS, "--pair", "north"], "`pair` should be 2 different names, as in north,south. Found north."),
        ([*WINDS, "--pair", "north,north"], "`pair` should be 2 different names"),
        ([*WINDS, "--pair", "south,north"], "`pairs` should be different from each other."),
        ([*WINDS, "--grid", "0,0.5"], "`grid` should be rising numbers above 0 and below 1. Found 0, 0.5."),
        ([*WINDS, "--grid", "0.5,1"], "`grid` should be rising numbers above 0 and below 1. Found 0.5, 1."),
        ([*WINDS, "--grid", "0.5,0.3"], "`grid` should be rising numbers"),
        ([*WINDS, "--grid", "half"], "`grid` should be numbers, separated by commas. Found 'half'."),
        (["winds", "--depths", "", "--widths", "4"], "`depths` should be different numbers above 0, at least 1."),
        (["winds", "--depths", "1"], "`widths` should be given, as in --widths 2,4"),
        (["winds", "--depths", "1,1", "--widths", "4"], "`depths` should be different numbers above 0"),
        (["tides", "--depths", "1", "--widths", "4"], "`depths` should be left out for tides"),
        (["tides", "--widths", "4", "--act", "sampling"], "`act` should be losses for tides"),
        ([*WINDS, "--act", "gradients"], "`act` should be one of sampling, losses. Found 'gradients'."),
        ([*WINDS, "--seeds", "0"], "`seeds` should be at least 1, each different. Found none."),
        ([*WINDS, "--jobs", "0"], "`jobs` should be at least 1. Found 0."),
        ([*WINDS, "--probe", "0"], "`probe` should be at least 1 batch. Found 0."),
        ([*WINDS, "--set", "max_steps=3"], "`max_steps` should be left out"),
        ([*WINDS, "--set", "report=best"], "`report` should be left out: a study sets it. Found 'best'."),
        ([*WINDS, "--set", "weights=[0.5,0.5]"], "`weights` should be left out: a study sets it."),
        ([*WINDS, "--set", "with=3"], "A setting should be one of"),
        ([*WINDS, "--preset", "uneven"], "`samples` should be a number, so that an epoch has as many steps"),
        ([*WINDS, "--search", "nowhere"], "`nowhere/search.json` should exist: nowhere holds no search."),
    ],
)  # fmt: skip
def test_what_cannot_be_studied_is_said(arguments: list[str], said: str) -> None:
    done = study(*arguments, "--out", "run")
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert not Path("run/cells.jsonl").exists()


def test_the_plan_is_json_and_trains_nothing() -> None:
    done = study("digits", "--plan")
    assert done.exit_code == 0, done.output
    text, _, last = done.stdout.strip().rpartition("\n")
    plan = json.loads(text)
    assert plan["pairs"] == [["mnist", "optdigits"], ["mnist", "pendigits"], ["optdigits", "pendigits"]]
    assert (plan["depths"], plan["widths"]) == ([3, 6], [48, 96])
    assert last == "72 cells of 400 steps (60 joint, 12 single) would go to runs/study-digits-quick."
    assert not Path("runs").exists()
    smoke = study("digits", "--preset", "smoke", "--plan").stdout
    assert "Fewer than 300 steps: they would be left out" in smoke


@pytest.mark.parametrize(
    ("problem", "cells", "sizes"),
    [
        ("cifar_stl", 3 * 12 * (2 + 5), ([3, 6, 9], [48, 96, 144, 192])),
        ("domainnet", 9 * (6 + 25), ([26, 50, 101], [16, 32, 64])),
    ],
)  # fmt: skip
def test_the_published_sizes_are_a_preset(
    problem: str, cells: int, sizes: tuple[list[int], list[int]]
) -> None:
    done = study(problem, "--preset", "paper", "--plan")
    assert done.exit_code == 0, done.output
    text, _, last = done.stdout.strip().rpartition("\n")
    plan = json.loads(text)
    assert (plan["depths"], plan["widths"]) == sizes
    assert last.startswith(f"{cells} cells of ")
    assert plan["config"]["lr"] == {"cifar_stl": 1e-3, "domainnet": 0.03}[problem]
    train = plan["config"]["train"]
    expected = {"cifar_stl": ("adamw", 300, 30, 0.05), "domainnet": ("sgd", 30, 5, 1e-4)}[problem]
    assert train["schedule"] == "cosine" and expected == tuple(
        train[name] for name in ("optimizer", "epochs", "warmup_epochs", "weight_decay")
    )


def test_a_directory_with_other_files_is_left_alone() -> None:
    Path("run").mkdir()
    Path("run/mine.txt").write_text("mine")
    done = study(*QUICK)
    assert done.exit_code == 2
    assert "run should be new, empty, or hold a study. Found mine.txt and no plan.json" in done.stderr
    assert {path.name for path in Path("run").iterdir()} == {"mine.txt", LOCK}


def test_one_process_at_a_time_works_in_a_directory() -> None:
    with held(Path("run"), StudyError):
        done = study(*QUICK)
    assert done.exit_code == 2
    assert "run should be used by one process at a time." in done.stderr


def test_a_damaged_plan_is_named() -> None:
    with pytest.raises(StudyError, match="`run/plan.json` should exist: run holds no study."):
        read_plan(Path("run"))
    Path("run").mkdir()
    Path("run/plan.json").write_text('{"plan": {"act": "sampling"}}')
    with pytest.raises(StudyError, match="`run/plan.json` should hold the plan of a study."):
        read_plan(Path("run"))


@pytest.mark.usefixtures("_undrawn")
def test_digits_with_small_transformers(tmp_path: Path) -> None:
    write_digits(tmp_path / "data")
    done = study(
        "digits", "--preset", "smoke", "--data", "data", "--pair", "optdigits,pendigits", "--grid", "0.5",
        "--depths", "1", "--least-steps", "1", "--out", "run",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    results = read_cells(Path("run"))
    assert len(results) == 3 and {result.steps for result in results} == {6}
    (joint,) = (result for result in results if result.cell.joint)
    assert all(0 <= row["conflict"] <= 1 for row in joint.history)
    assert all(-1 <= row["cosine"] <= 1 for row in joint.history)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_cells_on_ray_are_those_of_this_process_and_outlive_a_worker() -> None:
    here = study(*QUICK[:-1], "here", "--jobs", "1")
    assert here.exit_code == 0, here.output
    Path("deadly").touch()
    options = ("--set", f"deadly={Path('deadly').absolute()}", "--jobs", "ray", "--workers", "2")
    there = study(*QUICK[:-1], "there", *options)
    assert there.exit_code == 0, there.output
    assert not Path("deadly").exists() and "died. The cell is tried once more." in there.stderr
    one, other = (
        {r.cell: (r.metrics, r.steps) for r in read_cells(Path(name))} for name in ("here", "there")
    )
    assert one == other
    refused = study(*QUICK, "--workers", "2")
    assert refused.exit_code == 2 and "`jobs` should be ray with `workers`" in refused.stderr
