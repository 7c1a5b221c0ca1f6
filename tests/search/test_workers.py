"""Members on Ray: the same numbers as in this process, workers and nodes that are killed, and a storage."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from equipoise.cluster.connection import Place
from equipoise.cluster.storage import Storage
from equipoise.search.driver import run_search
from equipoise.search.generations import Assignment, Result, SearchError
from equipoise.search.member import Setting, checkpoint_of, train_member
from equipoise.search.pbt import PopulationBased
from equipoise.search.retrain import Anew, Retrained
from equipoise.search.space import Point, Space
from equipoise.search.stored import storage_of
from equipoise.search.workers import Job, Worker, workers
from equipoise.training.storage import StorageError
from search.domains_toy import Tug, config, make

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


def algorithm() -> PopulationBased:
    return PopulationBased(Space(2), population=4, epochs=4, interval=2, seed=0)


def told(history: Sequence[Sequence[Result]]) -> list[tuple[Any, ...]]:
    return [(one.assignment, one.score, dict(one.metrics)) for row in history for one in row]


def bucket(root: Path) -> Storage:
    """A storage that only its own file system reaches: paths in it mean nothing elsewhere."""
    found = Storage(fs.SubTreeFileSystem(str(root), fs.LocalFileSystem()), "bucket/one")
    found.begin()
    return found


def expected(where: Path) -> list[tuple[Any, ...]]:
    """What the search finds in this process."""
    setting = Setting(config(epochs=4, mixing="sampled"), "sampling")
    where.mkdir()

    def alone(waiting: list[Assignment]) -> Iterator[Result]:
        while waiting:
            yield train_member(make, setting, waiting.pop(0), where)

    return told(run_search(algorithm(), alone, where))


@pytest.mark.slow
def test_two_workers_find_what_this_process_finds_and_outlive_a_kill(tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    said: list[str] = []
    deadly = tmp_path / "deadly"
    deadly.touch()
    killing = Setting(config(epochs=4, mixing="sampled", deadly=str(deadly)), "sampling")
    with workers(Job(Tug, killing, tmp_path / "ray"), Place(workers=2), said.append) as train:
        found = told(run_search(algorithm(), train, tmp_path / "ray"))
    assert found == expected(tmp_path / "alone")
    assert not deadly.exists()
    assert sum("died; that goes on from its last checkpoint." in text for text in said) == 1


def power_off(cluster: Any, node: Any) -> None:
    """Kill a node with its workers, which would go on for a second, long enough to do a task."""
    raylet = node.all_processes["raylet"][0].process.pid
    workers_of_it = [
        int(pid)
        for path in Path(f"/proc/{raylet}/task").glob("*/children")
        for pid in path.read_text().split()
    ]
    cluster.remove_node(node, allow_graceful=False)
    for pid in workers_of_it:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True])
def test_a_search_outlives_a_node_of_its_cluster(stored: bool, tmp_path: Path) -> None:
    """Three raylets on this machine; one with a worker on it is killed between two generations.

    With a storage the workers know no other directory than their scratch folders: that of the driver is named wrongly.
    """
    from ray.cluster_utils import Cluster

    setting = Setting(config(epochs=4, mixing="sampled"), "sampling")
    (tmp_path / "ray").mkdir()
    storage = bucket(tmp_path) if stored else None
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    said: list[str] = []
    heard: list[Result] = []

    def hear(result: Result) -> None:
        heard.append(result)
        if len(heard) == 4:  # all of the first generation
            power_off(cluster, nodes[1])

    def forget(one: Assignment) -> None:
        if storage is not None:
            storage.remove(checkpoint_of(tmp_path, *one.place).stem)

    try:
        job = Job(Tug, setting, tmp_path / ("elsewhere" if stored else "ray"), storage)
        with workers(job, Place(workers=2, address=cluster.address), said.append) as train:
            found = told(run_search(algorithm(), train, tmp_path / "ray", hear, forget=forget))
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    assert found == expected(tmp_path / "alone")
    assert any("died; that goes on from its last checkpoint" in text for text in said)
    if stored:
        assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "ray" / "checkpoints").exists()
        left = sorted(path.name for path in (tmp_path / "bucket" / "one").iterdir())
        assert left == [*(f"generation0001-member{k:04d}" for k in range(4)), "unfinished"]


# A worker is an ordinary object, so that most of it can be looked at without Ray.


def of_two_nodes(job: Job) -> Any:
    """Two workers in turn, which share the storage alone."""
    pair = [Worker(job, 1), Worker(job, 1)]

    def train(waiting: list[Assignment]) -> Iterator[Any]:
        while waiting:
            pair.append(pair.pop(0))
            yield pair[0].work(waiting.pop(0))

    return train


def test_nodes_that_share_a_storage_alone_find_what_one_process_finds(tmp_path: Path) -> None:
    setting, storage = Setting(config(epochs=4, mixing="sampled"), "sampling"), bucket(tmp_path)
    (tmp_path / "driver").mkdir()
    train = of_two_nodes(Job(Tug, setting, tmp_path / "nowhere", storage))
    forget = lambda one: storage.remove(checkpoint_of(tmp_path, *one.place).stem)  # noqa: E731
    found = run_search(algorithm(), train, tmp_path / "driver", forget=forget)
    assert told(found) == expected(tmp_path / "alone")
    assert {path.name for path in tmp_path.iterdir()} == {"alone", "bucket", "driver"}
    assert [path.name for path in (tmp_path / "driver").iterdir()] == ["genealogy.jsonl"]
    kept = sorted((tmp_path / "bucket" / "one").glob("generation*/checkpoint.pt"))
    assert [path.parent.name for path in kept] == [f"generation0001-member{k:04d}" for k in range(4)]


def test_a_member_that_was_stored_but_not_recorded_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, storage = Setting(config(epochs=4, mixing="sampled"), "sampling"), bucket(tmp_path)
    worker = Worker(Job(Tug, setting, tmp_path / "nowhere", storage), 1)
    assignment = Assignment(0, 0, (0.3, 0.7), 0, 4)
    whole = worker.work(assignment)
    monkeypatch.setattr(Tug, "losses", None)  # a step would fail
    again = worker.work(assignment)
    assert isinstance(whole, Result) and isinstance(again, Result)
    assert (again.score, again.metrics) == (whole.score, whole.metrics)


def test_a_network_is_trained_anew_on_a_node_that_sees_nothing_of_the_driver(tmp_path: Path) -> None:
    setting, storage = Setting(config(epochs=2), "losses"), bucket(tmp_path)
    anew = Anew("uniform", 3, [(0, Point((0.5, 0.5), {}))])
    found = Worker(Job(Tug, setting, tmp_path / "nowhere", storage), 1).work(anew)
    (tmp_path / "here").mkdir()
    same = Worker(Job(Tug, setting, tmp_path / "here"), 1).work(anew)
    assert isinstance(found, Retrained) and isinstance(same, Retrained)
    assert (found.score, found.metrics) == (same.score, same.metrics)
    assert not (tmp_path / "nowhere").exists()


def test_a_parent_that_is_gone_and_a_full_storage_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, storage = Setting(config(epochs=4), "losses"), bucket(tmp_path)
    worker = Worker(Job(Tug, setting, tmp_path / "nowhere", storage), 1)
    with pytest.raises(FileNotFoundError, match=r"generation0000-member0003\.pt` should exist, since"):
        worker.work(Assignment(1, 0, (0.5, 0.5), 2, 4, 3))

    def full(*args: Any, **given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.fs.copy_files", full)
    with pytest.raises(
        StorageError, match=r"The storage bucket/one could not be written: .*No space left on"
    ):
        worker.work(Assignment(0, 0, (0.5, 0.5), 0, 2))


def test_a_node_that_does_not_see_the_directory_says_so(tmp_path: Path) -> None:
    worker = Worker(Job(Tug, Setting(config(), "losses"), tmp_path / "nowhere"), 1)
    with pytest.raises(
        SearchError, match="should be seen by every node of the cluster. Found a node that does"
    ):
        worker.work(Assignment(0, 0, (0.5, 0.5), 0, 2))


# Which storage is whose


def test_each_search_has_a_folder_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/shared"
    folders = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert storage_of(tmp_path / name, None) is None
        for _ in range(2):
            assert storage_of(tmp_path / name, uri) is not None
            folders.append(json.loads((tmp_path / name / "storage.json").read_text())["folder"])
    assert folders[0] == folders[1] != folders[2] == folders[3]
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == sorted(set(folders))


def test_a_search_goes_on_with_the_storage_with_which_it_began(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/shared"
    storage_of(tmp_path, uri)
    for other, found in ((None, "none"), (f"file://{tmp_path}/other", f"file://{tmp_path}/other")):
        said = f"`storage` should be {uri}, where the checkpoints of {tmp_path} lie. Found {found}: add --storage"
        with pytest.raises(SearchError, match=said):
            storage_of(tmp_path, other)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "genealogy.jsonl").touch()
    with pytest.raises(
        SearchError, match="`storage` should be left out for .*begun, which was begun without"
    ):
        storage_of(tmp_path / "begun", uri)
