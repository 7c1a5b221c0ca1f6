"""SDMGrad against its inner loop written out in plain Python, against torchjd, and in a training loop."""

from __future__ import annotations

import copy

import pytest
import torch
from torchjd.aggregation import SDMGradWeighting

import equipoise as eq
from bisection import nearest_on_simplex
from draws import draw_jacobian
from equipoise.methods.sdmgrad import SDMGrad
from networks import batch, gradients, losses_of, network

CALLS, M, N = 20, 3, 7


def two_batches(kind: str, call: int, present: list[bool] | None = None, noise: float = 1.0) -> eq.TaskStats:
    """The statistics of a step with those of its second batch, which has the first one's gradients plus noise."""
    rows = draw_jacobian(kind, M, N, call)
    other = rows + noise * draw_jacobian("random", M, N, 1000 + call)
    if present is None:
        return eq.TaskStats(torch.ones(M), jacobian=rows, other=eq.TaskStats(torch.ones(M), jacobian=other))
    mask = torch.tensor(present)
    second = eq.TaskStats(torch.ones(M), present=mask, jacobian=other * mask[:, None])
    return eq.TaskStats(torch.ones(M), present=mask, jacobian=rows * mask[:, None], other=second)


def literal_call(
    cross: list[list[float]], shares: list[float], strength: float, lr: float, momentum: float, steps: int
) -> list[float]:
    """The shares after the inner loop, for as many tasks as there are."""
    k = len(shares)
    scale = sum(max(cross[i][i], 0.0) ** 0.5 for i in range(k)) / k
    velocity = [0.0] * k
    for _ in range(steps):
        target = [share + strength / k for share in shares]
        slopes = [sum(c * t for c, t in zip(row, target, strict=True)) / scale**2 for row in cross]
        velocity = [momentum * v + s for v, s in zip(velocity, slopes, strict=True)]
        shares = nearest_on_simplex([s - lr * v for s, v in zip(shares, velocity, strict=True)])
    return shares


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("strength", "lr", "momentum", "steps"), [(0.3, 10.0, 0.5, 20), (0.6, 0.05, 0.9, 3), (0.0, 0.2, 0.0, 1)]
)
def test_twenty_calls_by_a_plain_loop(
    strength: float, lr: float, momentum: float, steps: int, masked: bool
) -> None:
    method = SDMGrad(M, strength=strength, lr=lr, momentum=momentum, steps=steps)
    shares = [1 / M] * M
    for call in range(CALLS):
        present = [True, call % 3 != 1, call >= 4] if masked else None
        stats = two_batches("conflict", call, present)
        here = [i for i in range(M) if present is None or present[i]]
        cross = (stats.jacobian @ stats.other.jacobian.T)[here][:, here].tolist()
        whole = sum(shares[i] for i in here)
        among = [shares[i] / whole if whole else 1 / len(here) for i in here]
        moved = literal_call(cross, among, strength, lr, momentum, steps)
        expected = [0.0] * M
        for i, share in zip(here, moved, strict=True):
            shares[i] = whole * share
            expected[i] = len(here) * (share + strength / len(here)) / (1 + strength)
        assert method(stats).tolist() == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("kind", ["random", "mixed", "conflict"])
def test_torchjd_agrees_but_for_the_factor_m(kind: str) -> None:
    """Its division adds 1e-8, which gradients of length 1e4 make invisible."""
    ours, theirs = SDMGrad(M, lr=0.1), SDMGradWeighting(lr=0.1)
    for call in range(CALLS):
        stats = two_batches(kind, call)
        larger = eq.TaskStats(torch.ones(M), jacobian=1e4 * stats.jacobian, other=stats.other)
        expected = theirs(larger.jacobian @ larger.other.jacobian.T)
        torch.testing.assert_close(ours(larger) / M, expected, rtol=1e-7, atol=1e-9)


def test_at_rest_it_minimises_the_regularised_norm() -> None:
    """|w J + strength g0| over the simplex of two tasks, by scanning it."""
    rows = draw_jacobian("conflict", 2, 6, 1)
    stats = eq.TaskStats(torch.ones(2), jacobian=rows, other=eq.TaskStats(torch.ones(2), jacobian=rows))
    method = SDMGrad(2, lr=0.1, steps=400)
    found = method(stats)
    grid = torch.linspace(0, 1, 20_001).double()[:, None]
    norms = (grid * rows[0] + (1 - grid) * rows[1] + 0.3 * rows.mean(0)).norm(dim=1)
    assert method.shares[0].item() == pytest.approx(grid[norms.argmin()].item(), abs=1e-4)
    assert (found @ rows).norm().item() == pytest.approx(2 * norms.min().item() / 1.3, rel=1e-6)


