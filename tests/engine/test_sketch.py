"""The estimated Gramian, against the exact one and the variance of a count sketch in closed form."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from equipoise.engine.sketch import sketched_gramian, standard_error
from measured import KINDS, Network, assert_exact, expected, inputs, network, row, step_of


def wide(tasks: int = 4, width: int = 64) -> Network:
    torch.manual_seed(0)
    layers = [nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 16)]
    return Network(nn.Sequential(*layers), tasks).double()


def test_estimates_have_the_mean_and_the_variance_of_a_count_sketch() -> None:
    step = step_of(wide().losses(inputs()))
    size, draws = 32, 600
    found = [
        sketched_gramian(step.sources, step.split, seed=seed, size=size).gramian for seed in range(draws)
    ]
    estimates = torch.stack(found)
    rows = torch.stack([row(loss, step.split.shared) for loss in step.losses])
    gramian, squares = rows @ rows.T, rows.square()
    norms = gramian.diagonal()
    variance = (torch.outer(norms, norms) + gramian.square() - 2 * squares @ squares.T) / size
    error = (estimates.mean(0) - gramian).abs() / (variance / draws).sqrt()
    assert error.max() < 4
    assert ((estimates.var(0) / variance - 1).abs() < 0.35).all()
    bound = standard_error(size) * torch.outer(norms, norms).sqrt()
    assert (estimates.std(0) <= 1.1 * bound).all()


@pytest.mark.parametrize("kind", KINDS)
def test_errors_stay_within_the_bound(kind: str) -> None:
    step = step_of(network(kind).losses(inputs()))
    gramian = expected(step)
    scale = torch.outer(gramian.diagonal(), gramian.diagonal()).sqrt()
    errors = [
        (sketched_gramian(step.sources, step.split, seed=seed, size=256).gramian - gramian) / scale
        for seed in range(20)
    ]
    assert torch.stack(errors).square().mean().sqrt() < 1.3 * standard_error(256)
    assert standard_error(256) == pytest.approx(math.sqrt(2 / 256))


def test_gradients_in_a_few_columns_are_no_harder() -> None:
    # One input is never 0: each row of the weight gradient has its entries in the same column.
    torch.manual_seed(0)
    layer = nn.Linear(256, 64, bias=False)
    values = torch.zeros(5, 256)
    values[:, 7] = 1 + torch.rand(5)
    outputs = layer(values)
    step = step_of([outputs.square().mean(), (outputs - torch.randn(5, 64)).square().mean()])
    gramian = expected(step)
    scale = torch.outer(gramian.diagonal(), gramian.diagonal()).sqrt()
    errors = [
        (sketched_gramian(step.sources, step.split, seed=seed, size=256).gramian - gramian) / scale
        for seed in range(60)
    ]
    assert torch.stack(errors).square().mean().sqrt() < 1.2 * standard_error(256)


def test_squares_and_heads_are_exact_and_absent_tasks_zero() -> None:
    for present in ([True] * 4, [True, False, True, True]):
        step = step_of(wide().losses(inputs()), present)
        found = sketched_gramian(step.sources, step.split, seed=3)
        assert_exact(replace(found, gramian=expected(step)), step)
        if not all(present):
            assert not found.gramian[1].any() and not found.gramian[:, 1].any()


def test_tasks_that_reach_different_layers_share_the_draws() -> None:
    torch.manual_seed(0)
    one, two = nn.Linear(6, 64).double(), nn.Linear(64, 64).double()
    hidden = torch.tanh(one(inputs()))
    last = two(hidden)
    losses = [hidden.square().mean(), last.square().mean(), last.cos().mean(), 3 * hidden.square().mean()]
    step = step_of(losses)
    gramian = sketched_gramian(step.sources, step.split, seed=1, size=4096).gramian
    scale = expected(step).diagonal().sqrt()
    assert ((gramian - expected(step)).abs() < 5 * standard_error(4096) * torch.outer(scale, scale)).all()
    # Tasks 0 and 3 have the same gradient but for a factor.
    torch.testing.assert_close(gramian[0, 3], 3 * gramian[0, 0])


def test_a_seed_decides_the_answer_and_nothing_else() -> None:
    step = step_of(wide().losses(inputs()))
    state = torch.get_rng_state()
    first, again, other = (sketched_gramian(step.sources, step.split, seed=s, size=64) for s in (5, 5, 6))
    assert torch.equal(first.gramian, again.gramian)
    assert not torch.equal(first.gramian, other.gramian)
    assert torch.equal(torch.get_rng_state(), state)


def test_parameters_longer_than_a_block_and_other_precisions() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(300, 300)
    outputs = layer(torch.randn(4, 300))
    step = step_of([outputs.square().mean(), (outputs - torch.randn(4, 300)).square().mean()])
    gramian = expected(step)
    found = sketched_gramian(step.sources, step.split, seed=0)
    scale = gramian.diagonal().sqrt()
    assert ((found.gramian - gramian).abs() < 5 * standard_error(16_384) * torch.outer(scale, scale)).all()
    half = nn.Linear(8, 8).bfloat16()
    outputs = half(torch.randn(4, 8, dtype=torch.bfloat16))
    step = step_of([outputs.square().mean(), outputs.sin().mean()])
    assert sketched_gramian(step.sources, step.split, seed=0).gramian.isfinite().all()


def test_one_gradient_is_held_at_a_time() -> None:
    step = step_of(wide().losses(inputs()))
    kept: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def count(gradient: Tensor) -> None:
        alive.append(sum(other() is not None for other in kept))
        kept.append(weakref.ref(gradient))

    step.split.shared[-1].register_hook(count)
    sketched_gramian(step.sources, step.split, seed=0)
    assert alive == [0] * 4


def test_the_graph_is_kept_for_one_more_pass() -> None:
    model = wide()
    step = step_of(model.losses(inputs()))
    sketched_gramian(step.sources, step.split, seed=0)
    torch.autograd.backward(list(step.roots.values()), list(torch.ones(4, dtype=torch.float64)))
    rows = torch.autograd.grad(sum(model.losses(inputs())), step.split.shared)  # type: ignore[arg-type]
    for parameter, gradient in zip(step.split.shared, rows, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("size", [0, 1000, 32_768])
def test_the_size_is_a_power_of_2(size: int) -> None:
    step = step_of(wide().losses(inputs()))
    with pytest.raises(ValueError, match=f"`size` should be a power of 2, at most 16384. Found {size}."):
        sketched_gramian(step.sources, step.split, seed=0, size=size)
