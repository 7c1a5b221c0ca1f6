"""Four workers of a search on one GPU: `pytest -m cuda tests/cuda/test_search_on_gpu.py`. Nobody has run it yet."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.cluster.actors import Actors
from equipoise.cluster.connection import Place
from equipoise.search.driver import run_search
from equipoise.search.generations import Assignment, Result
from equipoise.search.member import Setting, train_member
from equipoise.search.pbt import PopulationBased
from equipoise.search.space import Space
from equipoise.search.workers import Job, workers
from search.domains_toy import Tug, config, make

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: nothing was checked"),
    pytest.mark.filterwarnings("default"),  # those of drivers and devices are not ours
]
QUARTER = Place(workers=4, gpus=0.25)


class Probe:
    """Says what an actor sees."""

    def work(self, task: int) -> Any:
        held = torch.ones(2**20, device="cuda")
        time.sleep(2)  # so that all four are at work at a time
        return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], torch.cuda.device_count(), float(held.sum())


def test_a_quarter_of_a_gpu_is_one_device_for_each_of_four_actors() -> None:
    pytest.importorskip("ray")
    actors = Actors(Probe, (), QUARTER)
    try:
        for task in range(4):
            actors.submit(task)
        found = []
        while actors.running:
            found += [ended.value for ended in actors.ended()]
    finally:
        actors.close()
    assert len({pid for pid, _, _, _ in found}) == 4
    assert len({visible for _, visible, _, _ in found}) == 1
    assert all(count == 1 and total == 2**20 for _, _, count, total in found)


def test_four_members_on_one_gpu_find_what_one_process_finds_there(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    chosen = config(epochs=4, mixing="sampled").model_copy(update={"device": "cuda"})
    setting = Setting(chosen, "sampling")
    for name in ("alone", "ray"):
        (tmp_path / name).mkdir()

    def alone(waiting: list[Assignment]) -> Iterator[Result]:
        while waiting:
            yield train_member(make, setting, waiting.pop(0), tmp_path / "alone")

    def algorithm() -> PopulationBased:
        return PopulationBased(Space(2), population=4, epochs=4, interval=2, seed=0)

    expected = run_search(algorithm(), alone, tmp_path / "alone")
    with workers(Job(Tug, setting, tmp_path / "ray"), QUARTER) as train:
        found = run_search(algorithm(), train, tmp_path / "ray")
    for mine, other in zip(found, expected, strict=True):
        assert [one.assignment for one in mine] == [one.assignment for one in other]
        assert [one.score for one in mine] == pytest.approx([one.score for one in other], rel=1e-4)
