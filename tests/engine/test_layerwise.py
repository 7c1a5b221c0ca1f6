"""The exact Gramian by stretches of the network, against the rows of plain autograd."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils.checkpoint import checkpoint

from equipoise.engine.layerwise import Target, layerwise_gramian, stretches, sweep
from measured import KINDS, Network, Step, assert_exact, expected, inputs, network, step_of


def gramian(step: Step, budget: int | None = None) -> Tensor:
    return layerwise_gramian(step.sources, step.split, budget=budget).gramian


@pytest.mark.parametrize("budget", [None, 1, 200, 10**6])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_rows(kind: str, budget: int | None) -> None:
    step = step_of(network(kind).losses(inputs()))
    assert_exact(layerwise_gramian(step.sources, step.split, budget=budget), step)


@pytest.mark.parametrize("budget", [None, 1])
@pytest.mark.parametrize("kind", ["mlp", "forked"])
def test_absent_tasks_have_zero_rows(kind: str, budget: int | None) -> None:
    step = step_of(network(kind).losses(inputs()), [True, False, True, True])
    found = layerwise_gramian(step.sources, step.split, budget=budget)
    assert_exact(found, step)
    assert not found.gramian[1].any() and not found.squares[:, 1].any()


@pytest.mark.parametrize("budget", [None, 1])
def test_tasks_that_reach_different_layers(budget: int | None) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(4)).double()
    features = [inputs()]
    for layer in layers:
        features.append(torch.tanh(layer(features[-1])))
    step = step_of([features[k].square().mean() for k in (4, 2, 3, 4)])
    assert_exact(layerwise_gramian(step.sources, step.split, budget=budget), step)


@pytest.mark.parametrize("budget", [None, 1])
def test_a_loss_that_is_made_of_another_one(budget: int | None) -> None:
    losses = network("mlp").losses(inputs())
    losses[1] = losses[0].square() + losses[1]
    step = step_of(losses)
    assert_exact(layerwise_gramian(step.sources, step.split, budget=budget), step)


def test_stacked_losses_and_one_task() -> None:
    losses = torch.stack(network("forked").losses(inputs()))
    for several in (losses, losses[:1]):
        step = step_of([*several.unbind()])
        assert_exact(layerwise_gramian(step.sources, step.split), step)


def test_sparse_gradients() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(5, 16, sparse=True).double()
    model = Network(nn.Sequential(table, nn.Flatten(), nn.Linear(48, 16))).double()
    step = step_of(model.losses(torch.tensor([[0, 1, 1], [4, 0, 2]])))
    assert_exact(layerwise_gramian(step.sources, step.split), step)


def test_activation_checkpointing() -> None:
    model = network("mlp")
    inner = model.encoder
    model.encoder = Checkpointed(inner)
    step = step_of(model.losses(inputs()))
    assert_exact(layerwise_gramian(step.sources, step.split), step)


class Checkpointed(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, values: Tensor) -> Tensor:
        features: Tensor = checkpoint(self.inner, values, use_reentrant=False)
        return features


def test_the_graph_is_kept_for_one_more_pass() -> None:
    model = network("forked")
    step = step_of(model.losses(inputs()))
    before = expected(step)
    gramian(step)
    torch.autograd.backward(list(step.roots.values()), list(torch.ones(4, dtype=torch.float64)))
    rows = torch.autograd.grad(sum(model.losses(inputs())), step.split.shared)  # type: ignore[arg-type]
    for parameter, gradient in zip(step.split.shared, rows, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert before.isfinite().all()


def deep(layers: int, width: int = 8) -> Network:
    torch.manual_seed(0)
    parts = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.Tanh())]
    return Network(nn.Sequential(nn.Linear(6, width), *parts, nn.Linear(width, 16))).double()


def test_every_node_of_a_chain_runs_once_a_task() -> None:
    model, seen = deep(6), [0] * 13
    for k, layer in enumerate(model.encoder.children()):

        def watch(_m: nn.Module, _i: object, out: Tensor, k: int = k) -> None:
            def count(*_: object) -> None:
                seen[k] += 1

            out.grad_fn.register_hook(count)  # type: ignore[union-attr]

        if isinstance(layer, nn.Tanh):
            layer.register_forward_hook(watch)
    step = step_of(model.losses(inputs()))
    gramian(step)
    assert seen[2::2] == [4] * 6


def places(step: Step) -> list[Target]:
    return [Target(get_gradient_edge(p), p.numel()) for p in step.split.shared]


@pytest.mark.parametrize("budget", [1, 72, 150, 10**6])
@pytest.mark.parametrize("kind", ["deep", "forked", "transformer", "loose"])
def test_no_group_is_larger_than_the_budget(kind: str, budget: int) -> None:
    step = step_of((deep(5) if kind == "deep" else network(kind)).losses(inputs()))
    targets = places(step)
    route = stretches(list(step.roots.values()), targets, budget)
    groups = [group for stretch in route for group in stretch.groups]
    assert sorted(k for group in groups for k in group) == list(range(len(targets)))
    assert all(len(group) == 1 or sum(targets[k].size for k in group) <= budget for group in groups)


def test_a_chain_is_cut_between_layers_and_a_residual_network_between_blocks() -> None:
    step = step_of(deep(5).losses(inputs()))
    # A layer of 8 x 8 weights and 8 biases in each stretch, the first one with its 6 x 8.
    route = stretches(list(step.roots.values()), places(step), 72)
    assert [len(stretch.groups) for stretch in route] == [2] + [1] * 6
    assert [edge.node.name() for stretch in route for edge in stretch.cut] == ["TanhBackward0"] * 5 + [
        "AddmmBackward0"
    ]
    step = step_of(network("transformer").losses(inputs()))
    assert len(stretches(list(step.roots.values()), places(step), 1)) >= 5
    step = step_of(network("loose").losses(inputs()))
    # Nowhere between two uses of one weight.
    route = stretches(list(step.roots.values()), places(step), 1)
    assert "SinBackward0" not in [edge.node.name() for stretch in route for edge in stretch.cut]


def test_one_group_of_rows_is_held_at_a_time() -> None:
    step = step_of(deep(6).losses(inputs()))
    targets = places(step)
    route = stretches(list(step.roots.values()), targets, 72)
    largest = max(len(group) for stretch in route for group in stretch.groups)
    alive: list[weakref.ref[Tensor]] = []
    found: Mapping[int, Tensor]
    for _, found in sweep(step.sources, targets, route, torch.ones((), dtype=torch.float64)):
        alive += [weakref.ref(gradient) for gradient in found.values()]
        del found
        assert sum(kept() is not None for kept in alive) <= 4 * largest


def test_float32_is_summed_in_float64() -> None:
    model = network("mlp", dtype=torch.float32)
    step = step_of(model.losses(inputs(dtype=torch.float32)))
    assert_exact(layerwise_gramian(step.sources, step.split), step, tolerance=1e-6)


def test_a_budget_of_nothing_is_refused() -> None:
    step = step_of(network("mlp").losses(inputs()))
    with pytest.raises(ValueError, match="`budget` should be at least 1. Found 0."):
        gramian(step, budget=0)
