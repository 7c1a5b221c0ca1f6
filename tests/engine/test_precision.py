"""The matrix of precisions, micro-batches and ways to run a network, for every method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import nn
from torch.utils.checkpoint import checkpoint

import equipoise as eq
from precision_cases import HOWS, PRECISIONS, Case, error, losses_of, network
from rank_cases import data


@pytest.fixture(scope="module")
def compiled() -> dict[str, nn.Module]:
    """Networks that are compiled already, by precision; a Balancer that needs several passes is built before them."""
    eq.Balancer(eq.build_method("mgda", 3))
    return {}


def cells() -> Iterator[ParameterSet]:
    """The whole matrix, a third of it in the default suite.

    There a method meets every precision with and without micro-batches, in one way to run a network each. The way turns
    from method to method among those that read the same statistics, so that each path of the engine meets every cell.
    """
    for reads in eq.Reads:
        specs = [spec for spec in sorted(eq.METHODS) if eq.build_method(spec, 3).reads == reads]
        for number, spec in enumerate(specs):
            for i, precision in enumerate(PRECISIONS):
                for j, accumulate in enumerate((1, 4)):
                    turn = (number + i + j) % len(HOWS)
                    for how in HOWS:
                        marks = [] if how == HOWS[turn] else [pytest.mark.slow]
                        yield pytest.param(Case(spec, precision, accumulate, how), marks=marks)


@pytest.mark.parametrize(
    "case", [*cells()], ids=lambda case: f"{case.spec}-{case.precision}-{case.how}-{case.accumulate}"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_gradients_are_those_of_plain_autograd(case: Case, compiled: dict[str, nn.Module]) -> None:
    assert error(case, compiled) <= PRECISIONS[case.precision]


@pytest.mark.parametrize("spec", sorted(eq.METHODS))
def test_a_step_that_overflows_leaves_no_trace(spec: str) -> None:
    """The scaler finds an infinite gradient in the second of three steps; the same two steps without it are alike."""
    found = [_train(spec, [1.0, factor, 1.0] if factor else [1.0, 1.0]) for factor in (3e38, 0.0)]
    (skipped, state, parameters), (none, other, plain) = found
    assert (skipped, none) == (1, 0)
    for key, value in other.items():
        torch.testing.assert_close(state[key], value, rtol=1e-6, atol=0.0)
    for mine, expected in zip(parameters, plain, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-7)


def _train(spec: str, factors: list[float]) -> tuple[int, dict[str, torch.Tensor], list[torch.Tensor]]:
    model = network("fp16 + scaler")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    balancer = eq.Balancer(eq.build_method(spec, 3), shared=model.encoder.parameters(), scaler=scaler)
    optimizer = torch.optim.SGD([*model.parameters(), *balancer.parameters()], lr=0.01)
    good = 0
    for factor in [*factors, None]:
        losses = losses_of(model, *data(good), "fp16 + scaler")
        if factor not in (None, 1.0):
            losses = [_Blow.apply(loss) for loss in losses]  # type: ignore[no-untyped-call]
        else:
            good += 1
        optimizer.zero_grad()
        if balancer.method.second_batch:
            balancer.measure(losses_of(model, *data(1000 + good), "fp16 + scaler"))
        if factor is None:
            break
        balancer.backward(losses)
        scaler.step(optimizer)
        scaler.update()
    assert balancer.state_dict()["steps"] == len(factors)
    state = {
        key: value for key, value in balancer.method.state_dict().items() if isinstance(value, torch.Tensor)
    }
    return balancer.skipped, state, [p.detach() for p in model.parameters()]


class _Blow(torch.autograd.Function):
    """The loss as it is, with a gradient that overflows."""

    @staticmethod
    def forward(_ctx: object, loss: torch.Tensor) -> torch.Tensor:
        return loss.clone()

    @staticmethod
    def backward(_ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * torch.inf


@pytest.mark.parametrize("spec", ["famo", "go4align", "gradnorm"])
def test_a_state_saved_just_after_a_skipped_step_is_that_before_it(spec: str) -> None:
    model = network("fp16 + scaler")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    balancer = eq.Balancer(eq.build_method(spec, 3), shared=model.encoder, scaler=scaler)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for bad in (False, False, True):
        before = {key: value.clone() for key, value in balancer.state_dict()["state"].items()}
        losses = losses_of(model, *data(int(bad)), "fp16 + scaler")
        balancer.backward([_Blow.apply(loss) if bad else loss for loss in losses])  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    after = balancer.state_dict()["state"]
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert balancer.skipped == 1


@pytest.mark.parametrize("memory", ["rows", "layerwise"])
def test_a_first_step_that_overflows_is_not_taken_for_a_head(memory: str) -> None:
    model = network("fp16 + scaler")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    balancer = eq.Balancer(eq.build_method("mgda", 3), scaler=scaler, memory=memory)
    losses = losses_of(model, *data(0), "fp16 + scaler")
    losses[1:] = [_Blow.apply(loss) for loss in losses[1:]]  # type: ignore[no-untyped-call]
    record = balancer.backward(losses)
    assert bool(record.weights.isnan().all())
    scaler.step(torch.optim.SGD(model.parameters(), lr=0.01))
    scaler.update()
    assert balancer.skipped == 1


def test_gradients_that_are_not_finite_are_an_error_without_a_scaler() -> None:
    model = network("float32")
    balancer = eq.Balancer(
        eq.build_method("mgda", 3), tasks=["a", "b", "c"], shared=model.encoder.parameters()
    )
    losses = dict(zip("abc", losses_of(model, *data(0), "float32"), strict=True))
    losses["b"] = _Blow.apply(losses["b"])  # type: ignore[no-untyped-call]
    with pytest.raises(
        ValueError, match="gradient should be finite for MGDA. Found infinite or NaN ones: b. The"
    ):
        balancer.backward(losses)
    assert all(p.grad is None for p in model.parameters())


def test_deferred_checks_speak_at_the_next_step() -> None:
    model = network("float32")
    balancer = eq.Balancer(eq.build_method("ls", 3), tasks=["a", "b", "c"], check_finite="defer")
    losses = losses_of(model, *data(0), "float32")
    balancer.backward([losses[0], losses[1] * torch.inf, losses[2]])
    with pytest.raises(ValueError, match="Every loss should be finite for LS. Found b: inf"):
        balancer.backward(losses_of(model, *data(1), "float32"))
    balancer.backward(losses_of(model, *data(1), "float32"))
    balancer, alone = (eq.Balancer(eq.build_method("famo", 3), check_finite="defer") for _ in range(2))
    for step in range(3):
        losses = losses_of(model, *data(step), "float32")
        present = [True, step != 1, True]
        alone.backward(losses_of(model, *data(step), "float32"), present=present)
        if step == 2:
            with pytest.raises(ValueError, match="Found task 1: inf"):
                balancer.backward(losses)
        factor = torch.inf if step == 1 else 1.0
        record = (
            balancer.backward([losses[0], losses[1] * factor, losses[2]])
            if step < 2
            else balancer.backward(losses_of(model, *data(step), "float32"))
        )
        assert (float(record.weights[1]) == 0) == (step == 1)
    for mine, other in zip(
        balancer.method.state_dict().values(), alone.method.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, other)
    with pytest.raises(ValueError, match="`check_finite` should be one of raise, defer. Found 'never'"):
        eq.Balancer(eq.build_method("ls", 3), check_finite="never")


def test_reentrant_checkpoints_are_refused_with_the_way_out() -> None:
    layer, heads = nn.Linear(6, 8), nn.Linear(8, 3)
    x = torch.randn(4, 6, requires_grad=True)
    losses = heads(checkpoint(layer, x, use_reentrant=True)).square().mean(0)
    balancer = eq.Balancer(eq.build_method("mgda", 3), shared=heads.parameters())
    with pytest.raises((RuntimeError, ValueError), match="use_reentrant=False|depend on every shared"):
        eq.Balancer(eq.build_method("mgda", 3), shared=layer.parameters()).backward(losses)
    del balancer


def test_the_page_of_the_docs_lists_every_method() -> None:
    """`python tests/tools/precision_table.py > docs/precision.md` writes it anew."""
    page = (Path(__file__).parents[2] / "docs" / "precision.md").read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| `")]
    assert [row[0].strip(" `") for row in rows] == sorted(eq.METHODS)
    for row in rows:
        for cell, limit in zip(row[1:], PRECISIONS.values(), strict=True):
            assert float(cell) <= limit
