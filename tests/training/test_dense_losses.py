"""Losses of dense prediction against pixels worked out by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from equipoise.training.dense_losses import depth_loss, normal_loss, segmentation_loss

NO_LABEL = torch.full((2, 2, 3), -1)
ZERO = torch.zeros(2, 1, 2, 3, dtype=torch.float64)


def test_segmentation_is_the_cross_entropy_of_the_labelled_pixels() -> None:
    rows = [[0.0, 0.0], [math.log(3), 50.0], [0.0, 0.0]]
    logits = torch.tensor(rows, dtype=torch.float64).reshape(1, 3, 1, 2)
    # the first pixel: probabilities 1/5, 3/5, 1/5; the second one has no label, and would cost 50
    for label, expected in ((1, math.log(5 / 3)), (0, math.log(5))):
        found = segmentation_loss(logits, torch.tensor([[[label, -1]]]))
        assert float(found) == pytest.approx(expected, rel=1e-12)
    both = segmentation_loss(logits, torch.tensor([[[1, 0]]]))
    assert float(both) == pytest.approx((math.log(5 / 3) + 50) / 2, rel=1e-9)
    other = segmentation_loss(logits, torch.tensor([[[1, 2]]]), ignore=2)
    assert float(other) == pytest.approx(math.log(5 / 3), rel=1e-12)


def test_depth_is_the_absolute_error_where_there_is_a_depth() -> None:
    prediction = torch.tensor([1.0, 5.0, -2.0, 9.0]).double().reshape(1, 1, 2, 2)
    target = torch.tensor([3.0, 4.0, 0.0, 4.0]).double().reshape(1, 1, 2, 2)
    assert float(depth_loss(prediction, target)) == pytest.approx((2 + 1 + 5) / 3, rel=1e-12)
    valid = torch.tensor([True, False, True, False]).reshape(1, 1, 2, 2)
    assert float(depth_loss(prediction, target, valid)) == pytest.approx((2 + 2) / 2, rel=1e-12)
    assert float(depth_loss(prediction, torch.where(valid, target, math.nan), valid)) == 2


def test_normal_is_one_minus_the_dot_product_where_there_is_a_normal() -> None:
    half = math.sqrt(0.5)
    targets = [[1, 0, 0], [half, -half, 0], [0, 0, 0], [0, 0, 1]]  # the second one adds up to 0 and counts
    guesses = [[0.6, 0.8, 0], [half, half, 0], [0, 1, 0], [0, 0, -1]]
    prediction, target = (
        torch.tensor(rows, dtype=torch.float64).T.reshape(1, 3, 2, 2) for rows in (guesses, targets)
    )
    assert float(normal_loss(prediction, target)) == pytest.approx(((1 - 0.6) + 1 + 2) / 3, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "channels", "target"),
    [
        (segmentation_loss, 4, NO_LABEL),
        (depth_loss, 1, ZERO),
        (lambda p, t: depth_loss(p, t + math.nan, t != 0), 1, ZERO),
        (normal_loss, 3, ZERO.expand(2, 3, 2, 3)),
    ],
    ids=["segmentation", "depth", "depth with mask", "normal"],
)
def test_nothing_labelled_gives_zero_and_zero_gradients(
    loss: Callable[[Tensor, Tensor], Tensor], channels: int, target: Tensor
) -> None:
    prediction = torch.randn(2, channels, 2, 3, dtype=torch.float64, requires_grad=True)
    value = loss(prediction, target)
    value.backward()
    assert float(value.detach()) == 0
    assert prediction.grad is not None and torch.equal(prediction.grad, torch.zeros_like(prediction))


def test_an_unlabelled_pixel_gets_no_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(-1, 3, (2, 4, 5), generator=generator)
    depth = torch.rand(2, 1, 4, 5, generator=generator) * (torch.rand(2, 1, 4, 5, generator=generator) < 0.5)
    normal = torch.randn(2, 3, 4, 5, generator=generator) * (depth != 0)
    for loss, target, known in (
        (segmentation_loss, label, label != -1),
        (depth_loss, depth, depth[:, 0] != 0),
        (normal_loss, normal, depth[:, 0] != 0),
    ):
        prediction = torch.randn(
            2, 1 if target is depth else 3, 4, 5, generator=generator, requires_grad=True
        )
        loss(prediction, target).backward()
        assert prediction.grad is not None
        assert torch.equal((prediction.grad != 0).any(1), known)


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    image = torch.zeros(2, 3, 4, 5)
    with pytest.raises(ValueError, match=re.escape("`label` should have shape (b, H, W)") + ".*Found"):
        segmentation_loss(image, torch.zeros(2, 5, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=re.escape("should have one shape. Found (2, 1, 4, 5), (2, 4, 5)")):
        depth_loss(image[:, :1], image[:, 0])
    with pytest.raises(
        ValueError, match=r"one shape \(b, 3, H, W\)\. Found \(2, 3, 4, 5\) and \(2, 1, 4, 5\)"
    ):
        normal_loss(image, image[:, :1])
