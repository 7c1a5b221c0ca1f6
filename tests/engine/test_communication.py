"""What the ranks exchange is what docs/distributed.md says, and one rank exchanges nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import equipoise as eq
import ranks
from communication_cases import SHARED, TASKS, alone, counting, network, on_rank, row, terms, times_m
from equipoise.engine.distributed import Ranks

FEW = ["coba", "graddrop", "ls", "mgda", "modo", "uw"]  # one of each kind of row
SPECS = [*sorted(eq.METHODS), "famo+grouped", "nashmtl+every:steps=3"]


def page() -> list[str]:
    """The lines of the table."""
    text = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text()
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_the_page_lists_every_method() -> None:
    assert [line.split("`")[1] for line in page()] == sorted(eq.METHODS)


def said_and_counted(specs: list[str], where: Path) -> None:
    lines = {line.split("`")[1]: line for line in page()}
    for found in ranks.run(on_rank, 2, where, specs):
        assert {spec: row(spec, found[spec]) for spec in specs} == {spec: lines[spec] for spec in specs}


def test_the_page_says_what_is_counted(tmp_path: Path) -> None:
    said_and_counted(FEW, tmp_path)


@pytest.mark.slow
def test_the_page_says_what_is_counted_for_every_method(tmp_path: Path) -> None:
    said_and_counted(sorted(eq.METHODS), tmp_path)


def test_no_process_group_costs_no_collective() -> None:
    """Without a group every collective would be an error; none is tried."""
    assert {spec: sizes for spec, sizes in alone(0, SPECS).items() if sizes} == {}


def test_a_world_of_one_costs_no_collective(tmp_path: Path) -> None:
    (found,) = ranks.run(alone, 1, tmp_path, SPECS)
    assert {spec: sizes for spec, sizes in found.items() if sizes} == {}


def test_the_count_sees_a_collective() -> None:
    with counting() as counted, pytest.raises(ValueError, match="Default process group has not been init"):
        Ranks().sum(next(network().parameters()).detach())
    assert counted.sizes == [48]


def test_units_of_the_table() -> None:
    assert terms([2 * TASKS, *[SHARED] * TASKS]) == "2 m + m n"
    assert terms([]) == "0"
    assert [times_m(k) for k in (0, 1, TASKS, 2 * TASKS + 1, TASKS - 1)] == [
        "0",
        "1",
        "m",
        "2 m + 1",
        "m - 1",
    ]
