"""Two ranks that share out the parameters are one rank with all of them, for every method that allows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import equipoise as eq
import ranks
from rank_cases import SIZE
from sharded_cases import Case, Trained, alone, complaints, on_rank, passes
from two_ranks import answers, assert_same

ALLOWED = sorted(name for name in eq.METHODS if eq.build_method(name, 3).reads < eq.Reads.JACOBIAN)
SPECIAL = [
    "go4align:indicator=grad_norm",
    "mgda:normalization=loss+",
    "famo+grouped",
    "nashmtl+every:steps=3",
    "mgda+ema",
    "upgrad+clip_norm",
    "cagrad+log_losses",
]
# What a method sees in shards is what it sees without, reduced losses and a Gramian, and test_distributed.py has every
# method. Here are some of each kind by default: with and without a state, with learned weights, and all head weights.
SOME = [
    *("coba", "constant", "famo", "go4align", "imtl_l", "ldc_mtl", "rlw", "stch"),  # read losses
    *("cagrad", "fairgrad", "gradnorm", "imtl", "imtl_g", "krum", "upgrad"),  # read the Gramian
]
FEW = ("ls", "uw", "mgda", "nashmtl", "pcgrad", "nashmtl+every:steps=3", "famo+clip_norm:max_norm=0.1")


def variants(spec: str) -> list[Case]:
    """Other ways to shard and to step; weights that are learnt are left out of micro-batches."""
    length = [] if spec == "uw" else [Case(spec, length=2)]
    return [Case(spec, parts="layers"), Case(spec, mesh=(2, 1)), Case(spec, kept=True), *length]


CASES = [
    *(Case(spec) for spec in FEW),
    *(Case(spec, split=5, counts=True) for spec in (*SOME, *SPECIAL)),
    *(Case(spec, split=5, counts=True, absent=True) for spec in FEW),
    *(Case(spec, heads=heads) for spec in ("ls", "mgda") for heads in ("unit", "log")),
    *(case for spec in ("ls", "nashmtl", "pcgrad") for case in variants(spec)),
    *(Case(spec, kind="conv no norm") for spec in ("ls", "upgrad")),
]
MORE = [
    *(case for spec in (*ALLOWED, *SPECIAL) if (case := Case(spec)) not in CASES),
    *(case for spec in ALLOWED if (case := Case(spec, split=5, counts=True)) not in CASES),
    *(case for spec in FEW for case in variants(spec) if case not in CASES),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Trained]]:
    return answers(on_rank, CASES, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_ranks_with_shards_are_one_with_both_batches(case: Case, found: dict[str, list[Trained]]) -> None:
    assert_same(found[str(case)], alone(case), 1e-10)


@pytest.mark.slow
def test_two_ranks_are_one_for_every_method_and_every_way_to_shard(tmp_path: Path) -> None:
    found = answers(on_rank, MORE, tmp_path)
    for case in MORE:
        assert_same(found[str(case)], alone(case), 1e-10)


def test_what_cannot_work_in_shards_is_refused(tmp_path: Path) -> None:
    for said in ranks.run(complaints, 2, tmp_path):
        for spec, name in (("graddrop", "GradDrop"), ("modo", "MoDo")):
            assert re.search(
                "each rank has only some columns of the Jacobian. Found "
                + name
                + ", which reads all of it: choose",
                said[spec],
            )
        for hidden in ("hidden", "hidden counts"):
            assert re.search(
                r"`shared` should name the shared ones. Found one of shape \(.*\) that was not given as sharded",
                said[hidden],
            )
        for lacking in ("first step", "later"):
            assert re.search(
                r"every rank should give the losses of all tasks .*. Found that ranks \[1\] lack some",
                said[lacking],
            )
        assert re.search(r"Every loss should be finite for MGDA. Found b: nan", said["nan"])
        assert re.search(
            r"`measure` should be asked for losses only .*. Found a method that reads", said["measure"]
        )
        assert said["untouched"]
        assert re.search(
            r"All parameters should be sharded .*. Found one of shape \(.*\) that is whole", said["half"]
        )
        assert said["half untouched"]
        assert re.search(r"Found one of shape \(1, 8\) that is whole, and 2 ranks", said["mixed"])


def test_each_pass_gathers_and_reduces_parameters_once(tmp_path: Path) -> None:
    for counted in ranks.run(passes, 2, tmp_path):
        losses, rows = counted["ls"], counted["mgda"]
        assert losses == {"losses": 1, "parameters": 1, "gradients": 1, "gramian": 0}  # as without a Balancer
        assert rows == {"losses": 1, "parameters": 3, "gradients": 3, "gramian": 1}


def test_one_rank_alone_may_shard_too(tmp_path: Path) -> None:
    cases = [Case(spec, split=SIZE, mesh=(1,), parts="layers") for spec in ("ls", "mgda", "nashmtl")]
    (found,) = ranks.run(on_rank, 1, tmp_path, cases)
    for case, (parameters, _) in zip(cases, found, strict=True):
        for name, value in alone(case)[0].items():
            torch.testing.assert_close(parameters[name], value, rtol=1e-10, atol=1e-10)
