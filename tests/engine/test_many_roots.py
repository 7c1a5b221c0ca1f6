"""Hundreds of losses, some absent, go backwards from one place."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

import equipoise as eq
from equipoise.engine.losses import Edges

NAMES = [f"t{k}" for k in range(40)]
ABSENT = {"t3", "t17", "t39"}


def setting() -> tuple[nn.Linear, dict[str, Tensor]]:
    """A linear layer and the squares of its outputs as losses, without those of the absent tasks."""
    torch.manual_seed(0)
    layer = nn.Linear(5, len(NAMES)).double()
    values = layer(torch.randn(8, 5, dtype=torch.float64)).square().mean(dim=0).unbind()
    return layer, {name: value for name, value in zip(NAMES, values, strict=True) if name not in ABSENT}


@pytest.mark.parametrize("method", ["ls", "go4align"])
def test_one_root_and_no_look_at_single_graphs(method: str) -> None:
    layer, losses = setting()
    balancer = eq.Balancer(eq.build_method(method, len(NAMES)), tasks=NAMES, shared=layer)
    roots: list[int] = []
    real = torch.autograd.backward

    def watched(tensors: Any, *arguments: Any, **options: Any) -> None:
        roots.append(len(tensors))
        real(tensors, *arguments, **options)

    looked_up: list[int] = []
    one = Edges.__getitem__

    def counted(edges: Edges, position: int) -> GradientEdge:
        looked_up.append(position)
        return one(edges, position)

    with patch("torch.autograd.backward", watched), patch.object(Edges, "__getitem__", counted):
        record = balancer.backward(losses)
    assert roots == [1]
    assert looked_up == []
    got = layer.weight.grad
    again, losses = setting()
    weights = [record.weights[NAMES.index(name)].item() for name in losses]
    sum(w * loss for w, loss in zip(weights, losses.values(), strict=True)).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(got, again.weight.grad)
    assert [name for name, w in zip(NAMES, record.weights.tolist(), strict=True) if w == 0] == sorted(
        ABSENT, key=NAMES.index
    )
    expected = {name: loss.item() for name, loss in losses.items()}
    assert record.losses.tolist() == pytest.approx([expected.get(name, 0.0) for name in NAMES])


@pytest.mark.parametrize("method", ["mgda", "nashmtl"])
def test_weights_from_a_gramian_go_back_from_one_root_too(method: str) -> None:
    """The last pass of a method with head weights and clipping, against plain autograd."""
    layer, losses = setting()
    balancer = eq.Balancer(
        eq.build_method(method, len(NAMES)),
        tasks=NAMES,
        shared=[layer.weight],
        memory="layerwise",
        head_weights="same",
    )
    record = balancer.backward(losses)
    again, losses = setting()
    weights = [record.weights[NAMES.index(name)].item() for name in losses]
    sum(w * loss for w, loss in zip(weights, losses.values(), strict=True)).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(layer.bias.grad, again.bias.grad)
    assert layer.weight.grad is not None and again.weight.grad is not None
    scale = (
        balancer.method.max_norm / torch.linalg.vector_norm(again.weight.grad)
        if balancer.method.max_norm
        else 1.0
    )
    torch.testing.assert_close(
        layer.weight.grad, again.weight.grad * min(float(scale), 1.0), rtol=1e-5, atol=1e-9
    )


def test_edges_are_looked_up_once() -> None:
    losses = {2: torch.ones(1, requires_grad=True).sum(), 5: torch.ones(1, requires_grad=True).prod()}
    edges = Edges(losses)
    assert (list(edges), len(edges), 5 in edges, 3 in edges) == ([2, 5], 2, True, False)
    assert edges[5] is edges[5]
    assert edges[5].node is losses[5].grad_fn
