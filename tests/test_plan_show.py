"""What `equipoise bench --plan` prints of a fair plan, and the options that make one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from equipoise.benchmark.order import left
from equipoise.benchmark.records import Plan
from equipoise.cli import app
from equipoise.plan_show import print_plan
from shown import toy_plan

BENCH = ["bench", "qm9", "--preset", "smoke", "--methods", "ls,nashmtl", "--plan"]


def printed(plan: Plan, capsys: pytest.CaptureFixture[str]) -> str:
    print_plan(plan, Path("runs/toy"))
    return " ".join(capsys.readouterr().out.split())


def test_single_task_networks_with_samples_of_their_own_take_the_passes_of_one() -> None:
    """One run of ls and three networks of a domain each."""
    words = ["bench", "digits", "--preset", "smoke", "--methods", "ls", "--seeds", "1", "--plan"]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    assert "Estimated passes: as many as 2 runs of ls" in " ".join(done.output.split())


def bench(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*BENCH, *words], env={"COLUMNS": "300"})
    return done.exit_code, " ".join(done.output.split())


def test_a_budget_says_what_is_tried_how_often_and_about_what_it_costs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = toy_plan(budget=3, methods=("cagrad",), seeds=(0, 1))
    text = printed(plan, capsys)
    assert "Added, since a tuned table always has them: ls, si, rlw, gls, uw." in text
    first = plan.trials["ls"]
    pairs = ", ".join(f"{one.lr:g} / {one.train['weight_decay']:g}" for one in first)
    assert f"The 3 trials of every row, learning rate / weight decay: {pairs}." in text
    # 8 rows of 4 runs, of which cagrad's take (1 + 2 x 2) / 3 as many passes
    assert f"as many as {7 * 4 + 4 * 5 / 3:.0f} runs of ls of 3 epochs" in text
    assert "40 runs (8 x (3 trials, one look and 1 other seeds)) would go to runs/toy." in text
    assert left(plan, []) == 40


def test_matched_compute_says_how_many_epochs_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    plan = toy_plan(methods=("ls", "nashmtl"), compute=True, baselines="none", settings={"epochs": 10})
    text = printed(plan, capsys)
    assert re.search(r"about\b[ │]+6\b", text)  # a cell of the table, whose lines break
    assert "but for those ending in @compute" in text
    assert "3 runs (2 x 1, 1 x 1 at the compute of ls) would go to runs/toy." in text
    assert left(plan, []) == 3


def test_without_a_budget_the_runs_are_counted_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(toy_plan(lrs=(0.1, 0.01), seeds=(0, 1)), capsys)
    assert "12 runs (4 x 3) would go to runs/toy." in text
    assert "Added" not in text
    assert "Rows are at equal epochs." in text


def test_the_options_reach_the_plan() -> None:
    code, text = bench("--budget", "2", "--lr", "1e-3..1e-2", "--match", "compute", "--epochs", "20")
    assert code == 0
    assert "nashmtl@compute" in text
    assert "train.epochs = 20" in text
    assert "The 2 trials of every row, learning rate / weight decay: 0.005 / 0, " in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--match", "epochs"], "`match` should be compute, or left out for equal epochs. Found 'epochs'."),
        (["--budget", "0"], "`budget` should be at least 1. Found 0."),
        (["--lr", "1e-3..1e-2"], "Found bounds, 0.001..0.01: add --budget N"),
        (["--budget", "2", "--lr", "1e-3,1e-2"], "`lr` should be bounds with --budget, such as 1e-4..1e-2"),
        (
            ["--match", "compute", "--epochs", "1"],
            "The compute of `ls` should pay for at least an epoch of nashmtl.",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], message: str) -> None:
    code, text = bench(*words)
    assert code == 2
    assert message in text
