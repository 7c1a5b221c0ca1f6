"""GradVac by layer against the paper's algorithm on the gradients themselves, and against torchjd layer by layer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import GradVac as TorchjdGradVac

import equipoise as eq
from draws import draw_jacobian
from equipoise.methods.gradvac_layers import GradVacLayers
from equipoise.solvers.vaccinate import vaccinate
from networks import batch, losses_of, network

STEPS, BLOCKS = 20, [4, 1, 7]


def literal_step(
    rows: list[list[float]], orders: list[list[int]], targets: dict[tuple[int, int, int], float], beta: float
) -> list[float]:
    """Algorithm 1 of the paper on the gradients; `targets` (i, j, block) moves in place."""
    starts = [sum(BLOCKS[:k]) for k in range(len(BLOCKS) + 1)]
    changed = [row[:] for row in rows]
    for i, order in enumerate(orders):
        for j in order:
            for k in range(len(BLOCKS)):
                span = range(starts[k], starts[k + 1])
                own = math.sqrt(sum(changed[i][s] ** 2 for s in span))
                other = math.sqrt(sum(rows[j][s] ** 2 for s in span))
                if i == j or own < 1e-7 * other or other == 0.0:
                    continue
                cosine = sum(changed[i][s] * rows[j][s] for s in span) / own / other
                target = targets.get((i, j, k), 0.0)
                if cosine < target:
                    sine = math.sqrt(max(0.0, 1 - cosine**2))
                    goal = math.sqrt(1 - target**2)
                    factor = own * (target * sine - cosine * goal) / (other * goal)
                    for s in span:
                        changed[i][s] += factor * rows[j][s]
                targets[i, j, k] = (1 - beta) * target + beta * cosine
    return [sum(column) for column in zip(*changed, strict=True)]


@pytest.mark.parametrize("kind", ["random", "conflict", "scaled", "zero_row"])
@pytest.mark.parametrize("m", [2, 3, 6])
def test_twenty_steps_by_the_literal_algorithm(kind: str, m: int) -> None:
    method = GradVacLayers(m, beta=0.3, seed=7)
    targets: dict[tuple[int, int, int], float] = {}
    draws = torch.Generator().manual_seed(7)
    for step in range(STEPS):
        rows = draw_jacobian(kind, m, sum(BLOCKS), step)
        orders = torch.rand(m * m, generator=draws, dtype=torch.float64).view(m, m).argsort(1).tolist()
        found = method(eq.TaskStats(torch.ones(m), jacobian=rows, blocks=BLOCKS))
        expected = literal_step(rows.tolist(), orders, targets, 0.3)
        assert found.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_torchjd_agrees_on_each_layer_of_two_tasks() -> None:
    """With two tasks there is one order; one of its aggregators per layer."""
    ours, theirs = GradVacLayers(2, beta=0.5), [TorchjdGradVac(beta=0.5, eps=0.0) for _ in BLOCKS]
    for step in range(STEPS):
        rows = draw_jacobian("conflict" if step % 2 else "mixed", 2, sum(BLOCKS), step)
        found = ours(eq.TaskStats(torch.ones(2), jacobian=rows, blocks=BLOCKS))
        # A layer of one parameter has cosines of exactly 1 and -1, where torchjd divides by 0.
        for k, (piece, layer) in enumerate(zip(found.split(BLOCKS), rows.split(BLOCKS, dim=1), strict=True)):
            if BLOCKS[k] > 1:
                torch.testing.assert_close(piece, theirs[k](layer), rtol=1e-7, atol=1e-9)


def test_a_corrected_gradient_has_the_target_as_its_cosine() -> None:
    rows = draw_jacobian("random", 2, 9, 0)
    target = (rows[0] @ rows[1] / rows[0].norm() / rows[1].norm()).item() + 0.3
    targets = torch.tensor([[0.0, target], [-1.0, 0.0]], dtype=torch.float64)
    weights, moved = vaccinate((rows @ rows.T)[None], targets[None], torch.tensor([[0, 1], [0, 1]]), 0.5)
    changed = weights[0] @ rows - rows[1]  # the second task's gradient stays
    assert torch.cosine_similarity(changed, rows[1], dim=0).item() == pytest.approx(target)
    assert moved[0, 0, 1].item() == pytest.approx(target - 0.15)
    assert moved[0, 1, 0].item() == pytest.approx(-0.5 + 0.5 * (target - 0.3))


def test_without_memory_it_is_pcgrad_in_each_layer() -> None:
    """Targets of 0 make the correction a projection."""
    method = GradVacLayers(3, beta=0.0, seed=2)
    for step in range(5):
        rows = draw_jacobian("conflict", 3, sum(BLOCKS), step)
        draws = torch.Generator().manual_seed(2)
        for _ in range(step + 1):
            orders = torch.rand(9, generator=draws, dtype=torch.float64).view(3, 3).argsort(1)
        found = method(eq.TaskStats(torch.ones(3), jacobian=rows, blocks=BLOCKS))
        assert_projected(found, rows, orders)


def assert_projected(found: Tensor, rows: Tensor, orders: Tensor) -> None:
    for piece, layer in zip(found.split(BLOCKS), rows.split(BLOCKS, dim=1), strict=True):
        total = torch.zeros_like(piece)
        for i, order in enumerate(orders.tolist()):
            projected = layer[i].clone()
            for j in order:
                if j != i and projected @ layer[j] < 0:
                    projected -= projected @ layer[j] / (layer[j] @ layer[j]) * layer[j]
            total += projected
        torch.testing.assert_close(piece, total)


def test_layers_are_corrected_apart() -> None:
    """Gradients that agree as a whole and conflict in one layer."""
    rows = torch.tensor([[10.0, 1.0], [10.0, -1.0]], dtype=torch.float64)
    stats = {k: eq.TaskStats(torch.ones(2), jacobian=rows, blocks=k) for k in ((2,), (1, 1))}
    assert GradVacLayers(2)(stats[(2,)]).tolist() == [20.0, 0.0]
    assert GradVacLayers(2)(stats[(1, 1)]).tolist() == [20.0, 0.0]
    lopsided = torch.tensor([[10.0, 3.0], [10.0, -1.0]], dtype=torch.float64)
    whole = eq.TaskStats(torch.ones(2), jacobian=lopsided, blocks=[2])
    layers = eq.TaskStats(torch.ones(2), jacobian=lopsided, blocks=[1, 1])
    assert GradVacLayers(2)(whole).tolist() == [20.0, 2.0]
    assert GradVacLayers(2)(layers).tolist() == pytest.approx([20.0, 0.0])


def test_equal_gradients_at_every_step_then_others_stay_finite() -> None:
    """The targets become 1, which no correction of finite length can reach."""
    method = GradVacLayers(2, beta=0.5)
    same = torch.ones(2, 4, dtype=torch.float64)
    for _ in range(80):
        found = method(eq.TaskStats(torch.ones(2), jacobian=same))
        assert found.tolist() == pytest.approx([2.0] * 4)
    assert method.targets.value is not None
    assert method.targets.value[0, 0, 1].item() == pytest.approx(1.0)
    rows = draw_jacobian("random", 2, 4, 0)
    found = method(eq.TaskStats(torch.ones(2), jacobian=rows))
    assert found.isfinite().all()
    assert found.norm() < 1e4 * rows.norm()


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_common_scale_changes_nothing_and_cancelled_gradients_stay_away(scale: float) -> None:
    """Task 0 is cancelled by task 1; what rounding leaves of it must not be turned towards task 2."""
    rows = draw_jacobian("random", 3, 12, 0)
    rows[1] = -0.7 * rows[0]
    for seed in range(6):
        method, other = GradVacLayers(3, seed=seed), GradVacLayers(3, seed=seed)
        for _ in range(4):
            found = method(eq.TaskStats(torch.ones(3), jacobian=scale * rows))
            expected = other(eq.TaskStats(torch.ones(3), jacobian=rows))
            torch.testing.assert_close(found / scale, expected, rtol=1e-6, atol=1e-6)
        assert found.norm() <= 3 * scale * rows.norm(dim=1).sum()


def test_zero_gradients_one_task_and_absent_tasks_leave_their_targets() -> None:
    method = GradVacLayers(3)
    zero = eq.TaskStats(torch.ones(3), jacobian=torch.zeros(3, 12), blocks=BLOCKS)
    assert method(zero).tolist() == [0.0] * 12
    rows = draw_jacobian("random", 3, 12, 0)
    method(eq.TaskStats(torch.ones(3), jacobian=rows, blocks=BLOCKS))
    assert method.targets.value is not None
    before = method.targets.value.clone()
    present = torch.tensor([True, False, True])
    method(eq.TaskStats(torch.ones(3), present=present, jacobian=rows * present[:, None], blocks=BLOCKS))
    assert torch.equal(method.targets.value[:, 1], before[:, 1])
    assert torch.equal(method.targets.value[:, :, 1], before[:, :, 1])
    assert not torch.equal(method.targets.value[:, 0, 2], before[:, 0, 2])
    torch.testing.assert_close(GradVacLayers(1)(eq.TaskStats(torch.ones(1), jacobian=rows[:1])), rows[0])


def test_in_the_engine_a_layer_is_a_shared_tensor() -> None:
    model = network("mlp")
    method = GradVacLayers(3)
    eq.Balancer(method, shared=model.encoder).backward(losses_of(model, batch()))
    assert method.targets.value is not None
    assert method.targets.value.shape == (4, 3, 3)
    assert all(p.grad is not None for p in model.parameters())


def test_other_layers_than_before_are_refused() -> None:
    method = GradVacLayers(2)
    method(eq.TaskStats(torch.ones(2), jacobian=torch.ones(2, 6), blocks=[3, 3]))
    with pytest.raises(
        ValueError, match=r"shared parameters should stay the same.*Found \(3, 2, 2\) where it was"
    ):
        method(eq.TaskStats(torch.ones(2), jacobian=torch.ones(2, 6), blocks=[2, 2, 2]))


def test_beta_out_of_its_range() -> None:
    for beta in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"`beta` should be from 0 to 1. Found {beta:g}\."):
            GradVacLayers(2, beta=beta)
