"""What holds for every method, and what each one claims."""

from __future__ import annotations

import io
import math

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import KINDS, WELL_CONDITIONED, draw_jacobian, seeds

# "on_simplex": weights not negative, sum 1 (times m for MGDA, after division by it).
# "conflicts_with_no_task": no task's loss rises to first order. "follows_task_order": permuting the tasks
# permutes the weights. "ignores_loss_scale": rescaling one task's loss leaves w_i L_i proportions alone.
CLAIMS: dict[str, set[str]] = {
    "ls": {"follows_task_order"},
    "si": {"follows_task_order", "ignores_loss_scale"},
    "rlw": {"on_simplex"},
    "dwa": {"on_simplex", "follows_task_order"},
    "uw": {"follows_task_order"},
    "famo": {"on_simplex", "follows_task_order"},
    "go4align": {"follows_task_order"},
    "mgda": {"on_simplex", "conflicts_with_no_task", "follows_task_order"},
    "pcgrad": set(),
    "graddrop": set(),
    "cagrad": {"follows_task_order"},
    "imtl_g": {"follows_task_order", "ignores_loss_scale"},
    "nashmtl": {"conflicts_with_no_task", "follows_task_order", "ignores_loss_scale"},
    "stl": {"on_simplex"},
    "constant": {"follows_task_order"},
    "nashmtl+grouped": {"follows_task_order"},
    "mgda+every:steps=3": {"on_simplex", "conflicts_with_no_task", "follows_task_order"},
    "mgda+ema": {"on_simplex", "follows_task_order"},
    "nashmtl+clip_norm": {"conflicts_with_no_task", "follows_task_order"},
    "go4align:clustering=random": set(),
    "go4align:clustering=spectral": {"follows_task_order"},
    "go4align:clustering=agglomerative": {"follows_task_order"},
    "go4align:clustering=quantile": {"follows_task_order"},
    "go4align:clustering=none": {"follows_task_order"},
    "go4align:groups=auto": {"follows_task_order"},
    "go4align:indicator=grad_norm": {"follows_task_order"},
    "go4align:indicator=cosine": {"follows_task_order"},
    "gls": {"follows_task_order", "ignores_loss_scale"},
    "uw_so": {"on_simplex", "follows_task_order"},
    "uw_o": {"follows_task_order", "ignores_loss_scale"},
    "imtl_l": {"follows_task_order"},
    "imtl": {"follows_task_order", "ignores_loss_scale"},
    "stch": {"follows_task_order"},
    "tchebycheff": {"follows_task_order"},
    "pbi": {"follows_task_order"},
    "cosmos": {"follows_task_order"},
    "softadapt": {"on_simplex", "follows_task_order"},
    "relobralo": {"follows_task_order"},
    "ldc_mtl": {"ignores_loss_scale"},
    "coba": {"on_simplex", "follows_task_order"},
    "coba:window=5:warmup=2": {"on_simplex", "follows_task_order"},
    "gradnorm": {"follows_task_order"},
    "gradvac": set(),
    "gradvac_layers": set(),
    "aligned_mtl": {"follows_task_order"},
    "stch:warmup=10": {"follows_task_order", "ignores_loss_scale"},
    "softadapt:variant=normalized": {"on_simplex", "follows_task_order"},
    "softadapt:variant=loss_weighted:window=3:order=3": {"on_simplex", "follows_task_order"},
    "ldc_mtl:loss_scale=log": {"ignores_loss_scale"},
    "ldc_mtl:loss_scale=none": set(),
    "relobralo:rho=0.5": {"follows_task_order"},
    "fairgrad:alpha=2": {"conflicts_with_no_task", "follows_task_order"},
    "lr_annealing:statistic=entries": set(),
    "fairgrad": {"conflicts_with_no_task", "follows_task_order", "ignores_loss_scale"},
    "upgrad": {"conflicts_with_no_task", "follows_task_order"},
    "dualproj": {"conflicts_with_no_task", "follows_task_order"},
    "config": {"conflicts_with_no_task", "follows_task_order", "ignores_loss_scale"},
    "config_m": set(),
    "db_mtl": set(),
    "excess_mtl": {"follows_task_order"},
    "metabalance": set(),
    "lr_annealing": {"follows_task_order"},
    "moco": set(),
    "modo": {"on_simplex", "follows_task_order"},
    "sdmgrad": {"follows_task_order"},
    "krum": {"on_simplex", "follows_task_order"},
    "trimmed_mean": set(),
    "nashmtl+log_losses": {"conflicts_with_no_task", "follows_task_order", "ignores_loss_scale"},
}
NAMES = sorted(CLAIMS)
# Weightings that may give a present task weight 0 or less, or that pick tasks.
MAY_BE_0 = {"stl", "imtl_g", "imtl", "config", "aligned_mtl", "krum", "modo", "go4align:clustering=random"}
SIZES = [(1, 5), (2, 7), (3, 40), (11, 40)]


