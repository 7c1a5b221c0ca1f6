"""What a search does when it is killed in the middle of a write, when the disk is full, or a domain is empty."""

from __future__ import annotations

import errno
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from equipoise.cli import app
from equipoise.problems.registry import PROBLEMS
from equipoise.search.genealogy import read_results
from equipoise.search.retrain import read_retrained
from equipoise.training.domains import Domain
from search.domains_toy import Tug

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
TESTS = str(Path(__file__).parent.parent)
WORDS = ["search", "tug", "--population", "3", "--seeds", "1", "--interval", "2"]


@pytest.fixture(autouse=True)
def _tug_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(PROBLEMS, "tug", "search.domains_toy:Tug")
    monkeypatch.setattr("equipoise.search_actions.report", lambda plan, found, where: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["equipoise", *WORDS, "--out", "cut"])


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, [*WORDS, *arguments])


def told(where: Path) -> tuple[list[Any], list[Any]]:
    """All that a search has recorded but seconds."""
    members = [(one.assignment, one.score, one.metrics) for one in read_results(where)]
    return members, [(one.variant, one.seed, one.score, one.metrics) for one in read_retrained(where)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    """What an undisturbed search records."""
    where = tmp_path_factory.mktemp("whole") / "run"
    before = PROBLEMS.get("tug")
    PROBLEMS["tug"] = "search.domains_toy:Tug"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("equipoise.search_actions.report", lambda plan, found, where: None)
        done = run("--out", str(where))
    if before is None:
        del PROBLEMS["tug"]
    assert done.exit_code == 0, done.output
    members, anew = told(where)
    assert len(members) == 6 and len(anew) >= 2
    return members, anew


def full(*args: Any, **given: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def after(calls: int, fault: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    """What works so many times, and then no more."""
    made: list[int] = []

    def sometimes(*args: Any, **given: Any) -> Any:
        made.append(1)
        return (real if len(made) <= calls else fault)(*args, **given)

    return sometimes


@pytest.mark.parametrize(
    ("name", "calls", "said", "lines"),
    [
        ("os.replace", 0, "cut/search.json could not be written", 0),
        ("torch.save", 5, "cut/checkpoints/generation0000-member0002.pt could not be written", 2),
        (
            "shutil.copyfile",
            1,
            "cut/checkpoints/generation0001-member0001.pt could not be written",
            4,
        ),
        ("equipoise.search.genealogy.append_line", 3, "cut/genealogy.jsonl could not be written", 3),
        ("equipoise.search.retrain.append_line", 1, "cut/retrained.jsonl could not be written", 7),
    ],
    ids=["plan", "checkpoint", "parent", "genealogy", "retrained"],
)
def test_a_full_disk_is_said_and_nothing_is_lost(
    name: str, calls: int, said: str, lines: int, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(name, after(calls, full, pkgutil.resolve_name(name)))
        done = run("--out", "cut")
    assert done.exit_code == 1, done.output
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(errors) == 1 and said in errors[0]
    assert "No space left on device. What was finished is kept: make room" in errors[0]
    assert f"Go on with: equipoise {' '.join(WORDS)} --out cut --resume" in done.stderr
    members, anew = told(Path("cut"))
    assert len(members) + len(anew) == lines
    done = run("--out", "cut", "--resume")
    assert done.exit_code == 0, done.output
    assert told(Path("cut")) == whole
    assert not list(Path("cut").rglob("*.tmp")) and not list(Path("cut").rglob("*.copy"))


_KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from equipoise.problems.registry import PROBLEMS
PROBLEMS["tug"] = "search.domains_toy:Tug"
from equipoise.search import member
from equipoise.training import checkpoint

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def nth(place, name, count, instead, all_calls=False):
    real, made = getattr(place, name), []
    def fault(*args, **given):
        paths = [str(arg) for arg in args if isinstance(arg, (str, os.PathLike))]
        if all_calls or any("generation0001-member0001" in path for path in paths):  # that of the heir
            made.append(1)
        return instead(real, *args) if len(made) == count else real(*args, **given)
    setattr(place, name, fault)

def half_saved(real, state, file):
    import io
    whole = io.BytesIO()
    real(state, whole)
    file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
    file.flush()
    die()

def half_copied(real, source, target):
    content = open(source, "rb").read()
    with open(target, "wb") as file:
        file.write(content[: len(content) // 2])
    die()

def before(real, *args):
    die()

def behind(real, *args):
    real(*args)
    die()

{fault}
from equipoise.cli import main
sys.argv = ["equipoise", *{words!r}, "--out", "cut", "--resume"]
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        'nth(torch, "save", 10, half_saved, True)',  # half of the temporary file
        'nth(checkpoint.os, "fsync", 15, before, True)',  # all of it, not on the disk
        'nth(checkpoint.os, "replace", 4, before)',  # before the old one steps aside
        'nth(checkpoint.os, "replace", 4, behind)',  # the old one has stepped aside, the new one has not its place
        'nth(checkpoint.os, "replace", 5, behind)',  # in its place, with no line in the genealogy
        'nth(member.shutil, "copyfile", 1, half_copied)',  # half of what a member takes from its parent
        'nth(member.shutil, "copyfile", 1, behind)',  # all of it, under its temporary name
    ],
)
def test_a_kill_while_a_checkpoint_is_written_changes_nothing(fault: str, whole: Any) -> None:
    (heir,) = [one for one, _, _ in whole[0] if one.generation and one.parent != one.member]
    assert heir.place == (
        1,
        1,
    )  # begun anew in place of inheriting, it would end elsewhere: so it is the one to hit
    script = _KILLED.format(tests=TESTS, words=WORDS, fault=fault)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    members, anew = told(Path("cut"))
    assert len(members) == 4 and not anew
    again = run("--out", "cut", "--resume")
    assert again.exit_code == 0, again.output
    assert told(Path("cut")) == whole


@pytest.mark.slow
def test_files_that_may_not_grow_are_a_full_disk(whole: Any) -> None:
    """The kernel itself refuses to write, in the middle of a checkpoint."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))"
    script = _KILLED.format(tests=TESTS, words=WORDS, fault=limit)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "could not be written: " in done.stderr and "Go on with: equipoise search" in done.stderr
    assert "Traceback" not in done.stderr
    assert run("--out", "cut", "--resume").exit_code == 0
    assert told(Path("cut")) == whole


def test_a_finished_search_is_a_function_of_its_seed(whole: Any) -> None:
    assert run("--out", "cut").exit_code == 0
    assert told(Path("cut")) == whole


@pytest.mark.parametrize("words", [["--workers", "2", "--address", "127.0.0.1:1"]])
def test_a_cluster_that_cannot_be_reached_is_said(words: list[str]) -> None:
    done = run("--out", "cut", *words)
    assert done.exit_code == 2
    assert "A Ray cluster should listen at 127.0.0.1:1. Found that it cannot be reached" in done.stderr


def test_without_ray_the_line_for_pip_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("--out", "cut", "--workers", "2")
    assert done.exit_code == 2
    assert 'Several workers on Ray need it: pip install "equipoise[search]".' in done.stderr


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (0, "`part` should hold at least 1 sample. Found 0."),
        (
            1,
            "The samples of 'high' cannot be split. `fraction` should be above 0 and below 1, of at least 2 samples.",
        ),
    ],
)
def test_a_domain_with_too_few_samples_is_said(
    samples: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Tug._batches

    def few(self: Tug, name: str, first: int, last: int, seed: int) -> Any:
        return real(self, name, first, samples if (name, first) == ("high", 0) else last, seed)

    monkeypatch.setattr(Tug, "_batches", few)
    monkeypatch.setattr(
        "search.domains_toy.Domain", lambda loader, samples, size: Domain(loader, len(loader.part), size)
    )
    done = run("--out", "cut")
    assert done.exit_code == 1
    assert said in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True])
def test_a_driver_killed_while_workers_train_leaves_a_search_to_go_on_with(stored: bool, whole: Any) -> None:
    """kill -9 of the driver: its workers end with it, whatever they were at."""
    place = ["--workers", "2", *(["--storage", f"file://{Path.cwd()}/shared"] if stored else [])]
    script = _KILLED.format(tests=TESTS, words=[*WORDS, *place], fault="")
    with open("errors.txt", "w") as errors:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=errors)
    deadline = time.monotonic() + 120
    while not read_results(Path("cut")) and time.monotonic() < deadline:
        assert process.poll() is None, Path("errors.txt").read_text()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(read_results(Path("cut"))) < 6
    again = run("--out", "cut", "--resume", *place)
    assert again.exit_code == 0, again.output
    members, anew = told(Path("cut"))
    assert sorted(members, key=lambda one: one[0].place) == sorted(whole[0], key=lambda one: one[0].place)
    assert sorted(anew, key=str) == sorted(whole[1], key=str)
    assert Path("cut/checkpoints").exists() is not stored
