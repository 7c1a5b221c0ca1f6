"""A task that is absent half of the time gets the same weights as one that is always there, in expectation.

Two tasks with losses and gradients of the same distribution, drawn anew at each step; the losses fall by a factor of
e over the run. The second task is absent from a random half of the steps. Its weights, in the steps in which it is
present, are compared with those of the same run without any absence.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import equipoise as eq

# Methods that remember nothing of earlier steps: not a single weight may change.
EXACT = [
    "ls", "si", "rlw", "gls", "uw_so", "uw_o", "constant", "stl", "stch", "cosmos", "pbi", "tchebycheff",
    "mgda", "pcgrad", "cagrad", "imtl_g", "nashmtl", "fairgrad", "aligned_mtl", "config", "upgrad", "dualproj", "krum",
]  # fmt: skip

# Methods that remember, with settings under which what they remember moves within a short run.
REMEMBERS = [
    "uw", "imtl_l", "imtl", "dwa:window=5", "famo:lr=0.005", "go4align:step=0.005",
    "go4align:step=0.005:clustering=none",
    "relobralo:alpha=0.5:rho=0.5", "softadapt:beta=5", "stch:warmup=10", "ldc_mtl", "coba", "gradnorm", "gradvac",
    "metabalance", "modo:gamma=0.5", "sdmgrad:lr=1:steps=5", "rlw+ema", "mgda+ema", "nashmtl+every:steps=3",
]  # fmt: skip

# Methods for which it does not hold, and why.
EXCEPTIONS = {
    "excess_mtl": "curvature is the sum of squared gradients so far, which grows half as fast for the absent task",
    "lr_annealing": "weights aim at the sum of the gradient norms, of the tasks that are present",
}

# They return a shared gradient and no weights.
AGGREGATORS = {"config_m", "db_mtl", "graddrop", "gradvac_layers", "moco", "trimmed_mean"}


def stats(method: eq.Method, losses: Tensor, jacobian: Tensor, here: bool) -> eq.TaskStats:
    """What the method declares to read, without the second task unless it is `here`."""
    mask = torch.tensor([1.0, float(here)], dtype=torch.float64)
    losses, jacobian = losses * mask, jacobian * mask[:, None]
    present = None if here else mask > 0
    other = eq.TaskStats(losses, present=present, jacobian=jacobian.flip(1)) if method.second_batch else None
    return eq.TaskStats(
        losses,
        present=present,
        other=other,
        jacobian=jacobian if method.reads == eq.Reads.JACOBIAN else None,
        gramian=jacobian @ jacobian.T if method.reads == eq.Reads.GRAMIAN else None,
    )


def weights(name: str, steps: int, seed: int, *, absences: bool) -> Tensor:
    """The weights (steps, 2) of the steps in which the second task is present, or would be without absences."""
    generator = torch.Generator().manual_seed(seed)
    method = eq.build_method(name, 2)
    learned = list(method.parameters())
    optimizer = torch.optim.Adam(learned, lr=0.025) if learned else None
    kept = []
    for step in range(steps):
        losses = torch.exp(0.3 * torch.randn(2, generator=generator).double() - step / steps)
        jacobian = torch.randn(2, 6, generator=generator).double() + torch.tensor([1.0, 0.5, 0, 0, 0, 0])
        here = bool(torch.rand(1, generator=generator) < 0.5) or step == 0
        answer = method(stats(method, losses, jacobian, here or not absences))
        if optimizer is not None:
            optimizer.zero_grad()
            assert isinstance(method, eq.Weighting)
            (answer @ losses + method.penalty()).backward()
            optimizer.step()
        if here:
            kept.append(answer.detach())
        if absences and not here:
            assert answer[1] == 0
    return torch.stack(kept)


def change(name: str, steps: int = 250, seeds: int = 2) -> tuple[float, float]:
    """How the mean weight of the second task changes by its absences, relatively, and its mean share of the sum."""
    pairs = [[weights(name, steps, seed, absences=a) for a in (True, False)] for seed in range(seeds)]
    means = [torch.stack([pair[i][:, 1].mean() for pair in pairs]).mean() for i in range(2)]
    shares = [torch.stack([(p := pair[i].mean(0))[1] / p.sum() for pair in pairs]).mean() for i in range(2)]
    return float(means[0] / means[1] - 1), float(shares[0] - shares[1])


def test_every_method_is_in_one_of_the_lists() -> None:
    remembers = {eq.MethodSpec.parse(name).name for name in REMEMBERS}
    assert remembers | {*EXACT} | {*EXCEPTIONS} | AGGREGATORS == {*eq.METHODS}
    assert not ({*EXACT} - {"rlw", "stch", "mgda", "nashmtl"}) & remembers
    assert {n for n, cls in eq.METHODS.items() if issubclass(cls, eq.Aggregator)} == AGGREGATORS


@pytest.mark.parametrize("name", EXACT)
def test_without_memory_no_weight_changes(name: str) -> None:
    found, expected = (weights(name, 30, 0, absences=absences) for absences in (True, False))
    assert 5 < len(found) < 25
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", REMEMBERS)
def test_with_memory_the_mean_weight_stays_within_5_percent(name: str) -> None:
    relative, share = change(name)
    assert abs(relative) < 0.05, relative
    assert abs(share) < 0.03, share


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_the_exceptions_are_some(name: str) -> None:
    """One that holds belongs into the other list."""
    relative, share = change(name)
    assert abs(relative) > 0.05 or abs(share) > 0.03


def test_a_state_that_stands_still_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the last loss were not repeated in the steps without the task, its weight would drift."""
    name = "go4align:step=0.005:clustering=none"
    assert math.isclose(change(name)[0], 0.0, abs_tol=0.05)
    monkeypatch.setattr(
        "equipoise.methods.go4align.LastLosses.forward", lambda self, stats: stats.losses + 1e-3
    )
    assert abs(change(name)[0]) > 0.1