def build(name: str, m: int) -> eq.Method:
    """The method for m tasks; with one task there is one group."""
    spec = eq.MethodSpec.parse(name)
    if spec.name == "go4align":
        spec = eq.MethodSpec(spec.name, {"groups": min(2, m), **spec.kwargs}, spec.wrappers)
    wrappers = tuple((w, {**kw, "groups": min(2, m)} if w == "grouped" else kw) for w, kw in spec.wrappers)
    return eq.build_method(eq.MethodSpec(spec.name, spec.kwargs, wrappers), m)


def stats_for(
    method: eq.Method, losses: Tensor, jacobian: Tensor, present: Tensor | None = None
) -> eq.TaskStats:
    """What the method declares and no more, so that reading more is an error."""
    if present is not None:
        jacobian = jacobian * present[:, None]
        losses = torch.where(present, losses, 0.0)
    if method.reads == eq.Reads.LOSSES:
        validation = eq.TaskStats(losses, present=present) if method.second_batch else None
        return eq.TaskStats(losses, present=present, other=validation)
    if method.reads == eq.Reads.GRAMIAN:
        return eq.TaskStats(losses, present=present, gramian=jacobian @ jacobian.T)
    other = eq.TaskStats(losses, present=present, jacobian=jacobian.flip(1))  # an independent batch
    return eq.TaskStats(losses, present=present, jacobian=jacobian, other=other)


def draw_losses(m: int, seed: int) -> Tensor:
    """Losses over four decades."""
    draws = torch.Generator().manual_seed(seed)
    return 10.0 ** (4 * torch.rand(m, generator=draws, dtype=torch.float64) - 2)


