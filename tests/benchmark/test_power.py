"""How many seeds it takes: against scipy's noncentral t, a known value, and a simulation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from equipoise.benchmark.plan import PlanError
from equipoise.benchmark.power import (
    PairedNoise,
    asked,
    difference_seen,
    noises_of,
    power,
    power_lines,
    seeds_needed,
)
from equipoise.benchmark.records import Plan, RunDirectoryError
from equipoise.cli import app
from equipoise.training.comparison import compared
from report.run_directory import Shape, make_plan, many_tasks, write_run_directory


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
    typical, top = noises_of(tmp_path, "toy")
    assert 0 < typical.std <= top.std
    assert typical.source == f"the median of 3 methods in {tmp_path}"
    assert "the noisiest method" in top.source


def test_a_directory_without_differences_is_refused(tmp_path: Path) -> None:
    shape = Shape(methods=("uw", "famo"), seeds=3, epochs=1, steps=1, problem="toy")
    write_run_directory(tmp_path, shape, many_tasks(2))
    with pytest.raises(RunDirectoryError, match="`like` should hold `ls` and another method .* by --noise"):
        noises_of(tmp_path, "toy")
    with pytest.raises(RunDirectoryError, match="`like` should hold runs of qm9.* Found runs of toy in"):
        noises_of(tmp_path, "qm9")


def test_the_sentence_says_what_it_rests_on() -> None:
    (line,) = power_lines(-0.5, 1, [PairedNoise(1.0, "as you gave it")])
    assert line.startswith("To see a difference of 0.5 points of delta_m to ls takes 34 seeds")
    assert "1 points (as you gave it)" in line
    assert line.endswith("Holm's correction for 1 comparison.")
    assert "more than 10000 seeds" in power_lines(1e-4, 3, [PairedNoise(1.0, "x")])[0]


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


def test_what_the_planned_seeds_show_is_found_in_four_of_five_cases() -> None:
    seen = difference_seen(2.0, 5, 3)
    assert power(seen, 2.0, 5, 0.05 / 3) == pytest.approx(0.8, abs=1e-6)
    assert seeds_needed(seen * 1.001, 2.0, 3) == 5
    assert math.isinf(difference_seen(2.0, 1, 3)) and math.isfinite(difference_seen(2.0, 2, 3))


def plan_of(*methods: str, seeds: int = 5) -> Plan:
    return make_plan(Shape(methods=methods, seeds=seeds), many_tasks(2))


def test_a_plan_is_told_what_it_takes(tmp_path: Path) -> None:
    needed, shown = asked(plan_of("ls", "uw", "famo"), 2.0, 1.5, None, shown=True)
    assert f"takes {seeds_needed(2.0, 1.5, 2)} seeds" in needed and "(as given)" in needed
    assert shown == f"The 5 planned seeds show differences from {difference_seen(1.5, 5, 2):.3g} points on."
    assert asked(plan_of("ls", "uw", seeds=1), 2.0, 1.5, None, shown=True)[1].startswith(
        "The planned seed shows no"
    )
    assert asked(plan_of("uw"), None, None, None, shown=False) == []
    shape = Shape(methods=("ls", "uw"), seeds=3, epochs=1, steps=1)
    write_run_directory(tmp_path, shape)
    (line, _) = asked(plan_of("ls", "uw"), 2.0, None, tmp_path, shown=True)
    assert f"(uw in {tmp_path})" in line


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        (("ls", "uw"), (None, 1.0, None, True), "`difference` should be given with --noise or --like"),
        (("ls", "uw"), (2.0, 1.0, None, False), "`difference` should come with --plan"),
        (("ls", "uw"), (2.0, None, None, True), "Found neither."),
        (("ls", "uw"), (2.0, 1.0, Path("x"), True), "Found both."),
        (("ls",), (2.0, 1.0, None, True), "`methods` should hold ls and another one"),
        (
            ("uw", "famo"),
            (2.0, 1.0, None, True),
            "`methods` should hold ls and another one.* Found uw, famo.",
        ),
        (("ls", "uw"), (2.0, -1.0, None, True), "`noise` should be a number above 0. Found -1."),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    methods: tuple[str, ...], options: tuple[float | None, float | None, Path | None, bool], message: str
) -> None:
    difference, noise, like, shown = options
    with pytest.raises(PlanError, match=message):
        asked(plan_of(*methods), difference, noise, like, shown=shown)


def test_the_command_answers_below_the_plan() -> None:
    line = ["bench", "digits", "--preset", "smoke", "--methods", "ls,uw", "--seeds", "4", "--plan"]
    found = CliRunner().invoke(app, [*line, "--difference", "2", "--noise", "3"])
    assert found.exit_code == 0, found.output
    assert "takes 20 seeds" in found.output and "The 4 planned seeds show differences from" in found.output
    assert CliRunner().invoke(app, [*line, "--difference", "2"]).exit_code == 2
