"""What the architectures for several tasks share: heads, experts, gates and mixtures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from equipoise.models.mmoe import MMoE
from equipoise.models.multitask import Experts, Gate, MakeHead, Stage, chain, flat, mix
from equipoise.models.resnet import HardSharing
from models.sharing_cases import (
    assert_encoder_is_shared,
    assert_evaluates_alike,
    assert_precise_outputs,
    built,
    expert,
    vectors,
)


def test_a_gate_is_a_softmax_without_bias() -> None:
    gate = Gate(4, 3).double()
    x = vectors()
    rows = gate.weigh.weight.tolist()
    scores = [[sum(w * v for w, v in zip(row, sample, strict=True)) for row in rows] for sample in x.tolist()]
    expected = torch.tensor(scores, dtype=torch.float64).exp()
    assert torch.allclose(gate(x), expected / expected.sum(1, keepdim=True), rtol=1e-12)
    assert [name for name, _ in gate.named_parameters()] == ["weigh.weight"]


def test_a_gate_reads_all_values_of_an_image() -> None:
    gate = Gate(12, 2).double()
    x = torch.randn(3, 1, 4, 3, dtype=torch.float64)
    assert torch.equal(gate(x), gate(x.reshape(3, 12)))


@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)])
def test_a_mixture_is_a_weighted_sum_sample_by_sample(shape: tuple[int, ...]) -> None:
    outputs = [torch.randn(5, *shape, dtype=torch.float64) for _ in range(3)]
    weights = torch.rand(5, 3, dtype=torch.float64)
    found = mix(weights, outputs)
    for sample in range(5):
        expected = torch.zeros(shape, dtype=torch.float64)
        for i in range(3):
            expected += float(weights[sample, i]) * outputs[i][sample]
        assert torch.allclose(found[sample], expected, rtol=1e-12)
    assert torch.allclose(mix(weights[0], outputs)[2], mix(weights[:1].expand(5, 3), outputs)[2], rtol=1e-12)


def test_experts_have_parameters_of_their_own() -> None:
    first, second = Experts(expert, 2).double()(vectors())
    assert not torch.allclose(first, second)


def test_hard_sharing_is_the_heads_on_one_encoder() -> None:
    net = built(lambda: HardSharing(expert(), 3, [2, 1, 4]))
    x = vectors()
    features = net.encoder(x)
    for head, channels, y in zip(net.heads, (2, 1, 4), net(x), strict=True):
        assert isinstance(head, nn.Linear)
        assert y.shape == (5, channels)
        assert torch.allclose(y, features @ head.weight.T + head.bias, rtol=1e-12)
    assert [float(term) for term in net.regulariser(x)] == [0, 0, 0]


def test_the_encoder_of_hard_sharing_is_shared() -> None:
    assert_encoder_is_shared(lambda: HardSharing(expert(), 3, [2, 1]), vectors())
    assert_precise_outputs(built(lambda: HardSharing(expert(), 3, [2, 1])), vectors())
    assert_evaluates_alike(built(lambda: HardSharing(expert(), 3, [2, 1])), vectors())


def test_a_head_may_be_any_module() -> None:
    def head(features: int, channels: int) -> nn.Module:
        return nn.Sequential(nn.Linear(features, 7), nn.ReLU(), nn.Linear(7, channels))

    made: MakeHead = head
    assert [y.shape[1] for y in HardSharing(expert(), 3, [2, 5], head=made).double()(vectors())] == [2, 5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: HardSharing(expert(), 3, []),
            "`outputs` should give the channels of at least 1 task. Found none.",
        ),
        (lambda: HardSharing(expert(), 3, [1, 0]), "`outputs` should be at least 1. Found 0."),
        (lambda: HardSharing(expert(), 0, [1]), "`features` should be at least 1. Found 0."),
        (lambda: chain([]), "`stages` should hold at least 1. Found 0."),
        (
            lambda: flat(torch.zeros(2, 1, 4, 3), 10),
            "`inputs` should be the number of values of a sample. Found 10, and samples of shape (1, 4, 3), which "
            "have 12.",
        ),
    ],
)
def test_says_what_is_wrong(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_a_chain_builds_each_stage_anew() -> None:
    stage = Stage(lambda: nn.Linear(4, 4), 4)
    net = chain([stage, stage])
    assert len(net) == 2
    assert net[0] is not net[1]


def test_the_loop_of_the_page_on_architectures_runs_as_it_stands() -> None:
    page = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    found: dict[str, object] = {}
    exec(compile(code, "docs/architectures.md", "exec"), found)
    net = found["net"]
    assert isinstance(net, MMoE)
    assert all(parameter.grad is not None for parameter in net.parameters())
