"""Weights that are read off one short run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from equipoise.search.generations import Assignment, Result, SearchError
from equipoise.search.gradients import ReadOff, gradient_norms
from equipoise.search.member import Setting, train_member
from equipoise.search.space import Space
from equipoise.search.weights import Exploration, floored
from search.domains_toy import Tug, config, make

NAMES = ("low", "high")


def test_norms_are_those_of_a_plain_loop_and_change_nothing() -> None:
    tug = Tug()
    model = tug.model(0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    found = gradient_norms(tug, model, torch.device("cpu"), 0)
    assert torch.equal(torch.get_rng_state(), state) and not model.training
    squares: dict[str, list[float]] = {name: [] for name in NAMES}
    for batch in tug.loaders(0).train.epoch(1):
        for name, loss in tug.losses(model, batch).items():
            model.zero_grad()
            loss.backward(retain_graph=True)
            squares[name].append(
                sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
            )
    for name in NAMES:
        assert found[f"gradient norm of {name}"] == pytest.approx(
            math.sqrt(sum(squares[name]) / len(squares[name])), rel=1e-5
        )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_are_in_inverse_proportion_to_the_norms() -> None:
    algorithm = ReadOff(Space(2, Exploration(floor=0.2)), NAMES, epochs=6, first=2)
    history: list[list[Result]] = []
    for norms in ((1.0, 4.0), (4.0, 4.0)):
        (one,) = algorithm.propose(history)
        assert one.weights == (0.5, 0.5)
        metrics = {f"gradient norm of {name}": norm for name, norm in zip(NAMES, norms, strict=True)}
        history.append([Result(one, 1.0, metrics)])
    (last,) = algorithm.propose(history)
    assert last == Assignment(2, 0, floored((2 / 3, 1 / 3), 0.2), 0, 6)
    assert algorithm.propose([*history, [Result(last, 1.0)]]) == [] and algorithm.members == 3


def test_what_cannot_be_read_is_said() -> None:
    algorithm = ReadOff(Space(2), NAMES, epochs=6, first=1)
    (one,) = algorithm.propose([])
    with pytest.raises(SearchError, match="The network diverged in generation 0: lower the learning rate."):
        algorithm.propose([[Result(one, None)]])
    with pytest.raises(SearchError, match="in the batches of the short run. Found no gradient of high"):
        algorithm.propose([[Result(one, 1.0, {"gradient norm of low": 1.0})]])
    with pytest.raises(
        SearchError, match="`interval` should be at least 1 epoch and less than the 6 of the run"
    ):
        ReadOff(Space(2), NAMES, epochs=6, first=6)


def test_a_member_measures_its_gradients_where_it_is_asked_to(tmp_path: Path) -> None:
    assignment = Assignment(0, 0, (0.5, 0.5), 0, 2)
    plain = train_member(make, Setting(config(), "losses"), assignment, tmp_path / "plain")
    found = train_member(make, Setting(config(), "losses", measured=True), assignment, tmp_path / "found")
    assert set(found.metrics) - set(plain.metrics) == {f"gradient norm of {name}" for name in NAMES}
    assert (found.score, plain.metrics) == (plain.score, {k: found.metrics[k] for k in plain.metrics})
