"""What every architecture for several tasks keeps to: which parameters its `encoder` holds, and what balances them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

import equipoise as eq
from equipoise.models.multitask import MultiTaskNet

Net = TypeVar("Net", bound=MultiTaskNet)
METHODS = ("ls", "mgda", "pcgrad", "nashmtl")
MEMORY = ("layerwise", "factored")


def vectors(samples: int = 5, inputs: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, inputs, dtype=torch.float64, generator=generator)


def pictures(samples: int = 3, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 1, size, size, dtype=torch.float64, generator=generator)


def expert() -> nn.Module:
    """Features (b, 3) of vectors (b, 4)."""
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh())


def convolutional_expert() -> nn.Module:
    """Features (b, 3) of images (b, 1, H, W)."""
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def built(make: Callable[[], Net]) -> Net:
    torch.manual_seed(0)
    return make().double()


def losses_of(net: MultiTaskNet, x: Tensor) -> list[Tensor]:
    """A loss of every task, with the same random numbers at each call."""
    torch.manual_seed(2)
    extra = net.regulariser(x)
    return [(y.sin() + 2).square().mean() + extra[k] for k, y in enumerate(net(x))]


def assert_encoder_is_shared(make: Callable[[], MultiTaskNet], x: Tensor, *, inferred: bool = True) -> None:
    """`encoder` holds what two losses reach and nothing else, and methods step, told or left to infer it."""
    net = built(make)
    reach = dict.fromkeys(net.parameters(), 0)
    for loss in losses_of(net, x):
        found = torch.autograd.grad(loss, list(reach), allow_unused=True, retain_graph=True)
        for parameter, gradient in zip(list(reach), found, strict=True):
            reach[parameter] += gradient is not None
    named = {parameter: name for name, parameter in net.named_parameters()}
    assert not [named[p] for p, tasks in reach.items() if tasks == 0]
    declared = {named[p] for p in net.encoder.parameters()}
    assert declared == {named[p] for p, tasks in reach.items() if tasks >= 2}
    for name in METHODS:
        _assert_same_step(net, x, name, inferred=inferred)
    rows = _gradients(net, x, "mgda", memory="rows")
    for memory in MEMORY:
        for exact, other in zip(rows, _gradients(net, x, "mgda", memory=memory), strict=True):
            assert torch.allclose(exact, other, rtol=1e-9, atol=1e-12)


def _assert_same_step(net: MultiTaskNet, x: Tensor, name: str, *, inferred: bool) -> None:
    expected = _gradients(net, x, name)
    assert max(float(g.abs().max()) for g in expected) > 1e-6
    if inferred:
        for declared, found in zip(expected, _gradients(net, x, name, told=False), strict=True):
            assert torch.allclose(declared, found, rtol=1e-9, atol=1e-12)


def _gradients(
    net: MultiTaskNet, x: Tensor, name: str, *, told: bool = True, memory: str = "auto"
) -> list[Tensor]:
    """What a method writes to `.grad` of all parameters."""
    fresh = copy.deepcopy(net)
    method = eq.build_method(name, n_tasks=len(net.heads))
    balancer = eq.Balancer(method, shared=fresh.encoder if told else None, memory=memory)
    torch.manual_seed(3)
    balancer.backward(losses_of(fresh, x))
    written = [p.grad for p in fresh.parameters() if p.grad is not None]
    assert len(written) == len(list(net.parameters()))
    return written


def assert_precise_outputs(net: MultiTaskNet, x: Tensor) -> None:
    """Outputs are float32 under autocast."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net.float()(x.float())
    assert {y.dtype for y in outputs} == {torch.float32}


def assert_evaluates_alike(net: MultiTaskNet, x: Tensor) -> None:
    """In eval mode two passes agree, and no random number is drawn."""
    net.eval()
    before = torch.get_rng_state()
    first, second = net(x), net(x)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
