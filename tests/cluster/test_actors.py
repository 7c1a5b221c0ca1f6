"""Actors on Ray: tasks, deaths, errors, questions; and what cannot be started or reached."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from equipoise.cluster import actors as module
from equipoise.cluster import connection
from equipoise.cluster.actors import Actors
from equipoise.cluster.connection import ClusterError, Place, check_device, connect, ray_train
from equipoise.training.storage import StorageError

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


class Clerk:
    """Does what it is told by a word."""

    def __init__(self, start: int) -> None:
        if start < 0:
            raise ValueError("no desk")
        self.done = start

    def work(self, task: str) -> Any:
        word, _, rest = task.partition(" ")
        self.done += 1
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "fail":
            raise StorageError(rest)
        if word == "wait":
            time.sleep(float(rest))
        return os.getpid(), os.environ["OMP_NUM_THREADS"], self.done

    def count(self) -> int:
        return self.done


def drained(actors: Actors) -> list[Any]:
    found = []
    while actors.running:
        found += list(actors.ended(timeout=5))
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without a core, and one node with two."""
    from ray.cluster_utils import Cluster

    quiet = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **quiet})
    found.add_node(num_cpus=2, object_store_memory=80 * 2**20)
    yield found
    found.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.slow
def test_actors_are_used_again_and_replaced_when_they_die(cluster: Any) -> None:
    actors = Actors(Clerk, (10,), Place(workers=2, address=cluster.address, threads=3))
    try:
        assert (actors.room, actors.running, list(actors.ended(timeout=0))) == (2, [], [])
        for task in ("a", "b"):
            actors.submit(task)
        assert actors.room == 0 and actors.running == ["a", "b"]
        first = drained(actors)
        assert sorted(one.task for one in first) == ["a", "b"] and not any(one.died for one in first)
        assert len({one.value[0] for one in first}) == 2
        assert {one.value[1:] for one in first} == {("3", 11)}
        actors.submit("c")
        (again,) = drained(actors)
        assert again.value[0] in {one.value[0] for one in first} and again.value[2] == 12
        actors.submit("die")
        (died,) = drained(actors)
        assert (died.task, died.value, died.died) == ("die", None, True)
        for task in ("d", "e"):
            actors.submit(task)
        # Both are new: one that had nothing to do may have died with its node, so it was let go.
        assert [one.value[2] for one in drained(actors)] == [11, 11]
    finally:
        actors.close()


@pytest.mark.slow
def test_an_error_of_a_task_is_raised_as_it_was(cluster: Any) -> None:
    actors = Actors(Clerk, (0,), Place(workers=1, address=cluster.address))
    try:
        actors.submit("fail there is no room")
        with pytest.raises(StorageError) as caught:
            drained(actors)
        assert str(caught.value) == "there is no room"
    finally:
        actors.close()


@pytest.mark.slow
def test_an_actor_that_cannot_start_is_said(cluster: Any) -> None:
    actors = Actors(Clerk, (-1,), Place(workers=1, address=cluster.address))
    try:
        actors.submit("a")
        with pytest.raises(ClusterError, match=r"A worker should be able to start\.(.|\n)*no desk"):
            drained(actors)
    finally:
        actors.close()


@pytest.mark.slow
def test_actors_at_work_answer(cluster: Any) -> None:
    actors = Actors(Clerk, (0,), Place(workers=1, address=cluster.address), concurrency=2)
    try:
        actors.submit("wait 8")
        answers: list[Any] = []
        while not answers:
            answers += actors.ask("count")
            list(actors.ended(timeout=0.1))
        (answer,) = answers
        assert answer in (("wait 8", 0), ("wait 8", 1)) and actors.running == [
            "wait 8"
        ]  # before or after it began
        drained(actors)
    finally:
        actors.close()


@pytest.mark.slow
def test_no_room_is_said_and_the_others_go_on(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three workers on two cores: one actor would wait for ever, did not idle ones let it have their place."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 4.0)
    said: list[str] = []
    actors = Actors(Clerk, (0,), Place(workers=3, address=cluster.address), said.append)
    try:
        for task in ("a", "b", "c"):
            actors.submit(task)
        assert sorted(one.task for one in drained(actors)) == ["a", "b", "c"]
        assert "There is no room for another worker; 2 go on." in said
    finally:
        actors.close()
    said.clear()
    actors = Actors(Clerk, (0,), Place(workers=1, address=cluster.address, gpus=0.5), said.append)
    try:
        actors.submit("a")
        began = time.monotonic()
        while not said and time.monotonic() - began < 30:
            assert list(actors.ended(timeout=1)) == []
        assert said[0].startswith(
            "No worker has started for a minute. Each takes 1 CPUs and 0.5 GPUs; free are "
        )  # two CPUs, or fewer while those of the actors before are still given back
    finally:
        actors.close()


@pytest.mark.slow
def test_gpus_that_this_machine_lacks_are_refused_and_a_handler_of_sigterm_stays() -> None:
    def mine(*args: Any) -> None:
        """Another one than Ray's."""

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with pytest.raises(
            ClusterError, match=r"`gpus` of a worker should be at most the \d+ of this machine\. Found 64\."
        ):
            Actors(Clerk, (0,), Place(workers=1, gpus=64))
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, "`workers` should be at least 1. Found 0."),
        ({"threads": 0}, "`threads` should be at least 1. Found 0."),
        ({"cpus": -1}, "`cpus` should be at least 0. Found -1."),
        ({"gpus": -0.5}, "`gpus` should be at least 0. Found -0.5."),
    ],
)
def test_a_wrong_number_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        Place(**options)


def test_device_and_gpus_go_together() -> None:
    check_device(Place(), "cpu")
    check_device(Place(gpus=0.25), "cuda")
    with pytest.raises(
        ClusterError, match="`gpus` should be above 0 for workers on the device cuda, such as"
    ):
        check_device(Place(), "cuda")
    with pytest.raises(ClusterError, match="and 0 on the cpu. Found 1 and cpu."):
        check_device(Place(gpus=1), "cpu")


def test_an_address_where_nothing_listens_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    said = f"should listen at 127.0.0.1:{port}. Found that it cannot be reached"
    with pytest.raises(ClusterError, match=said):
        connect(Place(address=f"127.0.0.1:{port}"))
    said = "`address` should look like 10.0.0.1:6379, or be auto. Found 'here'."
    with pytest.raises(ClusterError, match=said):
        connect(Place(address="here"))


def test_an_address_that_swallows_packets_is_given_up_within_half_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []

    def silent(address: tuple[str, int], timeout: float) -> Any:
        waited.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr("socket.create_connection", silent)
    with pytest.raises(
        ClusterError, match=r"cannot be reached \(timed out\): see `ray status` there, or leave"
    ):
        connect(Place(address="10.255.255.1:6379"))
    assert waited == [30.0]


@pytest.mark.slow
def test_an_address_where_something_else_listens_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_REACH_SECONDS", 8.0)  # half a minute for users
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterError, match=r"cannot be reached \(that something else answers\): see"):
            connect(Place(address=address))
    assert time.monotonic() - began < 20


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=re.escape('on Ray need it: pip install "equipoise[search]".')):
        connect(Place())


def test_without_ray_train_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.train", None)
    with pytest.raises(ClusterError, match=re.escape('need Ray Train: pip install "equipoise[search]".')):
        ray_train()


def test_no_cluster_that_runs_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something listens, but it is no Ray: `ray.init` is what finds out."""

    def refuse(**given: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(
        ClusterError, match="A Ray cluster should run at auto. Could not find any running Ray"
    ):
        connect(Place(address="auto"))
