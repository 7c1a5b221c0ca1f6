"""Training anew after a search: constant weights and schedules against plain runs, intervals against a table."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from scipy import stats

from equipoise.search.generations import Assignment, Result, SearchError
from equipoise.search.member import Setting
from equipoise.search.retrain import (
    FILE,
    Retrained,
    append_retrained,
    read_retrained,
    retrain,
    stretched,
    variants,
)
from equipoise.search.space import Point
from equipoise.training.comparison import compared
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks, InterruptedRunError
from search.domains_toy import by_hand, config, make

A, B = Point((0.2, 0.8), {}), Point((0.7, 0.3), {})
HALF = Point((0.5, 0.5), {})


def stopping(last: int) -> Hooks:
    """Asks for a stop after so many steps."""
    steps = itertools.count(1)
    return Hooks(stop=lambda: next(steps) == last)


@pytest.mark.parametrize("act", ["losses", "sampling"])
def test_constant_weights_are_a_plain_run_on_the_whole_training_part(act: str, tmp_path: Path) -> None:
    setting = Setting(config(mixing="together" if act == "losses" else "sampled"), act)  # type: ignore[arg-type]
    found = retrain(make, setting, [(0, A)], tmp_path / "found")
    wanted = setting.at(A)
    plain = Trainer(make(wanted.options), wanted, tmp_path / "plain", tmp_path / "plain.pt").run()
    assert (found.metrics, found.steps, found.best_epoch) == (plain.metrics, plain.steps, plain.best_epoch)
    assert not list((tmp_path / "found").glob("checkpoint*"))


@pytest.mark.parametrize("act", ["losses", "sampling"])
def test_a_schedule_changes_weights_where_it_says_however_often_it_is_stopped(
    act: str, tmp_path: Path
) -> None:
    setting = Setting(config(mixing="together" if act == "losses" else "sampled"), act)  # type: ignore[arg-type]
    whole = retrain(make, setting, [(0, A), (2, B), (5, A)], tmp_path / "whole")
    same = retrain(make, setting, [(0, A), (2, A), (5, A)], tmp_path / "same")
    assert same.metrics == retrain(make, setting, [(0, A)], tmp_path / "one").metrics != whole.metrics
    cut, stops = None, 0
    while cut is None:
        hooks = stopping(11 + stops)
        try:
            cut = retrain(make, setting, [(0, A), (2, B), (5, A)], tmp_path / "cut", hooks)
        except InterruptedRunError:
            stops += 1
    assert stops >= 3
    assert cut.metrics == whole.metrics


def test_a_schedule_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    chosen = config()
    last = chosen.model_copy(
        update={"train": chosen.train.model_copy(update={"report": "last", "last_epochs": 1})}
    )
    schedule = [(0, A), (2, B), (5, A)]
    found = retrain(make, Setting(last, "losses"), schedule, tmp_path)
    loaders = make({}).loaders(0)
    model = by_hand(loaders.train, [(begin, point.weights) for begin, point in schedule], 6)
    with torch.no_grad():
        expected = make({}).evaluate(model, loaders.test)
    assert found.metrics["test"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("begins", [(1,), (0, 3, 2), (0, 2, 2), (0, 6)])
def test_a_schedule_that_cannot_be_is_refused(begins: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(
        SearchError, match="begin at epoch 0 and rise to less than 6. Found changes at epochs"
    ):
        retrain(make, Setting(config(), "losses"), [(begin, A) for begin in begins], tmp_path)


def test_three_variants_come_from_a_search() -> None:
    history = [
        [Result(Assignment(0, 0, HALF[0], 0, 2), 2.0), Result(Assignment(0, 1, A[0], 0, 2), 1.0)],
        [Result(Assignment(1, 0, B[0], 2, 4, 1), 0.5), Result(Assignment(1, 1, A[0], 2, 4, 1), 1.0)],
        [Result(Assignment(2, 0, B[0], 4, 6, 0), 0.25), Result(Assignment(2, 1, A[0], 4, 6, 1), 1.0)],
    ]
    assert variants(history, HALF) == {
        "uniform": [(0, HALF)],
        "constant": [(0, B)],
        "schedule": [(0, A), (2, B)],
    }


def test_uniform_weights_are_trained_with_the_settings_of_the_winner() -> None:
    tuned = {"lr": 0.3}
    history = [
        [
            Result(Assignment(0, 0, HALF[0], 0, 6, None, {"lr": 0.1}), 2.0),
            Result(Assignment(0, 1, A[0], 0, 6, None, tuned), 1.0),
        ]
    ]
    found = variants(history, Point(HALF[0], {"lr": 0.1}))
    assert found == {"uniform": [(0, Point(HALF[0], tuned))], "constant": [(0, Point(A[0], tuned))]}


def test_a_schedule_is_stretched_to_the_length_of_another_run() -> None:
    schedule = [(0, A), (2, B), (5, A)]
    assert stretched(schedule, 6, 6) == schedule
    assert stretched(schedule, 6, 12) == [(0, A), (4, B), (10, A)]
    assert stretched(schedule, 6, 3) == [(0, A), (1, B), (2, A)]
    assert stretched([(0, A), (1, B), (2, A)], 6, 2) == [
        (0, B),
        (1, A),
    ]  # two changes in one epoch: the later one
    assert stretched([(0, A), (5, B)], 6, 1) == [(0, A)]


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    scores, others = [1.0, 2.5, 2.0, 4.0], [1.5, 2.0, 3.5, 5.5]
    found = compared(scores, others)
    interval = stats.ttest_rel(scores, others).confidence_interval(0.95)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx(tuple(interval), abs=1e-3)
    assert found.p == pytest.approx(float(stats.ttest_rel(scores, others).pvalue), rel=1e-9)
    assert compared([1.0, 1.1, 0.9], [5.0, 5.2, 4.9]).p < 0.001
    assert (compared([1.0, 1.0], [1.0, 1.0]).p, compared([1.0, 1.0], [2.0, 2.0]).p) == (1.0, 1.0)
    assert compared([1.0], [2.0]).half == math.inf
    with pytest.raises(ValueError, match="`scores` and `others` should be equally many. Found 1 and 2."):
        compared([1.0], [1.0, 2.0])


@pytest.mark.parametrize("count", [2, 3, 10, 40])
def test_points_of_student_s_t_are_those_of_scipy(count: int) -> None:
    differences = [float(k % 3) for k in range(count)]
    found = compared(differences, [0.0] * count)
    half = stats.t.ppf(0.975, count - 1) * stats.sem(differences)
    assert found.half == pytest.approx(float(half), rel=1e-9)
    less = stats.t.ppf(1 - 0.01 / 2, count - 1) * stats.sem(differences)
    assert found.visible(0.01) == pytest.approx(float(less), rel=1e-9)


def test_what_was_trained_is_read_back_and_a_torn_line_is_not(tmp_path: Path) -> None:
    first, second = (Retrained("uniform", seed, 0.5, {"low_mse": 1.0}, 2.0) for seed in (0, 1))
    assert read_retrained(tmp_path) == []
    append_retrained(tmp_path, first)
    with open(tmp_path / FILE, "a") as file:
        file.write('{"variant": "uni')
    assert read_retrained(tmp_path) == [first]
    append_retrained(tmp_path, second)
    assert read_retrained(tmp_path) == [first, second]
