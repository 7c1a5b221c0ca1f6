"""MoDo against its update written out in plain Python, against torchjd, and in a training loop with two batches."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import MoDoWeighting

import equipoise as eq
from bisection import nearest_on_simplex
from draws import draw_jacobian
from equipoise.methods.modo import MoDo
from networks import batch, gradients, losses_of, network

STEPS, M, N = 20, 3, 7


def two_batches(
    step: int, present: list[bool] | None = None, other: list[bool] | None = None
) -> eq.TaskStats:
    """The statistics of a step with those of its second batch."""
    halves = []
    for seed, here in ((step, present), (1000 + step, other)):
        rows = draw_jacobian("conflict", M, N, seed)
        mask = None if here is None else torch.tensor(here)
        halves.append((mask, rows if mask is None else rows * mask[:, None]))
    (mask, first), (other_mask, second) = halves
    measured = eq.TaskStats(torch.ones(M), present=other_mask, jacobian=second)
    return eq.TaskStats(torch.ones(M), present=mask, jacobian=first, other=measured)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("gamma", "rho"), [(0.1, 0.1), (0.02, 0.0), (1.0, 2.0)])
def test_twenty_steps_by_a_plain_loop(gamma: float, rho: float, masked: bool) -> None:
    method = MoDo(M, gamma=gamma, rho=rho)
    shares = [1 / M] * M
    for step in range(STEPS):
        first, second = (draw_jacobian("conflict", M, N, seed).tolist() for seed in (step, 1000 + step))
        one = [True, step % 3 != 1, step >= 4] if masked else [True] * M
        two = [step % 5 != 2, True, True] if masked else [True] * M
        here = [i for i in range(M) if one[i]]
        whole = sum(shares[i] for i in here)
        among = {i: shares[i] / whole if whole else 1 / len(here) for i in here}
        point = [sum(among[i] * second[i][k] for i in here if two[i]) for k in range(N)]
        slopes = {i: sum(first[i][k] * point[k] for k in range(N)) + rho * among[i] for i in here}
        moved = nearest_on_simplex([among[i] - (gamma * slopes[i] if two[i] else 0.0) for i in here])
        expected = [0.0] * M
        for i, share in zip(here, moved, strict=True):
            shares[i], expected[i] = whole * share, share
        found = method(two_batches(step, one, two) if masked else two_batches(step))
        assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_torchjd_agrees() -> None:
    ours, theirs = MoDo(M, gamma=0.05, rho=0.3), MoDoWeighting(gamma=0.05, rho=0.3)
    for step in range(STEPS):
        stats = two_batches(step)
        expected = theirs(stats.jacobian @ stats.other.jacobian.T)
        torch.testing.assert_close(ours(stats), expected, rtol=1e-12, atol=1e-14)


def test_which_batch_is_which_matters() -> None:
    stats = two_batches(0)
    swapped = eq.TaskStats(torch.ones(M), jacobian=stats.other.jacobian, other=stats)
    assert not torch.allclose(MoDo(M)(stats), MoDo(M)(swapped))


def test_on_one_gradient_it_reaches_the_shortest_convex_combination() -> None:
    rows = draw_jacobian("mixed", 2, 6, 1)
    method = MoDo(2, gamma=0.02, rho=0.0)
    for _ in range(600):
        answer = method(
            eq.TaskStats(torch.ones(2), jacobian=rows, other=eq.TaskStats(torch.ones(2), jacobian=rows))
        )
    shares = torch.linspace(0, 1, 20_001).double()[:, None]
    shortest = (shares * rows[0] + (1 - shares) * rows[1]).norm(dim=1).min()
    assert (answer @ rows).norm().item() == pytest.approx(shortest.item(), rel=1e-6)


def test_the_second_batch_takes_the_noise_out_of_the_shares() -> None:
    """Independent noise adds to |g_i|^2 of one batch, and nothing on average to the product of two."""
    clean = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    draws = torch.Generator().manual_seed(0)
    double, single = MoDo(2, gamma=0.002, rho=0.0), MoDo(2, gamma=0.002, rho=0.0)
    seen: list[tuple[float, float]] = []
    for _ in range(1500):
        noise = 3 * torch.randn(2, 2, generator=draws, dtype=torch.float64)
        one, two = (
            eq.TaskStats(torch.ones(2), jacobian=torch.stack([clean[0] + n, clean[1]])) for n in noise
        )
        double(eq.TaskStats(torch.ones(2), jacobian=one.jacobian, other=two))
        single(eq.TaskStats(torch.ones(2), jacobian=one.jacobian, other=one))
        seen.append((double.shares[0].item(), single.shares[0].item()))
    late = torch.tensor(seen[500:]).mean(0)
    assert late[0] > 0.4
    assert late[1] < 0.2


def test_zero_gradients_one_task_and_a_task_that_comes_back() -> None:
    zero = eq.TaskStats(torch.ones(M), jacobian=torch.zeros(M, N))
    found = MoDo(M)(eq.TaskStats(torch.ones(M), jacobian=torch.zeros(M, N), other=zero))
    assert found.tolist() == pytest.approx([1 / M] * M)
    row = draw_jacobian("random", 1, N, 0)
    one = eq.TaskStats(torch.ones(1), jacobian=row)
    assert MoDo(1)(eq.TaskStats(torch.ones(1), jacobian=row, other=one)).tolist() == [1.0]
    method = MoDo(M, gamma=0.0)
    assert method(two_batches(0, [True, True, False])).tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert method(two_batches(1)).tolist() == pytest.approx([1 / 3] * 3)


def test_hyper_parameters_out_of_their_range() -> None:
    with pytest.raises(ValueError, match="`gamma` should be at least 0. Found -1"):
        MoDo(M, gamma=-1)
    with pytest.raises(ValueError, match="`rho` should be at least 0. Found -1"):
        MoDo(M, rho=-1)


def shared_rows(losses: list[Tensor], shared: Sequence[Tensor]) -> Tensor:
    """The Jacobian by plain autograd."""
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def test_training_loop_with_two_batches() -> None:
    """Ten steps of SGD against the same steps by plain autograd and plain Python."""
    model = network("mlp")
    reference = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    balancer = eq.Balancer(MoDo(M, gamma=1e-3), shared=model.encoder)
    shares = [1 / M] * M
    for step in range(10):
        first, second = batch(seed=2 * step), batch(seed=2 * step + 1)
        optimizer.zero_grad()
        balancer.measure(losses_of(model, second))
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())
        record = balancer.backward(losses_of(model, first))
        optimizer.step()

        shared = list(reference.encoder.parameters())
        losses = losses_of(reference, first)
        one = shared_rows(losses, shared)
        cross = (one @ shared_rows(losses_of(reference, second), shared).T).tolist()
        slopes = [sum(c * s for c, s in zip(row, shares, strict=True)) for row in cross]
        shares = nearest_on_simplex([s - 1e-3 * (d + 0.1 * s) for s, d in zip(shares, slopes, strict=True)])
        assert record.weights.tolist() == pytest.approx(shares)
        heads = list(reference.heads.parameters())
        grads = [*torch.autograd.grad(losses, heads, retain_graph=True)]
        grads += torch.autograd.grad(losses, shared, torch.tensor(shares, dtype=torch.float64).unbind())
        with torch.no_grad():
            for parameter, gradient in zip([*heads, *shared], grads, strict=True):
                parameter.sub_(0.01 * gradient)
    for found, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_without_a_second_batch_the_error_says_what_to_do_and_nothing_is_touched() -> None:
    model = network("mlp")
    balancer = eq.Balancer(MoDo(M))
    balancer.measure(losses_of(model, batch(seed=1)))
    balancer.backward(losses_of(model, batch(seed=0)))
    state, before = copy.deepcopy(balancer.state_dict()), gradients(model)
    with pytest.raises(
        eq.MissingStatisticError,
        match=r"second batch should be measured.*call balancer.measure\(losses\) on another batch before",
    ):
        balancer.backward(losses_of(model, batch(seed=0)))
    assert torch.equal(balancer.state_dict()["state"]["shares"], state["state"]["shares"])
    assert all(torch.equal(gradient, before[name]) for name, gradient in gradients(model).items())
    balancer.measure(losses_of(model, batch(seed=1)))
    balancer.backward(losses_of(model, batch(seed=0)))


def test_batches_that_reach_other_parameters_are_refused() -> None:
    first, second = (draw_jacobian("random", M, n, 0) for n in (N, N - 1))
    stats = eq.TaskStats(torch.ones(M), jacobian=first, other=eq.TaskStats(torch.ones(M), jacobian=second))
    with pytest.raises(ValueError, match="Both batches should reach the same shared parameters"):
        MoDo(M)(stats)
