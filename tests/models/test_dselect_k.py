"""DSelect-k: the smooth step, single selectors, mixtures by loops, and where gates end."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.models.dselect_k import DSelectK, SelectorGate, smooth_step
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

OUTPUTS = [2, 1, 1]


def make(experts: int = 4, inputs: int | None = 4, **changes: Any) -> DSelectK:
    return DSelectK(expert, 3, OUTPUTS, inputs=inputs, experts=experts, **changes)


def make_convolutional() -> DSelectK:
    return DSelectK(convolutional_expert, 3, OUTPUTS, inputs=64, experts=3)


def spread(net: Any) -> Any:
    """With gates that a mistake cannot hide behind."""
    for gate in net.gates:
        for parameter in gate.parameters():
            nn.init.normal_(parameter, std=0.3)
    return net


def step(t: float, gamma: float) -> float:
    if abs(t) >= gamma / 2:
        return float(t > 0)
    return -2 / gamma**3 * t**3 + 3 / (2 * gamma) * t + 0.5


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.5])
def test_the_smooth_step_has_its_values_and_no_kink(gamma: float) -> None:
    t = torch.linspace(-gamma, gamma, 41, dtype=torch.float64, requires_grad=True)
    found = smooth_step(t, gamma)
    expected = torch.tensor([step(value, gamma) for value in t.tolist()], dtype=torch.float64)
    assert torch.allclose(found, expected, atol=1e-14)
    (slope,) = torch.autograd.grad(found.sum(), t)
    inside = 3 / (2 * gamma) - 6 * t.detach() ** 2 / gamma**3
    assert torch.allclose(slope, torch.where(t.detach().abs() < gamma / 2, inside, 0), atol=1e-12)
    edge = torch.tensor([-gamma / 2, gamma / 2], dtype=torch.float64, requires_grad=True)
    assert smooth_step(edge, gamma).tolist() == [0, 1]
    assert torch.autograd.grad(smooth_step(edge, gamma).sum(), edge)[0].abs().max() < 1e-12


def gate_by_hand(gate: Any, sample: Tensor, n: int, k: int) -> tuple[list[float], list[list[float]]]:
    """q and r of one sample by loops over selectors, experts and digits."""
    digits = math.ceil(math.log2(n))

    def logits(layer: Any) -> list[float]:
        if layer.bias is None:
            return [float(value) for value in layer.weight.detach()[:, 0]]
        return [float(b + (w * sample.flatten()).sum()) for w, b in zip(*_detached(layer), strict=True)]

    z, a = logits(gate.digits), [math.exp(value) for value in logits(gate.weights)]
    r = []
    for i in range(k):
        steps = [step(value, gate.gamma) for value in z[i * digits : (i + 1) * digits]]
        codes = itertools.islice(itertools.product((0, 1), repeat=digits), n)
        r.append(
            [math.prod(s if bit else 1 - s for s, bit in zip(steps, code, strict=True)) for code in codes]
        )
    return [sum(a[i] / sum(a) * r[i][j] for i in range(k)) for j in range(n)], r


def _detached(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.weight.detach(), layer.bias.detach()


@pytest.mark.parametrize(
    ("n", "k", "inputs", "gamma"),
    [(4, 2, 4, 1.0), (4, 2, None, 1.0), (5, 3, 4, 2.0), (8, 1, None, 0.5)],
)
def test_equals_selectors_and_mixtures_by_loops(n: int, k: int, inputs: int | None, gamma: float) -> None:
    net: Any = spread(built(lambda: make(n, inputs, selectors=k, gamma=gamma, entropy=0.2)))
    x = vectors()
    outputs, terms = net(x), [[0.0] * len(x) for _ in OUTPUTS]
    for s, sample in enumerate(x):
        experts = torch.stack([module(sample[None])[0] for module in net.encoder])
        for task, head in enumerate(net.heads):
            q, r = gate_by_hand(net.gates[task], sample, n, k)
            features = (torch.tensor(q, dtype=torch.float64)[:, None] * experts).sum(0)
            assert torch.allclose(outputs[task][s], head.weight @ features + head.bias, rtol=1e-9)
            entropy = -sum(p * math.log(p) for row in r for p in row if p > 1e-6)
            terms[task][s] = 0.2 * entropy + sum(1 / sum(row) - 1 for row in r)
    expected = torch.tensor(terms, dtype=torch.float64).mean(1)
    assert torch.allclose(torch.stack(net.regulariser(x)), expected, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(("n", "k"), [(4, 2), (8, 3), (16, 1)])
def test_weights_are_on_the_simplex_and_sparse_once_selectors_have_decided(n: int, k: int) -> None:
    torch.manual_seed(0)
    gate = SelectorGate(n, k)
    start = gate(vectors())
    assert torch.allclose(start.sum(), torch.ones(()))
    assert (start > 0).all()
    nn.init.uniform_(gate.digits.weight, 0.5, 2.0)
    gate.digits.weight.data *= torch.randint(2, gate.digits.weight.shape) * 2 - 1
    weights = gate(vectors())
    assert torch.allclose(weights.sum(), torch.ones(()))
    assert 1 <= int((weights != 0).sum()) <= k
    assert weights.min() >= 0


def test_a_decided_gate_costs_nothing_and_has_finite_gradients() -> None:
    net: Any = built(lambda: make(5, None))
    for gate in net.gates:
        nn.init.constant_(gate.digits.weight, -1.0)  # expert 0
    extra = torch.stack(net.regulariser(vectors()))
    assert torch.equal(extra, torch.zeros_like(extra))
    for gradient in torch.autograd.grad(extra.sum(), [gate.digits.weight for gate in net.gates]):
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_selectors_leave_numbers_that_no_expert_has() -> None:
    torch.manual_seed(0)
    net: Any = make(5, None, entropy=0.0)
    for gate in net.gates:
        nn.init.constant_(gate.digits.weight, 0.3)  # near 7, while experts are 0 to 4
    assert net.gates[0](vectors()).sum() < 0.2
    digits = [gate.digits.weight for gate in net.gates]
    optimizer = torch.optim.SGD(digits, lr=0.005)
    for _ in range(50):
        optimizer.zero_grad()
        torch.stack(net.regulariser(vectors())).sum().backward()
        optimizer.step()
    assert net.gates[0](vectors()).sum() > 0.9


def test_the_entropy_makes_gates_decide() -> None:
    torch.manual_seed(0)
    net: Any = make(4, None, entropy=1.0)
    for gate in net.gates:
        nn.init.uniform_(gate.digits.weight, 0.1, 0.2)
    assert (net.gates[0](vectors()) > 0.02).all()
    optimizer = torch.optim.SGD([gate.digits.weight for gate in net.gates], lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        torch.stack(net.regulariser(vectors())).sum().backward()
        optimizer.step()
    for gate in net.gates:
        assert int((gate(vectors()) > 0).sum()) <= 2
    assert torch.stack(net.regulariser(vectors())).abs().max() == 0


def test_has_the_documented_number_of_parameters() -> None:
    heads = sum((3 + 1) * channels for channels in OUTPUTS)
    for inputs, factor in ((4, 5), (None, 1)):
        assert count(make(5, inputs)) == 5 * count(expert()) + 3 * 2 * (3 + 1) * factor + heads


@pytest.mark.parametrize(
    ("build", "x"),
    [
        (make, vectors()),
        (partial(make, 5, None), vectors()),
        (make_convolutional, pictures()),
    ],
)
def test_experts_are_shared_and_gates_are_not(build: Callable[[], DSelectK], x: Tensor) -> None:
    assert_encoder_is_shared(build, x)
    assert_precise_outputs(built(build), x)
    assert_evaluates_alike(built(build), x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make(1), "`experts` should be at least 2. Found 1."),
        (lambda: make(entropy=-0.1), "`entropy` should be at least 0. Found -0.1."),
        (lambda: make(selectors=0), "`selectors` should be at least 1. Found 0."),
        (lambda: make(selectors=5), "`selectors` should be at most the number of experts, 4. Found 5."),
        (lambda: make(gamma=0.0), "`gamma` should be above 0. Found 0.0."),
        (lambda: SelectorGate(4, 2, inputs=3).double()(vectors()), "samples of shape (4,), which have 4."),
    ],
)
def test_says_what_is_wrong(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
