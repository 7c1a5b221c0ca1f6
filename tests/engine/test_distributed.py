"""Two ranks are one rank with both batches, for every method."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

import ranks
from rank_cases import SPECS, Case, Trained, alone, complaints, dies, on_rank
from two_ranks import answers, assert_same

FEW = ("ls", "uw", "nashmtl", "graddrop", "mgda+every:steps=2")
CASES = [
    *(Case(spec) for spec in FEW),
    *(Case(spec, split=5, counts=True) for spec in FEW),
    *(Case(spec, split=5, counts=True, absent=True) for spec in SPECS),
    *(
        Case(spec, ddp={option: True}, kind="conv no norm")
        for spec in FEW
        for option in ("find_unused_parameters", "gradient_as_bucket_view", "static_graph")
    ),
    Case("mgda", ddp=None),
    Case("ls", split=5, counts=True, ddp=None),
]
MORE = [
    case for spec in SPECS for case in (Case(spec), Case(spec, split=5, counts=True)) if case not in CASES
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Trained]]:
    return answers(on_rank, CASES, tmp_path_factory.mktemp("ranks"))


def check(case: Case, found: list[Trained]) -> None:
    # 20 inner steps of size 10 a step magnify roundings.
    assert_same(found, alone(case), 1e-7 if case.spec == "sdmgrad" else 1e-10)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_ranks_are_one_with_both_batches(case: Case, found: dict[str, list[Trained]]) -> None:
    check(case, found[str(case)])


@pytest.mark.slow
def test_two_ranks_with_every_label_are_one_for_every_method(tmp_path: Path) -> None:
    found = answers(on_rank, MORE, tmp_path)
    for case in MORE:
        check(case, found[str(case)])


def test_what_cannot_be_put_together_is_refused_on_every_rank(tmp_path: Path) -> None:
    for said in ranks.run(complaints, 2, tmp_path):
        assert re.search(
            r"state of the method should be the same on every rank. Found another one on rank", said["seeds"]
        )
        assert re.search(r"The network should be the same on every rank", said["networks"])
        assert re.search(
            r"every rank has to see the same network with all losses in its first step", said["first step"]
        )
        assert re.search(r"Found that ranks \[1\] lack some: pass counts=", said["lacking"])
        assert re.search(r"Every loss should be finite for LS. Found task 1: nan \(rank 1\)", said["nan"])
        assert said["untouched"]


def test_the_other_ranks_stop_when_one_dies(tmp_path: Path) -> None:
    began = time.monotonic()
    processes = ranks.start(dies, 2, tmp_path)
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert time.monotonic() - began < 60
    assert "Every rank should join the reduction of losses and gradients. Found that one did not" in said[0]
    assert processes[0].returncode == 1
