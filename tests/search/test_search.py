"""`equipoise search` as a user meets it: to the end, resumed, and what it refuses."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from equipoise.cli import app
from equipoise.problems.registry import PROBLEMS
from equipoise.search.genealogy import generations, read_results
from equipoise.search.generations import SearchError
from equipoise.search.kept import read_plan
from equipoise.search.retrain import read_retrained
from equipoise.training.storage import LOCK, held

TESTS = str(Path(__file__).parent.parent)


@pytest.fixture(autouse=True)
def _tug_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(PROBLEMS, "tug", "search.domains_toy:Tug")
    monkeypatch.setitem(PROBLEMS, "toy", "toy:Toy")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures, which take a second, but for the test of the pictures."""
    if "pictures" not in request.node.name:
        page = "equipoise.report.search_page.write_search_page"
        monkeypatch.setattr(page, lambda plan, found, directory: directory / "search.md")


def search(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["search", *arguments])


def kept() -> dict[Path, int]:
    """When each file of the search was written, but for its page, which is written again."""
    files = (path for path in Path("run").rglob("*") if path.is_file())
    return {
        path: path.stat().st_mtime_ns
        for path in files
        if "figures" not in path.parts and path.suffix != ".md"
    }


QUICK = ("tug", "--population", "3", "--seeds", "2", "--out", "run")
PLAIN = ("tug", "--seeds", "2", "--out", "run")
SAMPLING = ("--act", "sampling", "--set", "mixing=sampled")


# Sampling is a matter of the training, which all algorithms but gradients have in common.
@pytest.mark.parametrize(
    ("algorithm", "act"),
    [
        *((name, ()) for name in ("pbt", "pb2", "random", "grid", "halving", "asha", "bohb", "gradients")),
        *((name, SAMPLING) for name in ("pb2", "halving", "gradients")),
    ],
)
def test_a_search_ends_with_networks_trained_anew_and_a_verdict(algorithm: str, act: tuple[str, ...]) -> None:
    done = search(*(PLAIN if algorithm == "gradients" else QUICK), "--algorithm", algorithm, *act)
    assert done.exit_code == 0, done.output
    plan = read_plan(Path("run"))
    assert (plan.algorithm, plan.names, plan.interval) == (algorithm, ("low", "high"), 1)
    history = generations(read_results(Path("run")))
    assert [len(row) for row in history] == {
        "pbt": [3] * 4,
        "pb2": [3] * 4,
        "random": [3],
        "grid": [3],
        "halving": [3, 1, 1],
        "asha": [3, 1, 1],
        "bohb": [3, 1, 1],
        "gradients": [1, 1],
    }[algorithm]
    assert history[-1][0].assignment.end == 4
    found = read_retrained(Path("run"))
    assert {one.seed for one in found if one.variant != "restart"} == {0, 1} and found[0].variant == "uniform"
    trained = sum(one.assignment.end - one.assignment.begin for row in history for one in row)
    restarts = [one.seed for one in found if one.variant == "restart"]
    more = math.ceil(0.7 * trained / 4) if any(one.variant == "constant" for one in found) else 0
    assert restarts == [1000 + k for k in range(more)]
    assert "Best member: low " in done.stdout and "from epoch" in done.stdout
    assert "weights against uniform, 2 seeds: " in done.stdout or "The uniform member won" in done.stdout
    assert json.loads(Path("run/search.json").read_text())["versions"]["torch"]


def test_a_finished_search_is_told_again_and_another_one_is_refused() -> None:
    first = search(*QUICK)
    assert first.exit_code == 0, first.output
    stamps = kept()
    again = search(*QUICK, "--resume")
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout[first.stdout.index("┏") :]  # the tables, and nothing is trained
    assert stamps == kept()
    refused = search(*QUICK)
    assert refused.exit_code == 2
    assert "run was begun with this search: add --resume to go on" in refused.stderr
    other = search(*QUICK, "--resume", "--seed", "1", "--floor", "0.2")
    assert other.exit_code == 2
    assert "run holds another search. From it to this one changes:" in other.stderr
    assert "floor: 0.1 -> 0.2" in other.stderr


