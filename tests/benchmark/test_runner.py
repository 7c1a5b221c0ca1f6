"""The runner: each run once, whatever happens on the way, and nothing lost."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from equipoise.benchmark import runner
from equipoise.benchmark.records import RunDirectoryError, append_record, read_plan, read_records
from equipoise.benchmark.runner import WorkerError
from equipoise.training.outcome import InterruptedRunError, Progress
from equipoise.training.storage import StorageError
from shown import Shown, go, results, toy_plan
from toy import Lethal, Toy, Unready

TESTS = str(Path(__file__).parents[1])


def test_every_run_of_a_plan_is_recorded_once(tmp_path: Path) -> None:
    plan, show = toy_plan(lrs=(0.1, 0.01), seeds=(0, 1), methods=("ls", "go4align")), Shown()
    records = go(plan, tmp_path, show)
    assert len(records) == 12 == show.total
    assert [left for _, left in show.ends] == list(range(11, -1, -1))
    assert [name for name, _ in show.ends] == show.starts
    assert results(read_records(tmp_path)) == results(records)
    assert read_plan(tmp_path) == plan
    assert not list((tmp_path / "checkpoints").iterdir())
    for record in records:
        assert record.status == "ok"
        assert set(record.metrics) == {"validation", "test", "trivial"}
        assert record.config["method"] == record.method
        assert record.config["train"]["epochs"] == 3
        assert record.config["reference"] == Toy.reference
        assert (tmp_path / "runs" / record.run_id / "steps.csv").exists()
        assert (tmp_path / "runs" / record.run_id / "epochs.csv").exists()
    chosen = {r.method: r.lr for r in records if r.seed == 1}
    for method, lr in chosen.items():
        first = {r.lr: r.validation_score for r in records if r.seed == 0 and r.method == method}
        assert lr == min(first, key=lambda lr: first[lr])


def test_what_is_recorded_is_not_run_again(tmp_path: Path) -> None:
    plan, show = toy_plan(), Shown()
    before = go(plan, tmp_path)
    assert results(go(plan, tmp_path, show, resume=True)) == results(before)
    assert (show.total, show.done, show.starts) == (4, 4, [])


def test_a_begun_directory_needs_resume(tmp_path: Path) -> None:
    go(toy_plan(), tmp_path)
    with pytest.raises(
        RunDirectoryError, match=r"was begun with this plan and has 4 finished runs: add --resume"
    ):
        go(toy_plan(), tmp_path)


def test_a_directory_whose_runs_never_began_can_be_taken(tmp_path: Path) -> None:
    class NoData(Toy):
        def __init__(self, **options: Any) -> None:
            raise ModuleNotFoundError("pip install it")

    with pytest.raises(ModuleNotFoundError):
        go(toy_plan(), tmp_path, problem=NoData)
    assert len(go(toy_plan(), tmp_path)) == 4


def test_another_plan_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    go(toy_plan(), tmp_path)
    content = (tmp_path / "records.jsonl").read_bytes()
    with pytest.raises(RunDirectoryError, match=r"changes:\n  seeds: 0 -> 0, 1\n  train.epochs: 3 -> 4\n"):
        go(toy_plan(seeds=(0, 1), settings={"epochs": 4}), tmp_path, resume=True)
    assert (tmp_path / "records.jsonl").read_bytes() == content


def test_more_seeds_and_methods_go_on_in_the_same_directory(tmp_path: Path) -> None:
    """What was run is not run again, and the plan is the new one; fewer are another plan."""
    before = go(toy_plan(), tmp_path)
    shown = Shown()
    more = toy_plan(seeds=(0, 1), methods=("rlw", "ls", "uw"))
    records = go(more, tmp_path, shown, resume=True)
    assert len(shown.starts) == len(records) - len(before) > 0
    assert read_plan(tmp_path).seeds == (0, 1) and "rlw" in read_plan(tmp_path).methods
    whole = go(more, tmp_path / "at-once")
    assert results(records) == results(whole)
    with pytest.raises(RunDirectoryError, match=r"seeds: 0, 1 -> 0\n"):
        go(toy_plan(methods=("rlw", "ls", "uw")), tmp_path, resume=True)


def test_a_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(
        RunDirectoryError, match=r"should be new, empty, or hold a plan\. Found thesis\.tex and no"
    ):
        go(toy_plan(), tmp_path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    class Nosy(Shown):
        error = ""

        def started(self, run: Any) -> None:
            with pytest.raises(RunDirectoryError) as caught:
                go(toy_plan(), tmp_path, resume=True)
            self.error = str(caught.value)

    show = Nosy()
    go(toy_plan(methods=("ls",), baselines="published"), tmp_path, show)
    assert "should be used by one process at a time. Found another one at work in it." in show.error


def test_a_failing_run_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.touch()
    plan = toy_plan(settings={"bad": str(bad)})
    records = go(plan, tmp_path / "run")
    status = {record.run_id.split("-lr")[0]: record.status for record in records}
    assert status == {"ls": "failed", "uw": "failed", "stl_task-a": "ok", "stl_task-b": "failed"}
    assert records[0].error is not None
    assert "b: nan" in records[0].error
    assert "Traceback" in (tmp_path / "run/runs/ls-lr0.01-seed0/error.txt").read_text()
    show = Shown()
    go(plan, tmp_path / "run", show, resume=True)
    assert show.starts == []
    bad.unlink()
    again = go(plan, tmp_path / "run", show, resume=True, retry=True)
    assert show.starts == ["ls-lr0.01-seed0", "uw-lr0.01-seed0", "stl_task-b-lr0.01-seed0"]
    assert {record.status for record in again} == {"ok"}
    assert not (tmp_path / "run/runs/ls-lr0.01-seed0/error.txt").exists()


def test_worker_processes_find_the_same_numbers(tmp_path: Path) -> None:
    plan, show = toy_plan(methods=("ls", "rlw", "uw"), seeds=(0, 1)), Shown()
    alone, side_by_side = go(plan, tmp_path / "1"), go(plan, tmp_path / "2", show, jobs=2)
    assert results(side_by_side) == results(alone)
    assert sorted(show.starts) == sorted(name for name, _ in show.ends) == sorted(results(alone))
    assert set(show.steps.values()) == {24}
    assert [left for _, left in show.ends] == list(range(9, -1, -1))


def test_a_worker_that_dies_is_said_and_its_run_tried_once_more(tmp_path: Path) -> None:
    deadly = tmp_path / "deadly"
    deadly.touch()
    plan = toy_plan(methods=("ls",), baselines="published", settings={"deadly": str(deadly)})
    show = Shown()
    records = go(plan, tmp_path / "run", show, jobs=2)
    assert [record.status for record in records] == ["ok"]
    assert show.starts == 2 * ["ls-lr0.01-seed0"]
    assert len(show.said) == 1
    assert show.said[0].endswith("was killed by SIGKILL. The run is tried once more.")


def test_a_run_that_kills_its_worker_twice_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = toy_plan(methods=("ls",), baselines="published")
    records = go(plan, tmp_path, problem=Lethal, jobs=2)
    assert [(r.status, r.error) for r in records] == [
        ("failed", "The worker process was killed by SIGKILL, twice.")
    ]


def test_workers_that_cannot_begin_end_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"A worker process could not begin: RuntimeError: no memory"):
        go(toy_plan(methods=("ls",), baselines="published"), tmp_path, problem=Unready, jobs=2)


def test_jobs_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`jobs` should be at least 1\. Found 0\."):
        go(toy_plan(), tmp_path, jobs=0)


class Interrupting(Shown):
    """Sends a signal to this process at the 30th step."""

    def progress(self, run: Any, now: Progress) -> None:
        super().progress(run, now)
        if sum(self.steps.values()) == 30:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_stops_after_the_step_and_can_be_resumed(tmp_path: Path) -> None:
    show, plan, before = Interrupting(), toy_plan(), signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedRunError):
        go(plan, tmp_path / "parts", show)
    assert show.steps == {"ls-lr0.01-seed0": 24, "uw-lr0.01-seed0": 6}
    assert show.said == ["Stopping after this step (once more to stop at once)."]
    assert len(read_records(tmp_path / "parts")) == 1
    resumed, whole = Shown(), go(plan, tmp_path / "whole")
    assert results(go(plan, tmp_path / "parts", resumed, resume=True)) == results(whole)
    assert resumed.starts[0] == "uw-lr0.01-seed0"
    assert signal.getsignal(signal.SIGINT) is before  # which a shell's background job ignores


def test_an_interrupt_stops_the_workers_too(tmp_path: Path) -> None:
    class Early(Shown):
        def progress(self, run: Any, now: Progress) -> None:
            super().progress(run, now)
            if len(self.steps) == 1:
                self.steps["interrupted"] = 1
                os.kill(os.getpid(), signal.SIGINT)

    plan = toy_plan(settings={"sleep": 0.01, "epochs": 8})
    with pytest.raises(InterruptedRunError, match="have written their checkpoints"):
        go(plan, tmp_path, Early(), jobs=2)
    done = read_records(tmp_path)
    assert len(list((tmp_path / "checkpoints").glob("*.pt"))) >= 1
    assert len(done) < 4
    assert len(go(plan, tmp_path, resume=True)) == 4


_BENCH = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from shown import go, toy_plan
if __name__ == "__main__":
    go(toy_plan(seeds=(0, 1), settings={{"sleep": 0.005, "epochs": 6}}), Path({where!r}), jobs={jobs}, resume=True)
"""


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_benchmark_killed_without_warning_goes_on(jobs: int, tmp_path: Path) -> None:
    """kill -9 of the parent: its workers end with it, and what a torn line held is run again."""
    script = tmp_path / "bench.py"
    script.write_text(_BENCH.format(tests=TESTS, where=str(tmp_path / "killed"), jobs=jobs))
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    deadline = time.monotonic() + 60
    records = tmp_path / "killed" / "records.jsonl"
    while (not records.exists() or not records.read_bytes()) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(process.pid)
    done = len(read_records(tmp_path / "killed"))
    assert 1 <= done < 8
    with open(records, "ab") as file:
        file.write(b'{"run_id": "uw-')
    plan = toy_plan(seeds=(0, 1), settings={"sleep": 0.005, "epochs": 6})
    assert results(go(plan, tmp_path / "killed", resume=True)) == results(go(plan, tmp_path / "whole"))
    assert len(read_records(tmp_path / "killed")) == 8


