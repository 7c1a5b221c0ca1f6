"""`log_losses` against its base on losses whose logarithm was really taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import equipoise as eq
from draws import draw_jacobian
from equipoise.wrappers.log_losses import LogLosses

LOSSES = torch.tensor([0.02, 3.0, 40.0], dtype=torch.float64)


def wrapped(base: str, m: int = 3) -> LogLosses:
    method = eq.build_method(base, m)
    assert isinstance(method, eq.Weighting)
    return LogLosses(method)


def shared_gradient(method: eq.Method, take_log: bool, present: list[bool] | None = None) -> Tensor:
    """What the engine writes for three losses of one parameter vector, of which the logarithm is taken or not."""
    jacobian = draw_jacobian("conflict", 3, 9, 0)
    shared = torch.zeros(9, dtype=torch.float64, requires_grad=True)
    losses = jacobian @ shared + LOSSES
    seen = [loss.log() if take_log else loss for loss in losses]
    eq.Balancer(method, shared=[shared]).backward(seen, present=present)
    assert shared.grad is not None
    return shared.grad


BASES = [
    "ls",
    "mgda",
    "cagrad",
    "pcgrad",
    "imtl_g",
    "nashmtl",
    "mgda+ema",
    "nashmtl+clip_norm",
    "constant+grouped",
]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("present", [None, [True, False, True]])
def test_it_is_the_base_on_the_logarithms(base: str, present: list[bool] | None) -> None:
    expected = shared_gradient(eq.build_method(base, 3), take_log=True, present=present)
    found = shared_gradient(wrapped(base), take_log=False, present=present)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)


def test_over_ls_it_is_si() -> None:
    stats = eq.TaskStats(LOSSES)
    torch.testing.assert_close(wrapped("ls")(stats), eq.build_method("si", 3)(stats))
    assert wrapped("ls").reads == eq.Reads.LOSSES


def test_what_a_base_that_reads_rows_sees() -> None:
    seen: list[eq.TaskStats] = []

    class Spy(eq.Weighting):
        after: Tensor | None = None

        @property
        def reads(self) -> eq.Reads:
            return eq.Reads.JACOBIAN

        def forward(self, stats: eq.TaskStats) -> Tensor:
            seen.append(stats)
            return torch.ones_like(stats.losses)

        def after_step(self, losses: Tensor) -> None:
            self.after = losses

    spy = Spy(3)
    method = LogLosses(spy)
    jacobian, second = draw_jacobian("random", 3, 5, 0), draw_jacobian("random", 3, 5, 1)
    other = eq.TaskStats(2 * LOSSES, jacobian=second)
    stats = eq.TaskStats(LOSSES, jacobian=jacobian, epoch=4, blocks=[2, 3], other=other)
    torch.testing.assert_close(method(stats), 1 / LOSSES)
    assert torch.equal(seen[0].losses, LOSSES.log())
    torch.testing.assert_close(seen[0].jacobian, jacobian / LOSSES[:, None])
    torch.testing.assert_close(seen[0].gramian, seen[0].jacobian @ seen[0].jacobian.T)
    assert (seen[0].epoch, seen[0].blocks, seen[0].all_present) == (4, [2, 3], True)
    torch.testing.assert_close(seen[0].other.jacobian, second / (2 * LOSSES)[:, None])
    method.after_step(LOSSES)
    assert spy.after is not None
    assert torch.equal(spy.after, LOSSES.log())


def test_every_reads_no_rows_on_the_steps_between() -> None:
    method = wrapped("mgda+every:steps=2")
    jacobian = draw_jacobian("random", 3, 9, 0)
    weights = method(eq.TaskStats(LOSSES, gramian=jacobian @ jacobian.T))
    assert method.reads == eq.Reads.LOSSES
    torch.testing.assert_close(method(eq.TaskStats(2 * LOSSES)), weights / 2)


def test_it_takes_over_the_bases_heads_and_clipping() -> None:
    assert wrapped("cagrad").head_weights == "log"
    assert wrapped("nashmtl").head_weights == "same"
    assert wrapped("nashmtl").max_norm == 1.0
    assert wrapped("nashmtl").needs_positive_losses
    method = wrapped("nashmtl")
    jacobian = draw_jacobian("stationary", 3, 9, 0)
    method(eq.TaskStats(torch.ones(3), gramian=jacobian @ jacobian.T))
    assert not bool(method.diagnostics["converged"])


def test_bases_that_cannot_see_logarithms_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`base` should not need positive losses.* Found SI, which does\."):
        wrapped("si")
    with pytest.raises(ValueError, match="Found log_variances in UW"):
        wrapped("uw")
    with pytest.raises(TypeError, match="Found GradDrop"):
        LogLosses(eq.build_method("graddrop", 3))  # type: ignore[arg-type]