@pytest.mark.slow
def test_a_search_killed_without_warning_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """kill -9 again and again, while members are trained and while networks are trained anew."""
    whole = search(*QUICK[:-1], "whole")
    assert whole.exit_code == 0, whole.output
    script = (
        f"import sys; sys.path.insert(0, {TESTS!r})\n"
        "from equipoise.problems.registry import PROBLEMS\n"
        "PROBLEMS['tug'] = 'search.domains_toy:Tug'\n"
        "import torch; torch.set_num_threads(1)\n"
        "from equipoise.cli import main\n"
        f"sys.argv = ['equipoise', 'search', *{QUICK!r}, '--resume']\n"
        "main()\n"
    )
    lines, kills, code = 0, 0, None
    while code != 0:
        with open("errors.txt", "wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=errors
            )
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            now = sum(len(path.read_bytes().splitlines()) for path in Path("run").glob("*.jsonl"))
            if now >= lines + 5:
                os.kill(process.pid, signal.SIGKILL)
                kills, lines = kills + 1, now
                break
            time.sleep(0.002)
        code = process.wait()
        assert code in (0, -signal.SIGKILL), Path("errors.txt").read_text()
    assert kills >= 2
    for first, second in zip(read_results(Path("whole")), read_results(Path("run")), strict=True):
        assert (first.assignment, first.score, first.metrics) == (
            second.assignment,
            second.score,
            second.metrics,
        )
    anew = [[(o.variant, o.seed, o.metrics) for o in read_retrained(Path(name))] for name in ("whole", "run")]
    assert anew[0] == anew[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["tug", "--algorithm", "pbtt"],
            "`algorithm` should be one of pbt, pb2, asha, halving, random, grid, bohb, gradients, transfer",
        ),
        (
            ["tug", "--population", "1"],
            "`population` should be at least 2, since members are compared. Found 1.",
        ),
        (["tug", "--interval", "4"], "`interval` should be at least 1 epoch and less than the 4 of the run"),
        (["tug", "--algorithm", "grid", "--population", "1"], "should have 1 to 10,000 points. Found 0"),
        (["tug", "--seeds", "0"], "`seeds` should be at least 1. Found 0."),
        (["tug", "--resample", "2"], "`resample` should be from 0 to 1. Found 2.0."),
        (
            ["tug", "--algorithm", "grid", "--resample", "0"],
            "`resample` should be left out with algorithm=grid",
        ),
        (["tug", "--floor", "1"], "`floor` should be from 0 to below 1. Found 1.0."),
        (["tug", "--fraction", "1"], "`fraction` should be above 0 and below 1. Found 1.0."),
        (["tug", "--set", "max_steps=3"], "`max_steps` should be left out"),
        (["tug", "--act", "gradients"], "`act` should be 'losses' or 'sampling'. Found 'gradients'."),
        (["toy", "--act", "sampling"], "`act` should be losses for toy, whose samples come from one domain."),
        (
            ["toy"],
            "A search should be able to split the training part of toy. Found a loader of the type ToyBatches",
        ),
        (["tug", "--tune", "lr=0.1"], "`tune` should look like lr=1e-4..1e-2. Found 'lr=0.1'."),
        (["tug", "--tune", "lr=0.1..0.01"], "The bounds of `lr` should be two finite numbers above 0"),
        (["tug", "--tune", "beta=0.1..1"], "`tune` should be of lr, with act=losses. Found beta."),
        (
            ["tug", "--tune", "steps=1..9", "--method", "ls+every", *SAMPLING],
            "`tune` should be of lr, with act=sampling. Found steps.",
        ),
        (
            ["tug", "--tune", "groups=1..9", "--method", "go4align", *SAMPLING],
            "`tune` should be of settings that are no whole numbers and have a default. Found groups=2",
        ),
        (
            ["tug", "--tune", "lr=0.01..0.1", "--algorithm", "grid"],
            "`tune` should be left out with algorithm=grid, which does not read it.",
        ),
        (["tug", "--method", "uw"], "`method` should be ls where weights act on losses. Found uw"),
        (["tug", "--rank", "best"], "`rank` should be 'delta_m', 'mean', 'worst' or 'pareto'. Found 'best'."),
        (["tug", "--rank", "pareto", "--algorithm", "pb2"], "`rank` should be one number for algorithm=pb2."),
        (
            ["tug", "--transfer-from", "nowhere"],
            "`nowhere/search.json` should exist: nowhere holds no search.",
        ),
        (
            ["tug", "--address", "10.0.0.1:6379"],
            "`workers` should be given with `address`, `gpus` or `storage`",
        ),
        (["tug", "--workers", "0"], "`workers` should be at least 1. Found 0."),
    ],
)
def test_what_cannot_be_searched_is_said(arguments: list[str], said: str) -> None:
    done = search(*arguments, "--out", "run")
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_a_directory_with_other_files_is_left_alone() -> None:
    Path("run").mkdir()
    Path("run/mine.txt").write_text("mine")
    done = search(*QUICK)
    assert done.exit_code == 2
    assert "run should be new, empty, or hold a search. Found mine.txt and no search.json" in done.stderr
    assert {path.name for path in Path("run").iterdir()} == {"mine.txt", LOCK}


