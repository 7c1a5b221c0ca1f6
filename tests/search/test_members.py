"""Members that train, inherit and go on: against whole runs, after kills, and with either kind of weights."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from equipoise.search.driver import run_search
from equipoise.search.generations import Assignment, Result, SearchError, best_of, schedule_of
from equipoise.search.holdout import HeldOut
from equipoise.search.member import Setting, checkpoint_of, keeping, train_member
from equipoise.search.pbt import PopulationBased
from equipoise.search.space import Point, Space
from equipoise.search.weights import Exploration, uniform
from equipoise.training.checkpoint import load_checkpoint
from equipoise.training.loop import Trainer
from equipoise.training.outcome import Hooks, InterruptedRunError
from equipoise.training.sampling import SampleBatches
from search.domains_toy import Tug, by_hand, config, make
from toy import Toy

HALF = (0.5, 0.5)


def setting(act: Any = "losses", **options: Any) -> Setting:
    mixing = "together" if act == "losses" else "sampled"
    return Setting(config(mixing=mixing, **options), act)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    state = load_checkpoint(path, print)
    assert state is not None
    return cast("dict[str, torch.Tensor]", state["model"])


def problem_of(chosen: Setting) -> Any:
    return HeldOut(make(chosen.config.options), chosen.fraction, chosen.config.seed)


@pytest.mark.parametrize("act", ["losses", "sampling"])
def test_generations_with_the_same_weights_are_one_whole_run(act: str, tmp_path: Path) -> None:
    """Three generations of two epochs, each from the checkpoint of the one before, against six epochs at once."""
    chosen = setting(act)
    for generation in range(3):
        parent = 0 if generation else None
        assignment = Assignment(generation, 0, (0.3, 0.7), 2 * generation, 2 * generation + 2, parent)
        found = train_member(make, chosen, assignment, tmp_path)
    whole = Trainer(
        HeldOut(make(chosen.at(Point((0.3, 0.7), {})).options), 0.7, 0),  # type: ignore[arg-type]
        chosen.at(Point((0.3, 0.7), {})),
        tmp_path / "whole",
        tmp_path / "whole.pt",
    )
    metrics, score = whole.advance(6)
    assert found.metrics == metrics and found.score == score
    pairs = zip(
        weights_of(checkpoint_of(tmp_path, 2, 0)).items(),
        weights_of(tmp_path / "whole.pt").items(),
        strict=True,
    )
    for (name, value), (other, expected) in pairs:
        assert name == other and torch.equal(value, expected)


@pytest.mark.parametrize("act", ["losses", "sampling"])
def test_weights_decide_which_domain_wins(act: str, tmp_path: Path) -> None:
    chosen = Setting(config(epochs=30, mixing="together" if act == "losses" else "sampled"), act)  # type: ignore[arg-type]
    scores = []
    for member, weights in enumerate([(0.95, 0.05), HALF, (0.05, 0.95)]):
        found = train_member(make, chosen, Assignment(0, member, weights, 0, 30), tmp_path)
        scores.append((found.metrics["low_mse"], found.metrics["high_mse"]))
    low, high = zip(*scores, strict=True)
    assert low[0] < 0.5 * low[1] < 0.5 * low[2] and high[2] < 0.5 * high[1] < 0.5 * high[0]


def test_uniform_weights_of_losses_are_those_of_ls(tmp_path: Path) -> None:
    chosen = setting()
    assert chosen.at(Point(uniform(2), {})).method == "constant:weights=[1.0, 1.0]"
    found = train_member(make, chosen, Assignment(0, 0, uniform(2), 0, 6), tmp_path)
    metrics, _ = Trainer(problem_of(chosen), chosen.config, tmp_path / "ls", tmp_path / "ls.pt").advance(6)
    assert found.metrics == pytest.approx(metrics, rel=1e-6)


def test_a_member_goes_on_from_its_parent_with_optimizer_and_place(tmp_path: Path) -> None:
    chosen = setting()
    for member, weights in enumerate([(0.9, 0.1), (0.1, 0.9)]):
        train_member(make, chosen, Assignment(0, member, weights, 0, 2), tmp_path)
    train_member(make, chosen, Assignment(1, 0, (0.1, 0.9), 2, 2, 1), tmp_path)
    child, parent, other = (
        load_checkpoint(checkpoint_of(tmp_path, *at), print) for at in ((1, 0), (0, 1), (0, 0))
    )
    assert child is not None and parent is not None and other is not None
    assert child["position"]["epoch"] == parent["position"]["epoch"] == 3
    for part in ("model", "optimizer"):
        assert str(child[part]) == str(parent[part]) != str(other[part])
    with pytest.raises(
        FileNotFoundError, match="generation0000-member0007.pt` should exist, since generation0001"
    ):
        train_member(make, chosen, Assignment(1, 3, HALF, 2, 4, 7), tmp_path)


def test_weights_that_change_between_generations_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    chosen = setting()
    train_member(make, chosen, Assignment(0, 0, (0.9, 0.1), 0, 2), tmp_path)
    train_member(make, chosen, Assignment(1, 0, (0.2, 0.8), 2, 5, 0), tmp_path)
    expected = by_hand(problem_of(chosen).loaders(0).train, [(0, (0.9, 0.1)), (2, (0.2, 0.8))], 5)
    found = weights_of(checkpoint_of(tmp_path, 1, 0))
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_member_that_was_stopped_goes_on_to_the_same_end(tmp_path: Path) -> None:
    chosen = setting("sampling")
    assignment = Assignment(0, 0, (0.3, 0.7), 0, 4)
    whole = train_member(make, chosen, assignment, tmp_path / "whole")
    steps = itertools.count(1)
    with pytest.raises(InterruptedRunError):
        train_member(make, chosen, assignment, tmp_path / "cut", Hooks(stop=lambda: next(steps) == 13))
    again = train_member(make, chosen, assignment, tmp_path / "cut")
    assert (again.score, again.metrics) == (whole.score, whole.metrics)
    once_more = train_member(
        make, chosen, assignment, tmp_path / "cut"
    )  # killed after its checkpoint, before its line
    assert (once_more.score, once_more.metrics) == (whole.score, whole.metrics)


def test_a_loss_that_is_not_finite_is_a_result_and_no_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    chosen = setting(bad=str(bad))
    bad.touch()
    found = train_member(make, chosen, Assignment(0, 0, HALF, 0, 2), tmp_path)
    assert found.score is None and found.metrics == {}


# What is held out


@pytest.mark.parametrize("mixing", ["together", "sampled"])
def test_the_parts_of_the_training_data_share_no_sample_and_the_test_part_stays_shut(mixing: str) -> None:
    tug = Tug(mixing)
    held = HeldOut(tug, 0.7, 0)
    loaders = held.loaders(5)
    assert loaders.test is loaders.validation

    def seen(batches: Any) -> dict[str, set[float]]:
        found: dict[str, set[float]] = {"low": set(), "high": set()}
        for batch in batches:
            for name, part in batch.items():
                found[name] |= set(part.x[:, 0].tolist())
        return found

    trained = seen(itertools.chain.from_iterable(loaders.train.epoch(k) for k in (1, 2, 3)))
    compared = seen(loaders.validation)
    for name in ("low", "high"):
        assert (len(trained[name]), len(compared[name])) == (28, 12)
        assert not trained[name] & compared[name]
        assert trained[name] | compared[name] == set(tug.x[:40, 0].tolist())
    again = seen(HeldOut(tug, 0.7, 0).loaders(9).validation)
    assert again == compared  # the same for every seed of a run,
    assert seen(HeldOut(tug, 0.7, 1).loaders(5).validation) != compared  # not of a search


def test_what_cannot_be_split_is_said() -> None:
    with pytest.raises(
        SearchError, match="split the training part of toy. Found a loader of the type ToyBatches"
    ):
        HeldOut(Toy(), 0.7, 0).loaders(0)
    with pytest.raises(SearchError, match="`fraction` should be above 0 and below 1. Found 1."):
        HeldOut(Toy(), 1, 0)
    batches = SampleBatches(lambda index: index, torch.arange(1), size=1)
    with pytest.raises(
        ValueError, match="`fraction` should be above 0 and below 1, of at least 2 samples. Found 0.5 of 1"
    ):
        batches.split(0.5, 0)
    with pytest.raises(ValueError, match="`act` should be one of losses, sampling. Found 'gradients'."):
        Setting(config(), "gradients")  # type: ignore[arg-type]


# Whole searches


def algorithm() -> PopulationBased:
    space = Space(2, Exploration(resample=0.0))
    return PopulationBased(space, population=4, epochs=6, interval=1, seed=0)


def trainer(chosen: Setting, where: Path, stop: Any = lambda: False) -> Any:
    def train(waiting: list[Assignment]) -> Iterator[Result]:
        while waiting:
            yield train_member(make, chosen, waiting.pop(0), where, Hooks(stop=stop))

    return train


def told(history: Sequence[Sequence[Result]]) -> list[tuple[Any, ...]]:
    return [(one.assignment, one.score, dict(one.metrics)) for row in history for one in row]


@pytest.mark.parametrize("act", ["losses", "sampling"])
def test_a_search_that_is_stopped_again_and_again_ends_as_if_it_had_not_been(
    act: str, tmp_path: Path
) -> None:
    chosen = setting(act)
    heard: list[Result] = []
    (tmp_path / "whole").mkdir()
    whole = run_search(algorithm(), trainer(chosen, tmp_path / "whole"), tmp_path / "whole", heard.append)
    assert [len(row) for row in whole] == [4] * 6 and len(heard) == 24
    cut = tmp_path / "cut"
    cut.mkdir()
    history, stops = None, 0
    while history is None:
        steps = itertools.count(1)
        last = 23 + stops
        try:
            history = run_search(algorithm(), trainer(chosen, cut, lambda: next(steps) == last), cut)  # noqa: B023
        except InterruptedRunError:
            stops += 1
    assert stops > 3
    assert told(history) == told(whole)
    assert told(run_search(algorithm(), trainer(chosen, cut), cut)) == told(whole)  # nothing is left to do
    assert len(list((cut / "checkpoints").glob("*.pt"))) == 4  # of the last generation


def test_the_winner_can_be_replayed_from_its_schedule(tmp_path: Path) -> None:
    chosen = setting()
    history = run_search(algorithm(), trainer(chosen, tmp_path), tmp_path)
    best = best_of(history)
    again = tmp_path / "again"
    steps = schedule_of(history, best)
    ends = [*(begin for begin, _ in steps[1:]), 6]
    for k, ((begin, point), end) in enumerate(zip(steps, ends, strict=True)):
        found = train_member(
            make, chosen, Assignment(k, 0, point.weights, begin, end, 0 if k else None), again
        )
    assert (found.score, found.metrics) == (best.score, best.metrics)


# What members share and do not share


def test_patience_is_not_inherited(tmp_path: Path) -> None:
    """A run of its own would stop; a member trains for the epochs that it is given."""
    impatient = config(epochs=8).model_copy(
        update={"train": config(epochs=8).train.model_copy(update={"patience": 1}), "lr": 1e-12}
    )
    chosen = Setting(impatient, "losses")
    first = train_member(make, chosen, Assignment(0, 0, HALF, 0, 4), tmp_path)
    train_member(make, chosen, Assignment(1, 0, (0.9, 0.1), 4, 8, 0), tmp_path)
    state = load_checkpoint(checkpoint_of(tmp_path, 1, 0), print)
    assert first.score is not None and state is not None
    assert state["position"]["epoch"] == 9 and state["position"]["step"] == 8 * 6


def test_weights_do_not_change_the_length_of_an_epoch() -> None:
    lengths = set()
    for weights in ((0.1, 0.9), (0.5, 0.5), (0.9, 0.1)):
        tug = Tug("sampled", weights)
        lengths.add(len(HeldOut(tug, 0.7, 0).loaders(0).train))
    assert len(lengths) == 1


def test_a_problem_keeps_its_data_where_only_weights_differ() -> None:
    built: list[Any] = []

    class Kept(Tug):
        def __init__(self, **options: Any) -> None:
            built.append(options)
            super().__init__(**options)

        def reweighted(self, weights: Sequence[float]) -> Kept:
            found = copy.copy(self)
            found.weights = weights
            return found

    make_kept: Any = keeping(Kept)
    first = make_kept({"mixing": "sampled", "weights": [0.5, 0.5]})
    second = make_kept({"mixing": "sampled", "weights": [0.2, 0.8]})
    assert len(built) == 1 and second.x is first.x
    assert (first.weights, second.weights) == ([0.5, 0.5], [0.2, 0.8])
    assert make_kept({"mixing": "sampled", "weights": [0.2, 0.8]}) is second
    make_kept({"mixing": "together"})
    assert len(built) == 2


def test_a_learning_rate_that_was_found_goes_on_from_where_the_parent_s_had_fallen_to(tmp_path: Path) -> None:
    """Step decay halves the rate after two epochs; the child asks for a rate ten times as high."""
    train = config(epochs=6).train.model_copy(
        update={"schedule": "step", "step_epochs": 2, "step_factor": 0.5}
    )
    chosen = Setting(config(epochs=6).model_copy(update={"train": train}), "losses")
    train_member(make, chosen, Assignment(0, 0, HALF, 0, 3, None, {"lr": 0.01}), tmp_path)
    train_member(make, chosen, Assignment(1, 0, HALF, 3, 4, 0, {"lr": 0.1}), tmp_path)
    rates = []
    for generation in (0, 1):
        state = load_checkpoint(checkpoint_of(tmp_path, generation, 0), print)
        assert state is not None
        rates.append(state["optimizer"]["param_groups"][0]["lr"])
    assert rates == pytest.approx([0.005, 0.025])
