"""Members on Ray: the same numbers as in this process, a worker that is killed, and what cannot be reached."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from equipoise.search.cluster import Job, Place, workers
from equipoise.search.driver import run_search
from equipoise.search.generations import Assignment, Result, SearchError
from equipoise.search.member import Setting, train_member
from equipoise.search.pbt import PopulationBased
from equipoise.search.space import Space
from search.domains_toy import Tug, config, make

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


def algorithm() -> PopulationBased:
    return PopulationBased(Space(2), population=4, epochs=4, interval=2, seed=0)


def told(history: Sequence[Sequence[Result]]) -> list[tuple[Any, ...]]:
    return [(one.assignment, one.score, dict(one.metrics)) for row in history for one in row]


@pytest.mark.slow
def test_two_workers_find_what_this_process_finds_and_outlive_a_kill(tmp_path: Path) -> None:
    setting = Setting(config(epochs=4, mixing="sampled"), "sampling")

    def alone(waiting: list[Assignment]) -> Iterator[Result]:
        while waiting:
            yield train_member(make, setting, waiting.pop(0), tmp_path / "alone")

    for name in ("alone", "ray"):
        (tmp_path / name).mkdir()
    expected = told(run_search(algorithm(), alone, tmp_path / "alone"))
    said: list[str] = []
    deadly = tmp_path / "deadly"
    deadly.touch()
    killing = Setting(config(epochs=4, mixing="sampled", deadly=str(deadly)), "sampling")
    with workers(Job(Tug, killing, tmp_path / "ray"), Place(workers=2), said.append) as train:
        found = told(run_search(algorithm(), train, tmp_path / "ray"))
    assert found == expected
    assert not deadly.exists()
    assert sum("died; that goes on from its last checkpoint." in text for text in said) == 1


@pytest.mark.slow
def test_a_search_outlives_a_node_of_its_cluster(tmp_path: Path) -> None:
    """Three raylets on this machine; one with a worker on it is killed between two generations."""
    from ray.cluster_utils import Cluster

    setting = Setting(config(epochs=4, mixing="sampled"), "sampling")
    for name in ("alone", "ray"):
        (tmp_path / name).mkdir()

    def alone(waiting: list[Assignment]) -> Iterator[Result]:
        while waiting:
            yield train_member(make, setting, waiting.pop(0), tmp_path / "alone")

    expected = told(run_search(algorithm(), alone, tmp_path / "alone"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    said: list[str] = []
    heard: list[Result] = []

    def hear(result: Result) -> None:
        heard.append(result)
        if len(heard) == 4:  # all of the first generation
            cluster.remove_node(nodes[1], allow_graceful=False)

    try:
        job = Job(Tug, setting, tmp_path / "ray")
        with workers(job, Place(workers=2, address=cluster.address), said.append) as train:
            found = told(run_search(algorithm(), train, tmp_path / "ray", hear))
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    assert found == expected
    assert any("died; that goes on from its last checkpoint" in text for text in said)


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
    with pytest.raises(SearchError, match=said):
        Place(**options)


def test_an_address_where_nothing_listens_is_said_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    job = Job(Tug, Setting(config(), "losses"), tmp_path)
    with (
        pytest.raises(
            SearchError, match=f"should listen at 127.0.0.1:{port}. Found that it cannot be reached"
        ),
        workers(job, Place(address=f"127.0.0.1:{port}")),
    ):
        pass
    with (
        pytest.raises(
            SearchError, match="`address` should look like 10.0.0.1:6379, or be auto. Found 'here'."
        ),
        workers(job, Place(address="here")),
    ):
        pass


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    job = Job(Tug, Setting(config(), "losses"), tmp_path)
    message = re.escape('need Ray: pip install "equipoise[search]".')
    with pytest.raises(SearchError, match=message), workers(job, Place()):
        pass
