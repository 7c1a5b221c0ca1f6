"""The exact Gramian from inputs and output gradients of linear layers, against the rows of plain autograd."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from equipoise.engine.factored import LinearTaps, Use, factored_gramian
from equipoise.engine.gradients import Splitter
from equipoise.engine.layerwise import layerwise_gramian
from equipoise.engine.losses import LossReader
from equipoise.engine.sources import Sources
from measured import KINDS, Network, Sequences, Step, assert_exact, inputs, network, row, step_of


def tapped(model: Network, size: int = 3, present: list[bool] | None = None) -> Step:
    """A step of a network that is watched."""
    dtype = next(model.parameters()).dtype
    taps = LinearTaps(model)
    losses = model.losses(inputs(size, dtype=dtype))
    taps.remove()
    return step_of(losses, present)


@contextmanager
def formed(parameters: dict[str, Tensor]) -> Iterator[set[str]]:
    """The names of the parameters whose gradients are asked for: autograd forms no others."""
    names: set[str] = set()
    known = {parameter: name for name, parameter in parameters.items()}
    real = torch.autograd.grad

    def watched(outputs: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        variables = [getattr(edge.node, "variable", None) for edge in inputs]
        names.update(known[variable] for variable in variables if variable in known)
        return real(outputs, inputs, *arguments, **options)

    with patch("torch.autograd.grad", watched):
        yield names


def rows_taken(model: Network, size: int = 3) -> set[str]:
    """The parameters of the encoder of which rows were taken; the answer is checked."""
    step = tapped(model, size)
    with formed(dict(model.encoder.named_parameters())) as names:
        found = factored_gramian(step.sources, step.split)
    assert_exact(found, step)
    return names


@pytest.mark.parametrize("budget", [None, 1, 200, 10**6])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_rows(kind: str, budget: int | None) -> None:
    for size in (2, 3, 40):
        step = tapped(network(kind), size)
        assert_exact(factored_gramian(step.sources, step.split, budget=budget), step)


@pytest.mark.parametrize("kind", ["mlp", "forked", "tied"])
def test_absent_tasks_have_zero_rows(kind: str) -> None:
    step = tapped(network(kind), present=[True, False, True, True])
    found = factored_gramian(step.sources, step.split)
    assert_exact(found, step)
    assert not found.gramian[1].any() and not found.squares[:, 1].any()


def test_tasks_that_use_a_layer_in_different_calls() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 6).double()
    LinearTaps(layer)
    first = layer(inputs(2))
    second = layer(first.sin())
    losses = [first.square().mean(), second.square().mean(), first.cos().mean(), (first * second).mean()]
    step = step_of(losses)
    with formed(dict(layer.named_parameters())) as names:
        found = factored_gramian(step.sources, step.split)
    assert not names
    assert_exact(found, step)


def test_no_gradient_of_a_linear_layer_is_formed() -> None:
    assert not rows_taken(network("mlp"))
    assert not rows_taken(network("forked"))
    assert not rows_taken(network("tied"))
    assert rows_taken(network("convolutional")) == {
        f"{k}.{name}" for k in (1, 2) for name in ("weight", "bias")
    }
    assert not rows_taken(network("frozen")) & {"0.weight", "4.weight", "4.bias"}


def test_rows_where_they_cost_less() -> None:
    # b (in + m out) <= m in out with m = 4: b <= 12 for 16 x 16, b <= 19 for 24 x 16, b <= 5 for 6 x 24.
    assert not rows_taken(network("mlp"), 5)
    assert rows_taken(network("mlp"), 6) == {"0.weight", "0.bias"}
    assert rows_taken(network("mlp"), 17) == {"0.weight", "0.bias"}
    assert rows_taken(network("mlp"), 18) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    # Sequences of 3 count three times: b <= 4 for 32 x 16.
    sequences = Network(Sequences()).double()
    assert rows_taken(sequences, 7) == {"layers.0.weight", "layers.0.bias"}
    assert len(rows_taken(sequences, 8)) == 4


def test_a_weight_that_is_used_elsewhere_goes_by_rows() -> None:
    assert rows_taken(network("loose")) == {"one.weight", "one.bias"}
    names = rows_taken(network("transformer"), 2)
    assert {"2.self_attn.in_proj_weight", "2.self_attn.out_proj.weight", "2.norm1.weight"} <= names
    assert not names & {"2.linear1.weight", "2.linear2.weight", "3.linear1.bias"}


class Scaled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * self.weight.mean()


def test_layers_that_do_more_than_linear_ones_go_by_rows() -> None:
    torch.manual_seed(0)
    assert rows_taken(Network(nn.Sequential(Scaled(6, 16))).double()) == {"0.weight", "0.bias"}
    patched = nn.Linear(6, 16)
    patched.forward = lambda input: nn.functional.linear(input, patched.weight.sin())  # type: ignore[method-assign]
    assert rows_taken(Network(nn.Sequential(patched)).double()) == {"0.weight"}
    normed = rows_taken(Network(nn.Sequential(weight_norm(nn.Linear(6, 16)))).double())
    assert normed == {"0.bias", *(f"0.parametrizations.weight.original{k}" for k in (0, 1))}


def test_a_weight_made_from_that_of_another_layer() -> None:
    class Double(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16, bias=False)
            del self.two.weight

        def forward(self, values: Tensor) -> Tensor:
            self.two.weight = 2 * self.one.weight
            features: Tensor = self.two(torch.tanh(self.one(values)))
            return features

    torch.manual_seed(0)
    model = Network(nn.Sequential(nn.Linear(6, 16), Double())).double()
    assert rows_taken(model) == {"1.one.weight", "1.one.bias"}


def test_other_hooks_that_change_outputs_come_later() -> None:
    model = network("mlp")
    model.encoder[2].register_forward_hook(lambda _m, _i, out: out * 3)  # type: ignore[index]
    assert not rows_taken(model)


def test_inputs_by_keyword_without_samples_and_outputs_changed_in_place() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4).double()
    LinearTaps(layer)
    single = layer(inputs(1)[0])
    several = layer(input=inputs(2).unsqueeze(0))
    several[0, 1] = 0.5
    losses = [single.square().mean(), several.square().sum(), (several.sum() * single).sum()]
    step = step_of(losses)
    assert_exact(factored_gramian(step.sources, step.split), step)


def test_activation_checkpointing() -> None:
    model = network("mlp")
    first, last = model.encoder[:2], model.encoder[2:]  # type: ignore[index]

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = first, last

        def forward(self, values: Tensor) -> Tensor:
            features: Tensor = self.last(checkpoint(self.first, values, use_reentrant=False))
            return features

    model.encoder = Checkpointed()
    assert not rows_taken(model)


def test_autocast() -> None:
    model = network("mlp", dtype=torch.float32)
    LinearTaps(model)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(inputs(dtype=torch.float32))
    step = step_of([loss.float() for loss in losses])
    with formed(dict(model.encoder.named_parameters())) as names:
        found = factored_gramian(step.sources, step.split)
    assert not names
    # Autograd rounds the rows to bfloat16, which the factored form need not.
    jacobian = torch.stack([row(loss, step.split.shared) for loss in step.losses]).double()
    gramian = jacobian @ jacobian.T
    scale = gramian.diagonal().sqrt()
    assert ((found.gramian - gramian).abs() <= 2**-7 * torch.outer(scale, scale)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_summed_in_float64(kind: str) -> None:
    step = tapped(network(kind, dtype=torch.float32), 8)
    assert_exact(factored_gramian(step.sources, step.split), step, tolerance=1e-6)


def test_float32_where_samples_cancel() -> None:
    torch.manual_seed(0)
    model = Network(nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 16)))
    LinearTaps(model)
    values = 3 + torch.randn(8, 512)  # a large mean: the gradients of samples are nearly parallel
    step = step_of(model.losses(values))
    assert_exact(factored_gramian(step.sources, step.split), step, tolerance=1e-6)


def test_without_taps_or_gradients_it_goes_by_rows() -> None:
    model = network("mlp")
    taps = LinearTaps(model)
    with torch.no_grad():
        model.encoder(inputs())
    taps.remove()
    step = step_of(model.losses(inputs()))
    with formed(dict(model.encoder.named_parameters())) as names:
        found = factored_gramian(step.sources, step.split)
    assert len(names) == 4
    assert_exact(found, step)


def test_two_forward_passes_before_their_backward_passes() -> None:
    model = network("mlp")
    LinearTaps(model)
    steps = [step_of(model.losses(inputs(seed=seed))) for seed in (1, 2)]
    for step in steps:
        with formed(dict(model.encoder.named_parameters())) as names:
            found = factored_gramian(step.sources, step.split)
        assert not names
        assert_exact(found, step)


@pytest.fixture
def _new_objects_only() -> Iterator[None]:
    """The collector leaves alone what is there, which takes seconds to go through where much has been imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_new_objects_only")
