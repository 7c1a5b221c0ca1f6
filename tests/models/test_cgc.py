"""CGC and PLE against loops over samples and experts, and against what they turn into at the edges."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.models.cgc import CGC, PLE
from equipoise.models.mmoe import MMoE
from equipoise.models.multitask import MultiTaskNet, Stage
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
from models.test_mmoe import weighted
from models.test_segnet import count

OUTPUTS = [2, 1, 1]
LAYERS = [
    Stage(expert, 3),
    Stage(lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh()), 5),
    Stage(lambda: nn.Sequential(nn.Linear(5, 2), nn.Tanh()), 2),
]
CONVOLUTIONAL = [
    Stage(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh()), 4),
    Stage(lambda: nn.Sequential(nn.Conv2d(4, 3, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 3),
]


def cgc(shared: int = 2, own: int = 1) -> CGC:
    return CGC(expert, 3, OUTPUTS, inputs=4, shared=shared, own=own)


def ple(layers: int = 3, own: int = 2) -> PLE:
    return PLE(LAYERS[:layers], OUTPUTS, inputs=4, shared=1, own=own)


def convolutional_cgc() -> CGC:
    return CGC(convolutional_expert, 3, OUTPUTS, inputs=64, shared=1, own=1)


def convolutional_ple() -> PLE:
    return PLE(CONVOLUTIONAL, OUTPUTS, inputs=64, shared=1, own=1)


@pytest.mark.parametrize(("build", "x"), [(cgc, vectors()), (convolutional_cgc, pictures())])
def test_a_task_mixes_its_own_experts_and_the_shared_ones(build: Callable[[], CGC], x: Tensor) -> None:
    net: Any = built(build)
    outputs = net(x)
    for n, sample in enumerate(x):
        shared = [module(sample[None])[0] for module in net.encoder]
        for task, head in enumerate(net.heads):
            own = [module(sample[None])[0] for module in net.own[task]]
            features = weighted(net.gates[task], sample, own + shared)
            assert torch.allclose(outputs[task][n], head.weight @ features + head.bias, rtol=1e-10)


def test_without_own_experts_it_is_mmoe() -> None:
    ours, other = (
        built(lambda: cgc(shared=3, own=0)),
        built(lambda: MMoE(expert, 3, OUTPUTS, inputs=4, experts=3)),
    )
    other.load_state_dict(ours.state_dict())
    for found, expected in zip(ours(vectors()), other(vectors()), strict=True):
        assert torch.equal(found, expected)


def test_one_layer_of_ple_is_cgc() -> None:
    ours: Any = built(lambda: PLE(LAYERS[:1], OUTPUTS, inputs=4, shared=2, own=1))
    other: Any = built(cgc)
    assert count(ours) == count(other)
    other.encoder.load_state_dict(ours.encoder["experts"][0].state_dict())
    other.own.load_state_dict(ours.own_experts.state_dict())
    other.gates.load_state_dict(ours.own_gates[0].state_dict())
    other.heads.load_state_dict(ours.heads.state_dict())
    for found, expected in zip(ours(vectors()), other(vectors()), strict=True):
        assert torch.equal(found, expected)


def extract(net: Any, layer: int, depth: int) -> tuple[Any, Any, Any, Any]:
    """Own experts, shared experts, own gates and the shared gate of a layer, wherever they are kept."""
    parts = net.encoder
    own = parts["own_experts"][layer] if layer < depth - 1 else net.own_experts
    gates = [*parts["own_gates"], *net.own_gates][layer]
    return own, parts["experts"][layer], gates, parts["gates"][layer] if layer < depth - 1 else None


def reference(net: Any, sample: Tensor, depth: int) -> list[Tensor]:
    """Features of each task for one sample."""

    def read(z: Tensor, layer: int) -> Tensor:
        return z.mean((1, 2)) if layer and z.ndim == 3 else z

    tasks, common = [sample] * len(OUTPUTS), sample
    for layer in range(depth):
        own, shared, gates, gate = extract(net, layer, depth)
        found = [[module(z[None])[0] for module in own[k]] for k, z in enumerate(tasks)]
        both = [module(common[None])[0] for module in shared]
        tasks = [weighted(gates[k], read(z, layer), found[k] + both) for k, z in enumerate(tasks)]
        if gate is not None:
            everything = [y for outputs in found for y in outputs] + both
            common = weighted(gate, read(common, layer), everything)
    return tasks


@pytest.mark.parametrize(
    ("build", "x", "depth"),
    [
        (lambda: ple(1), vectors(), 1),
        (lambda: ple(2), vectors(), 2),
        (lambda: ple(3), vectors(), 3),
        (lambda: ple(3, own=0), vectors(), 3),
        (convolutional_ple, pictures(), 2),
    ],
)
def test_layers_of_ple_go_on_from_mixtures(build: Callable[[], PLE], x: Tensor, depth: int) -> None:
    net: Any = built(build)
    outputs = net(x)
    for n, sample in enumerate(x):
        for head, y, features in zip(net.heads, outputs, reference(net, sample, depth), strict=True):
            assert torch.allclose(y[n], head.weight @ features + head.bias, rtol=1e-10)


def test_have_the_documented_numbers_of_parameters() -> None:
    m, shared, own = 3, 1, 2
    heads = sum((2 + 1) * channels for channels in OUTPUTS)
    expected = heads
    for layer, inputs in enumerate((4, 3, 5)):
        expected += (shared + m * own) * count(LAYERS[layer].make()) + m * (own + shared) * inputs
        expected += (m * own + shared) * inputs if layer < 2 else 0
    assert count(ple()) == expected
    heads = sum((3 + 1) * channels for channels in OUTPUTS)
    assert count(cgc()) == (2 + 3 * 1) * count(expert()) + 3 * (1 + 2) * 4 + heads


@pytest.mark.parametrize(
    ("build", "x"),
    [
        (cgc, vectors()),
        (lambda: cgc(own=0), vectors()),
        (convolutional_cgc, pictures()),
        (lambda: ple(1), vectors()),
        (lambda: ple(2), vectors()),
        (lambda: ple(3), vectors()),
        (lambda: ple(3, own=0), vectors()),
        (convolutional_ple, pictures()),
    ],
)
def test_what_goes_into_a_shared_mixture_is_shared(build: Callable[[], MultiTaskNet], x: Tensor) -> None:
    assert_encoder_is_shared(build, x)
    assert_precise_outputs(built(build), x)
    assert_evaluates_alike(built(build), x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cgc(shared=0), "`shared` should be at least 1. Found 0."),
        (lambda: cgc(own=-1), "`own` should be at least 0. Found -1."),
        (lambda: CGC(expert, 3, [1], inputs=0), "`inputs` should be at least 1. Found 0."),
        (lambda: PLE([], [1], inputs=4), "`stages` should hold at least 1. Found 0."),
        (lambda: ple(own=-1), "`own` should be at least 0. Found -1."),
        (
            lambda: convolutional_cgc().double()(pictures(size=9)),
            "Found 64, and samples of shape (1, 9, 9), which have 81.",
        ),
    ],
)
def test_says_what_is_wrong(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
