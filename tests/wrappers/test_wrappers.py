"""Each wrapper against what it does to its base, written out."""

from __future__ import annotations

import pytest
import torch

import equipoise as eq
from draws import draw_jacobian
from equipoise.wrappers.grouped import Grouped
from networks import batch, count_passes, gradients, losses_of, network


def test_grouped_is_the_mean_of_the_bases_weights_over_alike_tasks() -> None:
    method = eq.build_method("constant:weights=[1,9,2,10]+grouped:groups=2", 4)
    assert method(eq.TaskStats(torch.ones(4))).tolist() == [1.5, 9.5, 1.5, 9.5]
    assert method.diagnostics["assignment"].tolist() == [0, 1, 0, 1]
    assert method.diagnostics["group_weights"].tolist() == [1.5, 9.5]


def test_grouped_over_famo_by_hand() -> None:
    losses = torch.tensor([1.0, 1.1, 8.0]).double()
    base = eq.build_method("famo", 3)(eq.TaskStats(losses))
    found = eq.build_method("famo+grouped", 3)(eq.TaskStats(losses))
    assert found.tolist() == pytest.approx([float(base[:2].mean())] * 2 + [float(base[2])])


def test_every_asks_now_and_then_and_reads_less_in_between() -> None:
    method, base = eq.build_method("nashmtl+every:steps=3", 3), eq.build_method("nashmtl", 3)
    for step in range(7):
        jacobian = draw_jacobian("random", 3, 9, step)
        asks = step % 3 == 0
        assert method.reads == (eq.Reads.GRAMIAN if asks else eq.Reads.LOSSES)
        gramian = jacobian @ jacobian.T if asks else None
        found = method(eq.TaskStats(torch.ones(3), gramian=gramian))
        if asks:
            expected = base(eq.TaskStats(torch.ones(3), gramian=gramian))
        assert torch.equal(found, expected)


def test_every_measures_no_rows_on_the_steps_that_it_skips() -> None:
    model = network("mlp")
    passes: list[int] = []
    count_passes(model, passes)
    balancer = eq.Balancer(eq.build_method("mgda+every:steps=2", 3))
    counts = []
    for _ in range(4):
        passes.clear()
        balancer.backward(losses_of(model, batch()))
        counts.append(len(passes))
    assert counts == [3, 1, 3, 1]


def test_every_clips_the_shared_gradient_on_skipped_steps_too() -> None:
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("nashmtl:max_norm=0.5+every:steps=2", 3))
    for _ in range(2):
        model.zero_grad()
        balancer.backward(losses_of(model, batch()))
        shared = [g for name, g in gradients(model).items() if name.startswith("encoder")]
        assert torch.stack([g.norm() for g in shared]).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_every_leaves_unit_heads_alone_on_skipped_steps_too() -> None:
    model, data = network("mlp"), batch()
    losses = losses_of(model, data)
    heads = [
        torch.autograd.grad(loss, head.weight, retain_graph=True)[0]  # type: ignore[arg-type]
        for loss, head in zip(losses, model.heads, strict=True)
    ]
    balancer = eq.Balancer(eq.build_method("cagrad+every:steps=2", 3))
    for _ in range(2):
        model.zero_grad()
        balancer.backward(losses_of(model, data))
        for head, expected in zip(model.heads, heads, strict=True):
            torch.testing.assert_close(head.weight.grad, expected)


def test_ema_by_hand() -> None:
    method, base = eq.build_method("si+ema:decay=0.75", 2), eq.build_method("si", 2)
    average = None
    for step in range(5):
        stats = eq.TaskStats(torch.tensor([1.0 + step, 2.0]).double())
        weights = base(stats)
        average = weights if average is None else 0.75 * average + 0.25 * weights
        torch.testing.assert_close(method(stats), average)


def test_clip_norm_bounds_the_update() -> None:
    jacobian = draw_jacobian("random", 3, 9, 0)
    for bound, active in ((0.1, True), (1e6, False)):
        found = eq.build_method(f"ls+clip_norm:max_norm={bound}", 3)(
            eq.TaskStats(torch.ones(3), gramian=jacobian @ jacobian.T)
        )
        if active:
            assert (found @ jacobian).norm().item() == pytest.approx(bound, rel=1e-5)
            assert torch.allclose(found, found[0].expand(3))
        else:
            assert found.tolist() == [1, 1, 1]


def test_clip_norm_divides_by_a_little_more_than_the_norm() -> None:
    """As torch.nn.utils.clip_grad_norm_ does."""
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    parameter.grad = torch.tensor([3e-6, 0.0, 4e-6], dtype=torch.float64)
    gramian = (parameter.grad @ parameter.grad).view(1, 1)
    torch.nn.utils.clip_grad_norm_([parameter], 1e-6)
    found = eq.build_method("ls+clip_norm:max_norm=1e-6", 1)(eq.TaskStats(torch.ones(1), gramian=gramian))
    torch.testing.assert_close(found * 5e-6, parameter.grad.norm().view(1))


@pytest.mark.parametrize(("base", "groups"), [(True, True), (True, False), (False, True), (False, False)])
def test_grouped_falls_back_where_the_base_or_the_groups_do(base: bool, groups: bool) -> None:
    class Base(eq.Weighting):
        def forward(self, stats: eq.TaskStats) -> torch.Tensor:
            self.diagnostics = {"converged": torch.tensor(base)}
            return stats.losses

    method = Grouped(Base(3))
    method.grouping.forward = lambda x, *_: (x, {"converged": torch.tensor(groups)})  # type: ignore[method-assign]
    method(eq.TaskStats(torch.ones(3)))
    assert bool(method.diagnostics["converged"]) == (base and groups)


def test_fig_5_variants_are_specifications() -> None:
    """Fixed and random groups with fixed or random group weights (Fig. 5 a-d, f-i of GO4Align)."""
    losses = torch.tensor([1.0, 2.0, 4.0])
    given = "clustering=given:assignment=[0,1,1]"
    fixed = eq.build_method(f"constant+grouped:{given}:group_weights=[0.8,0.1]", 3)(eq.TaskStats(losses))
    assert fixed.tolist() == pytest.approx([0.8, 0.1, 0.1])
    varying = eq.build_method(f"rlw+grouped:{given}", 3)
    first, second = (varying(eq.TaskStats(losses)) for _ in range(2))
    assert first[1] == first[2]
    assert first[0] != second[0]
