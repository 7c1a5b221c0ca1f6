"""MMoE against loops over samples, experts and tasks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.models.mmoe import MMoE
from models.sharing_cases import (
    assert_encoder_is_shared,
    assert_evaluates_alike,
    assert_precise_outputs,
    built,
    convolutional_expert,
    expert,
    pictures,
    vectors,
)
from models.test_segnet import count


def make() -> MMoE:
    return MMoE(expert, 3, [2, 1], inputs=4, experts=3)


def make_convolutional() -> MMoE:
    return MMoE(convolutional_expert, 3, [2, 1], inputs=64, experts=2)


def softmax(scores: list[Tensor]) -> list[Tensor]:
    powers = [score.exp() for score in scores]
    return [power / torch.stack(powers).sum() for power in powers]


def weighted(gate: Any, sample: Tensor, outputs: list[Tensor]) -> Tensor:
    """sum_i softmax(W x)_i outputs_i for one sample."""
    weights = softmax([(row * sample.flatten()).sum() for row in gate.weigh.weight])
    assert len(weights) == len(outputs)
    return torch.stack([w * y for w, y in zip(weights, outputs, strict=True)]).sum(0)


@pytest.mark.parametrize(("build", "x"), [(make, vectors()), (make_convolutional, pictures())])
def test_a_task_sees_its_own_mixture_of_the_same_experts(build: Callable[[], MMoE], x: Tensor) -> None:
    net: Any = built(build)
    outputs = net(x)
    for n, sample in enumerate(x):
        experts = [module(sample[None])[0] for module in net.encoder]
        for task, head in enumerate(net.heads):
            features = weighted(net.gates[task], sample, experts)
            expected = head.weight @ features + head.bias
            assert torch.allclose(outputs[task][n], expected, rtol=1e-10)


def test_one_expert_is_hard_sharing() -> None:
    net: Any = built(lambda: MMoE(expert, 3, [2, 1], inputs=4, experts=1))
    features = net.encoder[0](vectors())
    for head, y in zip(net.heads, net(vectors()), strict=True):
        assert torch.allclose(y, head(features), rtol=1e-12)


def test_has_the_documented_number_of_parameters() -> None:
    heads = sum((3 + 1) * channels for channels in (2, 1))
    assert count(make()) == 3 * count(expert()) + 2 * 3 * 4 + heads


@pytest.mark.parametrize(("build", "x"), [(make, vectors()), (make_convolutional, pictures())])
def test_experts_are_shared_and_gates_are_not(build: Callable[[], MMoE], x: Tensor) -> None:
    assert_encoder_is_shared(build, x)
    assert_precise_outputs(built(build), x)
    assert_evaluates_alike(built(build), x)


def test_experts_may_give_maps_where_heads_take_them() -> None:
    def head(channels: int, outputs: int) -> nn.Module:
        return nn.Conv2d(channels, outputs, 1)

    net = MMoE(lambda: nn.Conv2d(1, 3, 3, padding=1), 3, [2, 1], inputs=64, head=head).double()
    assert [tuple(y.shape) for y in net(pictures())] == [(3, 2, 8, 8), (3, 1, 8, 8)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MMoE(expert, 3, [1], inputs=4, experts=0), "`experts` should be at least 1. Found 0."),
        (lambda: MMoE(expert, 3, [1], inputs=0), "`inputs` should be at least 1. Found 0."),
        (lambda: MMoE(expert, 3, [1], inputs=9).double()(vectors()), "samples of shape (4,), which have 4."),
    ],
)
def test_says_what_is_wrong(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
