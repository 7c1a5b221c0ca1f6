"""Searches that learn from what they have seen, and halving that does not wait, against other people's numerics."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from equipoise.search.asha import AsynchronousHalving
from equipoise.search.bohb import ModelBased, _log_density, _width
from equipoise.search.fixed import Halving, sample
from equipoise.search.gaussian import Process, deviation, evidence, expected, fitted
from equipoise.search.generations import Assignment, Result, SearchError, best_of
from equipoise.search.pb2 import Bandit, improvements
from equipoise.search.pbt import PopulationBased, Question
from equipoise.search.rungs import Rungs
from equipoise.search.space import Point, Range, Space
from equipoise.search.weights import Exploration, uniform

Score = Callable[[Assignment], float | None]


def play(algorithm: PopulationBased | ModelBased | Halving, score: Score) -> list[list[Result]]:
    history: list[list[Result]] = []
    while proposed := algorithm.propose(history):
        history.append([Result(one, score(one)) for one in proposed])
    return history


def data(count: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(count, 2, dtype=torch.float64, generator=draws)
    return x, torch.arange(count, dtype=torch.float64) // 3, torch.sin(4 * x[:, 0]) + x[:, 1]


# The Gaussian process


def test_a_process_that_forgets_nothing_is_that_of_scikit_learn() -> None:
    x, t, y = data()
    process = Process(length=0.4, forgetting=0.0, noise=0.1)
    other = GaussianProcessRegressor(RBF(0.4, "fixed"), alpha=0.1, optimizer=None).fit(x.numpy(), y.numpy())
    points = torch.rand(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean, std = other.predict(points.numpy(), return_std=True)
    assert expected(process, x, t, y, points, 9.0).tolist() == pytest.approx(mean.tolist(), rel=1e-9)
    assert deviation(process, x, t, points, 9.0).tolist() == pytest.approx(std.tolist(), rel=1e-7)
    (found,) = evidence(process.covariance(x, t)[None], y).tolist()
    assert found == pytest.approx(other.log_marginal_likelihood(), rel=1e-9)


def test_time_makes_what_was_seen_count_less() -> None:
    x, t, y = data()
    process = Process(0.4, 0.2, 0.1)
    kernel = process.kernel(x, t, x, t)
    by_hand = np.exp(-((x[0] - x[11]) ** 2).sum().item() / (2 * 0.4**2)) * 0.8 ** (3 / 2)
    assert float(kernel[0, 11]) == pytest.approx(by_hand)
    near, far = (deviation(process, x, t, x[:1], time) for time in (0.0, 40.0))
    assert float(near) < 0.4 < 0.99 < float(far)
    assert abs(float(expected(process, x, t, y, x[:1], 200.0))) < 1e-6


def test_the_process_of_the_highest_evidence_is_taken() -> None:
    x, t, _ = data(40)
    process = Process(0.4, 0.1, 0.01)
    draws = torch.Generator().manual_seed(3)
    factor = torch.linalg.cholesky(process.covariance(x, t))
    y = factor @ torch.randn(40, dtype=torch.float64, generator=draws)
    found = fitted(x, t, y)
    best, planted = evidence(torch.stack([one.covariance(x, t) for one in (found, process)]), y).tolist()
    assert best >= planted
    assert found.length in (0.2, 0.4, 0.8) and found.noise == 0.01


# PB2


def pb2(seed: int = 0, **options: int) -> PopulationBased:
    space = Space(3, Exploration(resample=0.25))
    chosen = {"population": 6, "epochs": 20, "interval": 1, **options}
    return PopulationBased(space, seed=seed, explore=Bandit(space), **chosen)


def test_improvements_are_those_of_networks_and_not_of_places() -> None:
    """Member 1 went on from the network of member 0."""
    a, b = (0.2, 0.8), (0.6, 0.4)
    history = [
        [Result(Assignment(0, 0, a, 0, 2), 5.0), Result(Assignment(0, 1, b, 0, 2), 9.0)],
        [Result(Assignment(1, 0, a, 2, 4, 0), 4.0), Result(Assignment(1, 1, b, 2, 4, 0), 2.0)],
        [Result(Assignment(2, 0, a, 4, 5, 0), None), Result(Assignment(2, 1, b, 4, 5, 1), 1.0)],
    ]
    points, times, gains = improvements(history)
    assert [point.weights for point in points] == [a, b, b]
    assert times == [1, 1, 2] and gains.tolist() == [0.5, 1.5, 1.0]


def test_the_bandit_goes_where_scores_fall_fastest() -> None:
    """Twelve improvements, large near one corner: what is chosen lies nearer to it than a draw does."""
    target, space = (0.7, 0.2, 0.1), Space(3)
    draws = torch.Generator().manual_seed(0)
    rows = [[space.drawn(draws) for _ in range(6)] for _ in range(3)]

    def results(generation: int, scores: Sequence[float]) -> list[Result]:
        return [
            Result(
                Assignment(generation, k, p.weights, generation, generation + 1, k if generation else None), s
            )
            for k, (p, s) in enumerate(zip(rows[generation], scores, strict=True))
        ]

    history = [results(0, [10.0] * 6)]
    for generation in (1, 2):
        gains = [1 - math.dist(p.weights, target) for p in rows[generation]]
        before = [one.score or 0.0 for one in history[-1]]
        history.append(results(generation, [b - g for b, g in zip(before, gains, strict=True)]))
    chosen: list[Point] = []
    for k in range(4):
        question = Question(history, rows[2][0], chosen, torch.Generator().manual_seed(k))
        chosen.append(Bandit(space)(question))
    distances = [math.dist(p.weights, target) for p in chosen]
    random = [math.dist(space.drawn(draws).weights, target) for _ in range(200)]
    assert statistics.mean(distances) < 0.6 * statistics.mean(random)
    assert len({p.weights for p in chosen}) == 4  # no two members at one place


def test_pb2_is_a_function_of_its_seed_and_keeps_the_uniform_member() -> None:
    score: Score = lambda one: math.dist(one.weights, (0.7, 0.2, 0.1)) + 5 / one.end  # noqa: E731
    whole = play(pb2(), score)
    assert play(pb2(), score) == whole != play(pb2(1), score)
    assert all(row[0].assignment.weights == uniform(3) for row in whole)
    for k in (1, 2, 3, 12):
        assert pb2().propose(whole[:k]) == [one.assignment for one in whole[k]]
    assert math.dist(best_of(whole).assignment.weights, (0.7, 0.2, 0.1)) < 0.2


def test_member_0_keeps_uniform_weights_but_not_its_learning_rate() -> None:
    space = Space(2, ranges=(Range("lr", 1e-4, 1e-1, 1e-3),))
    algorithm = PopulationBased(space, 4, 20, 1, 0)
    history = play(algorithm, lambda one: abs(math.log10(one.settings["lr"]) + 2))
    zero = [row[0].assignment for row in history]
    assert {one.weights for one in zero} == {(0.5, 0.5)} and len({one.settings["lr"] for one in zero}) > 1
    assert abs(math.log10(best_of(history).assignment.settings["lr"]) + 2) < 0.1


# BOHB


def test_brackets_are_those_of_hyperband() -> None:
    """R = 27 epochs, eta = 3: the table of Li et al., Hyperband, JMLR 2018 has 27, 12, 6 and 4 candidates."""
    algorithm = ModelBased(Space(2), 49, Rungs(27, 1), seed=0)
    history = play(algorithm, lambda one: one.weights[0])
    assert [len(row) for row in history] == [27, 9, 3, 1, 12, 4, 1, 6, 2, 4]
    ends = [row[0].assignment.end for row in history]
    assert ends == [1, 3, 9, 27, 3, 9, 27, 9, 27, 27]
    assert algorithm.members == sum(map(len, history))
    assert history[0][0].assignment.weights == uniform(2)
    assert all(one.assignment.parent is None for k in (0, 4, 7, 9) for one in history[k])


def test_later_brackets_draw_nearer_to_what_was_good() -> None:
    score: Score = lambda one: math.dist(one.weights, (0.7, 0.2, 0.1))  # noqa: E731
    first, last = [], []
    for seed in range(5):
        history = play(ModelBased(Space(3), 49, Rungs(27, 1), seed=seed), score)
        first += [score(one.assignment) or 0.0 for one in history[0][1:]]
        last += [score(one.assignment) or 0.0 for one in history[9]]
    assert statistics.median(last) < 0.7 * statistics.median(first)
    again = play(ModelBased(Space(3), 49, Rungs(27, 1), seed=4), score)
    assert again == history


def test_densities_are_those_of_scipy() -> None:
    draws = torch.Generator().manual_seed(0)
    rows = torch.rand(9, 1, dtype=torch.float64, generator=draws)
    points = torch.rand(5, 1, dtype=torch.float64, generator=draws)
    other = stats.gaussian_kde(rows[:, 0].numpy(), "scott").logpdf(points[:, 0].numpy())
    found = _log_density(rows, _width(rows), points) - math.log(2 * math.pi) / 2
    assert found.tolist() == pytest.approx(other.tolist(), rel=1e-9)


def test_a_bracket_in_which_all_diverged_makes_room_for_the_next() -> None:
    algorithm = ModelBased(Space(2), 10, Rungs(9, 1), seed=0)
    history = play(algorithm, lambda one: None if one.generation == 1 else one.weights[0])
    assert [(len(row), row[0].assignment.end) for row in history] == [(9, 1), (3, 3), (1, 3), (1, 9)]
    assert best_of(history).assignment.generation == 3
    last = play(algorithm, lambda one: None if one.generation == 3 else one.weights[0])
    assert best_of(last).assignment.end == 9 and best_of(last).assignment.generation == 2


# ASHA


def run(algorithm: AsynchronousHalving, score: Score, workers: int, seed: int = 0) -> list[Result]:
    """Workers that take what has been trained for longest first, and end in any order."""
    order = torch.Generator().manual_seed(seed)
    results: list[Result] = []
    running: list[Assignment] = []
    while True:
        taken = {one.place for one in running} | {one.assignment.place for one in results}
        waiting = [one for one in algorithm.ready(results) if one.place not in taken]
        waiting.sort(key=lambda one: (-one.generation, one.member))
        running += waiting[: workers - len(running)]
        if not running:
            return results
        one = running.pop(int(torch.randint(len(running), (), generator=order)))
        results.append(Result(one, score(one)))


def asha(count: int = 27, epochs: int = 9) -> AsynchronousHalving:
    return AsynchronousHalving(sample(Space(2), count, 0), Rungs(epochs, 1))


@pytest.mark.parametrize("workers", [1, 4])
def test_candidates_go_on_while_they_are_among_the_best_so_far(workers: int) -> None:
    score: Score = lambda one: abs(one.weights[0] - 0.9)  # noqa: E731
    results = run(asha(), score, workers)
    by_rung = [[one for one in results if one.assignment.generation == rung] for rung in range(3)]
    assert len(by_rung[0]) == 27
    for rung in (0, 1):
        on = {one.assignment.member for one in by_rung[rung + 1]}
        allowed = set()
        for number in range(3, len(by_rung[rung]) + 1):  # whoever was in the best third at some time
            order = sorted(by_rung[rung][:number], key=lambda one: one.score or 0.0)
            allowed |= {one.assignment.member for one in order[: number // 3]}
        assert on == allowed
    nearest = min(sample(Space(2), 27, 0), key=lambda p: abs(p.weights[0] - 0.9))
    assert best_of([by_rung[0], by_rung[1], by_rung[2]]).assignment.weights == nearest.weights
    first = next(k for k, one in enumerate(results) if one.assignment.generation == 1)
    assert first < 26  # it did not wait for the rung to be whole


def test_a_search_that_stops_anywhere_goes_on_from_what_was_recorded() -> None:
    results = run(asha(), lambda one: one.weights[0], 1)
    for k in (0, 1, 7, 20, len(results)):
        known = {one.place for one in asha().ready(results[:k])}
        assert {one.assignment.place for one in results[:k]} <= known
    assert {one.place for one in asha().ready(results)} == {one.assignment.place for one in results}


def test_two_candidates_still_have_a_winner_at_the_end() -> None:
    results = run(asha(2), lambda one: one.weights[0], 1)
    assert [one.assignment.end for one in results] == [1, 1, 3, 9]
    assert asha(2).ready(results)[-1] == results[-1].assignment


def test_none_of_those_that_diverged_goes_on() -> None:
    results = run(asha(9), lambda one: None if one.member != 4 else 1.0, 1)
    assert [one.assignment.member for one in results if one.assignment.generation] == [4, 4]
    with pytest.raises(SearchError, match="Every candidate diverged: lower the learning rate."):
        run(asha(9), lambda one: None, 1)


def test_where_the_best_diverges_later_the_next_best_goes_on() -> None:
    """Of five candidates one is promoted, and diverges; the others still lead to an end."""
    score: Score = lambda one: None if one.generation == 1 and one.member in (0, 3) else float(one.member)  # noqa: E731
    results = run(asha(5), score, 1)
    assert [one.assignment.place for one in results[5:]] == [(1, 0), (1, 1), (2, 1)] or best_of(
        [results]
    ).assignment.end == 9
    assert asha(5).ready(results) == [
        one.assignment for one in sorted(results, key=lambda one: one.assignment.place)
    ]
    in_step = play(Halving(sample(Space(2), 5, 0), Rungs(9, 1)), lambda one: None if one.generation else 1.0)
    assert [len(row) for row in in_step] == [5, 2] and best_of(in_step).assignment.end == 1


def test_halving_in_step_says_how_many_members_it_has() -> None:
    with warnings.catch_warnings():
        algorithm = Halving(sample(Space(2), 10, 0), Rungs(10, 2))
        assert sum(map(len, play(algorithm, lambda one: one.weights[0]))) == algorithm.members
