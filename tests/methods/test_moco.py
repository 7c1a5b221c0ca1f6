"""MoCo against its update written out in plain Python."""

from __future__ import annotations

import pytest
import torch

import equipoise as eq
from bisection import nearest_on_simplex
from draws import draw_jacobian
from equipoise.methods.moco import MoCo

STEPS, M, N = 20, 3, 7


def stats(step: int, present: list[bool] | None = None) -> eq.TaskStats:
    jacobian = draw_jacobian("conflict", M, N, step)
    if present is None:
        return eq.TaskStats(torch.ones(M), jacobian=jacobian)
    mask = torch.tensor(present)
    return eq.TaskStats(torch.ones(M), present=mask, jacobian=jacobian * mask[:, None])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("beta", "gamma", "rho"), [(0.1, 0.1, 0.1), (0.5, 0.03, 0.0), (1.0, 0.3, 2.0)])
def test_twenty_steps_by_a_plain_loop(beta: float, gamma: float, rho: float, masked: bool) -> None:
    method = MoCo(M, beta=beta, gamma=gamma, rho=rho)
    tracked, shares = [[0.0] * N for _ in range(M)], [1 / M] * M
    for step in range(STEPS):
        rows = draw_jacobian("conflict", M, N, step).tolist()
        here = [i for i in range(M) if not masked or [True, step % 3 != 1, step >= 4][i]]
        for i in here:
            tracked[i] = [y - beta * (y - g) for y, g in zip(tracked[i], rows[i], strict=True)]
        whole = sum(shares[i] for i in here)
        among = {i: shares[i] / whole if whole else 1 / len(here) for i in here}
        point = [sum(among[i] * tracked[i][k] for i in here) for k in range(N)]
        slopes = {i: sum(tracked[i][k] * point[k] for k in range(N)) + rho * among[i] for i in here}
        moved = nearest_on_simplex([among[i] - gamma * slopes[i] for i in here])
        for i, share in zip(here, moved, strict=True):
            shares[i] = whole * share
        expected = [
            sum(share * tracked[i][k] for i, share in zip(here, moved, strict=True)) for k in range(N)
        ]
        found = method(stats(step, [i in here for i in range(M)] if masked else None))
        assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert method.shares.tolist() == pytest.approx(shares)


def test_on_one_gradient_it_reaches_the_shortest_convex_combination() -> None:
    """The limit is MGDA's, here by scanning the simplex of two tasks."""
    jacobian = draw_jacobian("mixed", 2, 6, 1)
    method = MoCo(2, beta=0.5, gamma=0.02, rho=0.0)
    for _ in range(600):
        answer = method(eq.TaskStats(torch.ones(2), jacobian=jacobian))
    shares = torch.linspace(0, 1, 20_001).double()[:, None]
    shortest = (shares * jacobian[0] + (1 - shares) * jacobian[1]).norm(dim=1).min()
    assert answer.norm().item() == pytest.approx(shortest.item(), rel=1e-6)


def test_tracking_removes_the_noise_that_biases_the_shares() -> None:
    """Noise that differs from step to step adds to |g_i|^2 but not to |y_i|^2."""
    clean = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    draws = torch.Generator().manual_seed(0)
    method, blind = MoCo(2, beta=0.02, gamma=0.01, rho=0.0), MoCo(2, beta=1.0, gamma=0.01, rho=0.0)
    answers, biased = [], []
    for _ in range(1200):
        noise = torch.randn(2, generator=draws, dtype=torch.float64)
        rows = torch.stack([clean[0] + 3 * noise, clean[1]])
        method(eq.TaskStats(torch.ones(2), jacobian=rows))
        blind(eq.TaskStats(torch.ones(2), jacobian=rows))
        answers.append(method.shares[0].item())
        biased.append(blind.shares[0].item())
    assert sum(answers[300:]) / 900 > 0.35
    assert sum(biased[300:]) / 900 < 0.2


def test_zero_gradients_and_one_task() -> None:
    zero = MoCo(M)(eq.TaskStats(torch.ones(M), jacobian=torch.zeros(M, N)))
    assert zero.tolist() == [0.0] * N
    row = draw_jacobian("random", 1, N, 0)
    method = MoCo(1, beta=0.25)
    torch.testing.assert_close(method(eq.TaskStats(torch.ones(1), jacobian=row)), 0.25 * row[0])
    assert method.shares.tolist() == [1.0]


def test_a_task_that_comes_back_shares_again_with_the_others() -> None:
    method = MoCo(M, beta=1.0, gamma=0.0)
    method(stats(0, [True, True, False]))
    assert method.shares.tolist() == pytest.approx([1 / 3] * 3)
    method(stats(1))
    assert method.shares.tolist() == pytest.approx([1 / 3] * 3)


def test_the_state_is_no_view_of_the_gradients() -> None:
    rows = draw_jacobian("random", M, N, 0).float()
    method = MoCo(M, beta=1.0)
    assert method(eq.TaskStats(torch.ones(M), jacobian=rows)).dtype == torch.float32
    rows.fill_(9.0)
    assert method.tracked.value is not None
    assert not (method.tracked.value == 9.0).any()


def test_hyper_parameters_out_of_their_range() -> None:
    for beta in (0.0, 1.5):
        with pytest.raises(ValueError, match=rf"`beta` should be above 0 and at most 1. Found {beta:g}\."):
            MoCo(M, beta=beta)
    with pytest.raises(ValueError, match="`gamma` should be at least 0. Found -1"):
        MoCo(M, gamma=-1)
    with pytest.raises(ValueError, match="`rho` should be at least 0. Found -1"):
        MoCo(M, rho=-1)
