"""MetaBalance against the authors' algorithm on the gradients, in plain Python."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import draw_jacobian
from equipoise.methods.metabalance import MetaBalance


def stats_of(jacobian: Tensor, present: list[bool] | None = None) -> eq.TaskStats:
    here = None if present is None else torch.tensor(present)
    return eq.TaskStats(torch.ones(len(jacobian)), gramian=jacobian @ jacobian.T, present=here)


@pytest.mark.parametrize("strategy", ["both", "reduce", "enlarge"])
@pytest.mark.parametrize(("target", "relax", "beta"), [(0, 0.7, 0.9), (2, 1.0, 0.5), (1, 0.2, 0.0)])
def test_20_steps_by_a_plain_loop(strategy: str, target: int, relax: float, beta: float) -> None:
    method = MetaBalance(3, target=target, relax=relax, beta=beta, strategy=strategy)
    means = [0.0, 0.0, 0.0]
    for step in range(20):
        jacobian = draw_jacobian("scaled", 3, 9, step)
        total = torch.zeros(9).double()
        means = [beta * mean + (1 - beta) * float(g.norm()) for mean, g in zip(means, jacobian, strict=True)]
        for i in range(3):
            ratio = means[target] / means[i]
            applies = strategy == "both" or (strategy == "reduce") == (ratio < 1)
            total += relax * ratio * jacobian[i] + (1 - relax) * jacobian[i] if applies else jacobian[i]
        torch.testing.assert_close(method(stats_of(jacobian)) @ jacobian, total, rtol=1e-9, atol=1e-12)


def test_full_relaxation_without_memory_makes_all_lengths_the_targets() -> None:
    jacobian = draw_jacobian("scaled", 4, 9, 0)
    weights = MetaBalance(4, target=3, relax=1.0, beta=0.0)(stats_of(jacobian))
    assert (weights * jacobian.norm(dim=1)).tolist() == pytest.approx([jacobian[3].norm().item()] * 4)


def test_a_task_that_joins_late_is_judged_by_its_length_at_once() -> None:
    method = MetaBalance(2, relax=1.0)
    jacobian = torch.tensor([[3.0, 0.0], [0.0, 6.0]]).double()
    for _ in range(50):
        assert method(stats_of(jacobian, [True, False])).tolist() == pytest.approx([1.0, 0.0])
    assert method(stats_of(jacobian)).tolist() == pytest.approx([1.0, 0.5])


def test_weights_are_1_before_the_target_was_seen_and_its_last_mean_counts_after() -> None:
    method = MetaBalance(3, relax=1.0, beta=0.0)
    jacobian = torch.diag(torch.tensor([4.0, 2.0, 0.0])).double()
    assert method(stats_of(jacobian, [False, True, True])).tolist() == [0.0, 1.0, 1.0]
    assert method(stats_of(jacobian)).tolist() == [1.0, 2.0, 1.0]
    assert method(stats_of(2 * jacobian, [False, True, True])).tolist() == [0.0, 1.0, 1.0]


def test_hyper_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"`target` should be from 0 to 1\. Found 2\."):
        MetaBalance(2, target=2)
    with pytest.raises(ValueError, match=r"`relax` should be from 0 to 1\. Found 1\.5\."):
        MetaBalance(2, relax=1.5)
    with pytest.raises(ValueError, match=r"`beta` should be at least 0 and below 1\. Found 1\."):
        MetaBalance(2, beta=1.0)
    with pytest.raises(ValueError, match=r"`strategy` should be one of both, reduce, enlarge\. Found 'C'\."):
        MetaBalance(2, strategy="C")


def test_means_of_different_age_are_told_apart() -> None:
    """The mean of one step over 1 - beta, that of three over 1 - beta^3: with constant gradients, their lengths."""
    method = MetaBalance(2, relax=1.0, beta=0.9)
    jacobian = torch.tensor([[3.0, 0.0], [0.0, 6.0]]).double()
    for present in ([True, False], [True, False], [True, True]):
        weights = method(stats_of(jacobian, present))
    assert weights.tolist() == pytest.approx([1.0, 0.5])
