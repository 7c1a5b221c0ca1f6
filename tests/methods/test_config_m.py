"""Momentum ConFIG against the paper's algorithm on the gradients, and in a loop that takes the tasks in turn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import ConFIG

import equipoise as eq
from draws import draw_jacobian
from equipoise.methods.config_m import MConFIG
from networks import batch, count_passes, losses_of, network

STEPS, M, N = 24, 3, 7


def stats(step: int, here: list[int]) -> eq.TaskStats:
    rows = draw_jacobian("mixed", M, N, step)
    if len(here) == M:
        return eq.TaskStats(torch.ones(M), jacobian=rows)
    mask = torch.tensor([i in here for i in range(M)])
    return eq.TaskStats(torch.ones(M), present=mask, jacobian=rows * mask[:, None])


def in_turn(step: int) -> list[int]:
    return [step % M]


def all_at_once(step: int) -> list[int]:
    del step
    return list(range(M))


def now_and_then(step: int) -> list[int]:
    return [i for i in range(M) if [True, step % 3 != 1, step >= 4][i]]


@pytest.mark.parametrize("turn", [in_turn, all_at_once, now_and_then])
@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.5, 0.8)])
def test_many_steps_by_a_plain_loop(turn, beta1: float, beta2: float) -> None:  # type: ignore[no-untyped-def]
    """Algorithm 1 of the paper, with torchjd's ConFIG in the middle; tasks not seen so far are zero rows."""
    method = MConFIG(M, beta1=beta1, beta2=beta2)
    momenta, counts = [[0.0] * N for _ in range(M)], [0] * M
    before, second = [0.0] * N, [0.0] * N
    for step in range(STEPS):
        rows = draw_jacobian("mixed", M, N, step).tolist()
        for i in turn(step):
            counts[i] += 1
            momenta[i] = [beta1 * a + (1 - beta1) * g for a, g in zip(momenta[i], rows[i], strict=True)]
        hats = [
            [a / (1 - beta1**count) if count else 0.0 for a in row]
            for row, count in zip(momenta, counts, strict=True)
        ]
        direction = ConFIG()(torch.tensor(hats, dtype=torch.float64)).tolist()
        t = step + 1
        momentum = [(1 - beta1**t) * d for d in direction]
        pseudo = [(new - beta1 * old) / (1 - beta1) for new, old in zip(momentum, before, strict=True)]
        before = momentum
        second = [beta2 * s + (1 - beta2) * g * g for s, g in zip(second, pseudo, strict=True)]
        expected = [
            d / (math.sqrt(s / (1 - beta2**t)) + 1e-8) for d, s in zip(direction, second, strict=True)
        ]
        assert method(stats(step, turn(step))).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_constant_gradients_give_the_signs_of_the_conflict_free_direction() -> None:
    rows = draw_jacobian("random", M, N, 0)
    method = MConFIG(M)
    for _ in range(5):
        answer = method(eq.TaskStats(torch.ones(M), jacobian=rows))
        torch.testing.assert_close(answer, ConFIG()(rows).sign(), rtol=0, atol=1e-6)


def test_gradients_of_the_size_of_epsilon_give_shorter_steps() -> None:
    rows = 1e-8 * draw_jacobian("random", M, N, 0)
    direction = ConFIG()(rows)
    answer = MConFIG(M)(eq.TaskStats(torch.ones(M), jacobian=rows))
    torch.testing.assert_close(answer, direction / (direction.abs() + 1e-8))


def test_a_task_out_of_turn_counts_with_its_momentum() -> None:
    """Its gradient now does not, whatever it is."""
    method, other = MConFIG(M), MConFIG(M)
    for step in range(2 * M):
        method(stats(step, in_turn(step)))
        other(stats(step, in_turn(step)))
    assert method.momenta.value is not None
    method.momenta.value[1].mul_(-3.0)
    assert not torch.allclose(method(stats(9, [0])), other(stats(9, [0])))


def test_zero_gradients_and_one_task() -> None:
    zero = eq.TaskStats(torch.ones(M), jacobian=torch.zeros(M, N))
    assert MConFIG(M)(zero).tolist() == [0.0] * N
    row = draw_jacobian("random", 1, N, 0)
    found = MConFIG(1)(eq.TaskStats(torch.ones(1), jacobian=row))
    torch.testing.assert_close(found, row[0].sign(), rtol=0, atol=1e-6)


def test_the_state_is_no_view_of_the_gradients() -> None:
    rows = draw_jacobian("random", M, N, 0).float()
    method = MConFIG(M, beta1=0.0)
    assert method(eq.TaskStats(torch.ones(M), jacobian=rows)).dtype == torch.float32
    rows.fill_(9.0)
    assert method.momenta.value is not None
    assert not (method.momenta.value == 9.0).any()


def test_tasks_in_turn_cost_one_backward_pass_a_step_and_learn() -> None:
    model, names = network("mlp"), ["a", "b", "c"]
    optimizer = torch.optim.SGD(model.parameters(), lr=2e-3)
    balancer = eq.Balancer(MConFIG(M), tasks=names, shared=model.encoder)
    data, passes = batch(), list[int]()
    start = sum(loss.item() for loss in losses_of(model, data))
    count_passes(model, passes)
    for step in range(90):
        optimizer.zero_grad()
        turn = step % M
        balancer.backward({names[turn]: losses_of(model, data)[turn]})
        optimizer.step()
    assert len(passes) == 90
    assert sum(loss.item() for loss in losses_of(model, data)) < 0.9 * start


def test_hyper_parameters_out_of_their_range() -> None:
    for name in ("beta1", "beta2"):
        for value in (-0.1, 1.0):
            with pytest.raises(
                ValueError, match=rf"`{name}` should be at least 0 and below 1. Found {value:g}\."
            ):
                MConFIG(M, **{name: value})


def test_other_shared_parameters_than_before_are_refused_and_nothing_moves() -> None:
    method = MConFIG(M)
    method(stats(0, all_at_once(0)))
    counts: Tensor = method.counts.clone()
    with pytest.raises(ValueError, match="shared parameters should stay the same"):
        method(eq.TaskStats(torch.ones(M), jacobian=torch.ones(M, N - 1)))
    assert torch.equal(method.counts, counts)
