"""Each method against its paper's definition, written out in plain Python or on the gradients themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import WELL_CONDITIONED, draw_jacobian
from equipoise.methods.pcgrad import project_conflicts


def positive_losses(steps: int, m: int, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return 10.0 ** (2 * torch.rand(steps, m, generator=draws, dtype=torch.float64) - 1)


def weights_for(method: eq.Method, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
    values = torch.ones(len(jacobian)).double() if losses is None else losses
    return method(eq.TaskStats(values, gramian=jacobian @ jacobian.T))


def test_rlw_is_the_softmax_of_its_seeds_normals() -> None:
    draws = torch.Generator().manual_seed(5)
    method = eq.build_method("rlw", 4, seed=5)
    for _ in range(3):
        normals = [float(x) for x in torch.randn(4, generator=draws, dtype=torch.float64)]
        total = sum(math.exp(x) for x in normals)
        found = method(eq.TaskStats(torch.ones(4)))
        assert found.tolist() == pytest.approx([math.exp(x) / total for x in normals])


def test_dwa_by_a_plain_loop() -> None:
    window, temperature, losses = 3, 0.7, positive_losses(12, 2)
    method = eq.build_method("dwa", 2, window=window, temperature=temperature)
    history = [[1.0, 1.0] for _ in range(2 * window)]
    for t in range(12):
        history = [*history[1:], losses[t].tolist()]
        rate = [sum(h[i] for h in history[window:]) / sum(h[i] for h in history[:window]) for i in range(2)]
        raw = [math.exp(r / temperature) for r in rate]
        expected = [r / sum(raw) for r in raw] if t > window else [0.5, 0.5]
        assert method(eq.TaskStats(losses[t])).tolist() == pytest.approx(expected)


def test_go4align_without_grouping_is_risk_times_smoothed_share() -> None:
    m, step, losses = 4, 0.05, positive_losses(20, 4)
    method = eq.build_method("go4align", m, groups=m, step=step)
    q = [1 / m] * m
    for t in range(20):
        row = losses[t].tolist()
        q = [share * math.exp(-step * loss) for share, loss in zip(q, row, strict=True)]
        q = [share / sum(q) for share in q]
        expected = [sum(row) / loss * share for loss, share in zip(row, q, strict=True)]
        assert method(eq.TaskStats(losses[t])).tolist() == pytest.approx(expected)
        assert method.diagnostics["indicators"].tolist() == pytest.approx(expected)


def test_go4align_limits() -> None:
    losses = positive_losses(1, 5)[0]
    one = eq.build_method("go4align", 5, groups=1)(eq.TaskStats(losses))
    assert one.tolist() == pytest.approx([one[0].item()] * 5)
    scale = eq.build_method("go4align", 5, groups=5, step=0.0)(eq.TaskStats(losses)) * losses
    assert scale.tolist() == pytest.approx([scale[0].item()] * 5)
    equal = eq.build_method("go4align", 5, groups=2)(eq.TaskStats(torch.full((5,), 3.0)))
    assert equal.tolist() == pytest.approx([1.0] * 5)


def test_go4align_keeps_digits_where_a_float32_share_is_0() -> None:
    """log q over 10,000 steps at step 0.1 reaches -900, where exp underflows."""
    method = eq.build_method("go4align", 2, groups=2, step=0.1)
    for _ in range(10_000):
        weights = method(eq.TaskStats(torch.tensor([1.0, 1.9])))
    assert weights.isfinite().all()
    state = method.state_dict()["log_q"]
    assert (state[0] - state[1]).item() == pytest.approx(0.1 * 0.9 * 10_000)


def test_go4align_decay_forgets() -> None:
    method = eq.build_method("go4align", 2, groups=2, step=0.1, decay=0.5)
    for _ in range(200):
        method(eq.TaskStats(torch.tensor([1.0, 3.0])))
    state = method.state_dict()["log_q"]
    assert (state[0] - state[1]).item() == pytest.approx(0.1 * 2.0 / (1 - 0.5))


def test_go4align_given_random_and_fixed_groups() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0])
    given = eq.build_method("go4align", 3, clustering="given", assignment=[1, 0, 1], step=0.0)
    gamma = [7 / 3, 7 / 6, 7 / 12]
    expected = [(gamma[0] + gamma[2]) / 2, gamma[1], (gamma[0] + gamma[2]) / 2]
    assert given(eq.TaskStats(losses)).tolist() == pytest.approx(expected)
    fixed = eq.build_method("go4align", 3, clustering="given", assignment=[1, 0, 1], group_weights=[0.8, 0.1])
    assert fixed(eq.TaskStats(losses)).tolist() == pytest.approx([0.1, 0.8, 0.1])
    random = eq.build_method("go4align", 3, clustering="random", group_weights=[0.8, 0.1])
    seen = {tuple(random(eq.TaskStats(losses)).tolist()) for _ in range(60)}
    assert seen == {(0.8, 0.8, 0.1), (0.8, 0.1, 0.8), (0.1, 0.8, 0.8)}


def test_absent_half_of_the_time_go4align_and_dwa_end_where_always_present_ends() -> None:
    for name in ("go4align:groups=2:step=0.01", "dwa:window=5"):
        always, half = eq.build_method(name, 2), eq.build_method(name, 2)
        for t in range(400):
            losses = torch.tensor([1.0, 1.5]).double()
            always(eq.TaskStats(losses))
            present = torch.tensor([True, t % 2 == 0])
            half(eq.TaskStats(torch.where(present, losses, 0.0), present=present))
        stats = eq.TaskStats(torch.tensor([1.0, 1.5]).double())
        torch.testing.assert_close(half(stats), always(stats), rtol=1e-6, atol=1e-9)


def test_famo_is_adam_on_the_softmax_gradient() -> None:
    losses = positive_losses(30, 3)
    method = eq.build_method("famo", 3, lr=0.05, weight_decay=1e-2)
    xi = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([xi], lr=0.05, weight_decay=1e-2)
    for t in range(29):
        leaf = losses[t].clone().requires_grad_()
        z = torch.softmax(xi, 0)
        scale = (z / (leaf + 1e-8)).sum().detach()
        total = ((leaf + 1e-8).log() * z.detach() / scale).sum()
        (expected,) = torch.autograd.grad(total, leaf)
        torch.testing.assert_close(method(eq.TaskStats(losses[t])), expected, rtol=1e-9, atol=0)
        fall = (losses[t] + 1e-8).log() - (losses[t + 1] + 1e-8).log()
        adam.zero_grad()
        z.backward(fall)
        adam.step()
        method.after_step(losses[t + 1])


def literal_pcgrad(jacobian: Tensor, orders: Tensor) -> Tensor:
    """Algorithm 1 of the paper on the gradients."""
    total = torch.zeros_like(jacobian[0])
    for i, order in enumerate(orders.tolist()):
        projected = jacobian[i].clone()
        for j in order:
            product = projected @ jacobian[j]
            if j != i and product < 0:
                projected -= product / (jacobian[j] @ jacobian[j]) * jacobian[j]
        total += projected
    return total


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_pcgrad_is_the_literal_algorithm(kind: str) -> None:
    for m in (2, 3, 7):
        for seed in range(20):
            jacobian = draw_jacobian(kind, m, 12, seed)
            draws = torch.Generator().manual_seed(seed)
            orders = torch.stack([torch.randperm(m, generator=draws) for _ in range(m)])
            found = project_conflicts(jacobian @ jacobian.T, orders) @ jacobian
            torch.testing.assert_close(found, literal_pcgrad(jacobian, orders), rtol=1e-8, atol=1e-9)


def test_pcgrad_visits_the_tasks_in_every_order() -> None:
    method = eq.build_method("pcgrad", 3, seed=1)
    orders = {tuple(row) for _ in range(200) for row in method._orders(3).tolist()}  # type: ignore[operator]
    assert len(orders) == 6


def test_pcgrad_mean_is_the_sum_over_m() -> None:
    jacobian = draw_jacobian("conflict", 4, 9, 0)
    total = weights_for(eq.build_method("pcgrad", 4, order="identity"), jacobian)
    mean = weights_for(eq.build_method("pcgrad", 4, order="identity", reduction="mean"), jacobian)
    torch.testing.assert_close(mean * 4, total)


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_imtl_g_projects_equally_on_all_unit_gradients(kind: str) -> None:
    jacobian = draw_jacobian(kind, 5, 30, 2)
    method = eq.build_method("imtl_g", 5)
    weights = weights_for(method, jacobian)
    assert bool(method.diagnostics["converged"])
    assert weights.sum().item() == pytest.approx(1.0)
    projections = (weights @ jacobian) @ (jacobian / jacobian.norm(dim=1, keepdim=True)).T
    assert projections.tolist() == pytest.approx([projections[0].item()] * 5, rel=1e-6)


def test_imtl_g_falls_back_on_equal_weights_where_gradients_depend_linearly() -> None:
    method = eq.build_method("imtl_g", 3)
    weights = weights_for(method, draw_jacobian("rank_one", 3, 8, 0))
    assert weights.tolist() == pytest.approx([1 / 3] * 3)
    assert not bool(method.diagnostics["converged"])


def test_nashmtl_solves_its_equation_and_keeps_weights_where_there_is_no_solution() -> None:
    method = eq.build_method("nashmtl", 4)
    jacobian = draw_jacobian("scaled", 4, 20, 1)
    weights = weights_for(method, jacobian)
    torch.testing.assert_close(weights * (jacobian @ jacobian.T @ weights), torch.ones(4).double())
    stationary = torch.cat([jacobian[:3], -jacobian[:3].sum(0, keepdim=True)])
    torch.testing.assert_close(weights_for(method, stationary), weights)
    assert not bool(method.diagnostics["converged"])


def test_mgda_by_scanning_the_simplex_of_two_tasks() -> None:
    for seed in range(20):
        jacobian = draw_jacobian("mixed", 2, 6, seed)
        weights = weights_for(eq.build_method("mgda", 2), jacobian)
        shares = torch.linspace(0, 1, 20_001).double()
        norms = (shares[:, None] * jacobian[0] + (1 - shares[:, None]) * jacobian[1]).norm(dim=1)
        assert (weights @ jacobian).norm().item() / 2 <= norms.min().item() + 1e-12
        assert weights[0].item() / 2 == pytest.approx(shares[norms.argmin()].item(), abs=1e-4)


def test_cagrad_maximises_the_worst_task_in_the_ball() -> None:
    """Against many points of the ball around the mean gradient: none serves its worst task better."""
    for seed in range(5):
        jacobian = draw_jacobian("conflict", 3, 5, seed)
        c, mean = 0.5, jacobian.mean(0)
        found = weights_for(eq.build_method("cagrad", 3, c=c), jacobian) @ jacobian * (1 + c * c) / 3
        draws = torch.Generator().manual_seed(seed)
        around = torch.randn(200_000, 5, generator=draws, dtype=torch.float64)
        ball = mean + c * mean.norm() * around / around.norm(dim=1, keepdim=True)
        best = (ball @ jacobian.T).min(1).values.max()
        assert (found - mean).norm() <= c * mean.norm() * (1 + 1e-6)
        assert (jacobian @ found).min() >= best - 1e-6 * mean.norm()


def test_graddrop_keeps_one_sign_per_coordinate_as_often_as_it_is_pure() -> None:
    jacobian = torch.tensor([[3.0, -1.0, 0.0], [-1.0, -2.0, 0.0]]).double()
    method = eq.build_method("graddrop", 2, max_norm=0, seed=0)
    answers = torch.stack([method(eq.TaskStats(torch.ones(2), jacobian=jacobian)) for _ in range(4000)])
    assert set(answers[:, 0].tolist()) == {3.0, -1.0}
    assert (answers[:, 0] == 3.0).double().mean().item() == pytest.approx(0.75, abs=0.03)
    assert (answers[:, 1] == -3.0).all()
    assert (answers[:, 2] == 0.0).all()


def test_si_stl_constant_and_uw_written_out() -> None:
    losses = torch.tensor([2.0, 4.0, 0.5]).double()
    stats = eq.TaskStats(losses)
    assert eq.build_method("si", 3)(stats).tolist() == [0.5, 0.25, 2.0]
    assert eq.build_method("stl", 3, task=1)(stats).tolist() == [0, 1, 0]
    assert eq.build_method("constant", 3, weights=[1, 0, 2.5])(stats).tolist() == [1, 0, 2.5]
    uw = eq.build_method("uw", 3)
    uw.load_state_dict({"log_variances": torch.tensor([0.0, 1.0, -1.0])})
    assert uw(stats).tolist() == pytest.approx([0.5, 0.5 * math.exp(-1), 0.5 * math.exp(1)])
    assert isinstance(uw, eq.Weighting)
    assert uw.penalty().item() == pytest.approx(0.0)