def seen(name: str, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds of Jacobians that differ for a method: one stands for all where it reads losses only."""
    return kinds[:1] if build(name, 3).reads == eq.Reads.LOSSES else kinds


def test_every_method_and_wrapper_has_claims() -> None:
    specs = [eq.MethodSpec.parse(name) for name in CLAIMS]
    assert {spec.name for spec in specs} == set(eq.METHODS)
    assert {name for spec in specs for name, _ in spec.wrappers} == set(eq.WRAPPERS)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in NAMES for kind in seen(name, KINDS)])
@seeds(4, 8)
def test_answer_is_finite_and_of_the_declared_shape(name: str, kind: str, seeds: range) -> None:
    for m, n in SIZES:
        method = build(name, m)
        for seed in seeds:
            jacobian = draw_jacobian(kind, m, n, seed)
            answer = method(stats_for(method, draw_losses(m, seed), jacobian))
            assert answer.shape == (n if isinstance(method, eq.Aggregator) else m,)
            assert answer.isfinite().all(), (m, seed)


@pytest.mark.parametrize("name", NAMES)
def test_all_zero_gradients_and_equal_gradients(name: str) -> None:
    for jacobian in (torch.zeros(3, 4).double(), torch.ones(3, 4).double()):
        method = build(name, 3)
        answer = method(stats_for(method, draw_losses(3, 0), jacobian))
        assert answer.isfinite().all()
        if isinstance(method, eq.Aggregator):
            assert (jacobian @ answer >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_absent_task_has_weight_0_and_present_ones_do_not_see_its_row(name: str) -> None:
    present = torch.tensor([True, False, True])
    method, other = build(name, 3), build(name, 3)
    jacobian, losses = draw_jacobian("random", 3, 9, 0), draw_losses(3, 0)
    answer = method(stats_for(method, losses, jacobian, present))
    changed = torch.where(present[:, None], jacobian, 7 * jacobian + 1)
    again = other(stats_for(other, torch.where(present, losses, 99.0), changed, present))
    assert answer.isfinite().all()
    torch.testing.assert_close(answer, again, rtol=0, atol=0)
    if isinstance(method, eq.Weighting):
        assert answer[1] == 0


@pytest.mark.parametrize("name", NAMES)
def test_task_absent_for_100_steps_then_present(name: str) -> None:
    method = build(name, 3)
    present = torch.tensor([True, True, False])
    for seed in range(100):
        jacobian = draw_jacobian("random", 3, 9, seed)
        method(stats_for(method, draw_losses(3, seed), jacobian, present))
    for _ in range(3):
        answer = method(stats_for(method, draw_losses(3, 7), draw_jacobian("mixed", 3, 9, 7)))
    assert answer.isfinite().all()
    if isinstance(method, eq.Weighting) and name not in MAY_BE_0:
        assert answer[2] > 0 or name.startswith("mgda")


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_resumes_exactly(name: str) -> None:
    def run(method: eq.Method, steps: range) -> list[Tensor]:
        return [
            method(stats_for(method, draw_losses(3, s), draw_jacobian("random", 3, 9, s))).detach()
            for s in steps
        ]

    whole = run(build(name, 3), range(60))
    first = build(name, 3)
    run(first, range(35))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = build(name, 3)
    second.load_state_dict(torch.load(file, weights_only=True))
    for found, expected in zip(run(second, range(35, 60)), whole[35:], strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_state_of_another_number_of_tasks_is_refused(name: str) -> None:
    changing = {
        key: v for key, v in build(name, 3).state_dict().items() if isinstance(v, Tensor) and 3 in v.shape
    }
    if changing:
        with pytest.raises(RuntimeError, match="size mismatch"):
            build(name, 4).load_state_dict(build(name, 3).state_dict())
    balancer = eq.Balancer(build(name, 3))
    with pytest.raises(ValueError, match="The tasks of the state should be"):
        eq.Balancer(build(name, 4)).load_state_dict(balancer.state_dict())


def claiming(claim: str) -> list[str]:
    """The methods that make a claim."""
    return sorted(name for name, claims in CLAIMS.items() if claim in claims)


@pytest.mark.parametrize("name", claiming("on_simplex"))
def test_on_simplex(name: str) -> None:
    for kind in seen(name, WELL_CONDITIONED):
        method = build(name, 5)
        weights = method(stats_for(method, draw_losses(5, 1), draw_jacobian(kind, 5, 20, 1)))
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(5.0 if name.startswith("mgda") else 1.0)


@pytest.mark.parametrize("name", claiming("conflicts_with_no_task"))
def test_conflicts_with_no_task(name: str) -> None:
    for kind in seen(name, WELL_CONDITIONED):
        for seed in range(20):
            jacobian, method = draw_jacobian(kind, 5, 20, seed), build(name, 5)
            direction = method(stats_for(method, draw_losses(5, seed), jacobian)) @ jacobian
            slack = 1e-7 * jacobian.norm(dim=1) * direction.norm()
            assert (jacobian @ direction >= -slack).all()


def test_claims_are_not_free_the_sum_conflicts_with_a_task() -> None:
    jacobian = draw_jacobian("scaled", 5, 20, 0)
    assert (jacobian @ jacobian.sum(0) < 0).any()


@pytest.mark.parametrize("name", claiming("follows_task_order"))
def test_follows_task_order(name: str) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    for kind in seen(name, WELL_CONDITIONED):
        jacobian = draw_jacobian(kind, 5, 20, 3)
        method, other = build(name, 5), build(name, 5)
        for step in range(12):  # two after the longest warm-up
            losses = draw_losses(5, step)
            weights = method(stats_for(method, losses, jacobian))
            permuted = other(stats_for(other, losses[order], jacobian[order]))
            torch.testing.assert_close(permuted, weights[order], rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("name", claiming("ignores_loss_scale"))
def test_ignores_loss_scale(name: str) -> None:
    scales = torch.tensor([1e-3, 1.0, 50.0, 7.0, 1e3], dtype=torch.float64)
    jacobian, losses = draw_jacobian("random", 5, 20, 3), draw_losses(5, 3)
    method, other = build(name, 5), build(name, 5)
    direction = method(stats_for(method, losses, jacobian)) @ jacobian
    scaled = jacobian * scales[:, None]
    rescaled = other(stats_for(other, losses * scales, scaled)) @ scaled
    assert torch.cosine_similarity(direction, rescaled, dim=0).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_reading_what_was_not_declared_is_an_error(name: str) -> None:
    method = build(name, 3)
    if method.reads == eq.Reads.LOSSES:
        return
    with pytest.raises(eq.MissingStatisticError, match="should be measured before a method reads it"):
        method(eq.TaskStats(draw_losses(3, 0)))


@pytest.mark.parametrize("name", NAMES)
def test_weights_need_no_more_precision_than_float32_losses(name: str) -> None:
    method = build(name, 3)
    jacobian = draw_jacobian("random", 3, 9, 0)
    answer = method(stats_for(method, draw_losses(3, 0).float(), jacobian.float()))
    assert math.isfinite(answer.sum().item())
