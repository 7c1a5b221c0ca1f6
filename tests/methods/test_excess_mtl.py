"""ExcessMTL against its update written out in plain Python and against torchjd."""

from __future__ import annotations

import math

import pytest
import torch
from torchjd.aggregation import ExcessMTLWeighting

import equipoise as eq
from draws import draw_jacobian
from equipoise.methods.excess_mtl import ExcessMTL

STEPS, M, N = 20, 3, 7


def stats(rows: torch.Tensor, present: list[bool] | None = None) -> eq.TaskStats:
    if present is None:
        return eq.TaskStats(torch.ones(M), jacobian=rows)
    mask = torch.tensor(present)
    return eq.TaskStats(torch.ones(M), present=mask, jacobian=rows * mask[:, None])


@pytest.mark.parametrize("step_size", [0.01, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_twenty_steps_by_a_plain_loop(step_size: float, masked: bool) -> None:
    """As the authors' code, which leaves the weights alone at the first step; absent tasks as documented."""
    method = ExcessMTL(M, step_size=step_size)
    sums, weights = [[0.0] * N for _ in range(M)], [1.0] * M
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    for step in range(STEPS):
        jacobian = draw_jacobian("scaled", M, N, step)
        present = [True, step % 3 != 1, step >= 4] if masked else [True] * M
        here = [i for i in range(M) if present[i]]
        for i in here:
            row = jacobian[i].tolist()
            sums[i] = [s + g * g for s, g in zip(sums[i], row, strict=True)]
            risk = sum(g * g / math.sqrt(s + 1e-7) for s, g in zip(sums[i], row, strict=True))
            last[i] = risk / first.setdefault(i, risk)
        mean = sum(last[i] for i in here) / len(here)
        raw = [w * math.exp(step_size * last.get(i, mean)) for i, w in enumerate(weights)]
        weights = [M * w / sum(raw) for w in raw]
        found = method(stats(jacobian, present if masked else None))
        expected = [w if here else 0.0 for w, here in zip(weights, present, strict=True)]
        assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_torchjd_agrees_but_for_the_factor_m() -> None:
    """With one warm-up step, which is the authors' first step; its division adds 1e-7 to the first risks."""
    ours, theirs = ExcessMTL(M, step_size=0.3), ExcessMTLWeighting(robust_step_size=0.3, n_warmup_steps=1)
    for step in range(STEPS):
        jacobian = draw_jacobian("scaled", M, N, step)
        torch.testing.assert_close(ours(stats(jacobian)) / M, theirs(jacobian), rtol=1e-4, atol=1e-12)


def test_the_task_that_stays_far_from_convergence_gains_weight() -> None:
    """Gradients of one task stay as they are, those of the other fade."""
    method = ExcessMTL(2, step_size=0.1)
    row = torch.ones(4, dtype=torch.float64)
    for step in range(50):
        weights = method(eq.TaskStats(torch.ones(2), jacobian=torch.stack([row, 0.7**step * row])))
        assert method.log_weights.sum().item() == pytest.approx(0.0, abs=1e-12)  # it does not drift away
    assert weights[0] > 1.2
    assert weights.sum().item() == pytest.approx(2.0)


def test_first_step_has_equal_weights_whatever_the_gradients() -> None:
    for kind in ("random", "six_decades", "zero_row"):
        weights = ExcessMTL(M, step_size=5.0)(stats(draw_jacobian(kind, M, N, 0)))
        if kind != "zero_row":
            assert weights.tolist() == pytest.approx([1.0] * M)
        assert weights.isfinite().all()


def test_zero_gradients_are_risk_0_and_no_reference() -> None:
    method = ExcessMTL(M, step_size=1.0)
    assert method(stats(torch.zeros(M, N))).tolist() == pytest.approx([1.0] * M)
    first = draw_jacobian("zero_row", M, N, 0)
    dead = int((first.norm(dim=1) == 0).nonzero())
    weights = method(stats(first))
    others = [weights[i].item() for i in range(M) if i != dead]
    assert others[0] == pytest.approx(others[1])
    assert weights[dead].item() == pytest.approx(others[0] / math.e)
    method(stats(draw_jacobian("random", M, N, 1)))
    assert (method.first_risks > 0).all()


def test_weights_saturate_where_the_published_product_of_exponentials_overflows() -> None:
    method = ExcessMTL(2, step_size=1.0)
    tiny = torch.full((4,), 1e-12, dtype=torch.float64)
    method(eq.TaskStats(torch.ones(2), jacobian=torch.stack([tiny, torch.ones(4).double()])))
    for _ in range(3):
        weights = method(eq.TaskStats(torch.ones(2), jacobian=torch.ones(2, 4).double()))
    assert weights.tolist() == pytest.approx([2.0, 0.0])


def test_the_state_is_no_view_of_the_gradients() -> None:
    rows = draw_jacobian("random", M, N, 0).float()
    method = ExcessMTL(M)
    method(stats(rows))
    assert method.squares.value is not None
    torch.testing.assert_close(method.squares.value, rows**2)
    kept = method.squares.value.clone()
    rows.fill_(9.0)
    assert torch.equal(method.squares.value, kept)


def test_in_the_engine_heads_get_the_weights_too() -> None:
    shared = torch.zeros(N, dtype=torch.float64, requires_grad=True)
    heads = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(M)]
    method = ExcessMTL(M, step_size=1.0)
    balancer = eq.Balancer(method, shared=[shared])
    for step in range(3):
        for leaf in (shared, *heads):
            leaf.grad = None
        jacobian = draw_jacobian("random", M, N, step)
        record = balancer.backward([jacobian[i] @ shared + heads[i] for i in range(M)])
        torch.testing.assert_close(shared.grad, record.weights @ jacobian)
        assert [head.grad.item() for head in heads if head.grad is not None] == record.weights.tolist()


def test_step_size_out_of_its_range() -> None:
    with pytest.raises(ValueError, match="`step_size` should be at least 0. Found -1"):
        ExcessMTL(M, step_size=-1)
