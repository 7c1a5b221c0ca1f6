"""The indicators of GO4Align, each against its formula; the method itself is in test_defining and test_golden."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import draw_jacobian

FROM_GRADIENTS = ("grad_norm", "cosine")
PARTS = ("risk", "loss", "scale", "smooth")
EVERY = (*PARTS, "rate", *FROM_GRADIENTS, "random")


def losses_at(step: int, m: int = 4) -> list[float]:
    """Positive losses of very different sizes that fall at different speeds."""
    return [10.0 ** (i - 1) * math.exp(-0.05 * (i + 1) * step) * (1.1 + math.sin(step + i)) for i in range(m)]


def reference(steps: int, beta: float, decay: float) -> list[dict[str, list[float]]]:
    """Eqs. 5 to 7 step by step on plain floats, with mean(L) for the scale so that equal losses give 1."""
    m, q, first, told = 4, [0.25] * 4, losses_at(0), []
    for step in range(steps):
        losses = losses_at(step)
        mean = sum(losses) / m
        q = [share**decay * math.exp(-beta * loss) for share, loss in zip(q, losses, strict=True)]
        q = [share / sum(q) for share in q]
        scale = [mean / loss for loss in losses]
        smooth = [m * share for share in q]
        told.append(
            {
                "loss": [loss / mean for loss in losses],
                "scale": scale,
                "smooth": smooth,
                "risk": [a * b for a, b in zip(scale, smooth, strict=True)],
                "rate": [loss / start for loss, start in zip(losses, first, strict=True)],
            }
        )
    return told


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_gamma_are_weights_without_grouping(part: str) -> None:
    method = eq.build_method(f"go4align:step=0.01:decay=0.9:clustering=none:indicator={part}", 4)
    assert method.reads == eq.Reads.LOSSES
    for step, expected in enumerate(reference(20, 0.01, 0.9)):
        weights = method(eq.TaskStats(torch.tensor(losses_at(step)).double()))
        assert weights.tolist() == pytest.approx(expected[part], rel=1e-6)
        assert method.diagnostics["indicators"].equal(weights)


@pytest.mark.parametrize("part", PARTS)
def test_the_factorial_of_components_and_grouping_is_a_list_of_specifications(part: str) -> None:
    """Loss, P, Q or both, grouped or not (the open question of the reviews); grouping takes means of the same."""
    alone = eq.build_method(f"go4align:step=0.01:indicator={part}:clustering=none", 4)
    grouped = eq.build_method(f"go4align:step=0.01:indicator={part}:groups=2", 4)
    for step in range(10):
        stats = eq.TaskStats(torch.tensor(losses_at(step)).double())
        gamma, weights = alone(stats), grouped(stats)
        labels = grouped.diagnostics["assignment"]
        for group in (0, 1):
            assert weights[labels == group].tolist() == pytest.approx(
                [float(gamma[labels == group].mean())] * int((labels == group).sum())
            )
    assert weights.unique().numel() == 2


@pytest.mark.parametrize("indicator", EVERY)
def test_equal_tasks_weigh_1_under_every_indicator(indicator: str) -> None:
    jacobian = torch.ones(4, 3, dtype=torch.float64)
    method = eq.build_method(f"go4align:indicator={indicator}", 4)
    for _ in range(3):
        weights = method(eq.TaskStats(torch.full((4,), 0.3), gramian=jacobian @ jacobian.T))
        assert weights.tolist() == pytest.approx([1.0] * 4)


def numbers_of(indicator: str, losses: list[float], jacobian: Tensor) -> list[float]:
    """The indicators that are no weights, from the gradients themselves."""
    match indicator:
        case "rate":
            return [loss / start for loss, start in zip(losses, losses_at(0), strict=True)]
        case "grad_norm":
            return [math.sqrt(sum(x * x for x in row)) for row in jacobian.tolist()]
        case _:
            mean = jacobian.mean(0)
            return [float(torch.nn.functional.cosine_similarity(row, mean, dim=0)) for row in jacobian]


@pytest.mark.parametrize("indicator", ["rate", "grad_norm", "cosine"])
def test_other_indicators_group_the_tasks_and_the_risk_weighs_the_groups(indicator: str) -> None:
    method = eq.build_method(f"go4align:step=0.01:indicator={indicator}:groups=2", 4)
    plain = eq.build_method("go4align:step=0.01:clustering=none", 4)
    for step in range(8):
        losses, jacobian = losses_at(step), draw_jacobian("mixed", 4, 6, step)
        stats = eq.TaskStats(torch.tensor(losses).double(), gramian=jacobian @ jacobian.T)
        weights, gamma = method(stats), plain(stats)
        found, labels = method.diagnostics["indicators"], method.diagnostics["assignment"]
        assert found.tolist() == pytest.approx(numbers_of(indicator, losses, jacobian), rel=1e-6)
        if step > 0 or indicator != "rate":
            low, high = found[labels == 0], found[labels == 1]
            assert float(low.max()) < float(high.min())
        for group in labels.unique():
            mean = float(gamma[labels == group].mean())
            assert weights[labels == group].tolist() == pytest.approx([mean] * int((labels == group).sum()))


def test_gradients_are_read_where_the_indicator_comes_from_them() -> None:
    for indicator in EVERY:
        method = eq.build_method(f"go4align:indicator={indicator}", 4)
        expected = eq.Reads.GRAMIAN if indicator in FROM_GRADIENTS else eq.Reads.LOSSES
        assert method.reads == expected
        if indicator in FROM_GRADIENTS:
            with pytest.raises(eq.MissingStatisticError):
                method(eq.TaskStats(torch.ones(4)))
        else:
            assert method(eq.TaskStats(torch.ones(4))).isfinite().all()


def test_zero_gradients_have_cosine_0() -> None:
    method = eq.build_method("go4align:indicator=cosine", 3)
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    for jacobian, expected in ((rows, [0.0, 0.0, 0.0]), (rows[[0, 1, 0]], [1.0, 0.0, 1.0])):
        method(eq.TaskStats(torch.ones(3), gramian=jacobian @ jacobian.T))
        assert method.diagnostics["indicators"].tolist() == pytest.approx(expected)


def test_rate_starts_at_the_first_loss_that_is_seen() -> None:
    method = eq.build_method("go4align:indicator=rate:groups=3", 3)
    steps = [
        ([4.0, 8.0, 0.0], [True, True, False], [1.0, 1.0, 1.0]),
        ([2.0, 0.0, 5.0], [True, False, True], [0.5, 1.0, 1.0]),
        ([1.0, 2.0, 10.0], [True, True, True], [0.25, 0.25, 2.0]),
        ([0.0, 6.0, 0.0], [False, True, False], [0.25, 0.75, 2.0]),
    ]
    for losses, present, expected in steps:
        stats = eq.TaskStats(torch.tensor(losses), present=torch.tensor(present))
        weights = method(stats)
        assert method.diagnostics["indicators"].tolist() == pytest.approx(expected)
        assert weights[~stats.present].tolist() == [0.0] * present.count(False)


def test_random_indicator_draws_groups_of_the_risk() -> None:
    """Weights differ from step to step, their sum, that of gamma, does not."""
    method = eq.build_method("go4align:indicator=random:step=0", 6)
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    gamma = eq.build_method("go4align:clustering=none:step=0", 6)(eq.TaskStats(losses))
    drawn = [method(eq.TaskStats(losses)) for _ in range(20)]
    assert len({tuple(weights.tolist()) for weights in drawn}) > 10
    for weights in drawn:
        assert float(weights.sum()) == pytest.approx(float(gamma.sum()))
    other = eq.build_method("go4align:indicator=random:step=0:seed=1", 6)
    assert other(eq.TaskStats(losses)).tolist() != drawn[0].tolist()


@pytest.mark.parametrize("indicator", EVERY)
def test_state_resumes_and_travels(indicator: str) -> None:
    def run(method: eq.Method, steps: range) -> list[Tensor]:
        found = []
        for step in steps:
            jacobian = draw_jacobian("random", 4, 6, step)
            losses = torch.tensor(losses_at(step)).double()
            found.append(method(eq.TaskStats(losses, gramian=jacobian @ jacobian.T)))
        return found

    def build() -> eq.Method:
        return eq.build_method(f"go4align:indicator={indicator}:step=0.01", 4)

    whole, first, second = run(build(), range(12)), build(), build()
    run(first, range(5))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    for method in (second, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        for found, expected in zip(run(method, range(5, 12)), whole[5:], strict=True):
            assert found.equal(expected)


def test_smooth_takes_losses_of_any_sign() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    for indicator, ok in (("smooth", True), ("risk", False), ("rate", False)):
        balancer = eq.Balancer(eq.build_method(f"go4align:indicator={indicator}", 2), shared=[weight])
        losses = [weight.sum() - 5.0, weight.square().sum()]
        if ok:
            assert balancer.backward(losses).weights.isfinite().all()
        else:
            with pytest.raises(ValueError, match="above 0"):
                balancer.backward(losses)


def test_an_unknown_indicator_is_named() -> None:
    with pytest.raises(
        ValueError,
        match="`indicator` should be one of risk, loss, scale, smooth, shuffled, rate, .*, random. Found 'feat",
    ):
        eq.build_method("go4align:indicator=features", 3)


def test_shuffled_indicators_are_the_weights_of_the_method_on_other_tasks() -> None:
    """Over many steps every task gets every weight; in each step the weights are those of the risk."""
    plain = eq.build_method("go4align:step=0.01:groups=2", 4)
    shuffled = eq.build_method("go4align:step=0.01:groups=2:indicator=shuffled", 4)
    moved = torch.zeros(4)
    for step in range(40):
        stats = eq.TaskStats(torch.tensor(losses_at(step)).double())
        right, dealt = plain(stats), shuffled(stats)
        assert dealt.sort().values.tolist() == pytest.approx(right.sort().values.tolist())
        moved += (dealt - right).abs() > 1e-9
    assert moved.min() > 3
    assert shuffled.reads == eq.Reads.LOSSES