@pytest.mark.parametrize("measured", [True, False])
def test_inputs_are_let_go(measured: bool) -> None:
    model = network("mlp")
    LinearTaps(model)
    step: Step | None = step_of(model.losses(inputs()))
    assert notes() == 6  # two layers and four heads
    if measured and step is not None:
        factored_gramian(step.sources, step.split)
    else:
        step = None
    assert notes() == 0


def notes() -> int:
    gc.collect()
    return sum(type(thing) is Use for thing in gc.get_objects())


def test_the_graph_is_kept_for_one_more_pass() -> None:
    model = network("forked")
    step = tapped(model)
    factored_gramian(step.sources, step.split)
    torch.autograd.backward(list(step.roots.values()), list(torch.ones(4, dtype=torch.float64)))
    rows = torch.autograd.grad(sum(model.losses(inputs())), step.split.shared)  # type: ignore[arg-type]
    for parameter, gradient in zip(step.split.shared, rows, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_inputs_that_are_changed_in_place_later_go_by_rows() -> None:
    """Under autocast, autograd keeps its own copy of them in bfloat16."""
    torch.manual_seed(0)
    encoder, heads = nn.Linear(16, 16), nn.ModuleList(nn.Linear(16, 1) for _ in range(3))
    taps = LinearTaps(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        x = torch.randn(4, 16)
        hidden = encoder(x)
        x += hidden.float().detach()
        losses = [(10.0**-i) * head(hidden).float().square().mean() for i, head in enumerate(heads)]
    names = [f"task {i}" for i in range(3)]
    roots = LossReader(None, 3).read(losses, None).roots
    split = Splitter(encoder, names).split(roots)
    found = factored_gramian(Sources(roots, 3), split).gramian
    torch.testing.assert_close(found, layerwise_gramian(Sources(roots, 3), split).gramian)
    taps.remove()


def test_a_hook_on_a_weight_is_obeyed() -> None:
    model = network("mlp")
    taps = LinearTaps(model.encoder)
    dict(model.encoder.named_parameters())["2.weight"].register_hook(lambda gradient: gradient * 2)
    step = step_of(model.losses(inputs()))
    assert_exact(factored_gramian(step.sources, step.split), step)
    taps.remove()
