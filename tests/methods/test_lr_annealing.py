"""Learning-rate annealing against both papers' updates in plain Python."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import draw_jacobian
from equipoise.methods.lr_annealing import LRAnnealing
from equipoise.wrappers import Every


def weights_for(method: eq.Method, jacobian: Tensor, present: list[bool] | None = None) -> Tensor:
    here = None if present is None else torch.tensor(present)
    losses = torch.ones(len(jacobian))
    if method.reads == eq.Reads.GRAMIAN:
        return method(eq.TaskStats(losses, gramian=jacobian @ jacobian.T, present=here))
    return method(eq.TaskStats(losses, jacobian=jacobian, present=here))


@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_20_steps_of_the_norms_by_a_plain_loop(decay: float) -> None:
    method, expected = LRAnnealing(3, decay=decay), [1.0, 1.0, 1.0]
    for step in range(20):
        jacobian = draw_jacobian("scaled", 3, 9, step)
        norms = [sum(x**2 for x in row) ** 0.5 for row in jacobian.tolist()]
        expected = [
            decay * w + (1 - decay) * sum(norms) / norm for w, norm in zip(expected, norms, strict=True)
        ]
        assert weights_for(method, jacobian).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("reference", [0, 2])
def test_20_steps_of_the_entries_by_a_plain_loop(reference: int) -> None:
    method = LRAnnealing(3, statistic="entries", reference=reference)
    expected = [1.0, 1.0, 1.0]
    for step in range(20):
        jacobian = draw_jacobian("scaled", 3, 9, step)
        largest = max(abs(x) for x in jacobian[reference].tolist())
        for i in range(3):
            if i != reference:
                mean = sum(abs(x) for x in jacobian[i].tolist()) / 9
                expected[i] = 0.9 * expected[i] + 0.1 * largest / mean
        assert weights_for(method, jacobian).tolist() == pytest.approx(expected)
    assert expected[reference] == 1.0


def test_it_reads_no_more_than_it_needs() -> None:
    assert LRAnnealing(2).reads == eq.Reads.GRAMIAN
    assert LRAnnealing(2, statistic="entries").reads == eq.Reads.JACOBIAN


@pytest.mark.parametrize("statistic", ["norm", "entries"])
def test_zero_and_absent_gradients_keep_their_weight(statistic: str) -> None:
    method = LRAnnealing(3, statistic=statistic)
    first = weights_for(method, draw_jacobian("scaled", 3, 9, 0))
    jacobian = draw_jacobian("scaled", 3, 9, 1)
    jacobian[1] = 0.0
    second = weights_for(method, jacobian)
    assert second[1] == first[1]
    assert second[2] != first[2]
    absent = weights_for(method, draw_jacobian("scaled", 3, 9, 2), [True, True, False])
    assert absent[2] == 0
    assert method.state_dict()["weights"][2] == second[2]
    assert absent[1] != second[1]


def test_entries_wait_for_the_reference() -> None:
    method = LRAnnealing(2, statistic="entries")
    assert weights_for(method, draw_jacobian("scaled", 2, 9, 0), [False, True]).tolist() == [0.0, 1.0]


def test_every_updates_as_seldom_as_the_papers() -> None:
    method, plain = Every(LRAnnealing(2), steps=3), LRAnnealing(2)
    for step in range(7):
        jacobian = draw_jacobian("scaled", 2, 9, step)
        if step % 3 == 0:
            expected = weights_for(plain, jacobian)
        gramian = jacobian @ jacobian.T if method.reads == eq.Reads.GRAMIAN else None
        assert torch.equal(method(eq.TaskStats(torch.ones(2), gramian=gramian)), expected)


def test_hyper_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"`statistic` should be one of norm, entries\. Found 'max'\."):
        LRAnnealing(2, statistic="max")
    with pytest.raises(ValueError, match=r"`decay` should be at least 0 and below 1\. Found 1\."):
        LRAnnealing(2, decay=1.0)
    with pytest.raises(ValueError, match=r"`reference` should be from 0 to 1\. Found 2\."):
        LRAnnealing(2, reference=2)
