"""The Balancer's memory modes against its rows, what "auto" chooses, and what cannot work."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise as eq
from networks import ENCODERS, network
from rank_cases import data, losses_of

GRAMIAN = sorted(name for name, cls in eq.METHODS.items() if cls(3).reads == eq.Reads.GRAMIAN)


def gradients(
    spec: str, kind: str = "mlp", steps: int = 2, **options: Any
) -> tuple[list[Tensor], eq.StepRecord]:
    """What the last of some steps leaves in `.grad`, and its record."""
    model = network(kind)
    balancer = eq.Balancer(eq.build_method(spec, 3), **{"shared": model.encoder, **options})
    for step in range(steps):
        model.zero_grad()
        record = balancer.backward(losses_of(model, *data(step)))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.01 * parameter.grad)
    return [p.grad for p in model.parameters() if p.grad is not None], record


@pytest.mark.parametrize("mode", ["layerwise", "factored"])
@pytest.mark.parametrize("spec", [*GRAMIAN, "nashmtl+every:steps=2", "cagrad+log_losses"])
def test_exact_modes_give_the_gradients_of_the_rows(spec: str, mode: str) -> None:
    expected, rows = gradients(spec)
    found, record = gradients(spec, memory=mode)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(record.weights, rows.weights, rtol=1e-7, atol=1e-9)
    if rows.gramian is not None:
        torch.testing.assert_close(record.gramian, rows.gramian, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if kind != "partly frozen"])
@pytest.mark.parametrize("mode", ["layerwise", "factored"])
def test_on_other_networks_too(kind: str, mode: str) -> None:
    expected, _ = gradients("upgrad", kind)
    for mine, other in zip(gradients("upgrad", kind, memory=mode)[0], expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10)


def test_a_sketch_is_near_and_another_one_in_every_step() -> None:
    _, rows = gradients("ls+clip_norm:max_norm=100", steps=1)
    _, sketch = gradients("ls+clip_norm:max_norm=100", steps=1, memory="sketch")
    assert rows.gramian is not None and sketch.gramian is not None
    scale = rows.gramian.diagonal().sqrt()
    assert float(((sketch.gramian - rows.gramian) / scale / scale[:, None]).abs().max()) < 0.1
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("mgda", 3), shared=model.encoder, memory="sketch")
    found = [balancer.backward(losses_of(model, *data(0))).gramian for _ in range(2)]
    assert not torch.equal(found[0], found[1])  # type: ignore[arg-type]


def test_features_are_where_the_shared_part_ends() -> None:
    """Against plain autograd: the gradients of the losses with respect to the encoder's output."""
    model = network("attention")
    balancer = eq.Balancer(eq.build_method("mgda", 3), memory="features")
    x, y = data(0)
    features: list[Tensor] = []
    hook = model.encoder.register_forward_hook(lambda _m, _i, out: features.append(out))
    losses = losses_of(model, x, y)
    hook.remove()
    rows = torch.stack(
        [torch.autograd.grad(loss, features[0], retain_graph=True)[0].reshape(-1) for loss in losses]
    )
    weights = eq.build_method("mgda", 3)(eq.TaskStats(torch.ones(3), gramian=rows @ rows.T))
    expected = torch.autograd.grad(weights @ torch.stack(losses), list(model.parameters()), retain_graph=True)
    record = balancer.backward(losses)
    torch.testing.assert_close(record.gramian, rows @ rows.T)
    torch.testing.assert_close(record.weights, weights)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_features_with_absent_tasks_and_as_an_indicator() -> None:
    model = network("mlp")
    method = eq.build_method("go4align", 3, indicator="grad_norm")
    balancer = eq.Balancer(method, memory="features")
    balancer.backward(losses_of(model, *data(0)))
    two = balancer.backward(losses_of(model, *data(1)), present=[True, False, True])
    one = balancer.backward(losses_of(model, *data(2)), present=[False, True, False])
    assert two.gramian is not None and one.gramian is not None
    assert two.gramian[1].tolist() == [0, 0, 0]
    assert (two.gramian.diagonal() > 0).tolist() == [True, False, True]
    assert one.gramian.diagonal().tolist() == [0, 1, 0]
    assert float(two.weights[1]) == float(one.weights[0]) == 0.0


def test_absent_tasks_and_accumulated_gradients() -> None:
    for mode in ("rows", "factored"):
        model = network("mlp")
        balancer = eq.Balancer(eq.build_method("mgda", 3), shared=model.encoder, memory=mode)
        balancer.backward(losses_of(model, *data(0)))
        record = balancer.backward(losses_of(model, *data(1)), present=[True, False, True])
        assert record.weights[1] == 0
        if mode == "rows":
            expected = [p.grad for p in model.parameters()]
    for parameter, other in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, other)


def parameters_of(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("entries", "kind", "as_module", "mode"),
    [
        (1000, "mlp", True, "rows"),
        (100, "mlp", True, "factored"),
        (100, "mlp", False, "layerwise"),
        (10, "mlp", False, "sketch"),
    ],
)
def test_auto_takes_the_first_exact_mode_within_the_budget(
    entries: int, kind: str, as_module: bool, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = network(kind)  # 128 shared parameters, the largest of 64
    shared = model.encoder if as_module else list(model.encoder.parameters())
    balancer = eq.Balancer(
        eq.build_method("mgda", 3), shared=shared, memory="auto", budget_gb=entries * 3 * 8 / 1e9
    )
    assert balancer.memory == "auto"
    balancer.backward(losses_of(model, *data(0)))
    assert balancer.memory == mode
    assert f"memory='{mode}'" in caplog.text
    assert ("no exact mode fits" in caplog.text) == (mode == "sketch")
    assert caplog.text.count("standard error 1.1 %") == (mode == "sketch")


def test_rows_that_do_not_fit_give_way_to_a_leaner_mode(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    expected, _ = gradients("mgda")
    monkeypatch.setattr("equipoise.engine.rows.Rows._begin", full)
    found, _ = gradients("mgda")
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other)
    assert "rows do not fit into memory (CUDA out of memory" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        gradients("mgda", memory="rows")


def test_modes_that_cannot_work_are_refused() -> None:
    method = eq.build_method("mgda", 3)
    model = network("mlp")
    with pytest.raises(
        ValueError,
        match="`memory` should be one of auto, rows, rows_bf16, rows_cpu, layerwise, .* Found 'low'",
    ):
        eq.Balancer(method, memory="low")
    with pytest.raises(ValueError, match="`budget_gb` should be above 0. Found 0"):
        eq.Balancer(method, budget_gb=0.0)
    with pytest.raises(
        ValueError, match="'rows' or 'auto' here: GradDrop reads the whole Jacobian. Found 'sketch'"
    ):
        eq.Balancer(eq.build_method("graddrop", 3), memory="sketch")
    with pytest.raises(
        ValueError, match="should be the module of the shared parameters for memory='factored'"
    ):
        eq.Balancer(method, shared=model.encoder.parameters(), memory="factored")
