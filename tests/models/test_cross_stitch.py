"""Cross-stitch networks against loops over tasks and channels, and against separate networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.models.cross_stitch import CrossStitch, CrossStitchUnit
from models.sharing_cases import (
    assert_encoder_is_shared,
    assert_evaluates_alike,
    assert_precise_outputs,
    built,
    pictures,
    vectors,
)
from models.test_cgc import CONVOLUTIONAL, LAYERS, OUTPUTS
from models.test_segnet import count


def make(**changes: Any) -> CrossStitch:
    return CrossStitch(LAYERS, OUTPUTS, **changes)


def make_convolutional(**changes: Any) -> CrossStitch:
    return CrossStitch(CONVOLUTIONAL, OUTPUTS, **changes)


def shuffled(net: CrossStitch) -> CrossStitch:
    """With units that a transposed matrix cannot hide behind."""
    for module in net.modules():
        if isinstance(module, CrossStitchUnit):
            nn.init.normal_(module.mixing)
    return net


def modules_of(net: Any, task: int) -> list[Any]:
    return [*net.encoder["networks"][task], *net.own[task]]


def combined(mixing: Tensor, features: list[Tensor], task: int) -> Tensor:
    """sum_j A[task, j] y_j channel by channel."""
    channels = []
    for c in range(features[0].shape[1]):
        row = mixing[task] if mixing.ndim == 2 else mixing[c, task]
        channels.append(torch.stack([a * y[:, c] for a, y in zip(row, features, strict=True)]).sum(0))
    return torch.stack(channels, dim=1)


@pytest.mark.parametrize(
    ("build", "x"),
    [
        (make, vectors()),
        (lambda: make(per_channel=True), vectors()),
        (lambda: make(units=[1, 0]), vectors()),
        (make_convolutional, pictures()),
        (lambda: make_convolutional(per_channel=True), pictures()),
        (lambda: make_convolutional(units=[0], per_channel=True), pictures()),
    ],
)
def test_features_after_a_unit_are_combined_over_the_tasks(
    build: Callable[[], CrossStitch], x: Tensor
) -> None:
    net: Any = shuffled(built(build))
    tasks = [x] * len(OUTPUTS)
    for stage in range(len(modules_of(net, 0))):
        tasks = [modules_of(net, k)[stage](z) for k, z in enumerate(tasks)]
        if stage in net.units:
            mixing = net.encoder["units"][net.units.index(stage)].mixing
            tasks = [combined(mixing, tasks, k) for k in range(len(tasks))]
    for head, y, z in zip(net.heads, net(x), tasks, strict=True):
        assert torch.allclose(y, z @ head.weight.T + head.bias, rtol=1e-10)


@pytest.mark.parametrize(("build", "x"), [(make, vectors()), (make_convolutional, pictures())])
def test_identities_leave_the_networks_separate(build: Callable[..., CrossStitch], x: Tensor) -> None:
    for per_channel in (False, True):
        net: Any = built(partial(build, keep=1.0, per_channel=per_channel))
        for task, y in enumerate(net(x)):
            expected = net.heads[task](nn.Sequential(*modules_of(net, task))(x))
            assert torch.allclose(y, expected, rtol=1e-12)


@pytest.mark.parametrize("channels", [None, 2])
def test_units_start_near_the_identity_with_rows_that_sum_to_one(channels: int | None) -> None:
    mixing = CrossStitchUnit(3, 0.9, channels).mixing.detach()
    expected = torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]])
    assert mixing.shape == ((3, 3) if channels is None else (2, 3, 3))
    assert torch.allclose(mixing, expected.expand(mixing.shape))


def test_one_task_is_one_network() -> None:
    assert torch.equal(CrossStitchUnit(1).mixing.detach(), torch.ones(1, 1))


def test_has_the_documented_number_of_parameters() -> None:
    heads = sum((2 + 1) * channels for channels in OUTPUTS)
    network = sum(count(stage.make()) for stage in LAYERS)
    assert count(make()) == 3 * network + 3 * 9 + heads
    assert count(make(units=[0, 2], per_channel=True)) == 3 * network + 9 * (3 + 2) + heads


@pytest.mark.parametrize(
    ("build", "x"),
    [
        (make, vectors()),
        (lambda: make(units=[0]), vectors()),
        (make_convolutional, pictures()),
        (lambda: make_convolutional(units=[0], per_channel=True), pictures()),
    ],
)
def test_all_is_shared_up_to_the_last_unit(build: Callable[[], CrossStitch], x: Tensor) -> None:
    assert_encoder_is_shared(build, x)
    assert_precise_outputs(built(build), x)
    assert_evaluates_alike(built(build), x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CrossStitch([], [1]), "`stages` should hold at least 1. Found 0."),
        (
            lambda: make(units=[]),
            "`units` should be some of the stages 0 to 2. Found []: for separate networks",
        ),
        (lambda: make(units=[3]), "`units` should be some of the stages 0 to 2. Found [3]"),
        (lambda: make(units=[-1, 1]), "`units` should be some of the stages 0 to 2. Found [-1, 1]"),
    ],
)
def test_says_what_is_wrong(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
