"""SoftAdapt against its update lines in plain Python, and its slopes against derivatives that are known."""

import math
import re
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from equipoise import TaskStats
from equipoise.methods.softadapt import SoftAdapt


def positive_losses(steps: int, m: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return 10.0 ** (2 * torch.rand(steps, m, generator=draws, dtype=torch.float64) - 1)


def by_hand(points: Sequence[Sequence[float]], beta: float, variant: str) -> list[float]:
    """Algorithm 1 with the difference of the last two points."""
    slopes = [new - old for old, new in zip(points[-2], points[-1], strict=True)]
    if variant == "normalized":
        size = sum(abs(s) for s in slopes)
        slopes = [s / size for s in slopes]
    raw = [math.exp(beta * s) for s in slopes]
    if variant == "loss_weighted":
        raw = [r * (old + new) / 2 for r, old, new in zip(raw, points[-2], points[-1], strict=True)]
    return [r / sum(raw) for r in raw]


@pytest.mark.parametrize("variant", ["original", "normalized", "loss_weighted"])
@pytest.mark.parametrize("beta", [0.1, -0.7])
def test_by_a_plain_loop(variant: str, beta: float) -> None:
    losses = positive_losses(20, 3)
    method = SoftAdapt(3, beta=beta, variant=variant)
    for t in range(20):
        found = method(TaskStats(losses[t]))
        expected = by_hand(losses[: t + 1].tolist(), beta, variant) if t > 0 else [1 / 3] * 3
        assert found.tolist() == pytest.approx(expected)


def test_the_defaults_are_the_original_with_beta_0_1() -> None:
    losses, method = positive_losses(2, 3), SoftAdapt(3)
    method(TaskStats(losses[0]))
    assert method(TaskStats(losses[1])).tolist() == pytest.approx(by_hand(losses.tolist(), 0.1, "original"))


@pytest.mark.parametrize("window", [2, 5])
def test_points_are_means_over_windows(window: int) -> None:
    losses, method = positive_losses(20, 2), SoftAdapt(2, beta=0.5, window=window)
    for t in range(20):
        found = method(TaskStats(losses[t]))
        if t + 1 < 2 * window:
            assert found.tolist() == [0.5, 0.5]
            continue
        points = [losses[t + 1 - 2 * window : t + 1 - window].mean(0), losses[t + 1 - window : t + 1].mean(0)]
        assert found.tolist() == pytest.approx(by_hand([p.tolist() for p in points], 0.5, "original"))


@pytest.mark.parametrize("order", [1, 2, 3, 5, 8])
def test_slopes_of_polynomials_up_to_the_order_are_exact(order: int) -> None:
    """The weights tell the difference of the slopes: log(w_1 / w_0) / beta, here the derivative at the last step."""
    draws = torch.Generator().manual_seed(order)
    for _ in range(5):
        c = torch.randn(order + 1, generator=draws, dtype=torch.float64).tolist()
        method = SoftAdapt(2, beta=0.3, order=order)
        for t in range(order + 1):
            x = (t - order) / order
            value = sum(c[k] * x**k for k in range(order + 1))
            weights = method(TaskStats(torch.tensor([0.0, value], dtype=torch.float64)))
        slope = math.log(weights[1] / weights[0]) / 0.3 * order
        assert slope == pytest.approx(c[1], rel=1e-6, abs=1e-6)


def test_the_coefficients_of_order_5_are_those_of_the_authors() -> None:
    """Their forward coefficients (-137/60, 5, -5, 10/3, -5/4, 1/5), mirrored in time."""
    for k, expected in enumerate([137 / 60, -5, 5, -10 / 3, 5 / 4, -1 / 5]):
        method = SoftAdapt(2, beta=1.0, order=5)
        for back in range(5, -1, -1):
            weights = method(TaskStats(torch.tensor([0.0, float(back == k)]).double()))
        assert math.log(weights[1] / weights[0]) == pytest.approx(expected)


def test_more_weight_to_what_falls_more_slowly() -> None:
    method = SoftAdapt(2)
    method(TaskStats(torch.tensor([4.0, 4.0])))
    weights = method(TaskStats(torch.tensor([3.0, 2.0])))
    assert weights[0] > weights[1]


def test_standing_losses_have_equal_weights() -> None:
    for variant in ("original", "normalized"):
        method = SoftAdapt(3, variant=variant)
        for _ in range(3):
            weights = method(TaskStats(torch.tensor([4.0, 0.1, 7.0])))
        assert weights.tolist() == pytest.approx([1 / 3] * 3)


def test_absent_task_repeats_its_last_loss_and_a_late_one_starts_level() -> None:
    method, full = SoftAdapt(2, beta=0.5), SoftAdapt(2, beta=0.5)
    one = torch.tensor([True, False])
    for row in ([1.0, 2.0], [3.0, 2.0]):
        expected = full(TaskStats(torch.tensor(row)))
    method(TaskStats(torch.tensor([1.0, 2.0])))
    found = method(TaskStats(torch.tensor([3.0, 0.0]), present=one))
    assert found.tolist() == pytest.approx([expected[0].item(), 0])
    late = SoftAdapt(2, beta=0.5)
    late(TaskStats(torch.tensor([1.0, 0.0]), present=one))
    # Task 1 has slope 2 and task 2, seen for the first time, slope 0.
    share = math.exp(0.5 * 2) / (math.exp(0.5 * 2) + 1)
    assert late(TaskStats(torch.tensor([3.0, 90.0]))).tolist() == pytest.approx([share, 1 - share])


def test_normalized_slopes_do_not_depend_on_a_common_unit() -> None:
    losses = positive_losses(5, 3)
    one, other = SoftAdapt(3, beta=2.0, variant="normalized"), SoftAdapt(3, beta=2.0, variant="normalized")
    for row in losses:
        torch.testing.assert_close(one(TaskStats(row)), other(TaskStats(1e-6 * row)))


def test_its_state_is_the_history_and_no_hyper_parameter() -> None:
    assert set(SoftAdapt(2).state_dict()) == {"history", "steps", "last_losses.seen"}


def test_messages() -> None:
    with pytest.raises(ValueError, match=re.escape("`order` should be at least 1. Found 0.")):
        SoftAdapt(2, order=0)
    with pytest.raises(ValueError, match=re.escape("`window` should be at least 1. Found 0.")):
        SoftAdapt(2, window=0)
    with pytest.raises(ValueError, match=re.escape("`beta` should be finite. Found inf.")):
        SoftAdapt(2, beta=math.inf)
    message = "`variant` should be one of original, normalized, loss_weighted. Found 'soft'."
    with pytest.raises(ValueError, match=re.escape(message)):
        SoftAdapt(2, variant="soft")


def test_only_the_loss_weighted_variant_needs_positive_losses() -> None:
    assert not SoftAdapt(2).needs_positive_losses
    assert SoftAdapt(2, variant="loss_weighted").needs_positive_losses
