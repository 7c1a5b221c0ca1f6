"""CoBa against its formulas in a plain loop with numpy's line fits, and on losses whose outcome is known."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import equipoise as eq
from equipoise.methods.coba import CoBa

STEPS, M = 20, 3


def validation_losses(steps: int = STEPS, m: int = M) -> Tensor:
    """Losses that fall at several speeds, with noise."""
    draws = torch.Generator().manual_seed(0)
    fall = torch.exp(
        -torch.arange(steps, dtype=torch.float64)[:, None] / torch.tensor([4.0, 15.0, 40.0, 9.0])[:m]
    )
    return torch.tensor([5.0, 0.2, 30.0, 1.0])[:m] * (
        fall + 0.1 * torch.rand(steps, m, generator=draws).double()
    )


def step_of(losses: Tensor, seen: list[bool] | None = None, here: list[bool] | None = None) -> eq.TaskStats:
    """A training step (of `here`) whose validation batch (of `seen`) has these losses."""
    seen_mask, here_mask = (None if mask is None else torch.tensor(mask) for mask in (seen, here))
    if seen_mask is not None:
        losses = torch.where(seen_mask, losses, 0.0)
    other = eq.TaskStats(losses, present=seen_mask)
    return eq.TaskStats(torch.full_like(losses, 7.0), present=here_mask, other=other)


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(x - max(logits)) for x in logits]
    return [p / sum(powers) for p in powers]


def by_hand(ratios: list[list[float]], window: int, warmup: int, tau: float) -> list[float]:
    """The weights after the relative validation losses of steps 0 to t."""
    t, m = len(ratios) - 1, len(ratios[0])
    if t < warmup:
        return [1 / m] * m
    slopes = []  # of the steps from `warmup` to t
    for now in range(warmup, t + 1):
        steps = list(range(max(0, now - window + 1), now + 1))
        points = [[ratios[s][i] - ratios[now][i] for s in steps] for i in range(m)]  # no noise if constant
        slopes.append([0.0 if len(steps) < 2 else np.polyfit(steps, row, 1)[0] for row in points])
    last, recent = slopes[-1], slopes[-window:]
    size = sum(abs(a) for a in last)
    relative = softmax([m * a / size if size else 0.0 for a in last])
    sizes = [sum(abs(row[i]) for row in recent) for i in range(m)]
    absolute = softmax([-len(recent) * a / s if s else 0.0 for a, s in zip(last, sizes, strict=True)])
    tops = [max(row) for row in slopes]
    size = sum(abs(b) for b in tops)
    course = softmax([-tau * len(tops) * b / size if size else 0.0 for b in tops])
    factor = min(1.0, len(tops) * course[-1])
    return [factor * r + (1 - factor) * a for r, a in zip(relative, absolute, strict=True)]


@pytest.mark.parametrize(
    ("window", "warmup", "tau"), [(5, 4, 5.0), (200, 2, 1.0), (2, 0, 5.0), (6, 10, 0.5), (5, 25, 5.0)]
)
def test_twenty_steps_by_a_plain_loop(window: int, warmup: int, tau: float) -> None:
    losses, method = validation_losses(), CoBa(M, window=window, warmup=warmup, tau=tau)
    ratios = (losses / losses[0]).tolist()
    for t in range(STEPS):
        expected = by_hand(ratios[: t + 1], window, warmup, tau)
        assert method(step_of(losses[t])).tolist() == pytest.approx(expected, rel=1e-9)


def test_twenty_steps_with_absent_tasks_by_a_plain_loop() -> None:
    losses, method = validation_losses(), CoBa(M, window=5, warmup=4)
    first: list[float | None] = [None] * M
    ratios: list[list[float]] = []
    for t in range(STEPS):
        seen, here = [t % 4 != 3, t >= 7, t % 5 != 0], [t % 3 != 1, True, t != 12]
        row = [1.0] * M
        for i in range(M):
            value = losses[t, i].item()
            first[i] = value if seen[i] and first[i] is None else first[i]
            if seen[i]:
                row[i] = value / (first[i] or math.nan)
            elif t > 0:
                row[i] = ratios[-1][i]
        ratios.append(row)
        expected = [w if here[i] else 0.0 for i, w in enumerate(by_hand(ratios, 5, 4, 5.0))]
        assert method(step_of(losses[t], seen, here)).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_defaults_are_those_of_the_authors() -> None:
    losses, method = validation_losses(320, 2), CoBa(2)
    weights = [method(step_of(row)) for row in losses]
    ratios = (losses / losses[0]).tolist()
    for t in (0, 99, 100, 250, 319):
        assert weights[t].tolist() == pytest.approx(by_hand(ratios[: t + 1], 200, 100, 5.0), rel=1e-6)
    assert weights[99].tolist() == [0.5, 0.5] != weights[100].tolist()


def test_a_task_that_lags_gains() -> None:
    """Straight lines have the same slopes at every step: F = 1 and w = R = softmax of m a / sum |a|."""
    method = CoBa(2, window=6, warmup=3)
    for t in range(10):
        weights = method(step_of(torch.tensor([10 - 0.75 * t, 100 - 2.5 * t]).double()))
    assert weights.tolist() == pytest.approx(softmax([-1.5, -0.5]))


def test_a_task_that_begins_to_diverge_loses() -> None:
    method = CoBa(2, window=5, warmup=5)
    for t in range(25):
        weights = method(step_of(torch.tensor([100 - t, 100 - t if t < 20 else 80 + 3 * (t - 20)]).double()))
        if t < 20:
            assert weights.tolist() == pytest.approx([0.5, 0.5])
    assert weights[1] < 0.2


def test_the_scale_of_the_validation_losses_and_the_training_losses_do_not_matter() -> None:
    losses, one, other = validation_losses(), CoBa(M, window=5, warmup=3), CoBa(M, window=5, warmup=3)
    for t in range(STEPS):
        scaled = eq.TaskStats(losses[t] * torch.tensor([1e-3, 1.0, 1e3]))
        found = other(eq.TaskStats(torch.tensor([-1.0, 0.0, 1e6]), other=scaled))
        torch.testing.assert_close(found, one(step_of(losses[t])), rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [0.3, 0.0, -2.0])
def test_losses_that_stand_still_give_equal_weights(value: float) -> None:
    method = CoBa(M, window=5, warmup=2)
    for _ in range(12):
        weights = method(step_of(torch.full((M,), value, dtype=torch.float64)))
        assert weights.tolist() == pytest.approx([1 / M] * M, rel=1e-15)


def test_one_task_has_weight_1() -> None:
    method = CoBa(1, window=4, warmup=0)
    for t in range(STEPS):
        assert method(step_of(validation_losses(m=1)[t])).tolist() == pytest.approx([1.0])


@pytest.mark.parametrize("first", [0.0, -1.0, 1.0])
def test_the_first_loss_counts_by_its_size_and_as_1_if_it_is_0(first: float) -> None:
    """It rises by 1 a step from any of the three, so the slope is 1, next to one of 1 / 2."""
    method = CoBa(2, window=4, warmup=2)
    for t in range(6):
        weights = method(step_of(torch.tensor([first + t, 4.0 + 2.0 * t]).double()))
    assert weights.tolist() == pytest.approx(softmax([4 / 3, 2 / 3]))


def test_losses_that_come_to_rest_leave_no_rounding_to_weigh() -> None:
    method = CoBa(M, window=50, warmup=0)
    for t in range(60):
        weights = method(
            step_of(torch.ones(M).double() if t == 0 else torch.tensor([0.1, 0.3, 0.7]).double())
        )
    assert weights.tolist() == pytest.approx([1 / M] * M, rel=1e-15)


def test_a_task_first_seen_late_starts_from_its_first_loss() -> None:
    """Whatever that loss is: the history behind it holds no jump."""
    method = CoBa(2, window=4, warmup=0)
    for t in range(8):
        weights = method(step_of(torch.tensor([1.0, 0.0 if t == 5 else -3.0]).double(), [True, t == 5]))
    assert weights.tolist() == pytest.approx([0.5, 0.5], rel=1e-15)


def test_the_state_resumes_exactly_with_absent_tasks() -> None:
    losses = validation_losses()
    steps = [step_of(losses[t], [t % 4 != 3, t >= 7, True], [True, t % 3 != 1, True]) for t in range(STEPS)]
    for stop in (0, 1, 3, 11):
        method, whole = CoBa(M, window=5, warmup=4), CoBa(M, window=5, warmup=4)
        expected = [whole(stats) for stats in steps]
        for stats in steps[:stop]:
            method(stats)
        file = io.BytesIO()
        torch.save(method.state_dict(), file)
        file.seek(0)
        resumed = CoBa(M, window=5, warmup=4)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        for stats in steps[stop:]:
            method(stats)  # must not change what was saved
        for t in range(stop, STEPS):
            assert torch.equal(resumed(steps[t]), expected[t])


def test_it_asks_for_a_validation_batch() -> None:
    assert CoBa(2).second_batch == "validation"
    assert CoBa(2).reads == eq.Reads.LOSSES
    with pytest.raises(eq.MissingStatisticError, match=re.escape("A second batch should be measured before")):
        CoBa(2)(eq.TaskStats(torch.ones(2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 1}, "`window` should be at least 2. Found 1."),
        ({"warmup": -1}, "`warmup` should be at least 0. Found -1."),
        ({"tau": -0.5}, "`tau` should be at least 0. Found -0.5."),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CoBa(2, **options)
