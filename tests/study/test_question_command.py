"""`equipoise study NAME` of a question as a user meets it: planned, run to the end, resumed, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.study.questions import QUESTIONS

TINY = (
    "--preset",
    "smoke",
    "--set",
    "tasks=4",
    "--set",
    "groups=2",
    "--set",
    "samples=96",
    "--set",
    "held=48",
)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def study(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["study", *arguments, "--jobs", "1"])


def test_every_question_has_a_command_with_its_text() -> None:
    shown = CliRunner().invoke(app, ["study", "--help"]).output
    for name, question in QUESTIONS.items():
        assert name in shown
        own = CliRunner().invoke(app, ["study", name, "--help"])
        assert own.exit_code == 0
        assert question.text in " ".join(own.output.split())


def test_grouping_is_planned() -> None:
    planned = study("grouping", "synthetic", *TINY, "--seeds", "2", "--out", "run", "--plan")
    assert planned.exit_code == 0 and not Path("run").exists()
    assert "run/first: 1 methods on seed 2" in planned.output
    assert "Does grouping help, against a weight for each task?" in planned.output


def test_a_study_is_run_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("k", "synthetic", *TINY, "--set", "tasks=3", "--epochs", "1", "--seeds", "2", "--out", "run")
    done = study(*arguments)
    assert done.exit_code == 0, done.output
    assert "Is K = 2 better than one group?" in done.output and "Page: run/study.md" in done.output
    page = Path("run/study.md").read_text()
    assert "as Fig. 6 of the GO4Align paper" in page and "The elbow is at K = " in page
    records = Path("run/runs/records.jsonl").read_bytes()
    refused = study(*arguments)
    assert refused.exit_code == 2 and "add --resume to go on" in refused.output
    monkeypatch.setattr("equipoise.question_actions.write_answers", lambda *given: Path("not drawn again"))
    again = study(*arguments, "--resume")
    assert again.exit_code == 0, again.output
    assert Path("run/runs/records.jsonl").read_bytes() == records
    assert len(read_records(Path("run/runs"))) == 2 * 5


@pytest.mark.slow
def test_grouping_tells_its_groups() -> None:
    done = study("grouping", "synthetic", *TINY, "--epochs", "2", "--seeds", "2", "--out", "run")
    assert done.exit_code == 0, done.output
    page = Path("run/study.md").read_text()
    for name in ("found", "no groups", "shuffled indicators", "frozen groups", "known groups"):
        assert f"| {name} |" in page
    for figure in ("answers", "groups"):
        assert Path(f"run/figures/{figure}.png").stat().st_size > 5_000
        assert f"figures/{figure}.png" in page
    found = json.loads(Path("run/answers.json").read_text())["arms"][0]["variants"]
    moved = {one["name"]: one["groups"] for one in found if one["groups"]}
    assert moved["known groups"]["agreement"] == 1.0 and moved["known groups"]["switches"] == 0
    assert moved["random groups"]["switches"] > 0.2


@pytest.mark.slow
def test_convergence_draws_the_figures_of_the_paper() -> None:
    done = study("convergence", "synthetic", *TINY, "--epochs", "3", "--seeds", "1", "--out", "run")
    assert done.exit_code == 0, done.output
    page = Path("run/study.md").read_text()
    for number, figure in ((2, "task_curves"), (4, "run_time"), (8, "risk_ratios")):
        assert f"as Fig. {number} of the GO4Align paper" in page
        assert Path(f"run/figures/{figure}.svg").exists()
    assert "- **Do methods whose tasks converge together have better scores?**" in page
    assert "| nashmtl |" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("grouping",), "`problem` should be named, as in: equipoise study grouping qm9. Found none."),
        (("grouping", "qm8"), "Found 'qm8'. Did you mean 'qm9'?"),
        (("planted", "digits"), "should have the option `noise`"),
        (
            ("grouping", "synthetic", "--known", "0,x"),
            "`known` should be whole numbers, separated by commas.",
        ),
        (("grouping", "synthetic", "--seeds", "0"), "`seeds` should be at least 1. Found 0."),
        (("grouping", "fronts"), "at least 3 tasks"),
    ],
)
def test_wrong_usage_is_refused_in_a_sentence(arguments: tuple[str, ...], message: str) -> None:
    done = study(*arguments, "--preset", "smoke")
    assert done.exit_code == 2
    assert message in done.output
    assert not Path("runs").exists()