def test_a_large_strength_gives_the_sum_of_the_gradients() -> None:
    weights = SDMGrad(M, strength=1e9)(two_batches("conflict", 0))
    assert weights.tolist() == pytest.approx([1.0] * M)


def test_common_scale_of_the_gradients_does_not_matter() -> None:
    stats = two_batches("conflict", 0)
    other = eq.TaskStats(torch.ones(M), jacobian=1e-6 * stats.other.jacobian)
    smaller = eq.TaskStats(torch.ones(M), jacobian=1e-6 * stats.jacobian, other=other)
    torch.testing.assert_close(SDMGrad(M)(smaller), SDMGrad(M)(stats), rtol=1e-9, atol=0)


def test_batches_that_disagree_on_every_task_leave_the_shares() -> None:
    """All g_i' g_i of the two batches are negative: there is no scale, and nothing to follow."""
    rows = draw_jacobian("random", M, N, 0)
    stats = eq.TaskStats(torch.ones(M), jacobian=rows, other=eq.TaskStats(torch.ones(M), jacobian=-rows))
    assert SDMGrad(M)(stats).tolist() == pytest.approx([1.0] * M)


def test_zero_gradients_and_one_task() -> None:
    zero = eq.TaskStats(torch.ones(M), jacobian=torch.zeros(M, N))
    found = SDMGrad(M)(eq.TaskStats(torch.ones(M), jacobian=torch.zeros(M, N), other=zero))
    assert found.tolist() == pytest.approx([1.0] * M)
    row = draw_jacobian("random", 1, N, 0)
    one = eq.TaskStats(torch.ones(1), jacobian=row)
    assert SDMGrad(1)(eq.TaskStats(torch.ones(1), jacobian=row, other=one)).tolist() == [1.0]


def test_a_task_that_the_second_batch_lacks_takes_no_step_of_its_own() -> None:
    rows = draw_jacobian("conflict", M, N, 0)
    mask = torch.tensor([True, False, True])
    other = eq.TaskStats(torch.ones(M), present=mask, jacobian=rows * mask[:, None])
    method = SDMGrad(M, lr=1e-3, steps=1, momentum=0.0)
    method(eq.TaskStats(torch.ones(M), jacobian=rows, other=other))
    cross = rows @ (rows * mask[:, None]).T
    scale = (cross[0, 0].sqrt() + cross[2, 2].sqrt()) / 2
    slopes = (cross @ torch.full((M,), 1.3 / M, dtype=torch.float64) / scale**2).tolist()
    expected = nearest_on_simplex([1 / M - 1e-3 * slopes[0], 1 / M, 1 / M - 1e-3 * slopes[2]])
    assert method.shares.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"strength": -1}, "`strength` should be at least 0. Found -1"),
        ({"lr": -1}, "`lr` should be at least 0. Found -1"),
        ({"steps": 0}, "`steps` should be at least 1. Found 0"),
        ({"momentum": 1.0}, "`momentum` should be at least 0 and below 1. Found 1"),
        ({"momentum": -0.1}, "`momentum` should be at least 0 and below 1. Found -0.1"),
    ],
)
def test_hyper_parameters_out_of_their_range(kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SDMGrad(M, **kwargs)  # type: ignore[arg-type]


def test_training_loop_with_two_batches() -> None:
    """What ends up in the gradients of a step is the weighted sum over the first batch; heads see their own losses."""
    model = network("mlp")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    balancer = eq.Balancer(SDMGrad(M), shared=model.encoder)
    start = sum(loss.item() for loss in losses_of(model, batch(seed=0)))
    for step in range(25):
        optimizer.zero_grad()
        balancer.measure(losses_of(model, batch(seed=1)))
        record = balancer.backward(losses_of(model, batch(seed=0)))
        if step % 8 == 0:
            losses = losses_of(model, batch(seed=0))
            shared = list(model.encoder.parameters())
            expected = torch.autograd.grad(losses, shared, record.weights.unbind(), retain_graph=True)
            for parameter, gradient in zip(shared, expected, strict=True):
                torch.testing.assert_close(parameter.grad, gradient)
            heads = list(model.heads.parameters())
            for parameter, gradient in zip(heads, torch.autograd.grad(losses, heads), strict=True):
                torch.testing.assert_close(parameter.grad, gradient)
        optimizer.step()
    assert sum(loss.item() for loss in losses_of(model, batch(seed=0))) < 0.9 * start


def test_without_a_second_batch_the_error_says_what_to_do_and_nothing_is_touched() -> None:
    model = network("mlp")
    balancer = eq.Balancer(SDMGrad(M))
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
