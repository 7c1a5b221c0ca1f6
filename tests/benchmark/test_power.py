"""How many seeds it takes: against scipy's noncentral t, a known value, and a simulation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scipy import stats

from equipoise.benchmark.power import Noise, noises_of, power, power_lines, seeds_needed
from equipoise.benchmark.records import RunDirectoryError
from equipoise.training.comparison import compared
from report.run_directory import Shape, many_tasks, write_run_directory


@pytest.mark.parametrize("seeds", [2, 3, 5, 20, 400])
@pytest.mark.parametrize(("difference", "level"), [(0.4, 0.05), (-2.0, 0.05 / 13)])
def test_power_is_that_of_scipy(seeds: int, difference: float, level: float) -> None:
    limit, shift = stats.t.isf(level / 2, seeds - 1), abs(difference) / 1.5 * math.sqrt(seeds)
    known = stats.nct.sf(limit, seeds - 1, shift) + stats.nct.cdf(-limit, seeds - 1, shift)
    assert power(difference, 1.5, seeds, level) == pytest.approx(float(known), abs=1e-5)


def test_34_pairs_see_half_a_standard_deviation() -> None:
    """The textbook case (G*Power, paired t test, d = 0.5, 5 %, 80 %): 34 pairs."""
    assert seeds_needed(0.5, 1.0, 1) == 34
    assert seeds_needed(-2.0, 4.0, 1) == 34
    assert seeds_needed(1e-3, 1.0, 1) is None


def test_a_simulation_finds_the_difference_as_often_as_it_says() -> None:
    seeds = seeds_needed(2.0, 1.0, 3)
    assert seeds is not None
    noise = torch.randn(600, seeds, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sum(compared((row + 2).tolist(), [0.0] * seeds).p < 0.05 / 3 for row in noise) / 600
    assert 0.76 <= found <= 0.95
    assert power(2.0, 1.0, seeds - 1, 0.05 / 3) < 0.8 <= power(2.0, 1.0, seeds, 0.05 / 3)


def test_the_noise_is_that_of_a_run_directory(tmp_path: Path) -> None:
    shape = Shape(
        methods=("ls", "uw", "famo", "nashmtl"), seeds=4, epochs=1, steps=1, problem="toy", preset="paper"
    )
    write_run_directory(tmp_path, shape, many_tasks(3))
    typical, top = noises_of(tmp_path)
    assert 0 < typical.std <= top.std
    assert typical.source == f"the median of 3 methods in {tmp_path}"
    assert "the noisiest method" in top.source


def test_a_directory_without_differences_is_refused(tmp_path: Path) -> None:
    shape = Shape(methods=("uw", "famo"), seeds=3, epochs=1, steps=1, problem="toy")
    write_run_directory(tmp_path, shape, many_tasks(2))
    with pytest.raises(RunDirectoryError, match="`like` should hold `ls` and another method .* by --noise"):
        noises_of(tmp_path)


def test_the_sentence_says_what_it_rests_on() -> None:
    (line,) = power_lines(-0.5, 1, [Noise(1.0, "as you gave it")])
    assert line.startswith("To see a difference of 0.5 points of delta_m to ls takes 34 seeds")
    assert "1 points (as you gave it)" in line
    assert line.endswith("Holm's correction for 1 comparison.")
    assert "more than 10000 seeds" in power_lines(1e-4, 3, [Noise(1.0, "x")])[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, 1), "`difference` should be a number other than 0. Found 0."),
        ((math.nan, 1.0, 1), "`difference` should be a number other than 0. Found nan."),
        ((1.0, 0.0, 1), "`noise` should be a number above 0. Found 0."),
        ((1.0, 1.0, 0), "`tests` should be at least 1. Found 0."),
    ],
)
def test_values_out_of_range_are_refused(arguments: tuple[float, float, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seeds_needed(*arguments)
