"""Who decides what members do next: population-based training, halving, samples and grids, on made-up scores."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from equipoise.search.fixed import Candidates, Halving, grid, sample
from equipoise.search.genealogy import FILE, append_result, check_results, generations, read_results
from equipoise.search.generations import (
    Algorithm,
    Assignment,
    Result,
    SearchError,
    best_of,
    ranked,
    schedule_of,
)
from equipoise.search.pbt import PopulationBased
from equipoise.search.rungs import Rungs
from equipoise.search.space import Point, Space
from equipoise.search.weights import Exploration, Weights, uniform

Score = Callable[[Assignment], float | None]


def play(algorithm: Algorithm, score: Score, most: int = 100) -> list[list[Result]]:
    """A whole search on made-up scores."""
    history: list[list[Result]] = []
    while (proposed := algorithm.propose(history)) and len(history) < most:
        history.append([Result(one, score(one)) for one in proposed])
    return history


def far(target: Sequence[float]) -> Score:
    """The distance of the weights from the best ones."""
    return lambda one: math.dist(one.weights, target)


def population(**options: object) -> PopulationBased:
    chosen = {"space": Space(3), "population": 8, "epochs": 40, "interval": 2, "seed": 0, **options}
    return PopulationBased(**chosen)  # type: ignore[arg-type]


def points(*weights: Weights) -> list[Point]:
    return [Point(one, {}) for one in weights]


def test_a_population_moves_to_the_best_weights() -> None:
    target = (0.6, 0.3, 0.1)
    history = play(population(), far(target))
    assert len(history) == 20
    assert [one.assignment.end for one in history[-1]] == [40] * 8
    first, last = (statistics.mean(one.score or 0.0 for one in history[k][1:]) for k in (0, -1))
    assert last < first / 3
    assert best_of(history) == ranked(history[-1])[0]


def test_the_uniform_member_is_always_there() -> None:
    history = play(population(), far((0.9, 0.05, 0.05)))
    assert all(row[0].assignment.weights == uniform(3) for row in history)
    assert any(
        row[0].assignment.parent not in (0, None) for row in history
    )  # it was among the worst, and went on


def test_the_worst_go_on_from_the_best_and_the_others_from_themselves() -> None:
    history = play(population(space=Space(3, Exploration(resample=0.0))), far((0.6, 0.3, 0.1)))
    for before, after in itertools.pairwise(history):
        order = [one.assignment.member for one in ranked(before)]
        best, worst = set(order[:2]), set(order[-2:])
        weights = {one.assignment.member: one.assignment.weights for one in before}
        for one in (result.assignment for result in after):
            assert one.begin == before[0].assignment.end
            if one.member in worst:
                assert one.parent in best
                assert one.weights != weights[one.parent] or one.member == 0
            else:
                assert (one.parent, one.weights) == (one.member, weights[one.member])
            assert math.fsum(one.weights) == pytest.approx(1) and min(one.weights) >= 0.1 / 3 * (1 - 1e-12)


def test_the_number_of_configurations_is_that_of_the_paper() -> None:
    """N (1 + Q E_total / E), but for the first interval, and for member 0 where it is replaced."""
    history = play(population(), far((0.6, 0.3, 0.1)))
    changes = [
        now.assignment.weights != before.assignment.weights
        for first, second in itertools.pairwise(history)
        for before, now in zip(first, second, strict=True)
    ]
    assert 8 + 19 <= 8 + sum(changes) <= 8 * (1 + 0.25 * 40 / 2)


def test_a_search_is_a_function_of_its_seed_and_goes_on_from_any_point() -> None:
    whole = play(population(), far((0.6, 0.3, 0.1)))
    assert play(population(), far((0.6, 0.3, 0.1))) == whole
    assert play(population(seed=1), far((0.6, 0.3, 0.1))) != whole
    for k in (0, 1, 7, 19):
        assert population().propose(whole[:k]) == [one.assignment for one in whole[k]]
    assert population().propose(whole) == []


def test_a_member_that_diverges_is_replaced() -> None:
    history = play(
        population(), lambda one: None if one.member in (1, 2, 3, 4, 5) and one.generation == 3 else 0.5
    )
    after = {one.assignment.member: one.assignment.parent for one in history[4]}
    assert all(after[member] in (0, 6, 7) for member in (1, 2, 3, 4, 5))
    with pytest.raises(SearchError, match="Every member diverged in generation 3: lower the learning rate."):
        play(population(), lambda one: None if one.generation == 3 else 0.5)


def test_the_last_interval_may_be_shorter() -> None:
    history = play(population(epochs=7, interval=3), far((1, 0, 0)))
    assert [row[0].assignment.end for row in history] == [3, 6, 7]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"population": 1}, "`population` should be at least 2, since members are compared. Found 1."),
        (
            {"interval": 40},
            "`interval` should be at least 1 epoch and less than the 40 of the run, .* Found 40.",
        ),
        ({"interval": 0}, "`interval` should be at least 1 epoch .* Found 0."),
        ({"quantile": 0.6}, "`quantile` should be above 0 and at most 0.5. Found 0.6."),
    ],
)
def test_a_wrong_number_of_a_population_is_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(SearchError, match=said):
        population(**options)


def test_the_schedule_of_a_result_follows_its_ancestors() -> None:
    """Member 2 goes on from member 1, which went on from itself."""
    a, b, c = (0.2, 0.8), (0.4, 0.6), (0.7, 0.3)
    history = [
        [Result(Assignment(0, k, w, 0, 3), 0.0) for k, w in enumerate((a, b, c))],
        [Result(Assignment(1, k, w, 3, 6, k), 0.0) for k, w in enumerate((a, b, c))],
        [Result(Assignment(2, k, w, 6, 9, p), 0.0) for k, (w, p) in enumerate(((a, 0), (b, 1), (c, 1)))],
    ]
    _, second, third = points(a, b, c)
    assert schedule_of(history, history[2][2]) == [(0, second), (3, second), (6, third)]
    assert schedule_of(history, history[0][1]) == [(0, second)]


def test_every_candidate_is_trained_to_the_end() -> None:
    chosen = sample(Space(3), 5, seed=0)
    assert chosen[0].weights == uniform(3) and len({one.weights for one in chosen}) == 5
    assert sample(Space(3), 5, seed=0) == chosen != sample(Space(3), 5, seed=1)
    (row,) = play(Candidates(chosen, 10), far((1, 0, 0)))
    assert [(one.assignment.begin, one.assignment.end, one.assignment.weights) for one in row] == [
        (0, 10, one.weights) for one in chosen
    ]
    with pytest.raises(SearchError, match="at least 1 candidate and 1 epoch. Found 0 and 10."):
        Candidates([], 10)


def test_a_grid_has_all_multiples_that_sum_to_one() -> None:
    assert grid(2, 4) == points((0.25, 0.75), (0.5, 0.5), (0.75, 0.25))
    assert grid(2, 2, inner=False) == points((0.0, 1.0), (0.5, 0.5), (1.0, 0.0))
    found = [one.weights for one in grid(3, 10)]
    assert len(found) == len(set(found)) == math.comb(9, 2)
    assert all(math.fsum(w) == pytest.approx(1) and min(w) > 0.09 for w in found)
    with pytest.raises(
        SearchError, match=r"steps of 1/3 should have 1 to 10,000 points. Found 0: take smaller steps"
    ):
        grid(4, 3)
    with pytest.raises(SearchError, match=r"Found [\d,]+: take larger steps, or a random search"):
        grid(11, 30)


def test_halving_keeps_the_best_part_and_trains_it_longer() -> None:
    chosen = sample(Space(2), 9, seed=0)
    weights = [one.weights for one in chosen]
    target = (0.9, 0.1)
    history = play(Halving(chosen, Rungs(10, 2)), far(target))
    assert [len(row) for row in history] == [9, 3, 1]
    assert [(row[0].assignment.begin, row[0].assignment.end) for row in history] == [(0, 2), (2, 6), (6, 10)]
    nearest = sorted(range(9), key=lambda k: math.dist(weights[k], target))
    assert [one.assignment.member for one in history[1]] == sorted(nearest[:3])
    assert best_of(history).assignment.member == nearest[0]
    assert schedule_of(history, best_of(history)) == [
        (0, chosen[nearest[0]]),
        (2, chosen[nearest[0]]),
        (6, chosen[nearest[0]]),
    ]


def test_halving_leaves_out_what_diverged() -> None:
    chosen = sample(Space(2), 9, seed=0)
    history = play(Halving(chosen, Rungs(10, 2)), lambda one: None if one.member != 4 else 1.0)
    assert [[one.assignment.member for one in row] for row in history[1:]] == [[4], [4]]
    with pytest.raises(
        SearchError, match="Every candidate diverged in the first rung: lower the learning rate."
    ):
        play(Halving(chosen, Rungs(10, 2)), lambda one: None)


def test_a_wrong_number_of_halving_is_named() -> None:
    with pytest.raises(SearchError, match="at least 1 candidate. Found none."):
        Halving([], Rungs(10, 2))
    with pytest.raises(SearchError, match="should be at least 1 and less than the 10 of the run. Found 10."):
        Rungs(10, 10)
    with pytest.raises(SearchError, match="`reduction` should be at least 2. Found 1."):
        Rungs(10, 2, reduction=1)
    assert (Rungs(10, 2).ends, Rungs(9, 1).ends, Rungs(10, 1, 2).ends) == (
        [2, 6, 10],
        [1, 3, 9],
        [1, 2, 4, 8, 10],
    )


def test_a_search_without_a_sound_member_has_no_best_one() -> None:
    with pytest.raises(SearchError, match="a member that did not diverge. Found none"):
        best_of([[Result(Assignment(0, 0, (0.5, 0.5), 0, 1), None)]])
    with pytest.raises(
        ValueError, match="`score` should be finite, or None for a network that diverged. Found nan."
    ):
        Result(Assignment(0, 0, (0.5, 0.5), 0, 1), math.nan)


# genealogy.jsonl


def results() -> list[Result]:
    return [one for row in play(population(epochs=6), far((0.6, 0.3, 0.1))) for one in row]


def test_results_are_read_back_as_they_were(tmp_path: Path) -> None:
    written = results()
    for one in written:
        append_result(tmp_path, one)
    assert read_results(tmp_path) == written
    assert [one for row in generations(written[::-1]) for one in row] == written
    assert read_results(tmp_path / "none") == []


def test_a_torn_line_is_left_out_and_then_overwritten(tmp_path: Path) -> None:
    first, second, *_ = results()
    append_result(tmp_path, first)
    with open(tmp_path / FILE, "a") as file:
        file.write('{"assignment": {"gener')
    assert read_results(tmp_path) == [first]
    append_result(tmp_path, second)
    assert read_results(tmp_path) == [first, second]


@pytest.mark.parametrize("line", ["[]", "{}", '{"assignment": {"x": 1}}', "no json"])
def test_any_other_line_is_refused_by_its_number(line: str, tmp_path: Path) -> None:
    append_result(tmp_path, results()[0])
    with open(tmp_path / FILE, "a") as file:
        file.write(line + "\n")
    with pytest.raises(SearchError, match="genealogy.jsonl, line 2, should be a result; take the line out"):
        read_results(tmp_path)


def test_what_is_done_is_not_done_again() -> None:
    history = generations(results())
    proposed = [*population(epochs=6).propose([]), *population(epochs=6).propose(history[:1])]
    done = history[1][:3]
    assert check_results(proposed, [*history[0], *done]) == proposed[11:]
    other = population(epochs=6, seed=9).propose([])
    with pytest.raises(SearchError, match="it is of another search, so take another directory"):
        check_results(other, history[0])
    with pytest.raises(
        SearchError, match="should have one result in a generation. Found two of member 1 in 0."
    ):
        generations([history[0][1], history[0][1]])


def test_a_line_holds_plain_values_only(tmp_path: Path) -> None:
    append_result(tmp_path, results()[0])
    line = json.loads((tmp_path / FILE).read_text())
    assert set(line) == {"assignment", "score", "metrics", "seconds"}
    weights: Weights = tuple(line["assignment"]["weights"])
    assert weights == uniform(3)