def _alive(session: int) -> list[str]:
    """The processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def full(*args: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("jobs", [1])
def test_a_disk_that_fills_up_loses_no_record(
    jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, calls = toy_plan(), []

    def sometimes(directory: Path, record: Any) -> None:
        calls.append(record)
        if len(calls) == 3:
            full()
        append_record(directory, record)

    monkeypatch.setattr(runner, "append_record", sometimes)
    with pytest.raises(StorageError, match=r"records\.jsonl could not be written: No space left on device"):
        go(plan, tmp_path)
    assert len(read_records(tmp_path)) == 2
    assert (tmp_path / "checkpoints" / "stl_task-a-lr0.01-seed0.pt").exists()
    assert len(go(plan, tmp_path, resume=True)) == 4


def test_a_disk_that_fills_up_is_no_failure_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("torch.save", full)
        with pytest.raises(StorageError, match="No space left on device"):
            go(toy_plan(), tmp_path)
    assert read_records(tmp_path) == []
    assert len(go(toy_plan(), tmp_path, resume=True)) == 4


def test_a_disk_without_room_is_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10 * 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    show = Shown()
    with pytest.raises(
        StorageError, match=r"should have about 58 MB of free disk for 4 runs\. Found 10 MB\."
    ):
        go(toy_plan(), tmp_path, show)
    assert show.starts == []


def test_a_directory_that_cannot_be_made_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        StorageError, match=r"file/run could not be written: Not a directory\. What was finished"
    ):
        go(toy_plan(), tmp_path / "file" / "run")


def test_a_read_only_directory_is_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*args: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("os.open", read_only)
    with pytest.raises(StorageError, match="could not be written: Read-only file system"):
        go(toy_plan(), tmp_path)


def test_data_that_is_read_for_the_first_time_is_shown(tmp_path: Path) -> None:
    class Reading(Toy):
        def __init__(self, size: int = 32, progress: Any = None) -> None:
            super().__init__(size)
            progress(5, 10)

    show = Shown()
    go(toy_plan(methods=("ls",), baselines="published"), tmp_path, show, problem=Reading)
    assert show.said == ["5/10"]


def test_a_record_can_be_run_again_from_its_configuration(tmp_path: Path) -> None:
    from equipoise.training.config import RunConfig
    from equipoise.training.loop import Trainer

    go(toy_plan(), tmp_path / "1")
    record = json.loads((tmp_path / "1" / "records.jsonl").read_text().splitlines()[1])
    record["config"].pop("reference")
    config = RunConfig(**record["config"])
    outcome = Trainer(Toy(**config.options), config, tmp_path / "logs", tmp_path / "run.pt").run()
    assert outcome.metrics == record["metrics"]
