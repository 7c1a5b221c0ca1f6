"""Runs of a benchmark on Ray: the same records as in this process, workers that die, and an interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from equipoise.benchmark.plan import pending
from equipoise.benchmark.ray_pool import Runner
from equipoise.benchmark.records import Record, read_records
from equipoise.benchmark.runner import WorkerError
from equipoise.benchmark.workers import Work
from equipoise.cli import app
from equipoise.cluster.connection import Place
from equipoise.problems.registry import PROBLEMS
from equipoise.training.outcome import InterruptedRunError, Progress
from shown import Shown, go, results, toy_plan
from toy import Lethal, Toy

TESTS = str(Path(__file__).parents[1])
CLOCK = {"seconds", "seconds_per_step", "data_seconds", "evaluation_seconds", "started", "peak_memory_mb"}
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


class Unready(Toy):
    """Can be set up in the main thread only, where actors do nothing."""

    def __init__(self, size: int = 32) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("no memory")
        super().__init__(size)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Two workers on a cluster that all tests share, since it takes seconds to start one."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield Place(workers=2, address=cluster.address)
    cluster.shutdown()  # type: ignore[no-untyped-call]


def told(records: list[Record]) -> dict[str, Any]:
    """All of the records but what the clock and the machine say, in their order by name."""
    return {
        record.run_id: {name: value for name, value in asdict(record).items() if name not in CLOCK}
        for record in records
    }


@pytest.mark.slow
def test_actors_find_the_records_of_this_process(tmp_path: Path, place: Place) -> None:
    plan, show = toy_plan(methods=("ls", "rlw", "uw"), seeds=(0, 1)), Shown()
    alone, side_by_side = go(plan, tmp_path / "1"), go(plan, tmp_path / "2", show, place=place)
    assert str(told(side_by_side)) == str({name: told(alone)[name] for name in told(side_by_side)})
    assert sorted(show.starts) == sorted(name for name, _ in show.ends) == sorted(results(alone))
    assert set(show.steps.values()) == {24}
    assert [left for _, left in show.ends] == list(range(9, -1, -1))
    assert told(read_records(tmp_path / "2")).keys() == told(alone).keys()
    assert not list((tmp_path / "2" / "checkpoints").iterdir())
    assert go(plan, tmp_path / "2", show, place=place, resume=True) and len(show.starts) == 10


@pytest.mark.slow
def test_an_actor_that_dies_is_said_and_its_run_tried_once_more(tmp_path: Path, place: Place) -> None:
    deadly = tmp_path / "deadly"
    deadly.touch()
    plan, show = toy_plan(settings={"deadly": str(deadly)}), Shown()
    records = go(plan, tmp_path / "run", show, place=place)
    assert {record.status for record in records} == {"ok"} and len(records) == 4
    assert len(show.said) == 1
    assert show.said[0].endswith("was lost. The run is tried once more.")
    records = go(
        toy_plan(methods=("ls",), baselines="published"), tmp_path / "2", problem=Lethal, place=place
    )
    assert [(r.status, r.error) for r in records] == [("failed", "The worker process was lost, twice.")]


@pytest.mark.slow
def test_a_run_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path, place: Place) -> None:
    bad = tmp_path / "bad"
    bad.touch()
    records = go(toy_plan(settings={"bad": str(bad)}), tmp_path / "run", place=place)
    status = {record.run_id.split("-lr")[0]: record.status for record in records}
    assert status == {"ls": "failed", "uw": "failed", "stl_task-a": "ok", "stl_task-b": "failed"}
    assert "Traceback" in (tmp_path / "run/runs/ls-lr0.01-seed0/error.txt").read_text()


@pytest.mark.slow
def test_an_interrupt_stops_the_actors_and_can_be_resumed(tmp_path: Path, place: Place) -> None:
    class Early(Shown):
        def progress(self, run: Any, now: Progress) -> None:
            super().progress(run, now)
            if len(self.steps) == 1:
                self.steps["interrupted"] = 1
                os.kill(os.getpid(), signal.SIGTERM)

    plan, show = toy_plan(settings={"sleep": 0.02, "epochs": 5}), Early()
    with pytest.raises(InterruptedRunError, match="have written their checkpoints"):
        go(plan, tmp_path, show, place=place)
    assert show.said == ["Stopping after this step (once more to stop at once)."]
    assert len(list((tmp_path / "checkpoints").glob("*.pt"))) >= 1
    assert len(read_records(tmp_path)) < 4
    fast = go(plan, tmp_path, resume=True)
    assert results(fast) == results(go(plan, tmp_path / "whole"))


@pytest.mark.slow
def test_workers_that_cannot_begin_end_the_benchmark(tmp_path: Path, place: Place) -> None:
    plan = toy_plan(methods=("ls",), baselines="published")
    with pytest.raises(WorkerError, match=r"A worker process could not begin: RuntimeError: no memory"):
        go(plan, tmp_path, problem=Unready, place=place)


_BENCH = """
import sys
sys.path.insert(0, {tests!r})
from equipoise.problems.registry import PROBLEMS
PROBLEMS["toy"] = "toy:Toy"
import torch; torch.set_num_threads(1)
from equipoise.cli import main
main()
"""


@pytest.mark.slow
def test_the_command_runs_on_ray_alone_and_ctrl_c_reaches_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is started on this machine; Ctrl-C of a terminal goes to the whole group of processes."""
    monkeypatch.setitem(PROBLEMS, "toy", "toy:Toy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("equipoise.report.build.write_report", lambda where, baselines: where / "report.html")
    Path("main.py").write_text(_BENCH.format(tests=TESTS))
    words = ["bench", "toy", "--out", "run", "--set", "sleep=0.03", "--epochs", "4"]
    fleet = ["--jobs", "ray", "--workers", "2"]
    command = [sys.executable, "main.py", *words, *fleet]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 90
    while not list(Path("run").glob("runs/*/steps.csv")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "Stopping after this step (once more to stop at once)." in said
    assert f"Go on with: equipoise {' '.join([*words, *fleet])} --resume" in said
    assert "Traceback" not in said
    assert list(Path("run/checkpoints").glob("*.pt"))
    done = CliRunner().invoke(app, [*words, "--jobs", "1", "--resume"])
    assert done.exit_code == 0, done.output
    assert {record.status for record in read_records(Path("run"))} == {"ok"}


# An actor is an ordinary object, so that most of it can be looked at without Ray.


def runner(directory: Path, problem: type[Toy] = Toy, **settings: Any) -> tuple[Runner, list[Any]]:
    plan = toy_plan(settings=settings)
    directory.mkdir(exist_ok=True)
    (directory / "plan.json").write_text(plan.to_json())
    return Runner(Work(problem, plan, directory, 1)), pending(plan, [])


def test_a_runner_tells_how_far_it_is_and_last_how_it_ended(tmp_path: Path) -> None:
    made, runs = runner(tmp_path)
    events = made.work(runs[0])
    assert [event.kind for event in events] == ["progress", "record"]
    assert (events[0].content.step, events[0].content.steps) == (24, 24)
    assert events[1].content.status == "ok" and events[1].run == runs[0]
    damaged = tmp_path / "checkpoints" / f"{runs[1].run_id}.pt"
    damaged.write_bytes(b"no checkpoint")
    assert [event.kind for event in made.work(runs[1])] == ["say", "progress", "record"]


def test_a_runner_that_is_asked_to_stop_leaves_a_checkpoint(tmp_path: Path) -> None:
    made, runs = runner(tmp_path)
    made.stop()
    events = made.work(runs[0])
    assert events[-1].kind == "stopped" and events[0].content.step == 1
    assert (tmp_path / "checkpoints" / f"{runs[0].run_id}.pt").exists()


def test_a_runner_that_does_not_see_the_directory_says_so(tmp_path: Path) -> None:
    made, runs = runner(tmp_path)
    (tmp_path / "plan.json").unlink()
    (event,) = made.work(runs[0])
    assert event.kind == "broken"
    assert event.content == (
        f"FileNotFoundError: {tmp_path} should be seen by every node of the cluster, as on a shared file system. "
        "Found no plan.json in it."
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--jobs", "two"], "`jobs` should be a number or ray. Found 'two'."),
        (["--jobs", "-1"], "`jobs` should be at least 1. Found -1."),
        (["--workers", "2"], "`jobs` should be ray with `workers`, `address` or `gpus`. Found none: add"),
        (["--jobs", "2", "--address", "auto"], "`jobs` should be ray with `workers`, `address` or `gpus`."),
        (["--jobs", "ray", "--address", "10.0.0.1:6379"], "`workers` should be given with `address` or"),
        (["--jobs", "ray", "--workers", "0"], "`workers` should be at least 1. Found 0."),
        (
            ["--jobs", "ray", "--workers", "2", "--gpus", "0.5", "--device", "cpu"],
            "`gpus` should be above 0 for workers on the device cuda, such as 0.25 for four on a GPU, and 0 on the "
            "cpu. Found 0.5 and cpu.",
        ),
        (
            ["--jobs", "ray", "--workers", "2", "--address", "here"],
            "`address` should look like 10.0.0.1:6379, or be auto. Found 'here'.",
        ),
    ],
)
def test_what_cannot_be_run_on_ray_is_said(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROBLEMS, "toy", "toy:Toy")
    done = CliRunner().invoke(app, ["bench", "toy", "--out", str(tmp_path / "run"), *arguments])
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())


def test_a_plan_for_gpus_of_other_machines_can_be_made_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROBLEMS, "toy", "toy:Toy")
    words = [
        "bench",
        "toy",
        "--out",
        str(tmp_path / "run"),
        "--jobs",
        "ray",
        "--workers",
        "2",
        "--gpus",
        "0.5",
    ]
    done = CliRunner().invoke(app, [*words, "--plan"])
    assert done.exit_code == 0 and "device = cuda" in done.stdout