def test_one_process_at_a_time_works_in_a_directory() -> None:
    with held(Path("run"), SearchError):
        done = search(*QUICK)
    assert done.exit_code == 2
    assert "run should be used by one process at a time. Found another one at work in it." in done.stderr


def test_a_damaged_plan_is_named() -> None:
    with pytest.raises(SearchError, match="`run/search.json` should exist: run holds no search."):
        read_plan(Path("run"))
    Path("run").mkdir()
    Path("run/search.json").write_text('{"plan": {"algorithm": "pbt"}}')
    with pytest.raises(SearchError, match="`run/search.json` should hold the plan of a search."):
        read_plan(Path("run"))


def test_other_settings_are_searched_too() -> None:
    done = search(
        *QUICK, *SAMPLING, "--method", "uw", "--tune", "lr=0.01..0.2", "--rank", "worst", "--no-restarts"
    )
    assert done.exit_code == 0, done.output
    rows = read_results(Path("run"))
    rates = {one.assignment.settings["lr"] for one in rows}
    assert len(rates) > 2 and all(0.01 <= rate <= 0.2 for rate in rates)
    assert rows[0].assignment.settings["lr"] == 0.05  # of the preset
    plan = read_plan(Path("run"))
    assert (plan.tune, plan.rank, plan.config.method) == ({"lr": (0.01, 0.2)}, "worst", "uw")
    few = ("--epochs", "2", "--population", "4", "--seeds", "1", "--no-restarts", "--out", "b")
    hyper = search("tug", *SAMPLING, "--method", "go4align", "--tune", "step=1e-4..1e-1", *few)
    assert hyper.exit_code == 0, hyper.output
    assert len({one.assignment.settings["step"] for one in read_results(Path("b"))}) > 2


def test_a_search_may_rank_by_pareto_fronts() -> None:
    done = search(*QUICK, "--rank", "pareto", "--algorithm", "halving", "--population", "4")
    assert done.exit_code == 0, done.output
    first, second, *_ = generations(read_results(Path("run")))
    kept_on = {one.assignment.member for one in second}
    low, high = (min(first, key=lambda one: one.metrics[f"{name}_mse"]) for name in ("low", "high"))
    assert len(second) == 2 and kept_on == {low.assignment.member, high.assignment.member}


def test_weights_of_a_small_search_train_a_larger_network() -> None:
    small = search(*QUICK[:-1], "small", "--algorithm", "grid", "--population", "5")
    assert small.exit_code == 0, small.output
    best = read_retrained(Path("small"))
    done = search("tug", "--epochs", "8", "--seeds", "2", "--transfer-from", "small", "--out", "large")
    assert done.exit_code == 0, done.output
    assert not read_results(Path("large"))
    found = read_retrained(Path("large"))
    assert {one.variant for one in found} == {one.variant for one in best} - {"restart"}
    assert read_plan(Path("large")).algorithm == "transfer"
    wrong = search(
        "tug", "--act", "sampling", "--set", "mixing=sampled", "--transfer-from", "small", "--out", "c"
    )
    assert wrong.exit_code == 2
    said = "`transfer_from` should be a search with act=sampling over low, high. Found act=losses over low, high."
    assert said in " ".join(wrong.stderr.split())


def test_a_transfer_needs_a_search_that_is_done() -> None:
    assert search(*QUICK).exit_code == 0
    lines = Path("run/genealogy.jsonl").read_bytes().splitlines(keepends=True)
    Path("run/genealogy.jsonl").write_bytes(b"".join(lines[:6]))  # two of four generations
    done = search("tug", "--transfer-from", "run", "--out", "large")
    assert done.exit_code == 2
    assert (
        "The search in run should be done. Found that member 0 in generation 2 is not: go on" in done.stderr
    )


def test_a_search_is_told_again_with_its_pictures() -> None:
    first = search(*QUICK)
    assert first.exit_code == 0, first.output
    page = Path("run/search.md").read_text()
    for path in Path("run/figures").iterdir():
        path.unlink()
    again = CliRunner().invoke(app, ["report", "run"])
    assert again.exit_code == 0, again.output
    assert again.stdout in first.stdout
    assert Path("run/search.md").read_text() == page
    for name in re.findall(r"\]\((figures/\w+\.png)\)", page):
        assert (Path("run") / name).read_bytes()[:4] == b"\x89PNG"
    assert "![Members of the search](figures/members.png)" in page and "Command: `" in page
    lines = Path("run/retrained.jsonl").read_bytes().splitlines(keepends=True)
    Path("run/retrained.jsonl").write_bytes(lines[0])
    torn = CliRunner().invoke(app, ["report", "run"])
    assert torn.exit_code == 2
    assert re.search(r"should have trained \d+ networks anew. Found 1: go on with --resume.", torn.stderr)
