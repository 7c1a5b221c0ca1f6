"""Memory modes with several ranks, micro-batches and a loss scaler; rows that are kept elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import equipoise as eq
import ranks
from networks import network
from rank_cases import (
    SIZE,
    Case,
    Trained,
    alone,
    blown,
    complaints_of_modes,
    data,
    layers_left_out,
    losses_of,
    on_rank,
)
from two_ranks import answers, assert_same

EXACT = ("layerwise", "factored")
LEAN = (*EXACT, "sketch", "streamed", "features", "last_layer")

CASES = [
    *(Case(spec, memory=mode) for spec in ("upgrad", "nashmtl") for mode in (*LEAN, "rows_cpu")),
    *(Case("mgda", split=5, counts=True, memory=mode) for mode in LEAN),
    *(Case("upgrad", split=5, counts=True, absent=True, memory=mode) for mode in LEAN),
    *(Case("upgrad", memory=mode, kind="attention") for mode in EXACT),
    *(Case("upgrad", memory=mode, kind="used twice") for mode in EXACT),
    Case("cagrad+every:steps=2", memory="factored"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Trained]]:
    return answers(on_rank, CASES, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_ranks_are_one_with_both_batches(case: Case, found: dict[str, list[Trained]]) -> None:
    assert_same(found[str(case)], alone(case), 1e-10)


def test_a_rank_without_the_graph_of_a_task_is_refused(tmp_path: Path) -> None:
    for said in ranks.run(complaints_of_modes, 2, tmp_path):
        assert "every rank should give the losses of all tasks that any rank has labels of" in said
        assert "Found that ranks [1] lack some: give an absent task's loss too" in said


def gradients_of_window(mode: str, scaler: Any = None, spec: str = "upgrad") -> list[Tensor]:
    """`.grad` after a window of two micro-batches, unscaled."""
    model = network("mlp")
    balancer = eq.Balancer(
        eq.build_method(spec, 3), shared=model.encoder, memory=mode, accumulate=2, scaler=scaler
    )
    for half in (slice(0, SIZE // 2), slice(SIZE // 2, None)):
        x, y = data(0)
        record = balancer.backward(losses_of(model, x[half], y[half]))
        assert record.complete
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return found if scaler is None else [g / scaler.get_scale() for g in found]


@pytest.mark.parametrize("spec", ["upgrad", "mgda", "cagrad", "imtl_g"])
@pytest.mark.parametrize("mode", EXACT)
def test_a_window_keeps_the_weights_of_its_first_micro_batch(mode: str, spec: str) -> None:
    """Against plain autograd: the weights from the rows of one half, then the mean of two weighted gradients."""
    model = network("mlp")
    (x, y), half = data(0), SIZE // 2
    losses = [losses_of(model, x[:half], y[:half]), losses_of(model, x[half:], y[half:])]
    shared = list(model.encoder.parameters())
    rows = torch.stack(
        [
            torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, shared, retain_graph=True)])
            for loss in losses[0]
        ]
    )
    method = eq.build_method(spec, 3)
    weights = method(eq.TaskStats(torch.stack(losses[0]), gramian=rows @ rows.T))
    heads = weights if method.head_weights == "same" else torch.ones(3, dtype=torch.float64)
    parts = [torch.stack(part) for part in losses]
    wanted = torch.autograd.grad((weights @ (parts[0] + parts[1])) / 2, shared, retain_graph=True)
    own = torch.autograd.grad((heads @ (parts[0] + parts[1])) / 2, list(model.heads.parameters()))
    for mine, other in zip(gradients_of_window(mode, spec=spec), [*wanted, *own], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("mode", LEAN)
def test_a_loss_scale_changes_nothing_but_the_scale(mode: str) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(()))
    for mine, other in zip(gradients_of_window(mode, scaler), gradients_of_window(mode), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", LEAN)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_overflow_is_left_to_the_scaler(mode: str, accumulate: int) -> None:
    model = network("mlp")
    method = eq.build_method("nashmtl", 3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=1000)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    balancer = eq.Balancer(method, shared=model.encoder, memory=mode, accumulate=accumulate, scaler=scaler)
    for step in range(3):
        before = {name: value.clone() for name, value in method.state_dict().items()}
        values = [p.detach().clone() for p in model.parameters()]
        for micro in range(accumulate):
            losses = losses_of(model, *data(10 * step + micro))
            if step == 1 and micro == 0:
                value = losses[1].detach()  # finite, but not its gradient
                losses[1] = value + 1e305 * (losses[1] - value)
            balancer.backward(losses)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        moved = any(not torch.equal(a, b) for a, b in zip(values, model.parameters(), strict=True))
        assert moved == (step != 1)
        if step == 1 and mode != "streamed":  # which sees some tasks only: its state goes back one step later
            assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert balancer.skipped == 1
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("where", ["rows_cpu", "rows_bf16"])
def test_rows_kept_elsewhere(where: str, accumulate: int) -> None:
    def run(memory: str) -> tuple[list[Tensor], eq.StepRecord]:
        model = network("conv")
        balancer = eq.Balancer(
            eq.build_method("upgrad", 3), shared=model.encoder, memory=memory, accumulate=accumulate
        )
        for micro in range(accumulate):
            record = balancer.backward(losses_of(model, *data(micro)))
        return [p.grad for p in model.parameters() if p.grad is not None], record

    expected, exact = run("rows")
    found, record = run(where)
    assert (record.gramian is not None) and (exact.gramian is not None)
    if where == "rows_cpu":
        torch.testing.assert_close(record.gramian, exact.gramian, rtol=1e-14, atol=0)
        tolerance = 1e-12
    else:
        # Each entry is off by 2^-9 of itself at most, at each of the micro-batches.
        scale = exact.gramian.diagonal().sqrt()
        error = (record.gramian - exact.gramian).abs() / scale / scale[:, None]
        assert 0 < float(error.max()) <= accumulate * 2 * 2**-8
        tolerance = 0.05
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


def test_rows_kept_elsewhere_are_not_for_methods_of_the_jacobian() -> None:
    with pytest.raises(ValueError, match="GradDrop reads the whole Jacobian. Found 'rows_bf16'"):
        eq.Balancer(eq.build_method("graddrop", 3), memory="rows_bf16")


def test_networks_that_differ_between_ranks_are_refused_by_modes_that_go_by_layers(tmp_path: Path) -> None:
    """As with layers that are left out at random; rows and sketches do not mind."""
    for said in ranks.run(layers_left_out, 2, tmp_path):
        for mode in ("layerwise", "factored"):
            assert "The graph of the losses should be the same on every rank." in said[mode], mode
            assert "use memory='rows' or 'sketch'" in said[mode]
        assert said["rows"] == said["sketch"] == ""


def test_an_error_within_a_window_gives_it_up() -> None:
    """After it the next two micro-batches are a window, as in a Balancer that has seen nothing of it."""

    def window(balancer: eq.Balancer, model: Any, first: int) -> list[Tensor]:
        model.zero_grad()
        for micro in range(2):
            balancer.backward(losses_of(model, *data(first + micro)))
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    for memory in ("rows", "layerwise"):
        model = network("mlp")
        new, old = (
            eq.Balancer(eq.build_method("mgda", 3), shared=model.encoder, memory=memory, accumulate=2)
            for _ in range(2)
        )
        if memory == "rows":
            old.backward(losses_of(model, *data(7)))
        losses = losses_of(model, *data(8))
        losses[1] = blown(losses[1])
        with pytest.raises(ValueError, match="with all of its window of micro-batches"):
            old.backward(losses)
        old.state_dict()
        for mine, other in zip(window(old, model, 0), window(new, model, 0), strict=True):
            assert torch.equal(mine, other)


def test_a_state_loaded_within_a_window_begins_a_new_one() -> None:
    model = network("mlp")
    new, old = (eq.Balancer(eq.build_method("mgda", 3), shared=model.encoder, accumulate=2) for _ in range(2))
    old.backward([100 * loss for loss in losses_of(model, *data(5))])
    old.load_state_dict(new.state_dict())
    assert not old.backward(losses_of(model, *data(0))).complete
    assert all(p.grad is None for p in model.parameters())


def test_weights_held_for_absent_tasks_go_back_after_an_overflow() -> None:
    def run(overflow: bool) -> Tensor:
        model = network("mlp")
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        balancer = eq.Balancer(eq.build_method("gls", 3), shared=model.encoder, accumulate=2, scaler=scaler)
        if overflow:
            for micro in range(2):
                losses = losses_of(model, *data(micro))
                balancer.backward([blown(9 * v) for v in losses])
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            assert eq.Balancer(eq.build_method("gls", 3)).skipped == 0
            assert balancer.state_dict()["skipped"] == 1
        balancer.backward(losses_of(model, *data(0)), present=[True, False, True])
        return balancer.backward(losses_of(model, *data(1))).weights

    assert torch.equal(run(True), run(False))


def test_a_second_batch_without_finite_gradients_is_refused() -> None:
    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("modo", 3), tasks=["a", "b", "c"], shared=model.encoder)
    losses = dict(zip("abc", losses_of(model, *data(0)), strict=True))
    losses["b"] = blown(losses["b"])
    with pytest.raises(ValueError, match="gradient should be finite for MoDo. Found infinite or NaN ones: b"):
        balancer.measure(losses)


def test_the_fallback_lets_the_rows_go(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.autograd.grad
    calls: list[int] = []

    def full(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return real(*arguments, **options)

    model = network("mlp")
    balancer = eq.Balancer(eq.build_method("mgda", 3), shared=model.encoder)
    losses = losses_of(model, *data(0))
    monkeypatch.setattr(torch.autograd, "grad", full)
    balancer.backward(losses)
    assert balancer.memory == "layerwise"
    rows = balancer._run._rows
    assert rows._buffer.numel() == 0
    assert all(p.grad is not None for p in model.parameters())
